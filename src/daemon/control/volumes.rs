//! `berthctl volume`: the directories in `STATE/volumes`, looked at and deleted by forked
//! helpers.
//!
//! What must hold: a volume that a run has is not deleted, and no run begins with one that
//! is being deleted: process 1 knows which these are until the helper has ended.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Access, helper, relay};
use crate::daemon::Daemon;
use crate::protocol::insight::Volume;
use crate::protocol::message::{encode_error, encode_reply};
use crate::protocol::method::Empty;
use crate::protocol::{Error, Mode, Page};
use crate::sys::fork;
use crate::unit::model::{MountSource, Service, Unit};
use crate::unit::{limits, names};

/// How long a client may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a volume is called while it is deleted; no volume's name begins with a dot.
const DOOMED: &str = ".removed-";

impl Daemon {
    /// Why a run cannot begin: one of its volumes is being deleted.
    pub(in crate::daemon) fn volume_is_there(&self, service: &Service) -> Result<(), String> {
        let doomed = self.control.doomed_volumes.values().find(|name| mounts(service, name));
        match doomed {
            Some(name) => Err(format!("its volume {name} is being deleted")),
            None => Ok(()),
        }
    }

    /// Has a helper look which volumes there are.
    pub(super) fn list_volumes(
        &mut self,
        number: u64,
        sizes: bool,
        mode: Mode,
    ) -> Result<(), Error> {
        let directory = self.volumes_directory();
        self.volume_helper(number, |daemon, stream| {
            let failed = |error: &dyn std::fmt::Display| Error::Failed {
                unit: None,
                reason: format!("cannot look into {}: {error}", directory.display()),
            };
            let there = volumes_in(&directory).map_err(|error| failed(&error))?;
            let mut all: Vec<&String> = daemon.units.volumes.iter().chain(&there).collect();
            all.sort_unstable();
            all.dedup();
            let mut page = Page::new("volumes");
            for name in all {
                let volume = daemon.describe_volume(name, sizes, &directory, &there);
                if page.push(&volume).map_err(|error| failed(&error))? {
                    continue;
                }
                if mode == Mode::Single {
                    return Err(Error::ExpectedMore {});
                }
                let full = std::mem::replace(&mut page, Page::new("volumes"));
                relay::say(stream, &full.finish(true));
                page.push(&volume).map_err(|error| failed(&error))?;
            }
            Ok(page.finish(false))
        })?;
        Ok(())
    }

    /// Has a helper delete a volume.
    pub(super) fn remove_volume(&mut self, number: u64, name: &str) -> Result<(), Error> {
        let failed = |reason: String| Err(Error::Failed { unit: None, reason });
        // What is no name is not to become part of a path.
        if let Some(problem) = names::problem(name) {
            return failed(format!("{name:?} is no name of a volume: {problem}"));
        }
        let users = self.running_with(name);
        if !users.is_empty() {
            return failed(format!("it is in use: stop {} first", users.join(", ")));
        }
        if self.control.doomed_volumes.values().any(|doomed| doomed == name) {
            return Err(Error::Busy { reason: "it is being deleted already".to_owned() });
        }
        let directory = self.volumes_directory();
        let pid = self.volume_helper(number, |_, _| {
            delete(&directory, name).map_err(|error| Error::Failed {
                unit: None,
                reason: match error.kind() {
                    io::ErrorKind::NotFound => "there is no such volume".to_owned(),
                    _ => error.to_string(),
                },
            })?;
            Ok(encode_reply(&Empty {}, false).unwrap_or_default())
        })?;
        if let Some(pid) = pid {
            self.control.doomed_volumes.insert(pid, name.to_owned());
        }
        Ok(())
    }

    fn volumes_directory(&self) -> PathBuf {
        self.options.state_dir.join("volumes")
    }

    /// Units of which there is a run with this volume.
    fn running_with(&self, volume: &str) -> Vec<String> {
        let lives = self.lives.values().map(|live| &live.unit);
        let mut users: Vec<String> =
            lives.filter(|unit| has(unit, volume)).map(|unit| unit.name.clone()).collect();
        users.sort_unstable();
        users
    }

    fn describe_volume(
        &self,
        name: &str,
        sizes: bool,
        directory: &Path,
        there: &[String],
    ) -> Volume {
        let path = there.iter().any(|it| it == name).then(|| directory.join(name));
        let users = self.units.units.iter().filter(|unit| has(unit, name));
        Volume {
            name: name.to_owned(),
            size: path.as_deref().filter(|_| sizes).map(size_of),
            path: path.map(|path| path.display().to_string()),
            declared: self.units.volumes.iter().any(|it| it == name),
            users: users.map(|unit| unit.name.clone()).collect(),
            running: self.running_with(name),
        }
    }

    /// Forks a helper; what `work` gives is the last it says to the client. Its number, if
    /// it could be made.
    fn volume_helper(
        &mut self,
        number: u64,
        work: impl FnOnce(&Self, &UnixStream) -> Result<Vec<u8>, Error>,
    ) -> Result<Option<i32>, Error> {
        self.control.helper_is_free()?;
        let (stream, _) = self.take_client(number)?;
        let keep = [stream.as_fd()];
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let process = fork::child(&options, || {
            let ready = helper::prepare().and_then(|()| {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(PATIENCE))
            });
            if ready.is_err() {
                return 1;
            }
            let last = work(self, &stream).unwrap_or_else(encode_error);
            let mut writer = &stream;
            i32::from(writer.write_all(&last).is_err())
        });
        match process {
            Ok(process) => {
                self.helper_started(process.pid, Access::Full);
                Ok(Some(process.pid))
            }
            Err(error) => {
                let reason = format!("cannot look at volumes: no process can be made: {error}");
                relay::say(&stream, &encode_error(Error::Failed { unit: None, reason }));
                Ok(None)
            }
        }
    }
}

fn has(unit: &Unit, volume: &str) -> bool {
    unit.service().is_some_and(|service| mounts(service, volume))
}

fn mounts(service: &Service, volume: &str) -> bool {
    service
        .mounts
        .iter()
        .any(|mount| matches!(&mount.value.source, MountSource::Volume { name } if name == volume))
}

/// The names in the directory.
fn volumes_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries.take(limits::UNITS) {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        let name = name.filter(|name| names::problem(name).is_none());
        found.extend(name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())));
    }
    Ok(found)
}

/// Bytes on the disk of all that is in it, without what is mounted there. What cannot be
/// read counts as nothing.
fn size_of(path: &Path) -> u64 {
    let Ok(top) = fs::symlink_metadata(path) else { return 0 };
    let mut size = top.blocks().saturating_mul(512);
    let mut todo = vec![path.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.dev() != top.dev() {
                continue;
            }
            size = size.saturating_add(data.blocks().saturating_mul(512));
            if data.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    size
}

/// Takes the name away in one step, then deletes what had it.
fn delete(directory: &Path, name: &str) -> io::Result<()> {
    let doomed = directory.join(format!("{DOOMED}{name}"));
    // What an earlier helper was killed at.
    match fs::remove_dir_all(&doomed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(directory.join(name), &doomed)?;
    fs::remove_dir_all(&doomed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_directories_with_a_name_and_are_deleted_whole() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("volumes");
        assert_eq!(volumes_in(&directory).unwrap(), Vec::<String>::new());
        fs::create_dir_all(directory.join("db/deep/er")).unwrap();
        fs::write(directory.join("db/deep/file"), vec![1; 100_000]).unwrap();
        fs::write(directory.join("file"), "no volume").unwrap();
        fs::create_dir_all(directory.join(".removed-db/left")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.join("db/link")).unwrap();
        assert_eq!(volumes_in(&directory).unwrap(), ["db"]);
        let size = size_of(&directory.join("db"));
        assert!((100_000..200_000).contains(&size), "{size}");
        delete(&directory, "db").unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert!(Path::new("/etc/passwd").exists());
        assert_eq!(delete(&directory, "db").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
