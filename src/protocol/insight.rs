//! What calls about time, use and volumes carry, as in the `.varlink` file.

use serde::{Deserialize, Serialize};

use super::types::{Kind, State};

/// The phases of one start, those it came to, in microseconds after the supervisor began;
/// before zero: an earlier supervisor saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Wanted.
    pub waiting: Option<i64>,
    /// Everything it needs was there.
    pub preparing: Option<i64>,
    /// Its command was ordered to run.
    pub starting: Option<i64>,
    /// Its dependents went on.
    pub ready: Option<i64>,
    /// It was on its way down, had failed or was not wanted any more.
    pub ended: Option<i64>,
}

/// When a unit came through the phases of its starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitTimes {
    /// Unique.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it does now.
    pub state: State,
    /// Its first start since the supervisor began; `None`: nobody wanted it yet.
    pub first: Option<Phases>,
    /// Its latest start, if that is another one.
    pub latest: Option<Phases>,
}

/// What a unit uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitUsage {
    /// Which.
    pub unit: String,
    /// When this was read: microseconds on some clock that never goes back.
    pub time: u64,
    /// Microseconds of processor time since its start.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Most bytes of memory it may have.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Most processes and threads it may have.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices since its start.
    pub read: Option<u64>,
    /// Bytes written to block devices since its start.
    pub written: Option<u64>,
    /// Fields that no controller counts for it on this host: they are the sum of what its
    /// processes have now.
    pub summed: Vec<String>,
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique.
    pub name: String,
    /// Its directory; `None`: it was not made yet.
    pub path: Option<String>,
    /// Bytes it takes on the disk, if that was asked for.
    pub size: Option<u64>,
    /// Whether a unit file names it.
    pub declared: bool,
    /// Services that mount it.
    pub users: Vec<String>,
    /// Those of them that have it mounted now.
    pub running: Vec<String>,
}
