//! The steps that bring a machine up: `berth machine STEP`, each the command of a stock
//! unit in `units/`. One module a step.
//!
//! They run as ordinary processes, so they may wait; how long is in their units. A step
//! that has nothing to do is a success. One of them stays: `syslog`.

mod clock;
mod identity;
mod modules;
mod seed;
mod sysctl;
mod syslog;
mod temporary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::command_line::CommandLine;
use super::filesystems::mount_bpf;
use super::fstab::{self, Reach};
use super::say;
use crate::sys::net;

/// A step: its name, what it does, and its code, which answers with what went wrong.
type Step = (&'static str, &'static str, fn() -> Vec<String>);

/// Every step, in the order in which a machine needs them.
pub const STEPS: [Step; 12] = [
    ("filesystems", "check and mount what /etc/fstab names, use its swap", filesystems),
    ("network-filesystems", "the same of those behind a network", network_filesystems),
    ("modules", "load the kernel modules that modules-load.d names", modules::load),
    ("sysctl", "set what sysctl.d names", sysctl::set),
    ("hostname", "set the name in /etc/hostname", identity::hostname),
    ("machine-id", "make /etc/machine-id if there is none", identity::machine_id),
    ("random-seed", "give the kernel what was kept for it, and keep something new", seed::renew),
    ("temporary-files", "make what must be in /run and /tmp, as tmpfiles.d says", temporary::make),
    ("loopback", "bring up lo", loopback),
    ("bpf", "mount /sys/fs/bpf, which takes the kernel a while", mount_bpf),
    ("clock", "set the clock where the kernel has not, or had to guess the time zone", clock::set),
    ("syslog", "take messages at /dev/log and print them, for as long as it runs", syslog::serve),
];

/// Runs the step of this name.
pub fn run(name: &str) -> ExitCode {
    let Some((_, _, step)) = STEPS.iter().find(|(known, ..)| *known == name) else {
        let names: Vec<&str> = STEPS.iter().map(|(name, ..)| *name).collect();
        let text = format!("there is no step {name}; the steps are {}", names.join(", "));
        say(&text);
        return ExitCode::from(2);
    };
    let troubles = step();
    for trouble in &troubles {
        // The unit's log; there is nobody else to tell.
        let _ = writeln!(io::stderr(), "{trouble}");
    }
    if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn filesystems() -> Vec<String> {
    bring_up(Reach::Local)
}

fn network_filesystems() -> Vec<String> {
    bring_up(Reach::Network)
}

fn bring_up(reach: Reach) -> Vec<String> {
    let entries = match fstab::read() {
        Ok(entries) => entries,
        Err(error) => return vec![format!("cannot read /etc/fstab: {error}")],
    };
    let outcome = fstab::bring_up(&entries, reach, CommandLine::read().fsck);
    if outcome.reboot {
        // Not the root, which process 1 has checked: to mount it anew is enough.
        let _ = writeln!(io::stderr(), "a check repaired so much that it asks for a reboot");
    }
    outcome.troubles
}

fn loopback() -> Vec<String> {
    net::loopback_up()
        .err()
        .map(|error| format!("cannot bring up lo: {error}"))
        .into_iter()
        .collect()
}

/// The files of a directory of drop-ins, as in sysctl.d(5): a name in an earlier directory
/// stands for the same name in later ones; all sorted by name.
fn drop_ins(directories: &[&str], suffix: &str) -> Vec<PathBuf> {
    let mut files = std::collections::BTreeMap::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().ends_with(suffix.as_bytes()) {
                files.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    files.into_values().collect()
}

/// All of a file of settings, one that is not there says nothing; that it cannot be read is a
/// trouble.
fn text_of(path: &Path, troubles: &mut Vec<String>) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            troubles.push(format!("cannot read {}: {error}", path.display()));
        }
        String::new()
    })
}

/// The paths that exist below `root`, where `*` in a component stands for any text and `?` for
/// any character.
fn matching(root: &Path, components: &[String]) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for component in components {
        found = found.iter().flat_map(|path| step(path, component)).collect();
    }
    found
}

fn step(path: &Path, component: &str) -> Vec<PathBuf> {
    if !component.contains(['*', '?']) {
        return Some(path.join(component))
            .filter(|path| path.symlink_metadata().is_ok())
            .into_iter()
            .collect();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let named =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|it| fits(component, it)));
    named.map(|entry| entry.path()).collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when it does not fit: behind the last star, one character later.
    let mut again = None;
    loop {
        let mut rest = pattern.clone();
        match (rest.next(), name.clone().next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                pattern = rest;
                again = Some((pattern.clone(), name.clone()));
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = rest;
                name.next();
            }
            _ => {
                let Some((behind, from)) = &mut again else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, name) = (behind.clone(), from.clone());
            }
        }
    }
}
