//! `/dev`: a tmpfs with the standard nodes and links, its own terminals, shared memory
//! and message queues.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

use super::State;
use super::mounts::put_directly;
use crate::container::status::Failure;
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

/// Returns a handle on `null` that no path leads to: nobody can have replaced it.
pub(super) fn fill() -> Result<OwnedFd, Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    filesystem.set("size", "64k")?;
    let attributes = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
    let dev = filesystem.mount(attributes)?;
    put_directly(dev.as_fd(), "/dev")?;
    for (name, major, minor) in NODES {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, device)
            .map_err(|error| Failure::with(&error.into(), format!("device node {name}")))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    terminals(dev.as_fd())?;
    let shm = Filesystem::new("tmpfs")?;
    shm.set("mode", "1777")?;
    inner(
        dev.as_fd(),
        "shm",
        &shm,
        Attributes { no_suid: true, no_dev: true, no_exec: true, ..attributes },
    )?;
    queues(dev.as_fd())?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&dev, "null", flags, Mode::empty())?)
}

impl State<'_> {
    /// A terminal that is made in the unit's own `/dev/pts` could be opened there by every
    /// process of the unit: what has a terminal sees another one.
    pub(super) fn own_terminals(&self) -> Result<(), Failure> {
        if self.exec.is_none_or(|exec| exec.terminal.is_none()) {
            return Ok(());
        }
        namespace::new_mount_namespace()?;
        let root = path::handle("/")?;
        mount::set_propagation(root.as_fd(), true, Travel::Private)?;
        terminals(path::open_directly_in(root.as_fd(), "/dev")?.as_fd())
    }
}

fn terminals(dev: BorrowedFd<'_>) -> Result<(), Failure> {
    let terminals = Filesystem::new("devpts")?;
    terminals.flag("newinstance")?;
    terminals.set("ptmxmode", "0666")?;
    terminals.set("mode", "0620")?;
    // The group `tty` of all distributions that have one.
    terminals.set("gid", "5")?;
    let attributes = Attributes { no_suid: true, no_exec: true, ..Attributes::default() };
    inner(dev, "pts", &terminals, attributes)
}

fn queues(dev: BorrowedFd<'_>) -> Result<(), Failure> {
    let attributes =
        Attributes { no_suid: true, no_dev: true, no_exec: true, ..Attributes::default() };
    match Filesystem::new("mqueue") {
        Ok(queues) => inner(dev, "mqueue", &queues, attributes),
        // A kernel without message queues has none to show.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn inner(
    dev: BorrowedFd<'_>,
    name: &str,
    filesystem: &Filesystem,
    attributes: Attributes,
) -> Result<(), Failure> {
    let tree = filesystem
        .mount(attributes)
        .map_err(|error| Failure::with(&error, format!("{name}: {}", filesystem.reason())))?;
    let point = path::mount_point(dev, name, Kind::Directory)?;
    Ok(mount::attach(tree.as_fd(), point.as_fd())?)
}
