//! `berthctl version`: who is who. Works without a supervisor, too.

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::{Version, VersionReply};

/// Prints both versions, or why there is only one.
///
/// # Errors
/// The output is broken.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    context.say(concat!("berthctl ", env!("CARGO_PKG_VERSION")))?;
    let answer = context
        .connect()
        .and_then(|mut client| client.call(&Version {}, &Patience::at_most(ANSWER)));
    match answer {
        Ok(reply) => {
            let since = super::time::local(&reply.since);
            let line = format!("berth {} (pid {}, since {since})", reply.version, reply.pid);
            context.say(&render::line(&line))?;
            unwritten(context, &reply)
        }
        Err(failure) => {
            let reason = failure.to_string();
            let line = format!("berth: {}", reason.lines().next().unwrap_or_default());
            context.say(&render::line(&line))
        }
    }
}

/// What the supervisor cannot write down now, which a person should know.
pub(super) fn unwritten(context: &mut Context, reply: &VersionReply) -> Result<(), Failure> {
    for trouble in reply.unwritten.iter().flatten() {
        let line = context.style.paint(Color::Yellow, &render::line(trouble));
        context.say(&line)?;
    }
    Ok(())
}
