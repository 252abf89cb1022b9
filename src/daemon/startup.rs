//! Before the loop: directories, the lock, what a killed supervisor left, the kernel's
//! facts. The only place where the supervisor may wait for a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, inotify};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Options;
use super::adopt::{self, Estate};
use super::ledger::{self, Told};
use super::recovery::Beginning;
use super::writer::Writer;
use crate::container::users::{self, LookupError};
use crate::pid1::Place;
use crate::sys::cgroup::{self, Root, Tree};
use crate::sys::{fd, limits, state};

/// How long the lock may be held by what a killed supervisor left.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Why the supervisor cannot start. One sentence.
#[derive(Debug)]
pub struct Fatal(pub String);

impl Fatal {
    /// What could not be done, and the kernel's reason.
    pub fn new(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self(format!("cannot {what}: {error}"))
    }
}

/// What is held while the supervisor runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Of the runtime directory, which holds the pid and the paths of the cgroups, and of the
    /// state directory.
    #[serde(with = "crate::sys::kept")]
    locks: Vec<File>,
    /// The cgroup of this supervisor's units.
    pub root: Root,
    /// Of the runtime directory's lock.
    #[serde(default)]
    pub(super) writer: Writer,
}

impl Claim {
    /// Writes down whose the control groups are.
    ///
    /// # Errors
    /// As write(2).
    pub fn record(&mut self) -> io::Result<()> {
        self.locks.first_mut().map_or(Ok(()), |lock| record(lock, &self.root))
    }
}

/// Makes the directories. The state is nobody else's business: 0700; the runtime directory
/// holds sockets that units without a mount namespace reach: 0711.
///
/// # Errors
/// A sentence that names the directory.
/// What is not as it was asked for, a sentence each: process 1 goes on without a place to keep
/// state, in memory.
pub fn directories(options: &mut Options) -> Result<Vec<String>, Fatal> {
    let troubles = if options.place == Place::Plain { Vec::new() } else { find_room(options) };
    for path in [&options.runtime_dir, &options.state_dir] {
        if path.to_str().is_none() {
            return Err(Fatal(format!("the path {} must be UTF-8", path.display())));
        }
    }
    let wanted = [
        (options.runtime_dir.clone(), 0o711),
        (options.notify_directory(), 0o711),
        (options.state_dir.clone(), 0o700),
        (options.log_directory(), 0o700),
    ];
    for (path, mode) in wanted {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .map_err(|error| Fatal::new(&format!("make {}", path.display()), &error))?;
    }
    // Units are kept from them by their paths: those must be the ones without links.
    for path in [&mut options.runtime_dir, &mut options.state_dir] {
        let real = fs::canonicalize(&path)
            .map_err(|error| Fatal::new(&format!("find {}", path.display()), &error))?;
        if real.to_str().is_none() {
            return Err(Fatal(format!("what {} leads to must be UTF-8", path.display())));
        }
        *path = real;
    }
    Ok(troubles)
}

/// Where a container keeps things that has neither `/run` nor a root it can write to.
const ELSEWHERE: [&str; 2] = ["/dev/shm/berth", "/tmp/berth"];

/// Process 1 must not end because a directory is read-only: it takes another.
fn find_room(options: &mut Options) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Err(error) = usable(&options.runtime_dir) {
        let found = ELSEWHERE.iter().map(PathBuf::from).find(|path| usable(path).is_ok());
        if let Some(path) = found {
            troubles.push(format!(
                "{} cannot be written to ({error}), so the control socket is in {}: use \
                 `berthctl --runtime-dir {1}`",
                options.runtime_dir.display(),
                path.display()
            ));
            options.runtime_dir = path;
        }
    }
    if let Err(error) = usable(&options.state_dir) {
        troubles.push(format!(
            "{} cannot be written to ({error}): logs and volumes are in memory",
            options.state_dir.display()
        ));
        options.state_dir = options.runtime_dir.join("state");
    }
    troubles
}

/// Makes a directory of our own, if it is not there, that can be written to.
fn usable(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    // In a directory that everybody may write to, another may have been first.
    if fs::metadata(path)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

/// The number of the group whose members may look, if there is to be one.
///
/// # Errors
/// There is no such group.
pub fn control_group(options: &Options) -> Result<Option<u32>, Fatal> {
    let Some(group) = &options.control_group else { return Ok(None) };
    match users::group(group) {
        Ok(number) => Ok(Some(number)),
        Err(LookupError::Read(file, error)) => Err(Fatal::new(&format!("read {file}"), &error)),
        Err(LookupError::NoGroup(name) | LookupError::NoUser(name)) => {
            Err(Fatal(format!("--control-group: no group is called {name} in /etc/group")))
        }
    }
}

/// Takes the runtime and the state directory: one supervisor each. What an earlier one that was killed has
/// left in its cgroups is ended first, so that nothing ever runs twice.
///
/// # Errors
/// Another supervisor runs here, or the tree cannot be used.
pub fn claim(options: &Options, troubles: &mut Vec<String>) -> Result<(Claim, Estate), Fatal> {
    let path = options.lock_file();
    let mut lock = take_lock(&path, &options.runtime_dir, "--runtime-dir", troubles)?;
    let mut state = take_lock(&options.state_lock(), &options.state_dir, "--state-dir", troubles)?;
    // For whoever finds it taken; what holds is the lock itself.
    let own = format!("{}\n", std::process::id());
    if let Err(error) = state.set_len(0).and_then(|()| state.write_all(own.as_bytes())) {
        troubles.push(format!("cannot write {}: {error}", options.state_lock().display()));
    }
    let mut recorded = Vec::new();
    if let Err(error) = Read::by_ref(&mut lock).take(64 * 1024).read_to_end(&mut recorded) {
        troubles.push(format!("cannot read {}: {error}", path.display()));
    }
    let recorded = String::from_utf8_lossy(&recorded);
    let left: Vec<PathBuf> = recorded.lines().skip(1).map(PathBuf::from).collect();
    let tree = Tree::discover().map_err(|error| Fatal::new("find the cgroups", &error))?;
    let (root, estate) = inherit(options, &left, &tree, troubles)?;
    let mut writer = Writer::clean();
    if record(&mut lock, &root).is_err() {
        // Why is said when that fails again.
        writer.touch();
    }
    Ok((Claim { locks: vec![lock, state], root, writer }, estate))
}

/// Finds what a killed supervisor has left and can be taken over; ends all else of it.
fn inherit(
    options: &Options,
    left: &[PathBuf],
    tree: &Tree,
    troubles: &mut Vec<String>,
) -> Result<(Root, Estate), Fatal> {
    let ended = |error| Fatal::new("end what a killed berth left", &error);
    let beginning = options.beginning;
    if !is_last() || beginning != Beginning::Started {
        let path = options.ledger();
        let told = match beginning {
            Beginning::Down => Told::default(),
            Beginning::Started | Beginning::Again => match ledger::read(&path) {
                Ok(told) => told,
                Err(error) if state::is_damage(&error) => {
                    troubles.push(state::set_aside(&path, &error));
                    Told::default()
                }
                Err(error) => {
                    return Err(Fatal::new(&format!("read {}", path.display()), &error));
                }
            },
        };
        if let Some((root, estate)) = adopt::inspect(told, left, tree, beginning, troubles) {
            cgroup::tree::kill_others(left, &estate.names()).map_err(ended)?;
            return Ok((root, estate));
        }
    }
    cgroup::tree::kill_leftovers(left).map_err(ended)?;
    let root = tree.open(&identity()).map_err(|error| Fatal::new("make a cgroup", &error))?;
    Ok((root, Estate::default()))
}

/// Whether nothing outlives this process: then nobody else has left anything either.
pub fn is_last() -> bool {
    std::process::id() == 1
}

/// Locks the file. A supervisor that was killed may have left a child that had no time yet
/// to close its copy of the lock: that is waited for. One that has ended in order has
/// removed the file: then the lock of the old one is worth nothing.
fn take_lock(
    path: &Path,
    directory: &Path,
    option: &str,
    troubles: &mut Vec<String>,
) -> Result<File, Fatal> {
    let begun = Instant::now();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut was_damaged = false;
    loop {
        let mut lock = match state::open(path, &mut options) {
            Ok(lock) => lock,
            // Something else is in its place, which nobody can hold a lock of.
            Err(error) if !was_damaged && state::is_damage(&error) => {
                was_damaged = true;
                troubles.push(state::set_aside(path, &error));
                continue;
            }
            Err(error) => return Err(Fatal::new(&format!("open {}", path.display()), &error)),
        };
        // Watched first: what happens between the try and the wait is not missed.
        let left = LOCK_WAIT.saturating_sub(begun.elapsed());
        let closed = match watch_closing(path) {
            // Removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !left.is_zero() => continue,
            other => {
                other.map_err(|error| Fatal::new(&format!("watch {}", path.display()), &error))?
            }
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&lock, path) => return Ok(lock),
            Ok(()) if !left.is_zero() => {}
            Err(Errno::WOULDBLOCK) if !left.is_zero() => {
                let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
                fd::readable_within(closed.as_fd(), milliseconds)
                    .map_err(|error| Fatal::new(&format!("wait for {}", path.display()), &error))?;
            }
            Ok(()) | Err(Errno::WOULDBLOCK) => {
                let mut recorded = String::new();
                let read = Read::by_ref(&mut lock).take(64).read_to_string(&mut recorded);
                let pid = recorded.lines().next().filter(|_| read.is_ok()).unwrap_or("?");
                return Err(Fatal(format!(
                    "another berth (process {pid}) uses {}; name another {option}",
                    directory.display()
                )));
            }
            Err(error) => return Err(Fatal::new(&format!("lock {}", path.display()), &error)),
        }
    }
}

/// Becomes readable when somebody who could write the file has closed it for good, and with
/// that given up its lock (inotify(7)).
fn watch_closing(path: &Path) -> io::Result<OwnedFd> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&inotify, path, inotify::WatchFlags::CLOSE_WRITE)?;
    Ok(inotify)
}

/// Whether a file is still the one of this path.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

/// Names the cgroups of this supervisor. A pid alone would not do: supervisors in pid
/// namespaces of their own are all number 1.
fn identity() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    format!("{}-{:x}{:08x}", std::process::id(), now.tv_sec, now.tv_nsec)
}

/// For the jitter of restarts: two machines that boot together must not restart together.
pub fn seed() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_nsec.unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32)
}

fn record(lock: &mut File, root: &Root) -> io::Result<()> {
    let mut text = format!("{}\n", std::process::id());
    for path in root.paths() {
        text.push_str(&path.display().to_string());
        text.push('\n');
    }
    // In this order: killed in between, it still names the groups, in which units may run
    // that were taken over. What is then left of the older text names none.
    lock.rewind()?;
    lock.write_all(text.as_bytes())?;
    lock.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// Removes what is only there while a supervisor runs.
///
/// # Errors
/// A sentence that names what could not be removed.
pub fn leave(options: &Options, claim: Claim) -> Result<(), Fatal> {
    if let Some(lock) = claim.locks.first() {
        let others = [options.control_socket(), options.ledger()];
        leave_directory(lock, &others, &options.lock_file())?;
    }
    if options.place == Place::Machine {
        // Its groups end with it.
        return Ok(());
    }
    claim.root.remove().map_err(|error| Fatal::new("remove the cgroup", &error))
}

/// Where the lock is not the one that is held, somebody has cleared the directory and another
/// supervisor has taken it: what else is there is its own, too.
fn leave_directory(lock: &File, others: &[PathBuf], path: &Path) -> Result<(), Fatal> {
    if !is_at(lock, path) {
        return Ok(());
    }
    // The lock last: whoever finds none may make a socket at once.
    others.iter().try_for_each(|other| remove_if_there(other))?;
    remove_if_there(path)
}

fn remove_if_there(path: &Path) -> Result<(), Fatal> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Fatal::new(&format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// As many descriptors as the kernel lets this process have: a thousand services take seven
/// thousand. Children get back what was there before.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_limits() -> io::Result<()> {
    // What keeps core files of services away is a limit of 1 byte, which those in a user
    // namespace cannot raise theirs to. Where berth cannot either, they have 0.
    let _ = limits::allow(limits::Resource::Core, 1);
    limits::set_soft_files(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_supervisor_has_made_meanwhile_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (path, socket) = (directory.path().join("lock"), directory.path().join("socket"));
        let others = [socket.clone()];
        let take = || take_lock(&path, directory.path(), "--runtime-dir", &mut Vec::new()).unwrap();
        let ours = take();
        fs::write(&socket, "ours").unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = take();
        fs::write(&socket, "theirs").unwrap();
        leave_directory(&ours, &others, &path).unwrap();
        assert!(is_at(&theirs, &path));
        assert_eq!(fs::read_to_string(&socket).unwrap(), "theirs");
        // The control: what is its own goes.
        leave_directory(&theirs, &others, &path).unwrap();
        assert!(!path.exists() && !socket.exists());
        leave_directory(&theirs, &others, &path).unwrap();
    }
}
