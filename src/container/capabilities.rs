//! From what a unit asks for to the sets its processes get. Pure.
//!
//! What must hold: a process never gets more than what the unit's set says, whoever it is;
//! what a line asks for by name it gets, or the start fails; of what nobody named, that
//! which berth itself does not have is left out.

use crate::sys::capability::Held;
use crate::unit::model::{Capabilities, CapabilitySet, Service};

/// The sets of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The bounding set; and what root has, permitted and effective.
    pub root: CapabilitySet,
    /// What any other user has: permitted, effective, inheritable and ambient.
    pub others: CapabilitySet,
    /// What a line asks for by name.
    pub asked: CapabilitySet,
}

impl Grant {
    /// What a service has that asks for nothing, said as a grant.
    pub const INHERITED: Self = Self {
        root: CapabilitySet::ALL,
        others: CapabilitySet::EMPTY,
        asked: CapabilitySet::EMPTY,
    };

    /// What a service asks for, and the line that does; `None`: as inherited.
    pub fn of(service: &Service) -> Option<(Self, u32)> {
        let own_tree = service.namespaces.value.mount;
        let (none, all) = (CapabilitySet::EMPTY, CapabilitySet::ALL);
        let default = if own_tree { CapabilitySet::CONTAINER } else { all };
        match &service.security.capabilities {
            Capabilities::Default if !own_tree => None,
            Capabilities::Default => {
                let root = if service.security.privileged { all } else { default };
                Some((Self { root, others: none, asked: none }, 0))
            }
            Capabilities::Exactly(at) => {
                Some((Self { root: at.value, others: at.value, asked: at.value }, at.line))
            }
            Capabilities::Changed { add, drop } => {
                let line = if add.value.is_empty() { drop.line } else { add.line };
                let (add, drop) = (add.value, drop.value);
                // ALL in one list is what the other one takes from, or adds to.
                let (base, drop) = if drop == all { (none, none) } else { (default, drop) };
                let others = add.without(drop);
                let asked = if add == all { none } else { others };
                Some((Self { root: base.and(add).without(drop), others, asked }, line))
            }
        }
    }

    /// Whether one that has this can leave something out of the bounding set.
    pub fn may_limit(held: Held) -> bool {
        const SETPCAP: u64 = 1 << 8;
        held.permitted & SETPCAP != 0
    }

    /// What can be given by one that has this.
    ///
    /// # Errors
    /// What is asked for by name and cannot be given.
    pub fn by(self, held: Held) -> Result<Self, CapabilitySet> {
        let held = CapabilitySet(held.permitted & held.bounding);
        let missing = self.asked.without(held);
        if !missing.is_empty() {
            return Err(missing);
        }
        let Self { root, others, asked } = self;
        Ok(Self { root: root.within(held), others: others.within(held), asked })
    }
}
