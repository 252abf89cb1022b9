//! Control groups: found, made, limited, killed, watched and removed.
//!
//! The tree of version 2 is the one that counts: a process is in the group of its unit
//! there from its first moment (`CLONE_INTO_CGROUP`), and freezing, killing and "is it
//! empty" are asked there. Limits go where their controller is bound; [`limits`] is the
//! one table for that. Devices are a matter of their own: [`devices`]. Where no writable
//! version 2 tree exists, everything else still works: a [`Group`] then has no directory,
//! and says so.

pub mod devices;
pub mod group;
pub mod limits;
pub mod tree;
pub mod usage;

pub use group::Group;
pub use limits::Wanted;
pub use tree::{Root, Tree};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a control group.
#[derive(Debug)]
pub enum Error {
    /// A file or directory of the tree refused an operation.
    Io {
        /// What was done, as "make", "write 100 to".
        what: String,
        /// To which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A limit that this host cannot enforce, and the unit is strict.
    Unenforceable {
        /// Name of the limit, as in a unit file.
        limit: &'static str,
        /// Its line in the unit file.
        line: u32,
        /// Why.
        why: String,
    },
    /// The host refused a value.
    Refused {
        /// Name of the limit, as in a unit file.
        limit: &'static str,
        /// Its line in the unit file.
        line: u32,
        /// What was written where.
        what: String,
        /// Why not.
        error: io::Error,
    },
}

impl Error {
    fn io(what: &str, path: &Path, error: io::Error) -> Self {
        Self::Io { what: what.to_owned(), path: path.to_owned(), error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
            Self::Unenforceable { limit, why, .. } => {
                write!(f, "the limit {limit} cannot be enforced on this host: {why}")
            }
            Self::Refused { limit, what, error, .. } => {
                write!(f, "set the limit {limit} ({what}): {error}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The line of the unit file that asked for what failed; 0: none did.
    pub fn line(&self) -> u32 {
        match self {
            Self::Io { .. } => 0,
            Self::Unenforceable { line, .. } | Self::Refused { line, .. } => *line,
        }
    }
}

/// A file of a control group is at most this long here.
const FILE_MAX: usize = 256 * 1024;

/// Reads a file of a control group (or of /proc), at most [`FILE_MAX`] bytes of it.
fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let limit = u64::try_from(FILE_MAX).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a value to a file of a control group, in one write.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
