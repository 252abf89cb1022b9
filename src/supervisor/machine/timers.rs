//! Which unit has the nearest deadline. The deadlines live in the states; this is only
//! an index over them, kept in one place ([`Timers::set`], called whenever a state was
//! written), so that asking for the nearest is cheap with thousands of units and a
//! state that is left takes its timer along.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::{Time, UnitId};

/// The index.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Timers(BTreeSet<(Time, UnitId)>);

impl Timers {
    /// Replaces a unit's entry.
    pub(super) fn set(&mut self, unit: UnitId, old: Option<Time>, new: Option<Time>) {
        if old == new {
            return;
        }
        if let Some(time) = old {
            self.0.remove(&(time, unit));
        }
        if let Some(time) = new {
            self.0.insert((time, unit));
        }
    }

    /// The nearest deadline of all.
    pub(super) fn nearest(&self) -> Option<Time> {
        self.0.first().map(|&(time, _)| time)
    }

    /// Every unit whose deadline has come.
    pub(super) fn due(&self, now: Time) -> Vec<UnitId> {
        self.0.range(..=(now, UnitId(u32::MAX))).map(|&(_, unit)| unit).collect()
    }
}
