//! Devices of the host that a unit is given: their nodes.
//!
//! Without a user namespace it is the host's own node. With one it is a copy: the filesystem
//! of the host's `/dev` cannot show other owners, so that a node which is root's alone would
//! be nobody's inside. What must hold: the copy is made by root of the host, of whose
//! filesystems alone devices can be opened, with owner and mode of the original; inside,
//! neither can be changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};

use super::State;
use super::mounts::{INERT, Source, put_directly};
use crate::container::status::Failure;
use crate::sys::mount::{self, Attributes, Filesystem, Travel};
use crate::sys::path::{self, Kind};

/// Nothing but a node; who may open it has its file's owner and mode to say.
const NODE: Attributes = Attributes { no_dev: false, read_only: true, ..INERT };

/// How a copy is called in the filesystem that was made for it.
const COPY: &str = "node";

impl State<'_> {
    pub(super) fn open_device(&mut self, slot: usize, path: &str) -> Result<(), Failure> {
        let (node, _) = path::device(path)?;
        let tree = if self.users.is_some() {
            let copy = copy(node.as_fd())?;
            // Before Linux 6.3 memory shows no other owners, which is no matter for what
            // everybody may use.
            if rustix::fs::fstat(&node)?.st_mode & 0o006 == 0o006 {
                self.users.map_if_possible(copy.as_fd())?;
            } else {
                self.users.map(copy.as_fd(), false)?;
            }
            copy
        } else {
            let tree = mount::clone_tree(node.as_fd(), "", false)?;
            mount::set_propagation(tree.as_fd(), false, Travel::Private)?;
            tree
        };
        mount::add_attributes(tree.as_fd(), false, NODE)?;
        self.keep(slot, Source::of_host(tree))
    }

    /// Puts the node, or the copy of it, into the unit's `/dev`.
    pub(super) fn device(&mut self, slot: usize, target: &str) -> Result<(), Failure> {
        let mut tree = self.take(slot)?.tree;
        if path::kind_of(tree.as_fd())? == Kind::Directory {
            // Before Linux 6.15 only what is attached can be copied. For this moment nobody
            // else is in here.
            put_directly(tree.as_fd(), "/dev/shm")?;
            let node = mount::clone_tree(tree.as_fd(), COPY, false)?;
            mount::detach(tree.as_fd())?;
            tree = node;
        }
        let root = path::handle("/")?;
        let point = path::mount_point(root.as_fd(), target, Kind::File)?;
        Ok(mount::attach(tree.as_fd(), point.as_fd())?)
    }
}

/// A filesystem that holds another node of the same device.
fn copy(node: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    filesystem.set("size", "4k")?;
    let tree = filesystem.mount(Attributes { no_dev: false, ..INERT })?;
    let status = rustix::fs::fstat(node)?;
    let (kind, mode) =
        (FileType::from_raw_mode(status.st_mode), Mode::from_raw_mode(status.st_mode));
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::mknodat(&tree, COPY, kind, Mode::empty(), status.st_rdev)?;
    rustix::fs::chownat(&tree, COPY, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&tree, COPY, mode, AtFlags::empty())?;
    Ok(tree)
}
