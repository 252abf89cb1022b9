//! Secrets that `berthctl secret set` has put into the state directory: one file each in
//! `STATE/secrets` (0700), encrypted with the key in `STATE/secret.key` (both 0600).
//!
//! What must hold: a file is there whole and on the disk, or it is as it was; the key is made
//! once and never replaced. Whoever writes holds the lock of the directory. All of it may
//! wait for a disk: it is called in forked children only.
//!
//! The key beside the files protects a copy of the directory alone (a backup, a bug report)
//! and from looking at one by accident. Who can read the whole state directory has both.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::cipher::{self, Broken, FILE_BYTES, KEY_BYTES};
use super::{Trouble, too_long, whole};
use crate::sys::guarded::Guarded;
use crate::unit::limits::SECRET_BYTES;
use crate::unit::{limits, names};

/// What the key's file begins with; the last byte is the version of the format.
const KEY_MAGIC: &[u8; 8] = b"berthky\x01";

/// Name of the key's file.
const KEY_FILE: &str = "secret.key";

/// What is being written; no secret has such a name.
const UNFINISHED: &str = ".new";

/// The stored secrets of a state directory.
#[derive(Debug)]
pub struct Store<'a> {
    state: &'a Path,
}

impl<'a> Store<'a> {
    /// Those of this state directory. Nothing is touched yet.
    pub fn new(state: &'a Path) -> Self {
        Self { state }
    }

    fn path(&self) -> PathBuf {
        self.state.join("secrets")
    }

    /// The directory, if it is there.
    fn directory(&self) -> Result<Option<OwnedFd>, Trouble> {
        let path = self.path();
        match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Trouble::of(path.display(), &error.into())),
        }
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// It was never set, or cannot be decrypted with this key.
    pub fn get(&self, name: &str) -> Result<Guarded, Trouble> {
        let file = self.file(name)?;
        let trouble = |error: io::Error| Trouble::of(self.path().join(name).display(), &error);
        let mut bytes = whole(&file, FILE_BYTES).map_err(trouble)?;
        let key = self.key()?.ok_or_else(|| {
            let key = self.state.join(KEY_FILE);
            let text = format!("its key {} is gone", key.display());
            Trouble(format!("{text}: `berthctl secret set {name}` anew"))
        })?;
        let value = cipher::open(self.key_of(&key)?, name, &mut bytes).map_err(|broken| {
            let path = self.path().join(name);
            let path = path.display();
            Trouble(match broken {
                Broken::Format => {
                    format!("{path} is not a secret of this version of berth: set it anew")
                }
                Broken::Forged => format!(
                    "{path} is damaged, or was not made for this name with the key of this \
                     state directory: `berthctl secret set {name}` anew"
                ),
            })
        })?;
        Guarded::copy(value).map_err(|error| Trouble::of("cannot hold it in memory", &error))
    }

    /// Whether there is such a file.
    ///
    /// # Errors
    /// It was never set.
    pub fn probe(&self, name: &str) -> Result<(), Trouble> {
        self.file(name).map(drop)
    }

    fn file(&self, name: &str) -> Result<std::fs::File, Trouble> {
        let unset = || Trouble(format!("it was never set: `berthctl secret set {name}`"));
        is_name(name)?;
        let directory = self.directory()?.ok_or_else(unset)?;
        let file = own_file(directory.as_fd(), name);
        file.map_err(|error| Trouble::of(self.path().join(name).display(), &error))?
            .ok_or_else(unset)
    }

    /// Encrypts a value and puts it in the place of what was there.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn set(&self, name: &str, mut value: Guarded) -> Result<(), Trouble> {
        is_name(name)?;
        if value.bytes().is_empty() {
            return Err(Trouble("an empty secret is none".to_owned()));
        }
        if value.bytes().len() > SECRET_BYTES {
            return Err(too_long("it"));
        }
        let directory = self.locked()?;
        let key = match self.key()? {
            Some(key) => key,
            None => self.make_key()?,
        };
        let mut nonce = [0; 24];
        random(&mut nonce)?;
        let head = cipher::seal(self.key_of(&key)?, &nonce, name, &mut value)
            .ok_or_else(|| Trouble("it cannot be encrypted".to_owned()))?;
        write(directory.as_fd(), name, &[&head, value.bytes()])
            .map_err(|error| Trouble::of(self.path().join(name).display(), &error))
    }

    /// Removes a value.
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&self, name: &str) -> Result<(), Trouble> {
        is_name(name)?;
        let directory = self.locked()?;
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&directory)
                .map_err(|error| Trouble::of(self.path().display(), &error.into())),
            Err(Errno::NOENT) => Err(Trouble("no value is stored for it".to_owned())),
            Err(error) => Err(Trouble::of(self.path().join(name).display(), &error.into())),
        }
    }

    /// The names of all that are there.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<BTreeSet<String>, Trouble> {
        let trouble = |error: io::Error| Trouble::of(self.path().display(), &error);
        let entries = match std::fs::read_dir(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(trouble)?,
        };
        let mut found = BTreeSet::new();
        for entry in entries.take(limits::UNITS) {
            let name = entry.map_err(trouble)?.file_name().into_string().ok();
            found.extend(name.filter(|name| names::problem(name).is_none()));
        }
        Ok(found)
    }

    /// The directory, made if it is missing, and nobody else's until it is closed.
    fn locked(&self) -> Result<OwnedFd, Trouble> {
        let path = self.path();
        let trouble = |error: Errno| Trouble::of(path.display(), &error.into());
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(trouble(error)),
        }
        let directory =
            rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()).map_err(trouble)?;
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(trouble)?;
        Ok(directory)
    }

    fn state_directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, self.state, flags, Mode::empty())?)
    }

    /// The key's file, if there is one.
    fn key(&self) -> Result<Option<Guarded>, Trouble> {
        let path = self.state.join(KEY_FILE);
        let trouble = |error: io::Error| Trouble::of(path.display(), &error);
        let state = self.state_directory().map_err(trouble)?;
        let Some(file) = own_file(state.as_fd(), KEY_FILE).map_err(trouble)? else {
            return Ok(None);
        };
        whole(&file, KEY_MAGIC.len().saturating_add(KEY_BYTES)).map(Some).map_err(trouble)
    }

    /// The key in its file.
    fn key_of<'k>(&self, file: &'k Guarded) -> Result<&'k [u8; KEY_BYTES], Trouble> {
        let key = file.bytes().strip_prefix(KEY_MAGIC).and_then(|key| key.try_into().ok());
        key.ok_or_else(|| {
            let path = self.state.join(KEY_FILE);
            let path = path.display();
            Trouble(format!(
                "{path} is not a key: put back the one that was there, or move it away and \
                 `berthctl secret set` all that is stored anew"
            ))
        })
    }

    /// Makes the machine's key.
    fn make_key(&self) -> Result<Guarded, Trouble> {
        let path = self.state.join(KEY_FILE);
        let trouble = |error: io::Error| Trouble::of(path.display(), &error);
        let mut key = Guarded::new(KEY_MAGIC.len().saturating_add(KEY_BYTES)).map_err(trouble)?;
        let room = key.push(KEY_MAGIC) && key.push(&[0; KEY_BYTES]);
        let empty = key.bytes_mut().split_first_chunk_mut::<{ KEY_MAGIC.len() }>();
        let Some((_, empty)) = empty.filter(|_| room) else {
            return Err(Trouble("no key can be made".to_owned()));
        };
        random(empty)?;
        let state = self.state_directory().map_err(trouble)?;
        write(state.as_fd(), KEY_FILE, &[key.bytes()]).map_err(trouble)?;
        Ok(key)
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name may come from a client; it becomes a part of a path.
fn is_name(name: &str) -> Result<(), Trouble> {
    match names::problem(name) {
        Some(problem) => Err(Trouble(problem.to_owned())),
        None => Ok(()),
    }
}

fn random(bytes: &mut [u8]) -> Result<(), Trouble> {
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled = filled.saturating_add(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Trouble::of("the kernel gives no randomness", &error.into())),
        }
    }
    Ok(())
}

/// A regular file that is nobody else's business, if it is there.
fn own_file(directory: BorrowedFd<'_>, name: &str) -> io::Result<Option<std::fs::File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let status = rustix::fs::fstat(&file)?;
    let own = rustix::process::geteuid().as_raw();
    let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    if !regular || status.st_mode & 0o077 != 0 || (status.st_uid != 0 && status.st_uid != own) {
        let why = "it must be a regular file of root's with mode 0600";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(Some(file.into()))
}

/// A file with these bytes (0600) in the place of what was there, on the disk.
fn write(directory: BorrowedFd<'_>, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let forget = || match rustix::fs::unlinkat(directory, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    };
    // One that was interrupted.
    forget()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o600);
    let file = rustix::fs::openat(directory, UNFINISHED, flags | OFlags::CLOEXEC, mode)?;
    let mut file = std::fs::File::from(file);
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(rustix::fs::renameat(directory, UNFINISHED, directory, name)?));
    if let Err(error) = written {
        // The first error is the one that counts.
        let _ = forget();
        return Err(error);
    }
    Ok(rustix::fs::fsync(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn set(store: &Store<'_>, name: &str, value: &str) -> Result<(), Trouble> {
        store.set(name, Guarded::copy(value.as_bytes()).unwrap())
    }

    fn get(store: &Store<'_>, name: &str) -> Result<String, String> {
        let value = store.get(name).map_err(|error| error.0)?;
        Ok(String::from_utf8(value.bytes().to_vec()).unwrap())
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_set_is_there_until_it_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        assert!(store.names().unwrap().is_empty());
        assert!(get(&store, "db").unwrap_err().contains("never set"));
        set(&store, "db", "correct horse").unwrap();
        set(&store, "web", "battery staple").unwrap();
        assert_eq!(get(&store, "db").unwrap(), "correct horse");
        set(&store, "db", "other").unwrap();
        assert_eq!(get(&store, "db").unwrap(), "other");
        assert_eq!(get(&store, "web").unwrap(), "battery staple");
        assert_eq!(store.names().unwrap().into_iter().collect::<Vec<_>>(), ["db", "web"]);
        store.remove("db").unwrap();
        assert!(store.remove("db").unwrap_err().0.contains("no value"));
        assert!(get(&store, "db").unwrap_err().contains("never set"));
    }

    #[test]
    fn nobody_else_can_read_the_files_and_they_do_not_show_the_value() {
        let state = tempfile::tempdir().unwrap();
        set(&Store::new(state.path()), "db", "correct horse").unwrap();
        let at = |name: &str| state.path().join(name);
        assert_eq!(mode(&at("secrets")), 0o700);
        assert_eq!((mode(&at("secrets/db")), mode(&at("secret.key"))), (0o600, 0o600));
        let file = fs::read(at("secrets/db")).unwrap();
        assert!(!file.windows(7).any(|part| part == b"correct"));
        let mut there: Vec<_> =
            fs::read_dir(at("secrets")).unwrap().map(|it| it.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["db"]);
    }

    #[test]
    fn a_file_of_another_name_or_key_is_found_out() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        set(&store, "db", "correct horse").unwrap();
        set(&store, "web", "battery staple").unwrap();
        let at = |name: &str| state.path().join(name);
        fs::rename(at("secrets/db"), at("secrets/kept")).unwrap();
        fs::rename(at("secrets/web"), at("secrets/db")).unwrap();
        assert!(get(&store, "db").unwrap_err().contains("not made for this name"));
        // The control: under its own name it is fine.
        fs::rename(at("secrets/kept"), at("secrets/db")).unwrap();
        assert_eq!(get(&store, "db").unwrap(), "correct horse");
        fs::rename(at("secret.key"), at("old.key")).unwrap();
        assert!(get(&store, "db").unwrap_err().contains("secret.key is gone"));
        set(&store, "new", "made with a new key").unwrap();
        assert!(get(&store, "db").unwrap_err().contains("the key of this state directory"));
        fs::write(at("secret.key"), "short").unwrap();
        assert!(get(&store, "new").unwrap_err().contains("is not a key"));
        fs::write(at("secrets/db"), "nonsense").unwrap();
        fs::rename(at("old.key"), at("secret.key")).unwrap();
        assert!(get(&store, "db").unwrap_err().contains("not a secret of this version"));
    }

    #[test]
    fn links_and_open_files_are_refused() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        set(&store, "db", "correct horse").unwrap();
        let at = |name: &str| state.path().join(name);
        let open = |path: PathBuf, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        open(at("secrets/db"), 0o640);
        assert!(get(&store, "db").unwrap_err().contains("mode 0600"));
        open(at("secrets/db"), 0o600);
        open(at("secret.key"), 0o604);
        assert!(get(&store, "db").unwrap_err().contains("secret.key"));
        open(at("secret.key"), 0o600);
        assert!(get(&store, "db").is_ok());
        std::os::unix::fs::symlink("db", at("secrets/link")).unwrap();
        assert!(get(&store, "link").unwrap_err().contains("ELOOP"));
    }

    #[test]
    fn what_is_no_name_or_no_secret_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        for name in ["", "..", ".new", "a/b", "../secret.key"] {
            assert!(set(&store, name, "x").is_err(), "{name}");
            assert!(get(&store, name).is_err(), "{name}");
            assert!(store.remove(name).is_err(), "{name}");
        }
        assert!(set(&store, "db", "").unwrap_err().0.contains("empty"));
        let large = "x".repeat(SECRET_BYTES + 1);
        assert!(set(&store, "db", &large).unwrap_err().0.contains("512 KiB"));
        set(&store, "db", large.get(1..).unwrap()).unwrap();
        assert_eq!(get(&store, "db").unwrap().len(), SECRET_BYTES);
    }
}
