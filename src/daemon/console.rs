//! A child that shows output: in `berth up` that of the services, else what berth itself
//! has to say.
//!
//! It follows the log files like any other reader, so a terminal that is stopped holds up
//! nobody: not the logger, not a service, not the supervisor. It is forked before there are
//! units, so that it holds no copy of them, and waits until it is told how wide their names
//! are.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::OWN_LOG;
use crate::log::read::{self, Query};
use crate::log::render::{render_line, render_text};
use crate::pid1::say;
use crate::sys::{fork, signal};

/// The child, as the supervisor holds it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Console {
    /// Brings the child the width of the names; closing it tells it to show the rest and end.
    #[serde(with = "crate::sys::kept")]
    pub lifeline: Option<OwnedFd>,
    /// To end a child whose terminal is stopped.
    #[serde(with = "crate::sys::kept")]
    pub pidfd: OwnedFd,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Everything, on the standard output, each line with its unit's name.
    All,
    /// What berth itself says, on the standard error.
    Own,
    /// The same without what is as it should be.
    Trouble,
}

/// Starts the child.
///
/// # Errors
/// No process or descriptor is left.
pub fn start(directory: &Path, since: Timestamp, what: Show) -> std::io::Result<(Console, i32)> {
    let (end, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
    let keep = [end.as_fd()];
    let options = fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
    let process = fork::child(&options, || {
        // Ctrl-C is for the supervisor; this child ends when it is told to.
        if signal::ignore_all().is_err() {
            return 1;
        }
        let Ok(end) = end.try_clone() else { return 1 };
        show(directory, since, what, end)
    })?;
    Ok((Console { lifeline: Some(lifeline), pidfd: process.pidfd }, process.pid))
}

impl Console {
    /// From now on output is shown; the longest name of a unit has `width` bytes.
    pub fn begin(&self, width: usize) {
        if let Some(lifeline) = &self.lifeline {
            // One byte into an empty pipe cannot fail but for the child's end, of which
            // the reaper tells. A name has at most 64 bytes.
            let _ = rustix::io::write(lifeline, &[u8::try_from(width).unwrap_or(u8::MAX)]);
        }
    }
}

/// Waits for [`Console::begin`]; `None`: it never comes, nothing is to be shown.
fn width(end: &OwnedFd) -> Option<usize> {
    let mut byte = [0; 1];
    loop {
        match rustix::io::read(end, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1..) => return byte.first().map(|&width| width.into()),
            Ok(0) | Err(_) => return None,
        }
    }
}

/// Whether a message only says that a unit is in a state it may well be in, `web: running:
/// ready after 2ms` (`effects::announce`). What is not as it should be ends in another one.
fn is_routine(text: &[u8]) -> bool {
    let mut parts = text.split(|&byte| byte == b':').map(<[u8]>::trim_ascii).skip(1);
    let states: [&[u8]; 7] =
        [b"waiting", b"preparing", b"starting", b"running", b"stopping", b"inactive", b"done"];
    parts.next().is_some_and(|state| states.contains(&state))
}

fn show(directory: &Path, since: Timestamp, what: Show, end: OwnedFd) -> i32 {
    let Some(width) = width(&end) else { return 0 };
    let mut stdout = std::io::stdout();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let colour = stdout.is_terminal() && !no_colour;
    let units = match what {
        Show::All => Vec::new(),
        Show::Own | Show::Trouble => vec![OWN_LOG.to_owned()],
    };
    let query = Query { units, since: Some(since), follow: true, until_fd: Some(end), lines: None };
    let result = read::read(directory, query, &mut |entry| {
        let written = match what {
            Show::All => {
                stdout.write_all(&render_line(&entry, colour, width)).and_then(|()| stdout.flush())
            }
            Show::Trouble if is_routine(&entry.text) => Ok(()),
            Show::Own | Show::Trouble => {
                // What a unit has said of itself may be in it. In one write: the standard
                // error keeps nothing back, and a serial line is slow.
                let line = format!("berth: {}\n", render_text(&entry.text));
                std::io::stderr().write_all(line.as_bytes())
            }
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("cannot show output: {error}"));
            1
        }
    }
}
