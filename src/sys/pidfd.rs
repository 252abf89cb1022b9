//! Processes by descriptor: a signal sent here never reaches a stranger.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `pidfd_open(2)`. Only safe against reuse of the number while the process is known to
/// be there: an unreaped child, or checked afterwards.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal (also real-time ones; 0 only asks whether it is there).
///
/// # Errors
/// `ESRCH` when it has been reaped, `EPERM`, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    send(pidfd, signal, 0)
}

/// The same to all of its process group, or on a kernel that cannot (before Linux 6.9) to
/// itself.
///
/// # Errors
/// As [`send_signal`].
pub fn send_signal_to_group(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP` (linux/pidfd.h).
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    match send(pidfd, signal, PROCESS_GROUP) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => send(pidfd, signal, 0),
        other => other,
    }
}

fn send(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: no pointers but null.
    super::check_long(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    })
    .map(drop)
}

/// Whether the process has ended (reaped or not).
///
/// # Errors
/// As poll(2).
pub fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    super::fd::readable_within(pidfd, 0)
}

/// What [`exit_status`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// How it ended.
    Ended(super::reap::Ended),
    /// Its parent has not reaped it yet.
    NotYet,
    /// This kernel does not tell (before Linux 6.15).
    Never,
}

/// `struct pidfd_info`, first version (linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B;

/// How a process that is not this one's child has ended, once its parent has reaped it
/// (`PIDFD_GET_INFO` of linux/pidfd.h).
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Known {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the structure has the size that the request number says.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result < 0 {
        // Kernels that know the request but not the exit refuse it for an ended process.
        return match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ESRCH) => Known::NotYet,
            _ => Known::Never,
        };
    }
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return Known::NotYet;
    }
    let signal = info.exit_code & 0x7f;
    Known::Ended(if signal == 0 {
        super::reap::Ended::Code((info.exit_code >> 8) & 0xff)
    } else {
        super::reap::Ended::Signal(signal)
    })
}

/// The process that one inside a nested pid namespace knows by `number`, among
/// `candidates` (numbers as the caller sees them): for `MAINPID=`. `None`: none of them.
///
/// # Errors
/// As `pidfd_open(2)`, except for candidates that have ended meanwhile.
pub fn find_inside(candidates: &[i32], number: i32) -> io::Result<Option<(i32, OwnedFd)>> {
    for &candidate in candidates {
        let pidfd = match open(candidate) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            other => other?,
        };
        // Read after it was opened; if it is still there after that, it was the same one.
        if inside_number(candidate) == Some(number) && !has_ended(std::os::fd::AsFd::as_fd(&pidfd))?
        {
            return Ok(Some((candidate, pidfd)));
        }
    }
    Ok(None)
}

/// Its number in the innermost pid namespace it is in.
fn inside_number(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}
