//! Pseudo-terminals for `exec -t`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// Size of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// A new terminal of a devpts filesystem (`None`: that of `/dev/ptmx`): master and slave,
/// close-on-exec.
///
/// # Errors
/// `ENOENT` without a `ptmx`, `ENOSPC` at the limit of terminals.
pub fn open(filesystem: Option<BorrowedFd<'_>>, size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = match filesystem {
        Some(directory) => rustix::fs::openat(directory, "ptmx", flags, Mode::empty())?,
        None => rustix::fs::open("/dev/ptmx", flags, Mode::empty())?,
    };
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which lives through the call.
    super::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags and no pointer.
    let slave = super::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    set_size(master.as_fd(), size)?;
    Ok((master, slave))
}

/// Changes the window's size; its foreground processes get SIGWINCH.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn set_size(master: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which lives through the call.
    super::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

/// Makes the terminal the controlling one of the calling process, which leads a session.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn take_control(slave: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}
