//! What the machine shows of a unit: the part of `status --json` that it knows.

use serde::{Deserialize, Serialize};

use super::{Exit, Run, Time};

/// `state` of `status --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// Not wanted, nothing there.
    Inactive,
    /// Wanted; something it needs is not ready yet.
    Waiting,
    /// Cgroup, sandbox, `start-pre`.
    Preparing,
    /// The command runs (or is about to), not ready yet.
    Starting,
    /// Ready.
    Running,
    /// On its way down.
    Stopping,
    /// Will be started again by itself.
    Backoff,
    /// Down, and stays so until somebody starts or resets it.
    Failed,
    /// A oneshot that has succeeded.
    Done,
    /// Its cgroup is frozen.
    Frozen,
}

/// `health` of `status --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthName {
    /// No verdict yet.
    Starting,
    /// The last check succeeded, or too few failed.
    Healthy,
    /// As many failed in a row as `retries` says.
    Unhealthy,
}

/// `result` of `status --json`: how the latest run ended, or why there was none. The first
/// cause counts: what is killed because its watchdog ran out has failed by its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResultName {
    /// As it should: by itself with success, or when it was told to.
    Success,
    /// With an exit code that is not success.
    ExitCode,
    /// By a signal.
    Signal,
    /// It was not ready, or not gone, in time.
    Timeout,
    /// It gave no sign of life.
    Watchdog,
    /// The kernel killed it for lack of memory.
    OomKill,
    /// Its health checks failed.
    Unhealthy,
    /// Something it requires is not there.
    Dependency,
    /// A step before its command ran failed.
    Resources,
    /// It did not do what a service does: it went into the background, or ended with
    /// success before it was ready.
    Protocol,
    /// It was restarted too often.
    StartLimit,
}

impl ResultName {
    /// The word itself.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ExitCode => "exit-code",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Watchdog => "watchdog",
            Self::OomKill => "oom-kill",
            Self::Unhealthy => "unhealthy",
            Self::Dependency => "dependency",
            Self::Resources => "resources",
            Self::Protocol => "protocol",
            Self::StartLimit => "start-limit",
        }
    }
}

/// One unit as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitView {
    /// Visible state.
    pub state: StateName,
    /// Whether the goal is up.
    pub wanted: bool,
    /// The run that is there, if any.
    pub run: Option<Run>,
    /// How the last main process ended.
    pub exit: Option<Exit>,
    /// How the latest run ended; `None` before the first end.
    pub result: Option<ResultName>,
    /// Starts of its own accord since the last `reset` or start by hand.
    pub restarts: u32,
    /// Since when it is in this state.
    pub since: Time,
    /// Whether dependents may go on.
    pub ready: bool,
    /// None without a health check.
    pub health: Option<HealthName>,
    /// Why it is in this state, one line; empty if there is nothing to say.
    pub why: String,
    /// `STATUS=` of the service.
    pub status_text: String,
}
