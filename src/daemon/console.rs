//! `berth up`: a child that shows the services' output.
//!
//! It follows the log files like any other reader, so a terminal that is stopped holds up
//! nobody: not the logger, not a service, not the supervisor.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log::read::{self, Query};
use crate::log::render::render_line;
use crate::sys::{fork, signal};

/// The child, as the supervisor holds it.
#[derive(Debug)]
pub struct Console {
    /// Closing it tells the child to show the rest and end.
    pub lifeline: Option<OwnedFd>,
    /// To end a child whose terminal is stopped.
    pub pidfd: OwnedFd,
}

/// Starts the child; `width` is that of the longest name.
///
/// # Errors
/// No process or descriptor is left.
pub fn start(directory: &Path, since: Timestamp, width: usize) -> std::io::Result<(Console, i32)> {
    let (end, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
    let keep = [end.as_fd()];
    let options = fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
    let process = fork::child(&options, || {
        // Ctrl-C is for the supervisor; this child ends when it is told to.
        let _signals = signal::block_all();
        let Ok(end) = end.try_clone() else { return 1 };
        show(directory, since, width, end)
    })?;
    Ok((Console { lifeline: Some(lifeline), pidfd: process.pidfd }, process.pid))
}

fn show(directory: &Path, since: Timestamp, width: usize, end: OwnedFd) -> i32 {
    let mut stdout = std::io::stdout();
    let colour =
        stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let query = Query { since: Some(since), follow: true, until_fd: Some(end), ..Query::default() };
    let result = read::read(directory, query, &mut |entry| {
        let written = stdout.write_all(&render_line(&entry, colour, width));
        match written.and_then(|()| stdout.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            // Nobody else can be told.
            let _ = writeln!(std::io::stderr(), "berth: cannot show output: {error}");
            1
        }
    }
}
