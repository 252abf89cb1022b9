//! Parts of a unit that most units leave as they are, and that then take no room: a
//! supervisor with a thousand services holds a thousand of each.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::model::Limits;

/// The limits of a service, in memory only if one is set. Reads and is changed like
/// [`Limits`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RareLimits(Option<Box<Limits>>);

/// What is read where nothing is set.
static NONE: Limits = Limits {
    memory: None,
    memory_high: None,
    swap: None,
    cpu_milli: None,
    cpu_weight: None,
    cpuset: None,
    pids: None,
    io_weight: None,
    nofile: None,
    nproc: None,
    core: None,
    nice: None,
    oom_score_adjust: None,
    strict: false,
};

impl Deref for RareLimits {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for RareLimits {
    fn deref_mut(&mut self) -> &mut Limits {
        self.0.get_or_insert_default()
    }
}

impl From<Limits> for RareLimits {
    fn from(limits: Limits) -> Self {
        Self((limits != NONE).then(|| Box::new(limits)))
    }
}

impl PartialEq for RareLimits {
    /// By what is set: nothing set is the same in both forms.
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::model::At;

    #[test]
    fn takes_room_only_when_set_and_reads_the_same() {
        let mut limits = RareLimits::default();
        assert_eq!(*limits, Limits::default());
        assert_eq!(limits, RareLimits::from(Limits::default()));
        assert!(limits.0.is_none());
        limits.pids = Some(At { value: 7, line: 3 });
        assert_eq!(limits.pids.as_ref().map(|at| at.value), Some(7));
        limits.pids = None;
        assert_eq!(limits, RareLimits::default());
    }
}
