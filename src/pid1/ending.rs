//! The end of a machine, when no unit runs any more: what is left is ended, nothing is
//! mounted for writing, and the kernel is told.
//!
//! What must hold: it comes to its end, whatever hangs. Everything that can wait for a disk
//! or a network happens in a child with a deadline; the filesystems are written out as far
//! as they can be before the kernel is told, and never is it told first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};

use super::{End, say};
use crate::sys::power::{self, Command};
use crate::sys::{fd, fork, mountinfo, pidfd, reap, signal};

/// How long what no unit knows of may take after SIGTERM.
const TERM: Duration = Duration::from_secs(3);

/// And after SIGKILL; what is not gone then hangs in the kernel.
const KILL: Duration = Duration::from_secs(2);

/// How long one filesystem may take to be unmounted, which writes it out.
const QUICK: Duration = Duration::from_secs(15);

/// And what may have to move much: swap into memory, the root with all that was written.
const SLOW: Duration = Duration::from_secs(60);

/// How often what was in use is tried again: one may have been in the way of another.
const ROUNDS: usize = 16;

/// Where the kernel shows itself; it needs no unmounting, and `/proc` is needed to the end.
const KERNEL: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Ends the machine. Comes back only with the reason why the kernel would not.
pub fn machine(end: End) -> io::Error {
    say(&format!("about to {}", end.words()));
    end_everybody();
    put_away();
    let command = match end {
        End::Reboot if kexec_is_loaded() => Command::Kexec,
        End::Reboot => Command::Restart,
        End::Halt => Command::Halt,
        End::Exit | End::Poweroff => Command::Poweroff,
    };
    match (command, power::reboot(command)) {
        // What was loaded does not start.
        (Command::Kexec, error) => {
            say(&format!("cannot start the loaded kernel: {error}"));
            power::reboot(Command::Restart)
        }
        (_, error) => error,
    }
}

/// The end of a container that somebody asked to power off or reboot: the kernel tells who
/// made it which (`reboot(2)` in a pid namespace), if it lets this process. Otherwise this
/// process just ends.
pub fn container(end: End) {
    let command = match end {
        End::Exit => return,
        End::Reboot => Command::Restart,
        End::Poweroff | End::Halt => Command::Poweroff,
    };
    // Without CAP_SYS_BOOT; to end is all that is left to do.
    let _ = power::reboot(command);
}

fn kexec_is_loaded() -> bool {
    fs::read("/sys/kernel/kexec_loaded").is_ok_and(|text| text.starts_with(b"1"))
}

/// SIGTERM, then SIGKILL for all processes that are left.
pub fn end_everybody() {
    for (signal, patience) in [(libc::SIGTERM, TERM), (libc::SIGKILL, KILL)] {
        if let Err(error) = signal::send_to_all(signal) {
            say(&format!("cannot signal what is left: {error}"));
        }
        // What is stopped hears of its end only when it goes on; that nobody can be signalled is
        // told already.
        let _ = signal::send_to_all(libc::SIGCONT);
        if reap_all(patience) {
            return;
        }
        if signal == libc::SIGTERM {
            let names = survivors();
            say(&format!("killing what does not end: {}", names.join(", ")));
        }
    }
    say(&format!("hanging in the kernel, left behind: {}", survivors().join(", ")));
}

/// Reaps until no child is left, which for process 1 means: no process at all.
fn reap_all(patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        while let Ok(Some(dead)) = reap::peek() {
            if !matches!(reap::reap(dead.pid), Ok(Some(_))) {
                break;
            }
        }
        if !reap::any().unwrap_or(false) {
            return true;
        }
        let left = patience.saturating_sub(begun.elapsed());
        // In slices: a signal that was pending before is taken as one too.
        if left.is_zero() || signal::wait(left.min(Duration::from_millis(100))).is_err() {
            return false;
        }
    }
}

/// Names of processes, for people. Threads of the kernel have no command line.
fn survivors() -> Vec<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|&pid| pid > 1) else { continue };
        let is_program = fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
        if is_program && names.len() < 8 {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            names.insert(format!("{} ({pid})", name.trim()));
        }
    }
    names.into_iter().collect()
}

/// Swap, mounts, loop devices, the root.
fn put_away() {
    // What there is of both the kernel says at once; only letting go of it may take long.
    let swaps = swaps();
    if !swaps.is_empty() {
        bounded("swap", SLOW, || swap_off(&swaps));
    }
    let mut left = unmount_all();
    let loops = loops();
    if !loops.is_empty() {
        bounded("a loop device", QUICK, || clear_loops(&loops));
    }
    if !left.is_empty() {
        left = unmount_all();
    }
    for point in left {
        bounded(&point.clone(), QUICK, move || {
            match rustix::mount::mount_remount(point.as_str(), MountFlags::RDONLY, "") {
                Ok(()) => say(&format!("{point} was in use and is read-only now")),
                Err(error) => say(&format!("{point}: cannot unmount: {}", io::Error::from(error))),
            }
        });
    }
    bounded("the root filesystem", SLOW, || {
        read_only_root();
        rustix::fs::sync();
    });
}

fn read_only_root() {
    let Err(error) = rustix::mount::mount_remount("/", MountFlags::RDONLY, "") else { return };
    // Something still writes: the kernel makes all filesystems read-only at once
    // (sysrq.txt: `s`, then `u`).
    say(&format!("the root filesystem is in use ({})", io::Error::from(error)));
    for key in ["s", "u"] {
        // A kernel without it: sync, which comes next, is what is left.
        let _ = fs::write("/proc/sysrq-trigger", key);
    }
}

/// Does one thing in a child, for so long at most: a filesystem that does not answer must
/// not keep the others from being written out.
fn bounded(name: &str, patience: Duration, work: impl FnOnce()) {
    let child = fork::child(&fork::Options::default(), || {
        work();
        0
    });
    let process = match child {
        Ok(process) => process,
        Err(error) => return say(&format!("{name}: no process can be made: {error}")),
    };
    let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    if !fd::readable_within(process.pidfd.as_fd(), milliseconds).unwrap_or(false) {
        say(&format!("{name} does not answer: going on without it"));
        // It hangs in the kernel, so this is for the day that it does not.
        let _ = pidfd::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// What is in use as swap.
fn swaps() -> Vec<String> {
    // A kernel without swap has none.
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn swap_off(swaps: &[String]) {
    for path in swaps {
        if let Err(error) = power::swap_off(Path::new(path)) {
            say(&format!("cannot take {path} out of use as swap: {error}"));
        }
    }
}

/// Unmounts the newest first, in rounds while that helps; what is left.
fn unmount_all() -> Vec<String> {
    let mut left = Vec::new();
    let mut stuck = BTreeSet::new();
    for _ in 0..ROUNDS {
        let points = mounted();
        for point in &points {
            if stuck.contains(point) {
                continue;
            }
            let begun = Instant::now();
            bounded(point, QUICK, || {
                // What is still there is seen in the next round.
                let _ = rustix::mount::unmount(point.as_str(), UnmountFlags::empty());
            });
            if begun.elapsed() >= QUICK {
                stuck.insert(point.clone());
            }
        }
        left = mounted();
        left.retain(|point| !stuck.contains(point));
        if left.is_empty() || left == points {
            break;
        }
    }
    left
}

/// What holds files and is not the root, the newest first.
fn mounted() -> Vec<String> {
    let mounts = mountinfo::mounts(mountinfo::Which::All, usize::MAX).unwrap_or_else(|error| {
        say(&format!("what is mounted cannot be read, and stays mounted: {error}"));
        Vec::new()
    });
    mounts.into_iter().rev().map(|mount| mount.point).filter(|point| is_ours(point)).collect()
}

fn is_ours(point: &str) -> bool {
    point != "/" && !KERNEL.iter().any(|kernel| Path::new(point).starts_with(kernel))
}

/// Loop devices that have a file.
fn loops() -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let in_use = devices.filter(|entry| entry.path().join("loop/backing_file").exists());
    in_use.map(|entry| Path::new("/dev").join(entry.file_name())).collect()
}

/// They hold the file under them, and with it that file's filesystem.
fn clear_loops(loops: &[PathBuf]) {
    for device in loops {
        let cleared = File::open(device).and_then(|file| power::clear_loop(file.as_fd()));
        if let Err(error) = cleared {
            say(&format!("{} does not let go of its file: {error}", device.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_own_mounts_are_left_alone() {
        for kept in ["/", "/proc", "/dev/pts", "/run", "/sys/fs/cgroup"] {
            assert!(!is_ours(kept), "{kept}");
        }
        for gone in ["/srv", "/runs", "/var/lib", "/devices"] {
            assert!(is_ours(gone), "{gone}");
        }
    }
}
