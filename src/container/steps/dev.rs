//! `/dev`: a tmpfs with the standard nodes and links, its own terminals, shared memory
//! and message queues.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use super::State;
use super::mounts::{INERT, put_directly};
use crate::container::status::Failure;
use crate::sys::clone::namespace as flag;
use crate::sys::mount::{self, Attributes, Filesystem, Travel};
use crate::sys::namespace;
use crate::sys::path::{self, Kind};

/// Name, major and minor number, as in the kernel's `devices.txt`.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Name and where it leads. What is written to a console of its own goes nowhere: the host's
/// is none of its business.
const LINKS: [(&str, &str); 7] = [
    ("console", "null"),
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// The group `tty` of all distributions that have one.
const TTY: u32 = 5;

/// The nodes, on a filesystem of root of the host: nobody else can make or open any.
pub(super) fn nodes((uid, gid): (u32, u32)) -> Result<OwnedFd, Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    filesystem.set("size", "64k")?;
    filesystem.set("uid", &uid.to_string())?;
    filesystem.set("gid", &gid.to_string())?;
    let attributes = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
    let dev = filesystem.mount(attributes)?;
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    for (name, major, minor) in NODES {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, device)
            .and_then(|()| rustix::fs::chownat(&dev, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|error| Failure::with(&error.into(), format!("device node {name}")))?;
    }
    Ok(dev)
}

/// Returns a handle on `null` that no path leads to: nobody can have replaced it.
pub(super) fn fill(dev: BorrowedFd<'_>, queues: Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    put_directly(dev, "/dev")?;
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    terminals(dev)?;
    let shm = Filesystem::new("tmpfs")?;
    shm.set("mode", "1777")?;
    inner(dev, "shm", mounted(&shm, INERT)?.as_fd())?;
    if let Some(queues) = queues {
        inner(dev, "mqueue", queues.as_fd())?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dev, "null", flags, Mode::empty())?)
}

impl State<'_> {
    /// A terminal that is made in the unit's own `/dev/pts` could be opened there by every
    /// process of the unit: what has a terminal sees another one.
    pub(super) fn own_terminals(&mut self) -> Result<(), Failure> {
        if self.exec.is_none_or(|exec| exec.terminal.is_none()) {
            return Ok(());
        }
        namespace::leave(flag::MOUNT)?;
        let root = path::handle("/")?;
        mount::set_propagation(root.as_fd(), true, Travel::Private)?;
        // By descriptor: `/dev` and its links are the unit's, and could lead to terminals that
        // others in there see.
        self.terminals = Some(terminals(path::open_directly_in(root.as_fd(), "/dev")?.as_fd())?);
        Ok(())
    }
}

/// A devpts on `pts`, and its top.
fn terminals(dev: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    // The maps of a user namespace may leave the group out; then a terminal is its user's
    // group's. (Which call says so depends on the kernel.)
    let terminals = match new_terminals(Some(TTY)) {
        Err(Failure { errno: libc::EINVAL, .. }) => new_terminals(None),
        other => other,
    }?;
    inner(dev, "pts", terminals.as_fd())?;
    Ok(terminals)
}

fn new_terminals(group: Option<u32>) -> Result<OwnedFd, Failure> {
    let terminals = Filesystem::new("devpts")?;
    terminals.flag("newinstance")?;
    terminals.set("ptmxmode", "0666")?;
    terminals.set("mode", "0620")?;
    if let Some(group) = group {
        terminals.set("gid", &group.to_string())?;
    }
    mounted(&terminals, Attributes { no_suid: true, no_exec: true, ..Attributes::default() })
}

/// Message queues of the ipc namespace that the process is in; `None`: a kernel without any
/// has none to show.
pub(super) fn new_queues() -> Result<Option<OwnedFd>, Failure> {
    match Filesystem::new("mqueue") {
        Ok(queues) => mounted(&queues, INERT).map(Some),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn mounted(filesystem: &Filesystem, attributes: Attributes) -> Result<OwnedFd, Failure> {
    filesystem.mount(attributes).map_err(|error| Failure::with(&error, filesystem.reason()))
}

fn inner(dev: BorrowedFd<'_>, name: &str, tree: BorrowedFd<'_>) -> Result<(), Failure> {
    let attach = || {
        let point = path::mount_point(dev, name, Kind::Directory)?;
        mount::attach(tree, point.as_fd())
    };
    attach().map_err(|error| Failure::with(&error, name))
}
