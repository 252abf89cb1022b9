//! The machine's orders, carried out.
//!
//! Each order is answered by facts, at once or later; an order that cannot be carried out
//! is answered by the fact that says so. Nothing here waits and nothing here decides.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};

use super::Daemon;
use super::hooks::{self, HookProgram};
use super::live::{Live, Process, Progress};
use super::poller::{Part, Role, Source};
use crate::container::probe::{self, Patience, Target};
use crate::container::{self, Child, Context, Plan, Program, Stdio, Where};
use crate::supervisor::action::Notice;
use crate::supervisor::event::Fact;
use crate::supervisor::view::StateName;
use crate::supervisor::{Action, Hook, Run, UnitId};
use crate::sys::{pidfd, signal, socket};
use crate::unit::model::{Ready, Service, Unit};

impl Daemon {
    /// Carries out one order.
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Prepare { unit, run } => self.prepare(unit, run),
            Action::RunMain { unit, run } => self.run_main(unit, run),
            Action::RunHook { unit, run, hook } => self.run_hook(unit, run, hook),
            Action::KillHook { unit, run, hook } => self.kill_role(unit, run, Role::Hook(hook)),
            Action::StopWatching { unit, run } => self.stop_watching(unit, run),
            Action::Signal { unit, run, signal } => self.signal(unit, run, signal),
            Action::Clean { unit, run } => self.clean(unit, run),
            Action::Freeze { unit, run, on } => self.freeze(unit, run, on),
            Action::Announce(notice) => self.announce(&notice),
            Action::JobDone { job, result } => self.job_ended(job, result),
            Action::Removed { unit, name } => self.removed(unit, &name),
            Action::ShutdownDone => self.shutdown_done(),
        }
    }

    /// Cgroup, pipes and, with an init, the sandbox.
    fn prepare(&mut self, id: UnitId, run: Run) {
        match self.try_prepare(id, run) {
            Ok(true) => {}
            Ok(false) => self.fact(id, run, Fact::Prepared),
            Err(text) => self.fact(id, run, Fact::SetupFailed(text)),
        }
    }

    /// True if there is a sandbox whose end of setting up is to be waited for.
    fn try_prepare(&mut self, id: UnitId, run: Run) -> Result<bool, String> {
        let unit = self.machine.unit(id).cloned().ok_or("the unit has gone")?;
        let service = unit.service().ok_or("a target has nothing to run")?;
        self.afford()?;
        self.volume_is_there(service)?;
        let numbers = self.number_users(id)?;
        let group = container::group(&self.claim.root, &unit, &unit.name)?;
        let mut live = Live::new(run, unit.clone(), group);
        live.numbers = numbers;
        if let Some((uid, gid)) = self.ranges.users(id, &live).map(container::Users::owner) {
            live.group
                .give_to(uid, gid)
                .map_err(|error| format!("cannot give it its control group: {error}"))?;
        }
        let prepared = self.open_output(&mut live, service, id);
        self.lives.insert(id, Box::new(live));
        prepared?;
        self.watch_memory(id, run);
        if self.ask_for_networks(id, run, &unit) {
            return Ok(true);
        }
        self.try_prepare_sandbox(id, run)
    }

    /// The second half, once the unit has its addresses.
    pub(super) fn prepare_sandbox(&mut self, id: UnitId, run: Run) {
        match self.try_prepare_sandbox(id, run) {
            Ok(true) => {}
            Ok(false) => self.fact(id, run, Fact::Prepared),
            Err(text) => self.fact(id, run, Fact::SetupFailed(text)),
        }
    }

    /// As [`Self::try_prepare`].
    fn try_prepare_sandbox(&mut self, id: UnitId, run: Run) -> Result<bool, String> {
        let unit = self.machine.unit(id).cloned().ok_or("the unit has gone")?;
        if !unit.service().is_some_and(Service::has_init) {
            return Ok(false);
        }
        let plan = self.plan(id).ok_or("its preparation is gone")?;
        let live = self.lives.get(&id).ok_or("its preparation is gone")?;
        let users = self.ranges.users(id, live);
        let child = container::sandbox(&self.host, &plan, &live.group, users)
            .map_err(|error| error.to_string())?;
        self.started(id, run, Role::Sandbox, child)?;
        self.share_network(id, run, Role::Sandbox).map(|()| true)
    }

    fn run_main(&mut self, id: UnitId, run: Run) {
        if let Err(text) = self.try_run_main(id, run) {
            self.fact(id, run, Fact::SetupFailed(text));
        }
    }

    fn try_run_main(&mut self, id: UnitId, run: Run) -> Result<(), String> {
        let plan = self.plan(id).ok_or("its preparation is gone")?;
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else {
            return Err("its preparation is gone".to_owned());
        };
        let unit = live.unit.clone();
        let service = unit.service().ok_or("a target has nothing to run")?;
        if service.wants_notify() && !service.namespaces.value.mount {
            let path = self.options.notify_directory().join(&unit.name);
            let socket = bind_notify(&path)
                .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
            self.watch_notify(id, run, socket).map_err(|it| it.to_string())?;
        }
        let live = self.lives.get_mut(&id).ok_or("its preparation is gone")?;
        let mut extra = None;
        if let Ready::Fd(number) = service.ready {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| format!("cannot make a pipe for fd:{number}: {error}"))?;
            crate::sys::fd::set_nonblocking(read.as_fd(), true).map_err(|it| it.to_string())?;
            let source = Source::Run(id, run, Part::ReadyPipe);
            live.ready_pipe = Some(self.poller.input(read, source).map_err(|it| it.to_string())?);
            extra = Some((number, write));
        }
        let named: Vec<_> =
            extra.iter().map(|(number, fd)| (number.cast_signed(), fd.as_fd())).collect();
        let stdio = Stdio { named: &named, ..live.stdio() };
        let users = self.ranges.users(id, live);
        let place = Where { group: &live.group, inside: live.world()?, users };
        let makes_its_world = place.inside.is_none();
        let child = container::process(&self.host, &plan, place, Program::Main, &stdio)
            .map_err(|error| error.to_string())?;
        if !hooks::any(service) {
            live.output = None;
        }
        self.started(id, run, Role::Main, child)?;
        if makes_its_world { self.share_network(id, run, Role::Main) } else { Ok(()) }
    }

    fn run_hook(&mut self, id: UnitId, run: Run, hook: Hook) {
        if let Err(text) = self.try_run_hook(id, run, hook) {
            self.fact(id, run, Fact::HookEnded { hook, result: Err(text) });
        }
    }

    fn try_run_hook(&mut self, id: UnitId, run: Run, hook: Hook) -> Result<(), String> {
        let plan = self.plan(id).ok_or("its run is over")?;
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else {
            return Err("its run is over".to_owned());
        };
        let unit = live.unit.clone();
        let service = unit.service().ok_or("a target has no commands")?;
        let child = match hooks::program(service, hook).ok_or("there is no such command")? {
            HookProgram::Command(program) => {
                let users = self.ranges.users(id, live);
                let place = Where { group: &live.group, inside: live.inside()?, users };
                container::process(&self.host, &plan, place, program, &live.stdio())
                    .map_err(|error| error.to_string())?
            }
            HookProgram::Probe(target) => {
                return self.probe(id, run, Role::Hook(hook), &target, Patience::Once);
            }
        };
        self.started(id, run, Role::Hook(hook), child)
    }

    /// The readiness probe of `tcp:`, `unix:` and `path:`, once the program runs.
    pub(super) fn start_probe(&mut self, id: UnitId, run: Run) {
        let Some(live) = self.lives.get(&id).filter(|live| live.run == run) else { return };
        let target = live.unit.service().and_then(|service| Target::of_ready(&service.ready));
        let Some(target) = target else { return };
        if let Err(text) = self.probe(id, run, Role::Probe, &target, Patience::Forever) {
            self.complain(id, &format!("cannot probe whether it is ready: {text}"));
        }
    }

    fn probe(
        &mut self,
        id: UnitId,
        run: Run,
        role: Role,
        target: &Target,
        patience: Patience,
    ) -> Result<(), String> {
        let plan = self.plan(id).ok_or("its run is over")?;
        let live = self.lives.get_mut(&id).ok_or("its run is over")?;
        let inside = live.holder().ok_or("it has no process")?;
        let process =
            probe::start(&plan, inside, target, patience).map_err(|error| error.to_string())?;
        let (pid, pidfd) = (process.pid, process.pidfd);
        self.pids.insert(pid, super::Owner::Run(id, run, role));
        live.put(role, Process { pid, pidfd, progress: Progress::Executed });
        Ok(())
    }

    /// Takes a new process into the books.
    fn started(&mut self, id: UnitId, run: Run, role: Role, child: Child) -> Result<(), String> {
        let pid = child.pid;
        self.pids.insert(pid, super::Owner::Run(id, run, role));
        let source = Source::Run(id, run, Part::Status(role));
        let (progress, watched) = match self.poller.input(child.status, source) {
            Ok(status) => (Progress::SettingUp(status), Ok(())),
            Err(error) => {
                let text = format!("cannot watch a child: {error}");
                (Progress::Failed(text.clone()), Err(text))
            }
        };
        if let Some(live) = self.lives.get_mut(&id) {
            live.put(role, Process { pid, pidfd: child.pidfd, progress });
        }
        watched
    }

    /// Whether there was a main process to signal.
    ///
    /// # Errors
    /// As `pidfd_send_signal(2)`.
    pub(super) fn signal_main(&mut self, id: UnitId, signal: i32) -> std::io::Result<bool> {
        let main = self.lives.get(&id).and_then(|live| live.main.as_ref());
        let Some(main) = main else { return Ok(false) };
        pidfd::send_signal(main.pidfd.as_fd(), signal).map(|()| true)
    }

    fn signal(&mut self, id: UnitId, run: Run, signal: i32) {
        if self.lives.get(&id).is_some_and(|live| live.run == run)
            && let Err(error) = self.signal_main(id, signal)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            self.complain(id, &format!("cannot send signal {signal}: {error}"));
        }
        // What is stopped (SIGSTOP) hears of its end only when it goes on.
        let ends = self.machine.view(id).is_some_and(|view| view.state == StateName::Stopping);
        if ends && signal != libc::SIGKILL {
            // The signal before it has told of any failure.
            let _ = self.signal_main(id, libc::SIGCONT);
        }
    }

    /// SIGKILL for one process of a run, if it is there, and for those it has started that
    /// are still of its process group: a check that hangs often waits for a child of its own.
    pub(super) fn kill_role(&mut self, id: UnitId, run: Run, role: Role) {
        let live = self.lives.get_mut(&id).filter(|live| live.run == run);
        if let Some(process) = live.and_then(|live| live.process(role)) {
            // It may have ended by itself; it is reaped either way. Until then its number is
            // its own. Without a session of its own (yet) there is no such group.
            let _ = pidfd::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
            let _ = signal::send_to_group(process.pid, libc::SIGKILL);
        }
    }

    fn stop_watching(&mut self, id: UnitId, run: Run) {
        self.kill_role(id, run, Role::Probe);
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        if let Some(pipe) = live.ready_pipe.take() {
            self.poller.close(pipe);
        }
        for token in live.streams.clone() {
            self.logger.unwatch(&self.poller, token);
        }
    }

    fn removed(&mut self, id: UnitId, name: &str) {
        self.ranges.forget(id);
        self.kills.forget(id);
        self.journal.say(&format!("{name}: removed"));
    }

    fn freeze(&mut self, id: UnitId, run: Run, on: bool) {
        let Some(live) = self.lives.get(&id).filter(|live| live.run == run) else { return };
        if let Err(error) = live.group.freeze(on) {
            let what = if on { "freeze" } else { "thaw" };
            self.complain(id, &format!("cannot {what} its cgroup: {error}"));
        }
    }

    fn announce(&mut self, notice: &Notice) {
        let Some(unit) = self.machine.unit(notice.unit).cloned() else { return };
        self.note(notice.unit, notice.state);
        let event = Self::event(&unit.name, notice);
        let state = event.state.to_string();
        let line = if notice.why.is_empty() {
            format!("{}: {state}", unit.name)
        } else {
            format!("{}: {state}: {}", unit.name, notice.why)
        };
        self.journal.say(&line);
        self.broadcast(event);
        self.publish_as(notice.unit, notice.state);
    }

    /// One line about a unit in the journal.
    pub(super) fn complain(&mut self, id: UnitId, text: &str) {
        let name = self.machine.unit(id).map_or("?", |unit| unit.name.as_str()).to_owned();
        self.journal.say(&format!("{name}: {text}"));
    }

    /// The steps of a live run. Compiled whenever a process is made, which takes far less
    /// than that: kept, they would be a third of what a running service takes here.
    pub(super) fn plan(&self, id: UnitId) -> Option<Plan> {
        self.compile(&self.lives.get(&id)?.unit, self.files_of(id))
    }

    /// The steps of a unit.
    pub(super) fn compile(&self, unit: &Unit, files: &[(String, String)]) -> Option<Plan> {
        let context = Context {
            runtime: self.options.runtime_dir.to_str()?,
            state: self.options.state_dir.to_str()?,
            files,
        };
        container::compile(unit, &context)
    }
}

/// The notify socket of a unit without a mount namespace. Its name is the unit's, so one
/// that a killed supervisor left may be in the way.
fn bind_notify(path: &Path) -> std::io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    socket::bind_datagram(path)
}
