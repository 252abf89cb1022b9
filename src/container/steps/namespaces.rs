//! Steps that make the unit's namespaces, and its user namespace before all others.
//!
//! What must hold: a process enters the user namespace after the last thing that only root
//! of the host can do; from then on it is root inside, and nobody on the host. Where some
//! filesystem cannot show its files with other owners, a unit that can do without goes back
//! to the first step and goes on with the host's numbers: nothing is mapped by halves.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::State;
use crate::container::launch;
use crate::container::status::{self, Failure};
use crate::container::step::Op;
use crate::container::user_namespace::Root;
use crate::sys::clone::namespace as flag;
use crate::sys::{capability, fd, identity, mount, namespace, path};
use crate::unit::model::Namespaces;

/// Whether, and how, a process is to be in a user namespace.
#[derive(Debug, Default)]
pub struct Membership {
    /// Who is root there.
    root: Option<Root>,
    /// The namespace itself, for who makes the unit's other ones.
    fd: Option<OwnedFd>,
    /// Whether a filesystem could not be mapped.
    refused: bool,
}

impl Membership {
    /// Before the first step.
    pub fn new(root: Option<Root>, fd: Option<OwnedFd>) -> Self {
        Self { root, fd, refused: false }
    }

    /// Who owns on the host what belongs to root inside.
    pub(super) fn root(&self) -> (u32, u32) {
        self.root.map_or((0, 0), |root| (root.uid, root.gid))
    }

    /// Whether there is one.
    pub(super) fn is_some(&self) -> bool {
        self.root.is_some()
    }

    /// Lets a detached tree show its owners as the unit sees them.
    pub(super) fn map(&mut self, tree: BorrowedFd<'_>, recursive: bool) -> Result<(), Failure> {
        let Some(fd) = &self.fd else { return Ok(()) };
        mount::map_owners(tree, recursive, fd.as_fd()).map_err(|error| {
            let cannot = [libc::EINVAL, libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS];
            self.refused = error.raw_os_error().is_some_and(|errno| cannot.contains(&errno));
            let why = if recursive {
                "its filesystem, or one mounted below, cannot show its files with other owners"
            } else {
                "its filesystem cannot show its files with other owners"
            };
            Failure::with(&error, why)
        })
    }

    /// Whether what failed just now is that a filesystem cannot be mapped, which is then no
    /// obstacle.
    pub(super) fn forgives(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// As [`Self::map`], for what the unit should see also if that is not possible: whether it
    /// was.
    pub(super) fn map_if_possible(&mut self, tree: BorrowedFd<'_>) -> Result<bool, Failure> {
        match self.map(tree, false) {
            Err(_) if self.forgives() => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl State<'_> {
    /// Whether a step that failed is no reason to end, because the unit can do without its
    /// user namespace: then all steps of the list are to be carried out again.
    pub fn goes_on_without_users(&mut self, op: &Op, failure: &Failure) -> bool {
        let demanded = self.users.root.is_none_or(|root| root.demanded);
        if demanded || !self.users.refused {
            return false;
        }
        let why = format!("{op}: {} ({})", failure.detail, status::errno_text(failure.errno));
        self.users = Membership::default();
        self.slots.iter_mut().for_each(|slot| *slot = None);
        self.root = None;
        self.host_mounts.clear();
        self.own = super::own::Own::default();
        self.unmapped.clear();
        status::send_without_users(self.channel, &why).is_ok()
    }

    /// Enters the namespaces of a process of the unit.
    ///
    /// # Errors
    /// As setns(2).
    pub fn join(&mut self, inside: BorrowedFd<'_>) -> Result<(), Failure> {
        let mut flags = launch::own_flags(self.plan.namespaces);
        if self.users.is_some() {
            self.give_output()?;
            flags |= flag::USER;
        }
        if flags != 0 {
            namespace::enter(inside, flags)?;
        }
        self.become_root()
    }

    pub(super) fn namespaces(&mut self, own: Namespaces) -> Result<(), Failure> {
        if let Some(users) = self.users.fd.take() {
            self.tell_of_unmapped()?;
            self.give_output()?;
            namespace::enter(users.as_fd(), flag::USER)?;
            self.become_root()?;
        }
        Ok(namespace::leave(launch::own_flags(own))?)
    }

    /// Which mounts of the host cannot show their files with other owners.
    fn tell_of_unmapped(&self) -> Result<(), Failure> {
        let Some((first, others)) = self.unmapped.split_first() else { return Ok(()) };
        let more = match others.len() {
            0 => "files".to_owned(),
            count => format!("and in {count} more mounts files"),
        };
        let lack = format!(
            "user-namespace: in {first} {more} are nobody's, because the filesystem cannot show \
             them with other owners"
        );
        Ok(status::send_lack(self.channel, &lack)?)
    }

    /// Root of the host is nobody in there.
    fn become_root(&mut self) -> Result<(), Failure> {
        if self.users.is_some() {
            identity::become_user(0, 0, &[])?;
            self.held = capability::held()?;
        }
        Ok(())
    }

    /// The pipes of its output become those of its root, who can give them to others.
    fn give_output(&self) -> Result<(), Failure> {
        let (uid, gid) = self.users.root();
        for number in 0..3 {
            fd::give_to(fd::standard(number), uid, Some(gid), false)?;
        }
        Ok(())
    }

    /// The unit's view of a copy of a host tree. What holds nobody's files stays as it is.
    pub(super) fn map_copy(
        &mut self,
        tree: BorrowedFd<'_>,
        recursive: bool,
    ) -> Result<(), Failure> {
        if !self.users.is_some() || path::is_of_kernel(tree)? {
            return Ok(());
        }
        if path::holds_no_files(tree)? {
            return self.users.map_if_possible(tree).map(drop);
        }
        self.users.map(tree, recursive)
    }
}
