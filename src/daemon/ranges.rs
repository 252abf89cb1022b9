//! User namespaces of units: which range of numbers each has, and the namespaces themselves,
//! which are kept from one run to the next.
//!
//! Who has which range is read once, before the loop, from `STATE/user-namespaces` (a line
//! `FIRST NAME` each). From then on what is here counts, and a forked child writes it down:
//! the supervisor never waits for the disk. What must hold: nothing on the disk depends on
//! the range, so that one which could not be written down does no harm.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::live::{Live, Numbers};
use super::pool::{self, Leases, Pool};
use super::{Daemon, Owner};
use crate::container::{UserNamespace, Users};
use crate::supervisor::{Exit, UnitId};
use crate::sys::{fork, state};
use crate::unit::model::{At, IdMaps, Unit, UserNamespace as Wanted};

/// Largest file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// Who has given ranges to others on this machine.
const FOREIGN: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// What is known of user namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ranges {
    file: PathBuf,
    leases: Leases,
    made: BTreeMap<UnitId, Made>,
    writing: bool,
    /// Something changed since the child was forked.
    changed: bool,
}

/// A user namespace, and the maps of a unit file that it was made with.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    namespace: UserNamespace,
    maps: Option<Box<IdMaps>>,
}

impl Ranges {
    /// Reads what is remembered; what cannot be is a trouble. May wait for the disk.
    pub fn read(file: PathBuf, pool: Pool, troubles: &mut Vec<String>) -> Self {
        let mut foreign = Vec::new();
        for path in FOREIGN {
            match state::read(Path::new(path), FILE_MAX) {
                Ok(text) => foreign.extend(pool::foreign(&String::from_utf8_lossy(&text))),
                Err(error) => troubles.push(format!("cannot read {path}: {error}")),
            }
        }
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        let known = state::read_sound(&file, FILE_MAX, is_text, troubles);
        let leases = Leases::new(pool, foreign, &String::from_utf8_lossy(&known));
        Self { file, leases, made: BTreeMap::new(), writing: false, changed: false }
    }

    /// What processes of a live run are to be launched with.
    pub fn users(&self, id: UnitId, live: &Live) -> Option<Users<'_>> {
        let made = self.made.get(&id).filter(|_| live.numbers == Numbers::Own)?;
        Some(match made.maps {
            Some(_) => made.namespace.demanded(),
            None => made.namespace.if_possible(),
        })
    }

    /// Which numbers the users of a live run have, if their own.
    pub fn maps(&self, id: UnitId, live: &Live) -> Option<IdMaps> {
        let made = self.made.get(&id).filter(|_| live.numbers == Numbers::Own)?;
        let one = || IdMaps::one(made.namespace.root(), pool::RANGE);
        Some(made.maps.as_deref().cloned().unwrap_or_else(one))
    }

    /// The maps of users in the words of a unit file.
    pub fn text(&self, id: UnitId, live: &Live) -> Option<String> {
        let maps = self.maps(id, live)?;
        let ranges: Vec<String> = maps.uid.iter().map(ToString::to_string).collect();
        Some(ranges.join(" "))
    }

    /// A run that an earlier supervisor has started has these. Its processes are in a
    /// namespace that they can be followed into; further runs get one that is the same.
    ///
    /// # Errors
    /// As [`UserNamespace::new`].
    pub fn adopt(&mut self, id: UnitId, unit: &Unit, maps: IdMaps) -> io::Result<()> {
        let namespace = UserNamespace::new(&maps)?;
        let own_range = maps == IdMaps::one(namespace.root(), pool::RANGE);
        if own_range {
            self.changed |= self.leases.hold(&unit.name, namespace.root());
        }
        let maps = (!own_range).then(|| Box::new(maps));
        self.made.insert(id, Made { namespace, maps });
        Ok(())
    }

    /// The unit has gone; its range stays its own.
    pub fn forget(&mut self, id: UnitId) {
        self.made.remove(&id);
    }

    /// Whether the disk does not say it all yet.
    pub fn is_writing(&self) -> bool {
        self.writing
    }
}

impl Daemon {
    /// Before a run: sees to it that the unit's user namespace is there.
    ///
    /// # Errors
    /// One sentence: why the unit cannot start.
    pub(super) fn number_users(&mut self, id: UnitId) -> Result<Numbers, String> {
        let unit = self.machine.unit(id).cloned().ok_or("the unit has gone")?;
        let wanted = unit.service().map_or(&Wanted::None, |service| service.user_namespace());
        let (maps, line) = match wanted {
            Wanted::None | Wanted::Unset => {
                self.ranges.forget(id);
                return Ok(Numbers::Host);
            }
            Wanted::Auto => {
                let is_there = |name: &str| self.machine.find(name).is_some();
                let taken = self.ranges.leases.take(&unit.name, is_there);
                let (first, new) = taken.map_err(|error| error.to_string())?;
                self.ranges.changed |= new;
                (IdMaps::one(first, pool::RANGE), None)
            }
            Wanted::Maps(at) => {
                let At { value, line } = &**at;
                (value.clone(), Some(*line))
            }
        };
        let kept = self.ranges.made.get(&id).is_some_and(|made| match &made.maps {
            Some(old) => line.is_some() && **old == maps,
            None => {
                line.is_none() && maps.root().is_some_and(|(uid, _)| uid == made.namespace.root())
            }
        });
        if kept {
            return Ok(Numbers::Own);
        }
        self.ranges.forget(id);
        match (UserNamespace::new(&maps), line) {
            (Ok(namespace), _) => {
                let maps = line.map(|_| Box::new(maps));
                self.ranges.made.insert(id, Made { namespace, maps });
                Ok(Numbers::Own)
            }
            (Err(error), None) => {
                let why = format!("a user namespace cannot be made: {error}");
                self.say_without_users(id, &why);
                Ok(Numbers::HostBecause(why.into()))
            }
            (Err(error), Some(line)) => {
                Err(format!("make the user namespace: {error} at {}:{line}", unit.file))
            }
        }
    }

    /// A unit goes on with the host's numbers.
    pub(super) fn without_users(&mut self, id: UnitId, why: String) {
        self.say_without_users(id, &why);
        if let Some(live) = self.lives.get_mut(&id) {
            live.numbers = Numbers::HostBecause(why.into());
        }
    }

    fn say_without_users(&mut self, id: UnitId, why: &str) {
        self.complain(id, &format!("goes on without a user namespace: {why}"));
    }

    /// Once a turn: writes down what is new, one child at a time.
    pub(super) fn write_ranges(&mut self) {
        if !self.ranges.changed || self.ranges.writing {
            return;
        }
        self.ranges.changed = false;
        let Ranges { file, leases, .. } = &self.ranges;
        let written = || match state::replace(file, leases.text().as_bytes()) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        match fork::child(&fork::Options::default(), written) {
            Ok(process) => {
                self.pids.insert(process.pid, Owner::Ranges);
                self.ranges.writing = true;
            }
            Err(error) => self.ranges_not_written(&error),
        }
    }

    fn ranges_not_written(&mut self, error: &io::Error) {
        let file = self.ranges.file.display();
        let text = format!("which unit has which user numbers cannot be kept in {file}: {error}");
        self.journal.say(&text);
    }

    /// The child has ended.
    pub(super) fn ranges_written(&mut self, exit: Exit) {
        self.ranges.writing = false;
        match exit {
            Exit::Code(0) => {}
            Exit::Code(errno) => self.ranges_not_written(&io::Error::from_raw_os_error(errno)),
            Exit::Signal(_) | Exit::Unknown => {
                self.ranges_not_written(&io::Error::other("the process that writes was killed"));
            }
        }
    }
}
