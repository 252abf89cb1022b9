//! Profiles of system calls that many units have in common: one in memory, and one in the
//! reader's message.
//!
//! What must always hold: while a message is written or read ([`together`]) each profile
//! goes into it once, where it is met first; after that its number stands for it. Outside
//! of that every one is written whole.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::seccomp::Profile;

/// A profile that others may hold too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared(pub Arc<Profile>);

thread_local! {
    /// Those met in this message.
    static MET: RefCell<Option<Vec<Arc<Profile>>>> = const { RefCell::new(None) };
}

/// Writes or reads one message.
pub fn together<T>(work: impl FnOnce() -> T) -> T {
    MET.set(Some(Vec::new()));
    let done = work();
    MET.set(None);
    done
}

/// The number of one that was met before; else it is remembered.
fn meet(profile: &Arc<Profile>) -> Option<usize> {
    MET.with_borrow_mut(|met| {
        let met = met.as_mut()?;
        let same = |known: &Arc<Profile>| Arc::ptr_eq(known, profile) || known == profile;
        let found = met.iter().position(same);
        if found.is_none() {
            met.push(profile.clone());
        }
        found
    })
}

/// As it stands in a message.
#[derive(Serialize, Deserialize)]
enum Written<T> {
    Whole(T),
    Again(usize),
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match meet(&self.0) {
            None => Written::Whole(&*self.0).serialize(serializer),
            Some(number) => Written::<&Profile>::Again(number).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let profile = match Written::<Profile>::deserialize(deserializer)? {
            Written::Whole(profile) => {
                let profile = Arc::new(profile);
                MET.with_borrow_mut(|met| met.as_mut().map(|met| met.push(profile.clone())));
                Some(profile)
            }
            Written::Again(number) => {
                MET.with_borrow(|met| met.as_ref().and_then(|met| met.get(number).cloned()))
            }
        };
        profile.map(Self).ok_or_else(|| D::Error::custom("a profile is not in the message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp;

    #[test]
    fn each_is_written_once_and_held_once() {
        let one = Arc::new(seccomp::default());
        let other = Arc::new(seccomp::init());
        let equal = Arc::new(seccomp::default());
        let all = [&one, &other, &one, &equal].map(|it| Shared(it.clone()));
        let apart = postcard::to_stdvec(&all).unwrap();
        let message = together(|| postcard::to_stdvec(&all).unwrap());
        let single = postcard::to_stdvec(&all[0]).unwrap().len();
        assert!(message.len() + 2 * single < apart.len() + 10);
        let read: [Shared; 4] = together(|| postcard::from_bytes(&message).unwrap());
        assert!(read == all);
        assert!(Arc::ptr_eq(&read[0].0, &read[2].0) && Arc::ptr_eq(&read[0].0, &read[3].0));
        let read: [Shared; 4] = postcard::from_bytes(&apart).unwrap();
        assert!(read == all);
    }

    #[test]
    fn a_number_without_its_profile_is_garbled() {
        let one = Shared(Arc::new(seccomp::init()));
        let message = together(|| {
            postcard::to_stdvec(&one).unwrap();
            postcard::to_stdvec(&one).unwrap()
        });
        assert!(together(|| postcard::from_bytes::<Shared>(&message).is_err()));
        assert!(postcard::from_bytes::<Shared>(&message).is_err());
    }
}
