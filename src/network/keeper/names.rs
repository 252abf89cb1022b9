//! The keeper's side of the resolver: its sockets, what it was told, and a new one if it
//! dies.
//!
//! The sockets stay open here, so that questions wait while one resolver follows another.
//! What is told is confirmed, but not waited for one by one. What must hold: after
//! [`Names::confirm`] all that was told is in force; a resolver that does not answer is
//! replaced.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::helper::{Helper, Watch};
use crate::network::plan::Made;
use crate::network::resolver::zone::Known;
use crate::network::resolver::{self, Say};
use crate::network::wire::Ticket;
use crate::unit::model::Subnet;

/// Where names are asked for.
const PORT: u16 = 53;

/// A network's sockets.
#[derive(Debug)]
struct Listening {
    subnets: Vec<Subnet>,
    /// Each with whether it is for connections.
    sockets: Vec<(OwnedFd, bool)>,
}

/// All that the resolver knows.
#[derive(Debug, Default)]
pub struct Names {
    child: Option<Helper>,
    networks: BTreeMap<u32, Listening>,
    units: BTreeMap<Ticket, Known>,
    /// All that an earlier keeper has left is told: before, nobody is to answer.
    complete: bool,
}

/// Longest wait for the resolver of a keeper that was killed: it ends with its keeper, but
/// not in the same moment, and holds the same sockets until then.
const PREDECESSOR: Duration = Duration::from_secs(1);

fn bind_in_time(address: IpAddr) -> io::Result<[(OwnedFd, bool); 2]> {
    let begun = Instant::now();
    loop {
        match bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PREDECESSOR =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn bind(address: IpAddr) -> io::Result<[(OwnedFd, bool); 2]> {
    let place = SocketAddr::new(address, PORT);
    let datagrams = UdpSocket::bind(place)?;
    let connections = TcpListener::bind(place)?;
    Ok([(datagrams.into(), false), (connections.into(), true)])
}

impl Names {
    /// Answers at the gateways of a network.
    ///
    /// # Errors
    /// One sentence.
    pub fn listen(&mut self, made: &Made) -> Result<(), String> {
        let mut sockets = Vec::new();
        for part in &made.subnets {
            let bound = bind_in_time(part.gateway).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "port 53 of {} is taken: a server of names on this host listens on all \
                     addresses",
                    part.gateway
                ),
                _ => format!("cannot listen on port 53 of {}: {error}", part.gateway),
            })?;
            sockets.extend(bound);
        }
        let subnets = made.subnets.iter().map(|part| part.subnet).collect();
        let listening = Listening { subnets, sockets };
        for (socket, stream) in &listening.sockets {
            let (subnets, stream) = (listening.subnets.clone(), *stream);
            let say = Say::Listen { network: made.number, subnets, stream };
            self.tell(&say, Some(socket.as_fd()));
        }
        self.networks.insert(made.number, listening);
        self.confirm()
    }

    /// No longer.
    pub fn deaf(&mut self, network: u32) {
        if self.networks.remove(&network).is_some() {
            // Until then it has the sockets, and nobody else can have their addresses.
            let told = self.tell(&Say::Deaf { network }, None);
            if !(told && self.child.as_mut().is_some_and(Helper::confirm)) {
                self.child = None;
            }
        }
        if self.networks.is_empty() {
            self.child = None;
        }
    }

    /// Tells of a unit. Who does not hear it is replaced when it is to be confirmed.
    pub fn unit(&mut self, ticket: Ticket, known: Known) {
        let say = Say::Unit { ticket, known: known.clone() };
        self.units.insert(ticket, known);
        self.tell(&say, None);
    }

    /// A unit has gone.
    pub fn gone(&mut self, ticket: Ticket) {
        if self.units.remove(&ticket).is_some() {
            self.tell(&Say::Gone { ticket }, None);
        }
    }

    /// From now on somebody answers: everything there was has been told.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Waits until all that was told is in force.
    ///
    /// # Errors
    /// One sentence: there is no resolver.
    pub fn confirm(&mut self) -> Result<(), String> {
        let needless = self.networks.is_empty() || !self.complete;
        if needless || self.child.as_mut().is_some_and(Helper::confirm) {
            return Ok(());
        }
        self.restart()
    }

    /// What is to be waited for.
    pub fn watch(&self) -> Watch<'_> {
        Helper::watch(self.child.as_ref(), self.complete && !self.networks.is_empty())
    }

    /// A new resolver, if there is none and one is needed.
    ///
    /// # Errors
    /// One sentence.
    pub fn revive(&mut self) -> Result<(), String> {
        let runs = self.child.as_ref().is_some_and(|child| !child.has_ended());
        if runs || !self.complete || self.networks.is_empty() { Ok(()) } else { self.restart() }
    }

    fn restart(&mut self) -> Result<(), String> {
        self.child = None;
        let mut child = Helper::start(c"berth-resolver", resolver::run)
            .map_err(|error| format!("cannot start the resolver: {error}"))?;
        // Who is called what comes first: with the sockets it begins to answer.
        let mut heard = true;
        for (&ticket, known) in &self.units {
            heard &= child.tell(&Say::Unit { ticket, known: known.clone() }, None);
        }
        for (&network, listening) in &self.networks {
            for (socket, stream) in &listening.sockets {
                let (subnets, stream) = (listening.subnets.clone(), *stream);
                let say = Say::Listen { network, subnets, stream };
                heard &= child.tell(&say, Some(socket.as_fd()));
            }
        }
        heard &= child.confirm();
        self.child = Some(child);
        if heard { Ok(()) } else { Err("the resolver does not answer".to_owned()) }
    }

    /// Tells the resolver; false if there is none that listens.
    fn tell(&mut self, say: &Say, descriptor: Option<BorrowedFd<'_>>) -> bool {
        self.child.as_mut().is_some_and(|child| child.tell(say, descriptor))
    }
}
