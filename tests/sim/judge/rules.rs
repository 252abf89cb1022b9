//! Rules about units among each other: who may begin, end or stay beside whom.

use super::{Judge, Notice, Verdict, Watched};
use crate::supervisor::Run;
use crate::supervisor::view::StateName;
use crate::unit::model::{Kind, Unit};

impl Judge {
    /// A target is reached only when what it requires is ready; links it is given later
    /// are no reason to take it (and all that requires it) down.
    pub(super) fn announced(&mut self, notice: &Notice) -> Verdict {
        self.reached.remove(&notice.unit);
        let unit = self.names.get(&notice.unit).and_then(|name| self.units.get(name));
        if let Some(unit) = unit
            && unit.kind == Kind::Target
            && notice.state == StateName::Running
            // It may have been a service until now, and still run as one.
            && !self.has_run(notice.unit)
        {
            if let Some(other) = unit.requires.iter().find(|name| !self.may_be_ready(name)) {
                return Err(format!("{} is reached, but {other} is not ready", unit.name));
            }
            self.reached.insert(notice.unit);
        }
        Ok(())
    }

    /// Nobody begins while one that comes before it, and moves, is not where it goes.
    pub(super) fn check_order(&self, name: &str, unit: &Unit) -> Verdict {
        for other in self.live.values().filter(|other| !other.is_ready()) {
            let other_name = self.names.get(&other.unit).cloned().unwrap_or_default();
            // Nobody waits for one that is being forgotten.
            let Some(newest) = self.units.get(&other_name) else { continue };
            let before = newest.before.iter().any(|after| after == name);
            let first = before || unit.after.contains(&other_name);
            // Nor for a want that was told to go; what conflicts tell is not modelled.
            let simple = self.units.values().all(|unit| unit.conflicts.is_empty());
            let coming = !other.ending && other.exit.is_none() && !other.told;
            let wanted = unit.wants.contains(&other_name) && coming && simple;
            if first || wanted {
                return Err(format!("{name} starts while {other_name}, which goes first, moves"));
            }
        }
        Ok(())
    }

    pub(super) fn check_conflicts(&self, name: &str, unit: &Unit) -> Verdict {
        for other in self.live.values() {
            let other_name = self.names.get(&other.unit).cloned().unwrap_or_default();
            let theirs = self
                .units
                .get(&other_name)
                .is_some_and(|it| it.conflicts.iter().any(|conflict| conflict == name));
            if theirs || unit.conflicts.contains(&other_name) {
                return Err(format!("{name} starts while {other_name}, its conflict, is there"));
            }
        }
        Ok(())
    }

    /// A run is told to end. In a shutdown, nothing that needs it may be left.
    pub(super) fn ends(&mut self, run: Run) -> Verdict {
        let watched = self.running(run)?;
        let was_ready = watched.is_ready();
        watched.ending = true;
        let name = watched.definition.name.clone();
        if !self.closing || !was_ready {
            return Ok(());
        }
        // One that began before this run lost an earlier one, and is on its way down.
        let needs = |(other_run, other): &(&Run, &Watched)| {
            let newest = self.units.get(&other.definition.name);
            **other_run > run
                && other.needs.contains(&name)
                && newest.is_some_and(|it| it.requires.contains(&name))
        };
        let left = self.live.iter().filter(|(_, other)| !other.stuck).find(needs);
        match left {
            Some((_, other)) => {
                Err(format!("{name} is stopped before {}, which needs it", other.definition.name))
            }
            None => Ok(()),
        }
    }

    /// At rest, nothing is up without what it required when it began.
    pub fn nothing_hangs_in_the_air(&self) -> Verdict {
        for run in self.live.values().filter(|run| run.is_ready()) {
            let name = &run.definition.name;
            let Some(newest) = self.units.get(name) else { continue };
            let gone =
                |other: &&String| newest.requires.contains(other) && !self.may_be_ready(other);
            if let Some(other) = run.needs.iter().find(gone) {
                return Err(format!("{name} is up without {other}, which it requires"));
            }
        }
        Ok(())
    }
}
