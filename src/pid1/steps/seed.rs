//! The random seed: what the kernel's pool of the last boot left for this one.
//!
//! The new seed is written, and on the disk, before the old one counts: a seed is never
//! used twice, whenever the power fails.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::sys::{random, state};

const SEED: &str = "/var/lib/berth/random-seed";

/// Bytes kept.
const LENGTH: usize = 256;

/// Gives the old seed to the kernel and keeps a new one.
pub fn renew() -> Vec<String> {
    let mut troubles = Vec::new();
    if let Err(error) = exchange(Path::new(SEED), &mut troubles) {
        troubles.push(format!("cannot renew {SEED}: {error}"));
    }
    troubles
}

fn exchange(path: &Path, troubles: &mut Vec<String>) -> io::Result<()> {
    let is_seed = |bytes: &[u8]| bytes.is_empty() || bytes.len() == LENGTH;
    let old = state::read_sound(path, LENGTH as u64, is_seed, troubles);
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
    state::replace(path, &new)?;
    random::credit(device.as_fd(), &old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_used_once_and_what_is_none_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/random-seed");
        let aside = directory.path().join("deep/random-seed.damaged");
        let renew = |troubles: &mut Vec<String>| {
            exchange(&path, troubles).unwrap();
            fs::read(&path).unwrap()
        };
        let mut troubles = Vec::new();
        let first = renew(&mut troubles);
        let second = renew(&mut troubles);
        assert!(first.len() == LENGTH && second.len() == LENGTH && first != second);
        assert!(troubles.is_empty() && !aside.exists());
        for garbage in [&b"short"[..], &[0; 5000]] {
            fs::write(&path, garbage).unwrap();
            let next = renew(&mut troubles);
            assert!(next.len() == LENGTH && next != second);
            assert!(troubles.pop().unwrap().contains("cannot be used"));
            assert_eq!(fs::read(&aside).unwrap(), garbage);
        }
        // An empty one is no seed yet.
        fs::write(&path, "").unwrap();
        assert!(renew(&mut troubles).len() == LENGTH && troubles.is_empty());
    }
}
