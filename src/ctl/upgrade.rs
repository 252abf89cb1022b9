//! `berthctl upgrade`: another program, the same services.

use std::path::PathBuf;
use std::time::Duration;

use super::Context;
use super::client::Patience;
use super::failure::Failure;
use super::render;
use crate::protocol::method::Upgrade;

/// The new program may take its time to show that it understands the state.
const ANSWER: Duration = Duration::from_secs(60);

/// Has the supervisor become another program; returns when that one goes on.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, program: Option<PathBuf>) -> Result<(), Failure> {
    let absolute = |path: PathBuf| {
        let path = std::path::absolute(path)?;
        let wrong = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not UTF-8");
        path.into_os_string().into_string().map_err(|_| wrong())
    };
    let program = program.map(absolute).transpose().map_err(|error| {
        Failure::Usage(format!("the path of the new program cannot be used: {error}"))
    })?;
    let reply = context.connect()?.call(&Upgrade { program }, &Patience::at_most(ANSWER))?;
    context.say(&render::line(&format!("berth {} goes on where {} was", reply.version, reply.from)))
}
