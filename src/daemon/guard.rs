//! What keeps the user numbers of one supervisor apart from those of another on this host, and
//! from what a killed one has left running.
//!
//! Each number is a byte of one file in `/run` that is always empty, and whoever uses it holds
//! a lock on that byte (`sys::range_lock`): pools that overlap in any way are kept apart, and
//! what a supervisor held is free when it has ended. What must hold: a number that nobody else
//! may have is locked for this supervisor alone before a user namespace with it is made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use serde::{Deserialize, Serialize};

use super::pool::{Foreign, Pool, RANGE};
use crate::sys::range_lock::{self, Sharing};
use crate::unit::model::IdMaps;

/// The same for all supervisors, whatever directories they use.
const FILE: &str = "/run/berth-users";

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 100_000;

/// The locks of this supervisor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Guard {
    #[serde(with = "crate::sys::kept")]
    file: Option<File>,
}

impl Guard {
    /// Opens the file. Where nobody can write to `/run` there is nobody to keep apart from.
    ///
    /// # Errors
    /// As open(2).
    pub fn open() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        match options.open(FILE) {
            Ok(file) => Ok(Self { file: Some(file) }),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem => Ok(Self::default()),
                _ => Err(error),
            },
        }
    }

    /// A range for one unit alone; false if another supervisor has some of it.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn take(&self, first: u32) -> io::Result<bool> {
        self.lock(first, RANGE, Sharing::Exclusive)
    }

    /// The numbers of maps that a unit file names, which several units may have; false if some
    /// were given to one alone.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn share(&self, maps: &IdMaps) -> io::Result<bool> {
        for range in maps.all() {
            if !self.lock(range.outside, range.count, Sharing::Shared)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lock(&self, first: u32, count: u32, sharing: Sharing) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        range_lock::try_lock(file.as_fd(), first, count, sharing)
    }
}

/// Numbers of a pool that processes on this host have already, as what a killed supervisor has
/// left does; but not those that `leases` (as they are written down) say are our own.
pub fn in_use(pool: Pool, leases: &str) -> Vec<Foreign> {
    let own = |first: u32| {
        let first = first.to_string();
        leases.lines().any(|line| line.split(' ').next() == Some(&first))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten().take(PROCESSES_MAX) {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        // It may have ended meanwhile.
        let Ok(map) = fs::read_to_string(entry.path().join("uid_map")) else { continue };
        for line in map.lines() {
            let mut numbers = line.split_whitespace().skip(1).map(str::parse::<u32>);
            let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
                continue;
            };
            let range = (u64::from(first), u64::from(first).saturating_add(count.into()));
            // All numbers of the host are no unit's range.
            let wanted = first > 0 && pool.overlaps(first, count) && !own(first);
            if wanted && !found.contains(&range) {
                found.push(range);
            }
        }
    }
    found
}
