//! The step that makes a root tree of two layers.
//!
//! An overlay cannot show other owners, but its layers can: what they show is what it shows.
//! What must hold: on the disk the upper layer of a unit with a user namespace has the
//! numbers of the inside, so that it stays right when the range changes. In memory it has
//! those of the host, because it is gone with the run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::State;
use super::root::{Tree, attach_on_root, make_directories, private_mounts};
use crate::container::status::Failure;
use crate::container::step::Upper;
use crate::sys::clone::namespace as flag;
use crate::sys::mount::{self, Attributes, Filesystem};
use crate::sys::{capability, identity, namespace, path};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What an overlay is made of.
struct Layers {
    lower: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
    /// Mounts of these that are attached nowhere.
    detached: Vec<OwnedFd>,
    /// Who makes directories in the upper layer: who owns what root owns there.
    maker: (u32, u32),
}

impl State<'_> {
    pub(super) fn overlay(
        &mut self,
        lower: &str,
        upper: &Upper,
        bind_will_do: bool,
    ) -> Result<Tree, Failure> {
        let mut layers = self.layers(lower, upper)?;
        let mut made = self.stack(&layers);
        if !layers.detached.is_empty() && made.as_ref().is_err_and(|e| e.errno == libc::EINVAL) {
            // Before Linux 6.15 the layers of an overlay must be attached while it is made,
            // which is not to be seen on the host. What is stacked on the root is taken away
            // again: there must be only one tree to let go of when the root changes.
            if !self.users.is_some() {
                // The host's own mount stays behind in the host's namespace.
                layers.lower = mount::clone_tree(layers.lower.as_fd(), "", false)?;
                layers.detached.push(layers.lower.try_clone()?);
            }
            namespace::leave(flag::MOUNT)?;
            private_mounts()?;
            self.look_for_own_again()?;
            for tree in &layers.detached {
                attach_on_root(tree.as_fd())?;
            }
            made = self.stack(&layers);
            for tree in layers.detached.iter().rev() {
                mount::detach(tree.as_fd())?;
            }
        }
        match made {
            Ok(mount) => Ok(Tree { mount, bound: false }),
            // The kernel's reason for this goes to its own log only.
            Err(Failure { errno: libc::EINVAL, detail })
                if detail.is_empty() && path::is_on(layers.lower.as_fd(), path::Type::Overlay)? =>
            {
                if bind_will_do {
                    return self.bind_instead(lower);
                }
                let why = "this tree is an overlay itself, and the kernel stacks no more than \
                           two; writable = \"none\" works";
                Err(Failure { errno: libc::EINVAL, detail: why.to_owned() })
            }
            Err(failure) => Err(failure),
        }
    }

    fn layers(&mut self, lower: &str, upper: &Upper) -> Result<Layers, Failure> {
        let plain = rustix::fs::open(lower, DIRECTORY, Mode::empty())?;
        self.is_meant(lower, plain.as_fd())?;
        self.root_shows(plain.as_fd())?;
        let mut detached = Vec::new();
        let lower = if self.users.is_some() {
            let tree = mount::clone_tree(plain.as_fd(), "", false)?;
            self.users.map(tree.as_fd(), false)?;
            detached.push(tree.try_clone()?);
            tree
        } else {
            plain.try_clone()?
        };
        match upper {
            Upper::Memory => {
                let memory = Filesystem::new("tmpfs")?;
                memory.set("mode", "0700")?;
                let memory = memory.mount(Attributes::default())?;
                let upper = layer(memory.as_fd(), "upper", Some(lower.as_fd()))?;
                let work = layer(memory.as_fd(), "work", None)?;
                detached.push(memory);
                Ok(Layers { lower, upper, work, detached, maker: (0, 0) })
            }
            Upper::Directory(directory) => {
                make_directories(directory)?;
                let kept = rustix::fs::open(directory.as_str(), DIRECTORY, Mode::empty())?;
                let upper = layer(kept.as_fd(), "upper", Some(plain.as_fd()))?;
                let work = layer(kept.as_fd(), "work", None)?;
                if !self.users.is_some() {
                    return Ok(Layers { lower, upper, work, detached, maker: (0, 0) });
                }
                let tree = mount::clone_tree(kept.as_fd(), "", false)?;
                self.users.map(tree.as_fd(), false)?;
                let upper = open_layer(tree.as_fd(), "upper")?;
                let work = open_layer(tree.as_fd(), "work")?;
                detached.push(tree);
                Ok(Layers { lower, upper, work, detached, maker: self.users.root() })
            }
        }
    }

    /// Makes the overlay itself.
    fn stack(&self, layers: &Layers) -> Result<OwnedFd, Failure> {
        let filesystem = Filesystem::new("overlay")?;
        // By descriptors: a path could be too long for an option, or have a colon in it.
        let option = |key, fd| {
            filesystem
                .set(key, &mount::path_of(fd))
                .map_err(|error| Failure::with(&error, filesystem.reason()))
        };
        option("lowerdir", layers.lower.as_fd())?;
        option("upperdir", layers.upper.as_fd())?;
        option("workdir", layers.work.as_fd())?;
        // What the overlay makes for itself it makes as who mounted it, whose number there
        // must be one on the disk for. That takes rights with it, which are taken back.
        let (uid, gid) = layers.maker;
        identity::become_owner_of_files(uid, gid);
        capability::set(self.held.permitted, 0)?;
        let made = filesystem.mount(Attributes::default());
        identity::become_owner_of_files(0, 0);
        made.map_err(|error| Failure::with(&error, overlay_hint(&error, filesystem.reason())))
    }

    /// Where overlays cannot be stacked any higher: the host's tree as it is, read-only.
    fn bind_instead(&mut self, lower: &str) -> Result<Tree, Failure> {
        // The one from before may be in a namespace that was left.
        let top = mount::place(lower)?;
        self.is_meant(lower, top.as_fd())?;
        let mount = mount::clone_tree(top.as_fd(), "", true)?;
        let read_only = Attributes { read_only: true, ..Attributes::default() };
        mount::add_attributes(mount.as_fd(), true, read_only)?;
        mount::set_propagation(mount.as_fd(), true, mount::Travel::Private)?;
        let own = self.own_in(top.as_fd(), mount.as_fd(), true)?;
        self.shows(own);
        Ok(Tree { mount, bound: true })
    }
}

fn overlay_hint(error: &io::Error, reason: String) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "its upper directory is in use by another mount".to_owned(),
        _ => reason,
    }
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
    open_layer(parent, name)
}

fn open_layer(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}
