//! The machine itself: units and their links, goals and states, jobs and deadlines.
//!
//! [`Machine::handle`] takes one input and carries it through to the end: the unit it is
//! for makes a transition (`transition`), its neighbours are marked, then those that can
//! act do (`propagate`), until nothing moves. No recursion, no clock, no system call;
//! the cost of an event is that of the units it touches.
//!
//! What must hold, and is checked by the simulation after each step: never two live runs
//! of one unit; nothing begins before what it requires is ready; nothing begins once
//! shutdown has; every wait has an owner and an end; each job ends once.

mod apply;
mod audit;
mod graph;
mod health;
mod jobs;
mod propagate;
mod restart;
mod rng;
mod running;
#[cfg(test)]
mod sabotage;
mod show;
#[cfg(test)]
#[path = "../../../tests/sim/mod.rs"]
mod sim;
mod slot;
mod starting;
mod state;
mod stopping;
#[cfg(test)]
mod table;
mod terms;
mod timers;
mod transition;
mod wishes;
mod words;

pub use graph::{Edge, Link};

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::Fact;
use super::{Action, Event, JobId, Request, Time, UnitId};
use crate::unit::model::{Unit, UnitSet};
use propagate::Mark;
use rng::Rng;
use slot::{Slot, Slots};
use timers::Timers;
use transition::Happening;

/// Whatever the loop hands in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Input {
    /// A fact.
    Event(Event),
    /// A wish.
    Request(Request),
    /// A deadline may have come.
    Tick,
}

/// The state machine over all units. See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    slots: Slots,
    names: BTreeMap<String, UnitId>,
    timers: Timers,
    rng: Rng,
    next_run: u64,
    course: Course,
    /// Units that move by themselves.
    busy: usize,
    /// Those of them that even SIGKILL does not end.
    stuck: usize,
    /// The critical unit that failed first, while it is failed.
    critical: Option<UnitId>,
    /// Which unit a job waits for.
    jobs: HashMap<JobId, UnitId>,
    marks: VecDeque<Mark>,
    acts: VecDeque<UnitId>,
    #[cfg(test)]
    #[serde(skip)]
    sabotage: Option<sabotage::Sabotage>,
}

/// Where the whole is going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Course {
    /// On.
    Up,
    /// Down; who waits for that.
    Closing { jobs: Vec<JobId> },
    /// There.
    Closed,
}

impl Machine {
    /// A machine without units. The seed is for the jitter of restarts only.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Slots::default(),
            names: BTreeMap::new(),
            timers: Timers::default(),
            rng: Rng::new(seed),
            next_run: 1,
            course: Course::Up,
            busy: 0,
            stuck: 0,
            critical: None,
            jobs: HashMap::new(),
            marks: VecDeque::new(),
            acts: VecDeque::new(),
            #[cfg(test)]
            sabotage: None,
        }
    }

    /// Takes one input; appends what is to be done about it. `now` must not go back.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Event(event) => self.event(now, event, out),
            Input::Request(request) => self.request(now, request, out),
            Input::Tick => {
                for id in self.timers.due(now) {
                    self.deliver(id, Happening::Deadline, now, out);
                }
            }
        }
        self.propagate(now, out);
        self.close(out);
    }

    /// Holds units in common with this set where they are the same: what was written down
    /// and read again (see serde) is held twice.
    pub fn share(&mut self, set: &UnitSet) {
        for unit in &set.units {
            let id = self.names.get(&unit.name).copied();
            if let Some(slot) = id.and_then(|id| self.slots.get_mut(id))
                && slot.unit == *unit
            {
                slot.unit = Arc::clone(unit);
            }
        }
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Time> {
        if self.marks.is_empty() && self.acts.is_empty() {
            return self.timers.nearest();
        }
        // The bound of one propagation was hit; it goes on with the next input.
        Some(Time::default())
    }

    /// How often a unit was restarted since the last start by hand.
    pub fn restarts(&self, id: UnitId) -> u32 {
        self.slots.get(id).map_or(0, |slot| slot.history.restarts)
    }

    /// Runs up to this one have been: the next has a higher number.
    pub fn skip_runs(&mut self, last: super::Run) {
        self.next_run = self.next_run.max(last.0.saturating_add(1));
    }

    /// The unit of a name.
    pub fn find(&self, name: &str) -> Option<UnitId> {
        self.names.get(name).copied()
    }

    /// The definition in force for the unit's current run: a changed one waits until that
    /// is gone.
    pub fn unit(&self, id: UnitId) -> Option<&Arc<Unit>> {
        self.slots.get(id).map(|slot| &slot.unit)
    }

    /// All units, sorted by name.
    pub fn ids(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.names.values().copied()
    }

    /// What a unit depends on, sorted by kind. `before` and `wanted-by` of others are
    /// here as the `after` and `wants` they mean.
    pub fn dependencies(&self, id: UnitId) -> &[Edge] {
        self.slots.get(id).map_or(&[], |slot| &slot.links)
    }

    /// What depends on a unit, sorted by kind.
    pub fn dependents(&self, id: UnitId) -> &[Edge] {
        self.slots.get(id).map_or(&[], |slot| &slot.back)
    }

    /// Whether nothing moves any more: no unit has a run, a timer, or is on its way.
    pub fn settled(&self) -> bool {
        self.busy == 0
    }

    /// The critical unit that failed first, as long as it is failed.
    pub fn failed_critical(&self) -> Option<UnitId> {
        self.critical
    }

    /// Whether shutdown was asked for (it may be complete).
    pub fn is_shutting_down(&self) -> bool {
        #[cfg(test)]
        if self.broken(sabotage::Sabotage::StartInShutdown) {
            return false;
        }
        self.course != Course::Up
    }

    /// A fact: dropped unless it belongs to the run that is there.
    fn event(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(event.unit) else { return };
        let known = slot.state.run() == Some(event.run);
        #[cfg(test)]
        let known = known || self.broken(sabotage::Sabotage::TakeStaleEvents);
        if !known {
            return;
        }
        let happening = match event.fact {
            Fact::Prepared => Happening::Prepared,
            Fact::SetupFailed(text) => Happening::SetupFailed(text),
            Fact::MainExecuted => Happening::Executed,
            Fact::MainExited { exit, left_behind } => Happening::Exited { exit, left_behind },
            Fact::Ready => Happening::Ready,
            Fact::Notify(word) => Happening::Notify(word),
            Fact::HookEnded { hook, result } => Happening::HookEnded(hook, result),
            Fact::Cleaned => Happening::Cleaned,
            Fact::CleanStuck(text) => Happening::Stuck(text),
            Fact::OutOfMemory => Happening::OutOfMemory,
        };
        self.deliver(event.unit, happening, now, out);
    }

    fn slot(&self, id: UnitId) -> Option<&Slot> {
        self.slots.get(id)
    }

    fn name(&self, id: UnitId) -> &str {
        self.slots.get(id).map_or("", |slot| &slot.unit.name)
    }
}
