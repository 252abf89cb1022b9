//! `[service.NAME.security]`: what does not work yet is known and checked all the same.

use super::value::{self, Context, put, put_at, put_some};
use super::{Section, Setting};
use crate::unit::model::{At, Capabilities, CapabilitySet, Seccomp};
use crate::unit::syntax::Node;
use crate::unit::text::quote;
use crate::unit::{limits, names};

const SERVICE: &[Section] = &[Section::Service];
const SECURITY: &[Section] = &[Section::Security];
const CAPABILITIES: &str = "list of capabilities";
const PATHS: &str = "list of paths";

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "security", "table", "{}", |d, v, cx| {
        if let Some(table) = value::table(v, cx) {
            super::apply(Section::Security, table, d, cx);
        }
    })
    .help("See [security](#servicenamesecurity).")
    .good(&["{ no-new-privileges = false }"])
    .bad(&["[]", "{ seccom = \"default\" }"]),
    Setting::new(SECURITY, "no-new-privileges", "true | false", "see below", |d, v, cx| {
        put_some(&mut d.service.security.no_new_privileges, value::flag(v, cx));
    })
    .help(
        "No program it executes gives it more rights than it has: set-user-ID bits \
         and file capabilities do nothing. By default `true`, for a privileged service `false`.",
    )
    .good(&["false"])
    .bad(&["\"no\""]),
    Setting::new(SECURITY, "capabilities", CAPABILITIES, "see below", |d, v, cx| {
        if let Some(set) = capabilities(v, All::Refused, cx) {
            d.service.security.capabilities = Capabilities::Exactly(cx.at(v.place, set));
        }
    })
    .help(
        "Exactly these, with or without `CAP_`. A user other than root has them too \
         (inherited and ambient). By default a service with a mount namespace of its own \
         has CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP \
         SETUID SYS_CHROOT, and no user but root has any; other services have what berth \
         has. It is the same for the command, its hooks and health checks, and for \
         `berthctl exec`. What is named here and berth does not have itself ends the start; \
         of a default it is left out.",
    )
    .good(&["[\"NET_BIND_SERVICE\"]", "[]", "[\"cap_kill\", \"CHOWN\"]"])
    .bad(&["\"NET_ADMIN\"", "[1]", "[\"NET_ADMN\"]", "[\"ALL\"]"]),
    Setting::new(SECURITY, "capabilities-add", CAPABILITIES, "[]", |d, v, cx| {
        if let Some(set) = capabilities(v, All::Taken, cx) {
            let (_, drop) = d.service.security.capabilities.changes();
            d.service.security.capabilities = Capabilities::changed(cx.at(v.place, set), drop);
        }
    })
    .help(
        "These besides the default ones; `ALL` is every one that berth has. A user other \
         than root has those that are added (inherited and ambient), and no others. With \
         `SYS_ADMIN` and a user namespace a service can mount, but what it was given of the \
         host stays as it was given: read-only, and without what is kept from it.",
    )
    .good(&["[\"NET_ADMIN\"]", "[\"ALL\"]"])
    .bad(&["1", "[\"NET_ADMN\"]"]),
    Setting::new(SECURITY, "capabilities-drop", CAPABILITIES, "[]", |d, v, cx| {
        if let Some(set) = capabilities(v, All::Taken, cx) {
            let (add, _) = d.service.security.capabilities.changes();
            d.service.security.capabilities = Capabilities::changed(add, cx.at(v.place, set));
        }
    })
    .help("The default ones without these; with `ALL` only those that are added.")
    .good(&["[\"CHOWN\"]", "[\"ALL\"]"])
    .bad(&["1", "[\"CHOWM\"]"]),
    Setting::new(
        SECURITY,
        "seccomp",
        "\"default\" | \"unconfined\" | path",
        "see below",
        |d, v, cx| {
            let read = seccomp(v, cx);
            put_at(&mut d.service.security.seccomp, v, read, cx);
        },
    )
    .help(
        "Which system calls it may make: as Docker's default profile allows, or stricter; any; \
         or what a profile in the OCI's form says. A service with a mount namespace of its own \
         has the default profile unless it is privileged, other services may make any call. It is \
         the same for the command, its hooks and health checks, and for `berthctl exec`. \
         Conditions on capabilities are about those the service can have. Calls by `int 0x80` \
         end the process whatever the profile says, calls of x32 are not there \
         (`architectures` and `archMap` change nothing about that), and neither are those \
         with a higher number than the profile's highest unless it allows by default. Of several \
         entries for a call the first without `args` counts; if there is none, the first whose \
         `args` all match. `SCMP_ACT_NOTIFY` and unknown keys are refused, unknown calls are \
         ignored. With `no-new-privileges = false` it takes SYS_ADMIN to install the filter, \
         which berth must have; the service does not keep it.",
    )
    .good(&["\"default\"", "\"unconfined\""])
    .bad(&["true", "\"defualt\"", "\"/no/such/profile.json\"", "\"profile.json\""]),
    Setting::new(SECURITY, "read-only-paths", PATHS, "[]", |d, v, cx| {
        put(&mut d.service.security.read_only_paths, paths(v, cx));
    })
    .help(
        "What it cannot write, with all that is mounted below, besides `/proc/bus`, \
         `/proc/fs`, `/proc/irq`, `/proc/sys` and `/proc/sysrq-trigger`. Each path is meant \
         inside its root, and must be there when the service starts. Without a mount namespace \
         of its own it is Landlock that holds this (Linux 5.13, fully from 6.2), and only for \
         these paths: files beneath cannot be written, made, removed or renamed, but their \
         mode and owner can be changed by whoever may; nor can entries of the directories that \
         lead to them be made or removed, and nothing can be mounted. Sockets can be connected \
         to as ever: a service that is root, and in no container, can tell berth what to do. \
         In a container whoever has the capability `SYS_ADMIN` inside can take it away (from \
         what is `read-only` in `mounts` it cannot).",
    )
    .good(&["[\"/srv/www/conf\"]"])
    .bad(&["[\"proc\"]", "[\"/\"]", "[\"/a/../b\"]", "1"]),
    Setting::new(SECURITY, "writable-paths", PATHS, "everywhere", |d, v, cx| {
        if let Some(paths) = paths(v, cx) {
            d.service.security.writable_paths = Some(paths);
        }
    })
    .help(
        "It can write beneath these, inside its root, and nowhere else, whatever its user and \
         its mounts allow; `[]` is nowhere. What is read-only stays so. `/dev/null`, `zero`, \
         `full`, `random`, `urandom`, `tty`, `ptmx` and `pts` can always be written, other \
         places in `/dev`, `/proc` and `/tmp` only if they are listed. It is Landlock that \
         holds this (Linux 5.13, fully from 6.2), for the service, its hooks, health checks and \
         `berthctl exec`; each of them is then kept from looking into the others with a \
         debugger, and from mounting anything. The mode and the owner of files can be changed \
         by whoever may.",
    )
    .good(&["[\"/var/lib/db\"]", "[]"])
    .bad(&["[\"var\"]", "[\"/\"]", "[\"/a/../b\"]", "1"]),
    Setting::new(SECURITY, "masked-paths", PATHS, "[]", |d, v, cx| {
        put(&mut d.service.security.masked_paths, paths(v, cx));
    })
    .help(
        "What it sees as an empty file or directory, besides `/proc/acpi`, `/proc/asound`, \
         `/proc/interrupts`, `/proc/kcore`, `/proc/keys`, `/proc/latency_stats`, \
         `/proc/sched_debug`, `/proc/scsi`, `/proc/timer_list`, `/proc/timer_stats`, \
         `/sys/firmware`, `/sys/devices/virtual/powercap` and `thermal_throttle` of each \
         processor. Each path is meant inside its root, and must be there when the service \
         starts. Whoever has the capability `SYS_ADMIN` inside can take it away.",
    )
    .good(&["[\"/srv/www/.git\"]"])
    .bad(&["[\"proc\"]", "[\"/\"]", "[\"/a/../b\"]", "1"]),
    Setting::new(SECURITY, "apparmor", "string", "as berth's own", |d, v, cx| {
        let name = label(v, "the name of a profile", cx);
        value::put_at(&mut d.service.security.apparmor, v, name, cx);
    })
    .help(
        "The AppArmor profile of all its processes, which has to be loaded already; \
         `unconfined` for none. Where there is no AppArmor, any other name ends the start.",
    )
    .good(&["\"web\"", "\"unconfined\"", "\"berth//web\""])
    .bad(&["1", "\"\"", "\"a\\nb\""]),
    Setting::new(SECURITY, "selinux", "string", "as berth's policy has it", |d, v, cx| {
        let text = label(v, "a context, or its type", cx).and_then(|text| {
            let parts = text.split(':').count();
            if text.contains(char::is_whitespace)
                || parts == 2
                || text.split(':').any(str::is_empty)
            {
                let help = "write user:role:type, with :level if the policy has levels, or the \
                            type alone";
                return cx.advise(v, format!("{} is not a context", quote(&text)), help);
            }
            Some(text)
        });
        value::put_at(&mut d.service.security.selinux, v, text, cx);
    })
    .help(
        "The SELinux context of all its processes; a type alone is put into the context that \
         berth has. Where there is no SELinux, or its policy does not know the context, the \
         start fails.",
    )
    .good(&["\"web_t\"", "\"system_u:system_r:web_t:s0:c1,c2\""])
    .bad(&["1", "\"\"", "\"a:b\"", "\"a b\"", "\"u::t\""]),
    Setting::new(SECURITY, "privileged", "true | false", "false", |d, v, cx| {
        put(&mut d.service.security.privileged, value::flag(v, cx));
    })
    .help(
        "For a container, what keeps others back is given to it: all capabilities that berth \
         has, every device, and unless it is set, no user namespace, any system call and no \
         `no-new-privileges`; nothing of `/proc` is masked or read-only, and without a user \
         namespace `/sys` and its control group are writable. Its `/dev` holds only the \
         standard nodes and those of `devices`, but it can make others. The other \
         namespaces, the root tree and limits stay as they are. `berthctl status` marks it.",
    )
    .good(&["true", "false"])
    .bad(&["1"]),
];

/// Whether a list may hold `ALL`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum All {
    /// It may.
    Taken,
    /// It may not.
    Refused,
}

fn capabilities(node: &Node, all: All, cx: &mut Context<'_>) -> Option<CapabilitySet> {
    let sets = value::list(node, "a list of capabilities", cx, |node, cx| {
        let name = value::text(node, cx)?;
        let is_all = name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL");
        match (is_all, all) {
            (true, All::Taken) => Some(CapabilitySet::ALL),
            (true, All::Refused) => {
                let help = "write capabilities-add = [\"ALL\"] for every one that berth has";
                let message = "\"ALL\" is only for `capabilities-add` and `capabilities-drop`";
                cx.advise(node, message, help)
            }
            (false, _) => CapabilitySet::named(name).or_else(|| {
                let message = format!("{} is not a capability", quote(name));
                match CapabilitySet::nearest(name) {
                    Some(near) => cx.advise(node, message, format!("did you mean \"{near}\"?")),
                    None => cx.advise(node, message, "capabilities(7) lists their names"),
                }
            }),
        }
    })?;
    Some(sets.into_iter().fold(CapabilitySet::EMPTY, CapabilitySet::and))
}

/// A label of a security module, which takes a page at most.
fn label(node: &Node, what: &str, cx: &mut Context<'_>) -> Option<String> {
    let text = value::text(node, cx)?;
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return cx.refuse(node, format!("{what} has 1 to 1024 bytes and no control characters"));
    }
    Some(text.to_owned())
}

fn seccomp(node: &Node, cx: &mut Context<'_>) -> Option<Seccomp> {
    let text = value::text(node, cx)?;
    match text {
        "default" => return Some(Seccomp::Default),
        "unconfined" => return Some(Seccomp::Unconfined),
        _ => {}
    }
    if !text.contains('/') {
        let message =
            format!("{} is neither \"default\" nor \"unconfined\" nor a path", quote(text));
        return match names::nearest(text, ["default", "unconfined"]) {
            Some(near) => cx.advise(node, message, format!("did you mean \"{near}\"?")),
            None => cx.advise(node, message, "write \"./\" before a file beside this one"),
        };
    }
    if cx.template && text.contains("%i") {
        return cx.refuse(node, "the profile of a template is the same for all its instances");
    }
    let path = value::host_path(text, node.place, cx)?;
    match cx.profiles.get(&path) {
        Ok(profile) => Some(Seccomp::Profile { path, profile }),
        Err((problem, help)) => {
            let message = format!("{text}: {problem}");
            match help {
                Some(help) => cx.advise(node, message, help),
                None => cx.refuse(node, message),
            }
        }
    }
}

/// Paths inside the unit's root, and their lines; each becomes a mount.
fn paths(node: &Node, cx: &mut Context<'_>) -> Option<Vec<At<String>>> {
    let paths = value::list(node, "a list of paths", cx, |node, cx| {
        let path = value::path(node, cx)?;
        if path.split('/').all(|part| matches!(part, "" | ".")) {
            let help = "`rootfs` and `writable` say what the root is";
            return cx.advise(node, "this cannot be the root itself", help);
        }
        Some(cx.at(node.place, path))
    })?;
    if paths.len() > limits::MOUNTS {
        return cx.refuse(node, format!("this list has at most {} paths", limits::MOUNTS));
    }
    Some(paths)
}
