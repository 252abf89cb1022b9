//! What must be in `/run` and `/tmp` before services start: the directories that every
//! program expects, and what tmpfiles.d(5) says about a boot.
//!
//! Carried out are `d D v q Q e f F w L C p c b z Z r R` with their `+`, modes, users, groups
//! and the specifiers that stand for something here. What is left: `x X m` and all ages,
//! which are for a cleaner that a boot is not; `a A t T h H`, access control lists and
//! attributes of filesystems. Files of `user-tmpfiles.d` are for sessions.

mod act;
mod line;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use line::Line;

const DIRECTORIES: [&str; 4] =
    ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// In every machine.
const ALWAYS: &str = "\
d /tmp 1777 root root
d /var/tmp 1777 root root
d /run/lock 1777 root root
d /run/user 0755 root root
f /run/utmp 0664 root utmp
L /var/run - - - - ../run
L /var/lock - - - - ../run/lock
";

/// Removes and makes all of it; a line that fails does not keep out the others.
pub fn make() -> Vec<String> {
    let mut troubles = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    let mut read = |text: &str, file: &str, troubles: &mut Vec<String>| {
        for text in text.lines() {
            match line::parse(text, &specifier) {
                Ok(line) => lines.extend(line),
                Err(why) => troubles.push(format!("{file}: {why}")),
            }
        }
    };
    read(ALWAYS, "berth", &mut troubles);
    for path in super::drop_ins(&DIRECTORIES, ".conf") {
        let text = super::text_of(&path, &mut troubles);
        read(&text, &path.display().to_string(), &mut troubles);
    }
    let mut names = |path| names(&super::text_of(Path::new(path), &mut troubles));
    let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
    let failed =
        |line: &Line, error: &std::io::Error| format!("cannot make {} right: {error}", line.path);
    for line in &lines {
        troubles.extend(act::clear(line).err().map(|error| failed(line, &error)));
    }
    for line in &lines {
        let number = |known: &HashMap<String, u32>, name: &Option<String>| {
            // A name that nobody has leaves it to root.
            name.as_ref()
                .map(|name| name.parse().ok().or_else(|| known.get(name).copied()).unwrap_or(0))
        };
        let owner = (number(&users, &line.user), number(&groups, &line.group));
        troubles.extend(act::make(line, owner).err().map(|error| failed(line, &error)));
    }
    // They were for the time of the last boot.
    for flag in ["/etc/nologin", "/run/nologin"] {
        match fs::remove_file(flag) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                troubles.push(format!("cannot remove {flag}: {error}"));
            }
            _ => {}
        }
    }
    troubles
}

/// Those of tmpfiles.d(5) that stand for something on every machine.
fn specifier(letter: char) -> Option<String> {
    let first_line = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    };
    let fixed = match letter {
        't' => "/run",
        'S' => "/var/lib",
        'C' => "/var/cache",
        'L' => "/var/log",
        'T' => "/tmp",
        'V' => "/var/tmp",
        'h' => "/root",
        'u' | 'g' => "root",
        'U' | 'G' => "0",
        'H' => return first_line("/proc/sys/kernel/hostname"),
        'v' => return first_line("/proc/sys/kernel/osrelease"),
        'm' => return first_line("/etc/machine-id"),
        'b' => return Some(first_line("/proc/sys/kernel/random/boot_id")?.replace('-', "")),
        _ => return None,
    };
    Some(fixed.to_owned())
}

/// Names and numbers of passwd(5) or group(5), without asking anybody over a network.
fn names(text: &str) -> HashMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}
