//! What networks and the services in them must obey together.
//!
//! What must always hold: a service whose membership reaches the model is in networks that
//! exist, with fixed addresses that these have and nobody else was given; no two services
//! publish the same port; no two networks have an address in common.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use super::check::{Checked, conflict};
use super::diagnostic::Mistake;
use super::draft::{Draft, Join, Network as Choice, Reference, Relation};
use super::model::{At, Driver, Kind, Membership, Network, Networking, Port, Subnet};
use super::names;
use super::pool::Pool;
use super::settings::Section;
use super::settings::value::Context;
use super::text::{Files, Place, quote};

/// The networks that are right so far.
#[derive(Debug, Default)]
pub struct Nets {
    known: BTreeMap<String, (Network, Option<Place>)>,
    broken: BTreeSet<String>,
    /// Those that stay as they were for a unit that does.
    kept: BTreeSet<String>,
}

impl Nets {
    /// Adds one that was read.
    pub fn insert(&mut self, network: Network, header: Place) {
        self.known.insert(network.name.clone(), (network, Some(header)));
    }

    /// One has a mistake.
    pub fn fail(&mut self, name: &str) {
        self.known.remove(name);
        self.broken.insert(name.to_owned());
    }

    /// Keeps the earlier version of what is wrong now, and of all where files were lost.
    pub fn keep_lost(&mut self, earlier: &[Network], all: bool) {
        for network in earlier {
            if all || self.broken.contains(&network.name) {
                let name = network.name.clone();
                self.known.entry(name).or_insert_with(|| (network.clone(), None));
            }
        }
    }

    /// Keeps a network as it was while a unit of an earlier version is in it: the others would
    /// wait for that one to leave. Whether there is one more.
    pub fn keep_used(&mut self, pool: &Pool<'_>) -> bool {
        let units = pool.units.values().filter(|it| pool.kept.contains(&it.unit.name));
        let memberships =
            units.filter_map(|it| it.unit.service()).flat_map(|it| &it.networking.memberships);
        let before = self.kept.len();
        for network in memberships.map(|it| &it.network.value) {
            let stays = |(now, _): &(Network, Option<Place>)| now == network;
            if !self.known.get(&network.name).is_some_and(stays)
                && self.kept.insert(network.name.clone())
            {
                self.known.insert(network.name.clone(), (network.clone(), None));
            }
        }
        self.kept.len() > before
    }

    /// All of them, sorted by name.
    pub fn into_list(self) -> Vec<Network> {
        self.known.into_values().map(|(network, _)| network).collect()
    }
}

/// What the keys of one service say together.
pub fn service(draft: &mut Draft, cx: &mut Context<'_>) {
    let clash = "`network` and `networks` exclude each other: `networks` gives it a network of \
                 its own";
    if draft.place(Section::Service, "networks").is_some() {
        conflict(draft, "network", clash, "networks", cx);
    }
    let own: Option<&str> = match draft.network {
        _ if !draft.joins.is_empty() => None,
        Some(Choice::Host) => Some("with network = \"host\" its ports are the host's already"),
        Some(Choice::Service) => Some("the service whose network it shares must publish them"),
        Some(Choice::Own) | None => Some("`ports` needs a network that leads to it"),
    };
    let mut known: Vec<(Place, Port)> = Vec::new();
    for (place, port) in &draft.ports {
        if let Some((earlier, other)) = known.iter().find(|(_, other)| port.collides(other)) {
            let text = format!("{port} and {other} cannot both be published");
            cx.out.push(Mistake::new(*place, text).note(*earlier, "published here"));
        }
        known.push((*place, *port));
    }
    if let (Some(text), Some(place)) = (own, draft.place(Section::Service, "ports"))
        && !draft.ports.is_empty()
    {
        let mistake = Mistake::new(place, text);
        let needs = matches!(draft.network, Some(Choice::Own) | None);
        cx.out.push(if needs { mistake.help("add networks = [\"NAME\"]") } else { mistake });
    }
    let owner = draft.owner.clone().filter(|_| draft.network == Some(Choice::Service));
    let owner = owner.map(|(place, name)| {
        let relation = Relation::Requires;
        if !draft.references.iter().any(|it| it.relation == relation && it.name == name) {
            draft.references.push(Reference { relation, name: name.clone(), place });
        }
        cx.at(place, name)
    });
    if draft.joins.is_empty() && draft.ports.is_empty() && owner.is_none() {
        return;
    }
    let ports = draft.ports.iter().map(|(place, port)| cx.at(*place, *port)).collect();
    let memberships = draft.joins.iter().map(|join| Membership {
        network: cx.at(join.place, Network::new(&join.name)),
        fixed: join.fixed.iter().map(|(_, address)| *address).collect(),
        aliases: join.aliases.clone(),
    });
    let networking = Networking { memberships: memberships.collect(), ports, owner };
    draft.service.networking = networking.into();
}

/// What the keys of one network say together.
pub fn network(mut draft: Draft, cx: &mut Context<'_>) -> Network {
    let network = std::mem::replace(&mut draft.bridge, Network::new(""));
    let place = |key: &str| draft.place(Section::Network, key);
    let mut refuse = |key: &str, text: &str| {
        if let Some(place) = place(key).or_else(|| place("driver")) {
            cx.out.push(Mistake::new(place, text));
        }
    };
    let pairs = [
        ("gateway", network.gateway, network.subnet, "subnet"),
        ("gateway6", network.gateway6, network.subnet6, "an IPv6 subnet in `ipv6`"),
    ];
    for (key, gateway, subnet, what) in pairs {
        match (gateway, subnet) {
            (Some(_), None) => refuse(key, &format!("`{key}` needs {what}")),
            (Some(gateway), Some(subnet)) if !subnet.has_host(gateway) => {
                refuse(key, &format!("{gateway} is no host's address in {subnet}"));
            }
            _ => {}
        }
    }
    if network.driver == Driver::Bridge {
        if network.parent.is_some() {
            refuse("parent", "`parent` is for driver = \"macvlan\" or \"ipvlan\"");
        }
    } else {
        if network.parent.is_none() {
            refuse("driver", "this driver needs `parent`, a device of the host");
        }
        if network.subnet.is_none() {
            refuse("driver", "this driver needs `subnet`, that of its parent's network");
        }
        if !network.isolate {
            refuse("isolate", "`isolate` is for driver = \"bridge\"");
        }
    }
    if network.ipv6 && network.mtu.is_some_and(|mtu| mtu < 1280) {
        refuse("mtu", "IPv6 needs an `mtu` of 1280 at least");
    }
    network
}

/// Puts services into their networks; those for which that is not possible fail.
pub fn join(nets: &mut Nets, pool: &mut Pool<'_>, files: &mut Files, out: &mut Vec<Mistake>) {
    overlaps(nets, out);
    let mut wrong = BTreeMap::new();
    let mut taken: HashMap<(String, IpAddr), (String, Place)> = HashMap::new();
    let mut published: Vec<(String, Place, Port)> = Vec::new();
    let owners: BTreeMap<String, bool> = pool.units.iter().filter_map(has_network).collect();
    for checked in pool.units.values_mut().chain(pool.templates.values_mut()) {
        let name = checked.unit.name.clone();
        let mut mistakes = memberships(nets, checked);
        mistakes.extend(owner(&owners, checked));
        if !names::is_template(&name) {
            mistakes.extend(addresses(checked, &mut taken));
            for (place, port) in &checked.ports {
                let other = published.iter().find(|(_, _, other)| port.collides(other));
                if let Some((other, earlier, theirs)) = other {
                    let text = format!("{port} cannot be published: {} has {theirs}", quote(other));
                    mistakes.push(Mistake::new(*place, text).note(*earlier, "published here"));
                }
            }
            let own = checked.ports.iter().map(|(place, port)| (name.clone(), *place, *port));
            published.extend(own);
        }
        if !mistakes.is_empty() {
            wrong.insert(name, mistakes);
        }
    }
    for (name, mistakes) in wrong {
        out.extend(mistakes);
        pool.fail(&name, files);
    }
}

/// Whether others can share a unit's network; none for what is no service.
fn has_network((name, checked): (&String, &Checked)) -> Option<(String, bool)> {
    let service = checked.unit.service()?;
    let own = service.namespaces.value.network && service.network_owner().is_none();
    Some((name.clone(), own))
}

fn owner(owners: &BTreeMap<String, bool>, checked: &Checked) -> Option<Mistake> {
    let owner = checked.unit.service()?.network_owner()?;
    let place = checked.references.iter().find(|it| it.name == owner)?.place;
    // One that is not there is found by its name, as everything that is required.
    match owners.get(owner) {
        Some(false) => {
            let text = format!("{} has no network of its own to share", quote(owner));
            Some(Mistake::new(place, text))
        }
        Some(true) | None => None,
    }
}

/// Networks that have addresses in common; the later one by name is wrong.
fn overlaps(nets: &mut Nets, out: &mut Vec<Mistake>) {
    let subnets = |network: &Network| -> Vec<Subnet> {
        // Several may be parts of the same network outside.
        let own = network.driver == Driver::Bridge;
        network.subnet.into_iter().chain(network.subnet6).filter(|_| own).collect()
    };
    let mut seen: Vec<(Subnet, String, Option<Place>)> = Vec::new();
    let mut wrong = Vec::new();
    for (name, (network, header)) in &nets.known {
        for subnet in subnets(network) {
            if let Some((other, whose, place)) = seen.iter().find(|it| it.0.overlaps(&subnet)) {
                let text = format!("{subnet} overlaps {other} of the network {}", quote(whose));
                let mistake = header.map(|header| Mistake::new(header, text));
                out.extend(mistake.map(|mistake| match place {
                    Some(place) => mistake.note(*place, "defined here"),
                    None => mistake,
                }));
                wrong.push(name.clone());
            }
            seen.push((subnet, name.clone(), *header));
        }
    }
    for name in wrong {
        nets.fail(&name);
    }
}

/// Replaces the names of a service's networks by the networks.
fn memberships(nets: &Nets, checked: &mut Checked) -> Vec<Mistake> {
    let Checked { unit, joins, ports, .. } = checked;
    let name = unit.name.clone();
    let Kind::Service(service) = &mut unit.kind else { return Vec::new() };
    if joins.is_empty() {
        return Vec::new();
    }
    let networking = &mut *service.networking;
    let mut out = Vec::new();
    for (Join { name: wanted, place, fixed, .. }, membership) in
        joins.iter().zip(&mut networking.memberships)
    {
        let Some((network, _)) = nets.known.get(wanted) else {
            out.push(unknown(nets, &name, wanted, *place));
            continue;
        };
        for (place, address) in fixed {
            out.extend(misfit(network, *address).map(|text| Mistake::new(*place, text)));
        }
        membership.network = At { value: network.clone(), line: membership.network.line };
    }
    let leads_in =
        |it: &Membership| it.network.value.driver == Driver::Bridge && !it.network.value.internal;
    if out.is_empty() {
        let entrance = networking.memberships.iter().find(|it| leads_in(it));
        out.extend(astray(ports, entrance.map(|it| &it.network.value)));
    }
    out
}

/// Ports that lead nowhere from the network by which they are reached. From `::1` what comes
/// is carried to either family.
fn astray(ports: &[(Place, Port)], entrance: Option<&Network>) -> Option<Mistake> {
    let Some(network) = entrance else {
        let text = "ports are published by a bridge that is not internal, and it is in none";
        return ports.first().map(|(place, _)| Mistake::new(*place, text));
    };
    let needs_six = |port: &Port| {
        port.address.is_some_and(|it| it.is_ipv6() && it != IpAddr::V6(Ipv6Addr::LOCALHOST))
    };
    let (place, port) = ports.iter().find(|(_, port)| needs_six(port) && !network.ipv6)?;
    let name = &network.name;
    let text = format!("{port} leads to an IPv6 address, and the network `{name}` has none");
    Some(Mistake::new(*place, text).help(format!("add ipv6 = true to [network.{name}]")))
}

fn unknown(nets: &Nets, unit: &str, wanted: &str, place: Place) -> Mistake {
    if nets.broken.contains(wanted) {
        let text = format!("`{unit}` is in the network {}, which has a mistake", quote(wanted));
        return Mistake::new(place, text);
    }
    let mistake = Mistake::new(place, format!("there is no network {}", quote(wanted)));
    match names::nearest(wanted, nets.known.keys().map(String::as_str)) {
        Some(near) => mistake.help(format!("did you mean `{near}`?")),
        None => mistake.help(format!("add [network.{wanted}]")),
    }
}

/// Why a network cannot give this address to a unit.
fn misfit(network: &Network, address: IpAddr) -> Option<String> {
    let (subnet, gateway, key) = if address.is_ipv4() {
        (network.subnet, network.gateway, "subnet = \"10.1.0.0/24\"")
    } else {
        (network.subnet6, network.gateway6, "ipv6 = \"fd00::/64\"")
    };
    let name = &network.name;
    let Some(subnet) = subnet else {
        return Some(format!("a fixed address needs `{key}` or the like in [network.{name}]"));
    };
    if !subnet.has_host(address) {
        return Some(format!("{address} is no host's address in {subnet} of the network `{name}`"));
    }
    let gateway = gateway.or_else(|| subnet.host(1));
    (gateway == Some(address)).then(|| format!("{address} is the gateway of the network `{name}`"))
}

/// Fixed addresses that two services want.
fn addresses(
    checked: &Checked,
    taken: &mut HashMap<(String, IpAddr), (String, Place)>,
) -> Vec<Mistake> {
    let mut out = Vec::new();
    for join in &checked.joins {
        for (place, address) in &join.fixed {
            let own = (checked.unit.name.clone(), *place);
            let key = (join.name.clone(), *address);
            if let Some((other, earlier)) = taken.get(&key) {
                let text = format!("{address} is the address of {} already", quote(other));
                out.push(Mistake::new(*place, text).note(*earlier, "given here"));
            } else {
                taken.insert(key, own);
            }
        }
    }
    out
}
