//! `berthctl apply`: units are read again, what changed is changed.

use std::path::PathBuf;

use super::Context;
use super::client::{HELPER_ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::{Apply, ApplyReply};

/// Prints the plan; mistakes go to stderr and give exit code 1, although what is right was
/// applied.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, paths: &[PathBuf], dry_run: bool) -> Result<(), Failure> {
    let paths = paths.iter().map(absolute).collect::<Result<_, _>>()?;
    let mut plan = ApplyReply::default();
    let patience = Patience::AtMost(HELPER_ANSWER);
    context.connect()?.stream(&Apply { paths, dry_run }, &patience, |part| {
        plan.join(part);
        Ok(())
    })?;
    print(context, &plan)?;
    context.flush()?;
    if !plan.diagnostics.is_empty() {
        use std::io::Write as _;
        let text = render::lines(plan.diagnostics.trim_end());
        writeln!(std::io::stderr(), "{text}").map_err(Failure::Output)?;
    }
    match plan.mistakes {
        0 => Ok(()),
        1 => Err(Failure::Other("1 mistake; what it concerns stays as it was".to_owned())),
        n => Err(Failure::Other(format!("{n} mistakes; what they concern stays as it was"))),
    }
}

fn print(context: &mut Context, plan: &ApplyReply) -> Result<(), Failure> {
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
    if lists.iter().all(|(_, _, names)| names.is_empty()) {
        context.say("nothing to do")?;
    }
    Ok(())
}

/// As the supervisor must see it: it has another working directory.
fn absolute(path: &PathBuf) -> Result<String, Failure> {
    let full = std::path::absolute(path)
        .map_err(|error| Failure::Usage(format!("cannot apply {}: {error}", path.display())))?;
    full.into_os_string().into_string().map_err(|path| {
        Failure::Usage(format!("cannot apply {}: its name is not UTF-8", path.display()))
    })
}
