//! The wire between the supervisor and the keeper: one message a packet of a
//! `SOCK_SEQPACKET` pair, postcard-encoded, with at most one descriptor.
//!
//! Orders are carried out in the order in which they are sent, and each that has an answer
//! is answered once. What must hold: the supervisor never waits; what the socket has no
//! room for it keeps.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::World;
use crate::sys::socket;
use crate::unit::model::{Membership, Port};

/// Longest message in bytes.
pub const MESSAGE: usize = 128 * 1024;

/// Most addresses that one order says are kept for others: half a message.
pub const AVOID_MAX: usize = 3000;

/// Which run of which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// The unit, as the supervisor numbers it.
    pub unit: u64,
    /// Its run.
    pub run: u64,
}

/// What a unit wants of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// Its name.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// The networks.
    pub memberships: Vec<Membership>,
    /// The ports.
    pub ports: Vec<Port>,
}

/// How far a unit had come that a new keeper is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It has its addresses.
    Assigned,
    /// Its devices are there.
    Joined,
    /// Its names and ports as well.
    Published,
}

/// What the keeper is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A unit that an earlier keeper has dealt with. Only before `Settled`; no answer.
    Adopt {
        /// Whose.
        ticket: Ticket,
        /// What it wanted.
        wants: Wants,
        /// What it got.
        world: World,
        /// How far it had come.
        stage: Stage,
    },
    /// All there is has been told: what belongs to none of it is removed. No answer.
    Settled,
    /// Make its networks, reserve addresses and ports. Answered by `Assigned`.
    Assign {
        /// Whose.
        ticket: Ticket,
        /// What.
        wants: Wants,
        /// Addresses that are kept for others, at most [`AVOID_MAX`].
        avoid: Vec<IpAddr>,
    },
    /// Make its devices in the network namespace of the process whose pidfd comes along.
    /// Answered by `Joined`.
    Join {
        /// Whose.
        ticket: Ticket,
    },
    /// It is ready: publish names and ports. Answered by `Published`.
    Publish {
        /// Whose.
        ticket: Ticket,
    },
    /// It is ready no longer. No answer.
    Withdraw {
        /// Whose.
        ticket: Ticket,
    },
    /// Its processes have ended: nothing of it is to be left. Answered by `Left`.
    Leave {
        /// Whose.
        ticket: Ticket,
    },
    /// Somebody wants to see. Answered by `Shown`.
    Show {
        /// Who asks.
        client: u64,
    },
}

/// What the keeper answers. Texts are one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// To `Assign`.
    Assigned {
        /// Whose.
        ticket: Ticket,
        /// What it has got, or why not.
        result: Result<World, String>,
    },
    /// To `Join`.
    Joined {
        /// Whose.
        ticket: Ticket,
        /// Whether.
        result: Result<(), String>,
    },
    /// To `Publish`.
    Published {
        /// Whose.
        ticket: Ticket,
        /// Whether.
        result: Result<(), String>,
    },
    /// To `Leave`.
    Left {
        /// Whose.
        ticket: Ticket,
    },
    /// To `Show`: a piece of it.
    Shown {
        /// Who asked.
        client: u64,
        /// JSON.
        text: String,
    },
    /// For the log.
    Trouble(String),
    /// What it cannot write down, from now on; nothing any more.
    Unwritten(Option<String>),
}

/// What a helper of the keeper says to each message of the keeper's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Nothing more than that; a message must not be empty.
    pub done: bool,
}

/// What [`receive`] found.
#[derive(Debug)]
pub enum Received<M> {
    /// A message and the descriptor that came along.
    Message(M, Option<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    Closed,
}

/// Sends a message; `WouldBlock`: there is no room, nothing was sent (only on a socket
/// that does not block).
///
/// # Errors
/// As sendmsg(2); `InvalidInput` for what is too long.
pub fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MESSAGE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    loop {
        match socket::send(socket, &bytes, &descriptors) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Takes a message without waiting.
///
/// # Errors
/// As recvmsg(2); `InvalidData` for what is none.
pub fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Received<M>> {
    let mut buffer = vec![0; MESSAGE];
    let taken = match socket::receive(socket, &mut buffer) {
        Ok(Some(taken)) => taken,
        Ok(None) => return Ok(Received::Nothing),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Received::Closed);
        }
        Err(error) => return Err(error),
    };
    if taken.length == 0 {
        return Ok(Received::Closed);
    }
    let bytes = buffer.get(..taken.length).unwrap_or_default();
    let message = postcard::from_bytes(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Received::Message(message, taken.fds.into_iter().next()))
}

/// A connected pair: the supervisor's end does not block, the keeper's does.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socket::seqpacket_pair()?;
    crate::sys::fd::set_nonblocking(ours.as_fd(), true)?;
    Ok((ours, theirs))
}
