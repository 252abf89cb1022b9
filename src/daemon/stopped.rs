//! Units that were stopped by hand and stay down, also after the next boot
//! (`restart = "unless-stopped"`): a file `STATE/stopped/NAME` for each.
//!
//! The directory is read once, before the loop. From then on the set here counts, and a
//! forked child makes the directory like it ([`Writer`]): the supervisor never waits for the
//! disk.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Daemon;
use super::writer::Writer;
use crate::supervisor::request::{Request, Wish};
use crate::sys::state;
use crate::unit::model::{Kind, RestartPolicy, Unit, UnitSet};
use crate::unit::{limits, names};

/// Who stays down.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stopped {
    directory: PathBuf,
    names: BTreeSet<String>,
    /// Who is down in order. Of any kind: after a failure of berth itself they stay so,
    /// which is the ledger's to remember.
    #[serde(default)]
    down: BTreeSet<String>,
    /// Those of them that were down before such a failure.
    #[serde(default)]
    kept_down: BTreeSet<String>,
    #[serde(default)]
    pub(super) writer: Writer,
}

impl Stopped {
    /// Reads what is remembered; what cannot be is a trouble. May wait for the disk. These
    /// are down besides.
    pub fn read(directory: PathBuf, down: BTreeSet<String>, troubles: &mut Vec<String>) -> Self {
        let names = list(&directory).unwrap_or_else(|error| {
            troubles.push(state::set_aside(&directory, &error));
            BTreeSet::new()
        });
        let (down, kept_down) = (down.clone(), down);
        Self { directory, names, down, kept_down, writer: Writer::clean() }
    }

    /// A unit is down in order; whether that is new.
    pub fn went_down(&mut self, unit: &str) -> bool {
        self.down.insert(unit.to_owned())
    }

    /// A unit comes up; whether that is new.
    pub fn comes_up(&mut self, unit: &str) -> bool {
        self.kept_down.remove(unit);
        self.down.remove(unit)
    }

    /// Who is down in order.
    pub fn down(&self) -> impl Iterator<Item = &String> {
        self.down.iter()
    }

    /// Makes the directory like it. Waits for the disk.
    ///
    /// # Errors
    /// mkdir(2), readdir(3), open(2), unlink(2).
    pub fn write(&self) -> io::Result<()> {
        write(&self.directory, &self.names)
    }
}

/// The names in the directory.
fn list(directory: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut found = BTreeSet::new();
    for entry in entries.take(limits::UNITS) {
        let name = entry?.file_name().into_string().ok();
        found.extend(name.filter(|name| names::problem(name).is_none()));
    }
    Ok(found)
}

/// Makes the directory hold exactly these names.
fn write(directory: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let there = list(directory)?;
    for name in there.difference(names) {
        fs::remove_file(directory.join(name))?;
    }
    for name in names.difference(&there) {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(directory.join(name))?;
    }
    Ok(())
}

/// Whether a stop by hand holds over a boot.
fn remembers(unit: &Unit) -> bool {
    unit.service().is_some_and(|it| it.restart.policy == RestartPolicy::UnlessStopped)
}

impl Daemon {
    /// These were stopped (or started) by hand.
    pub(super) fn mark_stopped(&mut self, units: &[String], down: bool) {
        let mut changed = false;
        for name in units {
            changed |= if down {
                let unit = self.machine.find(name).and_then(|id| self.machine.unit(id));
                unit.is_some_and(|unit| remembers(unit)) && self.stopped.names.insert(name.clone())
            } else {
                let kept = self.stopped.kept_down.remove(name);
                self.stopped.names.remove(name) || kept
            };
        }
        if changed {
            self.stopped.writer.touch();
            // Their targets want them no more, or again.
            let units = self.without_stopped(&self.units);
            self.wish(Request { job: None, wish: Wish::Apply(units) });
        }
    }

    /// The same units, but no target wants those that stay down.
    pub(super) fn without_stopped(&self, set: &Arc<UnitSet>) -> Arc<UnitSet> {
        let Stopped { names, kept_down, .. } = &self.stopped;
        let stays = |unit: &&Arc<Unit>| {
            names.contains(&unit.name) && remembers(unit) || kept_down.contains(&unit.name)
        };
        let down: HashSet<&str> =
            set.units.iter().filter(stays).map(|unit| unit.name.as_str()).collect();
        if down.is_empty() {
            return set.clone();
        }
        let mut without = UnitSet::clone(set);
        for shared in &mut without.units {
            let names = |list: &[String]| list.iter().any(|name| down.contains(name.as_str()));
            if !down.contains(shared.name.as_str()) && !names(&shared.wants) {
                continue;
            }
            let unit = Arc::make_mut(shared);
            if down.contains(unit.name.as_str()) {
                unit.wanted_by.clear();
            }
            if unit.kind == Kind::Target {
                unit.wants.retain(|name| !down.contains(name.as_str()));
            }
        }
        Arc::new(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_holds_what_is_wished() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("stopped");
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(list(&directory).unwrap(), set(&[]));
        for names in [set(&["a", "b@1"]), set(&["b@1", "c"]), set(&[])] {
            write(&directory, &names).unwrap();
            assert_eq!(list(&directory).unwrap(), names);
        }
        // What nobody can have written is nobody's name.
        fs::write(directory.join(".x"), "").unwrap();
        assert_eq!(list(&directory).unwrap(), set(&[]));
    }
}
