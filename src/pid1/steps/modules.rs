//! modules-load.d(5): one module a line, and those of `modules-load=` on the kernel's
//! command line.

use std::fs;
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
    let mut names = CommandLine::read().modules;
    for path in super::drop_ins(&DIRECTORIES, ".conf") {
        names.extend(listed(&fs::read_to_string(path).unwrap_or_default()));
    }
    // Debian's own list, older than the directories.
    names.extend(listed(&fs::read_to_string("/etc/modules").unwrap_or_default()));
    let failed = |name: &String| {
        let status = Command::new("modprobe").args(["--", name]).stdin(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => None,
            Ok(_) => Some(format!("cannot load the module {name}")),
            Err(error) => Some(format!("cannot load the module {name}: modprobe: {error}")),
        }
    };
    names.iter().filter_map(failed).collect()
}

fn listed(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(str::to_owned)
        .collect()
}
