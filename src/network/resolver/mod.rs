//! The resolver: answers names of units at the gateway of each network, and passes all
//! other questions on to the servers of the host.
//!
//! A child of the keeper, which hands it the sockets: it has no capabilities, no privileges
//! and nobody's user, because it reads what units send. One thread waits for datagrams and
//! for the keeper; each connection has a thread of its own, of which there are few. What
//! must hold: a question costs a bounded amount of memory for a bounded time, and what the
//! keeper says is in force before it is confirmed.

mod forward;
pub mod message;
mod stream;
pub mod zone;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::confine;
use super::wire::{self, Heard, Received, Ticket};
use crate::unit::model::Subnet;
use forward::Forwarder;
use message::Code;
use zone::{Known, Verdict, Zone};

/// What the keeper says. Each is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// Answer on the socket that comes along.
    Listen {
        /// For which network.
        network: u32,
        /// Its addresses.
        subnets: Vec<Subnet>,
        /// Whether the socket is for connections.
        stream: bool,
    },
    /// A network has gone.
    Deaf {
        /// Which.
        network: u32,
    },
    /// A unit, new or changed.
    Unit {
        /// Which.
        ticket: Ticket,
        /// Its names.
        known: Known,
    },
    /// A unit has gone.
    Gone {
        /// Which.
        ticket: Ticket,
    },
}

/// Datagrams taken from one socket before others have their turn.
const A_TURN: usize = 64;

/// The zone, as threads share it.
type Shared = Arc<Mutex<Zone>>;

fn locked(zone: &Shared) -> MutexGuard<'_, Zone> {
    // A thread that panicked has left whole entries: each change is one insertion.
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Resolver {
    keeper: OwnedFd,
    zone: Shared,
    sockets: BTreeMap<u32, Vec<Arc<UdpSocket>>>,
    listeners: BTreeMap<u32, Vec<TcpListener>>,
    forwarder: Forwarder,
    streams: stream::Streams,
}

/// The whole life of the resolver; its exit code. To be called with one thread.
pub fn run(keeper: OwnedFd) -> i32 {
    if confine::helper(confine::Files::Read).is_err() {
        return 1;
    }
    let mut resolver = Resolver {
        keeper,
        zone: Shared::default(),
        sockets: BTreeMap::new(),
        listeners: BTreeMap::new(),
        forwarder: Forwarder::default(),
        streams: stream::Streams::default(),
    };
    while let Ok(true) = resolver.turn() {}
    0
}

impl Resolver {
    /// One turn; false when the keeper has gone.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.wait()?;
        if ready.contains(&self.keeper_number()) && !self.listen_to_keeper()? {
            return Ok(false);
        }
        self.forwarder.turn();
        let sockets: Vec<(u32, Arc<UdpSocket>)> = self
            .sockets
            .iter()
            .flat_map(|(network, sockets)| sockets.iter().map(|it| (*network, it.clone())))
            .collect();
        for (network, socket) in sockets {
            self.take_datagrams(network, &socket);
        }
        for (network, listener) in
            self.listeners.iter().flat_map(|(it, all)| all.iter().map(|one| (*it, one)))
        {
            self.streams.accept(network, listener, &self.zone);
        }
        Ok(true)
    }

    fn keeper_number(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.keeper.as_raw_fd()
    }

    /// Waits for anything; the numbers of what is ready.
    fn wait(&self) -> io::Result<Vec<i32>> {
        use std::os::fd::AsRawFd;
        let mut all = vec![self.keeper.as_fd()];
        all.extend(self.sockets.values().flatten().map(|socket| socket.as_fd()));
        all.extend(self.listeners.values().flatten().map(AsFd::as_fd));
        all.extend(self.forwarder.sockets());
        let mut fds: Vec<PollFd<'_>> =
            all.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let timeout = self.forwarder.timeout();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = all.iter().zip(&fds).filter(|(_, it)| !it.revents().is_empty());
        Ok(ready.map(|(fd, _)| fd.as_raw_fd()).collect())
    }

    fn listen_to_keeper(&mut self) -> io::Result<bool> {
        match wire::receive::<Say>(self.keeper.as_fd())? {
            Received::Message(say, descriptor) => {
                self.obey(say, descriptor)?;
                wire::send(self.keeper.as_fd(), &Heard { done: true }, None)?;
                Ok(true)
            }
            Received::Nothing => Ok(true),
            Received::Closed => Ok(false),
        }
    }

    fn obey(&mut self, say: Say, descriptor: Option<OwnedFd>) -> io::Result<()> {
        match say {
            Say::Listen { network, subnets, stream } => {
                locked(&self.zone).subnets.insert(network, subnets);
                match (descriptor, stream) {
                    (Some(socket), true) => {
                        let listener = TcpListener::from(socket);
                        listener.set_nonblocking(true)?;
                        self.listeners.entry(network).or_default().push(listener);
                    }
                    (Some(socket), false) => {
                        let socket = UdpSocket::from(socket);
                        socket.set_nonblocking(true)?;
                        self.sockets.entry(network).or_default().push(Arc::new(socket));
                    }
                    (None, _) => {}
                }
            }
            Say::Deaf { network } => {
                locked(&self.zone).subnets.remove(&network);
                self.sockets.remove(&network);
                self.listeners.remove(&network);
            }
            Say::Unit { ticket, known } => {
                locked(&self.zone).units.insert(ticket, known);
            }
            Say::Gone { ticket } => {
                locked(&self.zone).units.remove(&ticket);
            }
        }
        Ok(())
    }

    fn take_datagrams(&mut self, network: u32, socket: &Arc<UdpSocket>) {
        let mut buffer = [0; message::LARGEST];
        for _ in 0..A_TURN {
            let Ok((length, asker)) = socket.recv_from(&mut buffer) else { return };
            let bytes = buffer.get(..length).unwrap_or_default();
            let answer = match message::parse(bytes) {
                Ok(question) => {
                    let verdict = locked(&self.zone).judge(plain(asker.ip()), network, &question);
                    match verdict {
                        Verdict::Answer(code, records) => {
                            Some(message::answer(&question, code, &records, question.limit))
                        }
                        Verdict::Forward => {
                            self.forwarder.forward(bytes, question, asker, socket.clone())
                        }
                    }
                }
                Err(code) => code.and_then(|code| message::bare(bytes, code)),
            };
            if let Some(answer) = answer {
                // One that is lost is asked for again.
                let _ = socket.send_to(&answer, asker);
            }
        }
    }
}

/// An IPv4 address is one, however a socket writes it.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The failure to be told when nobody outside answers.
fn failed(question: &message::Question) -> Vec<u8> {
    message::answer(question, Code::Failed, &[], question.limit)
}
