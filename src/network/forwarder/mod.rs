//! The forwarder: carries what comes to a published port of `::1` to its unit, and back.
//!
//! Everything else that is published the kernel leads by itself; see `keeper/doors.rs` for
//! why this is not. A child of the keeper, which hands it the sockets: nobody's user, without
//! any rights, one thread. What must hold: what is on its way is bounded, in number and in
//! bytes; a slow reader slows its own writer and nobody else.

mod datagrams;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::confine;
use super::wire::{self, Heard, Received, Ticket};
use crate::unit::model::Protocol;
use datagrams::Datagrams;
use streams::Streams;

/// What the keeper says. Each is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// Carry what comes to the socket that comes along.
    Open {
        /// Whose.
        ticket: Ticket,
        /// Of what.
        protocol: Protocol,
        /// Where it is to go.
        to: SocketAddr,
    },
    /// A unit has gone: its sockets are closed, and all that goes through them.
    Close {
        /// Whose.
        ticket: Ticket,
    },
}

/// A socket to which somebody comes, and where that leads.
#[derive(Debug)]
struct Door<S> {
    ticket: Ticket,
    socket: S,
    to: SocketAddr,
}

/// What somebody waits for: a descriptor and its events.
type Interest<'a> = (BorrowedFd<'a>, PollFlags);

/// What has come to pass, by the number of the descriptor.
type Ready = BTreeMap<i32, PollFlags>;

struct Forwarder {
    keeper: OwnedFd,
    streams: Streams,
    datagrams: Datagrams,
}

/// The whole life of the forwarder; its exit code.
pub fn run(keeper: OwnedFd) -> i32 {
    if confine::helper(confine::Files::None).is_err() {
        return 1;
    }
    let (streams, datagrams) = (Streams::default(), Datagrams::default());
    let mut forwarder = Forwarder { keeper, streams, datagrams };
    while let Ok(true) = forwarder.turn() {}
    0
}

impl Forwarder {
    /// One turn; false when the keeper has gone.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.wait()?;
        if ready.contains_key(&self.keeper.as_raw_fd()) && !self.listen()? {
            return Ok(false);
        }
        self.streams.turn(&ready);
        self.datagrams.turn(&ready);
        Ok(true)
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut all: Vec<Interest<'_>> = vec![(self.keeper.as_fd(), PollFlags::IN)];
        self.streams.interests(&mut all);
        self.datagrams.interests(&mut all);
        let mut fds: Vec<PollFd<'_>> =
            all.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let nearest = self.streams.timeout().into_iter().chain(self.datagrams.timeout()).min();
        let timeout = nearest.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = all.iter().zip(&fds).filter(|(_, it)| !it.revents().is_empty());
        Ok(ready.map(|((fd, _), it)| (fd.as_raw_fd(), it.revents())).collect())
    }

    fn listen(&mut self) -> io::Result<bool> {
        match wire::receive::<Say>(self.keeper.as_fd())? {
            Received::Message(say, socket) => {
                self.obey(&say, socket)?;
                wire::send(self.keeper.as_fd(), &Heard { done: true }, None)?;
                Ok(true)
            }
            Received::Nothing => Ok(true),
            Received::Closed => Ok(false),
        }
    }

    fn obey(&mut self, say: &Say, socket: Option<OwnedFd>) -> io::Result<()> {
        match (say, socket) {
            (Say::Open { ticket, protocol, to }, Some(socket)) => {
                let (ticket, to) = (*ticket, *to);
                match protocol {
                    Protocol::Tcp => {
                        let socket = TcpListener::from(socket);
                        socket.set_nonblocking(true)?;
                        self.streams.open(Door { ticket, socket, to });
                    }
                    Protocol::Udp => {
                        let socket = UdpSocket::from(socket);
                        socket.set_nonblocking(true)?;
                        self.datagrams.open(Door { ticket, socket, to });
                    }
                }
            }
            (Say::Open { .. }, None) => {}
            (Say::Close { ticket }, _) => {
                self.streams.close(*ticket);
                self.datagrams.close(*ticket);
            }
        }
        Ok(())
    }
}
