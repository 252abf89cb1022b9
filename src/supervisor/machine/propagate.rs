//! How a change travels through the graph: a worklist, no recursion.
//!
//! Two phases. *Marking* comes first and goes as far as it can: who lost what it requires
//! begins to leave, who waits looks for its next obstacle. Only when no mark is left does
//! one unit *act* (begin, or go on with its stop because nothing is left that must go
//! first), which may make new marks. So an order to stop reaches everybody before the
//! first of them stops, and nobody starts beside somebody who is about to leave.
//!
//! A waiting unit remembers one obstacle and is looked at again only when that one
//! changes, and its search goes on where it ended: a target with a thousand requirements
//! costs a thousand looks, not a million.

use serde::{Deserialize, Serialize};

use super::super::action::Notice;
use super::super::view::StateName;
use super::super::{Action, Time, UnitId};
use super::graph::Link;
#[cfg(test)]
use super::sabotage::Sabotage;
use super::slot::{Pending, Slot};
use super::state::{Class, Face, Goal, On, Phase, State, Stopping};
use super::transition::{Cx, Happening, step};
use super::{Course, Machine, restart};

/// A change that a unit has not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mark {
    /// Something around it changed.
    Look(UnitId),
    /// Something it requires is no longer ready.
    Lost(UnitId),
    /// Something it requires will not come by itself soon.
    Dead { unit: UnitId, by: UnitId },
}

impl Machine {
    /// One transition, and what follows at once from it.
    pub(super) fn deliver(
        &mut self,
        id: UnitId,
        happening: Happening,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let closing = self.is_shutting_down();
        let Some(slot) = self.slots.get_mut(id) else { return };
        let before = slot.face();
        #[cfg(test)]
        if self.sabotage == Some(Sabotage::NeverKill)
            && happening == Happening::Deadline
            && let State::Stopping(Stopping { phase: Phase::Signalled { deadline, .. }, .. }) =
                &mut slot.state
        {
            *deadline = Some(Time(now.0.saturating_add(std::time::Duration::from_secs(10))));
            return self.changed(id, before, now, out);
        }
        let unit = slot.unit.clone();
        let state = std::mem::replace(&mut slot.state, State::Receding);
        let mut cx = Cx {
            id,
            terms: super::terms::Terms(&unit),
            now,
            goal: &mut slot.goal,
            closing,
            next_run: &mut self.next_run,
            history: &mut slot.history,
            memo: &mut slot.memo,
            jitter: self.rng.thousandths(restart::JITTER.0, restart::JITTER.1),
            reloaded: None,
            out,
        };
        slot.state = step(state, happening, &mut cx);
        let reloaded = cx.reloaded;
        #[cfg(test)]
        match (self.sabotage, &slot.state) {
            (Some(Sabotage::RestartBeforeClean), State::Stopping(it))
                if matches!(it.phase, Phase::Cleaning { .. }) && slot.goal == Goal::Up =>
            {
                slot.state = State::Waiting(super::state::Wait::default());
            }
            (Some(Sabotage::DropGoal), State::Backoff(_)) => slot.goal = Goal::Down,
            _ => {}
        }
        if let Some(result) = reloaded {
            self.end_reload(id, &result, out);
        }
        self.changed(id, before, now, out);
    }

    /// Sets what is wanted of a unit.
    pub(super) fn aim(&mut self, id: UnitId, goal: Goal, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let before = slot.face();
        slot.goal = goal;
        self.changed(id, before, now, out);
    }

    /// Keeps the books after a change of state or goal, and marks who must know.
    fn changed(&mut self, id: UnitId, before: Face, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let after = slot.face();
        #[cfg(test)]
        let after = match self.sabotage {
            Some(Sabotage::ForgetStopTimer) if after.name == StateName::Stopping => {
                Face { deadline: None, ..after }
            }
            _ => after,
        };
        self.timers.set(id, before.deadline, after.deadline);
        count(&mut self.busy, before.busy, after.busy);
        count(&mut self.stuck, before.stuck, after.stuck);
        if !after.up
            && let Some(Pending::Replace(unit)) =
                slot.pending.take_if(|pending| matches!(pending, Pending::Replace(_)))
        {
            slot.unit = unit;
        }
        if before.name != after.name {
            slot.since = now;
            slot.timeline.note(before.name, after.name, now);
            self.note_critical(id, after.name);
            if after.name != StateName::Waiting {
                self.announce(id, after.name, out);
            }
        }
        self.marks.push_back(Mark::Look(id));
        self.mark_neighbours(id, before, after);
        self.end_jobs(id, out);
        if self.stuck > 0 && before != after {
            // It may have come to stand between something stuck and somebody who waits.
            self.end_jobs_behind(id, out);
        }
    }

    fn note_critical(&mut self, id: UnitId, name: StateName) {
        if name == StateName::Failed {
            if self.slot(id).is_some_and(|slot| slot.terms().critical()) {
                self.critical.get_or_insert(id);
            }
        } else if self.critical == Some(id) {
            self.critical = None;
        }
    }

    /// Tells people of the unit's state.
    fn announce(&self, id: UnitId, name: StateName, out: &mut Vec<Action>) {
        let Some(slot) = self.slot(id) else { return };
        let ended = match name {
            StateName::Inactive
            | StateName::Backoff
            | StateName::Failed
            | StateName::Done
            | StateName::Stopping => slot.memo.fresh_exit(),
            StateName::Waiting
            | StateName::Preparing
            | StateName::Starting
            | StateName::Running
            | StateName::Frozen => None,
        };
        out.push(Action::Announce(Notice {
            unit: id,
            state: name,
            why: self.why(id),
            exit: ended,
            grave: matches!(name, StateName::Failed | StateName::Backoff),
        }));
    }

    fn mark_neighbours(&mut self, id: UnitId, before: Face, after: Face) {
        let Some(slot) = self.slots.get(id) else { return };
        let lost = before.class == Class::Ready && after.class != Class::Ready;
        #[cfg(test)]
        let lost = lost && !self.broken(Sabotage::KeepDependents);
        let died = before.class != Class::Dead && after.class == Class::Dead;
        if before.class != after.class || before.up != after.up {
            for edge in &slot.back {
                let Some(other) = self.slots.get(edge.unit) else { continue };
                if lost && edge.link == Link::Requires {
                    self.marks.push_back(Mark::Lost(edge.unit));
                }
                #[cfg(test)]
                if self.broken(Sabotage::LoseWaiting) && after.class == Class::Ready {
                    continue;
                }
                match &other.state {
                    State::Waiting(wait) if wait.unit() == Some(id) => {
                        self.marks.push_back(Mark::Look(edge.unit));
                    }
                    _ => {}
                }
                if died && edge.link == Link::Requires {
                    self.marks.push_back(Mark::Dead { unit: edge.unit, by: id });
                }
            }
        }
        let going = |face: Face| face.name == StateName::Stopping;
        if before.up != after.up || going(before) != going(after) || before.stuck != after.stuck {
            self.mark_freed(id);
        }
    }

    /// What `id` depends on may have waited for it to be gone.
    pub(super) fn mark_freed(&mut self, id: UnitId) {
        let Some(slot) = self.slots.get(id) else { return };
        for edge in &slot.links {
            if self.slots.get(edge.unit).is_some_and(leaves_in_order) {
                self.acts.push_back(edge.unit);
            }
        }
    }

    /// Until nothing moves. Bounded: what is left over is done with the next input.
    pub(super) fn propagate(&mut self, now: Time, out: &mut Vec<Action>) {
        let bound = self.slots.len().saturating_mul(64).saturating_add(10_000);
        for _ in 0..bound {
            if let Some(mark) = self.marks.pop_front() {
                self.consider(mark, now, out);
            } else if let Some(id) = self.acts.pop_front() {
                self.act(id, now, out);
            } else {
                return;
            }
        }
    }

    /// Phase one: what a mark means for its unit.
    fn consider(&mut self, mark: Mark, now: Time, out: &mut Vec<Action>) {
        let (Mark::Look(id) | Mark::Lost(id) | Mark::Dead { unit: id, .. }) = mark;
        let Some(slot) = self.slots.get(id) else { return };
        let unwanted = slot.goal != Goal::Up || self.is_shutting_down();
        match &slot.state {
            State::Inactive(_) | State::Failed(_) => self.consider_rest(id, now, out),
            State::Waiting(_) | State::Backoff(_) if unwanted => {
                self.deliver(id, Happening::Leave, now, out);
            }
            State::Waiting(_) => self.consider_waiting(id, mark, now, out),
            State::Backoff(it) if it.until.is_none() => self.acts.push_back(id),
            State::Backoff(_) => {}
            State::Preparing(_)
            | State::Starting(_)
            | State::Running(_)
            | State::Done
            | State::Reached => {
                if unwanted || matches!(mark, Mark::Lost(_)) {
                    self.deliver(id, Happening::Leave, now, out);
                } else if matches!(mark, Mark::Dead { .. }) {
                    self.end_jobs(id, out);
                }
            }
            State::Stopping(_) | State::Receding => {
                if leaves_in_order(slot) {
                    self.acts.push_back(id);
                }
                if matches!(mark, Mark::Lost(_)) {
                    self.deliver(id, Happening::Leave, now, out);
                }
                if matches!(mark, Mark::Dead { .. }) {
                    self.end_jobs(id, out);
                }
            }
        }
    }

    /// Nothing is there: a restart has nothing to end, a removal can be carried out.
    fn consider_rest(&mut self, id: UnitId, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.removed() {
            self.remove(id, out);
        } else if slot.goal == Goal::Cycle {
            self.aim(id, Goal::Up, now, out);
            self.deliver(id, Happening::Wake, now, out);
        }
    }

    fn consider_waiting(&mut self, id: UnitId, mark: Mark, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(id) else { return };
        let State::Waiting(wait) = &slot.state else { return };
        let Some((mut on, cursor)) = self.obstacle(slot, wait.cursor) else {
            self.acts.push_back(id);
            return;
        };
        if let Mark::Dead { by, .. } = mark
            && matches!(on, On::Coming(_))
            && self.class(by) == Class::Dead
        {
            on = On::Dead(by);
        }
        if wait.on.as_ref() != Some(&on) {
            let first = wait.on.is_none();
            let dead = !matches!(on, On::Coming(_));
            self.deliver(id, Happening::Blocked { on, cursor }, now, out);
            if first || dead {
                self.announce(id, StateName::Waiting, out);
            }
        } else if matches!(mark, Mark::Dead { .. }) {
            self.end_jobs(id, out);
        }
    }

    pub(super) fn class(&self, id: UnitId) -> Class {
        self.slots.get(id).map_or(Class::Dead, |slot| slot.face().class)
    }

    /// The first obstacle to a start, from `cursor` on, and where it was found.
    fn obstacle(&self, slot: &Slot, cursor: usize) -> Option<(On, usize)> {
        if let Some(name) = &slot.missing {
            return Some((On::Missing(name.clone()), 0));
        }
        let count = slot.links.len();
        let start = cursor.checked_rem(count).unwrap_or(0);
        let order = slot.links.iter().enumerate().cycle().skip(start).take(count);
        for (index, edge) in order {
            let Some(other) = self.slots.get(edge.unit) else { continue };
            #[cfg(test)]
            if self.broken(match edge.link {
                Link::Requires => Sabotage::IgnoreRequirements,
                Link::Wants | Link::After => Sabotage::IgnoreOrder,
                Link::Conflicts => Sabotage::IgnoreConflicts,
            }) {
                continue;
            }
            let face = other.face();
            let on = match (edge.link, face.class) {
                (Link::Requires, Class::Dead | Class::Leaving) => On::Dead(edge.unit),
                (Link::Requires | Link::Wants, Class::Coming)
                | (Link::After, Class::Coming | Class::Leaving) => On::Coming(edge.unit),
                (Link::Conflicts, _) if face.up => On::Coming(edge.unit),
                (Link::Requires, Class::Ready)
                | (Link::Wants, Class::Ready | Class::Leaving | Class::Dead)
                | (Link::After, Class::Ready | Class::Dead)
                | (Link::Conflicts, _) => continue,
            };
            return Some((on, index));
        }
        None
    }

    /// Phase two: a unit does what nothing stands in the way of any more.
    fn act(&mut self, id: UnitId, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(id) else { return };
        match &slot.state {
            State::Waiting(wait) => {
                let may = slot.goal == Goal::Up && !self.is_shutting_down();
                if may && self.obstacle(slot, wait.cursor).is_none() {
                    self.deliver(id, Happening::Go, now, out);
                } else {
                    self.marks.push_back(Mark::Look(id));
                }
            }
            State::Backoff(it) if it.until.is_none() => {
                self.deliver(id, Happening::Deadline, now, out);
            }
            State::Stopping(_) | State::Receding => {
                if leaves_in_order(slot) && !self.held(slot) {
                    self.deliver(id, Happening::Alone, now, out);
                }
            }
            State::Inactive(_)
            | State::Backoff(_)
            | State::Failed(_)
            | State::Preparing(_)
            | State::Starting(_)
            | State::Running(_)
            | State::Done
            | State::Reached => {}
        }
    }

    /// Whether something has to go down before this unit.
    pub(super) fn held(&self, slot: &Slot) -> bool {
        #[cfg(test)]
        if self.broken(Sabotage::StopInAnyOrder) {
            return false;
        }
        self.holders(slot).next().is_some()
    }

    /// What has to go down before this unit.
    pub(super) fn holders<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = UnitId> + 'a {
        let holds = |edge: &&super::Edge| {
            let Some(other) = self.slots.get(edge.unit) else { return false };
            let face = other.face();
            match edge.link {
                _ if self.is_shutting_down() && face.stuck => false,
                Link::Requires => face.up,
                Link::Wants | Link::After => face.up && face.name == StateName::Stopping,
                Link::Conflicts => false,
            }
        };
        slot.back.iter().filter(holds).map(|edge| edge.unit)
    }

    /// Shutdown is complete when nothing runs but what even SIGKILL does not end.
    pub(super) fn close(&mut self, out: &mut Vec<Action>) {
        let Course::Closing { jobs } = &mut self.course else { return };
        let over = self.busy == self.stuck;
        #[cfg(test)]
        let over = over || self.sabotage == Some(Sabotage::ShutdownTooEarly);
        if over {
            for job in jobs.drain(..) {
                out.push(Action::JobDone { job, result: Ok(()) });
            }
            self.course = Course::Closed;
            out.push(Action::ShutdownDone);
        }
    }
}

/// Keeps a count of units that are something.
fn count(count: &mut usize, was: bool, is: bool) {
    match (was, is) {
        (false, true) => *count = count.saturating_add(1),
        (true, false) => *count = count.saturating_sub(1),
        (true, true) | (false, false) => {}
    }
}

/// Whether a unit is in that part of its way down that waits for others.
fn leaves_in_order(slot: &Slot) -> bool {
    match &slot.state {
        State::Receding => true,
        State::Stopping(Stopping { phase, .. }) => *phase == Phase::Dependents,
        State::Inactive(_)
        | State::Waiting(_)
        | State::Preparing(_)
        | State::Starting(_)
        | State::Running(_)
        | State::Backoff(_)
        | State::Failed(_)
        | State::Done
        | State::Reached => false,
    }
}
