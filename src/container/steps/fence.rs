//! Steps that keep a process from changing files, by Landlock: where there is no mount
//! namespace to make a mount read-only in, and where only a few paths are to be writable.
//!
//! What must hold: a path is resolved once, by descriptors. Landlock has rules that allow
//! and none that forbid: to keep a process from one path, all that lies beside the way to
//! it is allowed, so the directories on the way can gain and lose no entry. A fence stands
//! in each process for itself, and all that it starts is behind it too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{Dir, Mode, OFlags};

use crate::container::status::Failure;
use crate::container::step::Fence;
use crate::sys::landlock::{self, Ruleset};
use crate::sys::path::{self, Kind};

/// What any program may count on writing to: nothing of it is kept.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// Most entries of the directories that lead to paths which are kept: each is a rule.
const ENTRIES_MAX: usize = 16_384;

/// Puts a fence around the calling process. A kernel that has none is no failure here:
/// [`crate::container::unenforced`] says it, and refuses where that is wanted.
pub(super) fn put(fence: &Fence) -> Result<(), Failure> {
    if landlock::version() == 0 {
        return Ok(());
    }
    let rules = Ruleset::new()?;
    match fence {
        Fence::Only(paths) => {
            for path in paths {
                let fd = open(path).map_err(|failure| failure.at(path))?;
                rules.allow(fd.as_fd(), path::kind_of(fd.as_fd())?)?;
            }
        }
        Fence::AllBut(paths) => all_but(&rules, paths)?,
    }
    for device in DEVICES {
        if let Ok(fd) = open(device) {
            rules.allow(fd.as_fd(), path::kind_of(fd.as_fd())?)?;
        }
    }
    Ok(rules.enforce()?)
}

fn open(path: &str) -> Result<OwnedFd, Failure> {
    Ok(path::open_in(path::handle("/")?.as_fd(), path, OFlags::PATH)?)
}

/// Names below a directory that lead to paths which are kept. A name with nothing below it
/// is such a path.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kept(BTreeMap<OsString, Kept>);

impl Kept {
    /// The way of an absolute path without links.
    fn add(&mut self, path: &Path) {
        let parts = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut place = self;
        let mut is_new = true;
        for name in parts {
            // Something above is kept as a whole already.
            if !is_new && place.0.is_empty() {
                return;
            }
            is_new = !place.0.contains_key(name);
            place = place.0.entry(name.to_owned()).or_default();
        }
        place.0.clear();
    }
}

fn all_but(rules: &Ruleset, paths: &[String]) -> Result<(), Failure> {
    let mut kept = Kept::default();
    for path in paths {
        let real = std::fs::canonicalize(path).map_err(|error| Failure::from(error).at(path))?;
        kept.add(&real);
    }
    let mut left = ENTRIES_MAX;
    let mut todo = vec![(path::handle("/")?, &kept)];
    while let Some((directory, kept)) = todo.pop() {
        let mut missing: usize = kept.0.len();
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = rustix::fs::openat(&directory, ".", readable, Mode::empty())?;
        for entry in Dir::new(listing)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            left = left.checked_sub(1).ok_or_else(too_many)?;
            let found = kept.0.get(std::ffi::OsStr::from_bytes(name.to_bytes()));
            if found.is_some() {
                missing = missing.saturating_sub(1);
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match (found, rustix::fs::openat(&directory, name, flags, Mode::empty())) {
                (None, Ok(fd)) => allow(rules, fd.as_fd())?,
                // What vanishes meanwhile needs no rule, and what cannot be entered gets none.
                (None, Err(_)) => {}
                (Some(below), _) if below.0.is_empty() => {}
                (Some(below), fd) => todo.push((fd?, below)),
            }
        }
        if missing > 0 {
            return Err(Failure::text("what leads to it is being changed"));
        }
    }
    Ok(())
}

fn allow(rules: &Ruleset, fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    match rustix::fs::FileType::from_raw_mode(mode) {
        // What it leads to has a rule of its own, or none.
        rustix::fs::FileType::Symlink => Ok(()),
        rustix::fs::FileType::Directory => Ok(rules.allow(fd, Kind::Directory)?),
        _ => Ok(rules.allow(fd, Kind::File)?),
    }
}

fn too_many() -> Failure {
    Failure::text(format!(
        "the directories that lead to it have more than {ENTRIES_MAX} entries, and each needs a \
         rule; keep a directory above from being written"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(paths: &[&str]) -> String {
        let mut all = Kept::default();
        for path in paths {
            all.add(Path::new(path));
        }
        text(&all)
    }

    fn text(kept: &Kept) -> String {
        let parts = kept.0.iter().map(|(name, below)| {
            let below =
                if below.0.is_empty() { String::new() } else { format!("({})", text(below)) };
            format!("{}{below}", name.display())
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_kept_covers_all_below() {
        assert_eq!(kept(&["/etc"]), "etc");
        assert_eq!(kept(&["/srv/a/b", "/srv/a/c", "/etc"]), "etc srv(a(b c))");
        assert_eq!(kept(&["/srv/a", "/srv/a/b/c"]), "srv(a)");
        assert_eq!(kept(&["/srv/a/b/c", "/srv/a"]), "srv(a)");
        assert_eq!(kept(&["/srv/a", "/srv/a"]), "srv(a)");
        assert_eq!(kept(&["/srv", "/srv/a", "/srv/b"]), "srv");
    }
}
