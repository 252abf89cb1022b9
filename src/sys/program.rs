//! The program file of the running process, out of reach of those it starts.
//!
//! A process of a unit may come by `/proc/PID/exe` of a copy of the supervisor: it only has
//! to name `/proc/self/exe` as the interpreter of a script that the supervisor executes
//! there (CVE-2019-5736). What it then holds refers to the file by the mount the supervisor
//! was executed through: if that is read-only, and no path leads to it, nobody can write
//! there, neither now nor when no process executes the file any more.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use super::identity::{self, Strings};
use super::mount::{self, Attributes};
use super::{mountinfo, path};

/// Where the kernel says what the calling process executes.
const OWN: &str = "/proc/self/exe";

/// Executes the program of the calling process again, with the same arguments, environment
/// and descriptors, through a read-only mount that only this process has. Comes back at
/// once if that is what it runs through. To be called before anything else is done; the
/// first argument is then the absolute path of the program.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` without /proc or when the file is gone: the
/// process may go on as it is.
pub fn keep_from_writers() -> io::Result<()> {
    let own = path::handle(OWN)?;
    // A file system that is read-only as a whole may become writable later.
    let read_only = rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if read_only && !mountinfo::is_in_sight(own.as_fd())? {
        return Ok(());
    }
    let name = std::fs::read_link(OWN)?;
    let (argv, envp) = identity::again(&name, std::env::args_os().skip(1))?;
    for top in name.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let Ok(below) = name.strip_prefix(top) else { continue };
        let tree = mount::clone_tree(path::here(), &top.to_string_lossy(), false)?;
        if is_same(own.as_fd(), tree.as_fd(), below)? {
            let read_only = Attributes { read_only: true, ..Attributes::default() };
            mount::add_attributes(tree.as_fd(), false, read_only)?;
            return Err(execute_in(&tree, below, &argv, &envp));
        }
        // Another file system is mounted on the way to it.
    }
    Err(io::ErrorKind::NotFound.into())
}

fn is_same(own: BorrowedFd<'_>, tree: BorrowedFd<'_>, below: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(found) = rustix::fs::openat(tree, below, flags, Mode::empty()) else {
        return Ok(false);
    };
    let (own, found) = (rustix::fs::fstat(own)?, rustix::fs::fstat(found)?);
    Ok((own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
}

fn execute_in(tree: &OwnedFd, path: &Path, argv: &Strings, envp: &Strings) -> io::Error {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: path, and both lists with their final null pointers, live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            tree.as_raw_fd(),
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            0,
        )
    };
    io::Error::last_os_error()
}
