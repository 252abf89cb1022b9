//! Ranges of numbers for the users of units, and who has which. Pure.
//!
//! What must always hold: no two units have the same range, no range overlaps one that the
//! machine has given to somebody else (`/etc/subuid`, `/etc/subgid`), and a unit that has
//! been given one keeps it as long as nobody is out of ranges.

use std::fmt;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::unit::names;

/// Numbers in a range: every user that a distribution has, `nobody` among them.
pub const RANGE: u32 = 65_536;

/// Where ranges are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    first: u32,
    ranges: u16,
}

impl Default for Pool {
    /// What lies between the numbers that systemd gives to containers (524288 to 1879048191)
    /// and those of its foreign images (from 2147352576). The ranges that useradd(8) gives to
    /// users, and with them Docker and Podman, end at 600100000.
    fn default() -> Self {
        Self { first: 0x7000_0000, ranges: 0x0ffe }
    }
}

impl Pool {
    /// Reads `FIRST:COUNT`.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("the pool {text} is not FIRST:COUNT: {why}"));
        let Some((first, count)) = text.split_once(':') else {
            return wrong("there is no colon");
        };
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else {
            return wrong("both are whole numbers");
        };
        if first < RANGE {
            return wrong("the numbers below 65536 are those of the host's own users");
        }
        if first.checked_add(count).is_none() {
            return wrong("the numbers end at 4294967294");
        }
        match u16::try_from(count / RANGE) {
            Ok(0) => wrong("a unit takes 65536"),
            Ok(ranges) => Ok(Self { first, ranges }),
            Err(_) => wrong("that is too many"),
        }
    }

    /// Whether some of these numbers are in it.
    pub fn overlaps(self, first: u32, count: u32) -> bool {
        let count_all = u64::from(self.ranges).saturating_mul(RANGE.into());
        let (begin, end) = (u64::from(self.first), u64::from(self.first).saturating_add(count_all));
        u64::from(first) < end && u64::from(first).saturating_add(count.into()) > begin
    }

    /// The first number of a range.
    fn start(self, index: u16) -> u32 {
        self.first.saturating_add(u32::from(index).saturating_mul(RANGE))
    }

    /// Which range begins with a number.
    fn index(self, start: u32) -> Option<u16> {
        let offset = start.checked_sub(self.first).filter(|offset| offset % RANGE == 0)?;
        u16::try_from(offset / RANGE).ok().filter(|index| *index < self.ranges)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, u32::from(self.ranges).saturating_mul(RANGE))
    }
}

/// Numbers that are somebody else's: from, and up to but not including.
pub type Foreign = (u64, u64);

/// Reads `/etc/subuid` or `/etc/subgid`; lines that make no sense are nobody's.
pub fn foreign(text: &str) -> impl Iterator<Item = Foreign> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(':').skip(1);
        let first: u64 = parts.next()?.trim().parse().ok()?;
        let count: u64 = parts.next()?.trim().parse().ok()?;
        Some((first, first.checked_add(count)?))
    })
}

/// Who has which range.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leases {
    pool: Pool,
    foreign: Vec<Foreign>,
    /// Sorted by name.
    held: Vec<(Box<str>, u16)>,
    /// The range with which giving begins.
    #[serde(default)]
    begin: u16,
}

/// All ranges are held by units that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted(Pool);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no range of user numbers is left in the pool {}: give berth a larger one with \
             --user-namespace-pool, or write user-namespace = \"none\"",
            self.0
        )
    }
}

impl Leases {
    /// What was written down before, as far as it can still hold.
    pub fn new(pool: Pool, foreign: Vec<Foreign>, text: &str) -> Self {
        let mut leases = Self { pool, foreign, held: Vec::new(), begin: 0 };
        for line in text.lines() {
            let Some((start, name)) = line.split_once(' ') else { continue };
            let index = start.parse().ok().and_then(|start| pool.index(start));
            let Some(index) = index.filter(|_| names::problem(name).is_none()) else { continue };
            if leases.is_free(index)
                && let Err(place) = leases.find(name)
            {
                leases.held.insert(place, (name.into(), index));
            }
        }
        leases
    }

    /// Begins to give somewhere in the pool, by a text that no other supervisor has: two of
    /// them hardly ever want the same range.
    #[must_use]
    pub fn begin_by(mut self, text: &str) -> Self {
        // FNV-1a.
        let hash = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let begin = hash.checked_rem(self.pool.ranges.into()).unwrap_or_default();
        self.begin = u16::try_from(begin).unwrap_or_default();
        self
    }

    /// The pool they come from.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// A range that was given is somebody else's after all.
    pub fn refuse(&mut self, start: u32) {
        let end = u64::from(start).saturating_add(RANGE.into());
        self.foreign.push((start.into(), end));
        self.held.retain(|(_, index)| self.pool.start(*index) != start);
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.held.binary_search_by(|(held, _)| (**held).cmp(name))
    }

    fn is_free(&self, index: u16) -> bool {
        let start = u64::from(self.pool.start(index));
        let end = start.saturating_add(RANGE.into());
        self.held.iter().all(|(_, held)| *held != index)
            && self.foreign.iter().all(|(from, to)| end <= *from || *to <= start)
    }

    /// The first number of a unit's range, and whether it has been given just now. When there
    /// is none left, that of a unit which is not there any more is given away.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn take(
        &mut self,
        name: &str,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<(u32, bool), Exhausted> {
        if let Ok(place) = self.find(name)
            && let Some((_, index)) = self.held.get(place)
        {
            return Ok((self.pool.start(*index), false));
        }
        let index = if let Some(index) = self.next() {
            index
        } else {
            let gone = self.held.iter().position(|(held, _)| !is_there(held));
            self.held.remove(gone.ok_or(Exhausted(self.pool))?).1
        };
        let place = self.find(name).unwrap_or_else(|place| place);
        self.held.insert(place, (name.into(), index));
        Ok((self.pool.start(index), true))
    }

    /// The unit has this range, whatever was written down; true if that is news. (A range of
    /// another pool is no lease, and no range of this one.)
    pub fn hold(&mut self, name: &str, start: u32) -> bool {
        let Some(index) = self.pool.index(start) else { return false };
        if self.held.iter().any(|(held, its)| **held == *name && *its == index) {
            return false;
        }
        self.held.retain(|(held, its)| **held != *name && *its != index);
        let place = self.find(name).unwrap_or_else(|place| place);
        self.held.insert(place, (name.into(), index));
        true
    }

    fn next(&self) -> Option<u16> {
        // Almost always right: ranges are given in their order, and hardly ever given back.
        let likely = u16::try_from(self.held.len()).ok().filter(|it| *it < self.pool.ranges);
        let at = |offset: u16| {
            let index = u32::from(self.begin).saturating_add(offset.into());
            let index = index.checked_rem(self.pool.ranges.into()).unwrap_or_default();
            u16::try_from(index).unwrap_or_default()
        };
        let likely = likely.map(at).filter(|index| self.is_free(*index));
        likely.or_else(|| (0..self.pool.ranges).map(at).find(|index| self.is_free(*index)))
    }

    /// To be written down.
    pub fn text(&self) -> String {
        self.held.iter().fold(String::new(), |mut text, (name, index)| {
            // Writing to a string never fails.
            let _ = writeln!(text, "{} {name}", self.pool.start(*index));
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        Pool::parse(text).unwrap()
    }

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn a_pool_is_read_as_it_is_written() {
        assert_eq!(pool("1879048192:268304384"), Pool::default());
        assert_eq!(Pool::default().to_string(), "1879048192:268304384");
        assert_eq!(pool("70000:200000").to_string(), "70000:196608");
        for wrong in
            ["", "7", "a:b", "0:65536", "100000:65535", "4294901760:65536", "100000:4294867296"]
        {
            Pool::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn ranges_are_kept_and_never_the_same() {
        let mut leases = Leases::new(pool("100000:196608"), Vec::new(), "");
        assert_eq!(leases.take("b", all), Ok((100_000, true)));
        assert_eq!(leases.take("a", all), Ok((165_536, true)));
        assert_eq!(leases.take("b", all), Ok((100_000, false)));
        let mut again = Leases::new(pool("100000:196608"), Vec::new(), &leases.text());
        assert_eq!(again.take("a", all), Ok((165_536, false)));
        assert_eq!(again.take("c", all), Ok((231_072, true)));
        let full = again.take("d", all).unwrap_err().to_string();
        assert!(full.contains("the pool 100000:196608"), "{full}");
        // One that is not there any more has to give way.
        assert_eq!(again.take("d", |name| name != "a"), Ok((165_536, true)));
        assert_eq!(again.text(), "100000 b\n231072 c\n165536 d\n");
    }

    #[test]
    fn others_are_kept_out_of_the_way() {
        let pool = pool("100000:655360");
        let mut leases = Leases::new(pool, Vec::new(), "").begin_by("/var/lib/berth");
        let (first, _) = leases.take("a", all).unwrap();
        let mut others = Leases::new(pool, Vec::new(), "").begin_by("/srv/berth");
        assert_ne!(others.take("a", all), Ok((first, true)));
        // All of them are given, whichever is the first.
        let names: Vec<String> = (0..9).map(|number| format!("b{number}")).collect();
        let mut given: Vec<u32> =
            names.iter().map(|name| leases.take(name, all).unwrap().0).collect();
        given.push(first);
        given.sort_unstable();
        assert_eq!(given, (0..10).map(|index| 100_000 + index * RANGE).collect::<Vec<_>>());
        leases.take("c", all).unwrap_err();
        // One that turns out to be somebody else's is given to nobody any more.
        leases.refuse(first);
        assert!(!leases.text().contains(&format!("{first} ")));
        leases.take("a", all).unwrap_err();
    }

    #[test]
    fn who_has_a_range_keeps_it_whatever_is_written() {
        let mut leases = Leases::new(pool("100000:196608"), Vec::new(), "100000 a\n165536 b\n");
        assert!(!leases.hold("a", 100_000));
        assert!(!leases.hold("a", 7));
        assert!(leases.hold("c", 165_536));
        assert!(leases.hold("a", 231_072));
        assert_eq!(leases.text(), "231072 a\n165536 c\n");
        assert_eq!(leases.take("b", all), Ok((100_000, true)));
    }

    #[test]
    fn what_is_written_is_believed_as_far_as_it_can_be_true() {
        let text = "100000 a\n100000 b\n100001 c\n99 d\n296608 e\nx f\n165536 ../g\n165536 a\nh\n";
        let mut leases = Leases::new(pool("100000:196608"), Vec::new(), text);
        assert_eq!(leases.text(), "100000 a\n");
        assert_eq!(leases.take("b", all), Ok((165_536, true)));
    }

    #[test]
    fn ranges_of_others_are_left_alone() {
        let text =
            "somebody:100000:1\nnonsense\nother:231071:70000\nx:y:z\nbig:7:18446744073709551615\n";
        let foreign: Vec<Foreign> = foreign(text).collect();
        assert_eq!(foreign, [(100_000, 100_001), (231_071, 301_071)]);
        let pool = pool("100000:327680");
        // The lease is older than the line in /etc/subuid.
        let mut leases = Leases::new(pool, foreign, "165536 a\n");
        assert_eq!(leases.take("a", all), Ok((362_144, true)));
        leases.take("b", all).unwrap_err();
    }
}
