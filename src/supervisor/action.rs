//! Orders of the machine to the loop. The loop carries each out, or reports by an
//! event that it could not; it never refuses and never decides.

use super::view::StateName;
use super::{Exit, Hook, JobId, Run, UnitId};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the cgroup, the pipes and, where the unit has an init, the sandbox.
    /// Answered by `Prepared` or `SetupFailed`.
    Prepare {
        /// Which.
        unit: UnitId,
        /// Its new run.
        run: Run,
    },
    /// Start the command. Answered by `MainExecuted` or `SetupFailed`, later `MainExited`.
    /// The loop also begins to watch for readiness as `Service::ready` says.
    RunMain {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
    },
    /// Start a hook. Answered by `HookEnded`, always.
    RunHook {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
        /// Which command.
        hook: Hook,
    },
    /// SIGKILL a hook that took too long; its `HookEnded` still comes.
    KillHook {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
        /// Which command.
        hook: Hook,
    },
    /// Stop watching for readiness (it came, or the start is over).
    StopWatching {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
    },
    /// Send a signal to the main process, by pidfd. With no main process: nothing.
    Signal {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
        /// Signal number.
        signal: i32,
    },
    /// SIGKILL everything in the cgroup and in the sandbox, wait until it is empty, remove
    /// it, drop all that belongs to the run. Answered by `Cleaned`; `CleanStuck` in between.
    Clean {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
    },
    /// cgroup.freeze.
    Freeze {
        /// Which.
        unit: UnitId,
        /// Its run.
        run: Run,
        /// Freeze (true) or thaw.
        on: bool,
    },
    /// Tell whoever listens to events, and the log.
    Announce(Notice),
    /// A waiting request has ended. The error is one sentence that names the cause, and
    /// begins with what could not be done: `cannot start web: php failed: exit code 1`.
    JobDone {
        /// Which.
        job: JobId,
        /// How.
        result: Result<(), String>,
    },
    /// A unit was forgotten after `apply`; the id may be used again.
    Removed {
        /// Which.
        unit: UnitId,
        /// Its name.
        name: String,
    },
    /// Shutdown is complete: nothing runs.
    ShutdownDone,
}

/// Something worth telling people: a change of a unit's visible state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which unit.
    pub unit: UnitId,
    /// Its state now.
    pub state: StateName,
    /// Why or how, one line; empty when the state says it all. Examples:
    /// `exit code 3; restart 2 in 215ms`, `ready after 1.2s`, `waits for db`.
    pub why: String,
    /// How the main process ended, where that is what happened.
    pub exit: Option<Exit>,
    /// Whether a person should be told even when quiet (a failure).
    pub grave: bool,
}
