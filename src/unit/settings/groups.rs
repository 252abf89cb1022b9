//! `[service.NAME.limits]`: what a control group does beyond plain numbers.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::limits;
use crate::unit::model::{At, IoMax, IoUse, Oom};
use crate::unit::syntax::{Node, Value};

const LIMITS: &[Section] = &[Section::Limits];

/// How an entry of `io-max` is written.
const FORM: &str =
    "write \"/dev/sda read=10M write=5M read-ops=200 write-ops=100\", with what is to be limited";

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        LIMITS,
        "oom",
        "\"kill-process\" | \"kill-unit\"",
        "\"kill-process\"",
        |d, v, cx| {
            let oom = value::choice(v, &Oom::ALL, cx);
            value::put_at(&mut d.service.limits.oom, v, oom, cx);
        },
    )
    .help(
        "Who dies when memory runs out: `kill-process`: one process, as the kernel chooses; if \
         it is not the main one the service goes on. `kill-unit`: all of the unit at once, which \
         has failed then (`restart` says what follows). `status` counts and names what was \
         killed in either case. Not with version 1 of control groups.",
    )
    .good(&["\"kill-unit\"", "\"kill-process\""])
    .bad(&["\"kill\"", "true"]),
    Setting::new(
        LIMITS,
        "io-max",
        "list of \"PATH [read=SIZE] [write=SIZE] [read-ops=N] [write-ops=N]\"",
        "none",
        |d, v, cx| {
            put(&mut d.service.limits.io_max, io_max(v, cx));
        },
    )
    .help(
        "The most bytes or operations a second on a block device: a whole disk below `/dev`, no \
         partition. What is written through the page cache counts only with version 2 of \
         control groups.",
    )
    .good(&["[\"/dev/sda read=10M write=5M\", \"/dev/vdb write-ops=100\"]", "[]"])
    .bad(&[
        "\"/dev/sda read=1M\"",
        "[\"/dev/sda\"]",
        "[\"sda read=1M\"]",
        "[\"/dev/../sda read=1M\"]",
        "[\"/dev/sda reed=1M\"]",
        "[\"/dev/sda read=0\"]",
        "[\"/dev/sda read-ops=1.5\"]",
        "[\"/dev/sda read=1M read=2M\"]",
        "[\"/dev/sda read=1M\", \"/dev/sda read=2M\"]",
    ]),
    Setting::new(LIMITS, "delegate", "true | false", "false", |d, v, cx| {
        let delegate = value::flag(v, cx);
        value::put_at(&mut d.service.limits.delegate, v, delegate, cx);
    })
    .help(
        "`true`: it makes control groups of its own, as another berth, systemd or Docker inside \
         it does. It is in a group that belongs to its root, below the one that all these limits \
         are for, and with a cgroup namespace its `/sys/fs/cgroup` can be written to. Needs \
         version 2 of control groups.",
    )
    .good(&["true"])
    .bad(&["\"yes\""]),
];

fn io_max(node: &Node, cx: &mut Context<'_>) -> Option<Vec<At<IoMax>>> {
    let mut all: Vec<At<IoMax>> = Vec::new();
    let lists = value::list(node, "a list of strings", cx, |node, cx| {
        let limits = entry(node, cx)?;
        for limit in limits {
            let again =
                |it: &At<IoMax>| (&it.value.device, it.value.what) == (&limit.device, limit.what);
            if all.iter().any(again) {
                return cx.refuse(node, "this is said twice of the same device");
            }
            all.push(cx.at(node.place, limit));
        }
        Some(())
    })?;
    if lists.len() > limits::DEVICES {
        return cx.refuse(node, format!("a unit has at most {} such devices", limits::DEVICES));
    }
    Some(all)
}

fn entry(node: &Node, cx: &mut Context<'_>) -> Option<Vec<IoMax>> {
    let text = value::text(node, cx)?;
    let mut words = text.split_whitespace();
    let device = words.next().unwrap_or_default();
    if !device.starts_with("/dev/") || value::path_problem(device).is_some() {
        return cx.advise(node, "this names no device below /dev", FORM);
    }
    let mut found: Vec<IoMax> = Vec::new();
    for word in words {
        let known = word.split_once('=').and_then(|(name, value)| {
            let (_, what) = IoUse::ALL.iter().find(|(known, _)| *known == name)?;
            Some((*what, value))
        });
        let Some((what, value)) = known else {
            return cx.advise(node, format!("`{word}` is no limit of a device"), FORM);
        };
        // Sizes for bytes, plain numbers for operations; said at the same place.
        let value = match what {
            IoUse::Read | IoUse::Write => Value::String(value.to_owned()),
            IoUse::ReadOps | IoUse::WriteOps => match value.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => return cx.advise(node, format!("`{value}` is no whole number"), FORM),
            },
        };
        let most = value::positive_size(&Node { value, place: node.place }, cx)?;
        found.push(IoMax { device: device.to_owned(), what, most });
    }
    if found.is_empty() {
        return cx.advise(node, "this limits nothing", FORM);
    }
    Some(found)
}
