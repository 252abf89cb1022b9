//! `berthctl volume`: which volumes there are, and deleting them.

use super::Context;
use super::args::VolumeVerb;
use super::client::{HELPER_ANSWER, Patience};
use super::failure::{Failure, complain};
use super::render::{self, Color, Table};
use crate::protocol::insight::Volume;
use crate::protocol::method::{RemoveVolume, Volumes};

/// Lists or deletes volumes.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, verb: VolumeVerb) -> Result<(), Failure> {
    match verb {
        VolumeVerb::Ls { json: true } => {
            let volumes = fetch(context, true)?;
            context.json(&volumes)
        }
        VolumeVerb::Ls { json: false } => list(context),
        VolumeVerb::Rm { volumes } => remove(context, &volumes),
        VolumeVerb::Prune { dry_run } => prune(context, dry_run),
    }
}

fn fetch(context: &Context, sizes: bool) -> Result<Vec<Volume>, Failure> {
    let mut volumes = Vec::new();
    // Counting what is in large ones takes as long as it takes.
    let patience = if sizes {
        Patience::until_interrupt("interrupted".to_owned())?
    } else {
        Patience::at_most(HELPER_ANSWER)
    };
    context.connect()?.stream(&Volumes { sizes }, &patience, |page| {
        volumes.extend(page.volumes);
        Ok(())
    })?;
    Ok(volumes)
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let mut table = Table::new(&["NAME", "SIZE", "USED BY", "PATH"]);
    for volume in fetch(context, true)? {
        let (users, color) = match (volume.users.is_empty(), volume.declared) {
            (false, _) => (volume.users.join(" "), Color::Plain),
            (true, true) => ("nobody".to_owned(), Color::Dim),
            (true, false) => ("nobody (no unit file has it)".to_owned(), Color::Yellow),
        };
        table.row(vec![
            (volume.name, Color::Plain),
            (volume.size.map_or_else(String::new, render::size), Color::Plain),
            (users, color),
            (volume.path.unwrap_or_else(|| "(not made yet)".to_owned()), Color::Dim),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

/// Each by itself: one that cannot be deleted keeps none of the others.
fn remove(context: &mut Context, volumes: &[String]) -> Result<(), Failure> {
    let mut failed = false;
    for name in volumes {
        match remove_one(context, name) {
            Ok(()) => context.say(&format!("{}: deleted", render::line(name)))?,
            Err(failure @ Failure::Answered(_)) => {
                complain(&format!("cannot delete the volume {}: {failure}", render::line(name)));
                failed = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    if failed { Err(Failure::Said(1)) } else { Ok(()) }
}

fn remove_one(context: &Context, name: &str) -> Result<(), Failure> {
    let patience = Patience::until_interrupt(format!("{name} goes on being deleted"))?;
    context.connect()?.call(&RemoveVolume { volume: name.to_owned() }, &patience)?;
    Ok(())
}

fn prune(context: &mut Context, dry_run: bool) -> Result<(), Failure> {
    let all = fetch(context, dry_run)?;
    let unused = all.into_iter().filter(|it| {
        it.path.is_some() && !it.declared && it.users.is_empty() && it.running.is_empty()
    });
    if !dry_run {
        let names: Vec<String> = unused.map(|volume| volume.name).collect();
        if names.is_empty() {
            return context.say("nothing to delete: a unit file has each volume that is there");
        }
        return remove(context, &names);
    }
    for volume in unused {
        let size = volume.size.map_or_else(String::new, render::size);
        context.say(&format!("{}: {size}, would be deleted", render::line(&volume.name)))?;
    }
    Ok(())
}
