//! `devices` of `[service.NAME.security]`.

use super::value::{self, Context, put_some};
use super::{Section, Setting};
use crate::unit::limits;
use crate::unit::model::{At, Device};
use crate::unit::syntax::Node;

const SECURITY: &[Section] = &[Section::Security];

/// What `/dev` of a unit holds already, or what stands for something else.
const TAKEN: [&str; 18] = [
    "berth-notify",
    "console",
    "core",
    "fd",
    "full",
    "log",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
];

/// The settings.
pub(super) const SETTINGS: &[Setting] =
    &[Setting::new(SECURITY, "devices", "list of PATH[:INSIDE][:rwm]", "see below", |d, v, cx| {
        put_some(&mut d.service.security.devices, devices(v, cx));
    })
    .help(
        "Devices of the host it may use: the path of the node, where it appears inside (by \
         default the same path; both below `/dev`), and what is allowed: `r` read, `w` \
         write, `m` make nodes; by default `rw`. A service with a mount namespace of its \
         own may always use null, zero, full, random, urandom, tty, ptmx and its own \
         terminals, and nothing else, whatever its user and capabilities; its `/dev/console` \
         is its null device. Owner and mode of a node are those of the host's, and cannot be \
         changed inside; in a user namespace it is a copy, whose owner is who has this number \
         inside. Without a mount namespace nothing is kept from it unless this is \
         set; `[]` is enough.",
    )
    .good(&["[\"/dev/fuse:rw\"]", "[\"/dev/kvm\", \"/dev/ttyUSB0:/dev/modem:rw\"]", "[]"])
    .bad(&[
        "\"/dev/fuse\"",
        "[1]",
        "[\"fuse\"]",
        "[\"/srv/node\"]",
        "[\"/dev/fuse:x\"]",
        "[\"/dev/fuse:rwrw\"]",
        "[\"/dev/fuse:/srv/fuse\"]",
        "[\"/dev/fuse:/dev/null\"]",
        "[\"/dev/../etc\"]",
        "[\"/dev/\"]",
        "[\"/dev/a:/dev/c\", \"/dev/b:/dev/c\"]",
    ])];

fn devices(node: &Node, cx: &mut Context<'_>) -> Option<Vec<At<Device>>> {
    let mut targets: Vec<String> = Vec::new();
    let devices = value::list(node, "a list of devices", cx, |node, cx| {
        let device = device(node, cx)?;
        if targets.contains(&device.target) {
            return cx.refuse(node, "another device of this list has the same path inside");
        }
        targets.push(device.target.clone());
        Some(cx.at(node.place, device))
    })?;
    if devices.len() > limits::DEVICES {
        return cx.refuse(node, format!("this list has at most {} devices", limits::DEVICES));
    }
    Some(devices)
}

fn device(node: &Node, cx: &mut Context<'_>) -> Option<Device> {
    let text = value::text(node, cx)?;
    let (paths, access) = match text.rsplit_once(':') {
        Some((paths, access)) if !access.starts_with('/') && paths.contains('/') => (paths, access),
        _ => (text, "rw"),
    };
    let once = |letter| access.matches(letter).count();
    let [read, write, mknod] = ['r', 'w', 'm'].map(once);
    let letters = [read, write, mknod];
    if access.is_empty() || letters.iter().sum::<usize>() != access.len() || letters.contains(&2) {
        // A path of the host may have colons in it, and is then written with its access.
        let help = "write PATH, PATH:rw or PATH:INSIDE:rw, with some of the letters r, w, m";
        return cx.advise(node, "what is allowed is said with some of r, w and m", help);
    }
    // Such as /dev/disk/by-path/pci-0000:00:1f.2-ata-1.
    let (path, target) = match paths.rsplit_once(":/") {
        Some((path, target)) => (path.to_owned(), format!("/{target}")),
        None => (paths.to_owned(), paths.to_owned()),
    };
    for path in [&path, &target] {
        if let Some(problem) = value::path_problem(path).or_else(|| not_below_dev(path)) {
            return cx.refuse(node, problem);
        }
    }
    if target.split('/').nth(2).is_some_and(|name| TAKEN.contains(&name)) {
        let help = "write PATH:INSIDE with another path inside";
        return cx.advise(node, format!("{target} of a service is always its own"), help);
    }
    Some(Device { path, target, read: read > 0, write: write > 0, mknod: mknod > 0 })
}

fn not_below_dev(path: &str) -> Option<&'static str> {
    let clean = path.strip_prefix("/dev/").is_some_and(|name| {
        !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "."))
    });
    (!clean).then_some("a device is a path below /dev")
}
