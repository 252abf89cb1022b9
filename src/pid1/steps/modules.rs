//! modules-load.d(5): one module a line, and those of `modules-load=` on the kernel's
//! command line.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::pid1::command_line::CommandLine;

const DIRECTORIES: [&str; 4] = [
    "/etc/modules-load.d",
    "/run/modules-load.d",
    "/usr/local/lib/modules-load.d",
    "/usr/lib/modules-load.d",
];

/// Loads them, each for itself: one that is not there must not keep out the others.
pub fn load() -> Vec<String> {
    let mut troubles = Vec::new();
    let mut names = CommandLine::read().modules;
    let mut files = super::drop_ins(&DIRECTORIES, ".conf");
    // Debian's own list, older than the directories.
    files.push(PathBuf::from("/etc/modules"));
    for path in files {
        names.extend(listed(&super::text_of(&path, &mut troubles)));
    }
    let failed = |name: &String| {
        let status = Command::new("modprobe").args(["--", name]).stdin(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => None,
            Ok(_) => Some(format!("cannot load the module {name}")),
            Err(error) => Some(format!("cannot load the module {name}: modprobe: {error}")),
        }
    };
    troubles.extend(names.iter().filter_map(failed));
    troubles
}

fn listed(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(str::to_owned)
        .collect()
}
