//! What the keeper's books say, for people and programs: `Network` of the control protocol,
//! as JSON.

use std::io;

use serde_json::{Value, json};

use super::Keeper;
use super::members::Member;
use super::networks::Network;
use crate::network::plan::{Interface, element, rules};
use crate::network::wire::{Report, Stage};
use crate::unit::model::Driver;

/// Most units in one part of a network: a part must fit into a message.
const UNITS: usize = 32;

impl Keeper {
    /// One report for each part of a network, and an empty one at the end.
    pub(super) fn show(&self, client: u64) -> io::Result<()> {
        for network in self.networks.values() {
            let mut units: Vec<(&Member, &Interface)> = Vec::new();
            for member in self.members.values() {
                let own = |it: &&Interface| it.made.number == network.made.number;
                let interfaces = member.world.interfaces.iter().filter(own);
                units.extend(interfaces.map(|interface| (member, interface)));
            }
            units.sort_by(|a, b| a.0.wants.name.cmp(&b.0.wants.name));
            let mut parts: Vec<&[(&Member, &Interface)]> = units.chunks(UNITS).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            for (number, part) in parts.into_iter().enumerate() {
                let text = self.describe(network, part, number == 0).to_string();
                self.report(&Report::Shown { client, text })?;
            }
        }
        self.report(&Report::Shown { client, text: String::new() })
    }

    fn describe(&self, network: &Network, units: &[(&Member, &Interface)], first: bool) -> Value {
        let made = &network.made;
        let definition = &made.network;
        let driver = match definition.driver {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        };
        let mut elements = Vec::new();
        if first {
            elements.extend(rules::of_network(&self.tag, made));
        }
        elements.extend(units.iter().flat_map(|(_, it)| rules::of_interface(&self.tag, it)));
        let subnets: Vec<String> = made.subnets.iter().map(|it| it.subnet.to_string()).collect();
        let gateways: Vec<String> = made.subnets.iter().map(|it| it.gateway.to_string()).collect();
        let rules: Vec<String> =
            element::change(&self.tag, "add", &elements).lines().map(str::to_owned).collect();
        json!({
            "name": definition.name,
            "driver": driver,
            "device": made.has_bridge().then(|| self.tag.bridge(made.number)),
            "internal": definition.internal,
            "subnets": subnets,
            "gateways": gateways,
            "units": units.iter().map(|(member, it)| unit(member, it)).collect::<Vec<_>>(),
            "rules": rules,
        })
    }
}

fn unit(member: &Member, interface: &Interface) -> Value {
    let entrance = member.world.entrance() == Some(interface);
    let ports = member.wants.ports.iter().filter(|_| entrance);
    json!({
        "unit": member.wants.name,
        "device": interface.device,
        "addresses": interface.addresses,
        "aliases": interface.aliases,
        "ports": ports.map(ToString::to_string).collect::<Vec<_>>(),
        "published": member.stage == Stage::Published,
    })
}
