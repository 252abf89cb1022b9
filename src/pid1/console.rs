//! The console: where a machine says what it does when nobody else listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::sys::fd;

/// The kernel's console, without becoming the terminal of this process.
///
/// # Errors
/// As open(2): `ENODEV` on a machine without one.
pub fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/console", flags, Mode::empty())?)
}

/// Gives process 1 the console as its standard three, where the kernel could not open it
/// because `/dev` was empty: then they are closed, or `/dev/null`. A machine without a
/// console does without.
pub fn attach() {
    let standard = [0, 1, 2];
    if standard.iter().all(|&number| is_terminal(fd::standard(number))) {
        return;
    }
    let Ok(console) = open() else { return };
    for number in standard {
        if !is_terminal(fd::standard(number)) {
            // Nothing but the output of this process depends on it.
            let _ = fd::place(console.as_fd(), number);
        }
    }
}

fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}
