//! Descriptors are short: what runs goes first.
//!
//! The last numbers below the limit are a reserve ([`limits::is_reserved`]): for ending
//! units, for exit codes, for the way down. What would need descriptors for long (a start, a
//! client) is refused before it takes one of them. The kernel gives out the lowest free number,
//! so the number that it gives tells how many are left. What must always hold: somebody who
//! keeps connections open, or a unit that cannot be afforded, costs no other unit anything.

use std::os::fd::{AsFd, AsRawFd};

use super::Daemon;
use crate::sys::limits;

/// Why something new cannot be afforded.
fn words() -> String {
    let limit = limits::soft_files().map_or_else(String::new, |limit| format!(" of {limit}"));
    format!("no descriptors are left for it: the limit{limit} for berth is reached (RLIMIT_NOFILE)")
}

impl Daemon {
    /// Asked before something is begun that holds descriptors for long.
    ///
    /// # Errors
    /// One sentence, if there are too few.
    pub(super) fn afford(&self) -> Result<(), String> {
        // As every number is taken the attempt fails.
        let free = rustix::io::fcntl_dupfd_cloexec(self.signals.as_fd(), 0);
        match free {
            Ok(free) if !limits::is_reserved(free.as_raw_fd()) => Ok(()),
            Ok(_) | Err(_) => Err(words()),
        }
    }

    /// New connections, as far as there is room for them. Said once until one finds room again.
    pub(super) fn accept(&mut self) {
        let was_short = self.control.short;
        let accepted = self.control.accept(&mut self.poller, self.clock.now());
        if self.control.short && !was_short {
            self.journal.say(&match accepted {
                Ok(()) => format!("silent clients have to go: {}", words()),
                Err(error) => format!("clients have to wait: {error}"),
            });
        }
    }
}
