//! What a service says over its notify socket, and whom it names as its main process.
//!
//! What must always hold: nobody but the unit's own processes is listened to, and nobody
//! but one of them becomes its main process; a service that talks without end costs the
//! supervisor a bounded amount of work a turn, and no memory.

use std::os::fd::{AsFd, OwnedFd};

use super::live::{Foreign, Process, Progress};
use super::poller::{Part, Role, Source};
use super::processes::{PROCESSES, how};
use super::{Daemon, Owner, notify};
use crate::supervisor::event::Fact;
use crate::supervisor::view::StateName;
use crate::supervisor::{Exit, Run, UnitId};
use crate::sys::pidfd::{self, Known};
use crate::sys::socket;
use crate::unit::model::Ready;

/// Datagrams taken from one notify socket in one turn.
const DATAGRAMS: usize = 64;

/// Turns in which the end of a main process that is not berth's child is looked up.
const LOOKS: u8 = 100;

impl Daemon {
    /// Messages of the service; each sender is checked. Of several main processes named in
    /// one go only the last is looked for.
    pub(super) fn drain_notify(&mut self, id: UnitId, run: Run) {
        let mut buffer = [0_u8; notify::MAX_DATAGRAM];
        let mut main = None;
        for _ in 0..DATAGRAMS {
            let Some(live) = self.lives.get(&id).filter(|live| live.run == run) else { return };
            let Some(socket) = &live.notify else { break };
            let message = match socket::receive(socket.as_fd(), &mut buffer) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    self.complain(id, &format!("cannot read its notify socket: {error}"));
                    break;
                }
            };
            let sender = message.credentials.map_or(0, |credentials| credentials.pid);
            if !self.belongs(id, sender) {
                let text =
                    format!("ignored a notify message from process {sender}, which is not its own");
                self.complain(id, &text);
                continue;
            }
            let message = notify::parse(buffer.get(..message.length).unwrap_or_default());
            main = message.main_pid.map(|number| (sender, number)).or(main);
            self.take_message(id, run, message.facts);
        }
        if let Some((sender, number)) = main {
            self.change_main(id, run, sender, number);
        }
    }

    fn take_message(&mut self, id: UnitId, run: Run, facts: Vec<Fact>) {
        let Some(live) = self.lives.get(&id) else { return };
        // Of a service that is ready by other means, or of `start-pre`, READY=1 is none; it
        // only ends the reloading of one that is ready.
        let by_notify = live.unit.service().is_some_and(|it| it.ready == Ready::Notify);
        let counts = by_notify && live.main.is_some();
        for fact in facts {
            match fact {
                Fact::Ready if counts => self.ready(id, run),
                Fact::Ready if self.machine.view(id).is_none_or(|view| !view.ready) => {}
                other => self.fact(id, run, other),
            }
        }
    }

    /// Whether a process is in the unit's cgroup. One that has ended already cannot be asked;
    /// it is believed only if the socket can be reached from inside the unit alone. Number 0
    /// is one that this pid namespace does not see, so none that berth has started.
    fn belongs(&self, id: UnitId, pid: i32) -> bool {
        if pid <= 0 {
            return false;
        }
        let Some(live) = self.lives.get(&id) else { return false };
        if live.started(pid) {
            return true;
        }
        let private = live.unit.service().is_some_and(|it| it.namespaces.value.mount);
        live.group.holds(pid).unwrap_or(private)
    }

    /// `MAINPID=`: another process of the unit is the one that counts.
    fn change_main(&mut self, id: UnitId, run: Run, sender: i32, number: i32) {
        let Some(live) = self.lives.get(&id) else { return };
        let in_pid_namespace = live.unit.service().is_some_and(|it| it.namespaces.value.pid);
        let found = if in_pid_namespace {
            let processes = live.group.processes(PROCESSES);
            processes.and_then(|processes| pidfd::find_inside(&processes, number))
        } else {
            self.open_own(id, number)
        };
        let (pid, pidfd) = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                let text = format!(
                    "process {sender} named {number} as main process, which is not its own"
                );
                return self.complain(id, &text);
            }
            Err(error) => {
                return self.complain(id, &format!("cannot find main process {number}: {error}"));
            }
        };
        if live.main.as_ref().is_some_and(|main| main.pid == pid)
            || live.sandbox.as_ref().is_some_and(|sandbox| sandbox.pid == pid)
        {
            return;
        }
        match self.follow_main(id, run, pid, pidfd) {
            Ok(()) => {
                self.complain(id, &format!("main process is now {pid}"));
                if self.machine.view(id).is_some_and(|view| view.ready) {
                    self.note(id, StateName::Running);
                }
            }
            Err(error) => {
                self.complain(id, &format!("cannot follow main process {pid}: {error}"));
            }
        }
    }

    /// The process of this number, if it is one of the unit's. It is opened first: what is
    /// true of an open process that has not ended is not said of another of its number.
    fn open_own(&self, id: UnitId, number: i32) -> std::io::Result<Option<(i32, OwnedFd)>> {
        let Some(live) = self.lives.get(&id) else { return Ok(None) };
        let handle = match pidfd::open(number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            other => other?,
        };
        let own = live.started(number) || live.group.holds(number).unwrap_or(false);
        Ok((own && !pidfd::has_ended(handle.as_fd())?).then_some((number, handle)))
    }

    /// Follows a process that berth did not start. If it is (or becomes) berth's child the
    /// reaper hears of its end; the pidfd tells in any case.
    pub(super) fn follow_main(
        &mut self,
        id: UnitId,
        run: Run,
        pid: i32,
        handle: OwnedFd,
    ) -> std::io::Result<()> {
        let watch = handle.try_clone()?;
        let source = Source::Run(id, run, Part::ForeignMain);
        let watched = self.poller.input(watch, source)?;
        self.forget_foreign_main(id);
        let Some(live) = self.lives.get_mut(&id) else { return Ok(()) };
        live.foreign_main = Some(Foreign { watched, looks: 0 });
        let new = Process { pid, pidfd: handle, progress: Progress::Executed };
        if let Some(old) = live.main.replace(new)
            && self.pids.get(&old.pid) == Some(&Owner::Run(id, run, Role::Main))
        {
            // The one berth started is reaped as an orphan would be.
            self.pids.remove(&old.pid);
            if let Progress::SettingUp(status) = old.progress {
                self.poller.close(status);
            }
        }
        self.pids.insert(pid, Owner::Run(id, run, Role::Main));
        Ok(())
    }

    /// The end of a main process that berth did not start.
    pub(super) fn foreign_main_ended(&mut self, id: UnitId, run: Run) {
        // It may have become berth's own child; then the reaper knows more.
        self.children = self.reap();
        self.drain_notify(id, run);
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        let Some(foreign) = &mut live.foreign_main else { return };
        let pid = live.main.as_ref().map_or(0, |main| main.pid);
        let exit = match pidfd::exit_status(foreign.watched.as_fd(), pid) {
            Known::Ended(ended) => how(ended),
            // Its parent is about to reap it; the next turn looks again.
            Known::NotYet if foreign.looks < LOOKS => {
                foreign.looks = foreign.looks.saturating_add(1);
                return;
            }
            Known::NotYet | Known::Never => Exit::Unknown,
        };
        self.forget_foreign_main(id);
        if let Some(main) = self.lives.get_mut(&id).and_then(|live| live.main.take()) {
            self.pids.remove(&main.pid);
            self.tell_of_memory(id, run, exit);
            self.fact(id, run, Fact::MainExited { exit, left_behind: false });
        }
        self.progress_cleaning(id, run);
    }

    pub(super) fn forget_foreign_main(&mut self, id: UnitId) {
        if let Some(foreign) = self.lives.get_mut(&id).and_then(|live| live.foreign_main.take()) {
            self.poller.close(foreign.watched);
        }
    }
}
