//! What the loop waits for: descriptors, each with the [`Source`] it speaks for.
//!
//! Level-triggered on purpose: every handler may do a bounded amount of work and leave the
//! rest; the next turn finds the descriptor ready again. Keys are never used twice, so an
//! event that was already fetched for a source that has gone means nothing. A source is
//! always taken out before its descriptor is closed: forked children may hold duplicates,
//! which would keep it in the set.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use serde::{Deserialize, Serialize};

use crate::supervisor::{Hook, Run, UnitId};
use crate::sys::kept::Kept;

/// Who a descriptor speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The signal descriptor.
    Signals,
    /// The logger's socket.
    Logger,
    /// The socket of the keeper of networks.
    Keeper,
    /// The control socket's listener.
    Listener,
    /// A control client, by number.
    Client(u64),
    /// A unit reader's answer, by number.
    Reader(u64),
    /// The status channel of an `exec`, by number.
    Exec(u64),
    /// Something that belongs to a run.
    Run(UnitId, Run, Part),
}

/// Which descriptor of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// The status socket of one of its processes.
    Status(Role),
    /// The notify socket.
    Notify,
    /// The `fd:N` readiness pipe.
    ReadyPipe,
    /// `cgroup.events`, while it is being cleaned.
    Empty,
    /// `memory.events`.
    Memory,
    /// The pidfd of a main process that is not berth's child.
    ForeignMain,
}

/// What a process of a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Process 1 of its pid namespace.
    Sandbox,
    /// The command.
    Main,
    /// A hook or health check.
    Hook(Hook),
    /// The readiness probe.
    Probe,
}

/// A descriptor in the set. It has to be given back to [`Poller::close`] or
/// [`Poller::release`]: dropping it leaves an entry behind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "F: Kept", deserialize = "F: Kept"))]
#[must_use]
pub struct Watched<F = OwnedFd> {
    #[serde(with = "crate::sys::kept")]
    fd: F,
    key: u64,
}

impl<F: AsFd> AsFd for Watched<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<F> Watched<F> {
    /// What is watched.
    pub fn get(&self) -> &F {
        &self.fd
    }

    /// The same, to be changed; its descriptor has to stay the same.
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.fd
    }
}

/// One descriptor that is ready.
#[derive(Debug, Clone, Copy)]
pub struct ReadySource {
    /// Its key, to see whether it is still meant.
    key: u64,
    /// Who.
    pub source: Source,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether there is something to read, an end or an error.
    pub readable: bool,
    /// Whether both directions are over: nobody is there any more.
    pub hung_up: bool,
}

/// The set of descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Poller {
    #[serde(with = "crate::sys::kept")]
    epoll: OwnedFd,
    sources: HashMap<u64, Source>,
    next: u64,
}

/// Most events fetched in one turn.
const BATCH: usize = 128;

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel's, from `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, sources: HashMap::new(), next: 0 })
    }

    /// Waits for input on a descriptor.
    ///
    /// # Errors
    /// The kernel's, from `epoll_ctl(2)`; the descriptor is then closed.
    pub fn input<F: AsFd>(&mut self, fd: F, source: Source) -> io::Result<Watched<F>> {
        self.add(fd, source, EventFlags::IN)
    }

    /// Waits for an exceptional condition: how cgroup and proc files say that they changed.
    ///
    /// # Errors
    /// As [`Poller::input`].
    pub fn priority<F: AsFd>(&mut self, fd: F, source: Source) -> io::Result<Watched<F>> {
        self.add(fd, source, EventFlags::PRI)
    }

    fn add<F: AsFd>(&mut self, fd: F, source: Source, flags: EventFlags) -> io::Result<Watched<F>> {
        let key = self.next;
        epoll::add(&self.epoll, &fd, EventData::new_u64(key), flags)?;
        self.next = self.next.wrapping_add(1);
        self.sources.insert(key, source);
        Ok(Watched { fd, key })
    }

    /// Waits for input (`read`) and room to write (`write`) from now on.
    ///
    /// # Errors
    /// The kernel's, from `epoll_ctl(2)`.
    pub fn interest<F: AsFd>(
        &self,
        watched: &Watched<F>,
        read: bool,
        write: bool,
    ) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, read);
        flags.set(EventFlags::OUT, write);
        epoll::modify(&self.epoll, watched, EventData::new_u64(watched.key), flags)?;
        Ok(())
    }

    /// Takes a descriptor out and closes it.
    pub fn close<F: AsFd>(&mut self, watched: Watched<F>) {
        drop(self.release(watched));
    }

    /// Takes a descriptor out and gives it back.
    pub fn release<F: AsFd>(&mut self, watched: Watched<F>) -> F {
        self.sources.remove(&watched.key);
        // It was added and is still open, so there is no error that could be acted on.
        let _ = epoll::delete(&self.epoll, &watched.fd);
        watched.fd
    }

    /// Waits until something is ready or the time is over; `None` waits for ever.
    ///
    /// # Errors
    /// The kernel's, from `epoll_wait(2)`; an interruption is not one.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<ReadySource>,
    ) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ready.extend(events.iter().filter_map(|event| {
            // Copied out: the kernel's structure is packed.
            let (flags, data) = (event.flags, event.data);
            let key = data.u64();
            let source = *self.sources.get(&key)?;
            let writable = flags.contains(EventFlags::OUT);
            let readable = flags != EventFlags::OUT;
            let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            Some(ReadySource { key, source, writable, readable, hung_up })
        }));
        Ok(())
    }

    /// Gives back the room of sources that have gone.
    pub fn slim(&mut self) {
        self.sources.shrink_to_fit();
    }

    /// Whether a source fetched earlier in this turn is still there.
    pub fn still_there(&self, ready: &ReadySource) -> bool {
        self.sources.contains_key(&ready.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_source_that_was_closed_in_the_same_turn_is_not_there_any_more() {
        let mut poller = Poller::new().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let watched = poller.input(OwnedFd::from(far), Source::Listener).unwrap();
        near.write_all(b"x").unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
        let [first] = ready.as_slice() else { panic!("{ready:?}") };
        assert!(first.readable && first.source == Source::Listener && poller.still_there(first));
        poller.close(watched);
        assert!(!poller.still_there(first));
    }

    #[test]
    fn unread_input_is_reported_again() {
        let mut poller = Poller::new().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let watched = poller.input(OwnedFd::from(far), Source::Logger).unwrap();
        near.write_all(b"x").unwrap();
        for _ in 0..2 {
            let mut ready = Vec::new();
            poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
            assert_eq!(ready.len(), 1);
        }
        poller.interest(&watched, false, false).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
        poller.close(watched);
    }
}
