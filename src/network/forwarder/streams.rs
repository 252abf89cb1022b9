//! Connections: one from the host, one to the unit, and bytes between them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::{Door, Interest, Ready};
use crate::network::wire::Ticket;

/// Connections at once; further ones wait in the kernel's queue.
const MOST: usize = 512;

/// How long the unit may take to accept one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes read at once, and most that wait for one reader.
const PIECE: usize = 64 * 1024;

/// Pieces carried in one direction before others have their turn.
const A_TURN: usize = 8;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    /// Read, and not written yet.
    waiting: Vec<u8>,
    /// Nothing more is read.
    ended: bool,
    /// And that has been said to the other side.
    told: bool,
}

/// A connection.
#[derive(Debug)]
struct Stream {
    ticket: Ticket,
    near: TcpStream,
    far: TcpStream,
    /// Until when the unit may take to accept it; `None`: it has.
    connecting: Option<Instant>,
    there: Way,
    back: Way,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Streams {
    doors: Vec<Door<TcpListener>>,
    streams: Vec<Stream>,
}

/// Begins a connection; whether it is there already is told by its being writable.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

impl Streams {
    pub fn open(&mut self, door: Door<TcpListener>) {
        self.doors.push(door);
    }

    pub fn close(&mut self, ticket: Ticket) {
        self.doors.retain(|door| door.ticket != ticket);
        self.streams.retain(|stream| stream.ticket != ticket);
    }

    /// What is waited for. Of a connection that waits for nothing no event is wanted: its end
    /// is seen when somebody reads or writes.
    pub fn interests<'a>(&'a self, all: &mut Vec<Interest<'a>>) {
        if self.streams.len() < MOST {
            all.extend(self.doors.iter().map(|door| (door.socket.as_fd(), PollFlags::IN)));
        }
        for stream in &self.streams {
            let (near, far) = stream.wishes();
            let sides = [(stream.near.as_fd(), near), (stream.far.as_fd(), far)];
            all.extend(sides.into_iter().filter(|(_, flags)| !flags.is_empty()));
        }
    }

    /// How long until somebody has waited for too long.
    pub fn timeout(&self) -> Option<Duration> {
        let nearest = self.streams.iter().filter_map(|stream| stream.connecting).min()?;
        Some(nearest.saturating_duration_since(Instant::now()))
    }

    pub fn turn(&mut self, ready: &Ready) {
        let mut piece = vec![0; PIECE];
        let now = Instant::now();
        self.streams.retain_mut(|stream| {
            let called = ready.contains_key(&stream.near.as_raw_fd())
                || ready.contains_key(&stream.far.as_raw_fd());
            let late = stream.connecting.is_some_and(|until| until <= now);
            !late && (!called || stream.progress(&mut piece).unwrap_or(false))
        });
        for door in self.doors.iter().filter(|it| ready.contains_key(&it.socket.as_raw_fd())) {
            while self.streams.len() < MOST
                && let Ok((near, _)) = door.socket.accept()
            {
                // A unit that nobody can connect to is one that hangs up.
                self.streams.extend(Stream::begin(door, near).ok());
            }
        }
    }
}

impl Stream {
    fn begin(door: &Door<TcpListener>, near: TcpStream) -> io::Result<Self> {
        let far = connect(door.to)?;
        near.set_nonblocking(true)?;
        for side in [&near, &far] {
            // Somebody who has gone without a word is found out.
            sockopt::set_socket_keepalive(side, true)?;
            side.set_nodelay(true)?;
        }
        let connecting = Instant::now().checked_add(PATIENCE);
        let (ticket, there, back) = (door.ticket, Way::default(), Way::default());
        Ok(Self { ticket, near, far, connecting, there, back })
    }

    /// Which events of its two sides it waits for.
    fn wishes(&self) -> (PollFlags, PollFlags) {
        if self.connecting.is_some() {
            return (PollFlags::empty(), PollFlags::OUT);
        }
        let wishes = |own: &Way, other: &Way| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, own.waiting.is_empty() && !own.ended);
            flags.set(PollFlags::OUT, !other.waiting.is_empty());
            flags
        };
        (wishes(&self.there, &self.back), wishes(&self.back, &self.there))
    }

    /// Carries what can be carried; false when both directions have ended.
    fn progress(&mut self, piece: &mut [u8]) -> io::Result<bool> {
        if self.connecting.is_some() {
            if let Some(error) = self.far.take_error()? {
                return Err(error);
            }
            self.connecting = None;
        }
        self.there.carry(&self.near, &self.far, piece)?;
        self.back.carry(&self.far, &self.near, piece)?;
        Ok(!(self.there.told && self.back.told))
    }
}

impl Way {
    fn carry(&mut self, mut from: &TcpStream, to: &TcpStream, piece: &mut [u8]) -> io::Result<()> {
        for _ in 0..A_TURN {
            if !self.write(to)? || self.ended {
                break;
            }
            match from.read(piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self.waiting.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What ended in the last round is told as well: no event would ask for it again.
        if self.write(to)? && self.ended && !self.told {
            self.told = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Writes what waits; whether all of it could be.
    fn write(&mut self, mut to: &TcpStream) -> io::Result<bool> {
        while !self.waiting.is_empty() {
            match to.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // One that rests keeps no memory.
        self.waiting = Vec::new();
        Ok(true)
    }
}
