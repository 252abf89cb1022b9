//! `berthctl secret`: which secrets there are, and those that berth keeps itself.
//!
//! What must always hold: a value is read into memory that is locked and wiped, and is sent
//! only once the supervisor's helper has said that it is there to take it.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use super::Context;
use super::args::SecretVerb;
use super::client::{HELPER_ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color, Table};
use crate::protocol::method::{RemoveSecret, Secrets, SetSecret};
use crate::protocol::types::{Secret, SecretFrom};
use crate::sys::guarded::Guarded;
use crate::unit::limits::SECRET_BYTES;

/// Carries out one of the verbs.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, verb: SecretVerb) -> Result<(), Failure> {
    match verb {
        SecretVerb::Ls { json } => list(context, json),
        SecretVerb::Set { secret } => set(context, secret),
        SecretVerb::Rm { secret } => {
            let patience = Patience::at_most(HELPER_ANSWER);
            context.connect()?.call(&RemoveSecret { secret }, &patience).map(drop)
        }
    }
}

fn set(context: &Context, secret: String) -> Result<(), Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let text = format!(
            "`secret set` reads the value from standard input, and a terminal would show it: \
             try `read -rs V; printf %s \"$V\" | berthctl secret set {}`",
            render::line(&secret)
        );
        return Err(Failure::Usage(text));
    }
    let value = Guarded::read(stdin.as_fd(), SECRET_BYTES).map_err(|error| {
        Failure::Other(match error.raw_os_error() {
            Some(libc::EFBIG) => format!("it has more than {} KiB", SECRET_BYTES >> 10),
            _ => format!("standard input: {error}"),
        })
    })?;
    if value.bytes().is_empty() {
        return Err(Failure::Other("standard input is empty".to_owned()));
    }
    context.connect()?.hand_over(&SetSecret { secret }, value.bytes()).map(drop)
}

fn list(context: &mut Context, json: bool) -> Result<(), Failure> {
    let mut secrets = Vec::new();
    context.connect()?.stream(&Secrets {}, &Patience::at_most(HELPER_ANSWER), |page| {
        secrets.extend(page.secrets);
        Ok(())
    })?;
    if json {
        return context.json(&secrets);
    }
    let mut table = Table::new(&["NAME", "FROM", "STATE", "USED BY"]);
    for secret in secrets {
        let (state, color) = state(&secret);
        let users = if secret.users.is_empty() { "-".to_owned() } else { secret.users.join(" ") };
        table.row(vec![
            (secret.name.clone(), Color::Plain),
            (from(&secret), Color::Plain),
            (state, color),
            (users, Color::Plain),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

fn from(secret: &Secret) -> String {
    let place = secret.place.as_deref().unwrap_or_default();
    match secret.from {
        SecretFrom::Stored => "stored".to_owned(),
        SecretFrom::File => format!("file {place}"),
        SecretFrom::Environment => format!("variable {place}"),
    }
}

fn state(secret: &Secret) -> (String, Color) {
    match (&secret.problem, secret.declared) {
        (Some(problem), _) => (problem.clone(), Color::Red),
        (None, true) => ("there".to_owned(), Color::Green),
        (None, false) => ("in no unit file".to_owned(), Color::Yellow),
    }
}
