//! Descriptors: closing all others, blocking, inheritance, numbers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The most descriptors [`close_all_but`] can keep.
pub const KEEP_MAX: usize = 96;

/// Closes every descriptor above 2 that is not in `keep` (at most [`KEEP_MAX`]).
///
/// # Errors
/// `E2BIG` with too many to keep; `ENOSYS` before Linux 5.9.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    close_all_but_numbers(&[], keep)
}

/// As [`close_all_but`], with some to keep that only their numbers stand for: those that
/// a program will find.
///
/// # Errors
/// As [`close_all_but`].
pub fn close_all_but_numbers(named: &[RawFd], keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers = [0u32; KEEP_MAX];
    let Some(kept) = numbers.get_mut(..keep.len().saturating_add(named.len())) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let all = keep.iter().map(AsRawFd::as_raw_fd).chain(named.iter().copied());
    for (number, fd) in kept.iter_mut().zip(all) {
        *number = fd.unsigned_abs();
    }
    kept.sort_unstable();
    let mut first = 3u32;
    for &number in kept.iter() {
        if number > first {
            close_range(first, number.saturating_sub(1))?;
        }
        first = first.max(number.saturating_add(1));
    }
    close_range(first, u32::MAX)
}

/// In a child that shares its parent's descriptors: from now on it has its own, and of
/// those it shared only the ones below `end`.
///
/// # Errors
/// As `close_range(2)`; `ENOMEM`.
pub fn unshare_below(end: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: the parent's descriptors stay as they are; this process goes on with low ones.
    super::check_long(unsafe { libc::syscall(libc::SYS_close_range, end, u32::MAX, flags) })
        .map(drop)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing numbers this process no longer uses: only called in a child right
    // after it was made, with all the descriptors it goes on with left out.
    super::check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Sets or clears `O_NONBLOCK` of the open file.
///
/// # Errors
/// As fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let old = rustix::fs::fcntl_getfl(fd)?;
    let mut new = old;
    new.set(rustix::fs::OFlags::NONBLOCK, on);
    if new != old {
        rustix::fs::fcntl_setfl(fd, new)?;
    }
    Ok(())
}

/// Sets or clears close-on-exec of the descriptor.
///
/// # Errors
/// As fcntl(2).
pub fn set_close_on_exec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flags = if on { rustix::io::FdFlags::CLOEXEC } else { rustix::io::FdFlags::empty() };
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
}

/// A duplicate (close-on-exec) numbered at least `minimum`.
///
/// # Errors
/// As fcntl(2).
pub fn duplicate_above(fd: BorrowedFd<'_>, minimum: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, minimum)?)
}

/// Makes `number` refer to what `fd` does, inherited by programs; only in a child about
/// to execute one: whatever had the number is closed.
///
/// # Errors
/// As dup2(2).
pub fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return set_close_on_exec(fd, false);
    }
    // SAFETY: replaces a number of a child that executes a program next; the caller
    // holds no owner of that number (0 to 2, or one it has moved out of the way).
    super::check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Waits at most `milliseconds` (0: asks only) for the descriptor to have something to
/// read, an end or an error.
///
/// # Errors
/// As poll(2), except that being interrupted counts as nothing to read.
pub fn readable_within(fd: BorrowedFd<'_>, milliseconds: i32) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure that lives through the call.
    match super::check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) }) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Descriptor 0, 1 or 2 (any other number counts as 2), which stay open for the whole
/// life of a process here.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: nothing in this program ever closes these three, only replaces them.
    unsafe { BorrowedFd::borrow_raw(number.clamp(0, 2)) }
}

/// Gives a pipe (or, if asked, a terminal) to a user, who can then open it again by its
/// name, and perhaps to a group. What is neither stays whose it is.
///
/// # Errors
/// As fchown(2).
pub fn give_to(
    fd: BorrowedFd<'_>,
    uid: u32,
    gid: Option<u32>,
    terminals_too: bool,
) -> io::Result<()> {
    use rustix::fs::{FileType, Gid, Uid};
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    let terminal = terminals_too && kind == FileType::CharacterDevice;
    if kind != FileType::Fifo && !terminal {
        return Ok(());
    }
    Ok(rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw))?)
}
