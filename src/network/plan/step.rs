//! The steps by which networks and devices are made, and how each is undone.
//!
//! What must hold: a list of steps that was carried out to any point is undone by the
//! undoing of those steps in reverse, and then nothing of it is left.

use std::fmt;
use std::net::IpAddr;

use super::element::Element;
use super::names::{Tag, mac};
use super::rules;
use super::{Interface, Made};
use crate::unit::model::Driver;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The kernel forwards packets of this family.
    Forward {
        /// Whether of IPv6.
        ipv6: bool,
    },
    /// A bridge, down.
    Bridge {
        /// Its name.
        name: String,
        /// Its hardware address.
        mac: [u8; 6],
        /// Its longest packet.
        mtu: Option<u32>,
        /// What people see beside it.
        alias: String,
    },
    /// A file below `/proc/sys/net`; goes with its device.
    Setting {
        /// Path below `/proc/sys/net`.
        path: String,
        /// What is written.
        value: &'static str,
    },
    /// An address of a device; goes with it.
    Address {
        /// The device.
        device: String,
        /// The address.
        address: IpAddr,
        /// Bits that its network has in common.
        prefix: u8,
    },
    /// A device is switched on.
    Up {
        /// The device.
        device: String,
    },
    /// Elements of the rules.
    Rules(Vec<Element>),
    /// A pair of devices: one at a bridge, one inside a unit.
    Pair {
        /// The host's end.
        port: String,
        /// Its bridge.
        bridge: String,
        /// What people see beside it.
        alias: String,
        /// The unit's end.
        interface: Interface,
    },
    /// A device of a unit on a device of the host; goes with the unit.
    OnParent {
        /// The unit's.
        interface: Interface,
    },
}

/// What undoes a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// A device goes.
    Remove(String),
    /// Elements go.
    Rules(Vec<Element>),
    /// One user of forwarding less.
    Forward {
        /// Whether of IPv6.
        ipv6: bool,
    },
}

impl Step {
    /// What undoes it, if it does not go by itself.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::Forward { ipv6 } => Some(Undo::Forward { ipv6: *ipv6 }),
            Self::Bridge { name, .. } => Some(Undo::Remove(name.clone())),
            Self::Pair { port, .. } => Some(Undo::Remove(port.clone())),
            Self::Rules(elements) => Some(Undo::Rules(elements.clone())),
            Self::Setting { .. }
            | Self::Address { .. }
            | Self::Up { .. }
            | Self::OnParent { .. } => None,
        }
    }
}

impl Step {
    /// What undoes it after it was tried: one that failed may have been done in part, or whole
    /// without the answer being heard. Forwarding is counted only if it was done.
    pub fn undo_after<E>(&self, done: &Result<(), E>) -> Option<Undo> {
        self.undo().filter(|undo| done.is_ok() || !matches!(undo, Undo::Forward { .. }))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { ipv6: false } => write!(f, "forward IPv4"),
            Self::Forward { ipv6: true } => write!(f, "forward IPv6"),
            Self::Bridge { name, .. } => write!(f, "make the bridge {name}"),
            Self::Setting { path, value } => write!(f, "set {path} to {value}"),
            Self::Address { device, address, prefix } => {
                write!(f, "give {device} the address {address}/{prefix}")
            }
            Self::Up { device } => write!(f, "switch {device} on"),
            Self::Rules(_) => write!(f, "change the rules of the packet filter"),
            Self::Pair { interface, .. } => {
                write!(f, "connect it to the network {}", interface.made.network.name)
            }
            Self::OnParent { interface } => {
                let network = &interface.made.network;
                let parent = network.parent.as_deref().unwrap_or("?");
                write!(f, "connect it to {parent} for the network {}", network.name)
            }
        }
    }
}

/// The steps that make a network. Nothing but its units has to do with one that has no
/// bridge.
pub fn network(tag: &Tag, made: &Made) -> Vec<Step> {
    let Some(first) = made.subnets.first().filter(|_| made.has_bridge()) else {
        return Vec::new();
    };
    let name = tag.bridge(made.number);
    let has = |ipv4: bool| made.subnets.iter().any(|part| part.gateway.is_ipv4() == ipv4);
    let mut steps = vec![Step::Rules(rules::of_network(tag, made))];
    for ipv6 in [false, true] {
        if !made.network.internal && has(!ipv6) {
            steps.push(Step::Forward { ipv6 });
        }
    }
    steps.push(Step::Bridge {
        name: name.clone(),
        mac: mac(first.gateway),
        mtu: made.network.mtu,
        alias: format!("berth: network {}", made.network.name),
    });
    let mut set = |path: String, value| steps.push(Step::Setting { path, value });
    // Answers are for addresses of this bridge alone; who claims another's route is not heard.
    for (key, value) in [
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
        ("accept_redirects", "0"),
        ("send_redirects", "0"),
        ("rp_filter", "1"),
    ] {
        set(format!("ipv4/conf/{name}/{key}"), value);
    }
    if !made.network.internal {
        // For published ports of 127.0.0.1; the rules keep units from the way back.
        set(format!("ipv4/conf/{name}/route_localnet"), "1");
    }
    if has(false) {
        for (key, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("accept_redirects", "0")] {
            set(format!("ipv6/conf/{name}/{key}"), value);
        }
    } else {
        set(format!("ipv6/conf/{name}/disable_ipv6"), "1");
    }
    for part in &made.subnets {
        let (address, prefix) = (part.gateway, part.subnet.prefix);
        steps.push(Step::Address { device: name.clone(), address, prefix });
    }
    steps.push(Step::Up { device: name });
    steps
}

/// The steps that make a unit's device: its rules are there before it is.
pub fn interface(tag: &Tag, unit: &str, interface: &Interface) -> Vec<Step> {
    let made = &interface.made;
    match made.network.driver {
        Driver::Bridge => vec![
            Step::Rules(rules::of_interface(tag, interface)),
            Step::Pair {
                port: tag.port(interface.port),
                bridge: tag.bridge(made.number),
                alias: format!("berth: {unit} in network {}", made.network.name),
                interface: interface.clone(),
            },
        ],
        Driver::Macvlan | Driver::Ipvlan => {
            vec![Step::OnParent { interface: interface.clone() }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;
    use crate::unit::model::Network;

    fn made(internal: bool, ipv6: bool) -> Made {
        let part = |subnet: &str, gateway: &str| Part {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let mut subnets = vec![part("10.89.0.0/24", "10.89.0.1")];
        if ipv6 {
            subnets.push(part("fd00::/64", "fd00::1"));
        }
        let network = Network { ipv6, internal, ..Network::new("front") };
        Made { network, number: 0, subnets }
    }

    #[test]
    fn an_internal_network_opens_nothing() {
        let tag = Tag::of("/run/berth");
        let steps = network(&tag, &made(true, true));
        let opens = |step: &Step| match step {
            Step::Forward { .. } => true,
            Step::Setting { path, .. } => path.ends_with("route_localnet"),
            Step::Rules(elements) => elements.iter().any(|it| matches!(it, Element::Open(_))),
            _ => false,
        };
        assert!(!steps.iter().any(opens), "{steps:?}");
        assert_eq!(network(&tag, &made(false, true)).iter().filter(|it| opens(it)).count(), 4);
    }

    #[test]
    fn without_ipv6_a_bridge_has_none() {
        let tag = Tag::of("/run/berth");
        let off = |steps: &[Step]| {
            steps.iter().any(|step| {
                matches!(step, Step::Setting { path, value: "1" } if path.ends_with("disable_ipv6"))
            })
        };
        assert!(off(&network(&tag, &made(false, false))));
        assert!(!off(&network(&tag, &made(false, true))));
    }

    #[test]
    fn rules_come_before_what_they_are_for_and_go_after_it() {
        let tag = Tag::of("/run/berth");
        let made = made(false, false);
        let device = Interface {
            made,
            port: 3,
            device: "eth0".to_owned(),
            mac: [2; 6],
            addresses: vec!["10.89.0.2".parse().unwrap()],
            aliases: Vec::new(),
            way_out: true,
        };
        let undone: Vec<_> =
            interface(&tag, "web", &device).iter().rev().filter_map(Step::undo).collect();
        let [Undo::Remove(port), Undo::Rules(elements)] = undone.as_slice() else {
            panic!("{undone:?}")
        };
        assert_eq!((port, elements.len()), (&tag.port(3), 2));
    }
}
