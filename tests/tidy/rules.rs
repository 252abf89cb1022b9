//! The rules. Each is a pure function from files to what is wrong with them, one line
//! `FILE:LINE: …` each, so that a control can show that it catches what it is for.

use std::collections::BTreeMap;

use crate::source::{Source, paths, words};

/// A file that is longer has more than one job.
const LONGEST: usize = 500;

/// What a room may use: other rooms, each whole or only one module of it.
pub type Rooms = BTreeMap<String, Vec<(String, Option<String>)>>;

/// Reads the table of rooms from the page on architecture. Its rows are
/// `` | `src/room/` | … | may use | ``.
pub fn rooms(page: &str) -> Rooms {
    let mut rooms = Rooms::new();
    for row in page.lines().filter(|line| line.starts_with("| `src/")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
        let room = first.trim_matches('`').trim_start_matches("src/").trim_end_matches('/');
        let may_use = match *last {
            "–" => Vec::new(),
            "all above" => rooms.keys().map(|room| (room.clone(), None)).collect(),
            several => several.split(", ").map(permission).collect(),
        };
        rooms.insert(room.to_owned(), may_use);
    }
    rooms
}

/// `unit (model)` or `sys`.
fn permission(text: &str) -> (String, Option<String>) {
    match text.split_once(" (") {
        None => (text.to_owned(), None),
        Some((room, module)) => (room.to_owned(), Some(module.trim_end_matches(')').to_owned())),
    }
}

/// Arrows of `use` point downwards only, as the page on architecture says.
pub fn rooms_hold(files: &[Source], rooms: &Rooms) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(room) = file.room() else { continue };
        let Some(may_use) = rooms.get(room) else {
            wrong.push(format!("{}:1: the room {room} is not in docs/architecture.md", file.path));
            continue;
        };
        let code = file.code();
        // `super::super::…` leads out of the room as well; from the file's own depth on.
        let depth = file.path.trim_end_matches("/mod.rs").matches('/').count();
        let upwards = vec!["super"; depth].join("::");
        let starts = ["crate", "berth", upwards.as_str()];
        for (line, path) in starts.iter().flat_map(|root| paths(&code, root)) {
            let Some(used) = path.first().filter(|used| rooms.contains_key(*used)) else {
                continue;
            };
            let allowed = used == room
                || may_use.iter().any(|(other, module)| {
                    other == used && (module.is_none() || module.as_ref() == path.get(1))
                });
            if !allowed {
                wrong.push(format!("{}:{line}: {room} may not use {}", file.path, path.join("::")));
            }
        }
    }
    wrong
}

/// `unsafe` stands in src/sys and nowhere else, each block with its reason.
pub fn unsafe_is_confined(files: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = file.code();
        for (line, after) in words(&code, "unsafe") {
            if file.room() != Some("sys") {
                wrong.push(format!("{}:{line}: unsafe outside src/sys", file.path));
            } else if needs_reason(after) && !has_reason(&file.text, line) {
                wrong.push(format!("{}:{line}: unsafe without a SAFETY comment", file.path));
            }
        }
    }
    wrong
}

/// Blocks, impls and named functions; not `unsafe extern "C" fn(…)` as a type, nor
/// attributes.
fn needs_reason(after: &str) -> bool {
    let after = after.trim_start();
    after.is_empty()
        || after.starts_with('{')
        || ["impl ", "fn "].iter().any(|w| after.starts_with(w))
}

/// Whether the nearest comment at or above a line, at most three lines of code away,
/// says why it is sound.
fn has_reason(text: &str, line: usize) -> bool {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let says_why = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let above: Vec<&str> = text.lines().take(line).collect();
    if above.last().is_some_and(|line| says_why(line)) {
        return true;
    }
    let mut upwards = above.iter().rev().copied().skip(1).peekable();
    for _ in 0..3 {
        if upwards.peek().is_some_and(is_comment) {
            break;
        }
        upwards.next();
    }
    upwards.take_while(is_comment).any(says_why)
}

/// Each module starts with a paragraph on what it is for.
pub fn modules_are_introduced(files: &[Source]) -> Vec<String> {
    let introduced = |file: &&Source| {
        file.text.lines().find(|line| !line.trim().is_empty()).is_some_and(|l| l.starts_with("//!"))
    };
    files
        .iter()
        .filter(|file| file.is_rust() && !introduced(file))
        .map(|file| format!("{}:1: does not begin with //!", file.path))
        .collect()
}

/// No file is too long to be read in one go.
pub fn files_are_short(files: &[Source]) -> Vec<String> {
    let program = |file: &&Source| {
        let extensions = [".rs", ".py", ".c", ".sh"];
        file.path.starts_with("scripts/") || extensions.iter().any(|end| file.path.ends_with(end))
    };
    files
        .iter()
        .filter(program)
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| format!("{}:1: {lines} lines, more than {LONGEST}", file.path))
        .collect()
}

/// What ships handles its errors instead of panicking.
pub fn nothing_panics(files: &[Source]) -> Vec<String> {
    let panics = [
        ".unwrap()",
        ".expect(",
        ".unwrap_err()",
        ".expect_err(",
        "panic!",
        "todo!",
        "unimplemented!",
    ];
    in_shipped_code(files, |file| file.path.starts_with("src/"), &panics, "can panic")
}

/// What deciding may not know: the supervisor has no syscall, no clock and no path; unit
/// files are read without touching the system.
pub fn pure_rooms_are_pure(files: &[Source]) -> Vec<String> {
    let crates = ["nix::", "rustix::", "mio::", "inotify::"];
    let modules: [(&str, &[&str]); 2] = [
        ("supervisor", &["env", "fs", "io", "net", "os", "path", "process", "thread"]),
        ("unit", &["process", "thread"]),
    ];
    let mut wrong = Vec::new();
    for (room, forbidden) in modules {
        let here = |file: &Source| file.room() == Some(room);
        let what = format!("is not for {room}, which is pure");
        wrong.extend(in_shipped_code(files, here, &crates, &what));
        for file in files.iter().filter(|file| here(file) && file.is_rust()) {
            let code = file.shipped_code();
            for (line, path) in paths(&code, "std") {
                if path.first().is_some_and(|module| forbidden.contains(&module.as_str())) {
                    wrong.push(format!("{}:{line}: std::{} {what}", file.path, path.join("::")));
                }
            }
            // Constants of libc (signal numbers, flags) are words, not calls.
            for (line, path) in paths(&code, "libc") {
                let call = path.first().is_some_and(|n| n.starts_with(char::is_lowercase));
                if call && path.first().is_none_or(|name| !name.starts_with("c_")) {
                    wrong.push(format!("{}:{line}: libc::{} {what}", file.path, path.join("::")));
                }
            }
        }
    }
    let clock = ["Instant::now", "SystemTime"];
    let decides = |file: &Source| file.room() == Some("supervisor");
    wrong.extend(in_shipped_code(files, decides, &clock, "is a clock; time is an argument"));
    wrong
}

/// What runs in process 1 does not drag in the crates of the control tool.
pub fn process_1_is_lean(files: &[Source]) -> Vec<String> {
    let in_process_1 = |file: &Source| {
        file.path.starts_with("src/")
            && file.room() != Some("ctl")
            && file.path != "src/bin/berthctl.rs"
    };
    in_shipped_code(files, in_process_1, &["clap", "comfy_table"], "is for berthctl alone")
}

/// Nobody waits by sleeping: process 1 never waits, a test waits for a condition. In
/// `poll_loops` are the few files with a loop that has nothing better.
pub fn nobody_sleeps(files: &[Source], poll_loops: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = file.code();
        for (line, after) in ["sleep", "nanosleep"].iter().flat_map(|word| words(&code, word)) {
            if poll_loops.iter().any(|(path, _)| *path == file.path) {
                used.push(file.path.as_str());
            } else if after.starts_with('(') {
                wrong.push(format!("{}:{line}: sleeps; wait for a condition", file.path));
            }
        }
    }
    let exists = |path: &str| files.iter().any(|file| file.path == path);
    let stale = poll_loops.iter().filter(|(path, _)| exists(path) && !used.contains(path));
    wrong.extend(stale.map(|(path, _)| format!("{path}: does not sleep any more; drop its entry")));
    wrong
}

/// Nothing names a place that exists only where it was written.
pub fn no_machine_is_named(files: &[Source]) -> Vec<String> {
    // Put together here, so that this file does not name them.
    let needles = [concat!("/wo", "rk/"), concat!("/ro", "ot/."), concat!("far", "m-")];
    let mut wrong = Vec::new();
    for file in files {
        for (number, line) in (1..).zip(file.text.lines()) {
            for needle in needles {
                let part = |c: char| c.is_alphanumeric() || "_.-}/$".contains(c);
                let starts_here = |(at, _): (usize, &str)| {
                    line.split_at_checked(at).is_some_and(|(before, _)| !before.ends_with(part))
                };
                if line.match_indices(needle).any(starts_here) {
                    wrong.push(format!("{}:{number}: names {needle}…", file.path));
                }
            }
        }
    }
    wrong
}

/// The pages keep their promises: each file says what it must.
pub fn pages_say(files: &[Source], promises: &[(&str, &str)]) -> Vec<String> {
    let says = |path: &str, text: &str| {
        files.iter().any(|file| file.path == path && file.text.contains(text))
    };
    promises
        .iter()
        .filter(|(path, text)| !says(path, text))
        .map(|(path, text)| format!("{path}: does not say `{text}`"))
        .collect()
}

/// Every place in code that ships where one of `needles` stands (as a word, if it
/// begins like one).
fn in_shipped_code(
    files: &[Source],
    matters: impl Fn(&Source) -> bool,
    needles: &[&str],
    what: &str,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && matters(file)) {
        let code = file.shipped_code();
        for (number, line) in (1..).zip(code.lines()) {
            for needle in needles {
                let part = |c: char| c.is_alphanumeric() || c == '_';
                let word = needle.starts_with(part);
                let found = line.match_indices(needle).any(|(at, _)| {
                    let before = line.split_at_checked(at).map_or("", |(before, _)| before);
                    !(word && before.ends_with(part))
                });
                if found {
                    wrong.push(format!("{}:{number}: {needle} {what}", file.path));
                }
            }
        }
    }
    wrong
}
