//! `berthctl version`: who is who. Works without a supervisor, too.

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render;
use crate::protocol::method::Version;

/// Prints both versions, or why there is only one.
///
/// # Errors
/// The output is broken.
pub fn run(context: &mut Context) -> Result<(), Failure> {
    context.say(concat!("berthctl ", env!("CARGO_PKG_VERSION")))?;
    let answer = context
        .connect()
        .and_then(|mut client| client.call(&Version {}, &Patience::at_most(ANSWER)));
    let line = match answer {
        Ok(reply) => format!(
            "berth {} (pid {}, since {})",
            reply.version,
            reply.pid,
            super::time::local(&reply.since)
        ),
        Err(failure) => {
            let reason = failure.to_string();
            format!("berth: {}", reason.lines().next().unwrap_or_default())
        }
    };
    context.say(&render::line(&line))
}
