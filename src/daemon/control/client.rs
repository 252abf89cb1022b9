//! One connection: its buffers, its deadline, and what it waits for.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Access;
use crate::daemon::poller::{Poller, Source, Watched};
use crate::protocol::message::encode_error;
use crate::protocol::method::{ApplyReply, JobReply};
use crate::protocol::types::{Dependency, Event, Network};
use crate::protocol::{Error, FrameError, Inbox, MESSAGE_MAX, Mode, OUTBOX_MAX, Outbox};
use crate::supervisor::{Time, UnitId};

/// How long a client may take to finish a message or to make room for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client is owed.
#[derive(Debug, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing: its next call is read.
    Idle,
    /// One reply a unit.
    Jobs {
        /// How many are still to be sent.
        left: usize,
        /// Those of them that have ended, as there is room.
        ended: VecDeque<JobReply>,
    },
    /// The end of an upgrade.
    Upgrade,
    /// The result of `apply`; this is what is left to be said when it has succeeded.
    Apply(Box<ApplyReply>),
    /// Every event from now on; these first, as there is room.
    Events(VecDeque<Event>),
    /// Pages of units, made when there is room.
    Units {
        /// Whole status or only the names.
        full: bool,
        /// Those to come.
        left: VecDeque<UnitId>,
    },
    /// Pages of when units came where, made when there is room.
    Times(VecDeque<UnitId>),
    /// Networks, as the keeper tells of them; pages are made when it has told of all.
    Networks {
        /// Those to be said.
        list: VecDeque<Network>,
        /// Whether these are all.
        all: bool,
    },
    /// Pages of dependencies, made when there is room.
    Dependencies(VecDeque<Dependency>),
}

/// A client.
#[derive(Debug, Serialize, Deserialize)]
pub struct Client {
    stream: Watched<UnixStream>,
    inbox: Inbox,
    outbox: Outbox,
    /// What it is owed.
    pub phase: Phase,
    /// How its last call is to be answered.
    pub mode: Mode,
    /// What it may do.
    pub access: Access,
    /// Since when it has owed us something; `None`: it does not.
    owes_since: Option<Time>,
    /// Whether all that was read has been looked at. Until then nothing more is read, so
    /// that what waits here is never more than one message and one piece.
    drained: bool,
    /// Whether it will send nothing more. It may still wait for answers.
    ended: bool,
}

impl Client {
    /// Takes a connection of somebody who may do that much.
    ///
    /// # Errors
    /// The kernel's; the connection is then closed.
    pub fn new(
        poller: &mut Poller,
        stream: UnixStream,
        access: Access,
        number: u64,
        now: Time,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = poller.input(stream, Source::Client(number))?;
        Ok(Self {
            stream,
            inbox: Inbox::new(MESSAGE_MAX),
            outbox: Outbox::new(OUTBOX_MAX),
            phase: Phase::Idle,
            mode: Mode::Single,
            access,
            owes_since: Some(now),
            drained: true,
            ended: false,
        })
    }

    /// Reads what has come, at most a piece a turn, if a call may be made now.
    ///
    /// # Errors
    /// The connection is gone or broke a rule.
    pub fn read(&mut self, now: Time) -> io::Result<()> {
        if !self.listens() {
            return Ok(());
        }
        let mut buffer = [0_u8; 16 * 1024];
        match self.stream.get().read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                Ok(())
            }
            Ok(count) => {
                self.inbox.feed(buffer.get(..count).unwrap_or_default());
                self.drained = false;
                self.owes_since.get_or_insert(now);
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next call, if it may make one now.
    ///
    /// # Errors
    /// What it sent is no message.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if !self.is_idle() {
            return Ok(None);
        }
        let message = self.inbox.next_message()?;
        match message {
            Some(_) => self.owes_since = None,
            None => self.drained = true,
        }
        Ok(message)
    }

    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether it is read from now.
    fn listens(&self) -> bool {
        self.is_idle() && self.drained && !self.ended
    }

    /// Whether a hang-up means that it has gone, and not only that the rest of what it
    /// sent is still to be read.
    pub fn is_gone(&self) -> bool {
        !self.is_idle() || self.ended
    }

    /// Puts an answer into its queue.
    ///
    /// # Errors
    /// It has not read for too long and is to be cut off.
    pub fn push(&mut self, message: &[u8]) -> Result<(), FrameError> {
        self.outbox.push(message)
    }

    /// Whether another page of a long answer may be made.
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Writes what the connection takes and sets what is waited for.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self, poller: &Poller, now: Time) -> io::Result<()> {
        let mut moved = false;
        while !self.outbox.is_empty() {
            match self.stream.get().write(self.outbox.pending()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.outbox.advance(count);
                    moved = true;
                }
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.owes_since = match (&self.phase, self.outbox.is_empty()) {
            (Phase::Idle, true) | (_, false) if moved => Some(now),
            (Phase::Idle, true) | (_, false) => self.owes_since.or(Some(now)),
            (_, true) => None,
        };
        // Calls that were read and not made yet get their turn as soon as there is room.
        let calls = self.is_idle() && !self.drained;
        poller.interest(&self.stream, self.listens(), calls || !self.outbox.is_empty())
    }

    /// Whether there is more to say at once.
    pub fn owes_more(&self) -> bool {
        match &self.phase {
            Phase::Units { .. } | Phase::Times(_) | Phase::Dependencies(_) => true,
            Phase::Networks { all, .. } => *all,
            Phase::Events(events) => !events.is_empty(),
            Phase::Jobs { ended, .. } => !ended.is_empty(),
            Phase::Idle | Phase::Apply(_) | Phase::Upgrade => false,
        }
    }

    /// Whether everything was said and written.
    pub fn is_finished(&self) -> bool {
        self.outbox.is_empty() && self.is_idle() && self.drained && self.ended
    }

    /// When its time is over.
    pub fn deadline(&self) -> Option<Time> {
        self.owes_since.and_then(|since| since.0.checked_add(PATIENCE)).map(Time)
    }

    /// Since when it has been expected to say something; `None`: it is owed something.
    pub fn silent_since(&self) -> Option<Time> {
        self.owes_since.filter(|_| self.is_idle() && self.outbox.is_empty())
    }

    /// Tells somebody who cannot be taken why.
    pub fn turn_away(stream: &UnixStream) {
        let reason = "berth has no descriptors left for another client; try again in a moment";
        let error = Error::Refused { reason: reason.to_owned() };
        let mut answer = Outbox::new(OUTBOX_MAX);
        // A new connection has room for it, or its other end has gone.
        if answer.push(&encode_error(error)).is_ok() && stream.set_nonblocking(true).is_ok() {
            let _ = (&*stream).write(answer.pending());
        }
    }

    /// Gives the connection away, with what was read but not understood yet.
    pub fn hand_over(self, poller: &mut Poller) -> (UnixStream, Vec<u8>) {
        (poller.release(self.stream), self.inbox.into_rest())
    }

    /// Ends the connection.
    pub fn close(self, poller: &mut Poller) {
        poller.close(self.stream);
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
