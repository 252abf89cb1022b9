//! The control socket: who is connected, what they wait for, what they are told.
//!
//! What must always hold: no client can hold up the loop or another client. Each has
//! bounded buffers and a deadline for everything it owes us (the rest of a message, room
//! for an answer); the number of clients is bounded; work that can block (reading logs,
//! a terminal) is done by a forked helper that owns the connection.

mod access;
mod answer;
mod call;
mod client;
mod exec;
mod helper;
mod history;
mod relay;
mod secrets;
mod status;
mod usage;
mod volumes;

use access::{Access, Door};
pub use client::{Client, Phase};
use serde::{Deserialize, Serialize};

use exec::Session;
pub use history::History;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::Daemon;
use super::poller::{Poller, Source, Watched};
use super::writer::Writer;
use crate::supervisor::{JobId, Time};
use crate::sys::peer::Home;
use crate::sys::{identity, limits, state};

/// Most clients at once; more wait in the kernel's queue until one has gone.
pub const MOST_CLIENTS: usize = 1024;

/// Most of them that are not root's: those who may look cannot keep root out.
const MOST_OTHERS: usize = 256;

/// Those that may take what is kept back where descriptors are short.
const FEW_CLIENTS: usize = 8;

/// Pause after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections taken in one turn.
const MOST_ACCEPTED: usize = 64;

/// Who waits for a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    /// Which client.
    pub client: u64,
    /// For which unit.
    pub unit: String,
}

/// Everything about clients.
#[derive(Debug, Serialize, Deserialize)]
pub struct Control {
    listener: Option<Watched<UnixListener>>,
    /// Whose members may look.
    group: Option<u32>,
    /// Whom it listens to; set with the listener.
    door: Option<Door>,
    accepting: bool,
    /// By number.
    pub clients: BTreeMap<u64, Client>,
    /// Jobs somebody waits for.
    pub jobs: HashMap<JobId, Waiting>,
    /// Events to remember.
    pub history: History,
    /// Forked helpers that own a connection, at most [`helper::MOST`].
    pub helpers: usize,
    /// How many of them are for clients that are not root.
    #[serde(default)]
    pub other_helpers: usize,
    /// Volumes that are being deleted, by the helper that does it.
    #[serde(default)]
    pub doomed_volumes: BTreeMap<i32, String>,
    /// Clients to be served once the machine has thought.
    served_next: BTreeSet<u64>,
    /// Whether descriptors are too few for all who come.
    #[serde(default)]
    pub short: bool,
    /// When connections are taken again, after one could not be taken.
    accept_again: Option<Time>,
    /// Commands that `exec` runs.
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    next_client: u64,
    next_job: u64,
    /// Of the socket, where it could not be made at the beginning.
    #[serde(default = "Writer::clean")]
    pub(super) writer: Writer,
}

impl Daemon {
    /// Makes the control socket.
    ///
    /// # Errors
    /// As [`Control::listen`].
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let path = self.options.control_socket();
        if let Some(text) = self.control.listen(&mut self.poller, &path)? {
            self.journal.say(&text);
        }
        Ok(())
    }
}

impl Control {
    /// Whether there are clients to go on with.
    pub fn owes_answers(&self) -> bool {
        !self.served_next.is_empty()
    }

    /// Not listening yet; members of the group will be able to look.
    pub fn new(group: Option<u32>) -> Self {
        Self {
            listener: None,
            door: None,
            group,
            accepting: true,
            clients: BTreeMap::new(),
            jobs: HashMap::new(),
            history: History::default(),
            helpers: 0,
            other_helpers: 0,
            doomed_volumes: BTreeMap::new(),
            served_next: BTreeSet::new(),
            short: false,
            accept_again: None,
            sessions: BTreeMap::new(),
            next_session: 0,
            next_client: 0,
            next_job: 0,
            writer: Writer::clean(),
        }
    }

    /// Makes the socket, 0600, in place of one that a dead supervisor left; with a group,
    /// whose members may look, 0660.
    ///
    /// A sentence if something else was there and is out of the way.
    ///
    /// # Errors
    /// As bind(2) and chown(2).
    pub fn listen(&mut self, poller: &mut Poller, path: &Path) -> io::Result<Option<String>> {
        let aside = match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Not a socket, nor any file.
            Err(error) => Some(state::set_aside(path, &error)),
            Ok(()) => None,
        };
        // Not for a moment is it anybody's who may not have it.
        let before = identity::set_umask(0o177);
        let listener = UnixListener::bind(path);
        identity::set_umask(before);
        let listener = listener?;
        let group = self.group;
        let mode = match group {
            None => 0o600,
            Some(group) => {
                std::os::unix::fs::chown(path, None, Some(group))?;
                0o660
            }
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let owner = rustix::process::geteuid().as_raw();
        self.door = Some(Door { home: Home::own()?, owner, group });
        self.listener = Some(poller.input(listener, Source::Listener)?);
        Ok(aside)
    }

    /// Takes waiting connections; the ones it cannot take are told by a closed socket.
    pub fn accept(&mut self, poller: &mut Poller, now: Time) -> io::Result<()> {
        for _ in 0..MOST_ACCEPTED {
            if self.clients.len() >= MOST_CLIENTS {
                self.set_accepting(poller, false);
                return Ok(());
            }
            let (Some(listener), Some(door)) = (&self.listener, self.door) else { return Ok(()) };
            let stream = match listener.get().accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    // No descriptor is left, most likely. The poller would ask at once.
                    self.short = true;
                    self.accept_again = now.0.checked_add(PAUSE).map(Time);
                    self.set_accepting(poller, false);
                    return Err(error);
                }
            };
            let access = door.access(stream.as_fd());
            if access != Access::Full && self.others() >= MOST_OTHERS {
                continue;
            }
            let Some(stream) = self.admit(poller, stream, access) else { continue };
            let number = self.next_client;
            self.next_client = self.next_client.wrapping_add(1);
            // One that cannot be watched is let go, which its other end sees.
            if let Ok(client) = Client::new(poller, stream, access, number, now) {
                self.clients.insert(number, client);
            }
        }
        Ok(())
    }

    /// Where descriptors are short, those who have been silent for the longest make room: not
    /// for somebody who may do less. A few are taken in any case, for a look at what is wrong.
    fn admit(
        &mut self,
        poller: &mut Poller,
        mut stream: UnixStream,
        access: Access,
    ) -> Option<UnixStream> {
        self.short = limits::is_reserved(stream.as_raw_fd());
        while limits::is_reserved(stream.as_raw_fd()) {
            let idle = self.clients.iter().filter(|(_, client)| {
                client.silent_since().is_some()
                    && (access == Access::Full || client.access == access)
            });
            let longest = idle.min_by_key(|(_, client)| client.silent_since()).map(|(&it, _)| it);
            let Some(client) = longest.and_then(|number| self.clients.remove(&number)) else {
                if self.clients.len() < FEW_CLIENTS {
                    break;
                }
                Client::turn_away(&stream);
                return None;
            };
            client.close(poller);
            // At the number that is free now; if there is none, there is no room for it.
            stream = stream.try_clone().ok()?;
        }
        Some(stream)
    }

    fn others(&self) -> usize {
        self.clients.values().filter(|client| client.access != Access::Full).count()
    }

    fn set_accepting(&mut self, poller: &Poller, on: bool) {
        if self.accepting != on
            && let Some(listener) = &self.listener
        {
            self.accepting = on;
            // It is in the set, so changing it cannot fail.
            let _ = poller.interest(listener, on, false);
        }
    }

    /// Lets a client go. Jobs it waited for go on without it; they are returned.
    pub fn drop_client(&mut self, poller: &mut Poller, number: u64) -> Vec<JobId> {
        if let Some(client) = self.clients.remove(&number) {
            client.close(poller);
        }
        self.set_accepting(poller, true);
        let gone: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, waiting)| waiting.client == number)
            .map(|(&job, _)| job)
            .collect();
        for job in &gone {
            self.jobs.remove(job);
        }
        gone
    }

    /// A number for a request somebody waits for.
    pub fn new_job(&mut self, client: u64, unit: &str) -> JobId {
        let job = JobId(self.next_job);
        self.next_job = self.next_job.wrapping_add(1);
        self.jobs.insert(job, Waiting { client, unit: unit.to_owned() });
        job
    }

    /// A number for an `exec`.
    fn new_session(&mut self) -> u64 {
        let session = self.next_session;
        self.next_session = self.next_session.wrapping_add(1);
        session
    }

    /// The nearest time at which a client has owed us something for too long.
    pub fn deadline(&self) -> Option<Time> {
        self.clients.values().filter_map(Client::deadline).chain(self.accept_again).min()
    }

    /// Takes connections again, if it is time.
    pub fn accept_when_due(&mut self, poller: &Poller, now: Time) {
        if self.accept_again.is_some_and(|time| time <= now) {
            self.accept_again = None;
            self.set_accepting(poller, self.clients.len() < MOST_CLIENTS);
        }
    }

    /// Clients whose time is over.
    pub fn overdue(&self, now: Time) -> Vec<u64> {
        let late = |client: &Client| client.deadline().is_some_and(|deadline| deadline <= now);
        self.clients.iter().filter(|(_, client)| late(client)).map(|(&number, _)| number).collect()
    }
}
