//! How a call fails. Each error has a name on the wire and a sentence for people.
//!
//! What must always hold: a server never sends an error that does not fit into a
//! message, and a client can read any error, also one of a newer server.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::types::State;

/// Most bytes of any text in an error.
const TEXT_MAX: usize = 4 * 1024;

/// The answer to a call that failed. Serializes as `{"error": …, "parameters": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Error {
    /// No unit has this name.
    #[serde(rename = "org.berth.Control.NoSuchUnit")]
    NoSuchUnit {
        /// What was asked for.
        unit: String,
        /// What was perhaps meant.
        nearest: Option<String>,
    },
    /// The unit has no process to do this with.
    #[serde(rename = "org.berth.Control.NotRunning")]
    NotRunning {
        /// Which.
        unit: String,
        /// What it does instead.
        state: State,
    },
    /// It was tried and did not work.
    #[serde(rename = "org.berth.Control.Failed")]
    Failed {
        /// With which unit, if with one.
        unit: Option<String>,
        /// A sentence.
        reason: String,
    },
    /// Something that cannot be done twice at once is being done.
    #[serde(rename = "org.berth.Control.Busy")]
    Busy {
        /// A sentence: what is being done.
        reason: String,
    },
    /// It was not tried.
    #[serde(rename = "org.berth.Control.Refused")]
    Refused {
        /// A sentence: why, and what to do.
        reason: String,
    },
    /// There is no such interface.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// What was asked for.
        interface: String,
    },
    /// The interface has no such method.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// What was asked for.
        method: String,
    },
    /// The method is described but not there.
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented {
        /// What was asked for.
        method: String,
    },
    /// A parameter is missing, unknown or wrong.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// Which.
        parameter: String,
    },
    /// Only somebody else may do this.
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied {},
    /// The answer needs several replies.
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
    /// An error this version does not know. Never sent.
    #[serde(skip)]
    Unknown {
        /// Its name on the wire.
        name: String,
        /// Its parameters, as JSON.
        parameters: String,
    },
}

impl Error {
    /// The same error with its texts cut to a length that is sure to fit into a message.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self {
            Self::NoSuchUnit { unit: text, nearest: other }
            | Self::Failed { reason: text, unit: other } => {
                cut(text);
                if let Some(other) = other {
                    cut(other);
                }
            }
            Self::NotRunning { unit: text, .. }
            | Self::Busy { reason: text }
            | Self::Refused { reason: text }
            | Self::InterfaceNotFound { interface: text }
            | Self::MethodNotFound { method: text }
            | Self::MethodNotImplemented { method: text }
            | Self::InvalidParameter { parameter: text } => cut(text),
            Self::Unknown { name, parameters } => {
                cut(name);
                cut(parameters);
            }
            Self::PermissionDenied {} | Self::ExpectedMore {} => {}
        }
        self
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        text.truncate(super::char_boundary(text, TEXT_MAX));
        text.push('…');
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUnit { unit, nearest: Some(nearest) } => {
                write!(f, "no unit is called {unit}; did you mean {nearest}?")
            }
            Self::NoSuchUnit { unit, nearest: None } => {
                write!(f, "no unit is called {unit}; `berthctl list` shows all")
            }
            Self::NotRunning { unit, state } => write!(f, "{unit} is not running but {state}"),
            Self::Failed { reason, .. } | Self::Busy { reason } | Self::Refused { reason } => {
                f.write_str(reason)
            }
            Self::InterfaceNotFound { interface } => {
                write!(f, "the supervisor does not know the interface {interface}")
            }
            Self::MethodNotFound { method } | Self::MethodNotImplemented { method } => {
                write!(f, "the supervisor does not know the method {method}")
            }
            Self::InvalidParameter { parameter } => {
                write!(f, "the supervisor refuses the parameter {parameter}")
            }
            Self::PermissionDenied {} => f.write_str(
                "the supervisor does not permit it: it obeys its own user, outside of containers",
            ),
            Self::ExpectedMore {} => {
                f.write_str("the answer needs several replies: call with `more`")
            }
            Self::Unknown { name, parameters } => {
                write!(f, "the supervisor answers {name} {parameters}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inactive => "inactive",
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Frozen => "frozen",
        })
    }
}
