//! How the supervisor ends: who asked, what is waited for, and the exit code.

use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::supervisor::request::{Request, Wish};
use crate::supervisor::view::StateName;
use crate::supervisor::{Exit, Time};
use crate::sys::pidfd;

/// How long the logger may take to write the rest, and then the console to show it.
const DRAIN: Duration = Duration::from_secs(5);

/// Where the supervisor is in its life. Each state that waits carries its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Units are being read for the first time.
    Booting,
    /// Units run.
    Up,
    /// Units are being stopped; then the exit code.
    Down {
        /// Of the process.
        code: u8,
    },
    /// Nothing runs any more; the logger writes the rest.
    Draining {
        /// Of the process.
        code: u8,
        /// Then it is left to itself.
        until: Time,
    },
    /// The console shows the rest.
    Showing {
        /// Of the process.
        code: u8,
        /// Then it is killed.
        until: Time,
    },
    /// The loop ends.
    Over {
        /// Of the process.
        code: u8,
    },
}

impl Phase {
    /// When it has taken too long.
    pub fn deadline(&self) -> Option<Time> {
        match *self {
            Self::Draining { until, .. } | Self::Showing { until, .. } => Some(until),
            Self::Booting | Self::Up | Self::Down { .. } | Self::Over { .. } => None,
        }
    }
}

impl Daemon {
    /// Everything down. Asked a second time: at once.
    pub(super) fn begin_shutdown(&mut self, why: &str, code: u8) {
        match self.phase {
            Phase::Booting | Phase::Up => {
                self.journal.say(&format!("stopping everything ({why})"));
                self.phase = Phase::Down { code };
            }
            Phase::Down { .. } => {
                self.journal.say(&format!("killing everything ({why} again)"));
            }
            Phase::Draining { .. } | Phase::Showing { .. } | Phase::Over { .. } => return,
        }
        self.wish(Request { job: None, wish: Wish::Shutdown });
    }

    /// The machine says that nothing runs any more.
    pub(super) fn shutdown_done(&mut self) {
        if let Phase::Booting | Phase::Up | Phase::Down { .. } = self.phase {
            let code = self.code();
            self.journal.say("everything has stopped");
            self.journal.disconnect();
            self.logger.finish(&self.poller);
            self.phase = Phase::Draining { code, until: self.in_a_while() };
        }
    }

    fn in_a_while(&self) -> Time {
        Time(self.clock.now().0.saturating_add(DRAIN))
    }

    /// `berth up` and process 1 of a container end by themselves; and what is being ended
    /// goes on when what it waited for is there.
    pub(super) fn look_for_an_end(&mut self) {
        match self.phase {
            Phase::Up => self.look_for_a_reason(),
            Phase::Draining { code, .. } if self.logger.is_over() && !self.is_writing() => {
                self.show_the_rest(code);
            }
            Phase::Showing { code, .. } if self.console.is_none() => {
                self.phase = Phase::Over { code };
            }
            _ => {}
        }
    }

    /// Whether something is being written down.
    fn is_writing(&self) -> bool {
        self.stopped.is_writing() || self.ranges.is_writing()
    }

    fn look_for_a_reason(&mut self) {
        let first = std::process::id() == 1;
        if !self.options.is_up() && !first {
            return;
        }
        let critical = self.machine.failed_critical().and_then(|id| self.machine.unit(id));
        if let Some(name) = critical.map(|unit| unit.name.clone()) {
            let code = self.code_from().filter(|&code| code != 0).unwrap_or(1);
            return self.begin_shutdown(&format!("{name} is critical and has failed"), code);
        }
        if !self.options.is_up() || !self.inputs.is_empty() {
            return;
        }
        if let Some(code) = self.code_from() {
            return self.begin_shutdown("the service of --exit-code-from has ended", code);
        }
        if self.machine.settled() {
            let failed = !self.machine.failed().is_empty();
            self.begin_shutdown("nothing is left to run", u8::from(failed));
        }
    }

    /// The exit code of the service that decides it, once that has ended for good.
    fn code_from(&self) -> Option<u8> {
        let name = self.options.exit_code_from.as_deref()?;
        let view = self.machine.view(self.machine.find(name)?)?;
        let over = matches!(view.state, StateName::Failed | StateName::Done | StateName::Inactive);
        match view.exit {
            Some(Exit::Code(code)) if over => Some(u8::try_from(code).unwrap_or(1)),
            Some(Exit::Signal(signal)) if over => {
                Some(u8::try_from(signal).unwrap_or(127).saturating_add(128))
            }
            Some(Exit::Unknown) if over => Some(1),
            None if view.state == StateName::Failed => Some(1),
            _ => None,
        }
    }

    /// Something was waited for too long.
    pub(super) fn phase_is_due(&mut self) {
        match self.phase {
            Phase::Draining { code, .. } => self.show_the_rest(code),
            Phase::Showing { .. } => {
                if let Some(console) = &self.console {
                    // A stopped terminal holds it up; it is reaped in the next turn.
                    let _ = pidfd::send_signal(console.pidfd.as_fd(), libc::SIGKILL);
                }
                self.phase = Phase::Showing { code: self.code(), until: self.in_a_while() };
            }
            Phase::Booting | Phase::Up | Phase::Down { .. } | Phase::Over { .. } => {}
        }
    }

    fn code(&self) -> u8 {
        match self.phase {
            Phase::Booting | Phase::Up => 0,
            Phase::Down { code }
            | Phase::Draining { code, .. }
            | Phase::Showing { code, .. }
            | Phase::Over { code } => code,
        }
    }

    fn show_the_rest(&mut self, code: u8) {
        let Some(console) = &mut self.console else {
            self.phase = Phase::Over { code };
            return;
        };
        console.lifeline = None;
        self.phase = Phase::Showing { code, until: self.in_a_while() };
    }

    /// The console has ended: told to, or because its terminal has gone.
    pub(super) fn console_ended(&mut self) {
        self.console = None;
    }
}
