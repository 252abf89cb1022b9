//! Reading unit files in a forked child under limits.
//!
//! The child parses and checks, and sends back one message; whatever a file does to it
//! (memory, time, a stack overflow) is an answer too: that it died. The supervisor reads
//! the message in small pieces and holds at most its limit.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Sources;
use super::poller::{Poller, Source, Watched};
use crate::supervisor::Time;
use crate::sys::{fd, fork, pidfd};
use crate::unit::limits;
use crate::unit::{self, Loaded, Previous};

/// How long a reader may take in all. Its processor time is limited by the kernel; this is
/// for a disk or a network that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes taken from a reader in one turn.
const PIECE: usize = 256 * 1024;

/// What the answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The first reading.
    Boot,
    /// SIGHUP.
    Hangup,
    /// A client that waits.
    Apply {
        /// Which client.
        client: u64,
        /// Only say what would be done.
        dry_run: bool,
    },
}

/// A reader at work.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reader {
    /// Its process.
    pub pid: i32,
    /// Which one it is.
    pub number: u64,
    /// What for.
    pub purpose: Purpose,
    /// What it reads.
    pub sources: Sources,
    #[serde(with = "crate::sys::kept")]
    pidfd: OwnedFd,
    deadline: Option<Time>,
    pipe: Watched,
    answer: Vec<u8>,
}

/// What a turn of reading brought.
#[derive(Debug)]
pub enum Turn {
    /// Not yet.
    More,
    /// The whole answer; the error is one sentence.
    Done(Result<Box<Loaded>, String>),
}

/// Starts a reader.
///
/// # Errors
/// No process or descriptor is left.
pub fn start(
    poller: &mut Poller,
    number: u64,
    sources: Sources,
    previous: &Previous,
    purpose: Purpose,
    now: Time,
) -> io::Result<Reader> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let keep = [write.as_fd()];
    let options = fork::Options {
        keep: &keep,
        die_with_parent: true,
        memory: Some(limits::READER_ADDRESS_SPACE),
        cpu_seconds: Some(limits::READER_CPU_SECONDS),
        ..fork::Options::default()
    };
    let process = fork::child(&options, || {
        // For people who look at `ps`; nothing depends on it.
        let _ = rustix::thread::set_name(c"berth-reader");
        answer(&write, &unit::encode(&unit::read(&sources.layers(), previous)))
    })?;
    drop(write);
    fd::set_nonblocking(read.as_fd(), true)?;
    let pipe = poller.input(read, Source::Reader(number))?;
    Ok(Reader {
        pid: process.pid,
        number,
        purpose,
        sources,
        pidfd: process.pidfd,
        deadline: now.0.checked_add(PATIENCE).map(Time),
        pipe,
        answer: Vec::new(),
    })
}

/// In the child.
fn answer(pipe: &OwnedFd, mut rest: &[u8]) -> i32 {
    while !rest.is_empty() {
        match rustix::io::write(pipe, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
    0
}

impl Reader {
    /// Takes what has come.
    pub fn turn(&mut self) -> Turn {
        let mut buffer = vec![0; PIECE];
        match rustix::io::read(&self.pipe, buffer.as_mut_slice()) {
            Ok(0) => Turn::Done(self.decode()),
            Ok(count) => {
                self.answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
                if self.answer.len() > limits::MESSAGE {
                    return Turn::Done(Err("the unit files make too much of an answer".to_owned()));
                }
                Turn::More
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Turn::More,
            Err(error) => Turn::Done(Err(format!("the unit reader's answer was lost: {error}"))),
        }
    }

    /// When it has taken too long.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// It has taken too long: ends it, which its pipe will tell.
    pub fn give_up(&mut self) {
        self.deadline = None;
        // It may have ended by itself.
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    fn decode(&self) -> Result<Box<Loaded>, String> {
        if self.answer.is_empty() {
            let why = if self.deadline.is_none() {
                "reading the unit files took longer than 30 s: a disk or a network does not answer"
            } else {
                "the unit reader died before it answered: a unit file takes more memory or time \
                 than reading one may take (256 MiB, 10 s)"
            };
            return Err(why.to_owned());
        }
        unit::decode(&self.answer)
            .map(Box::new)
            .map_err(|error| format!("the unit reader's answer makes no sense: {error}"))
    }

    /// Lets it go; the process is reaped like any other. What it read.
    pub fn close(self, poller: &mut Poller) -> Sources {
        poller.close(self.pipe);
        self.sources
    }
}
