//! Networks on this host: each is made for its first unit and removed with its last.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Keeper;
use crate::network::plan::element::Element;
use crate::network::plan::leases::Leases;
use crate::network::plan::names::Tag;
use crate::network::plan::rules;
use crate::network::plan::step::{self, Undo};
use crate::network::plan::{Made, Part, subnets};
use crate::unit::model::{self, Driver, Subnet};

/// A network that is there.
#[derive(Debug)]
pub struct Network {
    /// How it was made.
    pub made: Made,
    /// How many units are in it.
    pub users: u32,
    undo: Vec<Undo>,
}

impl Network {
    /// What of it is in the rules and among the devices.
    pub fn leaves(
        &self,
        tag: &Tag,
        elements: &mut BTreeSet<Element>,
        devices: &mut BTreeSet<String>,
    ) {
        elements.extend(rules::of_network(tag, &self.made));
        if self.made.has_bridge() {
            devices.insert(tag.bridge(self.made.number));
        }
    }
}

impl Keeper {
    /// Makes a network if it is not there, and counts one user more.
    ///
    /// # Errors
    /// One sentence; then nothing of it was made.
    pub(super) fn enter(&mut self, definition: &model::Network) -> Result<Made, String> {
        if let Some(network) = self.networks.get_mut(&definition.name) {
            network.users = network.users.saturating_add(1);
            return Ok(network.made.clone());
        }
        let made = self.design(definition)?;
        let mut undo = Vec::new();
        for step in step::network(&self.tag, &made) {
            let done = self.host.carry_out(&step, None);
            undo.extend(step.undo_after(&done));
            if let Err(error) = done {
                self.undo_all(&mut undo);
                return Err(format!("network {}: cannot {step}: {error}", definition.name));
            }
        }
        if made.has_bridge()
            && let Err(text) = self.names.listen(&made)
        {
            self.names.deaf(made.number);
            self.undo_all(&mut undo);
            return Err(format!("network {}: {text}", definition.name));
        }
        let network = Network { made: made.clone(), users: 1, undo };
        self.networks.insert(definition.name.clone(), network);
        Ok(made)
    }

    /// One user less; the network goes with the last.
    pub(super) fn exit(&mut self, name: &str) {
        let Some(network) = self.networks.get_mut(name) else { return };
        network.users = network.users.saturating_sub(1);
        if network.users == 0
            && let Some(mut network) = self.networks.remove(name)
        {
            self.names.deaf(network.made.number);
            self.undo_all(&mut network.undo);
        }
    }

    /// Takes a network that an earlier keeper has made into the books, with one user more.
    pub(super) fn adopt_network(&mut self, made: &Made) {
        let name = made.network.name.clone();
        if let Some(network) = self.networks.get_mut(&name) {
            network.users = network.users.saturating_add(1);
            return;
        }
        let undo: Vec<Undo> =
            step::network(&self.tag, made).iter().filter_map(step::Step::undo).collect();
        for step in &undo {
            if let Undo::Forward { ipv6 } = step {
                self.host.forwarding.adopt(*ipv6);
            }
        }
        if made.has_bridge()
            && let Err(text) = self.names.listen(made)
        {
            self.complain(format!("network {name}: {text}"));
        }
        self.networks.insert(name, Network { made: made.clone(), users: 1, undo });
    }

    /// Undoes steps, the last one first, as far as that is possible: what is not is left to
    /// [`Keeper::tidy`].
    pub(super) fn undo_all(&mut self, undo: &mut Vec<Undo>) {
        while let Some(step) = undo.pop() {
            if let Err(text) = self.host.undo(&step) {
                self.complain(text);
                self.untidy = true;
            }
        }
    }

    /// A number and subnets for a network.
    fn design(&mut self, definition: &model::Network) -> Result<Made, String> {
        let number = (0..u32::MAX)
            .find(|number| self.networks.values().all(|network| network.made.number != *number));
        let number = number.ok_or("there are too many networks")?;
        let mut taken = self.host.routes()?;
        taken.extend(self.networks.values().flat_map(|it| &it.made.subnets).map(|it| it.subnet));
        let name = &definition.name;
        let four = if let Some(subnet) = definition.subnet {
            checked(definition, subnet, &taken)?
        } else {
            let last = self.leases(name).chosen;
            let chosen = subnets::choose(last, &taken);
            let none = || format!("network {name}: no subnet is free: give it a `subnet`");
            let chosen = chosen.ok_or_else(none)?;
            self.leases(name).chosen = Some(chosen);
            chosen
        };
        let six = match definition.subnet6 {
            _ if !definition.ipv6 => None,
            Some(subnet) => Some(checked(definition, subnet, &taken)?),
            None => subnets::derive(&self.tag, name, &taken),
        };
        let part = |subnet: Subnet, gateway: Option<IpAddr>| {
            let gateway = gateway.or_else(|| subnet.host(1))?;
            Some(Part { subnet, gateway })
        };
        let four = part(four, definition.gateway);
        let six = six.and_then(|six| part(six, definition.gateway6));
        Ok(Made {
            network: definition.clone(),
            number,
            subnets: four.into_iter().chain(six).collect(),
        })
    }

    /// The leases of a network, read from the disk when they are first needed.
    pub(super) fn leases(&mut self, network: &str) -> &mut Leases {
        if !self.leases.contains_key(network) {
            let text = self.host.papers.get(&leases_file(network)).unwrap_or_default();
            let leases = Leases::decode(text);
            self.leases.insert(network.to_owned(), leases);
        }
        // One that was never written is as good as an empty one.
        self.leases.entry(network.to_owned()).or_default()
    }

    /// Writes the leases of a network down.
    pub(super) fn write_leases(&mut self, network: &str) {
        let text = self.leases(network).encode();
        self.host.papers.put(&leases_file(network), Some(&text));
    }
}

fn leases_file(network: &str) -> String {
    format!("leases-{network}")
}

/// A subnet that the host has no other route into.
fn checked(
    definition: &model::Network,
    subnet: Subnet,
    taken: &[Subnet],
) -> Result<Subnet, String> {
    // A wider route, as of a VPN, is left by the more special one.
    let same = |other: &&Subnet| other.overlaps(&subnet) && other.prefix >= subnet.prefix;
    match taken.iter().find(same).filter(|_| definition.driver == Driver::Bridge) {
        Some(other) => {
            let name = &definition.name;
            Err(format!("network {name}: {subnet} meets {other}, to which the host has a route"))
        }
        None => Ok(subnet),
    }
}
