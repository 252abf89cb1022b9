//! What a unit's definition promises, and what the supervisor says of this host. Pure.

use serde_json::{Map, Value};

use super::defence::{Defence, Finding, Hold, TABLE};
use crate::protocol::types::UnitStatus;
use crate::unit::limits::DEFAULT_PIDS;
use crate::unit::model::CapabilitySet;

/// A definition, as `berthctl show --json` has it.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a>(pub &'a Map<String, Value>);

impl<'a> Definition<'a> {
    /// A setting, without the line it was written at.
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).map(plain)
    }

    fn table(self, key: &str) -> Definition<'a> {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        Definition(self.get(key).and_then(Value::as_object).unwrap_or(&NONE))
    }

    fn is(self, key: &str, word: &str) -> bool {
        self.get(key).and_then(Value::as_str) == Some(word)
    }

    /// Whether its root tree is never written.
    pub fn root_is_read_only(self) -> bool {
        self.has("mount") && self.is("writable", "none")
    }

    /// The profile of AppArmor that it asks for.
    pub fn apparmor(self) -> Option<&'a str> {
        let name = self.table("security").get("apparmor").and_then(Value::as_str);
        name.filter(|name| *name != "unconfined")
    }

    fn privileged(self) -> bool {
        self.table("security").get("privileged") == Some(&Value::Bool(true))
    }

    /// Whether a namespace is its own.
    fn has(self, namespace: &str) -> bool {
        match self.get("isolation") {
            Some(Value::Array(list)) => list.iter().any(|it| plain(it) == namespace),
            Some(Value::String(word)) if word == "container" => {
                namespace != "network" || self.is("network", "private")
            }
            _ => false,
        }
    }

    /// What the bounding set is to be within.
    pub fn capabilities(self) -> CapabilitySet {
        let security = self.table("security");
        let list = |key: &str| security.get(key).and_then(Value::as_array).map(|list| set(list));
        if let Some(exactly) = list("capabilities") {
            return exactly;
        }
        let (all, none) = (CapabilitySet::ALL, CapabilitySet::EMPTY);
        let contained = self.has("mount") && !self.privileged();
        let default = if contained { CapabilitySet::CONTAINER } else { all };
        let (add, drop) =
            (list("capabilities-add").unwrap_or(none), list("capabilities-drop").unwrap_or(none));
        if drop == all { add } else { default.and(add).without(drop) }
    }
}

fn plain(value: &Value) -> &Value {
    let pair = value.as_object().filter(|map| map.len() == 2 && map.contains_key("line"));
    pair.and_then(|map| map.get("value")).unwrap_or(value)
}

fn set(list: &[Value]) -> CapabilitySet {
    // `ALL`, and one that is not known here, count as all.
    let named =
        |it: &Value| it.as_str().and_then(CapabilitySet::named).unwrap_or(CapabilitySet::ALL);
    list.iter().map(named).fold(CapabilitySet::EMPTY, CapabilitySet::and)
}

/// All defences, as far as the definition and the supervisor know of them.
pub fn findings(definition: Definition<'_>, status: &UnitStatus) -> Vec<Finding> {
    let missing = |keys: &[&str]| {
        status
            .unenforced
            .iter()
            .find(|text| text.split([':', ' ']).next().is_some_and(|key| keys.contains(&key)))
    };
    let find = |row: &super::defence::Row| {
        let (defence, ..) = *row;
        let (mut hold, mut detail) = match defence {
            Defence::UserNamespace => users(definition, status),
            _ => promise(definition, defence),
        };
        let keys: &[&str] = match defence {
            Defence::Memory => &["memory"],
            Defence::Processes => &["pids"],
            Defence::Devices => &["devices"],
            Defence::WritablePaths => &["writable-paths"],
            _ => &[],
        };
        if let (Some(why), true) = (missing(keys), hold > Hold::No) {
            (hold, detail) = (Hold::No, format!("not on this host: {why}"));
        }
        Finding { defence, hold, detail, differs: None }
    };
    TABLE.iter().map(find).collect()
}

fn yes_if(condition: bool) -> (Hold, String) {
    (if condition { Hold::Yes } else { Hold::No }, String::new())
}

fn promise(unit: Definition<'_>, defence: Defence) -> (Hold, String) {
    let security = unit.table("security");
    let contained = unit.has("mount") && !unit.privileged();
    match defence {
        Defence::User => user(unit),
        Defence::Capabilities => capabilities(unit.capabilities()),
        Defence::NoNewPrivileges => {
            let asked = security.get("no-new-privileges").and_then(Value::as_bool);
            yes_if(asked.unwrap_or(!unit.privileged()))
        }
        Defence::Seccomp => seccomp(security, contained),
        Defence::Mount => mounts(unit),
        Defence::Pid => yes_if(unit.has("pid")),
        Defence::Network => yes_if(unit.has("network")),
        Defence::Ipc => yes_if(unit.has("ipc")),
        Defence::Uts => yes_if(unit.has("uts")),
        Defence::Cgroup => yes_if(unit.has("cgroup")),
        Defence::Root => root(unit),
        Defence::KernelFiles => yes_if(contained),
        Defence::Devices => devices(unit, contained),
        // Not by the definition alone: see `users`.
        Defence::UserNamespace => yes_if(false),
        Defence::Memory => limit(unit, "memory", None),
        Defence::Processes => limit(unit, "pids", unit.has("mount").then_some(DEFAULT_PIDS)),
        Defence::CoreFiles => {
            let core = unit.table("limits").get("core");
            yes_if(core.is_none_or(|limit| limit.as_u64() == Some(0)))
        }
        Defence::WritablePaths => yes_if(security.get("writable-paths").is_some()),
        Defence::Label => label(security),
    }
}

fn user(unit: Definition<'_>) -> (Hold, String) {
    let user = unit.get("user").and_then(Value::as_str).unwrap_or("root");
    let name = user.split(':').next().unwrap_or_default();
    let root = name == "root" || name.trim_start_matches('0').is_empty();
    (if root { Hold::No } else { Hold::Yes }, user.to_owned())
}

fn capabilities(set: CapabilitySet) -> (Hold, String) {
    let hold = if set.is_empty() {
        Hold::Yes
    } else if set.without(CapabilitySet::CONTAINER).is_empty() {
        Hold::Partly
    } else {
        Hold::No
    };
    (hold, set.to_string())
}

fn seccomp(security: Definition<'_>, contained: bool) -> (Hold, String) {
    match security.get("seccomp").and_then(Value::as_str) {
        Some("unconfined") => (Hold::No, "unconfined".to_owned()),
        Some(word) => (Hold::Yes, word.to_owned()),
        None if contained => (Hold::Yes, "default".to_owned()),
        None => yes_if(false),
    }
}

/// Root of a unit reads in the host's own tree what only root of the host can.
fn mounts(unit: Definition<'_>) -> (Hold, String) {
    let tree = unit.get("rootfs").and_then(Value::as_str).unwrap_or("host");
    match (unit.has("mount"), tree) {
        (false, _) => yes_if(false),
        (true, "host") => (Hold::Partly, "it sees the host's own tree".to_owned()),
        (true, _) => yes_if(true),
    }
}

fn root(unit: Definition<'_>) -> (Hold, String) {
    if !unit.has("mount") {
        return (Hold::No, "the host's own".to_owned());
    }
    match unit.get("writable").and_then(Value::as_str) {
        Some("none") => (Hold::Yes, "read-only".to_owned()),
        Some("ephemeral") => (Hold::Partly, "forgotten at the stop".to_owned()),
        _ => (Hold::No, "written for good".to_owned()),
    }
}

/// What the supervisor says of a run counts before what the definition wants.
fn users(unit: Definition<'_>, status: &UnitStatus) -> (Hold, String) {
    let asked = unit.table("security").get("user-namespace");
    let maps = asked.and_then(Value::as_object);
    if maps.is_some_and(|maps| maps.values().any(has_root_of_host)) {
        return (Hold::No, "root of the host is in its maps".to_owned());
    }
    match (&status.user_namespace, &status.no_user_namespace) {
        (Some(range), _) => (Hold::Yes, range.clone()),
        (None, Some(why)) => (Hold::No, format!("not on this host: {why}")),
        (None, None) => match asked.and_then(Value::as_str) {
            Some("none") => yes_if(false),
            None if asked.is_none() => yes_if(unit.has("mount") && !unit.privileged()),
            _ => yes_if(true),
        },
    }
}

/// Of a list of ranges, INSIDE:HOST:COUNT.
fn has_root_of_host(list: &Value) -> bool {
    let mut ranges = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    ranges.any(|range| range.split(':').nth(1) == Some("0"))
}

fn devices(unit: Definition<'_>, contained: bool) -> (Hold, String) {
    let asked = unit.table("security").get("devices").and_then(Value::as_array);
    if unit.privileged() || (!contained && asked.is_none()) {
        return yes_if(false);
    }
    let more: Vec<&str> =
        asked.into_iter().flatten().filter_map(|device| plain(device).as_str()).collect();
    if more.is_empty() {
        return (Hold::Yes, "the standard ones".to_owned());
    }
    (Hold::Partly, format!("the standard ones and {}", more.join(" ")))
}

fn limit(unit: Definition<'_>, key: &str, default: Option<u64>) -> (Hold, String) {
    match (unit.table("limits").get(key), default) {
        (Some(Value::String(text)), _) if text != "unlimited" => (Hold::Yes, text.clone()),
        (Some(Value::Number(number)), _) => (Hold::Yes, number.to_string()),
        (None, Some(default)) => (Hold::Yes, default.to_string()),
        _ => yes_if(false),
    }
}

fn label(security: Definition<'_>) -> (Hold, String) {
    let name = |key: &str| security.get(key).and_then(Value::as_str);
    match (name("apparmor").filter(|name| *name != "unconfined"), name("selinux")) {
        (Some(name), _) | (None, Some(name)) => (Hold::Yes, name.to_owned()),
        (None, None) => yes_if(false),
    }
}
