//! `berthctl logs`: what units wrote.

use jiff::Timestamp;

use super::Context;
use super::client::{HELPER_ANSWER, Patience};
use super::failure::Failure;
use super::render::LogLines;
use crate::protocol::method::Logs;

/// What is to be shown.
#[derive(Debug)]
pub struct Wish {
    /// Empty: all.
    pub units: Vec<String>,
    /// Only the last ones of each.
    pub lines: Option<u64>,
    /// Only what is not older.
    pub since: Option<Timestamp>,
    /// Go on.
    pub follow: bool,
    /// One object a line.
    pub json: bool,
}

/// Prints entries as they come.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, wish: Wish) -> Result<(), Failure> {
    let patience = if wish.follow { Patience::forever() } else { Patience::at_most(HELPER_ANSWER) };
    let mut lines = LogLines::new(context.style, wish.units.len() != 1);
    let call = Logs {
        units: wish.units,
        lines: wish.lines,
        since: wish.since.map(|at| at.to_string()),
        follow: wish.follow,
    };
    let result = context.connect()?.stream(&call, &patience, |page| {
        for entry in page.entries {
            if wish.json {
                context.json_line(&entry)?;
            } else {
                lines.write(context.out, entry).map_err(Failure::Output)?;
            }
        }
        context.flush()
    });
    lines.finish(context.out).map_err(Failure::Output)?;
    result
}
