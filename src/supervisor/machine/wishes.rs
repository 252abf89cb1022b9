//! What people ask for, carried into goals. The states follow by themselves.
//!
//! `start` wants the unit and all it requires or wants, through the whole graph. `stop`
//! wants the unit and all that requires it down; a target in between keeps its goal, as
//! nothing of it runs and whoever wants the rest of it still does. `restart` brings
//! back whatever it takes down, because the goals of the others do not change: they lose
//! what they require, wait, and come up with it.

use std::collections::HashSet;

use super::super::request::{Found, Request, Wish};
use super::super::{Action, JobId, Time, UnitId};
use super::graph::Link;
use super::jobs::refusal;
use super::slot::JobKind;
use super::state::{Goal, Pulse, State};
use super::transition::Happening;
use super::{Course, Machine};

impl Machine {
    /// Carries out a wish; its job ends now or later.
    pub(super) fn request(&mut self, now: Time, request: Request, out: &mut Vec<Action>) {
        let job = request.job;
        match request.wish {
            Wish::Start(id) => self.start(id, JobKind::Start, job, now, out),
            Wish::Restart(id) => self.start(id, JobKind::Restart, job, now, out),
            Wish::Stop(id) => self.stop_for(id, job, now, out),
            Wish::Reload(id) => self.reload(id, job, now, out),
            Wish::Reset(id) => {
                let known = self.slot(id).is_some();
                self.deliver(id, Happening::Reset, now, out);
                finish(job, known.then_some(()).ok_or_else(unknown), out);
            }
            Wish::Freeze(id, on) => {
                let result = self.freeze(id, on, now, out);
                finish(job, result, out);
            }
            Wish::Forget(forgotten) => {
                self.forget_job(forgotten);
                if let Course::Closing { jobs } = &mut self.course {
                    jobs.retain(|job| *job != forgotten);
                }
                finish(job, Ok(()), out);
            }
            Wish::Apply(set) => {
                let result = if self.is_shutting_down() {
                    Err("cannot apply: shutting down".to_owned())
                } else {
                    self.apply(&set, now, out);
                    Ok(())
                };
                finish(job, result, out);
            }
            Wish::Adopt(all) => {
                self.adopt(&all, now, out);
                finish(job, Ok(()), out);
            }
            Wish::Shutdown => self.shutdown(job, now, out),
        }
    }

    /// What is there already is up, and so is to be all that it requires or wants.
    fn adopt(&mut self, all: &[(UnitId, Found)], now: Time, out: &mut Vec<Action>) {
        if self.is_shutting_down() {
            return;
        }
        let is_there = |id: UnitId| self.slot(id).is_some_and(|slot| !slot.removed());
        let there: Vec<_> = all.iter().copied().filter(|(id, _)| is_there(*id)).collect();
        for (id, found) in &there {
            if let Found::Up { run, .. } = found {
                self.next_run = self.next_run.max(run.0.saturating_add(1));
            }
            self.aim(*id, Goal::Up, now, out);
            self.deliver(*id, Happening::Adopted(*found), now, out);
        }
        for (id, _) in there {
            let wanted = self.closure(id);
            self.want(&wanted, now, out);
        }
    }

    /// `start` and `restart`.
    fn start(
        &mut self,
        id: UnitId,
        kind: JobKind,
        job: Option<JobId>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get(id) else { return finish(job, Err(unknown()), out) };
        let verb = if kind == JobKind::Restart { "restart" } else { "start" };
        let refused = if self.is_shutting_down() {
            Some("shutting down")
        } else if slot.removed() {
            Some("it is being removed")
        } else {
            None
        };
        if let Some(why) = refused {
            let why = refusal(verb, &slot.unit.name, why);
            return finish(job, Err(why), out);
        }
        let up = slot.face().up;
        let wanted = self.closure(id);
        self.want(&wanted, now, out);
        if up && kind == JobKind::Restart {
            self.aim(id, Goal::Cycle, now, out);
        }
        self.add_job(id, job, kind);
        self.propagate(now, out);
        self.end_jobs(id, out);
    }

    /// A unit and all it requires or wants, without those that would conflict with one
    /// that is already among them.
    pub(super) fn closure(&self, id: UnitId) -> Vec<UnitId> {
        let mut found = vec![id];
        let mut seen = HashSet::from([id]);
        let mut next = 0;
        while let Some(&unit) = found.get(next) {
            next = next.saturating_add(1);
            for edge in self.dependencies(unit) {
                if !matches!(edge.link, Link::Requires | Link::Wants) || seen.contains(&edge.unit) {
                    continue;
                }
                let Some(other) = self.slots.get(edge.unit) else { continue };
                let conflicts =
                    |edge: &super::Edge| edge.link == Link::Conflicts && seen.contains(&edge.unit);
                if !other.removed() && !other.links.iter().any(conflicts) {
                    seen.insert(edge.unit);
                    found.push(edge.unit);
                }
            }
        }
        found
    }

    /// Sets goals to up, and those of what conflicts to down.
    pub(super) fn want(&mut self, units: &[UnitId], now: Time, out: &mut Vec<Action>) {
        for &id in units {
            let conflicts: Vec<UnitId> = self
                .dependencies(id)
                .iter()
                .filter(|edge| edge.link == Link::Conflicts)
                .map(|edge| edge.unit)
                .collect();
            for other in conflicts {
                if self.slot(other).is_some_and(|slot| slot.goal != Goal::Down) {
                    self.unwant(other, now, out);
                }
            }
        }
        for &id in units {
            let Some(slot) = self.slots.get(id) else { continue };
            // What is on its way down cannot turn round: it ends, then begins again, and
            // at once, however it came to its end. So does what has a new definition.
            let going = matches!(slot.state, State::Stopping(_) | State::Receding);
            if going || (slot.face().up && slot.pending.is_some()) {
                self.aim(id, Goal::Cycle, now, out);
            } else if slot.goal == Goal::Down {
                self.aim(id, Goal::Up, now, out);
            }
            self.deliver(id, Happening::Wake, now, out);
        }
    }

    fn stop_for(&mut self, id: UnitId, job: Option<JobId>, now: Time, out: &mut Vec<Action>) {
        if self.slot(id).is_none() {
            return finish(job, Err(unknown()), out);
        }
        self.unwant(id, now, out);
        self.add_job(id, job, JobKind::Stop);
        self.propagate(now, out);
        self.end_jobs(id, out);
    }

    /// Sets goals to down: of a unit, and of the services that require it.
    pub(super) fn unwant(&mut self, id: UnitId, now: Time, out: &mut Vec<Action>) {
        let mut found = vec![id];
        let mut seen = HashSet::from([id]);
        let mut next = 0;
        while let Some(&unit) = found.get(next) {
            next = next.saturating_add(1);
            for edge in self.dependents(unit) {
                if edge.link == Link::Requires && seen.insert(edge.unit) {
                    found.push(edge.unit);
                }
            }
        }
        for unit in found {
            let keeps = self.slot(unit).is_some_and(|slot| slot.terms().is_target());
            if unit == id || !keeps {
                self.aim(unit, Goal::Down, now, out);
            }
        }
    }

    fn reload(&mut self, id: UnitId, job: Option<JobId>, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(id) else { return finish(job, Err(unknown()), out) };
        let refused = match &slot.state {
            State::Running(it) if matches!(it.pulse, Pulse::Alive { reload: Some(_), .. }) => {
                Some("a reload is under way")
            }
            State::Running(_) => None,
            _ => Some("it is not running"),
        };
        if let Some(why) = refused {
            let why = refusal("reload", &slot.unit.name, why);
            return finish(job, Err(why), out);
        }
        self.add_job(id, job, JobKind::Reload);
        self.deliver(id, Happening::Reload, now, out);
    }

    fn freeze(
        &mut self,
        id: UnitId,
        on: bool,
        now: Time,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        let Some(slot) = self.slots.get(id) else { return Err(unknown()) };
        if !matches!(slot.state, State::Running(_)) {
            let verb = if on { "freeze" } else { "thaw" };
            return Err(refusal(verb, &slot.unit.name, "it is not running"));
        }
        self.deliver(id, Happening::Freeze(on), now, out);
        Ok(())
    }

    fn shutdown(&mut self, job: Option<JobId>, now: Time, out: &mut Vec<Action>) {
        match &mut self.course {
            Course::Closed => finish(job, Ok(()), out),
            Course::Closing { jobs } => {
                jobs.extend(job);
                let ids: Vec<UnitId> = self.ids().collect();
                for id in ids {
                    self.deliver(id, Happening::Hurry, now, out);
                }
            }
            Course::Up => {
                self.course = Course::Closing { jobs: job.into_iter().collect() };
                let ids: Vec<UnitId> = self.ids().collect();
                for id in ids {
                    self.aim(id, Goal::Down, now, out);
                }
            }
        }
    }
}

fn unknown() -> String {
    "there is no such unit".to_owned()
}

/// Ends a job that needs no waiting.
fn finish(job: Option<JobId>, result: Result<(), String>, out: &mut Vec<Action>) {
    if let Some(job) = job {
        out.push(Action::JobDone { job, result });
    }
}
