//! `berthctl apply`: units are read again, what changed is changed.

use std::io::Write as _;
use std::path::PathBuf;

use super::Context;
use super::client::{HELPER_ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::{Apply, ApplyReply};

/// Prints the plan and waits until it is carried out; mistakes go to stderr and give exit
/// code 1, although what is right is applied.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, paths: &[PathBuf], dry_run: bool) -> Result<(), Failure> {
    let paths = paths.iter().map(absolute).collect::<Result<_, _>>()?;
    let patience = if dry_run {
        Patience::at_most(HELPER_ANSWER)
    } else {
        let text = "not waiting any longer; the supervisor goes on to apply, \
                    `berthctl status` shows how far it is";
        Patience::until_interrupt(text.to_owned())?.first_within(HELPER_ANSWER)
    };
    let (mut mistakes, mut changes) = (0_u32, false);
    context.connect()?.stream(&Apply { paths, dry_run }, &patience, |part| {
        mistakes = mistakes.saturating_add(part.mistakes);
        changes |= print(context, &part)?;
        diagnose(&part.diagnostics)
    })?;
    if !changes {
        context.say("nothing to do")?;
    }
    match mistakes {
        0 => Ok(()),
        1 => Err(Failure::Other("1 mistake; what it concerns stays as it was".to_owned())),
        n => Err(Failure::Other(format!("{n} mistakes; what they concern stays as it was"))),
    }
}

/// Prints a part of the plan at once: what follows may take its time. Whether it has any.
fn print(context: &mut Context, plan: &ApplyReply) -> Result<bool, Failure> {
    let lists = [
        ("+ add", Color::Green, &plan.add),
        ("~ change", Color::Yellow, &plan.change),
        ("↻ restart", Color::Yellow, &plan.restart),
        ("- remove", Color::Red, &plan.remove),
    ];
    for (what, color, names) in lists {
        for name in names {
            let line = format!("{} {}", context.style.paint(color, what), render::line(name));
            context.say(&line)?;
        }
    }
    context.flush()?;
    Ok(lists.iter().any(|(_, _, names)| !names.is_empty()))
}

/// Mistakes are for stderr, as they come.
fn diagnose(text: &str) -> Result<(), Failure> {
    std::io::stderr().write_all(render::lines(text).as_bytes()).map_err(Failure::Output)
}

/// As the supervisor must see it: it has another working directory.
fn absolute(path: &PathBuf) -> Result<String, Failure> {
    let full = std::path::absolute(path)
        .map_err(|error| Failure::Usage(format!("cannot apply {}: {error}", path.display())))?;
    full.into_os_string().into_string().map_err(|path| {
        Failure::Usage(format!("cannot apply {}: its name is not UTF-8", path.display()))
    })
}
