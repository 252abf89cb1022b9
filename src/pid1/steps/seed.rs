//! The random seed: what the kernel's pool of the last boot left for this one.
//!
//! The new seed is written, and on the disk, before the old one counts: a seed is never
//! used twice, whenever the power fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::sys::random;

const SEED: &str = "/var/lib/berth/random-seed";

/// Bytes kept.
const LENGTH: usize = 256;

/// Gives the old seed to the kernel and keeps a new one.
pub fn renew() -> Vec<String> {
    exchange(Path::new(SEED))
        .err()
        .map(|error| format!("cannot renew {SEED}: {error}"))
        .into_iter()
        .collect()
}

fn exchange(path: &Path) -> io::Result<()> {
    let mut old = Vec::new();
    match File::open(path) {
        Ok(file) => {
            file.take(LENGTH as u64).read_to_end(&mut old)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/urandom")?;
    // Stirred in first without counting, so that what is kept next depends on it too.
    device.write_all(&old)?;
    let mut new = [0; LENGTH];
    let count = getrandom(&mut new, GetRandomFlags::INSECURE)?;
    if count != LENGTH {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&new)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    random::credit(device.as_fd(), &old)
}
