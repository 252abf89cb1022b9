//! How the supervisor ends: who asked, what is waited for, and the exit code.

use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Daemon;
use crate::pid1::{End, Place};
use crate::supervisor::request::{Request, Wish};
use crate::supervisor::view::StateName;
use crate::supervisor::{Exit, Time};
use crate::sys::pidfd;

/// How long the logger may take to write the rest, and then the console to show it.
const DRAIN: Duration = Duration::from_secs(5);

/// So often pressed within so long, Ctrl-Alt-Del means at once.
const IMPATIENT: usize = 7;
const IMPATIENCE: Duration = Duration::from_secs(2);

/// Most names in one message.
const NAMED: usize = 8;

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
        /// Then it is said who holds it up.
        tell: Time,
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
            Self::Down { tell: until, .. }
            | Self::Draining { until, .. }
            | Self::Showing { until, .. } => Some(until),
            Self::Booting | Self::Up | Self::Over { .. } => None,
        }
    }
}

impl Daemon {
    /// Everything down, and then the machine, where this is process 1 of one.
    pub(super) fn begin_end(&mut self, why: &str, end: End) {
        self.end = end;
        self.begin_shutdown(why, 0);
    }

    /// A signal that is not about a child. Every other one means nothing, so that nobody can
    /// end a machine by mistake.
    pub(super) fn signalled(&mut self, signal: i32) {
        let rt = |offset: i32| libc::SIGRTMIN().saturating_add(offset);
        match signal {
            libc::SIGHUP => self.hang_up(),
            libc::SIGUSR1 => self.listen_again(),
            libc::SIGINT if self.options.place == Place::Machine => self.ctrl_alt_del(),
            libc::SIGINT => self.begin_shutdown("SIGINT", 0),
            libc::SIGTERM => self.begin_end("SIGTERM", self.own_end()),
            libc::SIGPWR if self.options.place != Place::Plain => {
                self.begin_end("the power fails", End::Poweroff);
            }
            other if self.options.place != Place::Plain => {
                // What systemd takes them for, and with it every tool that sends them.
                let ends = [(rt(3), End::Halt), (rt(4), End::Poweroff), (rt(5), End::Reboot)];
                if let Some((_, end)) = ends.iter().find(|(number, _)| *number == other) {
                    self.begin_end("asked to by a signal", *end);
                }
            }
            _ => {}
        }
    }

    /// How this ends when nobody says how.
    pub(super) fn own_end(&self) -> End {
        if self.options.place == Place::Machine { End::Poweroff } else { End::Exit }
    }

    /// Ctrl-Alt-Del on a machine: a reboot; pressed again and again: at once.
    fn ctrl_alt_del(&mut self) {
        let now = self.clock.now();
        self.pressed.push_back(now);
        self.pressed.retain(|then| now.0.saturating_sub(then.0) <= IMPATIENCE);
        if self.pressed.len() >= IMPATIENT {
            self.journal.say("Ctrl-Alt-Del again and again: rebooting at once");
            self.end = End::Reboot;
            self.phase = Phase::Over { code: 0 };
        } else if let Phase::Booting | Phase::Up = self.phase {
            self.begin_end("Ctrl-Alt-Del", End::Reboot);
        }
    }

    /// The control socket was removed, or its directory was not there yet.
    fn listen_again(&mut self) {
        match self.listen() {
            Ok(()) => self.journal.say("the control socket was made again"),
            Err(error) => self.journal.say(&format!("cannot make the control socket: {error}")),
        }
    }

    /// Says who is still there, with the reason the machine knows of.
    fn say_who_holds_it_up(&mut self) {
        let late = |id| {
            let state = self.machine.view(id)?.state;
            let states = [StateName::Stopping, StateName::Running, StateName::Starting];
            // One that waits for its dependents holds up nothing itself.
            let waits = self.machine.view(id)?.run.is_none();
            let unit = self.machine.unit(id)?;
            (states.contains(&state) && !waits).then(|| unit.name.clone())
        };
        let mut names: Vec<String> = self.machine.ids().filter_map(late).collect();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if !names.is_empty() {
            self.journal.say(&format!("still waiting for {}{more} to stop", names.join(", ")));
        }
    }

    /// Everything down. Asked a second time: at once.
    pub(super) fn begin_shutdown(&mut self, why: &str, code: u8) {
        match self.phase {
            Phase::Booting | Phase::Up => {
                self.journal.say(&format!("stopping everything ({why})"));
                self.phase = Phase::Down { code, tell: self.in_a_while() };
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
            self.write_at_last();
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

    fn look_for_a_reason(&mut self) {
        let ends_with_it = self.options.is_up() || self.options.place == Place::Container;
        if !ends_with_it {
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
            Phase::Down { code, .. } => {
                self.say_who_holds_it_up();
                self.phase = Phase::Down { code, tell: self.in_a_while() };
            }
            Phase::Booting | Phase::Up | Phase::Over { .. } => {}
        }
    }

    fn code(&self) -> u8 {
        match self.phase {
            Phase::Booting | Phase::Up => 0,
            Phase::Down { code, .. }
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
