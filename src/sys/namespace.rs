//! Entering, leaving and making namespaces: setns(2), unshare(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::clone::{self, Files, Side};
use super::path;

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

/// The inode of the first pid namespace, the same in every kernel (`PID_NS_INIT_INO` of
/// linux/nsfs.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether this is process 1 of the machine, which the kernel itself started. Without a
/// `/proc` it is not.
pub fn is_first_process() -> bool {
    std::process::id() == 1
        && std::fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == FIRST_PID_NAMESPACE)
}

/// Makes new namespaces for the calling process, owned by its user namespace. (That of
/// process numbers would only concern children made from now on.) A new view of the cgroup
/// tree is rooted at the group that the process is in now.
///
/// # Errors
/// As unshare(2).
pub fn leave(namespaces: u64) -> io::Result<()> {
    let flags = i32::try_from(namespaces).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a process of one thread gets new namespaces; no memory is concerned.
    super::check(unsafe { libc::unshare(flags) }).map(drop)
}

/// A new user namespace with these maps, in the format of `/proc/PID/uid_map`. It lives as
/// long as the descriptor. It is made by a child that ends at once, to be reaped like any
/// other; nothing is waited for.
///
/// # Errors
/// As clone3(2): `EPERM`, `ENOSPC` where user namespaces are limited, `EINVAL` on a kernel
/// without them; of the maps `EPERM` when the caller may not map these numbers.
pub fn new_user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    match clone::clone3(clone::namespace::USER, None, Files::Shared)? {
        Side::Child => clone::exit(0),
        Side::Parent(child) => {
            // Until it is reaped its number is its own, also when it has ended.
            let of_child = |name: &str| format!("/proc/{}/{name}", child.pid);
            path::write_value(&of_child("uid_map"), uid_map)?;
            path::write_value(&of_child("gid_map"), gid_map)?;
            Ok(std::fs::File::open(of_child("ns/user"))?.into())
        }
    }
}

/// Sets the host name of the calling process' UTS namespace.
///
/// # Errors
/// As sethostname(2); `EINVAL` above 64 bytes.
pub fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: `len` bytes are read from the pointer.
    super::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}
