//! What processes tell: their status sockets, readiness, notify messages and their end.
//!
//! The order of facts is the order in which things happened as far as anybody can tell:
//! before the end of a process is reported, everything it said is read.

use std::os::fd::{AsFd, OwnedFd};

use super::live::Progress;
use super::poller::{Part, Role, Source};
use super::{Daemon, Owner, notify};
use crate::container::{SocketKind, Status};
use crate::log::record::Stream;
use crate::supervisor::event::{Event, Fact};
use crate::supervisor::{Exit, Input, Run, UnitId};
use crate::sys::pidfd::{self, Known};
use crate::sys::reap::Ended;
use crate::sys::{reap, socket};
use crate::unit::model::Ready;

/// Datagrams taken from one notify socket in one turn.
const DATAGRAMS: usize = 64;

/// Processes looked at to find one by its number inside.
const PROCESSES: usize = 4096;

/// Turns in which the end of a main process that is not berth's child is looked up.
const LOOKS: u8 = 100;

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
            Part::Notify => {
                self.settle(id, run, Role::Main);
                self.drain_notify(id, run);
            }
            Part::ReadyPipe => {
                self.settle(id, run, Role::Main);
                self.drain_ready_pipe(id, run);
            }
            Part::Empty => self.progress_cleaning(id, run),
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
                Status::Executed => Progress::Executed,
                Status::Failed(text) => Progress::Failed(text),
            };
            let executed = matches!(progress, Progress::Executed);
            let Some(live) = self.lives.get_mut(&id) else { return };
            let early = live.matched;
            let Some(process) = live.process(role) else { return };
            if let Progress::SettingUp(status) = std::mem::replace(&mut process.progress, progress)
            {
                self.poller.close(status);
            }
            match (executed, role) {
                (true, Role::Sandbox) => self.fact(id, run, Fact::Prepared),
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

    /// A socket that the sandbox made inside.
    fn take_socket(&mut self, id: UnitId, run: Run, kind: SocketKind, fd: OwnedFd) {
        let Some(live) = self.lives.get_mut(&id) else { return };
        let Some(service) = live.unit.service() else { return };
        match kind {
            SocketKind::Notify => match self.poller.input(fd, Source::Run(id, run, Part::Notify)) {
                Ok(watched) => live.notify = Some(watched),
                Err(error) => {
                    self.complain(id, &format!("cannot watch its notify socket: {error}"));
                }
            },
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
                    self.ended(owner, exit(dead.ended));
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

    fn ended(&mut self, owner: Option<Owner>, exit: Exit) {
        match owner {
            Some(Owner::Run(id, run, role)) => self.process_ended(id, run, role, exit),
            Some(Owner::Logger) => self.logger_ended(),
            Some(Owner::Helper) => {
                self.control.helpers = self.control.helpers.saturating_sub(1);
            }
            Some(Owner::Stopped) => self.stopped_written(exit),
            Some(Owner::Exec(session)) => self.exec_ended(session, exit),
            Some(Owner::Console) => self.console_ended(),
            // The reader's answer (or its absence) comes through its pipe; an orphan has
            // nobody else to be reaped by.
            Some(Owner::Reader) | None => {}
        }
    }

    fn process_ended(&mut self, id: UnitId, run: Run, role: Role, exit: Exit) {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        let Some(process) = live.take(role) else { return };
        if role == Role::Main {
            self.forget_foreign_main(id);
        }
        let failed = match process.progress {
            Progress::SettingUp(status) => {
                self.poller.close(status);
                Some("it was killed while it was being set up".to_owned())
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

    /// Before a bad end is told: whether the kernel killed something for lack of memory.
    fn tell_of_memory(&mut self, id: UnitId, run: Run, exit: Exit) {
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
        let processes = live.group.processes(PROCESSES).unwrap_or_default();
        processes.iter().any(|pid| !self.pids.contains_key(pid))
    }

    /// Readiness by a line of the log. One that `start-pre` wrote counts once the command runs.
    pub(super) fn line_matched(&mut self, id: UnitId, run: Run) {
        self.settle(id, run, Role::Main);
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        live.matched = true;
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
                self.fact(id, run, Fact::Ready);
            }
        }
    }

    /// Messages of the service; each sender is checked.
    fn drain_notify(&mut self, id: UnitId, run: Run) {
        let mut buffer = [0_u8; notify::MAX_DATAGRAM];
        for _ in 0..DATAGRAMS {
            let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
            let Some(socket) = &live.notify else { return };
            let message = match socket::receive(socket.as_fd(), &mut buffer) {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    self.complain(id, &format!("cannot read its notify socket: {error}"));
                    return;
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
            let wanted = self
                .lives
                .get(&id)
                .and_then(|live| live.unit.service())
                .is_some_and(|service| service.ready == Ready::Notify);
            for fact in message.facts {
                // READY=1 of a service that is ready by other means ends its reloading, no more.
                if fact != Fact::Ready || wanted {
                    self.fact(id, run, fact);
                }
            }
            if let Some(number) = message.main_pid {
                self.change_main(id, run, sender, number);
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
            let processes = live.group.processes(PROCESSES).unwrap_or_default();
            pidfd::find_inside(&processes, number)
        } else if self.belongs(id, number) {
            pidfd::open(number).map(|pidfd| Some((number, pidfd)))
        } else {
            Ok(None)
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
        if let Err(error) = self.follow_main(id, run, pid, pidfd) {
            self.complain(id, &format!("cannot follow main process {pid}: {error}"));
        }
    }

    /// Follows a process that berth did not start. If it is (or becomes) berth's child the
    /// reaper hears of its end; the pidfd tells in any case.
    fn follow_main(
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
        live.foreign_main = Some(super::live::Foreign { watched, looks: 0 });
        let new = super::live::Process { pid, pidfd: handle, progress: Progress::Executed };
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
        self.complain(id, &format!("main process is now {pid}"));
        Ok(())
    }

    /// The end of a main process that berth did not start.
    fn foreign_main_ended(&mut self, id: UnitId, run: Run) {
        // It may have become berth's own child; then the reaper knows more.
        self.children = self.reap();
        self.drain_notify(id, run);
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        let Some(foreign) = &mut live.foreign_main else { return };
        let pid = live.main.as_ref().map_or(0, |main| main.pid);
        let exit = match pidfd::exit_status(foreign.watched.as_fd(), pid) {
            Known::Ended(ended) => exit(ended),
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

    fn forget_foreign_main(&mut self, id: UnitId) {
        if let Some(foreign) = self.lives.get_mut(&id).and_then(|live| live.foreign_main.take()) {
            self.poller.close(foreign.watched);
        }
    }
}

fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal(signal) => Exit::Signal(signal),
    }
}
