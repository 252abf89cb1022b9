//! What there is to say about units that were read, before anything is done with them.

use super::Daemon;
use crate::unit::model::{self, Namespaces, UnitSet};
use crate::unit::{self, Loaded};

impl Daemon {
    /// Why `berth up` has nothing to do with these units, if that is so.
    pub(super) fn objection(&self, set: &UnitSet) -> Option<String> {
        if !self.options.is_up() {
            return None;
        }
        if !set.units.iter().any(|unit| unit.service().is_some()) {
            return Some("there is no service in the files (*.toml) that were named".to_owned());
        }
        let name = self.options.exit_code_from.as_deref()?;
        let services = || set.units.iter().filter(|unit| unit.service().is_some());
        if services().any(|unit| unit.name == name) {
            return None;
        }
        let nearest = unit::names::nearest(name, services().map(|unit| unit.name.as_str()));
        let hint = nearest.map_or_else(String::new, |it| format!("; did you mean {it}?"));
        Some(format!("--exit-code-from: no service is called {name}{hint}"))
    }

    /// Rights that the units need and berth has not: said once, before they fail.
    pub(super) fn say_what_is_missing(&mut self, set: &UnitSet) {
        use rustix::thread::{CapabilitySet, capabilities};
        let able =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let contained = |service: &model::Service| service.namespaces.value != Namespaces::NONE;
        if !able && set.units.iter().filter_map(|unit| unit.service()).any(contained) {
            self.journal.say(
                "containers need CAP_SYS_ADMIN, which berth does not have: run it as root, or \
                 write isolation = \"none\"",
            );
        }
    }

    /// Mistakes where nobody waits for them.
    pub(super) fn say_mistakes(&mut self, loaded: &Loaded) {
        for diagnostic in &loaded.diagnostics {
            for line in diagnostic.to_string().lines() {
                self.journal.say(line);
            }
        }
        if loaded.suppressed > 0 {
            self.journal.say(&format!("and {} mistakes more", loaded.suppressed));
        }
    }
}
