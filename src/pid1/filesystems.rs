//! The kernel's own filesystems: one table, mounted where nothing is mounted yet.
//!
//! On a machine all of them are there afterwards (those this kernel has); in a container
//! what is missing is tried, and that it may not be done is no news: the containers'
//! runtime has decided so. None of these mounts can block.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::Place;

/// One row.
struct Row {
    point: &'static str,
    kind: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// Whether a machine cannot do without.
    needed: bool,
}

const LOCKED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

const fn row(point: &'static str, kind: &'static str, options: &'static CStr) -> Row {
    Row { point, kind, flags: LOCKED, options, needed: true }
}

/// In this order: each needs those before it. Group 5 is the terminals' (`tty`) in every
/// distribution.
const TABLE: [Row; 8] = [
    row("/proc", "proc", c""),
    row("/sys", "sysfs", c""),
    Row { flags: MountFlags::NOSUID, ..row("/dev", "devtmpfs", c"mode=0755") },
    Row {
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        ..row("/dev/pts", "devpts", c"gid=5,mode=0620,ptmxmode=0666")
    },
    Row {
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        ..row("/dev/shm", "tmpfs", c"mode=1777")
    },
    Row {
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        ..row("/run", "tmpfs", c"mode=0755,size=20%")
    },
    row("/sys/fs/cgroup", "cgroup2", c"nsdelegate,memory_recursiveprot"),
    Row { needed: false, ..row("/sys/kernel/security", "securityfs", c"") },
];

/// Not among them: for its first mount the kernel has a program load a module, and waits.
const BPF: Row = Row { needed: false, ..row("/sys/fs/bpf", "bpf", c"mode=0700") };

/// Mounts `/proc` if there is nothing, so that it can be known where this is. That it
/// cannot be done is seen by whoever reads from it.
pub fn mount_proc() {
    if let Some(proc) = TABLE.first()
        && !is_mounted(proc.point)
    {
        let _ = mount(proc);
    }
}

/// Mounts what is missing. What a machine should have and does not get, a sentence each.
pub fn mount_missing(place: Place) -> Vec<String> {
    let mut troubles = Vec::new();
    if place == Place::Plain {
        return troubles;
    }
    for row in &TABLE {
        if is_mounted(row.point) || (place == Place::Container && is_usable(row.point)) {
            continue;
        }
        let trouble = try_mount(row);
        troubles.extend(trouble.filter(|_| place == Place::Machine));
    }
    troubles
}

/// Mounts `/sys/fs/bpf` where nothing is mounted. Waits.
pub fn mount_bpf() -> Vec<String> {
    if is_mounted(BPF.point) { Vec::new() } else { try_mount(&BPF).into_iter().collect() }
}

/// What went wrong, but for what a kernel or a tree can do without.
fn try_mount(row: &Row) -> Option<String> {
    let error = mount(row).err()?;
    let is_fine = !row.needed && matches!(error, Errno::NODEV | Errno::NOENT);
    let what = format!("cannot mount {} on {}", row.kind, row.point);
    (!is_fine).then(|| format!("{what}: {}", io::Error::from(error)))
}

/// Whether a directory of a container does its service as it is: whoever made the container
/// may have filled it in another way. A tree of control groups is never made up.
fn is_usable(point: &str) -> bool {
    let filled = || fs::read_dir(point).is_ok_and(|mut entries| entries.next().is_some());
    match point {
        "/run" => rustix::fs::access(point, rustix::fs::Access::WRITE_OK).is_ok(),
        "/sys/kernel/security" => true,
        _ => filled(),
    }
}

/// Whether something is mounted there: it is on another filesystem than what is above it.
/// Needs no `/proc`.
fn is_mounted(point: &str) -> bool {
    let above = Path::new(point).parent().map(fs::symlink_metadata);
    match (fs::symlink_metadata(point), above) {
        (Ok(here), Some(Ok(above))) => here.dev() != above.dev(),
        _ => false,
    }
}

fn mount(row: &Row) -> Result<(), Errno> {
    // It may be there, or its parent read-only; the mount tells.
    let _ = fs::DirBuilder::new().mode(0o755).create(row.point);
    match rustix::mount::mount(row.kind, row.point, row.kind, row.flags, Some(row.options)) {
        // An older kernel, or an option that it was built without.
        Err(Errno::INVAL) if !row.options.is_empty() => {
            rustix::mount::mount(row.kind, row.point, row.kind, row.flags, None::<&CStr>)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_told_from_what_is_a_directory() {
        assert!(is_mounted("/proc"));
        assert!(!is_mounted("/proc/self"));
        assert!(!is_mounted("/nonexistent"));
    }

    #[test]
    fn each_row_comes_after_what_it_is_mounted_in() {
        for (index, row) in TABLE.iter().enumerate() {
            let later = TABLE.iter().skip(index + 1);
            assert!(
                later.clone().all(|other| !row.point.starts_with(other.point)),
                "{}",
                row.point
            );
        }
    }
}
