//! New definitions for old ones: who is new, who changed, who is gone; and nobody else is
//! touched.
//!
//! A change that the processes of a running unit would not notice (links, restart policy,
//! timeouts, texts) is taken over in place; any other waits until the run that is there
//! has gone, which it is told to. A new `requires` starts what it names; it takes a unit
//! that is up down only if what it names is just going down or does not exist.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::super::request::ApplyPlan;
use super::super::view::StateName;
use super::super::{Action, Time, UnitId};
use super::Machine;
use super::graph::{self, Link};
use super::slot::{JobKind, Pending, Slot};
use super::state::Goal;
use crate::unit::model::{Kind, Service, Unit, UnitSet};

/// What a new set means for a unit that is there.
enum Change {
    /// Nothing, or nothing its processes would notice.
    InPlace,
    /// A restart, if it is up.
    Deep,
}

impl Machine {
    /// What [`Wish::Apply`](super::super::request::Wish::Apply) would do. A unit that is up
    /// and changes only in what is taken over in place is listed under `change`.
    pub fn plan_apply(&self, set: &UnitSet) -> ApplyPlan {
        let mut plan = ApplyPlan::default();
        let mut kept = HashSet::new();
        for unit in &set.units {
            kept.insert(unit.name.as_str());
            let Some(slot) = self.find(&unit.name).and_then(|id| self.slots.get(id)) else {
                plan.add.push(unit.name.clone());
                continue;
            };
            if slot.removed() {
                plan.add.push(unit.name.clone());
            } else if slot.newest() != unit {
                match change(&slot.unit, unit) {
                    Change::Deep if comes_back(slot) => plan.restart.push(unit.name.clone()),
                    // A target that nobody wrote changes with those that want to be in it.
                    Change::Deep | Change::InPlace if unit.file.is_empty() => {}
                    Change::Deep | Change::InPlace => plan.change.push(unit.name.clone()),
                }
            }
        }
        let gone = |id: &UnitId| self.slot(*id).is_some_and(|slot| !slot.removed());
        let old = self.names.iter().filter(|(_, id)| gone(id)).map(|(name, _)| name);
        plan.remove.extend(old.filter(|name| !kept.contains(name.as_str())).cloned());
        plan.add.sort();
        plan.change.sort();
        plan.restart.sort();
        plan
    }

    /// These units from now on.
    pub(super) fn apply(&mut self, set: &UnitSet, now: Time, out: &mut Vec<Action>) {
        let old_links = self.links_of_wanted();
        let newest: BTreeMap<&str, &Arc<Unit>> =
            set.units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
        let known: Vec<(String, UnitId)> =
            self.names.iter().map(|(name, &id)| (name.clone(), id)).collect();
        for (name, id) in known {
            match newest.get(name.as_str()) {
                Some(unit) => self.redefine(id, unit, now, out),
                None => self.doom(id, now, out),
            }
        }
        for unit in newest.values() {
            if !self.names.contains_key(&unit.name)
                && let Some(id) = self.slots.add(Slot::new(Arc::clone(unit), now))
            {
                self.names.insert(unit.name.clone(), id);
            }
        }
        graph::resolve(&mut self.slots, &self.names);
        self.want_new(&old_links, now, out);
        self.part_conflicts(now, out);
        self.marks.extend(self.names.values().map(|&id| super::Mark::Look(id)));
    }

    /// What every wanted unit pulled in so far.
    fn links_of_wanted(&self) -> HashSet<(UnitId, UnitId)> {
        let mut links = HashSet::new();
        for id in self.ids() {
            for edge in self.dependencies(id) {
                if matches!(edge.link, Link::Requires | Link::Wants) {
                    links.insert((id, edge.unit));
                }
            }
        }
        links
    }

    /// A unit that stays.
    fn redefine(&mut self, id: UnitId, unit: &Arc<Unit>, now: Time, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.pending = None;
        let definition = Arc::clone(unit);
        if !slot.face().up {
            slot.unit = definition;
            return;
        }
        match change(&slot.unit, unit) {
            Change::InPlace => slot.unit = definition,
            Change::Deep => {
                slot.pending = Some(Pending::Replace(definition));
                if slot.goal == Goal::Up {
                    self.aim(id, Goal::Cycle, now, out);
                }
            }
        }
    }

    /// A unit that is no longer there.
    fn doom(&mut self, id: UnitId, now: Time, out: &mut Vec<Action>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.pending = Some(Pending::Remove);
        }
        let kinds = [JobKind::Start, JobKind::Restart, JobKind::Reload];
        self.fail_jobs(id, &kinds, "it was removed meanwhile", out);
        self.aim(id, Goal::Down, now, out);
    }

    /// Forgets a unit of which nothing is left.
    pub(super) fn remove(&mut self, id: UnitId, out: &mut Vec<Action>) {
        self.end_jobs(id, out);
        self.mark_freed(id);
        let Some(slot) = self.slots.remove(id) else { return };
        graph::disconnect(&mut self.slots, id, &slot.links, &slot.back);
        self.marks.extend(slot.back.iter().map(|edge| super::Mark::Look(edge.unit)));
        if self.critical == Some(id) {
            self.critical = None;
        }
        let name = slot.unit.name.clone();
        self.names.remove(&name);
        out.push(Action::Removed { unit: id, name });
    }

    /// What a wanted unit newly pulls in is wanted too.
    fn want_new(&mut self, old: &HashSet<(UnitId, UnitId)>, now: Time, out: &mut Vec<Action>) {
        let mut news: Vec<UnitId> = Vec::new();
        let ids: Vec<UnitId> = self.ids().collect();
        for id in ids {
            let Some(slot) = self.slots.get(id).filter(|slot| slot.goal != Goal::Down) else {
                continue;
            };
            if slot.missing.is_some() {
                self.marks.push_back(super::Mark::Lost(id));
            }
            for edge in &slot.links {
                // It may be bound now to one that is already on its way down.
                if edge.link == Link::Requires && self.is_leaving(edge.unit) {
                    self.marks.push_back(super::Mark::Lost(id));
                }
                let pulls = matches!(edge.link, Link::Requires | Link::Wants);
                if pulls && !old.contains(&(id, edge.unit)) {
                    news.push(edge.unit);
                }
            }
        }
        for id in news {
            if self.slot(id).is_some_and(|slot| slot.goal == Goal::Down) {
                let wanted = self.closure(id);
                self.want(&wanted, now, out);
            }
        }
    }

    fn is_leaving(&self, id: UnitId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.face().name == StateName::Stopping)
    }

    /// Two that conflict since now cannot both stay: the later name goes.
    fn part_conflicts(&mut self, now: Time, out: &mut Vec<Action>) {
        let wanted =
            |machine: &Self, id| machine.slot(id).is_some_and(|slot| slot.goal != Goal::Down);
        let ids: Vec<UnitId> = self.ids().collect();
        let mut before = HashSet::new();
        for id in ids {
            let clash = self.dependencies(id).iter().any(|edge| {
                edge.link == Link::Conflicts
                    && before.contains(&edge.unit)
                    && wanted(self, edge.unit)
            });
            if clash && wanted(self, id) {
                self.unwant(id, now, out);
            }
            before.insert(id);
        }
    }
}

/// Whether a deep change means stop and start.
fn comes_back(slot: &Slot) -> bool {
    slot.face().up && slot.goal != Goal::Down
}

fn change(old: &Unit, new: &Unit) -> Change {
    let same = match (&old.kind, &new.kind) {
        (Kind::Target, Kind::Target) => true,
        (Kind::Service(old), Kind::Service(new)) => old == new || same_processes(old, new),
        (Kind::Target, Kind::Service(_)) | (Kind::Service(_), Kind::Target) => false,
    };
    if same { Change::InPlace } else { Change::Deep }
}

/// Whether two services differ only in what the machine alone uses, and only later.
fn same_processes(old: &Service, new: &Service) -> bool {
    let taken_over = Service {
        restart: new.restart.clone(),
        success_exit_status: new.success_exit_status.clone(),
        critical: new.critical,
        start_timeout: new.start_timeout,
        stop_timeout: new.stop_timeout,
        stop_signal: new.stop_signal,
        reload_signal: new.reload_signal,
        ..old.clone()
    };
    taken_over == *new
}
