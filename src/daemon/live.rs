//! What belongs to one live run: its processes, descriptors and cgroup.
//!
//! A [`Live`] exists from `Prepare` to `Cleaned`; there is at most one per unit. All of it
//! is let go by [`super::clean`]. Nothing here decides: it is the loop's memory of what
//! it did for the machine.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::network::Attachment;
use super::poller::{Role, Watched};
use crate::container::{self, Channel, Stdio};
use crate::supervisor::{Hook, Run, Time};
use crate::sys::cgroup::Group;
use crate::unit::model::{Namespaces, Service, Unit};

/// One process of a run, from its clone to its reaping.
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its number as the supervisor sees it.
    pub pid: i32,
    /// To signal it and to join its namespaces.
    #[serde(with = "crate::sys::kept")]
    pub pidfd: OwnedFd,
    /// How far it has come.
    pub progress: Progress,
}

/// How far a process has come.
#[derive(Debug, Serialize, Deserialize)]
pub enum Progress {
    /// Carrying out its steps; the status socket is open.
    SettingUp(Watched<Channel>),
    /// Its program has been executed.
    Executed,
    /// A step failed; it is about to end, if it has not yet. The text is for people.
    Failed(String),
}

/// A main process that berth did not start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Foreign {
    /// Its pidfd.
    pub watched: Watched,
    /// How often its end was looked up already.
    pub looks: u8,
}

/// The pipes' write ends, kept as long as another process of the run may need them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Output {
    /// Standard output.
    #[serde(with = "crate::sys::kept")]
    pub stdout: Rc<OwnedFd>,
    /// Standard error.
    #[serde(with = "crate::sys::kept")]
    pub stderr: Rc<OwnedFd>,
}

/// Whose numbers the users of a run are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Numbers {
    /// The host's, as the unit wants it.
    #[default]
    Host,
    /// The unit's own.
    Own,
    /// The host's, because something was in the way.
    HostBecause(Box<str>),
}

/// The end of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cleaning {
    /// When it began, to tell when it is stuck.
    pub since: Time,
    /// When to try again if nothing tells us before.
    pub retry: Time,
    /// Whether `CleanStuck` has been said.
    pub complained: bool,
    /// `cgroup.events`, once it was not empty at the first look.
    pub events: Option<Watched>,
}

/// Everything of one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Live {
    /// Which run.
    pub run: Run,
    /// The definition it was started with.
    pub unit: Arc<Unit>,
    /// Its cgroup.
    pub group: Group,
    /// Whose numbers its users are.
    pub numbers: Numbers,
    /// Process 1 of its pid namespace.
    pub sandbox: Option<Process>,
    /// The command.
    pub main: Option<Process>,
    /// Hooks and health checks that are running.
    pub hooks: Vec<(Hook, Process)>,
    /// The readiness probe.
    pub probe: Option<Process>,
    /// `None` once nobody will need it any more.
    pub output: Option<Output>,
    /// The notify socket.
    pub notify: Option<Watched>,
    /// Read end of the `fd:N` pipe.
    pub ready_pipe: Option<Watched>,
    /// Whether it has shown that it is ready, if perhaps before its program is known to run.
    pub early: bool,
    /// A main process that berth did not start (`MAINPID=`).
    pub foreign_main: Option<Foreign>,
    /// Tokens of its streams at the logger.
    pub streams: Vec<u64>,
    /// What it has of networks.
    pub network: Option<Box<Attachment>>,
    /// Process 1 of the pid namespace of a run that an earlier supervisor has started: no
    /// child of this one.
    #[serde(with = "crate::sys::kept")]
    pub inherited_init: Option<OwnedFd>,
    /// `memory.events`, where memory is limited.
    #[serde(default)]
    pub memory_events: Option<Watched>,
    /// Set by `Clean`.
    pub cleaning: Option<Cleaning>,
}

impl Live {
    /// What its definition asks for and this host cannot hold.
    pub fn unenforced(&self) -> Vec<String> {
        let mut all = self.group.unenforced().to_vec();
        all.extend(self.unit.service().map(container::unenforced).unwrap_or_default());
        all
    }

    /// The process with this role.
    pub fn process(&mut self, role: Role) -> Option<&mut Process> {
        match role {
            Role::Sandbox => self.sandbox.as_mut(),
            Role::Main => self.main.as_mut(),
            Role::Probe => self.probe.as_mut(),
            Role::Hook(hook) => {
                self.hooks.iter_mut().rfind(|(which, _)| *which == hook).map(|(_, process)| process)
            }
        }
    }

    /// Takes the process with this role and number out: it has been reaped.
    /// Whether somebody waits for its end: nobody does for a hook after which the same was
    /// started again.
    pub fn take(&mut self, role: Role, pid: i32) -> Option<(Process, bool)> {
        let this = |process: &mut Process| process.pid == pid;
        let single = |process: Process| (process, true);
        match role {
            Role::Sandbox => self.sandbox.take_if(this).map(single),
            Role::Main => self.main.take_if(this).map(single),
            Role::Probe => self.probe.take_if(this).map(single),
            Role::Hook(hook) => {
                let index = self.hooks.iter().position(|(_, process)| process.pid == pid)?;
                let newest = self.hooks.iter().rposition(|(which, _)| *which == hook);
                let (_, process) = self.hooks.remove(index);
                Some((process, newest == Some(index)))
            }
        }
    }

    /// Every process that has not been reaped.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let single = [&self.sandbox, &self.main, &self.probe].into_iter().flatten();
        single.chain(self.hooks.iter().map(|(_, process)| process))
    }

    /// Whether a pid is one that berth itself started for this run.
    pub fn started(&self, pid: i32) -> bool {
        self.processes().any(|process| process.pid == pid)
    }
}

impl Live {
    /// A run that has nothing yet but its definition and its cgroup.
    pub fn new(run: Run, unit: Arc<Unit>, group: Group) -> Self {
        Self {
            run,
            unit,
            group,
            numbers: Numbers::Host,
            sandbox: None,
            main: None,
            hooks: Vec::new(),
            probe: None,
            output: None,
            notify: None,
            ready_pipe: None,
            early: false,
            foreign_main: None,
            streams: Vec::new(),
            network: None,
            inherited_init: None,
            memory_events: None,
            cleaning: None,
        }
    }

    /// Puts a new process into its place.
    pub fn put(&mut self, role: Role, process: Process) {
        match role {
            Role::Sandbox => self.sandbox = Some(process),
            Role::Main => self.main = Some(process),
            Role::Probe => self.probe = Some(process),
            Role::Hook(hook) => self.hooks.push((hook, process)),
        }
    }

    /// The standard three of its processes.
    pub fn stdio(&self) -> Stdio<'_> {
        let output = self.output.as_ref();
        Stdio {
            stdin: None,
            stdout: output.map(|it| it.stdout.as_fd()),
            stderr: output.map(|it| it.stderr.as_fd()),
            named: &[],
        }
    }

    /// The sandbox that the command joins; `None`: the unit has no init, the command makes
    /// its namespaces itself.
    ///
    /// # Errors
    /// The init has ended. To go on without would be to make a world that nobody asked for.
    pub fn world(&self) -> Result<Option<BorrowedFd<'_>>, String> {
        let sandbox = self.sandbox.as_ref().map(|it| it.pidfd.as_fd());
        let sandbox = sandbox.or(self.inherited_init.as_ref().map(AsFd::as_fd));
        if sandbox.is_none() && self.unit.service().is_some_and(Service::has_init) {
            return Err("process 1 of its pid namespace has ended".to_owned());
        }
        Ok(sandbox)
    }

    /// Whose namespaces a hook or a probe joins. Without an init the main process is what
    /// holds them; without namespaces there is nothing to join.
    ///
    /// # Errors
    /// As [`Self::world`].
    pub fn inside(&self) -> Result<Option<BorrowedFd<'_>>, String> {
        let world = self.world()?;
        let namespaces = self.unit.service().map(|service| service.namespaces.value);
        if namespaces.is_none_or(|namespaces| namespaces == Namespaces::NONE) {
            return Ok(None);
        }
        Ok(world.or_else(|| self.holder()))
    }

    /// The process that has the unit's namespaces.
    pub fn holder(&self) -> Option<BorrowedFd<'_>> {
        let init = self.inherited_init.as_ref().map(AsFd::as_fd);
        let sandbox = self.sandbox.as_ref().map(|it| it.pidfd.as_fd());
        sandbox.or(init).or(self.main.as_ref().map(|it| it.pidfd.as_fd()))
    }
}
