//! `berthctl shutdown`: everything down.

use super::Context;
use super::args::How;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use crate::protocol::method::Shutdown;
use crate::protocol::types::ShutdownHow;

/// Begins the shutdown; returns when the supervisor has taken it.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, how: Option<How>) -> Result<(), Failure> {
    let how = how.map(|how| match how {
        How::Poweroff => ShutdownHow::Poweroff,
        How::Reboot => ShutdownHow::Reboot,
        How::Halt => ShutdownHow::Halt,
        How::Exit => ShutdownHow::Exit,
    });
    context.connect()?.call(&Shutdown { how }, &Patience::at_most(ANSWER))?;
    Ok(())
}
