//! `berthctl blame`: which units took longest to start.

use serde::Serialize;

use super::{Boot, span, took};
use crate::ctl::Context;
use crate::ctl::failure::Failure;
use crate::ctl::render::{Color, Table};
use crate::protocol::insight::UnitTimes;
use crate::protocol::types::State;

/// A unit with the times of its first start, in microseconds.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    state: State,
    /// From when nothing it needs was missing until it was ready; null: it was not.
    took: Option<i64>,
    /// Until its command was ordered to run.
    preparing: Option<i64>,
    /// From then until it was ready.
    starting: Option<i64>,
    /// Until nothing it needs was missing.
    waiting: Option<i64>,
    /// When it was ready, after the supervisor began.
    ready: Option<i64>,
    /// When it went down again, or had failed.
    ended: Option<i64>,
}

/// Prints all units that were started, the slowest first.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, json: bool) -> Result<(), Failure> {
    let boot = Boot::fetch(context)?;
    let mut rows: Vec<Row> = boot.units.iter().filter_map(row).collect();
    rows.sort_by(|a, b| b.took.cmp(&a.took).then_with(|| a.name.cmp(b.name)));
    if json {
        return context.json(&rows);
    }
    let mut table = Table::new(&["     TIME", "PREPARING", " STARTING", "UNIT"]);
    for row in &rows {
        let time = |micros: Option<i64>| format!("{:>9}", micros.map_or("-".into(), span));
        let (state, color) = match (row.took, row.ended, row.state) {
            (Some(_), _, _) => (String::new(), Color::Plain),
            (None, Some(_), _) => (" (first start failed)".to_owned(), Color::Red),
            (None, None, state) => (format!(" ({state})"), Color::of_state(state)),
        };
        table.row(vec![
            (time(row.took), Color::Bold),
            (time(row.preparing), Color::Plain),
            (time(row.starting), Color::Plain),
            (format!("{}{state}", row.name), color),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

/// What there is to say of a unit; nothing of targets, which take no time of their own, and
/// of what was never started.
fn row(unit: &UnitTimes) -> Option<Row<'_>> {
    let it = unit.first.as_ref()?;
    let begun = it.preparing.or(it.starting)?;
    let between = |from: Option<i64>, to: Option<i64>| Some(to?.saturating_sub(from?));
    Some(Row {
        name: &unit.name,
        state: unit.state,
        took: took(it),
        preparing: between(Some(begun), it.starting),
        starting: between(it.starting, it.ready),
        waiting: between(it.waiting, Some(begun)),
        ready: it.ready,
        ended: it.ended,
    })
}
