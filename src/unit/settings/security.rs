//! `[service.NAME.security]`: almost all of it is known and checked, and works later.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::limits;
use crate::unit::model::At;
use crate::unit::syntax::{Node, Value};

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
    Setting::new(SECURITY, "no-new-privileges", "true | false", "true", |d, v, cx| {
        put(&mut d.service.no_new_privileges, value::flag(v, cx));
    })
    .help(
        "No program it executes gives it more rights than it has: set-user-ID bits \
         and file capabilities do nothing.",
    )
    .good(&["false"])
    .bad(&["\"no\""]),
    Setting::new(SECURITY, "capabilities", CAPABILITIES, "a safe set", |_, v, cx| words(v, cx))
        .help("Exactly these.")
        .good(&["[\"NET_BIND_SERVICE\"]"])
        .bad(&["\"NET_ADMIN\"", "[1]"])
        .later("a choice of capabilities"),
    Setting::new(SECURITY, "capabilities-add", CAPABILITIES, "[]", |_, v, cx| words(v, cx))
        .help("These besides the default ones.")
        .good(&["[\"NET_ADMIN\"]"])
        .bad(&["1"])
        .later("a choice of capabilities"),
    Setting::new(SECURITY, "capabilities-drop", CAPABILITIES, "[]", |_, v, cx| words(v, cx))
        .help("The default ones without these.")
        .good(&["[\"CHOWN\"]"])
        .bad(&["1"])
        .later("a choice of capabilities"),
    Setting::new(
        SECURITY,
        "seccomp",
        "\"default\" | \"unconfined\" | path",
        "\"default\"",
        |_, v, cx| {
            value::text(v, cx);
        },
    )
    .help("Which system calls it may make.")
    .good(&["\"default\""])
    .bad(&["true"])
    .later("filtering of system calls"),
    Setting::new(
        SECURITY,
        "user-namespace",
        "\"auto\" | \"none\" | table",
        "\"auto\"",
        |_, v, cx| {
            if !matches!(v.value, Value::String(_) | Value::Table(_)) {
                cx.expected::<()>(v, "\"auto\", \"none\" or a table");
            }
        },
    )
    .help("Its own range of user numbers.")
    .good(&["\"auto\"", "{ uid = [\"0:100000:65536\"] }"])
    .bad(&["1"])
    .later("user namespaces"),
    Setting::new(SECURITY, "read-only-paths", PATHS, "[]", |d, v, cx| {
        put(&mut d.service.read_only_paths, paths(v, cx));
    })
    .help(
        "What it cannot write, with all that is mounted below, besides `/proc/bus`, \
         `/proc/fs`, `/proc/irq`, `/proc/sys` and `/proc/sysrq-trigger`. Each path is meant \
         inside its root, and must be there when the service starts.",
    )
    .good(&["[\"/srv/www/conf\"]"])
    .bad(&["[\"proc\"]", "[\"/\"]", "[\"/a/../b\"]", "1"]),
    Setting::new(SECURITY, "masked-paths", PATHS, "[]", |d, v, cx| {
        put(&mut d.service.masked_paths, paths(v, cx));
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
    Setting::new(SECURITY, "devices", "list of PATH:rwm", "[]", |_, v, cx| words(v, cx))
        .help("Devices of the host it may use.")
        .good(&["[\"/dev/fuse:rw\"]"])
        .bad(&["\"/dev/fuse\""])
        .later("access to devices"),
    Setting::new(SECURITY, "apparmor", "string", "none", |_, v, cx| {
        value::text(v, cx);
    })
    .help("AppArmor profile.")
    .good(&["\"web\""])
    .bad(&["1"])
    .later("AppArmor"),
    Setting::new(SECURITY, "selinux", "string", "none", |_, v, cx| {
        value::text(v, cx);
    })
    .help("SELinux label.")
    .good(&["\"web_t\""])
    .bad(&["1"])
    .later("SELinux"),
    Setting::new(SECURITY, "privileged", "true | false", "false", |_, v, cx| {
        value::flag(v, cx);
    })
    .help("No protection at all.")
    .good(&["false"])
    .bad(&["1"])
    .later("privileged services"),
    Setting::new(SECURITY, "sysctls", "table", "{}", |_, v, cx| {
        value::table(v, cx);
    })
    .help("Kernel settings of its own namespaces.")
    .good(&["{ \"net.core.somaxconn\" = \"1024\" }"])
    .bad(&["[]"])
    .later("kernel settings"),
];

fn words(node: &Node, cx: &mut Context<'_>) {
    value::strings(node, cx);
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
