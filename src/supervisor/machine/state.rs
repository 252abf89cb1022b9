//! The states of a unit, each with the data that only makes sense in it: its run, its
//! deadlines, what it waits for. What others may know of a state is its [`Face`].
//!
//! What must hold: a state that has a run is the only owner of that run; a deadline
//! exists only inside the state that acts on it.

use serde::{Deserialize, Serialize};

use super::super::view::StateName;
use super::super::{Run, Time, UnitId};

/// What is wanted of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Goal {
    /// To be ready.
    Up,
    /// To have nothing left.
    Down,
    /// First to have nothing left, then to be ready: a restart.
    Cycle,
}

/// Where a unit is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Nothing there; why, if it was ever up.
    Inactive(String),
    /// Wanted, not begun.
    Waiting(Wait),
    /// Sandbox and `start-pre`.
    Preparing(Preparing),
    /// From the order to run the command until ready.
    Starting(Starting),
    /// Ready.
    Running(Running),
    /// On its way down, until `Cleaned`.
    Stopping(Stopping),
    /// Waits for its next attempt.
    Backoff(Backoff),
    /// Gave up; why.
    Failed(String),
    /// A oneshot that has succeeded. Nothing is left of it.
    Done,
    /// A target whose requirements are ready.
    Reached,
    /// A target or a finished oneshot that waits for its dependents to be gone.
    Receding,
}

/// What a waiting unit waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wait {
    /// The first obstacle found; `None` until it was looked for.
    pub on: Option<On>,
    /// Where among its links the search goes on.
    pub cursor: usize,
}

/// An obstacle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum On {
    /// On its way, or on its way out of the way.
    Coming(UnitId),
    /// Required, and will not come by itself soon: failed, in backoff, not wanted, or
    /// waiting for such a one.
    Dead(UnitId),
    /// Required, and not there at all.
    Missing(String),
}

/// See [`State::Preparing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Preparing {
    pub run: Run,
    pub began: Time,
    /// End of `start-timeout`.
    pub deadline: Option<Time>,
    pub step: PrepareStep,
}

/// How far a preparation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PrepareStep {
    /// `Prepare` was ordered.
    Sandbox,
    /// This `start-pre` hook runs.
    Hook(usize),
}

/// See [`State::Starting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Starting {
    pub run: Run,
    pub began: Time,
    /// End of `start-timeout`.
    pub deadline: Option<Time>,
    pub step: StartStep,
    pub health: Checks,
}

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StartStep {
    /// `RunMain` was ordered.
    Exec,
    /// The command runs, its readiness is waited for.
    Ready,
    /// A oneshot's command runs, its end is waited for.
    Work,
    /// This `start-post` hook runs (a oneshot's command has ended by then).
    Hook(usize),
}

/// See [`State::Running`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub run: Run,
    pub began: Time,
    pub since: Time,
    pub health: Checks,
    pub word: Word,
    pub pulse: Pulse,
}

/// What a running service last said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    Nothing,
    Reloading,
    Stopping,
}

/// Whether a running unit's processes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pulse {
    /// They do.
    Alive {
        /// When silence becomes too long.
        watchdog: Option<Time>,
        /// When the running `reload-command` becomes too slow.
        reload: Option<Time>,
    },
    /// Their cgroup is frozen; nothing is expected of them.
    Frozen,
}

/// Health checks: one after the other, never two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checks {
    pub probe: Probe,
    /// Whether one has ever succeeded in this run.
    pub passed: bool,
    /// Failures in a row that count.
    pub failures: u32,
}

/// Where the checks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Probe {
    /// None is due.
    Idle,
    /// The next one.
    Due(Time),
    /// One runs, and is too slow then.
    Busy(Time),
    /// One was killed, its end is awaited; its verdict has been taken. If it does not end
    /// until then (SIGKILL does not end what waits for a disk), that is one more failure.
    Dying(Time),
    /// The same, in a frozen unit: nothing is expected.
    Stiff,
}

impl Checks {
    /// No check, no verdict.
    pub(super) const NONE: Self = Self { probe: Probe::Idle, passed: false, failures: 0 };

    fn deadline(&self) -> Option<Time> {
        match self.probe {
            Probe::Idle | Probe::Stiff => None,
            Probe::Due(time) | Probe::Busy(time) | Probe::Dying(time) => Some(time),
        }
    }
}

/// See [`State::Stopping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopping {
    pub run: Run,
    pub phase: Phase,
    pub ending: Ending,
}

/// How far a stop is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Still runs, until nothing that needs it is left.
    Dependents,
    /// The command was ordered, but whether it was executed is not known yet.
    Exec { deadline: Time },
    /// A `start-pre` hook was killed; it ends now.
    Hook { deadline: Time },
    /// `stop-command` runs.
    Command { deadline: Time },
    /// A signal was sent. An extension never goes beyond `limit`.
    Signalled { deadline: Option<Time>, limit: Time },
    /// SIGKILL was sent, so that `stop-post` can follow.
    Killed { deadline: Time },
    /// The command has ended, this `stop-post` hook runs.
    Post { index: usize, deadline: Time },
    /// `Clean` was ordered; what does not die, if anything.
    Cleaning { stuck: Option<String> },
}

/// Why a run ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ending {
    /// It was told to, not its failure.
    Asked,
    /// By itself, with success.
    Ended,
    /// By itself, without.
    Failed(String),
}

/// See [`State::Backoff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backoff {
    /// When it tries again; `None`: at once, as soon as everybody was told.
    pub until: Option<Time>,
    /// Of the last attempt.
    pub why: String,
    /// What will be done, for people.
    pub plan: String,
}

/// What others go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Dependents may go on.
    Ready,
    /// Will be ready unless it fails.
    Coming,
    /// Something of it is left, but it will be gone.
    Leaving,
    /// Not there, and will not come by itself soon.
    Dead,
}

/// What the rest of the machine sees of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Face {
    pub name: StateName,
    pub class: Class,
    /// Something of it is there: dependents' stops and conflicting starts wait for it.
    pub up: bool,
    /// It will move by itself.
    pub busy: bool,
    /// It holds a process that SIGKILL does not end.
    pub stuck: bool,
    pub deadline: Option<Time>,
}

impl State {
    /// The run that is there, if any.
    pub(super) fn run(&self) -> Option<Run> {
        match self {
            Self::Preparing(it) => Some(it.run),
            Self::Starting(it) => Some(it.run),
            Self::Running(it) => Some(it.run),
            Self::Stopping(it) => Some(it.run),
            Self::Inactive(_)
            | Self::Waiting(_)
            | Self::Backoff(_)
            | Self::Failed(_)
            | Self::Done
            | Self::Reached
            | Self::Receding => None,
        }
    }

    /// What shows, given what is wanted.
    pub(super) fn face(&self, goal: Goal) -> Face {
        let (name, class, up, busy) = match self {
            Self::Inactive(_) => (StateName::Inactive, Class::Dead, false, false),
            Self::Waiting(wait) => (StateName::Waiting, wait.class(), false, false),
            Self::Preparing(_) => (StateName::Preparing, Class::Coming, true, true),
            Self::Starting(_) => (StateName::Starting, Class::Coming, true, true),
            Self::Running(it) if it.pulse == Pulse::Frozen => {
                (StateName::Frozen, Class::Ready, true, true)
            }
            Self::Running(_) => (StateName::Running, Class::Ready, true, true),
            Self::Stopping(_) | Self::Receding => {
                let class = if goal == Goal::Down { Class::Leaving } else { Class::Coming };
                (StateName::Stopping, class, true, true)
            }
            Self::Backoff(_) => (StateName::Backoff, Class::Dead, false, true),
            Self::Failed(_) => (StateName::Failed, Class::Dead, false, false),
            Self::Done => (StateName::Done, Class::Ready, true, false),
            Self::Reached => (StateName::Running, Class::Ready, true, false),
        };
        Face { name, class, up, busy, stuck: self.is_stuck(), deadline: self.deadline() }
    }

    fn is_stuck(&self) -> bool {
        match self {
            Self::Stopping(it) => matches!(it.phase, Phase::Cleaning { stuck: Some(_) }),
            Self::Inactive(_)
            | Self::Waiting(_)
            | Self::Preparing(_)
            | Self::Starting(_)
            | Self::Running(_)
            | Self::Backoff(_)
            | Self::Failed(_)
            | Self::Done
            | Self::Reached
            | Self::Receding => false,
        }
    }

    /// The nearest deadline in it.
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::Preparing(it) => it.deadline,
            Self::Starting(it) => nearest(it.deadline, it.health.deadline()),
            Self::Running(it) => nearest(it.health.deadline(), it.pulse.deadline()),
            Self::Stopping(it) => it.phase.deadline(),
            Self::Backoff(it) => it.until,
            Self::Inactive(_)
            | Self::Waiting(_)
            | Self::Failed(_)
            | Self::Done
            | Self::Reached
            | Self::Receding => None,
        }
    }
}

impl Wait {
    fn class(&self) -> Class {
        match &self.on {
            None | Some(On::Coming(_)) => Class::Coming,
            Some(On::Dead(_) | On::Missing(_)) => Class::Dead,
        }
    }

    /// The unit it waits for.
    pub(super) fn unit(&self) -> Option<UnitId> {
        match &self.on {
            Some(On::Coming(unit) | On::Dead(unit)) => Some(*unit),
            None | Some(On::Missing(_)) => None,
        }
    }
}

impl Pulse {
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::Alive { watchdog, reload } => nearest(*watchdog, *reload),
            Self::Frozen => None,
        }
    }
}

impl Phase {
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::Dependents | Self::Cleaning { .. } => None,
            Self::Signalled { deadline, .. } => *deadline,
            Self::Exec { deadline }
            | Self::Hook { deadline }
            | Self::Command { deadline }
            | Self::Killed { deadline }
            | Self::Post { deadline, .. } => Some(*deadline),
        }
    }
}

/// The earlier of two deadlines.
fn nearest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
