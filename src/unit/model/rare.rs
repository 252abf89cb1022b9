//! Parts of a unit that most units leave as they are, and that then take no room: a
//! supervisor with a thousand services holds a thousand of each.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

/// Something with a value for "nothing is set" that is always at hand.
pub trait Unset: Clone + PartialEq + 'static {
    /// That value; also the type's default.
    const UNSET: &'static Self;
}

/// A part of a unit, in memory only if something in it is set. Reads and is changed like
/// the part itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Unset> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::UNSET)
    }
}

impl<T: Unset> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::UNSET.clone()))
    }
}

impl<T: Unset> From<T> for Rare<T> {
    fn from(part: T) -> Self {
        Self((part != *T::UNSET).then(|| Box::new(part)))
    }
}

impl<T: Unset> PartialEq for Rare<T> {
    /// By what is set: nothing set is the same in both forms.
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::model::{At, Limits, Security};

    #[test]
    fn takes_room_only_when_set_and_reads_the_same() {
        let mut limits = Rare::<Limits>::default();
        assert_eq!(*limits, Limits::default());
        assert_eq!(limits, Rare::from(Limits::default()));
        assert!(limits.0.is_none());
        limits.pids = Some(At { value: 7, line: 3 });
        assert_eq!(limits.pids.as_ref().map(|at| at.value), Some(7));
        limits.pids = None;
        assert_eq!(limits, Rare::default());
        assert_eq!(*Rare::<Security>::default(), Security::default());
    }
}
