//! `berthctl list`: all units.

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{Color, Table};
use crate::protocol::method::List;
use crate::protocol::types::Kind;

/// Prints all units.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, json: bool, names: bool) -> Result<(), Failure> {
    let mut units = Vec::new();
    context.connect()?.stream(&List {}, &Patience::at_most(ANSWER), |page| {
        units.extend(page.units);
        Ok(())
    })?;
    if json {
        return context.json(&units);
    }
    if names {
        return units.iter().try_for_each(|unit| context.say(&super::render::line(&unit.name)));
    }
    let mut table = Table::new(&["NAME", "KIND", "STATE"]);
    for unit in units {
        table.row(vec![
            (unit.name, Color::Plain),
            (kind(unit.kind).to_owned(), Color::Plain),
            (unit.state.to_string(), Color::of_state(unit.state)),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

/// A kind as unit files write it.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "service",
        Kind::Target => "target",
        Kind::Socket => "socket",
        Kind::Timer => "timer",
    }
}
