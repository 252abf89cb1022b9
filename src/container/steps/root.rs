//! Steps that make the unit's root tree and go there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::State;
use crate::container::plan::is_at_or_below;
use crate::container::status::Failure;
use crate::sys::mount::{self, Attributes, Travel};
use crate::sys::mountinfo::{self, Which};
use crate::sys::path::{self, Kind};

/// Most of the host's mounts that a unit gets to see.
const HOST_MOUNTS_MAX: usize = 1024;

/// A root tree that is not the root yet, nor attached.
pub(super) struct Tree {
    pub(super) mount: OwnedFd,
    /// A recursive copy of the host's mounts: nothing can be made in it, and its further
    /// filesystems are there already.
    pub(super) bound: bool,
}

pub(super) fn private_mounts() -> Result<(), Failure> {
    let root = path::handle("/")?;
    // A root that is no mount point of its own (chroot) has nothing to travel.
    match mount::set_propagation(root.as_fd(), true, Travel::Private) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(Failure::with(&error, "the supervisor's root directory is not a mount point"))
        }
        other => Ok(other?),
    }
}

/// The tree is stacked on the root itself: what the process sees as `/` stays what it was
/// until the root changes, and no directory is needed for it anywhere.
pub(super) fn attach_on_root(tree: BorrowedFd<'_>) -> io::Result<()> {
    mount::attach(tree, path::handle("/")?.as_fd())
}

/// A directory of the state directory, private to root.
pub(super) fn make_directories(path: &str) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn read_only() -> Result<(), Failure> {
    let root = path::handle("/")?;
    let read_only = Attributes { read_only: true, ..Attributes::default() };
    Ok(mount::add_attributes(root.as_fd(), false, read_only)?)
}

impl State<'_> {
    pub(super) fn direct(&mut self, directory: &str) -> Result<Tree, Failure> {
        let top = mount::place(directory)?;
        if path::kind_of(top.as_fd())? != Kind::Directory {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR).into());
        }
        self.is_meant(directory, top.as_fd())?;
        let mount = mount::clone_tree(top.as_fd(), "", true)?;
        mount::set_propagation(mount.as_fd(), true, Travel::Private)?;
        self.users.map(mount.as_fd(), true)?;
        let own = self.own_in(top.as_fd(), mount.as_fd(), true)?;
        self.shows(own);
        Ok(Tree { mount, bound: false })
    }

    pub(super) fn change_root(&mut self) -> Result<(), Failure> {
        let Some(tree) = self.root.take() else {
            return Err(Failure::text("there is no root tree yet"));
        };
        attach_on_root(tree.mount.as_fd())?;
        self.attach_host_mounts(tree.mount.as_fd())?;
        self.host_mounts.clear();
        mount::change_root(tree.mount.as_fd()).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    "the supervisor's root must be a mounted filesystem, not the initial ramfs"
                }
                _ => "",
            };
            Failure::with(&error, hint)
        })
    }

    /// The host's further mounts go to their places in the root tree, which is attached.
    pub(super) fn attach_host_mounts(&self, tree: BorrowedFd<'_>) -> Result<(), Failure> {
        for (point, copy) in &self.host_mounts {
            let kind = path::kind_of(copy.as_fd())?;
            path::mount_point(tree, point, kind)
                .and_then(|target| mount::attach(copy.as_fd(), target.as_fd()))
                .map_err(|error| Failure::with(&error, point))?;
        }
        Ok(())
    }

    /// Copies the host's further mounts; they are attached when the root changes.
    pub(super) fn host_mounts(&mut self, except: &[String]) -> Result<(), Failure> {
        let Some(tree) = &self.root else {
            return Err(Failure::text("there is no root tree yet"));
        };
        if tree.bound {
            return Ok(());
        }
        let mounts = mountinfo::mounts(Which::Files, HOST_MOUNTS_MAX)?;
        let read_only = Attributes { read_only: true, ..Attributes::default() };
        for point in mounts.into_iter().map(|mount| mount.point).filter(|point| {
            point != "/" && !except.iter().any(|hidden| is_at_or_below(point, hidden))
        }) {
            let place = mount::place(&point);
            let copied =
                place.and_then(|top| Ok((mount::clone_tree(top.as_fd(), "", false)?, top)));
            let (copy, top) = match copied {
                Ok(copied) => copied,
                // Gone meanwhile or covered by another mount; another user's FUSE.
                Err(error) if is_out_of_sight(&error) => continue,
                Err(error) => return Err(Failure::with(&error, point)),
            };
            if self.is_own(top.as_fd()) {
                continue;
            }
            let own = self.own_in(top.as_fd(), copy.as_fd(), false)?;
            self.shows(own);
            mount::add_attributes(copy.as_fd(), false, read_only)?;
            mount::set_propagation(copy.as_fd(), false, Travel::Private)?;
            // What cannot be mapped is nobody's in there, and can be read by who may.
            if !self.users.map_if_possible(copy.as_fd())? {
                self.unmapped.push(point.clone());
            }
            self.host_mounts.push((point, copy));
        }
        Ok(())
    }
}

fn is_out_of_sight(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EINVAL))
}
