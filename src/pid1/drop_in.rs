//! `berth -- COMMAND`: process 1 of a container for one command and no units, as `tini --`
//! and `dumb-init` are. Hands signals on, reaps what others leave behind, and ends with the
//! command's exit code.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

use super::say;
use crate::sys::reap::{self, Ended};
use crate::sys::{job, signal};

/// What a shell says of a command that is not there, and of one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// How long one wait lasts; nothing happens then but another one.
const LONG: Duration = Duration::from_secs(3600);

/// Runs the command; the exit code of the process.
pub fn run(command: &OsStr, arguments: &[OsString]) -> ExitCode {
    let name = command.to_string_lossy();
    let fail = |code: u8, text: String| {
        say(&text);
        ExitCode::from(code)
    };
    // From now on all of them wait to be taken.
    let taken = signal::block_all().and_then(|_| reap::become_subreaper());
    if let Err(error) = taken {
        return fail(1, format!("cannot take signals: {error}"));
    }
    let mut command = Command::new(command);
    command.args(arguments);
    // The group gets what is handed on as a whole, as from a terminal.
    job::place(&mut command, job::Place::Group);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fail(NOT_FOUND, format!("there is no command {name}"));
        }
        Err(error) => return fail(NOT_EXECUTABLE, format!("cannot execute {name}: {error}")),
    };
    let pid = child.id().cast_signed();
    loop {
        match signal::wait(LONG) {
            // The latter are about the terminal of process 1, which has put itself into the
            // background.
            Ok(None | Some(libc::SIGTTIN | libc::SIGTTOU)) => {}
            Ok(Some(libc::SIGCHLD)) => {
                if let Some(ended) = reap_all(pid) {
                    return ExitCode::from(code(ended));
                }
            }
            Ok(Some(signal)) => {
                // It may have ended just now.
                let _ = signal::send_to_group(pid, signal);
            }
            Err(error) => return fail(1, format!("cannot wait for signals: {error}")),
        }
    }
}

/// Reaps everything that has ended; how the command has, if it is among it.
fn reap_all(main: i32) -> Option<Ended> {
    let mut ended = None;
    while let Ok(Some(dead)) = reap::peek() {
        match reap::reap(dead.pid) {
            Ok(Some(dead)) if dead.pid == main => ended = Some(dead.ended),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    ended
}

/// As a shell says it.
fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Code(code) => u8::try_from(code).unwrap_or(1),
        Ended::Signal(signal) => u8::try_from(signal).unwrap_or(127).saturating_add(128),
    }
}
