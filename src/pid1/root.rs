//! The root filesystem, and what the state directory is on: checked and made writable
//! before the supervisor opens anything there.
//!
//! A kernel hands the root over read-only. All that waits for a disk happens in a child
//! that has a deadline; when it cannot do its work the machine goes on with its root as
//! it is, and into the rescue shell.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::mount::MountFlags;

use super::command_line::Fsck;
use super::fstab::{self, Checked, Entry, Reach};
use crate::sys::{fd, fork, pidfd, reap};

/// How long the check of a root filesystem may take: a large one that is repaired takes
/// many minutes, and giving up on it is worse than waiting.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Exit codes of the child.
const TROUBLE: i32 = 1;
const REBOOT: i32 = 2;

/// What the machine has to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// A root that can be written to, or that fstab wants read-only.
    Ready,
    /// It was repaired, and the kernel must read it again.
    Reboot,
    /// Something failed: a sentence. More is on the console.
    Trouble(String),
}

/// Checks and remounts the root, and mounts what the state directory is on. Waits.
pub fn prepare(state: &Path, mode: Fsck) -> Prepared {
    let child = fork::child(&fork::Options::default(), || match work(state, mode) {
        Ok(Checked::Fine) => 0,
        Ok(Checked::Reboot) => REBOOT,
        Ok(Checked::Broken) => TROUBLE,
        Err(error) => {
            eprintln!("berth: cannot prepare the root filesystem: {error}");
            TROUBLE
        }
    });
    let process = match child {
        Ok(process) => process,
        Err(error) => return Prepared::Trouble(format!("cannot make a process: {error}")),
    };
    let milliseconds = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
    if !fd::readable_within(process.pidfd.as_fd(), milliseconds).unwrap_or(false) {
        // It is of no use any more, and stays where it hangs if even this does not end it.
        let _ = pidfd::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
        return Prepared::Trouble("preparing the root filesystem took too long".to_owned());
    }
    match reap::reap(process.pid) {
        Ok(Some(dead)) if dead.ended == reap::Ended::Code(0) => Prepared::Ready,
        Ok(Some(dead)) if dead.ended == reap::Ended::Code(REBOOT) => Prepared::Reboot,
        _ => Prepared::Trouble("the root filesystem could not be prepared".to_owned()),
    }
}

/// In the child.
fn work(state: &Path, mode: Fsck) -> io::Result<Checked> {
    let entries = fstab::read()?;
    let root = entries.iter().find(|entry| entry.target == "/");
    let read_only =
        rustix::fs::statvfs("/")?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    if read_only {
        match check(root, mode)? {
            Checked::Fine => {}
            other => return Ok(other),
        }
        if !root.is_some_and(|entry| entry.has("ro")) {
            make_writable(root)?;
        }
    }
    let needed: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| entry.target != "/" && state.starts_with(&entry.target))
        .collect();
    let outcome = fstab::bring_up(&needed, Reach::Local, mode);
    for trouble in &outcome.troubles {
        eprintln!("berth: {trouble}");
    }
    Ok(match (outcome.reboot, outcome.troubles.is_empty()) {
        (true, _) => Checked::Reboot,
        (false, true) => Checked::Fine,
        (false, false) => Checked::Broken,
    })
}

/// With the options of its line in fstab, which `mount` understands.
fn make_writable(entry: Option<&Entry>) -> io::Result<()> {
    if let Some(entry) = entry {
        let options = format!("remount,rw,{}", entry.options);
        let status = Command::new("mount").args(["-n", "-o", &options, "/"]).status();
        if status.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    Ok(rustix::mount::mount_remount("/", MountFlags::empty(), "")?)
}

/// Checks the root, unless its line in fstab says that it never is.
fn check(entry: Option<&Entry>, mode: Fsck) -> io::Result<Checked> {
    if mode == Fsck::Skip || entry.is_some_and(|entry| entry.pass == 0 && mode == Fsck::Auto) {
        return Ok(Checked::Fine);
    }
    let Some((device, kind)) = device()? else { return Ok(Checked::Fine) };
    match fstab::start_check(&kind, &device, mode)? {
        Some(mut child) => Ok(fstab::verdict(child.wait()?.code())),
        None => Ok(Checked::Fine),
    }
}

/// The device and the type of the root; `None` when it is not on one.
fn device() -> io::Result<Option<(String, String)>> {
    let number = fs::metadata("/")?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let Ok(event) = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")) else {
        return Ok(None);
    };
    let Some(name) = event.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else {
        return Ok(None);
    };
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kind = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next() == Some("/")).then(|| fields.next().map(str::to_owned)).flatten()
    });
    Ok(kind.map(|kind| (format!("/dev/{name}"), kind)))
}
