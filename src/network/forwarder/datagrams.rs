//! Datagrams: of each asker a socket of its own to the unit, so that answers find their way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{Door, Interest, Ready};
use crate::network::wire::Ticket;

/// Askers at once; the one that was silent for longest makes room.
const MOST: usize = 512;

/// How long an asker is remembered that is silent, as the kernel does it.
const SILENCE: Duration = Duration::from_secs(30);

/// Longest datagram.
const LONGEST: usize = 64 * 1024;

/// Datagrams taken from one socket before others have their turn.
const A_TURN: usize = 64;

/// An asker, as a door's number and its address.
type Asker = (u64, SocketAddr);

/// An asker's way to the unit.
#[derive(Debug)]
struct Flow {
    far: UdpSocket,
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Datagrams {
    doors: BTreeMap<u64, Door<UdpSocket>>,
    flows: BTreeMap<Asker, Flow>,
    last: u64,
}

fn later(now: Instant) -> Instant {
    now.checked_add(SILENCE).unwrap_or(now)
}

impl Flow {
    fn new(to: SocketAddr, now: Instant) -> std::io::Result<Self> {
        let any = match to.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let far = UdpSocket::bind((any, 0))?;
        far.connect(to)?;
        far.set_nonblocking(true)?;
        Ok(Self { far, until: later(now) })
    }
}

impl Datagrams {
    pub fn open(&mut self, door: Door<UdpSocket>) {
        self.last = self.last.wrapping_add(1);
        self.doors.insert(self.last, door);
    }

    pub fn close(&mut self, ticket: Ticket) {
        self.doors.retain(|_, door| door.ticket != ticket);
        self.flows.retain(|(door, _), _| self.doors.contains_key(door));
    }

    pub fn interests<'a>(&'a self, all: &mut Vec<Interest<'a>>) {
        all.extend(self.doors.values().map(|door| (door.socket.as_fd(), PollFlags::IN)));
        all.extend(self.flows.values().map(|flow| (flow.far.as_fd(), PollFlags::IN)));
    }

    /// How long until one is forgotten.
    pub fn timeout(&self) -> Option<Duration> {
        let nearest = self.flows.values().map(|flow| flow.until).min()?;
        Some(nearest.saturating_duration_since(Instant::now()))
    }

    pub fn turn(&mut self, ready: &Ready) {
        let now = Instant::now();
        self.flows.retain(|_, flow| flow.until > now);
        let mut buffer = vec![0; LONGEST];
        for ((door, asker), flow) in &mut self.flows {
            if ready.contains_key(&flow.far.as_raw_fd())
                && let Some(door) = self.doors.get(door)
            {
                for _ in 0..A_TURN {
                    let Ok(length) = flow.far.recv(&mut buffer) else { break };
                    flow.until = later(now);
                    // One that is lost is asked for again, as on any way.
                    let _ = door.socket.send_to(buffer.get(..length).unwrap_or_default(), asker);
                }
            }
        }
        for (&number, door) in &self.doors {
            if !ready.contains_key(&door.socket.as_raw_fd()) {
                continue;
            }
            for _ in 0..A_TURN {
                let Ok((length, asker)) = door.socket.recv_from(&mut buffer) else { break };
                let bytes = buffer.get(..length).unwrap_or_default();
                deliver(&mut self.flows, (number, asker), door.to, bytes, now);
            }
        }
    }
}

fn deliver(
    flows: &mut BTreeMap<Asker, Flow>,
    asker: Asker,
    to: SocketAddr,
    bytes: &[u8],
    now: Instant,
) {
    if !flows.contains_key(&asker) {
        let oldest = flows.iter().min_by_key(|(_, flow)| flow.until).map(|(asker, _)| *asker);
        if let Some(oldest) = oldest.filter(|_| flows.len() >= MOST) {
            flows.remove(&oldest);
        }
        let Ok(flow) = Flow::new(to, now) else { return };
        flows.insert(asker, flow);
    }
    if let Some(flow) = flows.get_mut(&asker) {
        flow.until = later(now);
        // A refusal of an earlier one is told here, too; this one is another.
        if flow.far.send(bytes).is_err() {
            let _ = flow.far.send(bytes);
        }
    }
}
