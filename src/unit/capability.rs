//! Capabilities as unit files name them, sets of them, and what a service asks for.
//!
//! What must always hold: sets are arithmetic and nothing else; what a set means where
//! berth itself does not have all of it is decided where it is given (`container`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::At;
use super::names;

/// Names in order of their numbers, from 0, as in the kernel's `capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities; bit 0 is `CHOWN`, as in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// Every one there is, also those of a kernel newer than the table of names.
    pub const ALL: Self = Self(u64::MAX);
    /// What a container has unless it says otherwise: `CHOWN DAC_OVERRIDE FOWNER FSETID KILL
    /// SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP`.
    pub const CONTAINER: Self = Self(
        1 | 1 << 1
            | 1 << 3
            | 1 << 4
            | 1 << 5
            | 1 << 6
            | 1 << 7
            | 1 << 8
            | 1 << 10
            | 1 << 18
            | 1 << 31,
    );

    /// The one of this name: with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let index = NAMES.iter().position(|known| *known == bare)?;
        Some(Self(1_u64.checked_shl(u32::try_from(index).ok()?)?))
    }

    /// The known name that is most likely meant.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper).replace('_', "-");
        // Words are compared with dashes instead of underscores.
        let dashed: Vec<String> = NAMES.iter().map(|known| known.replace('_', "-")).collect();
        let near = names::nearest(&bare, dashed.iter().map(String::as_str))?;
        let index = dashed.iter().position(|known| known == near)?;
        NAMES.get(index).copied()
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in the other, too.
    #[must_use]
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in order of their numbers; what has none is left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let bits = NAMES.iter().enumerate();
        bits.filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name)
    }

    /// As a unit file lists it.
    pub fn words(self) -> Vec<&'static str> {
        if self == Self::ALL { vec!["ALL"] } else { self.names().collect() }
    }
}

impl fmt::Display for CapabilitySet {
    /// `CHOWN KILL`, `none`, `all`, `all but CHOWN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |set: Self| set.names().collect::<Vec<_>>().join(" ");
        match *self {
            Self::EMPTY => write!(f, "none"),
            Self::ALL => write!(f, "all"),
            // Only what was taken from all reaches beyond the names.
            set if set.0 >> NAMES.len() != 0 => {
                write!(f, "all but {}", words(Self::ALL.without(set)))
            }
            set => write!(f, "{}", words(set)),
        }
    }
}

/// What a service asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Capabilities {
    /// The default: [`CapabilitySet::CONTAINER`] with a mount namespace of its own, else as
    /// inherited.
    #[default]
    Default,
    /// Exactly these.
    Exactly(At<CapabilitySet>),
    /// More or fewer than the default. `ALL` is a set of its own here: it is every one that
    /// berth has.
    Changed {
        /// Those besides.
        add: At<CapabilitySet>,
        /// Those not.
        drop: At<CapabilitySet>,
    },
}

impl Capabilities {
    /// What is added and taken away; nothing if it is not about that.
    pub fn changes(&self) -> (At<CapabilitySet>, At<CapabilitySet>) {
        let none = At::default_value(CapabilitySet::EMPTY);
        match self {
            Self::Changed { add, drop } => (add.clone(), drop.clone()),
            Self::Default | Self::Exactly(_) => (none.clone(), none),
        }
    }

    /// The default with these changes.
    pub fn changed(add: At<CapabilitySet>, drop: At<CapabilitySet>) -> Self {
        if add.value.is_empty() && drop.value.is_empty() {
            Self::Default
        } else {
            Self::Changed { add, drop }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> CapabilitySet {
        let sets = names.iter().map(|name| CapabilitySet::named(name).unwrap());
        sets.fold(CapabilitySet::EMPTY, CapabilitySet::and)
    }

    #[test]
    fn names_in_all_their_forms() {
        for name in ["NET_ADMIN", "cap_net_admin", "Cap_Net_Admin", "net_admin"] {
            assert_eq!(CapabilitySet::named(name), Some(CapabilitySet(1 << 12)), "{name}");
        }
        for name in ["", "CAP_", "ALL", "NET-ADMIN", "NET_ADMIN ", "CAP_CAP_KILL", "12"] {
            assert_eq!(CapabilitySet::named(name), None, "{name}");
        }
        assert_eq!(CapabilitySet::named("CHOWN"), Some(CapabilitySet(1)));
        assert_eq!(CapabilitySet::named("CHECKPOINT_RESTORE"), Some(CapabilitySet(1 << 40)));
    }

    #[test]
    fn a_misspelt_name_has_a_near_one() {
        for (wrong, right) in [
            ("NET_ADMN", "NET_ADMIN"),
            ("cap_sysadmin", "SYS_ADMIN"),
            ("CAP_SYS_PTRCE", "SYS_PTRACE"),
            ("net-raw", "NET_RAW"),
        ] {
            assert_eq!(CapabilitySet::nearest(wrong), Some(right), "{wrong}");
        }
        assert_eq!(CapabilitySet::nearest("EVERYTHING"), None);
    }

    #[test]
    fn the_containers_set_is_the_one_promised() {
        let promised = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        assert_eq!(CapabilitySet::CONTAINER, set(&promised));
        assert_eq!(CapabilitySet::CONTAINER.0, 0x8004_05fb);
    }

    #[test]
    fn sets_are_arithmetic() {
        let (a, b) = (set(&["CHOWN", "KILL"]), set(&["KILL", "BPF"]));
        assert_eq!(a.and(b), set(&["BPF", "CHOWN", "KILL"]));
        assert_eq!(a.within(b), set(&["KILL"]));
        assert_eq!(a.without(b), set(&["CHOWN"]));
        assert!(a.without(a).is_empty() && !a.is_empty());
        assert_eq!(a.words(), ["CHOWN", "KILL"]);
        assert_eq!(CapabilitySet::ALL.words(), ["ALL"]);
        assert_eq!(CapabilitySet::ALL.names().count(), 41);
    }

    #[test]
    fn sets_are_shown_shortly() {
        assert_eq!(CapabilitySet::EMPTY.to_string(), "none");
        assert_eq!(CapabilitySet::ALL.to_string(), "all");
        assert_eq!(
            CapabilitySet::ALL.without(set(&["KILL", "BPF"])).to_string(),
            "all but KILL BPF"
        );
        assert_eq!(set(&["BPF", "CHOWN"]).to_string(), "CHOWN BPF");
    }
}
