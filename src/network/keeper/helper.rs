//! A child of the keeper that talks with strangers: hardly any rights, told what to do by
//! messages, each of which it confirms.
//!
//! What must hold: neither side's queue is ever full, so that neither waits for the other to
//! read; one that does not confirm in time is given up, and whoever has it starts another.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::network::wire::{self, Heard, Received};
use crate::sys::{fd, fork, pidfd, reap, signal, socket};

/// How long one may take to hear, in milliseconds.
const PATIENCE: i32 = 2000;

/// Most messages that are not confirmed.
const AHEAD: usize = 16;

/// One that ends sooner than this after its start is replaced only after this time.
const PAUSE: Duration = Duration::from_millis(200);

/// A helper that runs, or ran; killed when it is dropped.
#[derive(Debug)]
pub struct Helper {
    pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    since: Instant,
    /// How many messages it has not confirmed yet.
    unheard: usize,
}

/// What the keeper waits for besides its orders.
#[derive(Debug)]
pub enum Watch<'a> {
    /// Nothing.
    Nothing,
    /// One is to be started soon, but not at once.
    Soon,
    /// Its end.
    End(BorrowedFd<'a>),
}

impl Helper {
    /// Starts one; `name` is for people who look at `ps`.
    ///
    /// # Errors
    /// As socketpair(2) and clone3(2).
    pub fn start(name: &'static CStr, code: fn(OwnedFd) -> i32) -> io::Result<Self> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        let keep = [theirs.as_fd()];
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let process = fork::child(&options, || {
            // Nothing depends on it.
            let _ = rustix::thread::set_name(name);
            match signal::ignore_all().and_then(|()| theirs.try_clone()) {
                Ok(socket) => code(socket),
                Err(_) => 1,
            }
        })?;
        let (pid, pidfd) = (process.pid, process.pidfd);
        Ok(Self { pid, pidfd, socket: ours, since: Instant::now(), unheard: 0 })
    }

    /// Tells it something; false if it does not listen. What it does not hear is told by
    /// [`Helper::confirm`], too.
    pub fn tell<M: Serialize>(&mut self, say: &M, descriptor: Option<BorrowedFd<'_>>) -> bool {
        if self.unheard >= AHEAD && !self.confirm() {
            return false;
        }
        self.unheard = self.unheard.saturating_add(1);
        wire::send(self.socket.as_fd(), say, descriptor).is_ok()
    }

    /// Waits until it has heard everything; false if it does not answer.
    pub fn confirm(&mut self) -> bool {
        let socket = self.socket.as_fd();
        while self.unheard > 0 {
            let heard = fd::readable_within(socket, PATIENCE).unwrap_or(false)
                && matches!(wire::receive::<Heard>(socket), Ok(Received::Message(..)));
            if !heard {
                return false;
            }
            self.unheard = self.unheard.saturating_sub(1);
        }
        true
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        pidfd::has_ended(self.pidfd.as_fd()).unwrap_or(true)
    }

    /// What to wait for, of one that may be there and is needed or not.
    pub fn watch(helper: Option<&Self>, needed: bool) -> Watch<'_> {
        match helper {
            None if needed => Watch::Soon,
            None => Watch::Nothing,
            Some(helper) if helper.since.elapsed() < PAUSE => Watch::Soon,
            Some(helper) => Watch::End(helper.pidfd.as_fd()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = fd::readable_within(self.pidfd.as_fd(), PATIENCE);
        let _ = reap::reap(self.pid);
    }
}
