//! Facts the loop reports to the machine. Each belongs to a run; those of an earlier
//! run are dropped by the machine, so the loop need not check.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Exit, Hook, Run, UnitId};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// To which unit.
    pub unit: UnitId,
    /// In which of its runs.
    pub run: Run,
    /// What.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// `Prepare` is done: cgroup, pipes and (with an init) the sandbox are there.
    Prepared,
    /// `Prepare` or `RunMain` failed at a step. Nothing of the main process is left, but
    /// the cgroup or the sandbox may be: the machine answers with `Clean`.
    /// The text names the step, the errno and the line of the unit file.
    SetupFailed(String),
    /// The main program has been executed.
    MainExecuted,
    /// The main process has ended and has been reaped.
    MainExited {
        /// How.
        exit: Exit,
        /// Whether other processes of the unit were still alive at that moment.
        left_behind: bool,
    },
    /// The readiness probe succeeded (`READY=1`, newline, connection, path, matching line).
    /// Not sent for `exec` and `health`: the machine knows those itself.
    Ready,
    /// From the notify socket, sender checked.
    Notify(Notify),
    /// A hook ended, or (`Err`) could not be started.
    HookEnded {
        /// Which.
        hook: Hook,
        /// How.
        result: Result<Exit, String>,
    },
    /// `Clean` is done: no process, no cgroup, no mount of this run is left.
    Cleaned,
    /// The cgroup holds a process that SIGKILL does not end (D state); said once, after
    /// which the loop keeps trying and `Cleaned` may still come.
    CleanStuck(String),
    /// The kernel killed a process of the unit for lack of memory.
    OutOfMemory,
}

/// One assignment of an `sd_notify(3)` datagram that is not `READY=1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notify {
    /// `STATUS=`, cut to 256 bytes by the loop.
    Status(String),
    /// `WATCHDOG=1`.
    Watchdog,
    /// `WATCHDOG=trigger`: act as if it had run out.
    WatchdogTrigger,
    /// `RELOADING=1`.
    Reloading,
    /// `STOPPING=1`.
    Stopping,
    /// `EXTEND_TIMEOUT_USEC=`.
    ExtendTimeout(Duration),
}
