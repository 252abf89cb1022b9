//! User namespaces of units: which range of numbers each has, and the namespaces themselves,
//! which are kept from one run to the next.
//!
//! Who has which range is read once, before the loop, from `STATE/user-namespaces` (a line
//! `FIRST NAME` each). From then on what is here counts, and a forked child writes it down
//! ([`Writer`]): the supervisor never waits for the disk. What must hold: nothing on the disk
//! depends on the range, so that one which could not be written down does no harm; and no two
//! units have a number in common but those whose files name it for both.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Daemon;
use super::guard::{self, Guard};
use super::live::{Live, Numbers};
use super::pool::{self, Leases, Pool};
use super::writer::Writer;
use crate::container::{UserNamespace, Users};
use crate::supervisor::UnitId;
use crate::sys::state;
use crate::unit::model::{At, IdMaps, IdRange, Unit, UserNamespace as Wanted};

/// Largest file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// Who has given ranges to others on this machine.
const FOREIGN: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// What is known of user namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ranges {
    file: PathBuf,
    leases: Leases,
    /// What keeps them apart from another supervisor's.
    #[serde(default)]
    guard: Guard,
    made: BTreeMap<UnitId, Made>,
    /// Units whose last run had the host's users, because something was in the way.
    #[serde(default)]
    without: BTreeMap<UnitId, Box<str>>,
    #[serde(default)]
    pub(super) writer: Writer,
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
        let text = String::from_utf8_lossy(&known);
        foreign.extend(guard::in_use(pool, &text));
        let leases = Leases::new(pool, foreign, &text).begin_by(&file.to_string_lossy());
        let guard = Guard::open().unwrap_or_else(|error| {
            troubles.push(format!("another supervisor may take the same user numbers: {error}"));
            Guard::default()
        });
        let (made, without) = (BTreeMap::new(), BTreeMap::new());
        Self { file, leases, guard, made, without, writer: Writer::clean() }
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
        let locked =
            if own_range { self.guard.take(namespace.root())? } else { self.guard.share(&maps)? };
        if !locked {
            let why = "another berth has given its users' numbers to somebody else meanwhile";
            return Err(io::Error::other(why));
        }
        if own_range && self.leases.hold(&unit.name, namespace.root()) {
            self.writer.touch();
        }
        let maps = (!own_range).then(|| Box::new(maps));
        self.made.insert(id, Made { namespace, maps });
        Ok(())
    }

    /// The range of a unit, that nobody else has any number of.
    fn take(
        &mut self,
        id: UnitId,
        name: &str,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<u32, String> {
        loop {
            let taken = self.leases.take(name, &is_there);
            let (first, new) = taken.map_err(|error| error.to_string())?;
            if new {
                self.writer.touch();
            }
            let locked = self.guard.take(first);
            let locked =
                locked.map_err(|error| format!("keep its user numbers its own: {error}"))?;
            if locked && self.who_else(id, &IdMaps::one(first, pool::RANGE)).is_none() {
                return Ok(first);
            }
            // One less to choose from, so this ends.
            self.leases.refuse(first);
        }
    }

    /// That the maps of a unit file have no number that was given to one unit alone.
    fn check(
        &self,
        id: UnitId,
        maps: &IdMaps,
        name_of: impl Fn(UnitId) -> String,
    ) -> Result<(), String> {
        let pool = self.leases.pool();
        if let Some(range) = maps.all().find(|range| pool.overlaps(range.outside, range.count)) {
            return Err(format!(
                "the range {range} has numbers of the pool {pool}, from which berth gives each \
                 unit its own: choose others"
            ));
        }
        if let Some((other, range)) = self.who_else(id, maps)
            && self.made.get(&other).is_some_and(|made| made.maps.is_none())
        {
            let name = name_of(other);
            return Err(format!("the range {range} has numbers that were given to {name} alone"));
        }
        match self.guard.share(maps) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err("another berth has given some of these numbers to a unit of its own, \
                              see its --user-namespace-pool: choose others"
                    .to_owned())
            }
            Err(error) => Err(format!("keep these numbers from others: {error}")),
        }
    }

    /// Another unit with some of these numbers, and which.
    fn who_else<'a>(&self, id: UnitId, maps: &'a IdMaps) -> Option<(UnitId, &'a IdRange)> {
        self.made.iter().filter(|(other, _)| **other != id).find_map(|(other, made)| {
            let own = IdMaps::one(made.namespace.root(), pool::RANGE);
            Some((*other, maps.shared_with(made.maps.as_deref().unwrap_or(&own))?))
        })
    }

    /// Why a unit's last run had the host's users, if it wanted its own.
    pub fn why_without(&self, id: UnitId) -> Option<&str> {
        self.without.get(&id).map(AsRef::as_ref)
    }

    /// The unit has gone; its range stays its own.
    pub fn forget(&mut self, id: UnitId) {
        self.made.remove(&id);
        self.without.remove(&id);
    }

    /// Writes it all down. Waits for the disk.
    ///
    /// # Errors
    /// As [`state::replace`].
    pub fn write(&self) -> io::Result<()> {
        state::replace(&self.file, self.leases.text().as_bytes())
    }
}

impl Daemon {
    /// Before a run: sees to it that the unit's user namespace is there.
    ///
    /// # Errors
    /// One sentence: why the unit cannot start.
    pub(super) fn number_users(&mut self, id: UnitId) -> Result<Numbers, String> {
        self.ranges.without.remove(&id);
        let unit = self.machine.unit(id).cloned().ok_or("the unit has gone")?;
        let wanted = unit.service().map_or(&Wanted::None, |service| service.user_namespace());
        let (maps, line) = match wanted {
            Wanted::None | Wanted::Unset => {
                self.ranges.forget(id);
                return Ok(Numbers::Host);
            }
            Wanted::Auto => {
                let is_there = |name: &str| self.machine.find(name).is_some();
                let first = self.ranges.take(id, &unit.name, is_there)?;
                (IdMaps::one(first, pool::RANGE), None)
            }
            Wanted::Maps(at) => {
                let At { value, line } = &**at;
                let machine = &self.machine;
                let name_of =
                    |id| machine.unit(id).map(|unit| unit.name.clone()).unwrap_or_default();
                self.ranges
                    .check(id, value, name_of)
                    .map_err(|why| format!("{why} at {}:{line}", unit.file))?;
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

    /// What a unit does not get on this host.
    pub(super) fn lacks(&mut self, id: UnitId, what: String) {
        self.complain(id, &format!("goes on with less: {what}"));
        if let Some(live) = self.lives.get_mut(&id) {
            live.group.lacks(what);
        }
    }

    fn say_without_users(&mut self, id: UnitId, why: &str) {
        self.ranges.without.insert(id, why.into());
        self.complain(id, &format!("goes on without a user namespace: {why}"));
    }
}
