//! Steps that mount something at a place inside the unit's tree, once it is the root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{State, root};
use crate::container::status::Failure;
use crate::sys::mount::{self, Attributes, Filesystem, Travel};
use crate::sys::path;
use crate::unit::model::{MountSource, Propagation};

/// A detached tree on its way to its place.
pub(super) struct Source {
    pub(super) tree: OwnedFd,
    /// A volume that was made just now takes owner and mode of the directory it covers.
    pub(super) new_volume: bool,
}

/// Nothing but data.
pub(super) const INERT: Attributes =
    Attributes { read_only: false, no_suid: true, no_dev: true, no_exec: true };

const READ_ONLY: Attributes =
    Attributes { read_only: true, no_suid: false, no_dev: false, no_exec: false };

/// Attaches a tree at an absolute path of the unit's root, which is made if missing.
pub(super) fn put(tree: BorrowedFd<'_>, target: &str) -> io::Result<()> {
    let root = path::handle("/")?;
    let point = path::mount_point(root.as_fd(), target, path::kind_of(tree)?)?;
    mount::attach(tree, point.as_fd())
}

/// As [`put`], for what berth itself relies on: it is mounted where its name says and not
/// where a link of the root tree leads.
pub(super) fn put_directly(tree: BorrowedFd<'_>, target: &str) -> Result<(), Failure> {
    match path::open_directly_in(path::handle("/")?.as_fd(), target) {
        Ok(point) => Ok(mount::attach(tree, point.as_fd())?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(put(tree, target)?),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            Err(Failure::with(&error, format!("{target} of the root tree is a symbolic link")))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn proc() -> Result<(), Failure> {
    put_directly(Filesystem::new("proc")?.mount(INERT)?.as_fd(), "/proc")
}

pub(super) fn cgroup() -> Result<(), Failure> {
    match Filesystem::new("cgroup2") {
        Ok(filesystem) => {
            let tree = filesystem.mount(Attributes { read_only: true, ..INERT })?;
            Ok(put(tree.as_fd(), "/sys/fs/cgroup")?)
        }
        // A kernel without control groups has nothing to show.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn tmpfs(
    target: &str,
    size: Option<u64>,
    mode: u32,
    read_only: bool,
) -> Result<(), Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", &format!("{mode:o}"))?;
    if let Some(size) = size {
        filesystem.set("size", &size.to_string())?;
    }
    let attributes = Attributes { read_only, no_suid: true, no_dev: true, no_exec: false };
    Ok(put(filesystem.mount(attributes)?.as_fd(), target)?)
}

impl State<'_> {
    pub(super) fn open(
        &mut self,
        slot: usize,
        source: &MountSource,
        path: &str,
        read_only: bool,
    ) -> Result<(), Failure> {
        let opened = match source {
            MountSource::Bind { propagation, recursive, .. } => {
                Source { tree: bind(path, *recursive, *propagation)?, new_volume: false }
            }
            MountSource::Volume { .. } => volume(path)?,
            MountSource::Tmpfs { .. } => return Err(Failure::text("a tmpfs has no source")),
        };
        if read_only {
            mount::add_attributes(opened.tree.as_fd(), true, READ_ONLY)?;
        }
        self.keep(slot, opened)?;
        if let MountSource::Bind { propagation: Propagation::Shared, .. } = source {
            self.covers.shared = true;
        }
        Ok(())
    }

    /// The host's own node, of which owner and mode cannot be changed through this mount.
    pub(super) fn open_device(&mut self, slot: usize, path: &str) -> Result<(), Failure> {
        let (node, _) = path::device(path)?;
        let tree = mount::clone_tree(node.as_fd(), "", false)?;
        let attributes = Attributes { no_dev: false, read_only: true, ..INERT };
        mount::add_attributes(tree.as_fd(), false, attributes)?;
        mount::set_propagation(tree.as_fd(), false, Travel::Private)?;
        self.keep(slot, Source { tree, new_volume: false })
    }

    pub(super) fn keep(&mut self, slot: usize, source: Source) -> Result<(), Failure> {
        let place = self.slots.get_mut(slot).ok_or_else(|| Failure::text("no such slot"))?;
        *place = Some(source);
        Ok(())
    }

    pub(super) fn take(&mut self, slot: usize) -> Result<Source, Failure> {
        let place = self.slots.get_mut(slot).and_then(Option::take);
        place.ok_or_else(|| Failure::text("its source is not open"))
    }

    pub(super) fn sys(&mut self, slot: Option<usize>) -> Result<(), Failure> {
        let tree = match slot {
            Some(slot) => self.take(slot)?.tree,
            None => Filesystem::new("sysfs")?.mount(Attributes { read_only: true, ..INERT })?,
        };
        put_directly(tree.as_fd(), "/sys")
    }

    pub(super) fn attach(&mut self, slot: usize, target: &str) -> Result<(), Failure> {
        let opened = self.take(slot)?;
        let root = path::handle("/")?;
        let tree = opened.tree.as_fd();
        let point = path::mount_point(root.as_fd(), target, path::kind_of(tree)?)?;
        if opened.new_volume {
            path::copy_owner_and_mode(point.as_fd(), tree, "")?;
        }
        Ok(mount::attach(tree, point.as_fd())?)
    }
}

/// A copy of a host tree. It is taken while the host's mounts still have their peers.
fn bind(path: &str, recursive: bool, propagation: Propagation) -> Result<OwnedFd, Failure> {
    let tree = mount::clone_tree(path::here(), path, recursive)?;
    let travel = match propagation {
        Propagation::Private => Travel::Private,
        Propagation::Slave => Travel::Slave,
        Propagation::Shared => Travel::Shared,
    };
    mount::set_propagation(tree.as_fd(), recursive, travel)?;
    Ok(tree)
}

/// A volume's directory, made (0755) on first use.
fn volume(path: &str) -> Result<Source, Failure> {
    let new_volume = match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => false,
        Err(rustix::io::Errno::NOENT) => {
            if let Some((parent, _)) = path.rsplit_once('/') {
                root::make_directories(parent)?;
            }
            rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755))?;
            true
        }
        other => {
            other?;
            true
        }
    };
    Ok(Source { tree: mount::clone_tree(path::here(), path, false)?, new_volume })
}
