//! What must be in `/run` and `/tmp` before services start: the directories that every
//! program expects, and those lines of tmpfiles.d(5) that make something.
//!
//! Understood are `d D f F L` with `+`, modes, users and groups; everything else of
//! that format (ages, attributes, access control lists) is for a cleaner, not for a boot.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const DIRECTORIES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];

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

/// One line that is carried out.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    what: What,
    path: &'a str,
    mode: Option<u32>,
    user: &'a str,
    group: &'a str,
    argument: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Directory,
    File { again: bool },
    Link { again: bool },
}

/// Makes all of it; a line that fails does not keep out the others.
pub fn make() -> Vec<String> {
    let mut texts = vec![ALWAYS.to_owned()];
    texts.extend(
        super::drop_ins(&DIRECTORIES, ".conf")
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok()),
    );
    let users = names("/etc/passwd");
    let groups = names("/etc/group");
    let mut troubles = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()).filter_map(parse) {
        let owner = (number(&users, line.user), number(&groups, line.group));
        if let Err(error) = carry_out(&line, owner) {
            troubles.push(format!("cannot make {}: {error}", line.path));
        }
    }
    // They were for the time of the last boot.
    for flag in ["/etc/nologin", "/run/nologin"] {
        let _ = fs::remove_file(flag);
    }
    troubles
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let again = kind.contains('+');
    // `!` means: at boot only, which is now. `=`, `-` and `~` do not change what is made.
    let what = match kind.trim_end_matches(['!', '+', '-', '=', '~']) {
        "d" | "D" => What::Directory,
        "f" => What::File { again },
        "F" => What::File { again: true },
        "L" => What::Link { again },
        _ => return None,
    };
    let path = words.next()?;
    // Specifiers stand for things this does not know.
    if path.contains('%') || !path.starts_with('/') {
        return None;
    }
    let mode = words.next().unwrap_or("-").trim_start_matches(['~', ':']);
    let mut owner = || words.next().unwrap_or("-").trim_start_matches(':');
    let (user, group) = (owner(), owner());
    let _age = words.next();
    let argument = words.next().unwrap_or("");
    if argument.contains('%') {
        return None;
    }
    Some(Line { what, path, mode: u32::from_str_radix(mode, 8).ok(), user, group, argument })
}

fn carry_out(line: &Line<'_>, (uid, gid): (u32, u32)) -> io::Result<()> {
    let there = fs::symlink_metadata(line.path).is_ok();
    match line.what {
        What::Link { again } => {
            if there
                && (!again
                    || fs::read_link(line.path).is_ok_and(|to| to == Path::new(line.argument)))
            {
                return Ok(());
            }
            if there {
                fs::remove_file(line.path)?;
            }
            make_parent(line.path)?;
            return std::os::unix::fs::symlink(line.argument, line.path);
        }
        What::Directory => {
            if !there {
                make_parent(line.path)?;
                fs::DirBuilder::new().mode(0o700).create(line.path)?;
            }
        }
        What::File { again } => {
            if !there || again {
                make_parent(line.path)?;
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600).open(line.path)?;
                fs::write(line.path, line.argument)?;
            }
        }
    }
    // A link in its place is somebody's choice, and leads who knows where.
    if fs::symlink_metadata(line.path)?.is_symlink() {
        return Ok(());
    }
    std::os::unix::fs::lchown(line.path, Some(uid), Some(gid))?;
    let default = if line.what == What::Directory { 0o755 } else { 0o644 };
    fs::set_permissions(line.path, fs::Permissions::from_mode(line.mode.unwrap_or(default)))
}

fn make_parent(path: &str) -> io::Result<()> {
    match Path::new(path).parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    }
}

/// Names and numbers of passwd(5) or group(5), without asking anybody over a network.
fn names(path: &str) -> HashMap<String, u32> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

/// `-` is root; a name that nobody has leaves it to root as well.
fn number(known: &HashMap<String, u32>, name: &str) -> u32 {
    name.parse().ok().or_else(|| known.get(name).copied()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_make_something_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (nested, link) = (at("a/b"), at("link"));
        for text in [
            format!("d {nested} 1750 - - 10d"),
            format!("f! {} 0640 - - - hello", at("file")),
            format!("L+ {link} - - - - {nested}"),
            format!("L+ {link} - - - - {nested}"),
        ] {
            carry_out(&parse(&text).unwrap(), (rustix::process::geteuid().as_raw(), 0)).unwrap();
        }
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&nested), mode(&at("file"))), (0o1750, 0o640));
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "hello");
        assert_eq!(fs::read_link(link).unwrap(), Path::new(&nested));
        for other in ["# no", "x /tmp/y", "r! /x", "d relative", "d /run/user/%U", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
