//! Steps that have to do with the networks of a unit: waiting for them, sharing another's,
//! and the files that name things.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::mounts;
use crate::container::status::{self, Failure};
use crate::sys::clone::namespace::NETWORK;
use crate::sys::mount::{self, Attributes, Filesystem};
use crate::sys::namespace;

/// Waits until the supervisor says that the devices are there.
pub(super) fn wait(channel: BorrowedFd<'_>) -> Result<(), Failure> {
    Ok(status::await_leave(channel).map(drop)?)
}

/// Enters the network of a process that comes by the status channel.
pub(super) fn share(channel: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(owner) = status::await_leave(channel)? else {
        return Err(Failure::text("nobody said whose it is"));
    };
    namespace::enter(owner.as_fd(), NETWORK).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => Failure::text("the service whose network it is has ended"),
        _ => error.into(),
    })
}

/// Files in memory of their own, each mounted over the one of the root tree.
pub(super) fn files(files: &[(String, String)]) -> Result<(), Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    filesystem.set("size", "1M")?;
    let attributes = Attributes { no_suid: true, no_dev: true, no_exec: true, read_only: false };
    let memory = filesystem.mount(attributes)?;
    let mut attached = false;
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or_default();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&memory, name, flags, Mode::from_raw_mode(0o644))?;
        std::fs::File::from(file).write_all(text.as_bytes())?;
        let mut tree = mount::clone_tree(memory.as_fd(), name, false);
        if tree.as_ref().is_err_and(|it| it.raw_os_error() == Some(libc::EINVAL)) && !attached {
            // Before Linux 6.15 only what is attached can be copied. The unit does not run yet.
            mounts::put_directly(memory.as_fd(), "/proc")?;
            attached = true;
            tree = mount::clone_tree(memory.as_fd(), name, false);
        }
        put(tree?.as_fd(), path)?;
    }
    if attached {
        mount::detach(memory.as_fd())?;
    }
    Ok(())
}

fn put(tree: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    mounts::put(tree, path).map_err(|error| match error.kind() {
        // A link that leads nowhere, or a root tree without the directory that is read-only.
        io::ErrorKind::ReadOnlyFilesystem => {
            Failure::with(&error, format!("{path} is not in the root tree"))
        }
        _ => Failure::with(&error, path),
    })
}
