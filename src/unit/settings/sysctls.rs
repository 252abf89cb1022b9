//! `sysctls` of `[service.NAME.security]`: only what each namespace has of its own.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::limits;
use crate::unit::model::{At, Namespaces, Sysctl};
use crate::unit::syntax::{Entry, Node, Value};
use crate::unit::text::quote;

const SECURITY: &[Section] = &[Section::Security];

/// The settings.
pub(super) const SETTINGS: &[Setting] =
    &[Setting::new(SECURITY, "sysctls", "table", "{}", |d, v, cx| {
        put(&mut d.service.security.sysctls, sysctls(v, cx));
    })
    .help(
        "Kernel settings of its own namespaces, by their names as in sysctl(8): `net.*` of its \
         network, `kernel.shm*`, `kernel.msg*`, `kernel.sem*` and `fs.mqueue.*` of its System V \
         IPC and message queues. (A `.` within a name is written `/`, as in \
         `net.ipv4.conf.eth0/100.rp_filter`.) All others are the whole host's and refused.",
    )
    .good(&[
        "{ \"net.core.somaxconn\" = \"1024\" }",
        "{ \"kernel.sem\" = \"250 32000 100 128\", \"fs.mqueue.msg_max\" = 20 }",
    ])
    .bad(&[
        "[]",
        "{ \"kernel.panic\" = \"1\" }",
        "{ \"kernel.hostname\" = \"web\" }",
        "{ \"net..ipv4\" = \"1\" }",
        "{ \"net.//.kernel.panic\" = \"1\" }",
        "{ \"net.core.somaxconn\" = true }",
        "{ \"net.core.somaxconn\" = \"1\\n2\" }",
        "{ \"vm.swappiness\" = 1 }",
    ])];

/// Which namespace has a setting of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unit) enum Owner {
    /// The network's.
    Network,
    /// System V IPC and message queues.
    Ipc,
}

impl Owner {
    /// Whose setting it is; `None`: the host's.
    pub fn of(path: &str) -> Option<Self> {
        const IPC: [&str; 11] = [
            "msg_next_id",
            "msgmax",
            "msgmnb",
            "msgmni",
            "sem",
            "sem_next_id",
            "shm_next_id",
            "shm_rmid_forced",
            "shmall",
            "shmmax",
            "shmmni",
        ];
        match path.split_once('/') {
            Some(("net", _)) => Some(Self::Network),
            Some(("kernel", name)) if IPC.contains(&name) => Some(Self::Ipc),
            Some(("fs", rest)) if rest.starts_with("mqueue/") => Some(Self::Ipc),
            _ => None,
        }
    }

    /// Its name in the list of `isolation`, and whether a unit has it.
    pub fn namespace(self, own: Namespaces) -> (&'static str, bool) {
        match self {
            Self::Network => ("network", own.network),
            Self::Ipc => ("ipc", own.ipc),
        }
    }
}

fn sysctls(node: &Node, cx: &mut Context<'_>) -> Option<Vec<At<Sysctl>>> {
    let table = value::table(node, cx)?;
    if table.0.len() > limits::SYSCTLS {
        return cx.refuse(node, format!("this table has at most {} entries", limits::SYSCTLS));
    }
    let read: Vec<Option<At<Sysctl>>> = table.0.iter().map(|entry| sysctl(entry, cx)).collect();
    let mut read: Vec<At<Sysctl>> = read.into_iter().collect::<Option<_>>()?;
    // So that writing them in another order is no change.
    read.sort_by(|one, other| one.value.path.cmp(&other.value.path));
    Some(read)
}

fn sysctl(entry: &Entry, cx: &mut Context<'_>) -> Option<At<Sysctl>> {
    let Entry { key, node, place } = entry;
    let named = Node { place: *place, value: Value::Refused };
    let Some(path) = path(key) else {
        let help = "write it as sysctl(8) does, such as \"net.core.somaxconn\"";
        return cx.advise(&named, format!("{} is not a kernel setting", quote(key)), help);
    };
    if Owner::of(&path).is_none() {
        let message = format!("{key} is not a setting of a namespace but of the whole host");
        let help = match key.as_str() {
            "kernel.hostname" => "write hostname = \"…\" in the service's own table",
            _ => {
                "a service can have net.*, kernel.shm*, kernel.msg*, kernel.sem* and fs.mqueue.* \
                 of its own"
            }
        };
        return cx.advise(&named, message, help);
    }
    let value = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::String(_) => value::line(node, cx)?,
        _ => return cx.expected(node, "a string or a whole number"),
    };
    if value.is_empty() || value.len() > limits::SYSCTL {
        return cx.refuse(node, format!("a value has 1 to {} bytes", limits::SYSCTL));
    }
    Some(cx.at(*place, Sysctl { path, value }))
}

/// Below `/proc/sys`: there dots are slashes, and the other way round.
fn path(name: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '%');
    if name.len() > 255 || !name.chars().all(good) {
        return None;
    }
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = name.chars().map(swapped).collect();
    let clean = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (clean && path.contains('/')).then_some(path)
}
