//! Networks, and what a service says about its place in them.

use std::net::IpAddr;
use std::str::FromStr;

use super::value::{self, Context, put, put_some};
use super::{Section, Setting};
use crate::unit::draft::{Draft, Join};
use crate::unit::model::{Driver, PORTS_MAX, Port, Subnet};
use crate::unit::names;
use crate::unit::syntax::{Entry, Node, Table, Value};
use crate::unit::text::{Place, quote};

const SERVICE: &[Section] = &[Section::Service];
const NETWORK: &[Section] = &[Section::Network];
const MEMBERSHIP: &[Section] = &[Section::Membership];

/// Most networks that one unit is part of.
const NETWORKS_MAX: usize = 16;

/// Most names that a unit has besides its own in one network.
const ALIASES_MAX: usize = 32;

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "networks", "list of names | table of tables", "[]", |d, v, cx| {
        networks(v, d, cx);
    })
    .help(
        "Networks it is part of; see [its keys](#keys-of-networks). Its units find each other \
         by their names. The first network that is not internal is its way out: the first of a \
         list, or by name in a table.",
    )
    .good(&["[\"front\", \"back\"]", "{ front = { aliases = [\"www\"] }, back = {} }"])
    .bad(&["\"front\"", "[1]", "[\"frnot\"]", "[\"front\", \"front\"]", "{ front = 1 }"]),
    Setting::new(SERVICE, "ports", "list of `[ADDRESS:]HOST:INSIDE[/udp]`", "[]", |d, v, cx| {
        let read = value::list(v, "a list of ports", cx, |item, cx| {
            parsed::<Port>(item, cx).map(|port| (item.place, port))
        });
        if read.as_ref().is_some_and(|ports| total(ports) > PORTS_MAX) {
            let text = format!("a service publishes at most {PORTS_MAX} ports");
            return cx.refuse(v, text).unwrap_or_default();
        }
        put(&mut d.ports, read);
    })
    .help(
        "Ports of the host that lead to it while it is ready: all addresses of the host, or only \
         the one named; also ranges (`8000-8010:8000-8010`).",
    )
    .good(&["[\"443:443\", \"127.0.0.1:8080:80\", \"53:53/udp\"]"])
    .bad(&["443", "[443]", "[\"443\"]", "[\"1-2:1\"]", "[\"80:80\", \"80:81\"]"])
    .with("networks = [\"front\"]"),
    Setting::new(MEMBERSHIP, "ip", "address", "chosen", |d, v, cx| fixed(v, d, cx, true))
        .help("A fixed address of the network's `subnet`.")
        .good(&["\"10.88.7.5\""])
        .bad(&["\"10.88.7.1\"", "\"10.88.8.5\"", "\"fd00::5\"", "5"]),
    Setting::new(MEMBERSHIP, "ip6", "address", "chosen", |d, v, cx| fixed(v, d, cx, false))
        .help("A fixed address of the network's IPv6 subnet.")
        .good(&["\"fd88::5\""])
        .bad(&["\"fd88::1\"", "\"fd89::5\"", "\"10.88.7.5\"", "5"]),
    Setting::new(MEMBERSHIP, "aliases", "list of names", "[]", |d, v, cx| {
        let template = cx.template;
        let read = value::list(v, "a list of names", cx, |item, cx| {
            let name = value::text(item, cx)?;
            let sample = if template { name.replace("%i", "i") } else { name.to_owned() };
            match names::problem(&sample) {
                Some(problem) => cx.advise(item, format!("{} is not a name", quote(name)), problem),
                None => Some(name.to_owned()),
            }
        });
        if read.as_ref().is_some_and(|names| names.len() > ALIASES_MAX) {
            let text = format!("there are at most {ALIASES_MAX} aliases");
            return cx.refuse(v, text).unwrap_or_default();
        }
        if let Some(join) = d.joins.last_mut() {
            put(&mut join.aliases, read);
        }
    })
    .help("Further names by which the others of this network find it.")
    .good(&["[\"www\"]"])
    .bad(&["\"www\"", "[\"a b\"]", "[1]"]),
    Setting::new(
        NETWORK,
        "driver",
        "\"bridge\" | \"macvlan\" | \"ipvlan\"",
        "\"bridge\"",
        |d, v, cx| {
            let words = [
                ("bridge", Driver::Bridge),
                ("macvlan", Driver::Macvlan),
                ("ipvlan", Driver::Ipvlan),
            ];
            put(&mut d.bridge.driver, value::choice(v, &words, cx));
        },
    )
    .help(
        "`bridge`: a network of the host's own. `macvlan`, `ipvlan`: the units are part of the \
         network of a device of the host (`parent`), by addresses of `subnet`.",
    )
    .good(&["\"bridge\""])
    .bad(&["\"brigde\"", "\"macvlan\"", "1"]),
    Setting::new(NETWORK, "subnet", "subnet", "chosen", |d, v, cx| {
        put_some(&mut d.bridge.subnet, subnet(v, cx, true));
    })
    .help("Its IPv4 addresses. Without it a /24 is chosen that no route of the host meets.")
    .good(&["\"10.1.0.0/24\""])
    .bad(&["10", "\"10.1.0.1/24\"", "\"10.1.0.0\"", "\"10.1.0.0/31\"", "\"fd00::/64\""]),
    Setting::new(NETWORK, "gateway", "address", "the subnet's first", |d, v, cx| {
        put_some(&mut d.bridge.gateway, parsed_as(v, cx, "an IPv4 address", IpAddr::is_ipv4));
    })
    .help("The host's address in it.")
    .good(&["\"10.1.0.254\""])
    .bad(&["10", "\"10.1.1.1\"", "\"10.1.0.255\"", "\"fd00::1\""])
    .with("subnet = \"10.1.0.0/24\""),
    Setting::new(NETWORK, "ipv6", "true | false | subnet", "false", |d, v, cx| match v.value {
        Value::Bool(on) => {
            d.bridge.ipv6 = on;
            d.bridge.subnet6 = None;
        }
        Value::String(_) => {
            d.bridge.ipv6 = true;
            put_some(&mut d.bridge.subnet6, subnet(v, cx, false));
        }
        _ => cx.expected(v, "true, false or a subnet").unwrap_or_default(),
    })
    .help("IPv6 addresses besides: of this subnet, or of one that is derived from its name.")
    .good(&["true", "\"fd00::/64\""])
    .bad(&["6", "\"10.1.0.0/24\"", "\"fd00::1/64\""]),
    Setting::new(NETWORK, "gateway6", "address", "the subnet's first", |d, v, cx| {
        put_some(&mut d.bridge.gateway6, parsed_as(v, cx, "an IPv6 address", IpAddr::is_ipv6));
    })
    .help("The host's IPv6 address in it.")
    .good(&["\"fd00::ff\""])
    .bad(&["\"fd01::1\"", "\"10.1.0.1\"", "1"])
    .with("ipv6 = \"fd00::/64\""),
    Setting::new(NETWORK, "internal", "true | false", "false", |d, v, cx| {
        put(&mut d.bridge.internal, value::flag(v, cx));
    })
    .help("No way out of it: neither to the host, nor to other networks, nor by names.")
    .good(&["true"])
    .bad(&["1"]),
    Setting::new(NETWORK, "isolate", "true | false", "true", |d, v, cx| {
        put(&mut d.bridge.isolate, value::flag(v, cx));
    })
    .help("`false`: it and other networks that say so reach each other.")
    .good(&["false"])
    .bad(&["0"]),
    Setting::new(NETWORK, "mtu", "whole number", "the kernel's", |d, v, cx| {
        put_some(&mut d.bridge.mtu, value::number(v, 68, 65535, cx).map(Some).unwrap_or_default());
    })
    .help("Longest packet in bytes.")
    .good(&["1400"])
    .bad(&["0", "\"1500\""]),
    Setting::new(NETWORK, "parent", "string", "none", |d, v, cx| {
        let name = value::text(v, cx).and_then(|text| {
            let good = |c: char| c.is_ascii_graphic() && c != '/';
            if text.is_empty() || text.len() > 15 || !text.chars().all(good) {
                return cx.refuse(v, "the name of a network device has 1 to 15 signs");
            }
            Some(text.to_owned())
        });
        put_some(&mut d.bridge.parent, name);
    })
    .help("Device of the host, for `macvlan` and `ipvlan`.")
    .good(&["\"eth0\""])
    .bad(&["0", "\"a/b\"", "\"\""])
    .with("driver = \"macvlan\"\nsubnet = \"10.2.0.0/24\""),
];

fn total(ports: &[(Place, Port)]) -> usize {
    ports.iter().fold(0, |sum, (_, port)| sum.saturating_add(port.count.into()))
}

/// A string that is read by its type.
fn parsed<T: FromStr<Err: Into<String>>>(node: &Node, cx: &mut Context<'_>) -> Option<T> {
    let text = value::text(node, cx)?;
    text.parse().map_err(|error: T::Err| cx.refuse::<()>(node, error)).ok()
}

fn parsed_as(
    node: &Node,
    cx: &mut Context<'_>,
    what: &str,
    right: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let address = value::text(node, cx)?.parse::<IpAddr>().ok().filter(right);
    address.or_else(|| cx.refuse(node, format!("this must be {what}")))
}

fn subnet(node: &Node, cx: &mut Context<'_>, ipv4: bool) -> Option<Subnet> {
    let subnet = parsed::<Subnet>(node, cx)?;
    match (ipv4, subnet.is_ipv4()) {
        (true, false) => cx.advise(
            node,
            "this must be a subnet of IPv4",
            format!("write ipv6 = \"{subnet}\" for one of IPv6"),
        ),
        (false, true) => cx.refuse(node, "this must be a subnet of IPv6, such as fd00::/64"),
        _ => Some(subnet),
    }
}

fn fixed(node: &Node, draft: &mut Draft, cx: &mut Context<'_>, ipv4: bool) {
    let what = if ipv4 { "an IPv4 address" } else { "an IPv6 address" };
    let address = parsed_as(node, cx, what, |address| address.is_ipv4() == ipv4);
    if let (Some(address), Some(join)) = (address, draft.joins.last_mut()) {
        join.fixed.push((node.place, address));
    }
}

/// Names, or names with tables.
fn networks(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) {
    draft.joins.clear();
    match &node.value {
        Value::List(items) => {
            for item in items {
                if let Some(name) = value::text(item, cx) {
                    join(name, item.place, draft, cx);
                }
            }
        }
        Value::Table(Table(entries)) => {
            for Entry { key, place, node } in entries {
                let before = draft.joins.len();
                join(key, *place, draft, cx);
                if let Some(table) = value::table(node, cx)
                    && draft.joins.len() > before
                {
                    draft.forget(Section::Membership);
                    super::apply(Section::Membership, table, draft, cx);
                }
            }
            // A table of TOML has no order.
            draft.joins.sort_by(|a, b| a.name.cmp(&b.name));
        }
        _ => cx.expected(node, "a list of names, or a table of tables").unwrap_or_default(),
    }
    if draft.joins.len() > NETWORKS_MAX {
        let text = format!("a service is part of at most {NETWORKS_MAX} networks");
        cx.refuse::<()>(node, text);
    }
}

fn join(name: &str, place: Place, draft: &mut Draft, cx: &mut Context<'_>) {
    use crate::unit::diagnostic::Mistake;
    if let Some(problem) = names::problem(name) {
        let text = format!("{} is not the name of a network", quote(name));
        cx.out.push(Mistake::new(place, text).help(problem));
    } else if draft.joins.iter().any(|join| join.name == name) {
        cx.out.push(Mistake::new(place, format!("{} is named twice", quote(name))));
    } else {
        let name = name.to_owned();
        draft.joins.push(Join { name, place, fixed: Vec::new(), aliases: Vec::new() });
    }
}
