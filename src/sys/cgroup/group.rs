//! The group of one unit: kill, freeze, watch, count, remove.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::tree::Hierarchy;
use super::{Error, Root, read, write};
use crate::sys::pidfd;

/// Deepest nesting of groups that [`remove_tree`] handles. A unit could make more in its
/// own view of the tree only with write access to it, which it does not get.
const DEPTH_MAX: usize = 64;

/// Most groups removed in one call; what is left takes another.
const REMOVE_MAX: usize = 4096;

/// The two groups of [`Delegated`].
const HOME: &str = "home";
const BESIDE: &str = "beside";

/// A unit's group in version 2, and in those version 1 hierarchies where it has a limit.
/// Dropping it leaves the directories: [`Group::remove`] takes them away.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Group {
    name: Box<str>,
    directory: Option<Directory>,
    pub(super) legacy: Vec<Legacy>,
    pub(super) unenforced: Vec<String>,
}

/// A group in version 2.
#[derive(Debug, Serialize, Deserialize)]
struct Directory {
    #[serde(with = "crate::sys::kept")]
    fd: OwnedFd,
    above: Rc<Above>,
    /// Where a unit makes groups of its own.
    #[serde(default)]
    delegated: Option<Box<Delegated>>,
}

/// A group with others below it holds no processes, so there are two in that of a unit that
/// makes its own: where it is at home, and for whom berth puts beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Delegated {
    #[serde(with = "crate::sys::kept")]
    home: OwnedFd,
    #[serde(with = "crate::sys::kept")]
    beside: OwnedFd,
}

/// The group in version 2 in which those of the units are; held once for all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Above {
    /// Its directory.
    pub path: PathBuf,
    /// Its path as in /proc/PID/cgroup.
    pub seen_as: PathBuf,
}

/// A group in a version 1 hierarchy.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Legacy {
    /// In which.
    pub hierarchy: Rc<Hierarchy>,
    /// `cgroup.procs`, for the children that join.
    #[serde(with = "crate::sys::kept")]
    pub procs: OwnedFd,
}

impl Group {
    /// One without a directory: for hosts without control groups, and for tests.
    pub fn absent() -> Self {
        Self::default()
    }

    pub(super) fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(super) fn set_directory(&mut self, fd: OwnedFd, above: Rc<Above>) {
        self.directory = Some(Directory { fd, above, delegated: None });
    }

    /// Takes a version 1 group in, once it is made. There is seldom more than one.
    pub(super) fn add_legacy(&mut self, legacy: Legacy) {
        self.legacy.reserve_exact(1);
        self.legacy.push(legacy);
    }

    /// Its directory in a version 1 hierarchy.
    pub(super) fn legacy_path(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.own.join(&*self.name)
    }

    /// Names the groups above by the names that all have in common.
    pub fn share(&mut self, root: &Root) {
        if let Some(directory) = &mut self.directory {
            directory.above = Rc::clone(root.above());
        }
        for legacy in &mut self.legacy {
            if let Some(common) = root.legacy.iter().find(|one| **one == legacy.hierarchy) {
                legacy.hierarchy = Rc::clone(common);
            }
        }
    }

    /// The directory in version 2; `None` when this host has no such tree: the unit's
    /// processes are then ended by its pid namespace or process group.
    pub fn path(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|it| it.above.path.join(&*self.name))
    }

    /// The group as a whole.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(|directory| directory.fd.as_fd())
    }

    /// For `CLONE_INTO_CGROUP`: where the unit's first process is made and its command, or
    /// where others are that join it.
    pub fn entry(&self, visitor: bool) -> Option<BorrowedFd<'_>> {
        let directory = self.directory.as_ref()?;
        Some(match &directory.delegated {
            Some(delegated) if visitor => delegated.beside.as_fd(),
            Some(delegated) => delegated.home.as_fd(),
            None => directory.fd.as_fd(),
        })
    }

    /// What the calling process writes `0` to in order to be in the version 1 groups.
    pub fn legacy_procs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.legacy.iter().map(|one| one.procs.as_fd())
    }

    /// Limits that were asked for and that this host cannot enforce, one line each.
    pub fn unenforced(&self) -> &[String] {
        &self.unenforced
    }

    /// Something else that was asked for and is not so.
    pub fn lacks(&mut self, what: String) {
        self.unenforced.push(what);
    }

    /// SIGKILL to every process in it and below, also to frozen ones. Those made at the
    /// same time are hit too.
    ///
    /// # Errors
    /// `Unsupported` without a directory; as write(2).
    pub fn kill(&self) -> io::Result<()> {
        let path = self.path().ok_or(io::ErrorKind::Unsupported)?;
        kill_tree(&path)
    }

    /// Freezes or thaws every process in it and below. Takes effect a little later.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn freeze(&self, on: bool) -> io::Result<()> {
        write(&self.file("cgroup.freeze")?, if on { "1" } else { "0" })
    }

    /// Whether there is a process in it or below. A zombie does not count (that its parent
    /// has not reaped it keeps nobody from removing the group).
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn populated(&self) -> io::Result<bool> {
        let events = read(&self.file("cgroup.events")?)?;
        Ok(!events.lines().any(|line| line == "populated 0"))
    }

    /// `cgroup.events`: polls as `EPOLLPRI` whenever [`Self::populated`] (or frozen) changes.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn events(&self) -> io::Result<OwnedFd> {
        Ok(std::fs::File::open(self.file("cgroup.events")?)?.into())
    }

    /// Numbers of the processes in it (not in groups that the unit has made), as the caller
    /// sees them, at most `limit`; those in other pid namespaces that the caller cannot see
    /// are left out.
    ///
    /// # Errors
    /// As [`Self::kill`].
    pub fn processes(&self, limit: usize) -> io::Result<Vec<i32>> {
        let list = |file: &str| -> io::Result<String> { read(&self.file(file)?) };
        let text = if self.is_delegated() {
            list(&format!("{HOME}/cgroup.procs"))? + &list(&format!("{BESIDE}/cgroup.procs"))?
        } else {
            list("cgroup.procs")?
        };
        let numbers = text.lines().filter_map(|line| line.parse().ok());
        Ok(numbers.filter(|&pid| pid > 0).take(limit).collect())
    }

    /// Whether the unit makes groups of its own.
    pub fn is_delegated(&self) -> bool {
        self.directory.as_ref().is_some_and(|directory| directory.delegated.is_some())
    }

    /// Makes the two groups of a unit that makes its own; once more, only takes them in.
    pub(super) fn divide(&mut self) -> io::Result<()> {
        let Some(path) = self.path() else { return Err(io::ErrorKind::Unsupported.into()) };
        let open = |name: &str| -> io::Result<OwnedFd> {
            let path = path.join(name);
            super::tree::make_directory(&path)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(&path, flags, Mode::empty())?)
        };
        let delegated = Box::new(Delegated { home: open(HOME)?, beside: open(BESIDE)? });
        if let Some(directory) = &mut self.directory {
            directory.delegated = Some(delegated);
        }
        Ok(())
    }

    /// Whether it was divided by an earlier supervisor.
    pub(super) fn was_divided(&self) -> bool {
        self.path().is_some_and(|path| path.join(HOME).is_dir() && path.join(BESIDE).is_dir())
    }

    /// Gives what the unit makes groups with to its root. What limits it stays the host's.
    ///
    /// # Errors
    /// As chown(2).
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        if !self.is_delegated() {
            return Ok(());
        }
        let home = self.file(HOME)?;
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            std::os::unix::fs::lchown(home.join(file), Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// The unit's init has made its namespaces: it goes where it is in nobody's way, so that
    /// the unit can give controllers to groups that it makes.
    ///
    /// # Errors
    /// As write(2).
    pub fn step_aside(&self, pid: i32) -> io::Result<()> {
        if !self.is_delegated() {
            return Ok(());
        }
        write(&self.file(&format!("{BESIDE}/cgroup.procs"))?, &pid.to_string())
    }

    /// What changes whenever the kernel kills one of its processes for lack of memory:
    /// polls as `EPOLLPRI` then. Version 1 has nothing like it.
    ///
    /// # Errors
    /// As [`Self::kill`]; `NotFound` where memory is not counted.
    pub fn memory_events(&self) -> io::Result<OwnedFd> {
        Ok(std::fs::File::open(self.file("memory.events")?)?.into())
    }

    /// Its path as the kernel's log names it.
    pub fn seen_as(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|it| it.above.seen_as.join(&*self.name))
    }

    /// Whether the process is in it or below. Safe only while the process cannot be
    /// replaced by another of its number: asked for a sender whose message is being read,
    /// a stranger that has just got the number of a dead one may be judged in its stead.
    ///
    /// # Errors
    /// As [`Self::kill`]; `NotFound` when there is no such process.
    pub fn holds(&self, pid: i32) -> io::Result<bool> {
        let Some(directory) = &self.directory else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let text = read(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(path.is_some_and(|path| {
            Path::new(path).starts_with(directory.above.seen_as.join(&*self.name))
        }))
    }

    /// Bytes of memory charged to it, where something counts them.
    pub fn memory(&self) -> Option<u64> {
        let file = match self.legacy_with("memory") {
            Some(group) => group.join("memory.usage_in_bytes"),
            None => self.file("memory.current").ok()?,
        };
        read(&file).ok()?.trim().parse().ok()
    }

    /// How often the kernel killed one of its processes for lack of memory, where
    /// something counts that.
    pub fn oom_kills(&self) -> Option<u64> {
        let file = match self.legacy_with("memory") {
            Some(group) => group.join("memory.oom_control"),
            None => self.file("memory.events").ok()?,
        };
        let text = read(&file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    /// Removes its directories, and the groups below that the unit has made. May be
    /// called again after an error.
    ///
    /// # Errors
    /// `EBUSY` while there are processes.
    pub fn remove(&mut self) -> Result<(), Error> {
        while let Some(legacy) = self.legacy.last() {
            let path = self.legacy_path(&legacy.hierarchy);
            remove_tree(&path).map_err(|error| Error::io("remove", &path, error))?;
            self.legacy.pop();
        }
        if let Some(path) = self.path() {
            remove_tree(&path).map_err(|error| Error::io("remove", &path, error))?;
            self.directory = None;
        }
        Ok(())
    }

    fn legacy_with(&self, controller: &str) -> Option<PathBuf> {
        let legacy = self.legacy.iter().find(|one| one.hierarchy.has(controller))?;
        Some(self.legacy_path(&legacy.hierarchy))
    }

    fn file(&self, name: &str) -> io::Result<PathBuf> {
        self.path().map(|path| path.join(name)).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// Opens `cgroup.procs` of a version 1 group for its future members.
pub(super) fn open_procs(path: &Path) -> Result<OwnedFd, Error> {
    let path = path.join("cgroup.procs");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io("open", &path, error.into()))
}

/// Removes a group and those below it, the deepest first, without recursion; one that is
/// not there is fine. At most [`REMOVE_MAX`] groups, [`DEPTH_MAX`] deep.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    // Almost always there is nothing below.
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        other => return other,
    }
    let mut trail = vec![path.to_owned()];
    for _ in 0..REMOVE_MAX {
        let Some(last) = trail.last() else { return Ok(()) };
        match first_child(last)? {
            Some(child) if trail.len() < DEPTH_MAX => match std::fs::remove_dir(&child) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    // Either it has children, or processes: then it has none and the
                    // attempt below is final.
                    trail.push(child);
                }
                Err(error) => return Err(error),
            },
            Some(_) => return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
            None => {
                std::fs::remove_dir(last)?;
                trail.pop();
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// SIGKILL to every process in a group and below. Before Linux 5.14, and in version 1, the
/// processes can only be listed: what they make at the same time takes another call. A
/// group that is not there has none.
pub(super) fn kill_tree(path: &Path) -> io::Result<()> {
    match write(&path.join("cgroup.kill"), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => kill_listed(path),
        other => other,
    }
}

/// At most [`REMOVE_MAX`] groups, [`DEPTH_MAX`] deep.
fn kill_listed(path: &Path) -> io::Result<()> {
    let mut todo = vec![(path.to_owned(), 1)];
    for _ in 0..REMOVE_MAX {
        let Some((group, depth)) = todo.pop() else { return Ok(()) };
        match kill_members(&group.join("cgroup.procs")) {
            Err(error) if is_gone(&error) => continue,
            other => other?,
        }
        for entry in std::fs::read_dir(&group).into_iter().flatten().flatten() {
            if depth < DEPTH_MAX && entry.file_type()?.is_dir() {
                todo.push((entry.path(), depth.saturating_add(1)));
            }
        }
    }
    Ok(())
}

/// Removed before it was opened, or after.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn kill_members(procs: &Path) -> io::Result<()> {
    let own = std::process::id().cast_signed();
    let list = || -> io::Result<Vec<i32>> {
        Ok(read(procs)?.lines().filter_map(|line| line.parse().ok()).collect())
    };
    let listed = list()?.into_iter().filter(|&pid| pid > 0 && pid != own);
    let opened: Vec<(i32, OwnedFd)> =
        listed.filter_map(|pid| Some((pid, pidfd::open(pid).ok()?))).collect();
    // Who is listed still is who was opened, or that one has ended and gets nothing.
    let still: HashSet<i32> = list()?.into_iter().collect();
    for (pid, opened) in opened {
        if still.contains(&pid)
            && let Err(error) = pidfd::send_signal(opened.as_fd(), libc::SIGKILL)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            return Err(error);
        }
    }
    Ok(())
}

fn first_child(path: &Path) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
