//! Being process 1, of a machine or of a container: what is mounted first, the console, the
//! kernel's command line, the steps that bring a machine up, and the end of it.
//!
//! What must always hold: whatever fails here leads on (to the rescue shell at worst),
//! because a machine whose process 1 ends is dead. Before the loop of the supervisor
//! nothing is waited for without a bound in time, and once it runs nothing in here is
//! called by it until it is over: the steps of a boot are units (`units/`), each a process
//! `berth machine STEP` that may wait as long as its unit lets it.

pub mod command_line;
pub mod console;
pub mod drop_in;
pub mod ending;
pub mod filesystems;
pub mod fstab;
pub mod rescue;
pub mod root;
pub mod steps;

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::sys::namespace;

/// Whose process this is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Process 1 of a machine: nobody else mounts, cleans up or switches it off.
    Machine,
    /// Process 1 of a container: its end is the container's.
    Container,
    /// Any other process.
    #[default]
    Plain,
}

/// Finds out. Process 1 needs `/proc` for it: see [`filesystems::mount_proc`]. Where there
/// is none and none can be mounted, somebody else made this a container.
pub fn place() -> Place {
    if std::process::id() != 1 {
        return Place::Plain;
    }
    if namespace::is_first_process() { Place::Machine } else { Place::Container }
}

/// Whether this is process 1 of a machine. Mounts `/proc` for it if there is none.
pub fn is_machine() -> bool {
    if std::process::id() == 1 {
        filesystems::mount_proc();
    }
    place() == Place::Machine
}

/// To standard error, which is the console of a machine: where there is no log (yet, or any more).
pub fn say(text: &str) {
    // There is nobody to tell that it is gone.
    let _ = writeln!(std::io::stderr(), "berth: {text}");
}

/// How it all ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// This process exits.
    #[default]
    Exit,
    /// The machine is switched off.
    Poweroff,
    /// It starts again, by kexec if a kernel is loaded.
    Reboot,
    /// It stops and stays on.
    Halt,
}

impl End {
    /// In a sentence: "cannot …", "about to …".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Exit => "end",
            Self::Poweroff => "power off",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        }
    }
}
