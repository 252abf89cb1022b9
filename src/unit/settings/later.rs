//! What is known and checked, and works in a later version: keys of services, and the
//! keys of kinds of units that do not work yet as a whole.

use super::value::{self, Context};
use super::{Section, Setting};
use crate::unit::syntax::{Node, Value};

const SERVICE: &[Section] = &[Section::Service];
const SOCKET: &[Section] = &[Section::Socket];
const TIMER: &[Section] = &[Section::Timer];
const NETWORK: &[Section] = &[Section::Network];
const STARTERS: &[Section] = &[Section::Socket, Section::Timer];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "image", "string", "none", |_, v, cx| string(v, cx))
        .help("An image from a registry as its root.")
        .good(&["\"docker.io/library/nginx:1\""])
        .bad(&["1"])
        .later("images"),
    Setting::new(SERVICE, "networks", "list of names", "[]", |_, v, cx| strings(v, cx))
        .help("Networks it is part of.")
        .good(&["[\"front\", \"back\"]"])
        .bad(&["\"front\"", "[1]"])
        .later("networks between services"),
    Setting::new(SERVICE, "ports", "list of [ADDRESS:]HOST:INSIDE[/udp]", "[]", |_, v, cx| {
        strings(v, cx);
    })
    .help("Ports of the host that lead to it.")
    .good(&["[\"443:443\", \"127.0.0.1:8080:80\", \"53:53/udp\"]"])
    .bad(&["443", "[443]"])
    .later("published ports"),
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
    Setting::new(
        NETWORK,
        "driver",
        "\"bridge\" | \"macvlan\" | \"ipvlan\"",
        "\"bridge\"",
        |_, v, cx| {
            value::choice(v, &[("bridge", ()), ("macvlan", ()), ("ipvlan", ())], cx);
        },
    )
    .good(&["\"bridge\""])
    .bad(&["\"brigde\"", "1"]),
    Setting::new(NETWORK, "subnet", "string", "chosen", |_, v, cx| string(v, cx))
        .good(&["\"10.1.0.0/24\""])
        .bad(&["10"]),
    Setting::new(NETWORK, "gateway", "string", "chosen", |_, v, cx| string(v, cx))
        .good(&["\"10.1.0.1\""])
        .bad(&["10"]),
    Setting::new(NETWORK, "ipv6", "true | false | subnet", "false", |_, v, cx| {
        if !matches!(v.value, Value::Bool(_) | Value::String(_)) {
            cx.expected::<()>(v, "true, false or a subnet");
        }
    })
    .good(&["true", "\"fd00::/64\""])
    .bad(&["6"]),
    Setting::new(NETWORK, "internal", "true | false", "false", |_, v, cx| flag(v, cx))
        .good(&["true"])
        .bad(&["1"]),
    Setting::new(NETWORK, "mtu", "whole number", "1500", |_, v, cx| {
        value::integer(v, 68, 65535, cx);
    })
    .good(&["1500"])
    .bad(&["0", "\"1500\""]),
    Setting::new(NETWORK, "parent", "string", "none", |_, v, cx| string(v, cx))
        .good(&["\"eth0\""])
        .bad(&["0"]),
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
