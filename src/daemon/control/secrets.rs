//! `berthctl secret`: what is kept in the state directory, by forked helpers.
//!
//! What must hold: the supervisor itself never reads a value. It answers nothing to
//! `SetSecret`: the client waits for the first reply before it sends the value, and that
//! reply comes from the helper, which owns the connection by then. The helper is in no core
//! dump, and ends with its work.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroize;

use super::{Access, helper, relay};
use crate::container::secrets::{self, Trouble, store::Store};
use crate::daemon::Daemon;
use crate::protocol::message::{encode_error, encode_reply};
use crate::protocol::method::{Empty, RemoveSecret, SetSecret};
use crate::protocol::types::{Secret, SecretFrom};
use crate::protocol::{Error, Mode, Page};
use crate::sys::guarded::Guarded;
use crate::sys::{fork, identity};
use crate::unit::limits::SECRET_BYTES;
use crate::unit::model::{SecretSource, Unit, UnitSet};
use crate::unit::names;

/// How long a client may take to send the next piece of a value.
const PATIENCE: Duration = Duration::from_secs(30);

impl Daemon {
    /// Takes what secrets need out of the environment, where it would be copied to every
    /// child and shown by `/proc`.
    pub(in crate::daemon) fn take_variables(&mut self) {
        let units = self.units.clone();
        for secret in &units.secrets {
            if let SecretSource::Environment(variable) = &secret.source
                && let Err(trouble) = self.host.vault.take(variable)
            {
                self.journal.say(&format!("secret {}: {trouble}", secret.name));
            }
        }
    }

    /// Hands the connection to a helper that reads the value and stores it.
    pub(super) fn set_secret(&mut self, number: u64, call: &SetSecret) -> Result<(), Error> {
        let name = call.secret.clone();
        self.is_stored(&name)?;
        let state = self.options.state_dir.clone();
        self.secret_helper(number, "store", None, |stream, rest| {
            let greeting = encode_reply(&Empty {}, false).unwrap_or_default();
            relay::say(stream, &greeting);
            let value = receive(stream, rest).map_err(|error| {
                let reason = format!("the value did not come: {error}");
                Error::Failed { unit: None, reason }
            })?;
            Store::new(&state).set(&name, value).map_err(|trouble| failed(&name, &trouble))?;
            Ok(greeting)
        })
    }

    /// Has a helper remove a stored value.
    pub(super) fn remove_secret(&mut self, number: u64, call: &RemoveSecret) -> Result<(), Error> {
        let name = call.secret.clone();
        self.is_stored(&name)?;
        let state = self.options.state_dir.clone();
        self.secret_helper(number, "remove", None, |_, _| {
            Store::new(&state).remove(&name).map_err(|trouble| failed(&name, &trouble))?;
            Ok(encode_reply(&Empty {}, false).unwrap_or_default())
        })
    }

    /// Has a helper look where all secrets are.
    pub(super) fn list_secrets(&mut self, number: u64, mode: Mode) -> Result<(), Error> {
        let (state, units) = (self.options.state_dir.clone(), self.units.clone());
        let vault = self.host.vault.as_fd().try_clone_to_owned().map_err(|error| {
            Error::Failed { unit: None, reason: format!("cannot list the secrets: {error}") }
        })?;
        self.secret_helper(number, "list", Some(&vault), |stream, _| {
            let failed = |error: &dyn std::fmt::Display| Error::Failed {
                unit: None,
                reason: format!("cannot list the secrets: {error}"),
            };
            let stored = Store::new(&state).names().map_err(|trouble| failed(&trouble))?;
            let mut page = Page::new("secrets");
            let declared = units.secrets.iter().map(|secret| {
                let source = &secret.source;
                let there = secrets::probe(&secret.name, source, &state, Some(vault.as_fd()));
                describe(&secret.name, Some(source), there.err(), &units)
            });
            let known = |name: &&String| units.secrets.iter().any(|it| it.name == **name);
            let others = stored.iter().filter(|name| !known(name));
            let others = others.map(|name| describe(name, None, None, &units));
            for secret in declared.chain(others) {
                if page.push(&secret).map_err(|error| failed(&error))? {
                    continue;
                }
                if mode == Mode::Single {
                    return Err(Error::ExpectedMore {});
                }
                let full = std::mem::replace(&mut page, Page::new("secrets"));
                relay::say(stream, &full.finish(true));
                page.push(&secret).map_err(|error| failed(&error))?;
            }
            Ok(page.finish(false))
        })
    }

    /// Whether the value of this secret is kept by berth.
    fn is_stored(&self, name: &str) -> Result<(), Error> {
        if let Some(problem) = names::problem(name) {
            return Err(Error::Refused { reason: format!("{name:?} is no name: {problem}") });
        }
        let declared = self.units.secrets.iter().find(|secret| secret.name == name);
        let reason = match declared.map(|secret| &secret.source) {
            None | Some(SecretSource::Stored) => return Ok(()),
            Some(SecretSource::File(path)) => {
                format!("[secret.{name}] says that its value is in the file {path}")
            }
            Some(SecretSource::Environment(variable)) => {
                format!("[secret.{name}] says that its value is in berth's variable {variable}")
            }
        };
        Err(Error::Refused { reason })
    }

    /// Forks a helper; what `work` gives is the last it says to the client.
    fn secret_helper(
        &mut self,
        number: u64,
        verb: &str,
        more: Option<&OwnedFd>,
        work: impl FnOnce(&UnixStream, &[u8]) -> Result<Vec<u8>, Error>,
    ) -> Result<(), Error> {
        self.control.helper_is_free()?;
        let (stream, mut rest) = self.take_client(number)?;
        let keep: Vec<_> = std::iter::once(stream.as_fd()).chain(more.map(AsFd::as_fd)).collect();
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let process = fork::child(&options, || {
            if helper::prepare().is_err() || alone(&stream).is_err() {
                return 1;
            }
            let last = work(&stream, &rest).unwrap_or_else(encode_error);
            relay::say(&stream, &last);
            0
        });
        // A client that did not wait has sent its value already.
        rest.as_mut_slice().zeroize();
        match process {
            Ok(process) => self.helper_started(process.pid, Access::Full),
            Err(error) => {
                let reason = format!("cannot {verb} secrets: no process can be made: {error}");
                relay::say(&stream, &encode_error(Error::Failed { unit: None, reason }));
            }
        }
        Ok(())
    }
}

/// In the helper: nobody looks into its memory, and its client cannot keep it for ever.
fn alone(stream: &UnixStream) -> std::io::Result<()> {
    identity::hide_memory()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// All that the client sends.
fn receive(stream: &UnixStream, rest: &[u8]) -> std::io::Result<Guarded> {
    let left = SECRET_BYTES.saturating_sub(rest.len());
    let came = Guarded::read(stream.as_fd(), left).map_err(|error| match error.raw_os_error() {
        Some(libc::EFBIG) => {
            std::io::Error::other(format!("it has more than {} KiB", SECRET_BYTES >> 10))
        }
        Some(libc::EAGAIN) => std::io::Error::other("nothing came for 30 s"),
        _ => error,
    })?;
    let mut value = Guarded::new(rest.len().saturating_add(came.bytes().len()))?;
    if value.push(rest) && value.push(came.bytes()) {
        Ok(value)
    } else {
        Err(std::io::ErrorKind::FileTooLarge.into())
    }
}

fn failed(name: &str, trouble: &Trouble) -> Error {
    Error::Failed { unit: None, reason: format!("secret {name}: {trouble}") }
}

/// What a client is told of a secret; `source` is none of one that is stored and that no
/// unit file declares.
fn describe(
    name: &str,
    source: Option<&SecretSource>,
    trouble: Option<Trouble>,
    units: &UnitSet,
) -> Secret {
    let (from, place) = match source {
        None | Some(SecretSource::Stored) => (SecretFrom::Stored, None),
        Some(SecretSource::File(path)) => (SecretFrom::File, Some(path.clone())),
        Some(SecretSource::Environment(name)) => (SecretFrom::Environment, Some(name.clone())),
    };
    let uses = |unit: &&Arc<Unit>| {
        let service = unit.service();
        service.is_some_and(|it| it.secrets.uses.iter().any(|used| used.value.secret == name))
    };
    Secret {
        name: name.to_owned(),
        from,
        place,
        declared: source.is_some(),
        problem: trouble.map(|trouble| trouble.0),
        users: units.units.iter().filter(uses).map(|unit| unit.name.clone()).collect(),
    }
}
