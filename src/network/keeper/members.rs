//! Units in their networks: from what they want to what they have, and back to nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::{Keeper, ports};
use crate::network::plan::element::Element;
use crate::network::plan::leases::Choice;
use crate::network::plan::names::{self, Tag};
use crate::network::plan::rules;
use crate::network::plan::step::{self, Undo};
use crate::network::plan::{Interface, World, files};
use crate::network::resolver::zone::{Known, Place};
use crate::network::wire::{Stage, Ticket, Wants};
use crate::unit::model::{self, Membership};

/// Most of the host's `resolv.conf` that is read.
const RESOLV_MAX: u64 = 16 * 1024;

/// What the host's `resolv.conf` says.
pub(super) fn host_resolv() -> String {
    use std::io::Read;
    let mut text = String::new();
    // Without one nobody is asked.
    let _ = std::fs::File::open("/etc/resolv.conf")
        .and_then(|file| file.take(RESOLV_MAX).read_to_string(&mut text));
    text
}

/// A unit that has something.
#[derive(Debug)]
pub struct Member {
    /// What it wants.
    pub wants: Wants,
    /// What it has got.
    pub world: World,
    /// How far it has come.
    pub stage: Stage,
    /// What undoes its devices.
    devices: Vec<Undo>,
    /// What undoes its published ports.
    published: Vec<Undo>,
    /// What leads to the forwarder.
    loopback: Vec<Element>,
    /// Its ports of the host.
    reserved: Vec<OwnedFd>,
}

impl Member {
    fn new(wants: Wants) -> Self {
        Self {
            wants,
            world: World::default(),
            stage: Stage::Assigned,
            devices: Vec::new(),
            published: Vec::new(),
            loopback: Vec::new(),
            reserved: Vec::new(),
        }
    }

    /// Elements of the rules for its ports.
    fn doors(&self) -> Vec<Element> {
        let addresses = self.world.entrance().map(|interface| interface.addresses.as_slice());
        let mut all = rules::of_ports(&self.wants.ports, addresses.unwrap_or_default());
        all.extend(self.loopback.iter().cloned());
        all
    }

    /// Where the forwarder leads: IPv6, if it has that.
    fn behind_loopback(&self) -> Option<IpAddr> {
        let addresses = &self.world.entrance()?.addresses;
        let six = addresses.iter().find(|address| address.is_ipv6());
        six.or_else(|| addresses.first()).copied()
    }

    /// Its names, for the resolver.
    fn known(&self) -> Known {
        let Wants { name, hostname, .. } = &self.wants;
        let places = self.world.interfaces.iter().map(|interface| {
            let names = [name, hostname].into_iter().chain(&interface.aliases).cloned();
            Place {
                network: interface.made.number,
                names: names.collect(),
                addresses: interface.addresses.clone(),
                open: !interface.made.network.internal,
            }
        });
        Known { places: places.collect(), ready: self.stage == Stage::Published }
    }

    /// What of it is in the rules and among the devices.
    pub fn leaves(
        &self,
        tag: &Tag,
        elements: &mut BTreeSet<Element>,
        devices: &mut BTreeSet<String>,
    ) {
        for interface in self.world.interfaces.iter().filter(|_| self.stage != Stage::Assigned) {
            elements.extend(rules::of_interface(tag, interface));
            devices.insert(tag.port(interface.port));
        }
        if self.stage == Stage::Published {
            elements.extend(self.doors());
        }
    }
}

impl Keeper {
    /// Who is in a network that this one wants with another definition, and which that is.
    pub(super) fn in_the_way(&self, wants: &Wants) -> Option<(&str, &str)> {
        let wanted = wants.memberships.iter().map(|membership| &membership.network.value);
        let differs = |definition: &&model::Network| {
            let there = self.networks.get(&definition.name);
            there.is_some_and(|there| there.made.network != **definition)
        };
        let name = wanted.into_iter().find(differs)?.name.as_str();
        let is_in = |member: &&Member| {
            member.world.interfaces.iter().any(|it| it.made.network.name == name)
        };
        let there = self.networks.get(name)?.made.network.name.as_str();
        let unit = self.members.values().find(is_in).map(|member| member.wants.name.as_str());
        Some((unit.unwrap_or("somebody"), there))
    }

    /// Gives a unit addresses and ports.
    ///
    /// # Errors
    /// One sentence; then it has none.
    pub(super) fn admit(
        &mut self,
        ticket: Ticket,
        wants: &Wants,
        avoid: &[IpAddr],
    ) -> Result<World, String> {
        self.let_go(ticket);
        self.members.insert(ticket, Member::new(wants.clone()));
        self.mark();
        let result = self.try_admit(ticket, wants, avoid);
        if result.is_err() {
            self.let_go(ticket);
        }
        result
    }

    fn try_admit(
        &mut self,
        ticket: Ticket,
        wants: &Wants,
        avoid: &[IpAddr],
    ) -> Result<World, String> {
        self.is_free(ticket, wants)?;
        let reserved = ports::reserve(&wants.ports)?;
        if let Some(member) = self.members.get_mut(&ticket) {
            member.reserved = reserved;
        }
        for membership in &wants.memberships {
            let interface = self.occupy(&wants.name, membership, avoid)?;
            let Some(member) = self.members.get_mut(&ticket) else { continue };
            member.world.interfaces.push(interface);
        }
        let Some(member) = self.members.get_mut(&ticket) else {
            return Err("it has gone".to_owned());
        };
        for (number, interface) in member.world.interfaces.iter_mut().enumerate() {
            interface.device = format!("eth{number}");
        }
        let out = member.world.interfaces.iter_mut().find(|it| !it.made.network.internal);
        if let Some(interface) = out {
            interface.way_out = true;
        }
        let host = host_resolv();
        member.world.files = files::files(&member.world, &wants.hostname, &host);
        let (known, world) = (member.known(), member.world.clone());
        self.names.unit(ticket, known);
        Ok(world)
    }

    /// That no other unit has one of these ports.
    fn is_free(&self, ticket: Ticket, wants: &Wants) -> Result<(), String> {
        for (_, other) in self.members.iter().filter(|(it, _)| **it != ticket) {
            for port in &wants.ports {
                if let Some(theirs) = other.wants.ports.iter().find(|it| port.collides(it)) {
                    return Err(ports::held_by(&other.wants.name, port, theirs));
                }
            }
        }
        Ok(())
    }

    /// A place in one network.
    fn occupy(
        &mut self,
        unit: &str,
        membership: &Membership,
        avoid: &[IpAddr],
    ) -> Result<Interface, String> {
        let definition = &membership.network.value;
        let made = self.enter(definition)?;
        let mut addresses = Vec::new();
        for part in &made.subnets {
            let fixed = membership.fixed.iter().find(|it| it.is_ipv4() == part.subnet.is_ipv4());
            let choice = fixed.map_or(Choice::AnyBut(avoid), |address| Choice::Fixed(*address));
            let leases = self.leases(&definition.name);
            match leases.take(unit, part.subnet, part.gateway, choice) {
                Ok(address) => addresses.push(address),
                Err(text) => {
                    let leases = self.leases(&definition.name);
                    for address in addresses {
                        leases.give_back(address);
                    }
                    self.exit(&definition.name);
                    return Err(format!("network {}: {text}", definition.name));
                }
            }
        }
        self.write_leases(&definition.name);
        let mac = addresses.first().map_or([0; 6], |address| names::mac(*address));
        let aliases = membership.aliases.clone();
        let (device, port) = (String::new(), self.free_port());
        Ok(Interface { made, port, device, mac, addresses, aliases, way_out: false })
    }

    /// A number that no port has.
    fn free_port(&self) -> u32 {
        let members = self.members.values().flat_map(|member| &member.world.interfaces);
        let used: BTreeSet<u32> = members.map(|interface| interface.port).collect();
        (0..u32::MAX).find(|number| !used.contains(number)).unwrap_or(u32::MAX)
    }

    /// Makes its devices.
    pub(super) fn join(&mut self, ticket: Ticket, process: Option<OwnedFd>) -> Result<(), String> {
        let process = process.ok_or("there is no process to connect")?;
        let member = self.members.get(&ticket).ok_or("it has no addresses yet")?;
        let (unit, interfaces) = (member.wants.name.clone(), member.world.interfaces.clone());
        let inside = self.host.look_inside(process.as_fd());
        let mut inside = inside.map_err(|error| format!("cannot enter its network: {error}"))?;
        for step in interfaces.iter().flat_map(|it| step::interface(&self.tag, &unit, it)) {
            let done = self.host.carry_out(&step, Some(&mut inside));
            if let Some(member) = self.members.get_mut(&ticket) {
                member.devices.extend(step.undo_after(&done));
            }
            done.map_err(|error| format!("cannot {step}: {error}"))?;
        }
        if let Some(member) = self.members.get_mut(&ticket) {
            member.stage = Stage::Joined;
        }
        self.names.confirm()
    }

    /// Its names are answered and its ports lead to it. It runs already: before it does
    /// without, all of this is tried again, with rules that are made anew.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn publish(&mut self, ticket: Ticket) -> Result<(), String> {
        self.try_to_publish(ticket).or_else(|_| {
            self.withdraw(ticket);
            self.try_to_settle()?;
            self.try_to_publish(ticket)
        })
    }

    fn try_to_publish(&mut self, ticket: Ticket) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&ticket) else {
            return Err("it has gone".to_owned());
        };
        if member.stage == Stage::Published {
            return Ok(());
        }
        if let Some(to) = member.behind_loopback() {
            member.loopback = self.doors.open(ticket, &member.wants.ports, to)?;
            self.doors.confirm()?;
        }
        let doors = member.doors();
        if !doors.is_empty() {
            let step = step::Step::Rules(doors);
            let done = self.host.carry_out(&step, None);
            member.published.extend(step.undo_after(&done));
            done.map_err(|error| format!("cannot {step}: {error}"))?;
        }
        member.stage = Stage::Published;
        let known = member.known();
        self.names.unit(ticket, known);
        self.forget_flows(ticket);
        self.names.confirm()
    }

    /// And no longer.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        let Some(member) = self.members.get_mut(&ticket) else { return };
        if member.stage == Stage::Published {
            member.stage = Stage::Joined;
            let known = member.known();
            self.names.unit(ticket, known);
        }
        let Some(member) = self.members.get_mut(&ticket) else { return };
        let mut published = std::mem::take(&mut member.published);
        member.loopback.clear();
        let was_published = !published.is_empty();
        self.undo_all(&mut published);
        self.doors.close(ticket);
        if was_published {
            self.forget_flows(ticket);
        }
    }

    /// Datagrams to its ports are led anew.
    fn forget_flows(&mut self, ticket: Ticket) {
        let Some(member) = self.members.get(&ticket) else { return };
        if let Err(text) = self.host.forget_flows(&member.wants.ports) {
            let text = format!("{}: {text}", member.wants.name);
            self.complain(text);
        }
    }

    /// Gives back all that a unit has, from any point.
    pub(super) fn let_go(&mut self, ticket: Ticket) {
        self.withdraw(ticket);
        let Some(mut member) = self.members.remove(&ticket) else { return };
        self.names.gone(ticket);
        self.undo_all(&mut member.devices);
        for interface in &member.world.interfaces {
            let network = interface.made.network.name.clone();
            let leases = self.leases(&network);
            for address in &interface.addresses {
                leases.give_back(*address);
            }
            self.exit(&network);
        }
        self.tidy();
        self.mark();
    }

    /// Takes over what an earlier keeper has given to a unit.
    pub(super) fn adopt(&mut self, ticket: Ticket, wants: Wants, world: World, stage: Stage) {
        let mut member = Member::new(wants);
        for interface in &world.interfaces {
            self.adopt_network(&interface.made);
            let leases = self.leases(&interface.made.network.name);
            for address in &interface.addresses {
                leases.hold(&member.wants.name, *address);
            }
            let steps = step::interface(&self.tag, &member.wants.name, interface);
            if stage != Stage::Assigned {
                member.devices.extend(steps.iter().filter_map(step::Step::undo));
            }
        }
        member.world = world;
        member.stage = stage;
        if stage == Stage::Published {
            if let Some(to) = member.behind_loopback() {
                match self.doors.open(ticket, &member.wants.ports, to) {
                    Ok(elements) => member.loopback = elements,
                    Err(text) => self.complain(format!("{}: {text}", member.wants.name)),
                }
            }
            let doors = Some(member.doors()).filter(|doors| !doors.is_empty());
            member.published.extend(doors.map(Undo::Rules));
        }
        match ports::reserve(&member.wants.ports) {
            Ok(reserved) => member.reserved = reserved,
            Err(text) => self.complain(format!("{}: {text}", member.wants.name)),
        }
        self.names.unit(ticket, member.known());
        self.members.insert(ticket, member);
    }
}
