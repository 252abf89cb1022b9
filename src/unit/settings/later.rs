//! What is known and checked, and works in a later version: keys of services, and the
//! keys of kinds of units that do not work yet as a whole.

use super::value::{self, Context};
use super::{Section, Setting};
use crate::unit::syntax::Node;

const SERVICE: &[Section] = &[Section::Service];
const SOCKET: &[Section] = &[Section::Socket];
const TIMER: &[Section] = &[Section::Timer];
const STARTERS: &[Section] = &[Section::Socket, Section::Timer];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "image", "string", "none", |_, v, cx| string(v, cx))
        .help("An image from a registry as its root.")
        .good(&["\"docker.io/library/nginx:1\""])
        .bad(&["1"])
        .later("images"),
    Setting::new(SERVICE, "replicas", "whole number", "1", |_, v, cx| {
        value::integer(v, 0, 1000, cx);
    })
    .help("Runs `NAME.1` to `NAME.N`.")
    .good(&["3"])
    .bad(&["-1", "\"3\""])
    .later("replicas"),
    Setting::new(STARTERS, "service", "name", "needed", |_, v, cx| string(v, cx))
        .good(&["\"web\""])
        .bad(&["1"]),
    Setting::new(STARTERS, "description", "string", "\"\"", |_, v, cx| string(v, cx))
        .good(&["\"text\""])
        .bad(&["1"]),
    Setting::new(SOCKET, "listen", "list of addresses", "needed", |_, v, cx| strings(v, cx))
        .good(&["[\"tcp:0.0.0.0:80\"]"])
        .bad(&["80"]),
    Setting::new(TIMER, "calendar", "string", "none", |_, v, cx| string(v, cx))
        .good(&["\"*-*-* 03:00\""])
        .bad(&["3"]),
    Setting::new(TIMER, "every", "duration", "none", |_, v, cx| duration(v, cx))
        .good(&["\"15min\""])
        .bad(&["15"]),
    Setting::new(TIMER, "after-boot", "duration", "none", |_, v, cx| duration(v, cx))
        .good(&["\"1min\""])
        .bad(&["1"]),
    Setting::new(TIMER, "jitter", "duration", "\"0s\"", |_, v, cx| duration(v, cx))
        .good(&["\"1min\""])
        .bad(&["1"]),
    Setting::new(TIMER, "persistent", "true | false", "false", |_, v, cx| flag(v, cx))
        .good(&["true"])
        .bad(&["1"]),
];

fn string(node: &Node, cx: &mut Context<'_>) {
    value::text(node, cx);
}

fn strings(node: &Node, cx: &mut Context<'_>) {
    value::strings(node, cx);
}

fn duration(node: &Node, cx: &mut Context<'_>) {
    value::duration(node, cx);
}

fn flag(node: &Node, cx: &mut Context<'_>) {
    value::flag(node, cx);
}
