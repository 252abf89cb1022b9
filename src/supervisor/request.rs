//! Wishes of people: what they want, not how to get there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{JobId, Run, UnitId};
use crate::unit::model::UnitSet;

/// A wish. `job` is set when somebody waits; the machine then ends it with exactly one
/// `Action::JobDone`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Who waits, if anybody.
    pub job: Option<JobId>,
    /// For what.
    pub wish: Wish,
}

/// What is wished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Wish {
    /// Up, and all it requires and wants. Done when ready (a oneshot: when it has succeeded);
    /// failed when it or a requirement failed for good. Goes at once from backoff and failed.
    Start(UnitId),
    /// Down, and before it all that requires it. Done when nothing is left.
    Stop(UnitId),
    /// Down and up again; what was stopped for it comes back too.
    Restart(UnitId),
    /// Signal or command; done when the command has ended.
    Reload(UnitId),
    /// Forget failure, restart count and backoff.
    Reset(UnitId),
    /// Freeze or thaw its cgroup; the state shows as `frozen`.
    Freeze(UnitId, bool),
    /// Nobody waits for this job any more (its client has gone); the work goes on.
    Forget(JobId),
    /// These units from now on: new ones are added (and started when a wanted-by target
    /// is up), changed ones restarted if they were up, missing ones stopped and removed,
    /// the rest not touched.
    Apply(Arc<UnitSet>),
    /// What a killed supervisor has left is this one's from now on: these units, and what is
    /// there of each. All at once, so that none is started because another wants it. Only
    /// for units of which nothing is there yet.
    Adopt(Vec<(UnitId, Found)>),
    /// Everything down in reverse order, nothing starts any more. Ends with
    /// `Action::ShutdownDone`. Asked again: no more waiting, SIGKILL now.
    Shutdown,
}

/// What a killed supervisor has left of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// A service that is ready.
    Up {
        /// Which run, as that supervisor counted.
        run: Run,
        /// How often it was restarted by then.
        restarts: u32,
    },
    /// A oneshot that has succeeded.
    Done,
}

/// What `Apply` would do, for `apply --dry-run` and its report. Names, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyPlan {
    /// New names.
    pub add: Vec<String>,
    /// Changed, not running: only the definition is replaced.
    pub change: Vec<String>,
    /// Changed and up: stopped and started again.
    pub restart: Vec<String>,
    /// No longer there: stopped and forgotten.
    pub remove: Vec<String>,
}
