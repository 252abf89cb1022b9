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

use crate::network::plan::Made;
use crate::network::resolver::zone::Known;
use crate::network::resolver::{self, Heard, Say};
use crate::network::wire::{self, Received, Ticket};
use crate::sys::{fd, fork, pidfd, reap, signal, socket};
use crate::unit::model::Subnet;

/// How long the resolver may take to hear, in milliseconds.
const PATIENCE: i32 = 2000;

/// Where names are asked for.
const PORT: u16 = 53;

/// A network's sockets.
#[derive(Debug)]
struct Listening {
    subnets: Vec<Subnet>,
    /// Each with whether it is for connections.
    sockets: Vec<(OwnedFd, bool)>,
}

/// A resolver that runs.
#[derive(Debug)]
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    since: Instant,
    /// How many messages it has not confirmed yet.
    unheard: usize,
}

/// Most messages that are not confirmed: neither side's queue is ever full, so that neither
/// waits for the other to read.
const AHEAD: usize = 16;

/// A resolver that ends sooner than this after its start is replaced only after this time.
const PAUSE: Duration = Duration::from_millis(200);

/// All that the resolver knows.
#[derive(Debug, Default)]
pub struct Names {
    child: Option<Child>,
    networks: BTreeMap<u32, Listening>,
    units: BTreeMap<Ticket, Known>,
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
            tell(self.child.as_mut(), &say, Some(socket.as_fd()));
        }
        self.networks.insert(made.number, listening);
        self.confirm()
    }

    /// No longer.
    pub fn deaf(&mut self, network: u32) {
        if self.networks.remove(&network).is_some() {
            // Until then it has the sockets, and nobody else can have their addresses.
            let told = tell(self.child.as_mut(), &Say::Deaf { network }, None);
            if !(told && self.child.as_mut().is_some_and(Child::confirm)) {
                self.end();
            }
        }
        if self.networks.is_empty() {
            self.end();
        }
    }

    /// Tells of a unit. Who does not hear it is replaced when it is to be confirmed.
    pub fn unit(&mut self, ticket: Ticket, known: Known) {
        let say = Say::Unit { ticket, known: known.clone() };
        self.units.insert(ticket, known);
        tell(self.child.as_mut(), &say, None);
    }

    /// A unit has gone.
    pub fn gone(&mut self, ticket: Ticket) {
        if self.units.remove(&ticket).is_some() {
            tell(self.child.as_mut(), &Say::Gone { ticket }, None);
        }
    }

    /// Waits until all that was told is in force.
    ///
    /// # Errors
    /// One sentence: there is no resolver.
    pub fn confirm(&mut self) -> Result<(), String> {
        let needless = self.networks.is_empty();
        if needless || self.child.as_mut().is_some_and(Child::confirm) {
            return Ok(());
        }
        self.restart()
    }

    /// Whether one is needed and there is none.
    pub fn is_missing(&self) -> bool {
        !self.networks.is_empty() && self.child.is_none()
    }

    /// Whether the resolver was started only just now.
    pub fn is_young(&self) -> bool {
        self.child.as_ref().is_some_and(|child| child.since.elapsed() < PAUSE)
    }

    /// Becomes readable when the resolver has ended.
    pub fn end_of_child(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.pidfd.as_fd())
    }

    /// A new resolver, if there is none and one is needed.
    ///
    /// # Errors
    /// One sentence.
    pub fn revive(&mut self) -> Result<(), String> {
        let ended = |child: &Child| pidfd::has_ended(child.pidfd.as_fd()).unwrap_or(true);
        if self.networks.is_empty() || self.child.as_ref().is_some_and(|child| !ended(child)) {
            return Ok(());
        }
        self.restart()
    }

    fn restart(&mut self) -> Result<(), String> {
        self.end();
        let mut child = start().map_err(|error| format!("cannot start the resolver: {error}"))?;
        let mut heard = true;
        for (&network, listening) in &self.networks {
            for (socket, stream) in &listening.sockets {
                let (subnets, stream) = (listening.subnets.clone(), *stream);
                let say = Say::Listen { network, subnets, stream };
                heard &= tell(Some(&mut child), &say, Some(socket.as_fd()));
            }
        }
        for (&ticket, known) in &self.units {
            heard &= tell(Some(&mut child), &Say::Unit { ticket, known: known.clone() }, None);
        }
        heard &= child.confirm();
        self.child = Some(child);
        if heard { Ok(()) } else { Err("the resolver does not answer".to_owned()) }
    }

    /// Ends the resolver.
    pub fn end(&mut self) {
        let Some(child) = self.child.take() else { return };
        // It may have ended by itself.
        let _ = pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL);
        let _ = fd::readable_within(child.pidfd.as_fd(), PATIENCE);
        let _ = reap::reap(child.pid);
    }
}

fn start() -> io::Result<Child> {
    let (ours, theirs) = socket::seqpacket_pair()?;
    let keep = [theirs.as_fd()];
    let options = fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
    let process = fork::child(&options, || {
        // For people who look at `ps`; nothing depends on it.
        let _ = rustix::thread::set_name(c"berth-resolver");
        match signal::ignore_all().and_then(|()| theirs.try_clone()) {
            Ok(socket) => resolver::run(socket),
            Err(_) => 1,
        }
    })?;
    let (pid, pidfd) = (process.pid, process.pidfd);
    Ok(Child { pid, pidfd, socket: ours, since: Instant::now(), unheard: 0 })
}

impl Child {
    /// Waits until it has heard everything; false if it does not answer.
    fn confirm(&mut self) -> bool {
        let socket = self.socket.as_fd();
        while self.unheard > 0 {
            let heard = fd::readable_within(socket, PATIENCE).unwrap_or(false)
                && matches!(wire::receive::<Heard>(socket), Ok(Received::Message(..)));
            if !heard {
                return false;
            }
            self.unheard = self.unheard.saturating_sub(1);
        }
        true
    }
}

/// Tells the resolver; false if there is none that listens. What it does not hear makes it
/// be replaced at the next [`Names::confirm`].
fn tell(child: Option<&mut Child>, say: &Say, descriptor: Option<BorrowedFd<'_>>) -> bool {
    let Some(child) = child else { return false };
    if child.unheard >= AHEAD && !child.confirm() {
        return false;
    }
    child.unheard = child.unheard.saturating_add(1);
    wire::send(child.socket.as_fd(), say, descriptor).is_ok()
}
