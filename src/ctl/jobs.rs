//! The verbs that change units: one reply a unit, in the order in which they end.
//!
//! What must always hold: every unit whose job failed has its own line on stderr; the exit
//! code is 1 if there was one. Ctrl-C ends the waiting, never the job.

use super::Context;
use super::args::Job;
use super::client::{ANSWER, Patience};
use super::failure::{Failure, complain};
use crate::protocol::Method;
use crate::protocol::method::{Freeze, JobReply, Kill, Reload, Reset, Restart, Start, Stop, Thaw};

/// `start`
///
/// # Errors
/// See [`Failure`].
pub fn start(context: &mut Context, job: Job) -> Result<(), Failure> {
    let (units, wait) = (unique(job.units), !job.no_wait);
    let patience = patience("start", &units, wait)?;
    carry_out(context, "start", &Start { units, wait }, &patience)
}

/// `stop`
///
/// # Errors
/// See [`Failure`].
pub fn stop(context: &mut Context, job: Job) -> Result<(), Failure> {
    let (units, wait) = (unique(job.units), !job.no_wait);
    let patience = patience("stop", &units, wait)?;
    carry_out(context, "stop", &Stop { units, wait }, &patience)
}

/// `restart`
///
/// # Errors
/// See [`Failure`].
pub fn restart(context: &mut Context, job: Job) -> Result<(), Failure> {
    let (units, wait) = (unique(job.units), !job.no_wait);
    let patience = patience("restart", &units, wait)?;
    carry_out(context, "restart", &Restart { units, wait }, &patience)
}

/// `reload`
///
/// # Errors
/// See [`Failure`].
pub fn reload(context: &mut Context, job: Job) -> Result<(), Failure> {
    let (units, wait) = (unique(job.units), !job.no_wait);
    let patience = patience("reload", &units, wait)?;
    carry_out(context, "reload", &Reload { units, wait }, &patience)
}

/// `reset`
///
/// # Errors
/// See [`Failure`].
pub fn reset(context: &mut Context, job: Job) -> Result<(), Failure> {
    let (units, wait) = (unique(job.units), !job.no_wait);
    let patience = patience("reset", &units, wait)?;
    carry_out(context, "reset", &Reset { units, wait }, &patience)
}

/// `kill`
///
/// # Errors
/// See [`Failure`].
pub fn kill(context: &mut Context, units: Vec<String>, signal: i32) -> Result<(), Failure> {
    let units = unique(units);
    carry_out(context, "send a signal to", &Kill { units, signal }, &Patience::at_most(ANSWER))
}

/// `freeze`
///
/// # Errors
/// See [`Failure`].
pub fn freeze(context: &mut Context, units: Vec<String>) -> Result<(), Failure> {
    let patience = Patience::at_most(ANSWER);
    carry_out(context, "freeze", &Freeze { units: unique(units) }, &patience)
}

/// `thaw`
///
/// # Errors
/// See [`Failure`].
pub fn thaw(context: &mut Context, units: Vec<String>) -> Result<(), Failure> {
    let patience = Patience::at_most(ANSWER);
    carry_out(context, "thaw", &Thaw { units: unique(units) }, &patience)
}

/// How long to wait for the replies of a job that may take its time.
fn patience(verb: &str, units: &[String], wait: bool) -> Result<Patience, Failure> {
    if !wait {
        return Ok(Patience::at_most(ANSWER));
    }
    let names = units.join(" ");
    Patience::until_interrupt(format!(
        "not waiting any longer; the supervisor goes on to {verb} {names}, \
         `berthctl status {names}` shows how far it is"
    ))
}

fn carry_out<M: Method<Reply = JobReply>>(
    context: &Context,
    verb: &str,
    parameters: &M,
    patience: &Patience,
) -> Result<(), Failure> {
    let mut failed = false;
    context.connect()?.stream(parameters, patience, |reply| {
        if let Some(error) = reply.error {
            failed = true;
            if error.starts_with("cannot ") {
                complain(&error);
            } else {
                complain(&format!("cannot {verb} {}: {error}", reply.unit));
            }
        }
        Ok(())
    })?;
    if failed { Err(Failure::Said(1)) } else { Ok(()) }
}

/// Each name once, in the order given: `start a a` starts `a`.
fn unique(units: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    units.into_iter().filter(|unit| seen.insert(unit.clone())).collect()
}
