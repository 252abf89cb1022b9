//! What processes tell: their status sockets, readiness, and their end.
//!
//! The order of facts is the order in which things happened as far as anybody can tell:
//! before the end of a process is reported, everything it said is read.

use std::os::fd::OwnedFd;

use super::live::Progress;
use super::poller::{Part, Role, Source};
use super::writer::Book;
use super::{Daemon, INPUTS_A_TURN, Owner};
use crate::container::{SocketKind, Status};
use crate::log::record::Stream;
use crate::supervisor::event::{Event, Fact};
use crate::supervisor::{Exit, Input, Run, UnitId};
use crate::sys::reap;
use crate::sys::reap::Ended;

/// Processes looked at to find one by its number inside.
pub const PROCESSES: usize = 4096;

/// Children reaped in one turn; the rest in the next.
const REAPED: usize = 512;

impl Daemon {
    /// A fact for the machine.
    pub(super) fn fact(&mut self, unit: UnitId, run: Run, fact: Fact) {
        self.inputs.push_back(Input::Event(Event { unit, run, fact }));
    }

    /// A descriptor of a run is ready.
    pub(super) fn run_ready(&mut self, id: UnitId, run: Run, part: Part) {
        match part {
            Part::Status(role) => self.settle(id, run, role),
            // What the program says comes after its execution, whichever is seen first.
            // With a backlog the rest stays in the socket until the machine has caught up.
            Part::Notify if self.inputs.len() >= INPUTS_A_TURN => {}
            Part::Notify => {
                self.settle(id, run, Role::Main);
                self.drain_notify(id, run);
            }
            Part::ReadyPipe => {
                self.settle(id, run, Role::Main);
                self.drain_ready_pipe(id, run);
            }
            Part::Empty => self.cgroup_changed(id, run),
            Part::Memory => self.look_for_kills(id, run),
            Part::ForeignMain => self.foreign_main_ended(id, run),
        }
    }

    /// Reads how far a process has come.
    fn settle(&mut self, id: UnitId, run: Run, role: Role) {
        loop {
            let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
            let Some(Progress::SettingUp(_)) = live.process(role).map(|it| &it.progress) else {
                return;
            };
            let Some(plan) = self.plan(id) else { return };
            let Some(process) = self.lives.get_mut(&id).and_then(|live| live.process(role)) else {
                return;
            };
            let Progress::SettingUp(status) = &mut process.progress else { return };
            let progress = match status.get_mut().read(&plan) {
                Status::Pending => return,
                Status::Socket(kind, fd) => {
                    self.take_socket(id, run, kind, fd);
                    continue;
                }
                Status::HasNetwork => {
                    self.connect(id, run);
                    continue;
                }
                Status::WithoutUsers(why) => {
                    self.without_users(id, why);
                    continue;
                }
                Status::Lacks(what) => {
                    self.lacks(id, what);
                    continue;
                }
                Status::Executed => Progress::Executed,
                Status::Failed(text) => Progress::Failed(text),
            };
            let executed = matches!(progress, Progress::Executed);
            let Some(live) = self.lives.get_mut(&id) else { return };
            let early = live.early;
            let Some(process) = live.process(role) else { return };
            if let Progress::SettingUp(status) = std::mem::replace(&mut process.progress, progress)
            {
                self.poller.close(status);
            }
            match (executed, role) {
                (true, Role::Sandbox) => self.sandbox_is_up(id, run),
                (true, Role::Main) => {
                    self.fact(id, run, Fact::MainExecuted);
                    if early {
                        self.fact(id, run, Fact::Ready);
                    }
                    self.start_probe(id, run);
                }
                // A failed setup is reported when the process has ended: then nothing of it
                // is left.
                (true, Role::Hook(_) | Role::Probe) | (false, _) => {}
            }
            return;
        }
    }

    /// Listens to a unit's notify socket. The logger holds it too: a supervisor after this one
    /// could find it nowhere else.
    pub(super) fn watch_notify(
        &mut self,
        id: UnitId,
        run: Run,
        socket: OwnedFd,
    ) -> std::io::Result<()> {
        let copy = socket.try_clone()?;
        let watched = self.poller.input(socket, Source::Run(id, run, Part::Notify))?;
        let Some(live) = self.lives.get_mut(&id) else {
            self.poller.close(watched);
            return Ok(());
        };
        live.notify = Some(watched);
        live.streams.push(self.logger.keep(&self.poller, copy));
        Ok(())
    }

    /// A socket that the sandbox made inside.
    fn take_socket(&mut self, id: UnitId, run: Run, kind: SocketKind, fd: OwnedFd) {
        let Some(live) = self.lives.get_mut(&id) else { return };
        let Some(service) = live.unit.service() else { return };
        match kind {
            SocketKind::Notify => {
                if let Err(error) = self.watch_notify(id, run, fd) {
                    self.complain(id, &format!("cannot watch its notify socket: {error}"));
                }
            }
            SocketKind::Syslog => {
                let attached = super::logger::Attached {
                    unit: live.unit.name.clone(),
                    run: run.0,
                    stream: Stream::Syslog,
                    fd,
                    settings: service.log.clone(),
                    watch: None,
                };
                let token = self.logger.attach(&self.poller, attached);
                live.streams.push(token);
            }
            // Only `exec` has one.
            SocketKind::Terminal => {}
        }
    }

    /// Reaps what has ended; true if there may be more.
    pub(super) fn reap(&mut self) -> bool {
        for _ in 0..REAPED {
            match reap::peek() {
                Ok(Some(dead)) => {
                    // Everything it said comes first, while its number is still its own.
                    let owner = self.pids.remove(&dead.pid);
                    self.host.ended(dead.pid);
                    if let Some(Owner::Run(id, run, role)) = owner {
                        self.before_end(id, run, role);
                    }
                    if let Err(error) = reap::reap(dead.pid) {
                        self.journal.say(&format!("cannot reap {}: {error}", dead.pid));
                        return false;
                    }
                    self.ended(owner, dead.pid, how(dead.ended));
                }
                Ok(None) => return false,
                Err(error) => {
                    self.journal.say(&format!("cannot look for ended children: {error}"));
                    return false;
                }
            }
        }
        true
    }

    fn before_end(&mut self, id: UnitId, run: Run, role: Role) {
        self.settle(id, run, role);
        if role == Role::Main {
            self.drain_notify(id, run);
            self.drain_ready_pipe(id, run);
        }
    }

    fn ended(&mut self, owner: Option<Owner>, pid: i32, exit: Exit) {
        match owner {
            Some(Owner::Run(id, run, role)) => self.process_ended(id, run, role, pid, exit),
            Some(Owner::Logger) => self.logger_ended(),
            Some(Owner::Keeper) => self.keeper_ended(),
            Some(Owner::Helper) => self.control.helper_ended(pid),
            Some(Owner::OtherHelper) => {
                self.control.other_helpers = self.control.other_helpers.saturating_sub(1);
                self.control.helper_ended(pid);
            }
            Some(Owner::Ranges) => self.book_written(Book::Ranges, exit),
            Some(Owner::Stopped) => self.book_written(Book::Stopped, exit),
            Some(Owner::Rehearsal) => self.rehearsal_ended(exit),
            Some(Owner::Exec(session)) => self.exec_ended(session, exit),
            Some(Owner::Console) => self.console_ended(),
            // The reader's answer (or its absence) comes through its pipe; an orphan has
            // nobody else to be reaped by.
            Some(Owner::Reader) | None => {}
        }
    }

    fn process_ended(&mut self, id: UnitId, run: Run, role: Role, pid: i32, exit: Exit) {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        // Another may be in its place by now: a main process that the service named, a hook
        // that was started after this one had been given up.
        let Some((process, awaited)) = live.take(role, pid) else {
            return self.progress_cleaning(id, run);
        };
        let early = live.early;
        if role == Role::Main {
            self.forget_foreign_main(id);
        }
        let failed = match process.progress {
            Progress::SettingUp(mut status) => {
                let executed = status.get_mut().is_executing() && role != Role::Sandbox;
                self.poller.close(status);
                if executed && role == Role::Main {
                    self.fact(id, run, Fact::MainExecuted);
                    if early {
                        self.fact(id, run, Fact::Ready);
                    }
                }
                (!executed).then(|| "it was killed while it was being set up".to_owned())
            }
            Progress::Executed => None,
            Progress::Failed(text) => Some(text),
        };
        match (role, failed) {
            (Role::Sandbox | Role::Main, Some(text)) => {
                self.fact(id, run, Fact::SetupFailed(text));
            }
            (Role::Main, None) => {
                self.tell_of_memory(id, run, exit);
                let left_behind = self.has_left_behind(id);
                self.fact(id, run, Fact::MainExited { exit, left_behind });
            }
            (Role::Hook(_), _) if !awaited => {}
            (Role::Hook(hook), Some(text)) => {
                self.fact(id, run, Fact::HookEnded { hook, result: Err(text) });
            }
            (Role::Hook(hook), None) => {
                self.fact(id, run, Fact::HookEnded { hook, result: Ok(exit) });
            }
            (Role::Probe, None) if exit == Exit::Code(0) => self.fact(id, run, Fact::Ready),
            (Role::Sandbox, None) | (Role::Probe, _) => {}
        }
        self.progress_cleaning(id, run);
    }

    /// Its namespaces are made, and begin at its own control group.
    fn sandbox_is_up(&mut self, id: UnitId, run: Run) {
        if let Some(live) = self.lives.get(&id)
            && let Some(sandbox) = &live.sandbox
            && let Err(error) = live.group.step_aside(sandbox.pid)
        {
            let text = format!("its init is in the way of groups that it makes: {error}");
            self.complain(id, &text);
        }
        self.fact(id, run, Fact::Prepared);
    }

    /// Before a bad end is told: whether the kernel killed something for lack of memory.
    pub(super) fn tell_of_memory(&mut self, id: UnitId, run: Run, exit: Exit) {
        self.look_for_kills(id, run);
        let Some(live) = self.lives.get(&id).filter(|_| exit != Exit::Code(0)) else { return };
        if live.group.oom_kills().is_some_and(|kills| kills > 0) {
            self.fact(id, run, Fact::OutOfMemory);
        }
    }

    /// Whether processes that the service itself started are still there. Only worth a look
    /// where they survive it: with process 1 of a pid namespace all others end.
    fn has_left_behind(&self, id: UnitId) -> bool {
        let Some(live) = self.lives.get(&id) else { return false };
        if live.sandbox.is_none()
            && live.unit.service().is_some_and(|service| service.namespaces.value.pid)
        {
            return false;
        }
        // A group that cannot be read is told of when the run is cleaned.
        let processes = live.group.processes(PROCESSES).unwrap_or_default();
        processes.iter().any(|&pid| !self.pids.contains_key(&pid) && !self.of_a_visitor(pid))
    }

    /// Whether a process of a unit was started by a hook, a health check or `exec` that still
    /// runs: each of them leads a session of its own.
    fn of_a_visitor(&self, pid: i32) -> bool {
        let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid));
        let leader = session.ok().and_then(|leader| self.pids.get(&leader.as_raw_nonzero().get()));
        matches!(leader, Some(Owner::Run(_, _, Role::Hook(_)) | Owner::Exec(_)))
    }

    /// Readiness by a line of the log. One that `start-pre` wrote counts once the command runs.
    pub(super) fn line_matched(&mut self, id: UnitId, run: Run) {
        self.settle(id, run, Role::Main);
        self.ready(id, run);
    }

    /// It is ready. As long as it is not known that its program runs, that is kept.
    pub(super) fn ready(&mut self, id: UnitId, run: Run) {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        live.early = true;
        if live.main.as_ref().is_some_and(|it| matches!(it.progress, Progress::Executed)) {
            self.fact(id, run, Fact::Ready);
        }
    }

    /// Readiness by descriptor: a newline.
    fn drain_ready_pipe(&mut self, id: UnitId, run: Run) {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        let Some(pipe) = &live.ready_pipe else { return };
        let mut buffer = [0_u8; 256];
        let over = match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => true,
            Ok(count) => buffer.iter().take(count).any(|&byte| byte == b'\n'),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => true,
        };
        if over && let Some(pipe) = live.ready_pipe.take() {
            self.poller.close(pipe);
            if buffer.contains(&b'\n') {
                self.ready(id, run);
            }
        }
    }
}

/// In the machine's words.
pub fn how(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal(signal) => Exit::Signal(signal),
    }
}
