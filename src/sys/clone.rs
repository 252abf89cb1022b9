//! clone3(2): the one way a process is made here.
//!
//! What must hold: the caller has one thread. Then the child is a complete copy of a
//! consistent process and may run ordinary Rust until it executes a program or exits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Namespaces for [`clone3`], `CLONE_NEW*` of clone(2).
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Process numbers.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// System V IPC and message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// View of the cgroup tree.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Network devices.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// User and group numbers, and what capabilities are worth.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
}

/// How a child comes to its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// It gets a copy of all of them.
    Copied,
    /// The parent's, until [`super::fd::unshare_below`]: the child must do nothing with
    /// descriptors before that.
    Shared,
}

const CLONE_FILES: u64 = libc::CLONE_FILES as u64;
pub(super) const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child that was made and has not been reaped. Dropping it closes the descriptor and
/// leaves the process alone: the reaper finds it by its number.
#[derive(Debug)]
pub struct Process {
    /// Its number as the caller sees it.
    pub pid: i32,
    /// Refers to it also after its number has been given to another.
    pub pidfd: OwnedFd,
}

/// Which side of a [`clone3`] one is on.
#[derive(Debug)]
pub enum Side {
    /// The caller: here is the child.
    Parent(Process),
    /// The new process.
    Child,
}

/// `struct clone_args` of the kernel, version 2.
#[repr(C, align(8))]
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

/// Makes a child with the given new namespaces, straight in the given cgroup.
///
/// The child gets SIGCHLD as its exit signal and must end by `exec` or [`exit`]: it must
/// not return into code that believes to be the parent. [`super::fork`] is the safe form.
///
/// # Errors
/// As clone3(2): `EAGAIN` and `ENOMEM` at limits, `ENOSYS` before Linux 5.3, `EBUSY` when
/// the cgroup has controllers enabled for its children.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>, files: Files) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = Arguments {
        flags: namespaces | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        ..Arguments::default()
    };
    if files == Files::Shared {
        arguments.flags |= CLONE_FILES;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the structure has the layout of `struct clone_args`, version 2 (88 bytes), and
    // lives through the call, as does `pidfd`. No CLONE_VM and no stack is given: the child
    // goes on in a copy of this memory, as after fork.
    let made = super::check_long(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<Arguments>())
    });
    let (result, joins) = match made {
        // The profile of a container around this one, which cannot look at what the
        // arguments point to, and so lets nobody use it.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            (clone(arguments.flags & !CLONE_INTO_CGROUP, &mut pidfd)?, cgroup)
        }
        other => (other?, None),
    };
    if result == 0 {
        if let Some(cgroup) = joins
            && join(cgroup).is_err()
        {
            // Outside of its group it would be out of reach.
            exit(PANICKED);
        }
        return Ok(Side::Child);
    }
    // SAFETY: in the parent the kernel has stored a new descriptor, owned by nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    Ok(Side::Parent(Process { pid, pidfd }))
}

/// clone(2) in place of clone3(2): the same but for the cgroup.
fn clone(flags: u64, pidfd: &mut libc::c_int) -> io::Result<libc::c_long> {
    let flags = flags | u64::from(libc::SIGCHLD.unsigned_abs());
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no CLONE_VM and no stack: the child goes on in a copy of this memory, as after
    // fork. With CLONE_PIDFD the kernel stores the descriptor where the third argument says.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_clone, flags, none, std::ptr::from_mut(pidfd), none, none)
    })
}

/// The calling process moves into a group.
fn join(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = rustix::fs::openat(cgroup, "cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(&procs, b"0")?;
    Ok(())
}

/// Ends a child at once: no destructors, no buffers, no exit handlers of the parent.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(code) }
}

/// Exit code of a child whose code panicked.
pub const PANICKED: i32 = 101;

/// Ends the process when it is dropped: held in the outermost frame of a child's code, so
/// that an unwinding panic never reaches the frames copied from its parent.
#[derive(Debug)]
pub struct ExitGuard;

impl Drop for ExitGuard {
    fn drop(&mut self) {
        exit(PANICKED);
    }
}
