//! The mount API by descriptors: trees are made detached, changed, then attached.
//!
//! Targets are descriptors or paths resolved by the caller with [`super::path`]; nothing
//! here follows a path into somebody else's tree.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

/// Properties of a mount, `MOUNT_ATTR_*` of `mount_setattr(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// No writes through this mount.
    pub read_only: bool,
    /// Set-user-id bits do nothing.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Programs cannot be executed.
    pub no_exec: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        let mut bits = 0;
        for (on, bit) in [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID),
            (self.no_dev, libc::MOUNT_ATTR_NODEV),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC),
        ] {
            if on {
                bits |= bit;
            }
        }
        bits
    }
}

/// How mounts made later travel, for [`set_propagation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// Not at all.
    Private,
    /// From the peer group to here.
    Slave,
    /// Both ways.
    Shared,
}

/// A filesystem that is being made. Its options are texts, at most 255 bytes each.
#[derive(Debug)]
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Begins with a type such as `tmpfs`.
    ///
    /// # Errors
    /// `ENODEV` when the kernel does not have it.
    pub fn new(kind: &str) -> io::Result<Self> {
        Ok(Self(rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option.
    ///
    /// # Errors
    /// `EINVAL`, with the kernel's reason in [`Self::reason`].
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(self.0.as_fd(), key, value)?)
    }

    /// Sets an option that has no value.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(self.0.as_fd(), key)?)
    }

    /// Makes the filesystem and a detached mount of it.
    ///
    /// # Errors
    /// Those of the filesystem, with the kernel's reason in [`Self::reason`].
    pub fn mount(&self, attributes: Attributes) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.0.as_fd())?;
        let flags =
            MountAttrFlags::from_bits_retain(u32::try_from(attributes.bits()).unwrap_or(u32::MAX));
        Ok(rustix::mount::fsmount(self.0.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
    }

    /// What the kernel says about the last error; empty when it says nothing.
    pub fn reason(&self) -> String {
        let mut buffer = [0; 256];
        match rustix::io::read(&self.0, &mut buffer) {
            Ok(count) => {
                let text = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
                text.trim_start_matches("e ").trim().to_owned()
            }
            Err(_) => String::new(),
        }
    }
}

/// A detached copy of the tree at `path` (with `path` empty: of `directory` itself),
/// with the mounts below it if `recursive`. It is in the same peer group as its source.
///
/// # Errors
/// As `open_tree(2)`; `EINVAL` when an unbindable or locked mount is in the way.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &str, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// A handle (`O_PATH`) on what is at a path of the calling process; symbolic links are followed,
/// and what mounts itself when it is looked at is mounted.
///
/// # Errors
/// As `open_tree(2)`.
pub fn place(path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(super::path::here(), path, flags)?)
}

/// Attaches a detached tree on what `target` refers to.
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", target, "", flags)?)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct SetAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Adds properties to a mount, and to those below it if `recursive`.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn add_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
) -> io::Result<()> {
    let change = SetAttributes { set: attributes.bits(), ..SetAttributes::default() };
    mount_setattr(mount, recursive, &change)
}

/// Makes a tree with all mounts in it read-only, and cuts it off from mounts that others
/// make there later.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn seal(tree: BorrowedFd<'_>) -> io::Result<()> {
    let set = libc::MOUNT_ATTR_RDONLY;
    let change = SetAttributes { set, propagation: libc::MS_PRIVATE, ..Default::default() };
    mount_setattr(tree, true, &change)
}

/// Lets a detached tree show the owners of its files as a user namespace maps them: what
/// belongs to root on the disk belongs to root inside, and what root inside writes belongs to
/// root on the disk.
///
/// # Errors
/// As `mount_setattr(2)`: `EINVAL` for a filesystem that cannot, or before Linux 5.12; `EPERM`
/// for a tree that is mapped already.
pub fn map_owners(
    tree: BorrowedFd<'_>,
    recursive: bool,
    user_namespace: BorrowedFd<'_>,
) -> io::Result<()> {
    let user_namespace = u64::from(user_namespace.as_raw_fd().unsigned_abs());
    let set = libc::MOUNT_ATTR_IDMAP;
    mount_setattr(tree, recursive, &SetAttributes { set, user_namespace, ..Default::default() })
}

/// Changes the propagation of a mount, and of those below it if `recursive`.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn set_propagation(mount: BorrowedFd<'_>, recursive: bool, travel: Travel) -> io::Result<()> {
    let propagation = match travel {
        Travel::Private => libc::MS_PRIVATE,
        Travel::Slave => libc::MS_SLAVE,
        Travel::Shared => libc::MS_SHARED,
    };
    let change = SetAttributes { propagation, ..SetAttributes::default() };
    mount_setattr(mount, recursive, &change)
}

fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, change: &SetAttributes) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let empty: &CStr = c"";
    // SAFETY: the path and the structure (layout of `struct mount_attr`, version 0, 32
    // bytes) live through the call.
    super::check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(change),
            size_of::<SetAttributes>(),
        )
    })
    .map(drop)
}

/// Makes `new_root` (attached in this mount namespace) the root of it and of the calling
/// process, working directory included, and lets go of the old one with all below.
///
/// # Errors
/// As `pivot_root(2)`; `EINVAL` when the old root is the initial ramfs.
pub fn change_root(new_root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(new_root)?;
    // With both arguments the same the old root is stacked on the new one, from where the
    // next call takes it away: no directory for it is needed in the new tree.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Makes sure that the root of the calling process is a mount that another can take the
/// place of. The initial ramfs is not: where a machine keeps running on it, a copy of the
/// tree (with all mounts below) is put on top of it and becomes the root; the mounts left
/// underneath are let go, or their filesystems could never be unmounted. Returns whether
/// that was needed. For process 1, before it opens anything: it changes what `/` is for
/// everybody who shares this mount namespace and looks it up anew.
///
/// # Errors
/// As `open_tree(2)`, `move_mount(2)` and chroot(2).
pub fn leave_initial_root() -> io::Result<bool> {
    let points = super::mountinfo::mounts(super::mountinfo::Which::All, usize::MAX)?;
    if !points.iter().any(|mount| mount.point == "/" && !mount.has_parent()) {
        return Ok(false);
    }
    let root = super::path::handle("/")?;
    let copy = clone_tree(root.as_fd(), "", true)?;
    attach(copy.as_fd(), root.as_fd())?;
    // Paths of this process still begin underneath. Those below another go with it.
    for mount in points.iter().filter(|mount| mount.point != "/") {
        match rustix::mount::unmount(&mount.point, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::process::fchdir(&copy)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    Ok(true)
}

/// Takes an attached mount away from where it is; it lives on while it is in use.
///
/// # Errors
/// As umount(2).
pub fn detach(mount: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::mount::unmount(path_of(mount), UnmountFlags::DETACH)?)
}

/// The path of a descriptor for options that only take paths, in this process.
pub fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
