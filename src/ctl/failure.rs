//! How a verb fails: the sentence and the exit code.
//!
//! What must always hold: every failure has a code of the table in `docs/control.md`
//! (1 failed, 2 usage, 3 not running, 4 no such unit, 5 no supervisor), and the first line
//! on stderr says what could not be done and why.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::{Error, FrameError};

/// Why a verb could not be carried out.
#[derive(Debug)]
pub enum Failure {
    /// Nobody answers on the socket.
    NoSupervisor {
        /// Where one was looked for.
        socket: PathBuf,
        /// What was found instead.
        reason: io::Error,
    },
    /// Somebody listens and says nothing for so long.
    Silence(Duration),
    /// The supervisor says so.
    Answered(Error),
    /// The supervisor's answer makes no sense.
    Garbage(FrameError),
    /// The other end is closed and the answer not complete: the supervisor has ended, or
    /// the process of it that was answering was killed.
    HungUp,
    /// The request is longer than a message may be.
    RequestTooLong,
    /// The connection, or the terminal, broke.
    Io(io::Error),
    /// Our own output cannot be written.
    Output(io::Error),
    /// The arguments make no sense; clap could not know.
    Usage(String),
    /// Something else, in one sentence.
    Other(String),
    /// Ctrl-C while waiting. The text says what goes on without us.
    Interrupted(String),
    /// It has all been said; only the exit code is left.
    Said(u8),
}

impl Failure {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Answered(Error::NoSuchUnit { .. }) => 4,
            Self::NoSupervisor { .. } | Self::Silence(_) => 5,
            Self::Usage(_) => 2,
            Self::Interrupted(_) => 130,
            // Whoever reads our output has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Said(code) => *code,
            Self::Answered(_)
            | Self::Garbage(_)
            | Self::HungUp
            | Self::RequestTooLong
            | Self::Io(_)
            | Self::Output(_)
            | Self::Other(_) => 1,
        }
    }

    /// Tells the user, on stderr. `doing` is what the verb was about: `start web`.
    pub fn report(&self, doing: &str) {
        match self {
            Self::Said(_) => {}
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Interrupted(text) | Self::Usage(text) => complain(text),
            // The supervisor's own sentences may begin with the same words.
            Self::Answered(Error::Failed { reason, .. }) if reason.starts_with("cannot ") => {
                complain(reason);
            }
            _ => complain(&format!("cannot {doing}: {self}")),
        }
    }
}

/// One line on stderr, or more where the text has more. That stderr cannot be written is
/// nothing that could be told to anybody.
pub fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "berthctl: {}", super::render::lines(text));
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSupervisor { socket, reason } => {
                write!(f, "no supervisor answers at {}: ", socket.display())?;
                f.write_str(advice(reason).as_ref())
            }
            Self::Silence(patience) => {
                let patience = humantime::format_duration(*patience);
                write!(f, "the supervisor has not answered for {patience}")
            }
            Self::Answered(error) => error.fmt(f),
            Self::Garbage(error) => write!(f, "the supervisor sent {error}"),
            Self::HungUp => f.write_str("the connection was closed before the answer was complete"),
            Self::RequestTooLong => f.write_str("too many or too long arguments for one request"),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
            Self::Usage(text) | Self::Other(text) | Self::Interrupted(text) => f.write_str(text),
            Self::Said(code) => write!(f, "exit code {code}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Why nobody answers and what to do.
fn advice(reason: &io::Error) -> std::borrow::Cow<'static, str> {
    match reason.kind() {
        io::ErrorKind::NotFound => "there is no such socket\n\
             start one with `berth up FILE`, or say where it runs with --runtime-dir DIR"
            .into(),
        io::ErrorKind::ConnectionRefused => "the one that made this socket has ended\n\
             start it again, or say where another one runs with --runtime-dir DIR"
            .into(),
        io::ErrorKind::PermissionDenied => "only root may talk to it\n\
             try again as root, or start berth with --control-group to look"
            .into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "too many clients wait for it already\ntry again later".into()
        }
        _ => reason.to_string().into(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answered(error)
    }
}
