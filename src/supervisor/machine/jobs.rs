//! Who waits for what. A job belongs to one unit and ends once: when what it waits for is
//! there, or as soon as it is clear that it will not be soon. A person at a prompt wants
//! to hear of the first failure; that the machine tries again in the background does not
//! keep the job waiting.

use std::collections::HashSet;

use super::super::{Action, JobId, UnitId};
use super::Machine;
use super::graph::Link;
use super::slot::{Job, JobKind, Slot};
use super::state::{Class, Goal, On, State};
use super::words;

/// Longest chain of `requires` that is written out.
const LONGEST_CHAIN: usize = 8;

impl JobKind {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

impl Machine {
    /// Somebody waits.
    pub(super) fn add_job(&mut self, unit: UnitId, id: Option<JobId>, kind: JobKind) {
        if let (Some(id), Some(slot)) = (id, self.slots.get_mut(unit)) {
            slot.jobs.push(Job { id, kind });
            self.jobs.insert(id, unit);
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget_job(&mut self, id: JobId) {
        if let Some(slot) = self.jobs.remove(&id).and_then(|unit| self.slots.get_mut(unit)) {
            slot.jobs.retain(|job| job.id != id);
        }
    }

    /// Ends those jobs of a unit that have reached their end.
    pub(super) fn end_jobs(&mut self, id: UnitId, out: &mut Vec<Action>) {
        if self.slots.get(id).is_none_or(|slot| slot.jobs.is_empty()) {
            return;
        }
        self.end_jobs_if(id, out, |machine, slot, job| machine.verdict(slot, job.kind));
    }

    /// Ends those jobs that have reached their end of what this unit depends on.
    pub(super) fn end_jobs_behind(&mut self, id: UnitId, out: &mut Vec<Action>) {
        let mut found = vec![id];
        let mut seen = HashSet::from([id]);
        let mut next = 0;
        while let Some(&unit) = found.get(next) {
            next = next.saturating_add(1);
            let links = self.dependencies(unit).iter().map(|edge| edge.unit);
            let behind: Vec<UnitId> = links.filter(|other| seen.insert(*other)).collect();
            for other in behind {
                if self.slots.get(other).is_some_and(|slot| slot.face().up) {
                    self.end_jobs(other, out);
                    found.push(other);
                }
            }
        }
    }

    /// Why a unit does not go down: it, or something that has to go first, does not end.
    /// Once that ends all the same, things go on, though nobody waits any more.
    pub(super) fn why_stuck(&self, slot: &Slot) -> Option<String> {
        if slot.face().stuck {
            return Some(self.why_of(slot));
        }
        let mut found: Vec<UnitId> = self.holders(slot).collect();
        let mut seen: HashSet<UnitId> = found.iter().copied().collect();
        let mut next = 0;
        while let Some(&unit) = found.get(next) {
            next = next.saturating_add(1);
            let Some(holder) = self.slots.get(unit) else { continue };
            if holder.face().stuck {
                let name = &holder.unit.name;
                return Some(format!("{name} has to end first: {}", self.why_of(holder)));
            }
            found.extend(self.holders(holder).filter(|other| seen.insert(*other)));
        }
        None
    }

    /// Ends the jobs that wait for a reload.
    pub(super) fn end_reload(
        &mut self,
        id: UnitId,
        result: &Result<(), String>,
        out: &mut Vec<Action>,
    ) {
        self.end_jobs_if(id, out, |_, _, job| {
            (job.kind == JobKind::Reload).then(|| result.clone())
        });
    }

    /// Ends all jobs of these kinds.
    pub(super) fn fail_jobs(
        &mut self,
        id: UnitId,
        kinds: &[JobKind],
        why: &str,
        out: &mut Vec<Action>,
    ) {
        self.end_jobs_if(id, out, |_, _, job| {
            kinds.contains(&job.kind).then(|| Err(why.to_owned()))
        });
    }

    fn end_jobs_if(
        &mut self,
        id: UnitId,
        out: &mut Vec<Action>,
        verdict: impl Fn(&Self, &Slot, Job) -> Option<Result<(), String>>,
    ) {
        let Some(slot) = self.slots.get(id) else { return };
        let mut ended = Vec::new();
        for &job in &slot.jobs {
            if let Some(result) = verdict(self, slot, job) {
                let result = result.map_err(|why| refusal(job.kind.verb(), &slot.unit.name, &why));
                ended.push(job.id);
                #[cfg(test)]
                if self.broken(super::sabotage::Sabotage::LoseJobs) {
                    continue;
                }
                out.push(Action::JobDone { job: job.id, result });
            }
        }
        for job in ended {
            self.forget_job(job);
        }
    }

    /// Whether a job has reached its end, and which.
    fn verdict(&self, slot: &Slot, kind: JobKind) -> Option<Result<(), String>> {
        match kind {
            JobKind::Stop if !slot.face().up => Some(Ok(())),
            JobKind::Stop => self.why_stuck(slot).map(Err),
            JobKind::Reload => {
                let running = matches!(slot.state, State::Running(_));
                (!running).then(|| Err("it stopped meanwhile".to_owned()))
            }
            JobKind::Start | JobKind::Restart => self.start_verdict(slot),
        }
    }

    fn start_verdict(&self, slot: &Slot) -> Option<Result<(), String>> {
        let face = slot.face();
        if self.is_shutting_down() {
            return Some(Err("shutting down".to_owned()));
        }
        match slot.goal {
            Goal::Up if face.class == Class::Ready => return Some(Ok(())),
            Goal::Up => {}
            Goal::Cycle => return self.why_stuck(slot).map(Err),
            Goal::Down => {
                let why = match &slot.state {
                    State::Inactive(why) if !why.is_empty() => why.clone(),
                    _ => "it was stopped meanwhile".to_owned(),
                };
                return Some(Err(why));
            }
        }
        match &slot.state {
            State::Backoff(it) => Some(Err(it.why.clone())),
            State::Failed(why) => Some(Err(why.clone())),
            _ => self.hindrance(slot).map(Err),
        }
    }

    /// Which requirement keeps a unit from starting, through the chain to its cause.
    fn hindrance(&self, slot: &Slot) -> Option<String> {
        if let Some(name) = &slot.missing {
            return Some(format!("requires {name}, which does not exist"));
        }
        let dead = slot.links.iter().find(|edge| {
            edge.link == Link::Requires
                && matches!(self.class(edge.unit), Class::Dead | Class::Leaving)
        })?;
        Some(self.chain(dead.unit))
    }

    /// Why a unit was not started, or was stopped without a fault of its own.
    fn why_down(&self, slot: &Slot) -> String {
        let rival =
            slot.links.iter().filter(|edge| edge.link == Link::Conflicts).find(|edge| {
                self.slots.get(edge.unit).is_some_and(|other| other.goal != Goal::Down)
            });
        match rival {
            Some(edge) => format!("it conflicts with {}", self.name(edge.unit)),
            None => "it is down".to_owned(),
        }
    }

    /// `requires a: requires b: exit code 3`.
    pub(super) fn chain(&self, first: UnitId) -> String {
        let mut text = String::new();
        let mut next = Some(first);
        for _ in 0..LONGEST_CHAIN {
            let Some(slot) = next.and_then(|id| self.slots.get(id)) else { break };
            text.push_str("requires ");
            text.push_str(&slot.unit.name);
            text.push_str(": ");
            let why = match &slot.state {
                State::Waiting(wait) => match &wait.on {
                    Some(On::Dead(on)) => {
                        next = Some(*on);
                        continue;
                    }
                    Some(On::Missing(name)) => format!("requires {name}, which does not exist"),
                    Some(On::Coming(_)) | None => "it waits".to_owned(),
                },
                State::Backoff(it) => it.why.clone(),
                State::Failed(why) => why.clone(),
                State::Inactive(why) if !why.is_empty() => why.clone(),
                State::Inactive(_) => self.why_down(slot),
                State::Stopping(_) | State::Receding => "it is stopping".to_owned(),
                State::Preparing(_)
                | State::Starting(_)
                | State::Running(_)
                | State::Done
                | State::Reached => "it is not ready yet".to_owned(),
            };
            text.push_str(&why);
            return words::cut(text);
        }
        text.push('…');
        words::cut(text)
    }
}

/// What a person reads.
pub(super) fn refusal(verb: &str, name: &str, why: &str) -> String {
    words::cut(format!("cannot {verb} {name}: {why}"))
}
