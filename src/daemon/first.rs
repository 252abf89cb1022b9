//! What only process 1 does: before the supervisor begins, instead of it when it cannot
//! begin, and after it.

use super::Options;
use crate::pid1::{End, Place, command_line::CommandLine, console, ending, filesystems};
use crate::pid1::{place, rescue, root, say};
use crate::sys::{oom, power};

/// The target that a machine is rescued with.
pub const RESCUE: &str = "rescue";

/// Finds out where this is and makes it a place to work in. On a machine that is all that
/// must be there before units can be read; it may wait for the check of a root filesystem.
/// What went wrong, a sentence each; nothing of it is fatal.
pub fn begin(options: &mut Options) -> Vec<String> {
    if std::process::id() != 1 {
        return Vec::new();
    }
    filesystems::mount_proc();
    options.place = place();
    let mut troubles = filesystems::mount_missing(options.place);
    match oom::protect() {
        Ok(before) => options.oom_score = Some(before),
        // Few containers may.
        Err(_) if options.place == Place::Container => {}
        Err(error) => {
            troubles.push(format!("cannot protect process 1 from a lack of memory: {error}"));
        }
    }
    if options.place != Place::Machine {
        return troubles;
    }
    console::attach();
    if let Err(error) = power::take_ctrl_alt_del() {
        troubles.push(format!("Ctrl-Alt-Del restarts this machine at once: {error}"));
    }
    let asked = CommandLine::read();
    options.debug = asked.debug;
    options.silent = asked.quiet;
    if let Some(target) = asked.target {
        options.target = target;
    }
    match root::prepare(&options.state_dir, asked.fsck) {
        root::Prepared::Ready => {}
        root::Prepared::Reboot => {
            say("the root filesystem was repaired and must be read again");
            finish(Place::Machine, End::Reboot);
        }
        root::Prepared::Trouble(text) => {
            troubles.push(text);
            RESCUE.clone_into(&mut options.target);
        }
    }
    troubles
}

/// The supervisor cannot begin. A machine gets a shell instead, and then starts again.
pub fn cannot_begin(place: Place, why: &str) {
    if place == Place::Machine {
        rescue::shell(why);
    } else {
        say(why);
    }
}

/// The supervisor is over. On a machine this does not come back.
pub fn finish(place: Place, end: End) {
    match place {
        Place::Plain => {}
        Place::Container => ending::container(end),
        Place::Machine => loop {
            let error = ending::machine(end);
            // Never to end is all that is left to do: process 1 would take the kernel along.
            rescue::shell(&format!("the kernel does not {}: {error}", end.words()));
        },
    }
}
