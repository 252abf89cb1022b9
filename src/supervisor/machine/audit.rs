//! Whether the machine's books are right: what is kept beside the states to be quick must
//! say the same as the states. For the tests; nothing in here is part of deciding.

use std::collections::BTreeSet;

use super::super::UnitId;
use super::Machine;
use super::slot::JobKind;
use super::state::{Goal, State};

impl Machine {
    /// Compares everything that is derived with what it is derived from.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn audit(&self) -> Result<(), String> {
        let (mut busy, mut stuck, mut nearest) = (0_usize, 0_usize, None);
        let mut jobs = BTreeSet::new();
        for (name, &id) in &self.names {
            let Some(slot) = self.slots.get(id) else {
                return Err(format!("{name} has no place"));
            };
            let face = slot.face();
            busy = busy.saturating_add(usize::from(face.busy));
            stuck = stuck.saturating_add(usize::from(face.stuck));
            nearest = match (nearest, face.deadline) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
            if !face.up && slot.removed() {
                return Err(format!("{name} should have been forgotten"));
            }
            let going = matches!(slot.state, State::Stopping(_) | State::Receding);
            if face.up && slot.pending.is_some() && !going {
                return Err(format!("{name} keeps a definition that is no longer in force"));
            }
            if matches!(&slot.state, State::Backoff(it) if it.until.is_none()) {
                return Err(format!("{name} is to be restarted at once, and was not"));
            }
            if matches!(&slot.state, State::Waiting(it) if it.on.is_none()) {
                return Err(format!("{name} waits for nothing"));
            }
            for job in &slot.jobs {
                if self.jobs.get(&job.id) != Some(&id) || !jobs.insert(job.id) {
                    return Err(format!("{name}: job {} is booked wrongly", job.id.0));
                }
                let goes_down = job.kind == JobKind::Stop || slot.goal == Goal::Cycle;
                if let Some(why) = self.why_stuck(slot).filter(|_| goes_down) {
                    return Err(format!("{name}: job {} waits, but {why}", job.id.0));
                }
            }
            self.audit_links(id, name)?;
        }
        if !self.marks.is_empty() || !self.acts.is_empty() {
            return Err("something was left undone".to_owned());
        }
        if jobs.len() != self.jobs.len() {
            return Err("a job belongs to nobody".to_owned());
        }
        if (busy, stuck) != (self.busy, self.stuck) {
            return Err(format!("{busy} units are busy, not {}", self.busy));
        }
        if nearest != self.deadline() {
            return Err(format!("the nearest deadline is {nearest:?}, not {:?}", self.deadline()));
        }
        Ok(())
    }

    fn audit_links(&self, id: UnitId, name: &str) -> Result<(), String> {
        for edge in self.dependencies(id) {
            let same = |back: &super::Edge| back.unit == id && back.link == edge.link;
            if !self.dependents(edge.unit).iter().any(same) {
                return Err(format!("{name}: a link is known at one end only"));
            }
        }
        Ok(())
    }
}
