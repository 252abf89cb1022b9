//! The keeper's side of the forwarder: ports that are published at `::1`.
//!
//! The kernel leads no packet from `::1` to another device, so a packet to such a port is led
//! to a socket on the same device, at a port that the kernel chooses, and from there a process
//! of ours carries what comes. The sockets stay open here, so that connections wait while one
//! forwarder follows another.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use super::helper::{Helper, Watch};
use crate::network::forwarder::{self, Say};
use crate::network::plan::element::Element;
use crate::network::wire::Ticket;
use crate::unit::model::{Port, Protocol};

/// One port at `::1`.
#[derive(Debug)]
struct Door {
    socket: OwnedFd,
    protocol: Protocol,
    to: SocketAddr,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Doors {
    child: Option<Helper>,
    open: BTreeMap<Ticket, Vec<Door>>,
}

const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn bind(protocol: Protocol) -> io::Result<(OwnedFd, u16)> {
    let any = SocketAddr::new(HERE, 0);
    match protocol {
        Protocol::Tcp => {
            let socket = TcpListener::bind(any)?;
            let port = socket.local_addr()?.port();
            Ok((socket.into(), port))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(any)?;
            let port = socket.local_addr()?.port();
            Ok((socket.into(), port))
        }
    }
}

impl Doors {
    /// Opens what of these ports is to be reached by `::1`, to a unit's address; the elements
    /// that lead there.
    ///
    /// # Errors
    /// One sentence: a port is only for `::1`, and the host has no such address.
    pub fn open(
        &mut self,
        ticket: Ticket,
        ports: &[Port],
        to: IpAddr,
    ) -> Result<Vec<Element>, String> {
        let mut doors = Vec::new();
        let mut elements = Vec::new();
        let reached = ports.iter().filter(|port| port.address.is_none_or(|it| it == HERE));
        for port in reached {
            for (number, inside) in port.pairs() {
                let protocol = port.protocol;
                let (socket, own) = match bind(protocol) {
                    Ok(bound) => bound,
                    // A host without IPv6: nobody asks there.
                    Err(_) if port.address.is_none() => continue,
                    Err(error) => return Err(format!("cannot listen at {HERE}: {error}")),
                };
                doors.push(Door { socket, protocol, to: SocketAddr::new(to, inside) });
                let (address, to, port, inside) = (Some(HERE), HERE, number, own);
                elements.push(Element::Published { address, protocol, port, to, inside });
            }
        }
        if !doors.is_empty() {
            if let Some(child) = &mut self.child {
                for door in &doors {
                    child.tell(&door.say(ticket), Some(door.socket.as_fd()));
                }
            }
            self.open.insert(ticket, doors);
        }
        Ok(elements)
    }

    /// Closes those of a unit, and what goes on through them.
    pub fn close(&mut self, ticket: Ticket) {
        if self.open.remove(&ticket).is_none() {
            return;
        }
        if self.open.is_empty() {
            self.child = None;
        } else if let Some(child) = &mut self.child {
            child.tell(&Say::Close { ticket }, None);
        }
    }

    /// Waits until all that was told is in force.
    ///
    /// # Errors
    /// One sentence: there is no forwarder.
    pub fn confirm(&mut self) -> Result<(), String> {
        if self.open.is_empty() || self.child.as_mut().is_some_and(Helper::confirm) {
            return Ok(());
        }
        self.restart()
    }

    /// What is to be waited for.
    pub fn watch(&self) -> Watch<'_> {
        Helper::watch(self.child.as_ref(), !self.open.is_empty())
    }

    /// A new forwarder, if there is none and one is needed.
    ///
    /// # Errors
    /// One sentence.
    pub fn revive(&mut self) -> Result<(), String> {
        let runs = self.child.as_ref().is_some_and(|child| !child.has_ended());
        if runs || self.open.is_empty() { Ok(()) } else { self.restart() }
    }

    fn restart(&mut self) -> Result<(), String> {
        self.child = None;
        let mut child = Helper::start(c"berth-forward", forwarder::run)
            .map_err(|error| format!("cannot start the forwarder of {HERE}: {error}"))?;
        let mut heard = true;
        for (ticket, door) in
            self.open.iter().flat_map(|(it, all)| all.iter().map(|one| (*it, one)))
        {
            heard &= child.tell(&door.say(ticket), Some(door.socket.as_fd()));
        }
        heard &= child.confirm();
        self.child = Some(child);
        if heard { Ok(()) } else { Err(format!("the forwarder of {HERE} does not answer")) }
    }
}

impl Door {
    fn say(&self, ticket: Ticket) -> Say {
        Say::Open { ticket, protocol: self.protocol, to: self.to }
    }
}
