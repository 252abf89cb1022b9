//! `berthctl events`: changes of state as they happen.

use jiff::Timestamp;

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::Events;
use crate::protocol::types::Event;

/// Prints events until the supervisor ends or the user has seen enough.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, since: Option<Timestamp>, json: bool) -> Result<(), Failure> {
    let call = Events { since: since.map(|at| at.to_string()) };
    let patience = Patience::forever().first_within(ANSWER);
    context.connect()?.stream(&call, &patience, |reply| match reply.event {
        None => Ok(()),
        Some(event) if json => context.json_line(&event),
        Some(event) => {
            let line = line(context, &event);
            context.say(&line)?;
            context.flush()
        }
    })
}

fn line(context: &Context, event: &Event) -> String {
    let style = context.style;
    let time = style.paint(Color::Dim, &super::time::local(&render::line(&event.time)));
    let color = if event.grave { Color::Red } else { Color::of_state(event.state) };
    let state = style.paint(color, &event.state.to_string());
    let mut line = format!("{time} {} {state}", render::line(&event.unit));
    if !event.why.is_empty() {
        line = format!("{line}: {}", render::line(&event.why));
    } else if let Some(exit) = event.exit {
        line = format!("{line}: {}", render::exit(exit));
    }
    line
}
