//! Secrets from the supervisor's own environment, once they are taken out of it: files of a
//! filesystem in memory that is mounted nowhere.
//!
//! What must hold: the supervisor itself keeps no value in its memory, where every fork would
//! copy it. Its children find the vault at the number that was reserved for it, among those
//! that they have of their own from the beginning ([`crate::container::pad`]); each closes it
//! before it becomes a program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{DupFlags, Errno};
use serde::{Deserialize, Serialize};

use super::{Trouble, too_long, whole};
use crate::sys::guarded::Guarded;
use crate::sys::{environment, unswappable};
use crate::unit::limits::SECRET_BYTES;

/// Most variables that are kept.
const FILES: usize = 256;

/// Where they are kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Vault {
    /// The filesystem's root; what stands in for it until there is something to keep.
    #[serde(with = "crate::sys::kept")]
    root: OwnedFd,
    made: bool,
}

impl Vault {
    /// Reserves the number of a descriptor that something else has until then.
    pub fn new(place: OwnedFd) -> Self {
        Self { root: place, made: false }
    }

    /// Becomes what another one is, at its own number.
    ///
    /// # Errors
    /// As dup(2).
    pub fn take_over(&mut self, other: &Self) -> io::Result<()> {
        rustix::io::dup3(&other.root, &mut self.root, DupFlags::CLOEXEC)?;
        self.made = other.made;
        Ok(())
    }

    /// Moves a variable from the environment to here, if it is set.
    ///
    /// # Errors
    /// One phrase; the variable is then where it was, or forgotten.
    pub fn take(&mut self, variable: &str) -> Result<(), Trouble> {
        let cannot = |error: io::Error| Trouble::of(format!("cannot keep {variable}"), &error);
        if !environment::has(variable) {
            return Ok(());
        }
        if !self.made {
            let bytes = FILES.saturating_mul(SECRET_BYTES);
            let root = unswappable::filesystem(bytes, FILES).map_err(cannot)?;
            self.take_over(&Self { root, made: true }).map_err(cannot)?;
        }
        let Some(value) = environment::take(variable).map_err(cannot)? else { return Ok(()) };
        if value.bytes().len() > SECRET_BYTES {
            return Err(too_long(variable));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, variable, flags, Mode::from_raw_mode(0o400))
            .map_err(|error| cannot(error.into()))?;
        File::from(file).write_all(value.bytes()).map_err(cannot)
    }
}

impl AsFd for Vault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// In a child: opens what was kept of a variable.
pub(super) fn open(vault: Option<BorrowedFd<'_>>, variable: &str) -> Result<File, Trouble> {
    let unset = || Trouble(format!("berth was started without the variable {variable}"));
    let vault = vault.ok_or_else(unset)?;
    let trouble = |error: Errno| Trouble::of(variable, &error.into());
    // Before there is anything to keep it is not even a directory.
    let status = rustix::fs::fstat(vault).map_err(trouble)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(unset());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(vault, variable, flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NOENT) => Err(unset()),
        Err(error) => Err(trouble(error)),
    }
}

pub(super) fn read(vault: Option<BorrowedFd<'_>>, variable: &str) -> Result<Guarded, Trouble> {
    let file = open(vault, variable)?;
    whole(&file, SECRET_BYTES).map_err(|error| Trouble::of(variable, &error))
}
