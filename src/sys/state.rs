//! Files that berth keeps for itself, read back: they may have become anything.
//!
//! What must always hold: reading one never waits for somebody (a FIFO, a device), never
//! follows a link, and never takes more memory than such a file can need. What is not what
//! it should be is renamed to `NAME.damaged` (in the place of an earlier one), so that the
//! next thing written has room and a person can look at it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Opens a regular file, and nothing else, without waiting.
///
/// # Errors
/// As open(2): `ELOOP` for a link; `InvalidData` for what is no regular file.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
    }
}

/// All of a file; nothing, if there is none.
///
/// # Errors
/// As [`open`] and read(2); `FileTooLarge` when it is longer than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = match open(path, File::options().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    if file.metadata()?.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether an error of [`open`] or [`read`] means that something else is in the place of the
/// file, and not that it cannot be read just now.
pub fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge)
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO))
}

/// All of a file that `is_sound`; of anything else nothing, and a sentence on what was wrong.
pub fn read_sound(
    path: &Path,
    most: u64,
    is_sound: impl Fn(&[u8]) -> bool,
    troubles: &mut Vec<String>,
) -> Vec<u8> {
    match read(path, most) {
        Ok(bytes) if is_sound(&bytes) => bytes,
        Ok(_) => {
            troubles.push(set_aside(path, &"it makes no sense"));
            Vec::new()
        }
        Err(error) if is_damage(&error) => {
            troubles.push(set_aside(path, &error));
            Vec::new()
        }
        Err(error) => {
            troubles.push(format!("cannot read {}: {error}", path.display()));
            Vec::new()
        }
    }
}

/// Renames what is at a path; a sentence that says so, and why.
pub fn set_aside(path: &Path, why: &dyn std::fmt::Display) -> String {
    let damaged = beside(path, ".damaged");
    let was = format!("{} cannot be used ({why})", path.display());
    // An earlier one, which nobody has looked at; where it is a directory it stays.
    let _ = fs::remove_file(&damaged);
    match fs::rename(path, &damaged) {
        Ok(()) => format!("{was}: berth goes on without it; it is now {}", damaged.display()),
        Err(error) => format!("{was}, and cannot be moved out of the way: {error}"),
    }
}

/// Puts a file in the place of what was there, in one step, and on the disk.
///
/// # Errors
/// As open(2), write(2), fsync(2) and rename(2); then what was there is there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half of it takes room that is short, perhaps.
        let _ = fs::remove_file(&new);
    }
    written?;
    fs::rename(&new, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_it_is_told_and_out_of_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        let make: [&dyn Fn(); 6] = [
            &|| fs::write(&path, "junk").unwrap(),
            &|| File::create(&path).unwrap().set_len(1 << 30).unwrap(),
            &|| fs::create_dir(&path).unwrap(),
            &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
            &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
        ];
        for (number, make) in make.iter().enumerate() {
            make();
            let mut troubles = Vec::new();
            let bytes = read_sound(&path, 1024, |bytes| bytes == b"fine", &mut troubles);
            assert!(bytes.is_empty() && troubles.len() == 1, "{number}: {troubles:?}");
            assert!(troubles[0].contains("it cannot be used ("), "{number}: {troubles:?}");
            assert!(!path.exists() && fs::symlink_metadata(beside(&path, ".damaged")).is_ok());
            if number == 2 {
                fs::remove_dir(beside(&path, ".damaged")).unwrap();
            }
        }
        // The control: what is sound stays, and what is not there is nothing.
        let mut troubles = Vec::new();
        assert_eq!(read_sound(&path, 1024, <[u8]>::is_empty, &mut troubles), b"");
        replace(&path, b"fine").unwrap();
        assert_eq!(read_sound(&path, 1024, |bytes| bytes == b"fine", &mut troubles), b"fine");
        assert!(troubles.is_empty() && path.exists());
    }
}
