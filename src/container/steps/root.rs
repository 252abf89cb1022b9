//! Steps that make the unit's root tree and go there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::State;
use crate::container::plan::is_at_or_below;
use crate::container::status::Failure;
use crate::container::step::Upper;
use crate::sys::mount::{self, Attributes, Filesystem, Travel};
use crate::sys::path::{self, Kind, Which};

/// Most of the host's mounts that a unit gets to see.
const HOST_MOUNTS_MAX: usize = 1024;

/// A root tree that is attached and not the root yet.
pub(super) struct Tree {
    mount: OwnedFd,
    /// A recursive copy of the host's mounts: nothing can be made in it, and its further
    /// filesystems are there already.
    bound: bool,
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
fn attach_on_root(tree: BorrowedFd<'_>) -> io::Result<()> {
    mount::attach(tree, path::handle("/")?.as_fd())
}

pub(super) fn direct(directory: &str) -> Result<Tree, Failure> {
    let tree = mount::clone_tree(path::here(), directory, true)?;
    if path::kind_of(tree.as_fd())? != Kind::Directory {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR).into());
    }
    mount::set_propagation(tree.as_fd(), true, Travel::Private)?;
    attach_on_root(tree.as_fd())?;
    Ok(Tree { mount: tree, bound: false })
}

pub(super) fn overlay(lower: &str, upper: &Upper, bind_will_do: bool) -> Result<Tree, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lower_fd = rustix::fs::open(lower, flags, Mode::empty())?;
    let layers = match upper {
        Upper::Memory => {
            let memory = Filesystem::new("tmpfs")?;
            memory.set("mode", "0700")?;
            memory.mount(Attributes::default())?
        }
        Upper::Directory(directory) => {
            make_directories(directory)?;
            rustix::fs::open(directory.as_str(), flags, Mode::empty())?
        }
    };
    let mut made = stack(lower_fd.as_fd(), layers.as_fd());
    if *upper == Upper::Memory && made.as_ref().is_err_and(|e| e.errno == libc::EINVAL) {
        // Before Linux 6.15 the layers of an overlay must be attached while it is made. What
        // is stacked on the root is taken away again: there must be only one tree to let go
        // of when the root changes.
        attach_on_root(layers.as_fd())?;
        made = stack(lower_fd.as_fd(), layers.as_fd());
        mount::detach(layers.as_fd())?;
    }
    match made {
        Ok(tree) => {
            attach_on_root(tree.as_fd())?;
            Ok(Tree { mount: tree, bound: false })
        }
        // The kernel's reason for this goes to its own log only.
        Err(Failure { errno: libc::EINVAL, detail })
            if detail.is_empty() && path::is_on(lower_fd.as_fd(), path::Type::Overlay)? =>
        {
            if bind_will_do {
                return bound(lower);
            }
            let why = "this tree is an overlay itself, and the kernel stacks no more than two; \
                       writable = \"none\" works";
            Err(Failure { errno: libc::EINVAL, detail: why.to_owned() })
        }
        Err(failure) => Err(failure),
    }
}

/// Makes the overlay itself, with `upper` and `work` in `layers`.
fn stack(lower: BorrowedFd<'_>, layers: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let upper = layer(layers, "upper", Some(lower))?;
    let work = layer(layers, "work", None)?;
    let filesystem = Filesystem::new("overlay")?;
    // By descriptors: a path could be too long for an option, or have a colon in it.
    let option = |key, fd| {
        filesystem
            .set(key, &mount::path_of(fd))
            .map_err(|error| Failure::with(&error, filesystem.reason()))
    };
    option("lowerdir", lower)?;
    option("upperdir", upper.as_fd())?;
    option("workdir", work.as_fd())?;
    filesystem
        .mount(Attributes::default())
        .map_err(|error| Failure::with(&error, overlay_hint(&error, filesystem.reason())))
}

fn overlay_hint(error: &io::Error, reason: String) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "its upper directory is in use by another mount".to_owned(),
        _ => reason,
    }
}

/// Where overlays cannot be stacked any higher: the host's tree as it is, read-only.
fn bound(lower: &str) -> Result<Tree, Failure> {
    let tree = mount::clone_tree(path::here(), lower, true)?;
    let read_only = Attributes { read_only: true, ..Attributes::default() };
    mount::add_attributes(tree.as_fd(), true, read_only)?;
    attach_on_root(tree.as_fd())?;
    Ok(Tree { mount: tree, bound: true })
}

/// A directory of an overlay. The upper one is what the unit sees as its root: a new one
/// takes mode and owner from the lower tree.
fn layer(
    parent: BorrowedFd<'_>,
    name: &str,
    like: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {
            if let Some(like) = like {
                path::copy_owner_and_mode(like, parent, name)?;
            }
        }
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
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
    pub(super) fn change_root(&mut self) -> Result<(), Failure> {
        let Some(tree) = self.root.take() else {
            return Err(Failure::text("there is no root tree yet"));
        };
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

    pub(super) fn host_mounts(&mut self, except: &[String]) -> Result<(), Failure> {
        let Some(tree) = &self.root else {
            return Err(Failure::text("there is no root tree yet"));
        };
        if tree.bound {
            return Ok(());
        }
        let mounts = path::mounts(Which::Files, HOST_MOUNTS_MAX)?;
        let read_only = Attributes { read_only: true, ..Attributes::default() };
        for point in mounts.iter().map(|mount| mount.point.as_str()).filter(|point| {
            *point != "/" && !except.iter().any(|hidden| is_at_or_below(point, hidden))
        }) {
            let copy = match mount::clone_tree(path::here(), point, false) {
                Ok(copy) => copy,
                // Gone meanwhile or covered by another mount; another user's FUSE.
                Err(error) if is_out_of_sight(&error) => continue,
                Err(error) => return Err(Failure::with(&error, point)),
            };
            mount::add_attributes(copy.as_fd(), false, read_only)?;
            let kind = path::kind_of(copy.as_fd())?;
            path::mount_point(tree.mount.as_fd(), point, kind)
                .and_then(|target| mount::attach(copy.as_fd(), target.as_fd()))
                .map_err(|error| Failure::with(&error, point))?;
        }
        Ok(())
    }
}

fn is_out_of_sight(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EINVAL))
}
