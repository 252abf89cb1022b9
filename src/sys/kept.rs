//! Descriptors that outlive the program: written down as numbers before the supervisor
//! executes its successor, taken over by that one.
//!
//! execve(2) leaves every descriptor that is not close-on-exec where it is, so its number
//! says all. What must always hold: a number is taken over once, because whoever takes it
//! owns it; and a *rehearsal*, which is how it is found out whether a successor understands
//! what was written, touches none of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is going on in this thread.
enum Course {
    /// Nothing: descriptors can be neither written nor taken.
    Off,
    /// Being written down; the numbers so far.
    Writing(BTreeSet<RawFd>),
    /// Being taken over; those that are, and the shared ones.
    Taking { taken: BTreeSet<RawFd>, shared: BTreeMap<RawFd, Rc<OwnedFd>> },
    /// As if; each is a duplicate of this.
    Rehearsing(OwnedFd),
}

thread_local! {
    static COURSE: RefCell<Course> = const { RefCell::new(Course::Off) };
}

fn during<T>(course: Course, work: impl FnOnce() -> T) -> (T, Course) {
    COURSE.with(|it| it.replace(course));
    let result = work();
    (result, COURSE.with(|it| it.replace(Course::Off)))
}

/// Runs what serializes; its result, and every number in it.
pub fn written<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<RawFd>) {
    match during(Course::Writing(BTreeSet::new()), work) {
        (result, Course::Writing(numbers)) => (result, numbers),
        (result, _) => (result, BTreeSet::new()),
    }
}

/// Runs what deserializes, in the program that was executed: it owns the descriptors then,
/// and they are close-on-exec again.
pub fn taken<T>(work: impl FnOnce() -> T) -> T {
    let course = Course::Taking { taken: BTreeSet::new(), shared: BTreeMap::new() };
    during(course, work).0
}

/// Runs what deserializes, with duplicates of `stand_in` for all descriptors.
pub fn rehearsed<T>(stand_in: OwnedFd, work: impl FnOnce() -> T) -> T {
    during(Course::Rehearsing(stand_in), work).0
}

/// Lets these numbers pass through execve(2), or not.
///
/// # Errors
/// As fcntl(2); those before it are changed.
pub fn pass(numbers: &BTreeSet<RawFd>, on: bool) -> io::Result<()> {
    for &number in numbers {
        // SAFETY: `written` was handed an open descriptor of this number, and nothing was
        // closed since: the caller does this between writing and executing.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        super::fd::set_close_on_exec(fd, !on)?;
    }
    Ok(())
}

/// Adds to the file that this process has at that number: where there is no room for more
/// than a number.
///
/// # Errors
/// As write(2) and lseek(2); half of it may be written.
pub fn append(number: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: only written to; a number that is not open is an error of the call.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?;
    rustix::io::write(file, bytes)?;
    Ok(())
}

fn write(fd: BorrowedFd<'_>) -> Option<RawFd> {
    COURSE.with(|it| match &mut *it.borrow_mut() {
        Course::Writing(numbers) => {
            numbers.insert(fd.as_raw_fd());
            Some(fd.as_raw_fd())
        }
        Course::Off | Course::Taking { .. } | Course::Rehearsing(_) => None,
    })
}

fn take(number: RawFd) -> Result<OwnedFd, String> {
    COURSE.with(|it| match &mut *it.borrow_mut() {
        Course::Rehearsing(stand_in) => stand_in.try_clone().map_err(|error| error.to_string()),
        Course::Taking { taken, .. } => {
            if number < 3 || !taken.insert(number) {
                return Err(format!("descriptor {number} cannot be taken over twice"));
            }
            adopt(number).map_err(|error| format!("descriptor {number}: {error}"))
        }
        Course::Off | Course::Writing(_) => Err("descriptors are not being taken".to_owned()),
    })
}

/// A descriptor that this program was told about by its number only.
///
/// # Errors
/// As fcntl(2), if there is none.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    adopt(number)
}

/// Becomes the owner of a number that nobody owns, if it is open.
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only looked at; a number that is not open is an error of fcntl(2).
    let there = unsafe { BorrowedFd::borrow_raw(number) };
    super::fd::set_close_on_exec(there, true)?;
    // SAFETY: it is open, it was given to this program through execve(2), and `take` gives
    // each number to one owner only.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn take_shared(number: RawFd) -> Result<Rc<OwnedFd>, String> {
    let known = COURSE.with(|it| match &*it.borrow() {
        Course::Taking { shared, .. } => shared.get(&number).cloned(),
        Course::Off | Course::Writing(_) | Course::Rehearsing(_) => None,
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let fresh = Rc::new(take(number)?);
    COURSE.with(|it| {
        if let Course::Taking { shared, .. } = &mut *it.borrow_mut() {
            shared.insert(number, Rc::clone(&fresh));
        }
    });
    Ok(fresh)
}

/// Something that holds a descriptor and can be written down; for fields with
/// `#[serde(with = "kept")]`.
pub trait Kept: Sized {
    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Takes it over.
    ///
    /// # Errors
    /// The deserializer's; the number is not open or was taken already.
    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// What serde calls for a field.
///
/// # Errors
/// See [`Kept::keep`].
pub fn serialize<F: Kept, S: Serializer>(it: &F, serializer: S) -> Result<S::Ok, S::Error> {
    it.keep(serializer)
}

/// What serde calls for a field.
///
/// # Errors
/// See [`Kept::resume`].
pub fn deserialize<'de, F: Kept, D: Deserializer<'de>>(deserializer: D) -> Result<F, D::Error> {
    F::resume(deserializer)
}

fn keep_fd<S: Serializer>(fd: BorrowedFd<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error as _;
    let number = write(fd).ok_or_else(|| S::Error::custom("descriptors are not being written"))?;
    serializer.serialize_i32(number)
}

macro_rules! keep_descriptors {
    ($($type:ty),+) => {$(
        impl Kept for $type {
            fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                keep_fd(self.as_fd(), serializer)
            }

            fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = RawFd::deserialize(deserializer)?;
                take(number).map(Self::from).map_err(D::Error::custom)
            }
        }
    )+};
}

keep_descriptors!(OwnedFd, File, UnixListener, UnixStream);

impl Kept for Rc<OwnedFd> {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        keep_fd(self.as_fd(), serializer)
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take_shared(RawFd::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The two directions of something in an `Option` or a list.
struct Borrowed<'a, F>(&'a F);
struct Owned<F>(F);

impl<F: Kept> Serialize for Borrowed<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.keep(serializer)
    }
}

impl<'de, F: Kept> Deserialize<'de> for Owned<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        F::resume(deserializer).map(Self)
    }
}

impl<F: Kept> Kept for Option<F> {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Borrowed).serialize(serializer)
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Owned<F>>::deserialize(deserializer)?.map(|Owned(it)| it))
    }
}

impl<F: Kept> Kept for Vec<F> {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Borrowed))
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Owned<F>>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|Owned(it)| it).collect())
    }
}

impl<F: Kept> Kept for BTreeMap<u64, F> {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(key, it)| (key, Borrowed(it))))
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<(u64, Owned<F>)>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|(key, Owned(it))| (key, it)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Two {
        #[serde(with = "super")]
        one: OwnedFd,
        #[serde(with = "super")]
        two: Option<File>,
    }

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn numbers_are_written_and_taken_once() {
        let two = Two { one: null(), two: Some(null().into()) };
        let (text, numbers) = written(|| serde_json::to_string(&two).unwrap());
        let expected = [two.one.as_raw_fd(), two.two.as_ref().unwrap().as_raw_fd()];
        assert_eq!(numbers, expected.into_iter().collect());
        pass(&numbers, true).unwrap();
        let flags = |fd: BorrowedFd<'_>| rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags(two.one.as_fd()).is_empty());
        // A rehearsal takes nothing: all of it is still there.
        let again = rehearsed(null(), || serde_json::from_str::<Two>(&text).unwrap());
        assert!(!expected.contains(&again.one.as_raw_fd()));
        drop(again);
        std::mem::forget(two);
        let taken = taken(|| serde_json::from_str::<Two>(&text).unwrap());
        let numbers = [taken.one.as_raw_fd(), taken.two.as_ref().unwrap().as_raw_fd()];
        assert_eq!(numbers, expected);
        assert!(flags(taken.one.as_fd()).contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn what_is_not_open_or_named_twice_is_refused() {
        let text = r#"{"one":999999,"two":null}"#;
        assert!(taken(|| serde_json::from_str::<Two>(text)).is_err());
        let fd = null();
        let number = fd.as_raw_fd();
        let text = format!(r#"{{"one":{number},"two":{number}}}"#);
        assert!(taken(|| serde_json::from_str::<Two>(&text)).is_err());
        // The first of the two was taken, and closed with the error.
        std::mem::forget(fd);
        assert!(serde_json::to_string(&Two { one: null(), two: None }).is_err());
    }
}
