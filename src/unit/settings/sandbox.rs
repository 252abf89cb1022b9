//! What a service sees: its root, its namespaces, its names, its mounts.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::draft::{Draft, Isolation, Network};
use crate::unit::model::{Namespaces, Rootfs, Writable};
use crate::unit::names;
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;

const SERVICE: &[Section] = &[Section::Service];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "rootfs", "\"host\" | path", "\"host\"", |d, v, cx| {
        let rootfs = value::text(v, cx).and_then(|text| match text {
            "host" => Some(Rootfs::Host),
            "/" => cx.advise(
                v,
                "the host's own root cannot be used as a directory",
                "write rootfs = \"host\"",
            ),
            text if !text.contains('/') => {
                cx.advise(v, "this is not a path", "write \"host\", or the path of a directory")
            }
            text => match value::host_path(text, v.place, cx)?.as_str() {
                "/" => cx.refuse(v, "the host's own root cannot be used as a directory"),
                path => Some(Rootfs::Directory(path.to_owned())),
            },
        });
        put(&mut d.service.rootfs, rootfs.map(|rootfs| cx.at(v.place, rootfs)));
    })
    .help(
        "The tree that is its root. `\"host\"`: the host's own tree, with `/tmp`, \
         `/run`, `/dev`, `/proc` and `/sys` of its own: root of the service reads there what root \
         of the host does, unless `masked-paths` hides it. Otherwise a directory that holds a root file system; `./` and `../` are meant from the directory of the unit \
         file.",
    )
    .good(&["\"/var/lib/berth/rootfs/web\"", "\"host\"", "\"./rootfs\""])
    .bad(&["\"web\"", "\"/\"", "\"/a/../b\"", "1"]),
    Setting::new(
        SERVICE,
        "writable",
        "\"ephemeral\" | \"persistent\" | \"none\"",
        "\"none\" for rootfs = \"host\", otherwise \"ephemeral\"",
        |d, v, cx| {
            let words = [
                ("ephemeral", Writable::Ephemeral),
                ("persistent", Writable::Persistent),
                ("none", Writable::None),
            ];
            value::put_some(&mut d.writable, value::choice(v, &words, cx));
        },
    )
    .help(
        "What becomes of what it writes into its root. `ephemeral`: kept in memory, \
         gone at the next stop. `persistent`: kept in the state directory. `none`: \
         its root is read-only.",
    )
    .good(&["\"persistent\"", "\"ephemeral\"", "\"none\""])
    .bad(&["\"yes\"", "true"]),
    Setting::new(SERVICE, "rootfs-mode", "\"overlay\" | \"direct\"", "\"overlay\"", |d, v, cx| {
        put(&mut d.direct, value::choice(v, &[("overlay", false), ("direct", true)], cx));
    })
    .help(
        "`direct`: the directory itself is used and written. `overlay`: it is not \
         touched, see `writable`.",
    )
    .good(&["\"direct\"", "\"overlay\""])
    .bad(&["\"indirect\"", "true"])
    .with("rootfs = \"/srv/root\""),
    Setting::new(
        SERVICE,
        "isolation",
        "\"container\" | \"none\" | list of namespaces",
        "\"container\"",
        |d, v, cx| {
            put(&mut d.isolation, isolation(v, cx));
            d.service.namespaces = cx.at(v.place, d.service.namespaces.value);
        },
    )
    .help(
        "Which namespaces are its own. `container`: all. `none`: it is a plain child \
         process on the host, and settings of the sandbox do not apply. A list names \
         them: `mount`, `pid`, `ipc`, `uts`, `cgroup`, `network`; for that of \
         users see [user-namespace](#user-namespace).",
    )
    .good(&["\"none\"", "\"container\"", "[\"mount\", \"pid\"]"])
    .bad(&["\"vm\"", "[\"mnt\"]", "[\"pid\", \"pid\"]", "[]", "true"]),
    Setting::new(
        SERVICE,
        "network",
        "\"private\" | \"none\" | \"host\" | \"service:NAME\"",
        "\"private\"",
        |d, v, cx| {
            let network = network(v, d, cx);
            value::put_some(&mut d.network, network);
        },
    )
    .help(
        "`private`, `none`: a network of its own that has only `lo`, where every user may listen \
         on every port (`net.ipv4.ip_unprivileged_port_start` of its `sysctls`). `host`: the \
         host's, where that is up to the host (see `user-namespace`). `service:NAME`: that of another service, which it then requires. See \
         `networks` for how to reach others.",
    )
    .good(&["\"host\"", "\"none\"", "\"private\"", "\"service:other\""])
    .bad(&["\"hosts\"", "\"service:db\"", "\"service:\"", "\"service:x\"", "[]"]),
    Setting::new(SERVICE, "hostname", "string", "the unit's name", |d, v, cx| {
        let hostname = value::text(v, cx).and_then(|text| {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '%');
            if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
                cx.refuse(v, "a host name has 1 to 64 letters, digits and `- . _`")
            } else {
                Some(text.to_owned())
            }
        });
        value::put_at(&mut d.service.hostname, v, hostname, cx);
    })
    .help("Its host name.")
    .good(&["\"web\""])
    .bad(&["\"\"", "\"a b\"", "\"a/b\"", "1"]),
    Setting::new(SERVICE, "init", "true | false", "true", |d, v, cx| {
        put(&mut d.service.init, value::flag(v, cx));
    })
    .help(
        "`true`: a tiny reaper is process 1 inside and the command its sibling, so \
         that TERM works and orphans are reaped. `false`: the command is process 1 \
         itself.",
    )
    .good(&["false"])
    .bad(&["\"no\"", "0"]),
    Setting::new(SERVICE, "mounts", "list of tables", "[]", |d, v, cx| {
        super::mount::read_all(v, d, cx);
    })
    .help("What else it sees, in the order written; see [its keys](#keys-of-mounts).")
    .good(&["[{ type = \"tmpfs\", target = \"/run\" }]"])
    .bad(&["[\"/a:/b\"]", "{ type = \"tmpfs\", target = \"/run\" }", "[{}]"]),
];

/// Picks one namespace out of the set.
type Pick = fn(&mut Namespaces) -> &mut bool;

fn isolation(node: &Node, cx: &mut Context<'_>) -> Option<Isolation> {
    let Value::List(items) = &node.value else {
        let words = [("container", Isolation::Container), ("none", Isolation::None)];
        return value::choice(node, &words, cx);
    };
    if items.is_empty() {
        return cx.advise(node, "this list is empty", "write \"none\" for no namespace");
    }
    let mut set = Namespaces::NONE;
    let words: [(&str, Pick); 6] = [
        ("mount", |set| &mut set.mount),
        ("pid", |set| &mut set.pid),
        ("ipc", |set| &mut set.ipc),
        ("uts", |set| &mut set.uts),
        ("cgroup", |set| &mut set.cgroup),
        ("network", |set| &mut set.network),
    ];
    let read = value::list(node, "a list of namespaces", cx, |item, cx| {
        if matches!(&item.value, Value::String(text) if text == "user") {
            let help = "write user-namespace = \"auto\" (the default) in [service.NAME.security]";
            return cx.advise(item, "a user namespace is not asked for here", help);
        }
        let flag = value::choice(item, &words, cx)?(&mut set);
        if std::mem::replace(flag, true) {
            return cx.refuse(item, "this namespace is listed twice");
        }
        Some(())
    });
    read.map(|_| Isolation::List(set))
}

fn network(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) -> Option<Network> {
    if let Value::String(text) = &node.value
        && let Some(name) = text.strip_prefix("service:")
    {
        let sample = if cx.template { name.replace("%i", "i") } else { name.to_owned() };
        if let Some(problem) = names::problem(&sample) {
            return cx.advise(node, format!("{} is not a unit name", quote(name)), problem);
        }
        if name == draft.unit.name {
            return cx.refuse(node, format!("{} names itself here", quote(name)));
        }
        draft.owner = Some((node.place, name.to_owned()));
        return Some(Network::Service);
    }
    let words = [("private", Network::Own), ("none", Network::Own), ("host", Network::Host)];
    value::choice(node, &words, cx)
}
