//! The values of secrets: where they are kept, and how the child that prepares a unit comes
//! to them.
//!
//! What must always hold: a value is read and decrypted only in a forked child, into memory
//! that is locked, wiped and in no dump ([`Guarded`]), and goes from there to one file of the
//! unit. The supervisor itself never holds one: what its own environment brings it puts into
//! a file of the kernel's memory at once ([`vault`]). No error holds a byte of a value.

pub mod cipher;
mod file;
pub mod store;
pub mod vault;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::container::status::errno_text;
use crate::sys::guarded::Guarded;
use crate::unit::limits::SECRET_BYTES;
use crate::unit::model::SecretSource;
use store::Store;

/// Why there is no value. One phrase that says what to do.
#[derive(Debug)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// What could not be done, and the kernel's reason.
    fn of(what: impl fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self(format!("{what}: {}", errno_text(errno))),
            None => Self(format!("{what}: {error}")),
        }
    }
}

/// The value of the secret called `name`, which has at least one byte.
///
/// # Errors
/// One phrase that names what is in the way.
pub fn value(
    name: &str,
    source: &SecretSource,
    state: &Path,
    vault: Option<BorrowedFd<'_>>,
) -> Result<Guarded, Trouble> {
    let value = match source {
        SecretSource::File(path) => file::read(path)?,
        SecretSource::Environment(variable) => vault::read(vault, variable)?,
        SecretSource::Stored => Store::new(state).get(name)?,
    };
    if value.bytes().is_empty() {
        return Err(Trouble(format!("{} is empty", place(source))));
    }
    Ok(value)
}

/// Whether there could be a value now, as far as can be seen without reading it.
///
/// # Errors
/// As [`value`].
pub fn probe(
    name: &str,
    source: &SecretSource,
    state: &Path,
    vault: Option<BorrowedFd<'_>>,
) -> Result<(), Trouble> {
    match source {
        SecretSource::File(path) => file::open(path).map(drop),
        SecretSource::Environment(variable) => vault::open(vault, variable).map(drop),
        SecretSource::Stored => Store::new(state).probe(name),
    }
}

/// What is in a file, at most `limit` bytes. No more than it has is locked in memory; that it
/// grows meanwhile is an error.
fn whole(file: &File, limit: usize) -> io::Result<Guarded> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(limit);
    Guarded::read(file.as_fd(), size.min(limit))
}

fn place(source: &SecretSource) -> String {
    match source {
        SecretSource::File(path) => format!("the file {path}"),
        SecretSource::Environment(variable) => format!("berth's variable {variable}"),
        SecretSource::Stored => "what was stored".to_owned(),
    }
}

/// That there is more than a secret may have.
fn too_long(what: impl fmt::Display) -> Trouble {
    Trouble(format!("{what} has more than {} KiB", SECRET_BYTES >> 10))
}
