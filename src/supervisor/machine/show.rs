//! What people see of a unit: its view, and why it is in its state.

use super::super::view::{HealthName, ResultName, UnitView};
use super::super::{Run, Timeline, UnitId};
use super::graph::Link;
use super::slot::Slot;
use super::state::{
    Checks, Class, Ending, Goal, On, Phase, PrepareStep, Pulse, Running, StartStep, State,
    Stopping, Word,
};
use super::{Machine, words};

impl Machine {
    /// One unit as it is.
    pub fn view(&self, id: UnitId) -> Option<UnitView> {
        let slot = self.slots.get(id)?;
        let face = slot.face();
        Some(UnitView {
            state: face.name,
            wanted: slot.goal != Goal::Down,
            run: slot.state.run(),
            exit: slot.memo.exit.map(|(_, exit)| exit),
            result: result(slot),
            restarts: slot.history.restarts,
            since: slot.since,
            ready: face.class == Class::Ready,
            health: health(slot),
            why: self.why(id),
            status_text: if slot.state.run().is_some() {
                slot.memo.status.clone()
            } else {
                String::new()
            },
        })
    }

    /// When a unit came through the phases of its starts.
    pub fn timeline(&self, id: UnitId) -> Option<&Timeline> {
        self.slots.get(id).map(|slot| &slot.timeline)
    }

    /// What an earlier supervisor has seen of a unit's starts.
    pub fn recall(&mut self, id: UnitId, timeline: Timeline) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.timeline = timeline;
        }
    }

    /// The latest run of a unit, also when it is over.
    pub fn latest_run(&self, id: UnitId) -> Option<Run> {
        self.slots.get(id)?.memo.run
    }

    /// Names of all failed units, sorted.
    pub fn failed(&self) -> Vec<&str> {
        let failed =
            |id: &&UnitId| self.slot(**id).is_some_and(|s| matches!(s.state, State::Failed(_)));
        self.names.values().filter(failed).map(|&id| self.name(id)).collect()
    }

    /// Why a unit is in its state; empty if there is nothing to say.
    pub(super) fn why(&self, id: UnitId) -> String {
        self.slots.get(id).map_or_else(String::new, |slot| self.why_of(slot))
    }

    pub(super) fn why_of(&self, slot: &Slot) -> String {
        match &slot.state {
            State::Inactive(why) | State::Failed(why) => why.clone(),
            State::Waiting(wait) => match &wait.on {
                None => String::new(),
                Some(On::Coming(unit)) => self.waits_for(slot, *unit),
                Some(On::Dead(unit)) => self.chain(*unit),
                Some(On::Missing(name)) => format!("requires {name}, which does not exist"),
            },
            State::Preparing(it) => match it.step {
                PrepareStep::Sandbox => String::new(),
                PrepareStep::Hook(_) => "start-pre".to_owned(),
            },
            State::Starting(it) => match it.step {
                StartStep::Exec | StartStep::Work => String::new(),
                StartStep::Ready => "not ready yet".to_owned(),
                StartStep::Hook(_) => "start-post".to_owned(),
            },
            State::Running(it) => running(it),
            State::Stopping(it) => self.stopping(slot, it),
            State::Backoff(it) => format!("{}; {}", it.why, it.plan),
            State::Done | State::Reached => String::new(),
            State::Receding => self.waits_for_dependents(slot),
        }
    }

    fn waits_for(&self, slot: &Slot, unit: UnitId) -> String {
        let name = self.name(unit);
        let conflict = |edge: &super::Edge| edge.unit == unit && edge.link == Link::Conflicts;
        if slot.links.iter().any(conflict) {
            format!("waits until {name} has stopped")
        } else {
            format!("waits for {name}")
        }
    }

    fn stopping(&self, slot: &Slot, it: &Stopping) -> String {
        match (&it.phase, &it.ending) {
            (Phase::Cleaning { stuck: Some(text) }, _) | (_, Ending::Failed(text)) => text.clone(),
            (Phase::Dependents, _) => self.waits_for_dependents(slot),
            (_, Ending::Asked | Ending::Ended) => String::new(),
        }
    }

    fn waits_for_dependents(&self, slot: &Slot) -> String {
        if self.held(slot) {
            "waits until its dependents have stopped".to_owned()
        } else {
            String::new()
        }
    }
}

fn running(it: &Running) -> String {
    match (&it.pulse, it.word) {
        (Pulse::Frozen, _) => String::new(),
        (Pulse::Alive { .. }, Word::Reloading) | (Pulse::Alive { reload: Some(_), .. }, _) => {
            "reloading".to_owned()
        }
        (Pulse::Alive { .. }, Word::Stopping) => "stops by itself".to_owned(),
        (Pulse::Alive { .. }, Word::Nothing) => {
            format!("ready after {}", words::span(it.since.0.saturating_sub(it.began.0)))
        }
    }
}

fn result(slot: &Slot) -> Option<ResultName> {
    match &slot.state {
        State::Waiting(wait) if matches!(wait.on, Some(On::Dead(_) | On::Missing(_))) => {
            Some(ResultName::Dependency)
        }
        _ => slot.memo.result,
    }
}

fn health(slot: &Slot) -> Option<HealthName> {
    let terms = slot.terms().health()?;
    let name = |it: &Checks| {
        if it.failures >= terms.retries.max(1) {
            HealthName::Unhealthy
        } else if it.passed {
            HealthName::Healthy
        } else {
            HealthName::Starting
        }
    };
    match &slot.state {
        State::Starting(_) => Some(HealthName::Starting),
        State::Running(it) => Some(name(&it.health)),
        State::Inactive(_)
        | State::Waiting(_)
        | State::Preparing(_)
        | State::Stopping(_)
        | State::Backoff(_)
        | State::Failed(_)
        | State::Done
        | State::Reached
        | State::Receding => None,
    }
}
