//! What one unit must obey as a whole: settings that need or exclude each other.
//!
//! Each key has been read by its own function; here the draft becomes the model, and
//! every rule that looks at more than one key stands as one entry of a list or one
//! small function.

use std::path::Path;

use super::diagnostic::Mistake;
use super::draft::{Draft, Isolation, Join, Network, Reference, Relation};
use super::model::{
    At, Capabilities, CapabilitySet, Kind, Namespaces, Port, Ready, RestartPolicy, Rootfs,
    SecretSource, Secrets, Security, Unit, UserNamespace, Writable, secret as secret_model,
};
use super::nets;
use super::settings::value::Context;
use super::settings::{Section, sysctls};
use super::text::Place;

/// A unit that is right in itself; whether those it names exist is not known yet.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The unit.
    pub unit: Unit,
    /// Where its header is.
    pub header: Place,
    /// Whom it names, and where.
    pub references: Vec<Reference>,
    /// The networks it names, and where.
    pub joins: Vec<Join>,
    /// The ports it publishes, and where.
    pub ports: Vec<(Place, Port)>,
    /// Where each of its secrets is listed.
    pub secrets: Vec<Place>,
}

/// Checks a draft that is a service and makes it a unit.
pub fn service(mut draft: Draft, header: Place, cx: &mut Context<'_>) -> Checked {
    if draft.place(Section::Service, "command").is_none() {
        // What works later is not followed by a complaint about what it would bring.
        let help = "add command = [\"program\", \"argument\"]";
        cx.out.push(Mistake::new(header, "this service has no `command`").help(help));
    }
    // An instance is there because something asks for it.
    if draft.wanted_by_default && !cx.template {
        let (relation, name) = (Relation::WantedBy, "default".to_owned());
        draft.references.push(Reference { relation, name, place: header });
    }
    namespaces(&mut draft, cx);
    protected_paths(&draft, cx);
    sysctls(&draft, cx);
    devices(&draft, cx);
    secrets(&draft, cx);
    if matches!(draft.isolation, Isolation::None) {
        plain_process(&draft, cx);
    } else {
        root(&mut draft, cx);
        needs_namespace(&draft, cx);
    }
    hooks(&draft, cx);
    capabilities(&draft, cx);
    user_namespace(&draft, cx);
    if draft.service.oneshot {
        oneshot(&mut draft, cx);
    }
    readiness(&draft, cx);
    let delay = &mut draft.service.restart;
    if delay.delay_max < delay.delay {
        if let Some(place) = draft.place(Section::Service, "restart-delay-max") {
            let text = "`restart-delay-max` is shorter than `restart-delay`";
            cx.out.push(Mistake::new(place, text));
        } else {
            draft.service.restart.delay_max = draft.service.restart.delay;
        }
    }
    nets::service(&mut draft, cx);
    draft.service.mounts =
        draft.mounts.drain(..).map(|(place, mount)| cx.at(place, mount)).collect();
    if !draft.secrets.is_empty() {
        let uses = draft.secrets.iter().map(|(place, used)| cx.at(*place, used.clone()));
        draft.service.secrets = Secrets { uses: uses.collect() }.into();
    }
    draft.unit.kind = Kind::Service(Box::new(draft.service.clone()));
    done(draft, header)
}

/// Makes a draft that is a target a unit.
pub fn target(mut draft: Draft, header: Place) -> Checked {
    draft.unit.kind = Kind::Target;
    done(draft, header)
}

fn done(mut draft: Draft, header: Place) -> Checked {
    draft.relate();
    let Draft { unit, references, joins, ports, secrets, .. } = draft;
    let secrets = secrets.into_iter().map(|(place, _)| place).collect();
    Checked { unit, header, references, joins, ports, secrets }
}

/// Checks a draft that is a secret; where its value is.
pub fn secret(draft: &Draft, cx: &mut Context<'_>) -> SecretSource {
    let place = |key: &str| draft.place(Section::Secret, key);
    if let (Some(file), Some(variable)) = (place("file"), place("environment")) {
        let text = "`environment` and `file` exclude each other";
        cx.out.push(Mistake::new(variable, text).note(file, "because of this"));
    }
    match (&draft.secret_file, &draft.secret_environment) {
        (Some(path), _) => SecretSource::File(path.clone()),
        (None, Some(name)) => SecretSource::Environment(name.clone()),
        (None, None) => SecretSource::Stored,
    }
}

/// Refuses a key that another one rules out.
pub(super) fn conflict(draft: &Draft, key: &str, text: &str, other: &str, cx: &mut Context<'_>) {
    let Some(place) = draft.place(Section::Service, key) else { return };
    let mistake = Mistake::new(place, text);
    cx.out.push(match draft.place(Section::Service, other) {
        Some(other) => mistake.note(other, "because of this"),
        None => mistake,
    });
}

/// Settles which namespaces are its own.
fn namespaces(draft: &mut Draft, cx: &mut Context<'_>) {
    let mut set = match draft.isolation {
        Isolation::Container => Namespaces::ALL,
        Isolation::None => Namespaces::NONE,
        Isolation::List(set) => set,
    };
    match (draft.isolation, draft.network) {
        (Isolation::Container, Some(Network::Host)) => set.network = false,
        (Isolation::List(set), Some(Network::Host)) if set.network => {
            let text = "network = \"host\" and a network namespace of its own exclude each other";
            conflict(draft, "network", text, "isolation", cx);
        }
        (Isolation::List(set), Some(Network::Own | Network::Service)) if !set.network => {
            let text = "this needs \"network\" in the list of `isolation`";
            conflict(draft, "network", text, "isolation", cx);
        }
        _ => {}
    }
    let line = draft.service.namespaces.line;
    draft.service.namespaces = At { value: set, line };
}

/// A plain child process has nothing of a sandbox.
fn plain_process(draft: &Draft, cx: &mut Context<'_>) {
    const SANDBOX: [&str; 9] = [
        "rootfs",
        "rootfs-mode",
        "writable",
        "mounts",
        "hostname",
        "network",
        "networks",
        "ports",
        "init",
    ];
    for key in SANDBOX {
        let text = format!("`{key}` does not go with isolation = \"none\"");
        conflict(draft, key, &text, "isolation", cx);
    }
}

/// Settles what becomes of writes to the root.
fn root(draft: &mut Draft, cx: &mut Context<'_>) {
    let host = draft.service.rootfs.value == Rootfs::Host;
    if draft.direct && host {
        let text = "rootfs-mode = \"direct\" needs `rootfs` to be a directory";
        conflict(draft, "rootfs-mode", text, "rootfs", cx);
    }
    let kept = matches!(draft.writable, Some(Writable::Ephemeral | Writable::Persistent));
    if draft.direct && kept {
        let text = "with rootfs-mode = \"direct\" there is no overlay: write \"none\" or nothing";
        conflict(draft, "writable", text, "rootfs-mode", cx);
    }
    draft.service.writable = match (draft.writable, draft.direct, host) {
        (Some(writable), _, _) => writable,
        (None, true, _) => Writable::Direct,
        (None, false, true) => Writable::None,
        (None, false, false) => Writable::Ephemeral,
    };
}

/// Settings that need a namespace which a list of `isolation` may leave out.
fn needs_namespace(draft: &Draft, cx: &mut Context<'_>) {
    let set = draft.service.namespaces.value;
    let needs = [
        ("rootfs", "mount", set.mount),
        ("rootfs-mode", "mount", set.mount),
        ("writable", "mount", set.mount),
        ("mounts", "mount", set.mount),
        ("hostname", "uts", set.uts),
        ("networks", "network", set.network || draft.network == Some(Network::Host)),
        ("init", "pid", set.pid),
    ];
    for (key, namespace, _) in needs.into_iter().filter(|(_, _, has)| !has) {
        let text = format!("`{key}` needs \"{namespace}\" in the list of `isolation`");
        conflict(draft, key, &text, "isolation", cx);
    }
}

/// Paths are masked by mounts on them; and what is kept from it is not writable.
fn protected_paths(draft: &Draft, cx: &mut Context<'_>) {
    let place = |key| draft.place(Section::Security, key);
    if !draft.service.namespaces.value.mount
        && let Some(masked) = place("masked-paths")
    {
        let text = "`masked-paths` needs a mount namespace, which `isolation` takes away";
        let mistake = Mistake::new(masked, text);
        cx.out.push(match draft.place(Section::Service, "isolation") {
            Some(isolation) => mistake.note(isolation, "because of this"),
            None => mistake,
        });
    }
    let Security { read_only_paths, masked_paths, writable_paths, .. } = &*draft.service.security;
    let kept = [("read-only-paths", read_only_paths), ("masked-paths", masked_paths)];
    for path in writable_paths.iter().flatten().map(|at| Path::new(&at.value)) {
        for (key, paths) in kept {
            let above = paths.iter().find(|at| path.starts_with(&at.value));
            if let (Some(above), Some(here), Some(there)) =
                (above, place("writable-paths"), place(key))
            {
                let text = format!("{} is not writable: it is in {}", path.display(), above.value);
                cx.out.push(Mistake::new(here, text).note(there, "because of this"));
            }
        }
    }
}

/// Secrets are mounted where nothing else may be.
fn secrets(draft: &Draft, cx: &mut Context<'_>) {
    let Some(place) = draft.place(Section::Service, "secrets") else { return };
    if !draft.service.namespaces.value.mount {
        let text = "`secrets` needs a mount namespace, which `isolation` takes away";
        let mistake = Mistake::new(place, text).help("isolation = [\"mount\"] is enough for it");
        cx.out.push(match draft.place(Section::Service, "isolation") {
            Some(isolation) => mistake.note(isolation, "because of this"),
            None => mistake,
        });
    }
    let inside = |target: &str| Path::new(target).starts_with(secret_model::DIRECTORY);
    for (covered, _) in draft.mounts.iter().filter(|(_, mount)| inside(&mount.target)) {
        let text =
            format!("a mount cannot be in {}, where the secrets are", secret_model::DIRECTORY);
        cx.out.push(Mistake::new(*covered, text).note(place, "because of this"));
    }
}

/// A setting of a namespace that is the host's would be the host's.
fn sysctls(draft: &Draft, cx: &mut Context<'_>) {
    let own = draft.service.namespaces.value;
    let Some(place) = draft.place(Section::Security, "sysctls") else { return };
    for sysctl in &draft.service.security.sysctls {
        let owner = sysctls::Owner::of(&sysctl.value.path).map(|owner| owner.namespace(own));
        let Some((namespace, false)) = owner else { continue };
        let name = sysctl.value.name();
        let text = format!("{name} needs a namespace of its own for it: \"{namespace}\"");
        let mistake = Mistake::new(place, text);
        let cause = ["network", "isolation"];
        let cause = cause.iter().find_map(|key| draft.place(Section::Service, key));
        cx.out.push(match cause {
            Some(cause) => mistake.note(cause, "because of this"),
            None => mistake,
        });
    }
}

/// Where `/dev` is the host's, nodes are where they are.
fn devices(draft: &Draft, cx: &mut Context<'_>) {
    let Some(place) = draft.place(Section::Security, "devices") else { return };
    let own = draft.service.namespaces.value.mount;
    for device in draft.service.security.devices.iter().flatten().map(|at| &at.value) {
        if !own && device.path != device.target {
            let text = format!("{device} needs a mount namespace, which `isolation` takes away");
            let help = "without one it uses the host's node: write no path inside";
            cx.out.push(Mistake::new(place, text).help(help));
        }
    }
}

/// Hooks that run while the main process does not run need a sandbox that outlives it.
fn hooks(draft: &Draft, cx: &mut Context<'_>) {
    if draft.service.init || !draft.service.namespaces.value.pid {
        return;
    }
    let hooks = [
        ("start-pre", draft.service.start_pre.is_empty()),
        ("stop-post", draft.service.stop_post.is_empty()),
    ];
    for (key, _) in hooks.into_iter().filter(|(_, empty)| !empty) {
        let text =
            format!("`{key}` needs init = true: without it the sandbox ends with the command");
        conflict(draft, key, &text, "init", cx);
    }
}

/// Three ways to say which capabilities it has, and what they cannot say together.
fn capabilities(draft: &Draft, cx: &mut Context<'_>) {
    let place = |key: &str| draft.place(Section::Security, key);
    let mut exclude = |key: &str, other: &str, why: &str| {
        if let (Some(here), Some(there)) = (place(key), place(other)) {
            let text = format!("`{key}` and {why} exclude each other");
            cx.out.push(Mistake::new(here, text).note(there, "because of this"));
        }
    };
    for key in ["capabilities-add", "capabilities-drop"] {
        exclude(key, "capabilities", "`capabilities`, the whole list,");
    }
    if draft.service.security.privileged {
        for key in ["capabilities", "capabilities-add", "capabilities-drop"] {
            exclude(key, "privileged", "privileged = true, which gives all,");
        }
    }
    let (add, drop) = draft.service.security.capabilities.changes();
    let (add, drop) = (add.value, drop.value);
    // All but a few is said with ALL in one list and the few in the other.
    let one_is_all = (add == CapabilitySet::ALL) != (drop == CapabilitySet::ALL);
    let both = add.within(drop);
    if !both.is_empty() && !one_is_all {
        exclude(
            "capabilities-drop",
            "capabilities-add",
            &format!("`capabilities-add` of {}", both.words().join(" ")),
        );
    }
}

/// A user namespace needs mounts that show the owners of files as they are inside, and
/// gives no power over what is the host's.
fn user_namespace(draft: &Draft, cx: &mut Context<'_>) {
    let service = &draft.service;
    if *service.user_namespace() == UserNamespace::None {
        return;
    }
    let place = draft.place(Section::Security, "user-namespace");
    let own = service.namespaces.value;
    if let (Some(place), false) = (place, own.mount) {
        let text = "`user-namespace` needs a mount namespace, which `isolation` takes away";
        let mistake = Mistake::new(place, text);
        cx.out.push(match draft.place(Section::Service, "isolation") {
            Some(isolation) => mistake.note(isolation, "because of this"),
            None => mistake,
        });
    }
    let network = ["NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW"];
    let network = network.into_iter().filter_map(CapabilitySet::named);
    let network = network.fold(CapabilitySet::EMPTY, CapabilitySet::and);
    let (key, named) = match &service.security.capabilities {
        Capabilities::Default => return,
        Capabilities::Exactly(at) => ("capabilities", at.value),
        Capabilities::Changed { add, .. } => ("capabilities-add", add.value),
    };
    let useless = if named == CapabilitySet::ALL { named } else { named.within(network) };
    let own_network = own.network && service.network_owner().is_none();
    if own_network || useless.is_empty() {
        return;
    }
    if let Some(place) = draft.place(Section::Security, key) {
        let text = format!(
            "on a network that is not its own a service in a user namespace has no use for {}",
            useless.within(network).words().join(" ")
        );
        let help = "write user-namespace = \"none\", or give it a network of its own";
        let mistake = Mistake::new(place, text).help(help);
        cx.out.push(match draft.place(Section::Service, "network") {
            Some(network) => mistake.note(network, "because of this"),
            None => mistake,
        });
    }
}

/// A oneshot is ready when it has succeeded, and then it is over.
fn oneshot(draft: &mut Draft, cx: &mut Context<'_>) {
    let text = "a oneshot is ready when it has exited with success: `ready` does not apply";
    conflict(draft, "ready", text, "type", cx);
    let text = "a oneshot is over when it is ready: a health check does not apply";
    conflict(draft, "health", text, "type", cx);
    // A failed step of a chain ends it; trying again is for who asks for it.
    if draft.place(Section::Service, "restart").is_none() {
        draft.service.restart.policy = RestartPolicy::No;
    }
    let policy = draft.service.restart.policy;
    if matches!(policy, RestartPolicy::Always | RestartPolicy::UnlessStopped) {
        let text = "a oneshot is over when it has succeeded: use \"on-failure\" or \"no\"";
        conflict(draft, "restart", text, "type", cx);
    }
}

fn readiness(draft: &Draft, cx: &mut Context<'_>) {
    let service = &draft.service;
    let has_table = draft.place(Section::Service, "health").is_some();
    if service.ready == Ready::Health && !has_table {
        let text = "ready = \"health\" needs a health check";
        if let Some(place) = draft.place(Section::Service, "ready") {
            let help = format!("add [service.{}.health] with tcp = PORT", draft.unit.name);
            cx.out.push(Mistake::new(place, text).help(help));
        }
    }
    if service.reload_command.is_some() {
        let text = "`reload-signal` and `reload-command` exclude each other";
        conflict(draft, "reload-signal", text, "reload-command", cx);
    }
}
