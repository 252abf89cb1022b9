//! The brain: a pure state machine over the graph of units.
//!
//! `step(now, Input) -> [Action]`. No system call, no clock, no path, no randomness
//! but what it is handed. Facts ([`Event`]), wishes ([`Request`]) and orders
//! ([`Action`]) are three types; the loop in `daemon` turns actions into effects and
//! effects into events, and decides nothing.

pub mod action;
pub mod event;
pub mod machine;
pub mod request;
pub mod timeline;
pub mod view;

pub use action::Action;
pub use event::Event;
pub use machine::{Edge, Input, Link, Machine};
pub use request::Request;
pub use timeline::Timeline;
pub use view::UnitView;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A unit's place in the machine; kept across `apply`, never given to another name
/// while anything of the old one is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitId(pub u32);

/// One start of one unit. Never used twice by one supervisor; an event of an earlier
/// run is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run(pub u64);

/// One request whose asker waits for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// A point on the monotonic clock, as the time since the supervisor started.
/// The machine never reads a clock: the loop (or the simulator) says what time it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Time(pub Duration);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// It was not the supervisor's child (a `MAINPID` of its own) and the kernel is too
    /// old to tell.
    Unknown,
}

/// A command that runs beside or before the main one. The number is the index in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hook {
    /// `start-pre`, one after the other.
    StartPre(usize),
    /// `start-post`.
    StartPost(usize),
    /// `reload-command`.
    Reload,
    /// `stop-command`.
    Stop,
    /// `stop-post`.
    StopPost(usize),
    /// One health check.
    Health,
}
