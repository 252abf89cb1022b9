//! Processes by descriptor: a signal sent here never reaches a stranger.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::reap::Ended;

/// `pidfd_open(2)`. Only safe against reuse of the number while the process is known to
/// be there: an unreaped child, or checked afterwards.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // The library takes a negative number for a mistake of the programmer.
    let pid = rustix::process::Pid::from_raw(pid.max(0)).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// The number of an open process as this one sees it; `None` once it has been reaped.
pub fn number(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
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
    Ended(Ended),
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

/// How a process that is not this one's child has ended. `pid` is its number, for which
/// `/proc` tells as long as its parent has not reaped it; after that `pidfd` does.
pub fn exit_status(pidfd: BorrowedFd<'_>, pid: i32) -> Known {
    match recorded_status(pidfd) {
        Known::Ended(ended) => Known::Ended(ended),
        // If it is still there afterwards, the number was its own.
        unknown => match zombie_status(pid) {
            Some(ended) if send_signal(pidfd, 0).is_ok() => Known::Ended(ended),
            _ => unknown,
        },
    }
}

/// What the kernel keeps for those who hold a pidfd (`PIDFD_GET_INFO` of linux/pidfd.h).
fn recorded_status(pidfd: BorrowedFd<'_>) -> Known {
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
    Known::Ended(decode(info.exit_code))
}

/// How a process has ended that is not reaped yet (proc(5), `stat`); `None`: it has not
/// ended, is gone, or may not be looked at.
fn zombie_status(pid: i32) -> Option<Ended> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace();
    if fields.next() != Some("Z") {
        return None;
    }
    // Field 52; the state was the third.
    let status = fields.nth(48)?.parse().ok()?;
    // Who may not see the status is shown 0. The same right is needed to be told that a
    // zombie has no program any more.
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(decode(status)),
        _ => None,
    }
}

/// A status as wait(2) has it.
fn decode(status: i32) -> Ended {
    match status & 0x7f {
        0 => Ended::Code((status >> 8) & 0xff),
        signal => Ended::Signal(signal),
    }
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

/// A duplicate of a descriptor of another process (`pidfd_getfd(2)`), close-on-exec.
///
/// # Errors
/// As that call: `EBADF` if it has no such number, `EPERM` without power over it.
pub fn take_descriptor(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    Ok(rustix::process::pidfd_getfd(pidfd, number, flags)?)
}

/// When a process began, on `CLOCK_BOOTTIME`, to a hundredth of a second (`proc_pid_stat(5)`).
///
/// # Errors
/// `NotFound` when there is none of this number.
pub fn began(pid: i32) -> io::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; after it comes field 3.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    let ticks: u64 = ticks.ok_or(io::ErrorKind::InvalidData)?;
    // USER_HZ is 100 on every architecture there is.
    Ok(Duration::from_millis(ticks.saturating_mul(10)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_end_is_known_before_and_after_it_was_reaped() {
        for (script, end) in [("exit 7", Ended::Code(7)), ("kill -9 $$", Ended::Signal(9))] {
            let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let pidfd = open(pid).unwrap();
            assert!(crate::sys::fd::readable_within(pidfd.as_fd(), 10_000).unwrap());
            assert_eq!(zombie_status(pid), Some(end));
            assert_eq!(exit_status(pidfd.as_fd(), pid), Known::Ended(end));
            child.wait().unwrap();
            assert_eq!(zombie_status(pid), None);
            let after = exit_status(pidfd.as_fd(), pid);
            assert!([Known::Ended(end), Known::Never].contains(&after), "{after:?}");
        }
        assert_eq!(zombie_status(i32::try_from(std::process::id()).unwrap()), None);
    }
}
