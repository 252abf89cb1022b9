//! Steps that give a unit its secrets: a filesystem in memory that is filled while the host's
//! tree is in sight, and mounted read-only once the unit's own is.
//!
//! What must hold: nothing of the unit's tree decides where the values go. It is mounted on
//! `/run/secrets` itself and on nothing that a link leads to, and nowhere that the host or
//! another unit would see it too.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::State;
use super::mounts::{INERT, Source};
use crate::container::secrets;
use crate::container::status::Failure;
use crate::container::users;
use crate::sys::mount::{self, Attributes};
use crate::sys::{path, unswappable};
use crate::unit::limits::{SECRET_BYTES, SECRETS};
use crate::unit::model::secret::DIRECTORY;
use crate::unit::model::{At, SecretUse, User};

impl State<'_> {
    /// The empty filesystem.
    pub(super) fn secrets_memory(&mut self, slot: usize) -> Result<(), Failure> {
        let tree = unswappable::filesystem(SECRETS.saturating_mul(SECRET_BYTES), SECRETS)?;
        self.give_to_root(tree.as_fd())?;
        self.keep(slot, Source::new(tree))
    }

    /// One value, still root's.
    pub(super) fn secret(
        &mut self,
        slot: usize,
        state: &str,
        wanted: &SecretUse,
    ) -> Result<(), Failure> {
        let vault = self.vault.as_ref().map(AsFd::as_fd);
        let value = secrets::value(&wanted.secret, &wanted.source, Path::new(state), vault)
            .map_err(|trouble| Failure::text(trouble.0))?;
        let source = self.slots.get(slot).and_then(Option::as_ref);
        let source = source.ok_or_else(|| Failure::text("there is no place for it"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(wanted.mode);
        let name = wanted.target.as_str();
        let file = rustix::fs::openat(&source.tree, name, flags | OFlags::CLOEXEC, mode)?;
        self.give_to_root(file.as_fd())?;
        Ok(std::fs::File::from(file).write_all(value.bytes())?)
    }

    /// Root of the unit, who can then give it to others.
    fn give_to_root(&self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        let (uid, gid) = self.users.root();
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(rustix::fs::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    /// Each file gets its owner, and all of them their place.
    pub(super) fn attach_secrets(
        &mut self,
        slot: usize,
        user: Option<&User>,
        all: &[At<SecretUse>],
    ) -> Result<(), Failure> {
        let tree = self.take(slot)?.tree;
        let (uid, gid) = match user {
            None => (0, 0),
            Some(user) => {
                let found =
                    users::lookup(user).map_err(|error| Failure::text(error.to_string()))?;
                (found.uid, found.gid)
            }
        };
        for At { value: wanted, .. } in all {
            let owner = Some(Uid::from_raw(wanted.uid.unwrap_or(uid)));
            let group = Some(Gid::from_raw(wanted.gid.unwrap_or(gid)));
            let name = wanted.target.as_str();
            rustix::fs::chownat(&tree, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        mount::add_attributes(tree.as_fd(), false, Attributes { read_only: true, ..INERT })?;
        let point = match path::directory_directly_in(path::handle("/")?.as_fd(), DIRECTORY) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let why = "a part of this path is a symbolic link of the root tree";
                return Err(Failure::with(&error, why));
            }
            other => other?,
        };
        self.covers.stays_inside(point.as_fd())?;
        Ok(mount::attach(tree.as_fd(), point.as_fd())?)
    }
}
