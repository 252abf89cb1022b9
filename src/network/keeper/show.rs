//! What the keeper's books say, for people and programs.

use std::io;

use serde_json::{Value, json};

use super::Keeper;
use super::networks::Network;
use crate::network::plan::rules;
use crate::network::wire::{Report, Stage};
use crate::unit::model::Driver;

impl Keeper {
    /// One report a network, and an empty one at the end.
    pub(super) fn show(&self, client: u64) -> io::Result<()> {
        for network in self.networks.values() {
            let text = self.describe(network).to_string();
            self.report(&Report::Shown { client, text })?;
        }
        self.report(&Report::Shown { client, text: String::new() })
    }

    fn describe(&self, network: &Network) -> Value {
        let made = &network.made;
        let definition = &made.network;
        let driver = match definition.driver {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        };
        let mut elements = rules::of_network(&self.tag, made);
        let mut units = Vec::new();
        for member in self.members.values() {
            let own = member.world.interfaces.iter().filter(|it| it.made.network == *definition);
            for interface in own {
                elements.extend(rules::of_interface(&self.tag, interface));
                let entrance = member.world.entrance() == Some(interface);
                let ports = member.wants.ports.iter().filter(|_| entrance);
                let ports: Vec<String> = ports.map(ToString::to_string).collect();
                units.push(json!({
                    "unit": member.wants.name,
                    "device": interface.device,
                    "addresses": interface.addresses,
                    "aliases": interface.aliases,
                    "ports": ports,
                    "published": member.stage == Stage::Published,
                }));
            }
        }
        let leases = self.leases.get(&definition.name);
        let leases = leases.into_iter().flat_map(|leases| leases.held());
        let leases: Vec<Value> =
            leases.map(|(address, unit)| json!({ "address": address, "unit": unit })).collect();
        let subnets: Vec<String> = made.subnets.iter().map(|it| it.subnet.to_string()).collect();
        let gateways: Vec<String> = made.subnets.iter().map(|it| it.gateway.to_string()).collect();
        let rules: Vec<String> =
            rules::change(&self.tag, "add", &elements).lines().map(str::to_owned).collect();
        json!({
            "name": definition.name,
            "driver": driver,
            "device": made.has_bridge().then(|| self.tag.bridge(made.number)),
            "internal": definition.internal,
            "subnets": subnets,
            "gateways": gateways,
            "units": units,
            "leases": leases,
            "rules": rules,
        })
    }
}
