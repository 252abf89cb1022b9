//! Children that go on running this program: reader, logger, helpers, probes.
//!
//! What must hold: the caller has one thread. The closure's code is the whole life of the
//! child: it never returns into the caller's code, also not by a panic.

use std::io;
use std::os::fd::BorrowedFd;

use super::clone::{self, Files, Process, Side};
use super::{environment, fd, limits, oom, signal};

/// What every child of this kind gets before its code runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Descriptors it keeps besides 0, 1 and 2; all others are closed.
    pub keep: &'a [BorrowedFd<'a>],
    /// SIGKILL it when the thread that made it is gone.
    pub die_with_parent: bool,
    /// `RLIMIT_AS` in bytes, soft and hard.
    pub memory: Option<u64>,
    /// `RLIMIT_CPU` in seconds, soft and hard.
    pub cpu_seconds: Option<u64>,
    /// Leave it the whole environment.
    pub environment: bool,
}

/// What such a child may ask of the environment. Nothing else stays in it, unless it is asked
/// for: the supervisor may have been given a secret by a variable that it does not know yet.
const VARIABLES: [&str; 2] = ["NO_COLOR", "TZ"];

/// Runs `code` in a new process and returns at once; what `code` returns is its exit code.
/// In the child signals are unblocked and have their default dispositions.
///
/// # Errors
/// As clone3(2).
pub fn child(options: &Options<'_>, code: impl FnOnce() -> i32) -> io::Result<Process> {
    let parent = std::process::id();
    match clone::clone3(0, None, Files::Copied)? {
        Side::Parent(process) => Ok(process),
        Side::Child => {
            // If `code` unwinds, this guard ends the child before the stack of the copied
            // parent is reached.
            let _guard = clone::ExitGuard;
            if let Err(error) = settle(options, parent) {
                eprintln!("berth: a helper process cannot be set up: {error}");
                clone::exit(1);
            }
            clone::exit(code())
        }
    }
}

fn settle(options: &Options<'_>, parent: u32) -> io::Result<()> {
    if options.die_with_parent {
        signal::die_with_parent(parent)?;
    }
    fd::close_all_but(options.keep)?;
    if !options.environment {
        environment::keep_only(&VARIABLES);
    }
    signal::reset()?;
    oom::expose()?;
    if let Some(bytes) = options.memory {
        limits::set(limits::Resource::AddressSpace, bytes)?;
    }
    if let Some(seconds) = options.cpu_seconds {
        limits::set(limits::Resource::Cpu, seconds)?;
    }
    Ok(())
}
