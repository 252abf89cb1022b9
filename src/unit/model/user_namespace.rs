//! `user-namespace`: whose numbers the users of a service are on the host.
//!
//! What must always hold: the maps of a table cover user and group 0 of the inside, no number
//! twice on either side, and no more ranges than the kernel takes.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::At;

/// What the unit file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// Nothing: [`Self::Auto`] for a service with a mount namespace of its own that is not
    /// privileged, otherwise [`Self::None`].
    #[default]
    Unset,
    /// A range of numbers that no other unit has, if the kernel can do it.
    Auto,
    /// The host's own numbers.
    None,
    /// These, or no start.
    Maps(Box<At<IdMaps>>),
}

/// Both maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of users.
    pub uid: Vec<IdRange>,
    /// Of groups.
    pub gid: Vec<IdRange>,
}

/// Numbers inside, and which they are on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First number inside.
    pub inside: u32,
    /// First number on the host.
    pub outside: u32,
    /// How many; at least 1.
    pub count: u32,
}

impl IdRange {
    /// What the number is on the host.
    pub fn outside_of(&self, inside: u32) -> Option<u32> {
        let offset = inside.checked_sub(self.inside).filter(|offset| *offset < self.count)?;
        self.outside.checked_add(offset)
    }

    /// Whether one of these is a number of the other, inside or on the host.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.meets(self.inside, other, other.inside) || self.meets_outside(other)
    }

    /// Whether one of these is a number of the other on the host.
    pub fn meets_outside(&self, other: &Self) -> bool {
        self.meets(self.outside, other, other.outside)
    }

    fn meets(&self, first: u32, other: &Self, others_first: u32) -> bool {
        u64::from(first) < u64::from(others_first).saturating_add(other.count.into())
            && u64::from(others_first) < u64::from(first).saturating_add(self.count.into())
    }
}

impl std::fmt::Display for IdRange {
    /// As in a unit file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl IdMaps {
    /// The numbers 0 to `count` - 1 of the inside are those from `first` on the host.
    pub fn one(first: u32, count: u32) -> Self {
        let range = vec![IdRange { inside: 0, outside: first, count }];
        Self { uid: range.clone(), gid: range }
    }

    /// User and group 0 of the inside on the host.
    pub fn root(&self) -> Option<(u32, u32)> {
        let of = |map: &[IdRange]| map.iter().find_map(|range| range.outside_of(0));
        Some((of(&self.uid)?, of(&self.gid)?))
    }

    /// All ranges, of users and of groups.
    pub fn all(&self) -> impl Iterator<Item = &IdRange> {
        self.uid.iter().chain(&self.gid)
    }

    /// The first range with a number on the host, as a user or as a group, that others have too.
    pub fn shared_with(&self, other: &Self) -> Option<&IdRange> {
        let meets = |range: &&IdRange| other.all().any(|it| range.meets_outside(it));
        self.all().find(meets)
    }

    /// In the format of `/proc/PID/uid_map`.
    pub fn text(map: &[IdRange]) -> String {
        map.iter().fold(String::new(), |mut text, IdRange { inside, outside, count }| {
            // Writing to a string never fails.
            let _ = writeln!(text, "{inside} {outside} {count}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_on_either_side() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let one = range(0, 100_000, 10);
        assert!(one.overlaps(&range(9, 500, 1)));
        assert!(one.overlaps(&range(500, 100_009, 1)));
        assert!(!one.overlaps(&range(10, 100_010, u32::MAX - 200_000)));
        assert!(range(0, 0, u32::MAX).overlaps(&range(u32::MAX - 1, 7, 1)));
    }

    #[test]
    fn numbers_are_looked_up() {
        let range = IdRange { inside: 10, outside: 1000, count: 5 };
        let found: Vec<_> = [9, 10, 14, 15].map(|number| range.outside_of(number)).into();
        assert_eq!(found, [None, Some(1000), Some(1004), None]);
        let maps =
            IdMaps { uid: vec![range, IdRange { inside: 0, outside: 7, count: 1 }], gid: vec![] };
        assert_eq!(maps.root(), None);
        assert_eq!(IdMaps::one(65_536, 65_536).root(), Some((65_536, 65_536)));
        assert_eq!(IdMaps::text(&maps.uid), "10 1000 5\n0 7 1\n");
    }
}
