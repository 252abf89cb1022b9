//! What a line asks for, done. Nothing is followed through a link in its last part, since
//! a link in its place is somebody's choice and leads who knows where.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::line::{Line, Mode, Node, What};
use crate::pid1::steps::matching;

/// Most entries that one line touches.
const ENTRIES: usize = 1_000_000;

/// Who shall own it; `None`: as it is, root where it is new.
pub type Owner = (Option<u32>, Option<u32>);

/// What goes before anything is made.
pub fn clear(line: &Line) -> io::Result<()> {
    match line.what {
        What::Remove { below } => there(line).iter().try_for_each(|path| remove(path, below)),
        What::Directory { emptied: true } => match fs::read_dir(&line.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            entries => entries?.try_for_each(|entry| remove(&entry?.path(), true)),
        },
        _ => Ok(()),
    }
}

/// What is made and changed.
pub fn make(line: &Line, owner: Owner) -> io::Result<()> {
    let path = Path::new(&line.path);
    let is_there = fs::symlink_metadata(path).is_ok();
    let argument = line.argument.as_deref().unwrap_or_default();
    match line.what {
        What::Remove { .. } => return Ok(()),
        What::Link { again } => return link(path, line.argument.as_deref(), again, is_there),
        What::Owner { below } => {
            return there(line).iter().try_for_each(|path| adjust(path, below, line, owner));
        }
        What::Existing => {
            let mut directories = there(line).into_iter().filter(|path| path.is_dir());
            return directories.try_for_each(|path| set(&path, line.mode, owner, None, false));
        }
        What::Write { append } => {
            let mut files = there(line).into_iter().filter(|path| path.is_file());
            return files.try_for_each(|path| {
                fs::OpenOptions::new()
                    .write(true)
                    .append(append)
                    .open(path)?
                    .write_all(argument.as_bytes())
            });
        }
        What::Directory { .. } => {
            if !is_there {
                parent(path)?;
                fs::DirBuilder::new().mode(0o700).create(path)?;
            }
        }
        What::File { again } => {
            if !is_there || again {
                parent(path)?;
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                options
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(path)?
                    .write_all(argument.as_bytes())?;
            }
        }
        What::Copy { again } => {
            let source =
                line.argument.clone().unwrap_or_else(|| format!("/usr/share/factory{}", line.path));
            if is_there && !again {
                return Ok(());
            }
            parent(path)?;
            copy(Path::new(&source), path)?;
        }
        What::Node(node) => {
            if !is_there {
                parent(path)?;
                make_node(path, node, argument)?;
            }
        }
    }
    let default = if matches!(line.what, What::Directory { .. }) { 0o755 } else { 0o644 };
    set(path, line.mode, owner, Some(default), !is_there)
}

/// What is there of a path with `*`.
fn there(line: &Line) -> Vec<PathBuf> {
    let components: Vec<String> =
        line.path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    matching(Path::new("/"), &components)
}

fn parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn link(path: &Path, to: Option<&str>, again: bool, is_there: bool) -> io::Result<()> {
    let factory = || format!("/usr/share/factory{}", path.display());
    let to = to.map_or_else(factory, str::to_owned);
    if is_there {
        if !again || fs::read_link(path).is_ok_and(|now| now == Path::new(&to)) {
            return Ok(());
        }
        remove(path, true)?;
    }
    parent(path)?;
    std::os::unix::fs::symlink(to, path)
}

/// A file or tree that may not be there (any more).
fn remove(path: &Path, below: bool) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() && below => fs::remove_dir_all(path),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Owner and mode of what is there. `default`: the mode of what is new.
fn set(
    path: &Path,
    mode: Option<Mode>,
    owner: Owner,
    default: Option<u32>,
    is_new: bool,
) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let root = default.map(|_| 0);
    std::os::unix::fs::lchown(path, owner.0.or(root), owner.1.or(root))?;
    let mode = mode.filter(|mode| is_new || !mode.new_only);
    let bits = match mode {
        Some(Mode { bits, masked: true, .. }) => masked(bits, &metadata),
        Some(Mode { bits, .. }) => bits,
        None => match default {
            Some(default) => default,
            None => return Ok(()),
        },
    };
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
}

/// tmpfiles.d(5) on `~`: nobody gets a right that nobody has, and only directories keep
/// what is about deleting and groups.
fn masked(bits: u32, metadata: &fs::Metadata) -> u32 {
    let has = metadata.mode();
    let mut bits = bits;
    for right in [0o111, 0o222, 0o444] {
        if has & right == 0 {
            bits &= !right;
        }
    }
    if metadata.is_dir() { bits } else { bits & 0o777 }
}

/// A tree without recursion; the lines' mode is for files too, whose rights to execute are
/// as those of `masked`.
fn adjust(path: &Path, below: bool, line: &Line, owner: Owner) -> io::Result<()> {
    let mut todo = vec![path.to_owned()];
    for _ in 0..ENTRIES {
        let Some(path) = todo.pop() else { return Ok(()) };
        let metadata = fs::symlink_metadata(&path)?;
        if below && metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        set(&path, line.mode, owner, None, false)?;
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

/// A tree without recursion, with modes and owners.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut todo = vec![(from.to_owned(), to.to_owned())];
    for _ in 0..ENTRIES {
        let Some((from, to)) = todo.pop() else { return Ok(()) };
        let metadata = fs::symlink_metadata(&from)?;
        if metadata.is_symlink() {
            remove(&to, false)?;
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if metadata.is_dir() {
            fs::create_dir_all(&to)?;
            for entry in fs::read_dir(&from)? {
                let entry = entry?;
                todo.push((entry.path(), to.join(entry.file_name())));
            }
        } else if metadata.is_file() {
            fs::copy(&from, &to)?;
        }
        std::os::unix::fs::lchown(&to, Some(metadata.uid()), Some(metadata.gid()))?;
        if !metadata.is_symlink() {
            fs::set_permissions(&to, metadata.permissions())?;
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

/// `argument` is `MAJOR:MINOR`.
fn make_node(path: &Path, node: Node, argument: &str) -> io::Result<()> {
    let kind = match node {
        Node::Pipe => FileType::Fifo,
        Node::Character => FileType::CharacterDevice,
        Node::Block => FileType::BlockDevice,
    };
    let number = || {
        let (major, minor) = argument.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    let device = match node {
        Node::Pipe => 0,
        Node::Character | Node::Block => number().ok_or(io::ErrorKind::InvalidInput)?,
    };
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid1::steps::temporary::line::parse;

    /// Carries out lines in which `@` is a directory, as whoever runs the tests.
    fn run(directory: &Path, lines: &[&str]) {
        let me =
            (Some(rustix::process::geteuid().as_raw()), Some(rustix::process::getegid().as_raw()));
        let at = directory.to_str().unwrap();
        let read = |text: &&str| parse(&text.replace('@', at), &|_| None).unwrap().unwrap();
        let lines: Vec<Line> = lines.iter().map(read).collect();
        for line in &lines {
            clear(line).unwrap();
        }
        for line in &lines {
            make(line, me).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }

    fn mode(path: PathBuf) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn every_kind_does_its_work_and_a_second_time_no_harm() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("tree/sub")).unwrap();
        for name in ["tree/run.sh", "old-1", "old-2", "kept", "setting"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::set_permissions(at("tree/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(at("emptied/below")).unwrap();
        let lines = [
            "d @/a/b 1750",
            "D @/emptied 0711",
            "f @/file 0640 - - - hello",
            "F @/again 0600 - - - new",
            "w @/set*ing - - - - 1\\n",
            "L @/link - - - - file",
            "L+ @/kept - - - - file",
            "C @/copy - - - - @/tree",
            "p @/pipe 0620",
            "r @/old-*",
            "R @/not-there",
            "e @/a* 0700",
            "Z @/tree ~0755",
            "z @/setting 0444",
        ];
        run(place.path(), &lines);
        run(place.path(), &lines);
        assert_eq!((mode(at("a/b")), mode(at("a")), mode(at("emptied"))), (0o1750, 0o700, 0o711));
        assert!(!at("emptied/below").exists() && !at("old-1").exists() && !at("old-2").exists());
        assert_eq!(
            (mode(at("file")), fs::read_to_string(at("link")).unwrap()),
            (0o640, "hello".to_owned())
        );
        assert_eq!(fs::read_to_string(at("again")).unwrap(), "new");
        assert_eq!(
            (fs::read_to_string(at("setting")).unwrap(), mode(at("setting"))),
            ("1\n".to_owned(), 0o444)
        );
        assert_eq!(fs::read_link(at("kept")).unwrap(), Path::new("file"));
        assert_eq!((mode(at("pipe")), mode(at("tree/run.sh"))), (0o620, 0o755));
        assert!(at("copy/sub").is_dir() && mode(at("copy/run.sh")) == 0o700);
    }

    #[test]
    fn nothing_goes_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("outside/file"), "x").unwrap();
        fs::set_permissions(at("outside"), fs::Permissions::from_mode(0o711)).unwrap();
        for name in ["link", "tree"] {
            std::os::unix::fs::symlink(at("outside"), at(name)).unwrap();
        }
        run(place.path(), &["d @/link 0700", "Z @/tree 0700", "R @/tree"]);
        assert_eq!(mode(at("outside")), 0o711);
        assert!(at("outside/file").exists() && !at("tree").exists());
    }
}
