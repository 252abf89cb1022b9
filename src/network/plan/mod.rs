//! What is to be made, decided without touching anything: addresses ([`leases`],
//! [`subnets`]), device names ([`names`]), the rules of the packet filter ([`rules`]) and what
//! their sets hold ([`element`]), the steps ([`step`]) and the files that units see
//! ([`files`]). Tests read the plans.

pub mod element;
pub mod files;
pub mod leases;
pub mod names;
pub mod rules;
pub mod step;
pub mod subnets;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::unit::model::{Driver, Network, Subnet};

/// A network as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// As it was defined.
    pub network: Network,
    /// Its number, which names its bridge.
    pub number: u32,
    /// Its subnets, of which it has at least one.
    pub subnets: Vec<Part>,
}

/// One family of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// All addresses.
    pub subnet: Subnet,
    /// The way out: with a bridge, the host's own address.
    pub gateway: IpAddr,
}

impl Made {
    /// Whether its units are connected by a bridge.
    pub fn has_bridge(&self) -> bool {
        self.network.driver == Driver::Bridge
    }
}

/// A unit's device in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The network.
    pub made: Made,
    /// The number of its port at the bridge.
    pub port: u32,
    /// Its name inside.
    pub device: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its addresses, one of each family at most.
    pub addresses: Vec<IpAddr>,
    /// Its further names.
    pub aliases: Vec<String>,
    /// Whether it is the way out.
    pub way_out: bool,
}

impl Interface {
    /// Its addresses with what they are part of.
    pub fn parts(&self) -> impl Iterator<Item = (IpAddr, &Part)> {
        self.addresses.iter().filter_map(|address| {
            let part = self.made.subnets.iter().find(|part| part.subnet.contains(*address))?;
            Some((*address, part))
        })
    }
}

/// What a unit has got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// In the order of its networks.
    pub interfaces: Vec<Interface>,
    /// The files that its processes see: path and text.
    pub files: Vec<(String, String)>,
}

impl World {
    /// The interface by which others reach its published ports.
    pub fn entrance(&self) -> Option<&Interface> {
        let leads_in = |it: &&Interface| it.made.has_bridge() && !it.made.network.internal;
        self.interfaces.iter().find(leads_in)
    }
}
