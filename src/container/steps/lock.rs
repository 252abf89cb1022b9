//! What keeps a unit that may mount (`SYS_ADMIN` in its user namespace) from changing how it
//! was given what is the host's: that a mount is read-only, and what is covered in it.
//!
//! Who has power over a mount namespace can take both away, except from mounts that came into
//! it from the namespace of another user namespace: these the kernel locks
//! (`mount_namespaces(7)`). So for such a unit all trees of the host are put together in a mount
//! namespace of the host's, which only this process is in, and copied from the unit's own
//! when that one has been made of it. What must hold: nothing of the host's is attached in the
//! unit that was not locked on this way; what the unit is given to mount to the host
//! (`propagation = "shared"`) is not copied, because a locked copy would be the unit's alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::State;
use super::mounts::Source;
use super::root::private_mounts;
use crate::container::status::Failure;
use crate::sys::clone::namespace as flag;
use crate::sys::mount::{self, Attributes, Filesystem};
use crate::sys::namespace;
use crate::sys::path::{self, Kind};

/// Where the trees are put, in the process' own mount namespace: a directory that is there
/// and that nothing needs until the root changes.
const PLACE: &str = "/proc";

/// The root tree there; the others are called by the number of their slot.
const ROOT: &str = "root";

/// What covers a directory, and what anything else.
const NOTHING: (&str, &str) = ("nothing", "empty");

impl State<'_> {
    /// Puts all together, as root of the host. The working directory is then where it is.
    pub(super) fn put_together(&mut self) -> Result<(), Failure> {
        if !self.users.is_some() {
            return Ok(());
        }
        namespace::leave(flag::MOUNT)?;
        private_mounts()?;
        let filesystem = Filesystem::new("tmpfs")?;
        filesystem.set("mode", "0755")?;
        filesystem.set("size", "64k")?;
        let place = filesystem.mount(Attributes::default())?;
        mount::attach(place.as_fd(), path::handle(PLACE)?.as_fd())?;
        for (name, kind) in [(NOTHING.0, Kind::Directory), (NOTHING.1, Kind::File)] {
            make(place.as_fd(), name, kind)?;
        }
        let mut covered = self.take_shown();
        if let Some(tree) = self.root.take() {
            let top = tree.mount.as_fd();
            put(place.as_fd(), ROOT, top)?;
            self.attach_host_mounts(top)?;
            self.host_mounts.clear();
            covered.extend(self.take_own_in_root(top)?);
            self.root = Some(tree);
        }
        for (slot, source) in self.slots.iter_mut().enumerate() {
            let Some(source) = source.as_mut().filter(|source| source.of_host) else { continue };
            put(place.as_fd(), &slot.to_string(), source.tree.as_fd())?;
            covered.extend(source.put_together()?);
        }
        for point in covered {
            cover(place.as_fd(), point.as_fd())?;
        }
        Ok(rustix::process::fchdir(&place)?)
    }

    /// Takes all of it from the mount namespace that is the unit's, where it is locked.
    pub(super) fn take_locked(&mut self) -> Result<(), Failure> {
        if !self.users.is_some() {
            return Ok(());
        }
        if let Some(tree) = &mut self.root {
            tree.mount = mount::clone_tree(path::here(), ROOT, true)?;
        }
        for (slot, source) in self.slots.iter_mut().enumerate() {
            let Some(source) = source.as_mut().filter(|source| source.of_host) else { continue };
            source.tree = mount::clone_tree(path::here(), &slot.to_string(), true)?;
        }
        Ok(rustix::process::chdir("/")?)
    }
}

impl Source {
    /// Attaches what is below, and says what is to be covered in it.
    fn put_together(&mut self) -> Result<Vec<OwnedFd>, Failure> {
        self.attach_below()?;
        Ok(std::mem::take(&mut self.own))
    }
}

/// An empty file or directory.
fn make(place: BorrowedFd<'_>, name: &str, kind: Kind) -> Result<OwnedFd, Failure> {
    Ok(path::mount_point(place, name, kind)?)
}

fn put(place: BorrowedFd<'_>, name: &str, tree: BorrowedFd<'_>) -> Result<(), Failure> {
    let point = make(place, name, path::kind_of(tree)?)?;
    Ok(mount::attach(tree, point.as_fd())?)
}

fn cover(place: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<(), Failure> {
    let name = match path::kind_of(point)? {
        Kind::Directory => NOTHING.0,
        Kind::File => NOTHING.1,
    };
    let nothing = mount::clone_tree(place, name, false)?;
    let inert = Attributes { read_only: true, no_suid: true, no_dev: true, no_exec: true };
    mount::add_attributes(nothing.as_fd(), false, inert)?;
    Ok(mount::attach(nothing.as_fd(), point)?)
}
