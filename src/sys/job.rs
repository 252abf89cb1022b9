//! Commands that a person gives and watches: their process group, terminal and signals.
//!
//! What must hold: such a command begins as a shell would begin it, with no signal blocked
//! and, if it gets the terminal, in its foreground before its first instruction. (Whoever
//! reads from a terminal in the background is stopped, or gets an error: `credentials(7)`,
//! `setpgid(2)`. Whoever starts with signals blocked cannot be told to end.)

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::signal;

/// Where a command stands among the processes of its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It leads a process group of its own, which is the foreground one of the terminal on its
    /// standard input if the caller's was.
    Group,
    /// It leads a session of its own, whose terminal is the one on its standard input.
    Session,
}

/// To be called last: the command will begin there, with no signal blocked.
pub fn place(command: &mut Command, place: Place) {
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(move || enter(place)) };
}

/// In the child, which has every signal blocked that its parent has.
fn enter(place: Place) -> io::Result<()> {
    match place {
        Place::Group => {
            let front = is_in_front();
            rustix::process::setpgid(None, None)?;
            if front {
                // From the background this would stop it.
                signal::block()?;
                // SAFETY: neither call takes a pointer. It fails where the terminal is not of
                // this session: then nobody is stopped for reading from it.
                unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid()) };
            }
        }
        Place::Session => {
            rustix::process::setsid()?;
            // SAFETY: the call takes a number. It fails where there is no terminal, or one of
            // another session: then it has none.
            unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
        }
    }
    signal::reset()
}

/// Whether the calling process may read from the terminal on its standard input. Both numbers
/// are 0 where the group is of an outer pid namespace, which the library takes for an error.
fn is_in_front() -> bool {
    // SAFETY: neither call takes a pointer.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgid(0) }
}
