//! One unit's place: its definition, its links, its goal and its state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::{JobId, Time, Timeline, UnitId};
use super::graph::Edge;
use super::restart::History;
use super::state::{Face, Goal, State};
use super::terms::Terms;
use super::transition::Memo;
use crate::unit::model::Unit;

/// What waits until the run that is there has gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Pending {
    /// This definition.
    Replace(Arc<Unit>),
    /// Being forgotten.
    Remove,
}

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub id: JobId,
    pub kind: JobKind,
}

/// For what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JobKind {
    Start,
    Stop,
    Restart,
    Reload,
}

/// A unit's place.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Slot {
    /// In force for the run that is there.
    pub unit: Arc<Unit>,
    pub pending: Option<Pending>,
    pub goal: Goal,
    pub state: State,
    /// Since when the state has its name.
    pub since: Time,
    /// Links to what it depends on, in the order requires, wants, after, conflicts.
    pub links: Vec<Edge>,
    /// Links of those that depend on it.
    pub back: Vec<Edge>,
    /// The first `requires` that names nothing.
    pub missing: Option<String>,
    pub history: History,
    pub memo: Memo,
    /// When it came where; a state written by an older program has none.
    #[serde(default)]
    pub timeline: Timeline,
    pub jobs: Vec<Job>,
}

impl Slot {
    pub(super) fn new(unit: Arc<Unit>, now: Time) -> Self {
        Self {
            unit,
            pending: None,
            goal: Goal::Down,
            state: State::Inactive(String::new()),
            since: now,
            links: Vec::new(),
            back: Vec::new(),
            missing: None,
            history: History::default(),
            memo: Memo::default(),
            timeline: Timeline::default(),
            jobs: Vec::new(),
        }
    }

    pub(super) fn face(&self) -> Face {
        self.state.face(self.goal)
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms(&self.unit)
    }

    /// The definition that will be in force.
    pub(super) fn newest(&self) -> &Arc<Unit> {
        match &self.pending {
            Some(Pending::Replace(unit)) => unit,
            Some(Pending::Remove) | None => &self.unit,
        }
    }

    pub(super) fn removed(&self) -> bool {
        matches!(self.pending, Some(Pending::Remove))
    }
}

/// All units. An id is an index; a free place is reused.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Slots {
    places: Vec<Option<Slot>>,
    free: Vec<UnitId>,
}

impl Slots {
    pub(super) fn get(&self, id: UnitId) -> Option<&Slot> {
        self.places.get(index(id)).and_then(Option::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: UnitId) -> Option<&mut Slot> {
        self.places.get_mut(index(id)).and_then(Option::as_mut)
    }

    /// `None` when there are more units than numbers.
    pub(super) fn add(&mut self, slot: Slot) -> Option<UnitId> {
        if let Some(id) = self.free.pop() {
            *self.places.get_mut(index(id))? = Some(slot);
            return Some(id);
        }
        let id = UnitId(u32::try_from(self.places.len()).ok()?);
        self.places.push(Some(slot));
        Some(id)
    }

    pub(super) fn remove(&mut self, id: UnitId) -> Option<Slot> {
        let slot = self.places.get_mut(index(id))?.take()?;
        self.free.push(id);
        Some(slot)
    }

    /// How many places there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

fn index(id: UnitId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}
