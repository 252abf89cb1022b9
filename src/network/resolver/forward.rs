//! Questions passed on to the servers of the host, by datagram.
//!
//! Each has a socket and a number of its own, so that nobody off the path can answer it.
//! Bounded: so many at once, so many of one asker, so long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::message::{self, Question};
use crate::network::plan::files;

/// Questions on their way at once, and of one asker.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 64;

/// How long one server is waited for, and how often one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 4;

/// How long the list of servers is believed.
const FRESH: Duration = Duration::from_secs(2);

/// Longest answer by datagram: none is cut by being taken.
const ANSWER: usize = 65_536;

/// Most of `resolv.conf` that is read.
const FILE_MAX: u64 = 16 * 1024;

/// A question on its way.
#[derive(Debug)]
struct Pending {
    question: Question,
    /// As it came.
    bytes: Vec<u8>,
    asker: SocketAddr,
    /// Where the asker is to be answered.
    near: Arc<UdpSocket>,
    far: UdpSocket,
    number: u16,
    tries: usize,
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Forwarder {
    pending: Vec<Pending>,
    servers: Servers,
}

/// The servers of the host.
#[derive(Debug, Default)]
pub struct Servers {
    list: Vec<IpAddr>,
    read: Option<Instant>,
}

impl Servers {
    /// The list, read again when it is old.
    pub fn list(&mut self) -> &[IpAddr] {
        use std::io::Read;
        if self.read.is_none_or(|read| read.elapsed() > FRESH) {
            let mut text = String::new();
            // Without one nobody is asked.
            let _ = std::fs::File::open("/etc/resolv.conf")
                .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
            self.list = files::servers(&text);
            self.read = Some(Instant::now());
        }
        &self.list
    }
}

/// Sends a question to a server; the number it was given.
fn ask(bytes: &[u8], server: IpAddr) -> io::Result<(UdpSocket, u16)> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((server, 53))?;
    socket.set_nonblocking(true)?;
    let mut random = [0; 2];
    getrandom(&mut random)?;
    let number = u16::from_ne_bytes(random);
    socket.send(&message::renumbered(bytes, number))?;
    Ok((socket, number))
}

fn getrandom(bytes: &mut [u8; 2]) -> io::Result<()> {
    rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}

impl Forwarder {
    /// The sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pending.iter().map(|pending| pending.far.as_fd())
    }

    /// How long to wait at most.
    pub fn timeout(&self) -> Option<Timespec> {
        let nearest = self.pending.iter().map(|pending| pending.until).min()?;
        let left = nearest.saturating_duration_since(Instant::now());
        let tv_sec = i64::try_from(left.as_secs()).unwrap_or(1);
        Some(Timespec { tv_sec, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    /// Passes a question on; an answer if that is not possible.
    pub fn forward(
        &mut self,
        bytes: &[u8],
        question: Question,
        asker: SocketAddr,
        near: Arc<UdpSocket>,
    ) -> Option<Vec<u8>> {
        let of_one = self.pending.iter().filter(|it| it.asker.ip() == asker.ip()).count();
        if self.pending.len() >= MOST || of_one >= MOST_OF_ONE {
            return Some(super::failed(&question));
        }
        let list = self.servers.list().to_vec();
        for (tries, server) in list.iter().enumerate() {
            if let Ok((far, number)) = ask(bytes, *server) {
                let (bytes, until) = (bytes.to_vec(), later());
                let pending = Pending { question, bytes, asker, near, far, number, tries, until };
                self.pending.push(pending);
                return None;
            }
        }
        Some(super::failed(&question))
    }

    /// Hands on the answers that have come; those who waited for too long are told, or
    /// somebody else is asked.
    pub fn turn(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let (now, servers) = (Instant::now(), self.servers.list());
        let mut buffer = vec![0; ANSWER];
        self.pending.retain_mut(|pending| pending.progress(now, servers, &mut buffer));
    }
}

fn later() -> Instant {
    let now = Instant::now();
    now.checked_add(PATIENCE).unwrap_or(now)
}

impl Pending {
    /// Whether it goes on being waited for.
    fn progress(&mut self, now: Instant, servers: &[IpAddr], buffer: &mut [u8]) -> bool {
        let refused = match self.far.recv(buffer) {
            Ok(length) => {
                let answer = buffer.get(..length).unwrap_or_default();
                if message::answers(answer, &self.question, self.number) {
                    let answer = message::fitted(answer, &self.question);
                    let _ = self.near.send_to(&answer, self.asker);
                    return false;
                }
                false
            }
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        };
        if now < self.until && !refused {
            return true;
        }
        self.tries = self.tries.saturating_add(1);
        let index = self.tries.checked_rem(servers.len());
        let next = index.and_then(|index| servers.get(index)).filter(|_| self.tries < TRIES);
        match next.map(|server| ask(&self.bytes, *server)) {
            Some(Ok((far, number))) => {
                (self.far, self.number, self.until) = (far, number, later());
                true
            }
            Some(Err(_)) => true,
            None => {
                let _ = self.near.send_to(&super::failed(&self.question), self.asker);
                false
            }
        }
    }
}
