//! User namespaces: numbers of users and groups that mean something else on the host.
//!
//! One is made before a unit's first run and kept for the next ones: a restart writes no
//! maps. Its processes enter it once they have all they need of the host. What must hold:
//! whoever is root inside is nobody on the host, and what a unit's files are owned by on the
//! disk does not depend on the range.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::sys::namespace;
use crate::unit::model::IdMaps;

/// A user namespace and who its root is on the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserNamespace {
    #[serde(with = "crate::sys::kept")]
    fd: OwnedFd,
    uid: u32,
    gid: u32,
}

impl UserNamespace {
    /// Makes one; the child that this takes is left to be reaped.
    ///
    /// # Errors
    /// As [`namespace::new_user_namespace`]; `EINVAL` if the maps leave out root.
    pub fn new(maps: &IdMaps) -> io::Result<Self> {
        let (uid, gid) = maps.root().ok_or(io::ErrorKind::InvalidInput)?;
        let (uid_map, gid_map) = (IdMaps::text(&maps.uid), IdMaps::text(&maps.gid));
        Ok(Self { fd: namespace::new_user_namespace(&uid_map, &gid_map)?, uid, gid })
    }

    /// The number of the first user inside, on the host.
    pub fn root(&self) -> u32 {
        self.uid
    }

    /// For processes of a unit that cannot do without.
    pub fn demanded(&self) -> Users<'_> {
        Users { namespace: self, demanded: true }
    }

    /// For processes of a unit that can.
    pub fn if_possible(&self) -> Users<'_> {
        Users { namespace: self, demanded: false }
    }
}

/// What a launch is given.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    namespace: &'a UserNamespace,
    demanded: bool,
}

impl<'a> Users<'a> {
    /// The namespace itself, for the process that makes the unit's other ones.
    pub(super) fn fd(self) -> BorrowedFd<'a> {
        self.namespace.fd.as_fd()
    }

    /// The user and the group on the host whose root inside is.
    pub fn owner(self) -> (u32, u32) {
        (self.namespace.uid, self.namespace.gid)
    }

    /// What every process needs to know.
    pub(super) fn root(self) -> Root {
        let UserNamespace { uid, gid, .. } = *self.namespace;
        Root { uid, gid, demanded: self.demanded }
    }
}

/// Who the root of a unit's user namespace is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Whether the unit is not to start where it cannot have one.
    pub demanded: bool,
}
