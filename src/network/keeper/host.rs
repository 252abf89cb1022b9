//! The host's networking in the keeper's hands: steps are carried out and undone here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::elements::{self, Change};
use super::flows;
use super::links::{self, End};
use super::nft;
use super::papers::Papers;
use super::settings::{self, Forwarding};
use crate::network::plan::Interface;
use crate::network::plan::element::{self, Element};
use crate::network::plan::names::Tag;
use crate::network::plan::rules;
use crate::network::plan::step::{Step, Undo};
use crate::sys::clone::namespace::NETWORK;
use crate::sys::namespace;
use crate::sys::netlink::Socket;
use crate::unit::model::{Driver, Port, Protocol, Subnet};

/// What the keeper holds of the host.
#[derive(Debug)]
pub struct Host {
    tag: Tag,
    links: Socket,
    /// The packet filter, or why there is none.
    filter: io::Result<Socket>,
    own: OwnedFd,
    /// Who needs forwarding.
    pub forwarding: Forwarding,
    /// The keeper's files.
    pub papers: Papers,
    /// What the sets of the rules hold; `None`: there are no tables.
    rules: Option<BTreeSet<Element>>,
    ipv6: bool,
}

/// A unit's network namespace.
#[derive(Debug)]
pub struct Inside {
    namespace: OwnedFd,
    links: Socket,
}

fn own_namespace() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// One sentence for an error of the kernel, with a hint where there is one.
fn explain(error: &io::Error, driver: Driver) -> String {
    match (error.raw_os_error(), driver) {
        (Some(libc::EPERM), _) => nft::NO_RIGHT.to_owned(),
        (Some(libc::EOPNOTSUPP), Driver::Ipvlan) => "this kernel has no ipvlan".to_owned(),
        (Some(libc::EOPNOTSUPP), Driver::Macvlan) => "this kernel has no macvlan".to_owned(),
        (Some(libc::EOPNOTSUPP), Driver::Bridge) => {
            "this kernel has no bridges or no pairs of devices (veth)".to_owned()
        }
        (Some(libc::ENODEV), Driver::Macvlan | Driver::Ipvlan) => {
            "there is no such device on the host".to_owned()
        }
        _ => error.to_string(),
    }
}

impl Host {
    /// Opens what is needed in the network namespace of the caller.
    ///
    /// # Errors
    /// As socket(2) and open(2).
    pub fn new(tag: Tag, directory: PathBuf) -> io::Result<Self> {
        Ok(Self {
            tag,
            links: Socket::route()?,
            filter: Socket::netfilter(),
            own: own_namespace()?,
            forwarding: Forwarding::default(),
            papers: Papers::new(directory),
            rules: None,
            ipv6: settings::has_ipv6(),
        })
    }

    /// Every subnet that a route leads to.
    ///
    /// # Errors
    /// One sentence.
    pub fn routes(&mut self) -> Result<Vec<Subnet>, String> {
        links::routes(&mut self.links).map_err(|error| format!("cannot list routes: {error}"))
    }

    /// Has the kernel forget where datagrams to these ports were led before.
    ///
    /// # Errors
    /// One sentence.
    pub fn forget_flows(&mut self, ports: &[Port]) -> Result<(), String> {
        if ports.iter().all(|port| port.protocol != Protocol::Udp) {
            return Ok(());
        }
        let local = links::local(&mut self.links);
        let filter = self.filter.as_mut().map_err(|error| explain(error, Driver::Bridge))?;
        let forgotten = local.and_then(|local| flows::forget(filter, ports, &local));
        forgotten.map_err(|error| {
            format!("datagrams that are on their way go on to where they went: {error}")
        })
    }

    /// Goes into the network namespace of a process to see what is needed, and back.
    ///
    /// # Errors
    /// `ESRCH`: it has ended. If the way back fails the process ends.
    pub fn look_inside(&self, process: BorrowedFd<'_>) -> io::Result<Inside> {
        namespace::enter(process, NETWORK)?;
        let opened = own_namespace().and_then(|namespace| {
            let links = Socket::route()?;
            Ok(Inside { namespace, links })
        });
        self.come_back();
        opened
    }

    fn come_back(&self) {
        if namespace::enter(self.own.as_fd(), NETWORK).is_err() {
            // Whatever came next would be done to a unit instead of the host. A new keeper
            // starts where it should.
            crate::sys::clone::exit(1);
        }
    }

    /// Carries out a step; `inside` is where a unit's devices go.
    ///
    /// # Errors
    /// One sentence. What a part of the step had made is gone again.
    pub fn carry_out(&mut self, step: &Step, inside: Option<&mut Inside>) -> Result<(), String> {
        let done = match step {
            Step::Rules(elements) => return self.add_rules(elements),
            Step::Forward { ipv6 } => return self.forward(*ipv6),
            Step::Bridge { name, mac, mtu, alias } => {
                let socket = &mut self.links;
                let made = links::bridge(socket, name, *mac, *mtu);
                made.and_then(|()| {
                    links::alias(socket, name, alias).or_else(|error| {
                        links::remove(socket, name)?;
                        Err(error)
                    })
                })
            }
            Step::Setting { path, value } => match settings::write(path, value) {
                // A kernel without IPv6 has nothing to switch off.
                Err(_) if !self.ipv6 && path.starts_with("ipv6/") => Ok(()),
                other => other,
            },
            Step::Address { device, address, prefix } => {
                links::address(&mut self.links, device, *address, *prefix)
            }
            Step::Up { device } => links::up(&mut self.links, device),
            Step::Pair { port, bridge, alias, interface } => {
                let Some(inside) = inside else { return Err("there is no unit".to_owned()) };
                self.pair(port, bridge, alias, interface, inside).or_else(|error| {
                    links::remove(&mut self.links, port)?;
                    Err(error)
                })
            }
            Step::OnParent { interface } => {
                let Some(inside) = inside else { return Err("there is no unit".to_owned()) };
                self.on_parent(interface, inside)
            }
        };
        let driver = match step {
            Step::OnParent { interface } => interface.made.network.driver,
            _ => Driver::Bridge,
        };
        done.map_err(|error| explain(&error, driver))
    }

    fn pair(
        &mut self,
        port: &str,
        bridge: &str,
        alias: &str,
        interface: &Interface,
        inside: &mut Inside,
    ) -> io::Result<()> {
        let namespace = inside.namespace.as_fd();
        let Interface { device, mac, .. } = interface;
        let end = End { namespace, device, mac: *mac, mtu: interface.made.network.mtu };
        // Where bridges are filtered as routers, a unit that asks for its own published port
        // is led back without ever leaving the bridge.
        let hairpin = settings::read("bridge/bridge-nf-call-iptables").is_ok_and(|it| it == "1");
        let port = links::Port { name: port, alias, bare: self.ipv6, hairpin };
        links::pair(&mut self.links, bridge, &port, &end)?;
        self.furnish(interface, inside)
    }

    fn on_parent(&mut self, interface: &Interface, inside: &mut Inside) -> io::Result<()> {
        let network = &interface.made.network;
        let parent = network.parent.as_deref().unwrap_or_default();
        let Interface { device, mac, .. } = interface;
        let namespace = inside.namespace.as_fd();
        let end = End { namespace, device, mac: *mac, mtu: network.mtu };
        links::on_parent(&mut self.links, network.driver, parent, &end)?;
        self.furnish(interface, inside)
    }

    /// What a unit's device has inside: settings, addresses, the way out.
    fn furnish(&self, interface: &Interface, inside: &mut Inside) -> io::Result<()> {
        let device = &interface.device;
        if self.ipv6 {
            namespace::enter(inside.namespace.as_fd(), NETWORK)?;
            let set = settings_inside(interface);
            self.come_back();
            set?;
        }
        let addresses = interface.parts().map(|(address, part)| (address, part.subnet.prefix));
        let ways_out = interface.parts().filter(|_| interface.way_out);
        let gateways = ways_out.map(|(_, part)| part.gateway);
        links::furnish(&mut inside.links, device, addresses, gateways)
    }

    fn forward(&mut self, ipv6: bool) -> Result<(), String> {
        let done = self.try_forward(ipv6);
        done.or_else(|error| {
            // Nobody counts as its user yet: what was begun is put back.
            if self.forwarding.put_back(&mut self.papers).map_err(|error| error.to_string())? {
                self.reload()?;
            }
            Err(error)
        })
    }

    fn try_forward(&mut self, ipv6: bool) -> Result<(), String> {
        // What it opens to strangers is closed first.
        let record =
            Forwarding::record(&mut self.papers, ipv6).map_err(|error| error.to_string())?;
        if record {
            self.reload()?;
        }
        self.forwarding.take(ipv6).map_err(|error| error.to_string())
    }

    fn add_rules(&mut self, elements: &[Element]) -> Result<(), String> {
        let had_tables = self.rules.is_some();
        let rules = self.rules.get_or_insert_default();
        let new: Vec<&Element> =
            elements.iter().filter(|element| rules.insert((*element).clone())).collect();
        let done =
            if had_tables { self.change_rules(Change::Add, elements) } else { self.reload() };
        done.inspect_err(|_| {
            if let Some(rules) = &mut self.rules {
                rules.retain(|element| !new.contains(&element));
            }
            if !had_tables {
                self.rules = None;
                // Perhaps they were made and only that was not heard; why they were not is
                // told already.
                let _ = nft::apply(&rules::removal(&self.tag));
            }
        })
    }

    /// Changes what the tables hold, which is in the books already.
    fn change_rules(&mut self, change: Change, elements: &[Element]) -> Result<(), String> {
        let filter = self.filter.as_mut().map_err(|error| explain(error, Driver::Bridge))?;
        match elements::apply(filter, &self.tag, change, elements) {
            // Somebody has removed the tables, or emptied them: they are made anew.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.reload(),
            other => other.map_err(|error| explain(&error, Driver::Bridge)),
        }
    }

    /// The tables anew, as they should be.
    fn reload(&mut self) -> Result<(), String> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let elements: Vec<Element> = rules.iter().cloned().collect();
        let mut text = rules::chains(&self.tag, Forwarding::router(&mut self.papers));
        text.push_str(&element::change(&self.tag, "add", &elements));
        nft::apply(&text)
    }

    /// Undoes a step. With the last rule the tables go.
    ///
    /// # Errors
    /// One sentence.
    pub fn undo(&mut self, undo: &Undo) -> Result<(), String> {
        match undo {
            Undo::Remove(device) => links::remove(&mut self.links, device)
                .map_err(|error| format!("cannot remove {device}: {error}")),
            Undo::Forward { ipv6 } => {
                let put_back = self.forwarding.give_back(&mut self.papers, *ipv6);
                let put_back =
                    put_back.map_err(|error| format!("cannot put forwarding back: {error}"))?;
                if put_back { self.reload() } else { Ok(()) }
            }
            Undo::Rules(elements) => {
                let Some(rules) = &mut self.rules else { return Ok(()) };
                rules.retain(|element| !elements.contains(element));
                if rules.is_empty() {
                    self.rules = None;
                    return nft::apply(&rules::removal(&self.tag));
                }
                self.change_rules(Change::Delete, elements)
            }
        }
    }

    /// After all there is has been told: what an earlier keeper has left goes, the rules are
    /// what they should be. `known` are the names of devices that stay.
    ///
    /// # Errors
    /// One sentence.
    pub fn settle(
        &mut self,
        elements: BTreeSet<Element>,
        known: &BTreeSet<String>,
    ) -> Result<(), String> {
        let mut failed = Vec::new();
        match links::names(&mut self.links) {
            Ok(devices) => {
                let tag = self.tag.clone();
                let strange = devices.into_iter().filter(|it| tag.owns(it) && !known.contains(it));
                failed.extend(strange.filter_map(|it| self.undo(&Undo::Remove(it)).err()));
            }
            Err(error) => failed.push(format!("cannot list devices: {error}")),
        }
        if let Err(error) = self.forwarding.put_back(&mut self.papers) {
            failed.push(format!("cannot put forwarding back: {error}"));
        }
        self.rules = Some(elements).filter(|elements| !elements.is_empty());
        let rules = match self.rules {
            Some(_) => self.reload(),
            None => nft::apply(&rules::removal(&self.tag)),
        };
        failed.extend(rules.err());
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

/// In the unit's namespace: with IPv6 only what berth gives it, without it none at all.
fn settings_inside(interface: &Interface) -> io::Result<()> {
    let set = |key: &str, value: &str| {
        settings::write(&format!("ipv6/conf/{}/{key}", interface.device), value)
    };
    if interface.addresses.iter().any(std::net::IpAddr::is_ipv6) {
        set("accept_ra", "0")?;
        set("accept_dad", "0")
    } else {
        set("disable_ipv6", "1")
    }
}
