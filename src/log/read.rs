//! Reading the logs of units: what is there, then what is written from now on.
//!
//! Readers know only the files and never talk to the logger. What is there is merged over
//! units in order of time; live output is merged as far as it is found at the same time.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::follow::Follow;
use super::merge::{Lines, Merge};
use super::record::Stream;

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When its end was written.
    pub time: Timestamp,
    /// Whose output.
    pub unit: String,
    /// Which of its streams.
    pub stream: Stream,
    /// Which of its runs.
    pub run: u64,
    /// As the service wrote it, without the newline; may hold any other byte.
    pub text: Vec<u8>,
    /// Whether the line goes on in a later entry, or is not complete yet.
    pub partial: bool,
}

/// What to read.
#[derive(Debug, Default)]
pub struct Query {
    /// Which units; empty: all, also those that appear later.
    pub units: Vec<String>,
    /// Only the last so many lines of each unit.
    pub lines: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Ends following, once everything written so far is delivered, when this becomes
    /// readable or its other end is closed.
    pub until_fd: Option<OwnedFd>,
}

/// Why logs could not be read.
#[derive(Debug)]
pub enum LogError {
    /// Not a name a unit can have.
    BadName(String),
    /// A directory or file could not be read.
    Io(PathBuf, io::Error),
    /// inotify(7) is used up.
    Watch(io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(f, "{name:?} is not the name of a unit"),
            Self::Io(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Watch(error) => write!(
                f,
                "cannot watch the logs: {error}; raise fs.inotify.max_user_instances or \
                 fs.inotify.max_user_watches"
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// Hands every matching line to `sink`, merged over units in order of time, then (with
/// `follow`) what is written from then on, until `sink` breaks or `until_fd` says so.
/// A line that is not complete yet is handed out, as `partial`, when reading ends. Holds one
/// descriptor for each unit.
///
/// # Errors
/// See [`LogError`]. Damage inside a file is none, nor is a unit without a log.
pub fn read(
    directory: &Path,
    query: Query,
    sink: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), LogError> {
    if let Some(name) = query.units.iter().find(|name| !super::is_unit_name(name)) {
        return Err(LogError::BadName(name.clone()));
    }
    if query.follow {
        return Follow::new(directory, query)?.run(sink);
    }
    let names = if query.units.is_empty() { names(directory)? } else { query.units };
    let mut merge = Merge::default();
    for name in names {
        merge.add(Lines::new(directory, name, query.lines, query.since)?);
    }
    merge.finish(sink)
}

/// All units that have a log.
///
/// # Errors
/// readdir(3).
pub fn names(directory: &Path) -> Result<Vec<String>, LogError> {
    let failed = |error| LogError::Io(directory.to_owned(), error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.extend(entry.file_name().into_string().ok().filter(|_| is_directory));
    }
    names.sort_unstable();
    Ok(names)
}
