//! Entering and leaving namespaces: setns(2) and unshare(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::clone::namespace::{CGROUP, MOUNT};

/// Moves the calling thread into namespaces (`CLONE_NEW*` bits of [`super::clone`]) of the
/// process of a pidfd, or into the one namespace that a descriptor of nsfs refers to. For
/// the pid namespace this only concerns children made from now on.
///
/// # Errors
/// `ESRCH` when the process has ended; `EPERM`.
pub fn enter(fd: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    let flags = i32::try_from(namespaces).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: no pointers.
    super::check(unsafe { libc::setns(fd.as_raw_fd(), flags) }).map(drop)
}

/// The pid namespace in which the calling process makes its children.
///
/// # Errors
/// As open(2); there must be a `/proc`.
pub fn own_pid_namespace() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/self/ns/pid_for_children")?.into())
}

/// A new view of the cgroup tree for the calling process, rooted at its own group. (With
/// clone3 the view would be rooted at the parent's group.)
///
/// # Errors
/// As unshare(2).
pub fn new_cgroup_namespace() -> io::Result<()> {
    let flags = i32::try_from(CGROUP).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a process of one thread gets a new cgroup namespace; no memory is concerned.
    super::check(unsafe { libc::unshare(flags) }).map(drop)
}

/// A copy of the calling process' mounts, for itself. As with any copy, what is mounted in
/// a shared mount still travels.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; as unshare(2).
pub fn new_mount_namespace() -> io::Result<()> {
    let flags = i32::try_from(MOUNT).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a process of one thread gets a new mount namespace; no memory is concerned.
    super::check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Sets the host name of the calling process' UTS namespace.
///
/// # Errors
/// As sethostname(2); `EINVAL` above 64 bytes.
pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: `len` bytes are read from the pointer.
    super::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}
