//! The entries of `mounts`.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::diagnostic::Mistake;
use crate::unit::draft::{Draft, MountDraft, MountKind};
use crate::unit::model::{Mount, MountSource, Propagation};
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;
use crate::unit::{limits, names};

const MOUNT: &[Section] = &[Section::Mount];

/// The settings. The tests put each value into a mount that has a target.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(MOUNT, "type", "\"bind\" | \"volume\" | \"tmpfs\"", "needed", |d, v, cx| {
        let words =
            [("bind", MountKind::Bind), ("volume", MountKind::Volume), ("tmpfs", MountKind::Tmpfs)];
        value::put_some(&mut d.mount.kind, value::choice(v, &words, cx));
    })
    .help(
        "`bind`: a path of the host. What root of the service makes there is root's on the disk, \
         whatever user namespace it has, a program with its set-user-ID bit too: who executes \
         that on the host is root there. Bind what is `read-only`, or what the host has mounted \
         with nosuid, or what only root of the host can get at. `volume`: a named volume, kept in the state \
         directory. `tmpfs`: memory.",
    )
    .good(&["\"tmpfs\""])
    .bad(&["\"bnid\"", "\"bind\"", "1"])
    .with("target = \"/m\""),
    Setting::new(
        MOUNT,
        "source",
        "host path, or a volume's name",
        "needed for bind and volume",
        |d, v, cx| {
            put(&mut d.mount.source, value::text(v, cx).map(|text| Some(text.to_owned())));
        },
    )
    .help(
        "What is shown there. Symbolic links of the host are followed. Where it is, or has \
         somewhere below it, berth's runtime or state directory, these are empty for the unit \
         (not with propagation = \"shared\"): what shall be seen of them takes a mount of its \
         own, by its own path, and a link that leads there ends the start. So does one that \
         leads out of a volume, if this is a part of that: do not mount parts of other \
         directories that a service writes to, because it could make links of them.",
    )
    .good(&["\"/srv/www\""])
    .bad(&["\"srv\"", "\"/a/../b\"", "1"])
    .with("type = \"bind\", target = \"/m\""),
    Setting::new(MOUNT, "target", "path inside the root", "needed", |d, v, cx| {
        let target = value::path(v, cx).and_then(|path| {
            if path.chars().all(|c| c == '/') {
                return cx.advise(v, "a mount cannot cover the root", "use `rootfs`");
            }
            if same_path(&path, NOTIFY_SOCKET) {
                return cx.advise(
                    v,
                    format!("a mount cannot cover {NOTIFY_SOCKET}"),
                    "berth makes its own socket there, see ready = \"notify\"",
                );
            }
            Some(path)
        });
        value::put_some(&mut d.mount.target, target);
    })
    .help("Where it is shown; made if it is missing.")
    .good(&["\"/var/www\""])
    .bad(&["\"var\"", "\"/\"", "\"/a/../b\"", "\"/dev/berth-notify\"", "1"])
    .with("type = \"tmpfs\""),
    Setting::new(MOUNT, "read-only", "true | false", "false", |d, v, cx| {
        put(&mut d.mount.read_only, value::flag(v, cx));
    })
    .help("Nothing can be written through this mount.")
    .good(&["true"])
    .bad(&["\"yes\""])
    .with("type = \"bind\", source = \"/srv\", target = \"/m\""),
    Setting::new(
        MOUNT,
        "propagation",
        "\"private\" | \"slave\" | \"shared\"",
        "\"private\"",
        |d, v, cx| {
            let words = [
                ("private", Propagation::Private),
                ("slave", Propagation::Slave),
                ("shared", Propagation::Shared),
            ];
            put(&mut d.mount.propagation, value::choice(v, &words, cx));
        },
    )
    .help(
        "Only for bind: whether mounts that the host makes below it later appear \
         inside (`slave`), and also the other way round (`shared`).",
    )
    .good(&["\"slave\"", "\"shared\""])
    .bad(&["\"rshared\"", "true"])
    .with("type = \"bind\", source = \"/srv\", target = \"/m\""),
    Setting::new(MOUNT, "recursive", "true | false", "true", |d, v, cx| {
        value::put_some(&mut d.mount.recursive, value::flag(v, cx));
    })
    .help("Only for bind: take the mounts below it too.")
    .good(&["false"])
    .bad(&["1"])
    .with("type = \"bind\", source = \"/srv\", target = \"/m\""),
    Setting::new(MOUNT, "size", "size", "half of the memory", |d, v, cx| {
        value::put_some(&mut d.mount.size, value::positive_size(v, cx));
    })
    .help("Only for tmpfs: how much fits in. It counts as memory of the unit.")
    .good(&["\"16M\"", "65536"])
    .bad(&["\"16 parsecs\"", "0", "-1", "true"])
    .with("type = \"tmpfs\", target = \"/m\""),
    Setting::new(MOUNT, "mode", "octal mode", "\"1777\"", |d, v, cx| {
        value::put_some(&mut d.mount.mode, value::mode(v, cx));
    })
    .help("Only for tmpfs: the permissions of its root.")
    .good(&["\"0755\""])
    .bad(&["\"0999\"", "755"])
    .with("type = \"tmpfs\", target = \"/m\""),
];

/// What `sd_notify(3)` writes to inside a container.
const NOTIFY_SOCKET: &str = "/dev/berth-notify";

/// Reads all entries.
pub(super) fn read_all(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) {
    match &node.value {
        Value::List(items) if items.len() > limits::MOUNTS => {
            cx.refuse::<()>(node, format!("a unit has at most {} mounts", limits::MOUNTS));
        }
        _ => {
            value::list(node, "a list of tables", cx, |item, cx| read(item, draft, cx));
        }
    }
}

/// Reads one entry.
fn read(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) -> Option<()> {
    let table = value::table(node, cx)?;
    draft.mount = MountDraft::default();
    draft.forget(Section::Mount);
    let before = cx.out.len();
    super::apply(Section::Mount, table, draft, cx);
    if cx.out.len() > before {
        return None;
    }
    let mount = finish(node, draft, cx)?;
    let twice = draft.mounts.iter().find(|(_, other)| same_path(&other.target, &mount.target));
    if let Some((first, _)) = twice {
        let message = format!("{} is mounted twice", quote(&mount.target));
        cx.out.push(Mistake::new(node.place, message).note(*first, "the first time here"));
        return None;
    }
    draft.mounts.push((node.place, mount));
    Some(())
}

/// Whether two paths differ only in their slashes and dots.
fn same_path(a: &str, b: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
    };
    parts(a) == parts(b)
}

/// Which keys belong to which type.
const ONLY: [(&str, &[MountKind]); 5] = [
    ("source", &[MountKind::Bind, MountKind::Volume]),
    ("propagation", &[MountKind::Bind]),
    ("recursive", &[MountKind::Bind]),
    ("size", &[MountKind::Tmpfs]),
    ("mode", &[MountKind::Tmpfs]),
];

fn finish(node: &Node, draft: &Draft, cx: &mut Context<'_>) -> Option<Mount> {
    let mount = &draft.mount;
    let Some(kind) = mount.kind else {
        return cx.advise(
            node,
            "this mount has no `type`",
            "write type = \"bind\", \"volume\" or \"tmpfs\"",
        );
    };
    let Some(target) = mount.target.clone() else {
        return cx.refuse(node, "this mount has no `target`");
    };
    for (key, kinds) in ONLY {
        if let Some(place) = draft.place(Section::Mount, key)
            && !kinds.contains(&kind)
        {
            let name = name(kind);
            let text = format!("`{key}` does not go with type = \"{name}\"");
            cx.out.push(Mistake::new(place, text));
            return None;
        }
    }
    let source = match (kind, mount.source.clone()) {
        (MountKind::Tmpfs, _) => {
            MountSource::Tmpfs { size: mount.size, mode: mount.mode.unwrap_or(0o1777) }
        }
        (_, None) => return cx.refuse(node, "this mount has no `source`"),
        (MountKind::Bind, Some(path)) => {
            let place = draft.place(Section::Mount, "source").unwrap_or(node.place);
            let path = value::host_path(&path, place, cx)?;
            MountSource::Bind {
                path,
                propagation: mount.propagation,
                recursive: mount.recursive.unwrap_or(true),
            }
        }
        (MountKind::Volume, Some(name)) => {
            let sample = if cx.template { name.replace("%i", "i") } else { name.clone() };
            match names::problem(&sample) {
                Some(problem) => return refuse_source(draft, node, problem, cx),
                None => MountSource::Volume { name },
            }
        }
    };
    Some(Mount { source, target, read_only: mount.read_only })
}

fn refuse_source(draft: &Draft, node: &Node, problem: &str, cx: &mut Context<'_>) -> Option<Mount> {
    let place = draft.place(Section::Mount, "source").unwrap_or(node.place);
    cx.out.push(Mistake::new(place, problem));
    None
}

fn name(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    }
}
