//! Steps that make the process what the unit says.

use std::os::fd::AsFd;

use super::State;
use crate::container::environment::{self, FileError};
use crate::container::status::{self, Failure, SocketKind};
use crate::container::step::Op;
use crate::container::users::{self, Identity};
use crate::sys::limits::{self, Resource};
use crate::sys::{fd, identity, path, pty};
use crate::unit::model::{Id, User};

pub(super) fn oom_score(score: i32) -> Result<(), Failure> {
    path::write_value("/proc/self/oom_score_adj", &score.to_string())
        .map_err(|error| beyond(&error))
}

pub(super) fn limit(resource: Resource, value: u64) -> Result<(), Failure> {
    match limits::set(resource, value) {
        // Somebody has forbidden the supervisor any core file: see the plan for the 1.
        Err(error) if is_no_core(resource, value) && error.raw_os_error() == Some(libc::EPERM) => {
            limits::set(resource, 0)
        }
        other => other,
    }
    .map_err(|error| beyond(&error))
}

/// Whether this limit is there to have no core file.
fn is_no_core(resource: Resource, value: u64) -> bool {
    matches!(resource, Resource::Core) && value <= 1
}

/// The hard limit, as long as the process may raise it.
pub(super) fn allow(resource: Resource, value: u64) -> Result<(), Failure> {
    limits::allow(resource, value).map_err(|error| beyond(&error))
}

fn beyond(error: &std::io::Error) -> Failure {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "it is beyond what this supervisor may give",
        _ => "",
    };
    Failure::with(error, hint)
}

pub(super) fn keyring() -> Result<(), Failure> {
    match identity::new_session_keyring() {
        // A kernel without keys has none to keep; one that a sandbox around the supervisor
        // lets nobody use neither.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn nice(value: i32) -> Result<(), Failure> {
    Ok(limits::set_nice(value)?)
}

impl State<'_> {
    pub(super) fn join_groups(&mut self) -> Result<(), Failure> {
        for procs in self.procs.drain(..) {
            // The process itself, whatever its number is there.
            rustix::io::write(&procs, b"0")?;
        }
        Ok(())
    }

    pub(super) fn environment_file(&mut self, path: &str, optional: bool) -> Result<(), Failure> {
        match environment::read_file(path) {
            Ok(variables) => {
                self.files = environment::merge([self.files.as_slice(), &variables]);
                Ok(())
            }
            Err(FileError::Line(number)) => {
                Err(Failure::text(format!("line {number} of it is not NAME=value")))
            }
            Err(FileError::Read(error))
                if optional && error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(FileError::Read(error)) => {
                let hint = match error.raw_os_error() {
                    Some(libc::EINVAL) => "it is not a regular file",
                    Some(libc::EFBIG) => "it is larger than 256K",
                    Some(libc::EILSEQ) => "it is not UTF-8 text",
                    _ => "",
                };
                Err(Failure::with(&error, hint))
            }
        }
    }

    pub(super) fn session(&self) -> Result<(), Failure> {
        identity::new_session()?;
        let Some(size) = self.exec.and_then(|exec| exec.terminal) else { return Ok(()) };
        let (master, slave) = pty::open(self.terminals.as_ref().map(AsFd::as_fd), size)?;
        pty::take_control(slave.as_fd())?;
        for number in 0..3 {
            fd::place(slave.as_fd(), number)?;
        }
        Ok(status::send_socket(self.channel, SocketKind::Terminal, master.as_fd())?)
    }

    pub(super) fn become_user(&mut self, user: Option<&User>) -> Result<(), Failure> {
        let user = self.exec.and_then(|exec| exec.user.as_ref()).or(user);
        let Some(user) = user else {
            if let Some(uid) = identity::other_than_root() {
                // It can become nobody else.
                let same = User { user: Id::Number(uid), group: None };
                self.identity =
                    users::lookup(&same).map_err(|error| Failure::text(error.to_string()))?;
                return Ok(());
            }
            self.identity = Identity::root();
            return Ok(identity::become_user(0, 0, &[])?);
        };
        self.identity = users::lookup(user).map_err(|error| Failure::text(error.to_string()))?;
        let Identity { uid, gid, groups, .. } = &self.identity;
        // Such a program re-opens /dev/stderr, or its terminal, by name.
        let terminal = self.exec.is_some_and(|exec| exec.terminal.is_some());
        let mut numbers = (0..3).map(fd::standard);
        numbers
            .try_for_each(|fd| fd::give_to(fd, *uid, None, terminal))
            .and_then(|()| identity::become_user(*uid, *gid, groups))
            .map_err(|error| {
                let hint = match error.raw_os_error() {
                    Some(libc::EINVAL) if self.users.is_some() => {
                        "the unit's user namespace has no such number; see `user-namespace`"
                    }
                    _ => "",
                };
                Failure::with(&error, hint)
            })
    }

    /// Whether `berthctl exec` asked for something else than the unit file in a step.
    pub fn was_asked(&self, op: &Op) -> bool {
        self.exec.is_some_and(|exec| match op {
            Op::User(_) => exec.user.is_some(),
            Op::WorkingDirectory(_) => exec.working_directory.is_some(),
            _ => false,
        })
    }

    pub(super) fn working_directory(&self, directory: &str) -> Result<(), Failure> {
        let asked = self.exec.and_then(|exec| exec.working_directory.as_deref());
        let enter = |directory: &str| -> std::io::Result<()> {
            let root = path::handle("/")?;
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
            Ok(rustix::process::fchdir(path::open_in(root.as_fd(), directory, flags)?)?)
        };
        match asked {
            Some(asked) => enter(asked).map_err(|error| Failure::with(&error, asked)),
            None => Ok(enter(directory)?),
        }
    }
}
