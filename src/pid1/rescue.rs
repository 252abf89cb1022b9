//! The last resort of a machine: a shell on the console, without the supervisor.
//!
//! For what keeps the supervisor itself from beginning. (While it runs, the rescue shell is
//! a unit like any other: `units/rescue.toml`.)

use std::process::{Command, Stdio};

use super::{console, say};
use crate::sys::job;

/// Shells that are tried, in this order; the first asks for root's password if there is one.
const SHELLS: [&[&str]; 3] = [&["sulogin"], &["sh", "-i"], &["busybox", "sh", "-i"]];

/// Says why, and runs a shell on the console until it ends; whether there was one.
pub fn shell(why: &str) -> bool {
    say(&format!("{why}\nberth: here is a shell; the machine restarts when it ends"));
    for words in SHELLS {
        let Some((program, arguments)) = words.split_first() else { continue };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Ok(console) = console::open() {
            let copies = (console.try_clone(), console.try_clone());
            if let (Ok(output), Ok(errors)) = copies {
                command.stdin(Stdio::from(console)).stdout(output).stderr(errors);
            }
        }
        // The console is its terminal: Ctrl-C reaches what it runs.
        job::place(&mut command, job::Place::Session);
        let Ok(mut child) = command.spawn() else { continue };
        // However it has ended, the machine restarts.
        let _ = child.wait();
        return true;
    }
    say("there is no shell on this machine");
    false
}
