//! What a rig leaves in the kernel: processes and control groups.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{PATIENCE, pause};

/// Whether a process descends from another.
pub fn is_descendant(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid.unsigned_abs();
    while pid > 1 && pid != ancestor {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        pid = parent.trim().parse().unwrap();
    }
    pid == ancestor
}

/// Removes what a berth that was killed could not.
pub fn remove_groups(path: &Path) {
    let begun = Instant::now();
    while path.exists() && begun.elapsed() < PATIENCE {
        let below = fs::read_dir(path).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let _ = fs::remove_dir(entry.path());
        }
        if fs::remove_dir(path).is_err() {
            pause();
        }
    }
}
