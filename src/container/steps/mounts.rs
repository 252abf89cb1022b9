//! Steps that mount something at a place inside the unit's tree, once it is the root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::paths::there;
use super::{State, dev, root};
use crate::container::status::{self, Failure};
use crate::container::step::Fresh;
use crate::sys::mount::{self, Attributes, Filesystem, Travel};
use crate::sys::{mountinfo, path};
use crate::unit::model::{MountSource, Propagation};

/// A detached tree on its way to its place.
pub(super) struct Source {
    pub(super) tree: OwnedFd,
    /// A volume that was made just now takes owner and mode of the directory it covers.
    pub(super) new_volume: bool,
    /// Further mounts, which go to these places in it.
    below: Vec<(String, OwnedFd)>,
    /// Where it shows berth's own directories.
    pub(super) own: Vec<OwnedFd>,
    /// Files of the host, and no mounts that travel there.
    pub(super) of_host: bool,
}

impl Source {
    pub(super) fn new(tree: OwnedFd) -> Self {
        Self { tree, new_volume: false, below: Vec::new(), own: Vec::new(), of_host: false }
    }

    /// Files of the host.
    pub(super) fn of_host(tree: OwnedFd) -> Self {
        Self { of_host: true, ..Self::new(tree) }
    }

    /// The further mounts go to their places.
    pub(super) fn attach_below(&mut self) -> io::Result<()> {
        for (way, below) in std::mem::take(&mut self.below) {
            let point = path::open_in(self.tree.as_fd(), &way, OFlags::PATH)?;
            mount::attach(below.as_fd(), point.as_fd())?;
        }
        Ok(())
    }
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

pub(super) fn cgroup(writable: bool) -> Result<(), Failure> {
    match Filesystem::new("cgroup2") {
        Ok(filesystem) => {
            let tree = filesystem.mount(Attributes { read_only: !writable, ..INERT })?;
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
                let top = mount::place(path)?;
                self.is_meant(path, top.as_fd())?;
                self.bind(top.as_fd(), *recursive, *propagation)?
            }
            MountSource::Volume { .. } => self.volume(path)?,
            MountSource::Tmpfs { .. } => return Err(Failure::text("a tmpfs has no source")),
        };
        if read_only {
            mount::add_attributes(opened.tree.as_fd(), true, READ_ONLY)?;
            for (_, tree) in &opened.below {
                mount::add_attributes(tree.as_fd(), false, READ_ONLY)?;
            }
        }
        if let MountSource::Bind { propagation: Propagation::Shared, .. } = source {
            self.covers.shared = true;
        }
        self.keep(slot, opened)
    }

    /// A copy of the host's tree at `top` as the unit sees it.
    fn bind(
        &mut self,
        top: BorrowedFd<'_>,
        recursive: bool,
        propagation: Propagation,
    ) -> Result<Source, Failure> {
        let mut source = Source::of_host(copy(top, recursive, propagation)?);
        source.of_host = propagation != Propagation::Shared;
        match self.map_copy(source.tree.as_fd(), recursive) {
            Err(_) if recursive && propagation == Propagation::Private && self.users.forgives() => {
                return self.bind_in_pieces(top);
            }
            other => other?,
        }
        // What is mounted in a shared mount is mounted on the host too.
        if propagation != Propagation::Shared {
            source.own = self.own_in(top, source.tree.as_fd(), recursive)?;
        }
        Ok(source)
    }

    /// The same where one of the mounts below cannot be mapped: each by itself. What cannot be
    /// is nobody's in there, and can be read by who may.
    fn bind_in_pieces(&mut self, top: BorrowedFd<'_>) -> Result<Source, Failure> {
        let mut source = self.bind(top, false, Propagation::Private)?;
        let (id, path) = (mountinfo::id_of(top)?, mountinfo::path_of(top)?);
        for (way, mounted) in mountinfo::below(&mountinfo::table()?, id, &path, |_| true) {
            let Some(place) = there(path::open_in(top, way, OFlags::PATH))? else { continue };
            if mountinfo::id_of(place.as_fd())? != mounted.id {
                // Another is mounted on top of it.
                continue;
            }
            let tree = copy(place.as_fd(), false, Propagation::Private)?;
            match self.map_copy(tree.as_fd(), false) {
                Err(_) if self.users.forgives() => self.unmapped.push(mounted.point.clone()),
                other => other?,
            }
            source.own.extend(self.own_in(place.as_fd(), tree.as_fd(), false)?);
            source.below.push((way.to_owned(), tree));
        }
        Ok(source)
    }

    pub(super) fn keep(&mut self, slot: usize, opened: Source) -> Result<(), Failure> {
        let place = self.slots.get_mut(slot).ok_or_else(|| Failure::text("no such slot"))?;
        *place = Some(opened);
        Ok(())
    }

    /// A volume's directory, made (0755) on first use.
    fn volume(&mut self, path: &str) -> Result<Source, Failure> {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        let is_new = match rustix::fs::mkdir(path, mode) {
            Err(rustix::io::Errno::EXIST) => false,
            Err(rustix::io::Errno::NOENT) => {
                if let Some((parent, _)) = path.rsplit_once('/') {
                    root::make_directories(parent)?;
                }
                rustix::fs::mkdir(path, mode)?;
                true
            }
            other => {
                other?;
                true
            }
        };
        if is_new {
            self.new_volumes.push(path.to_owned());
        }
        // Made by this start, if perhaps before it had to begin again.
        let new_volume = self.new_volumes.iter().any(|new| new == path);
        let top = mount::place(path)?;
        let tree = copy(top.as_fd(), false, Propagation::Private)?;
        self.map_copy(tree.as_fd(), false)?;
        Ok(Source { new_volume, ..Source::of_host(tree) })
    }

    pub(super) fn take(&mut self, slot: usize) -> Result<Source, Failure> {
        let place = self.slots.get_mut(slot).and_then(Option::take);
        place.ok_or_else(|| Failure::text("its source is not open"))
    }

    /// What only its maker has the rights for.
    pub(super) fn fresh(&mut self, slot: usize, kind: Fresh) -> Result<(), Failure> {
        let tree = match kind {
            Fresh::Proc => Filesystem::new("proc")?.mount(INERT)?,
            Fresh::Sys { writable, hosts } => match new_sys(writable) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) && self.users.is_some() => {
                    self.hosts_sys(hosts, &error)?
                }
                other => other?,
            },
            Fresh::Devices => dev::nodes(self.users.root())?,
            Fresh::Queues => match dev::new_queues()? {
                Some(tree) => tree,
                None => return Ok(()),
            },
        };
        self.keep(slot, Source::new(tree))
    }

    /// A copy of the host's `/sys` in case the kernel refuses the unit one of its own, because
    /// something is mounted below the host's that hides a part of it.
    pub(super) fn spare_sys(&mut self, slot: usize) -> Result<(), Failure> {
        if !self.users.is_some() || !self.hides_sys() {
            return Ok(());
        }
        let tree = mount::clone_tree(path::here(), "/sys", true)?;
        mount::add_attributes(tree.as_fd(), true, Attributes { read_only: true, ..INERT })?;
        mount::set_propagation(tree.as_fd(), true, Travel::Private)?;
        self.keep(slot, Source::new(tree))
    }

    /// What the kernel refuses is taken from the host, if that was prepared.
    fn hosts_sys(&mut self, slot: Option<usize>, error: &io::Error) -> Result<OwnedFd, Failure> {
        let spare = slot.and_then(|slot| self.slots.get_mut(slot)).and_then(Option::take);
        let why = "something is mounted below the host's /sys that hides a part of it";
        let Some(spare) = spare else {
            return Err(Failure::with(error, format!("{why}; user-namespace = \"none\" works")));
        };
        let lack = format!("sysfs: {why}, so it sees the host's, read-only");
        status::send_lack(self.channel, &lack)?;
        Ok(spare.tree)
    }

    /// Mounts what a slot holds where its name says.
    pub(super) fn put_slot(&mut self, slot: usize, target: &str) -> Result<(), Failure> {
        put_directly(self.take(slot)?.tree.as_fd(), target)
    }

    pub(super) fn dev(&mut self, slot: usize, queues: Option<usize>) -> Result<(), Failure> {
        let nodes = self.take(slot)?.tree;
        let queues = match queues {
            Some(slot) => self.slots.get_mut(slot).and_then(Option::take).map(|it| it.tree),
            None => dev::new_queues()?,
        };
        self.covers.null = Some(dev::fill(nodes.as_fd(), queues)?);
        Ok(())
    }

    pub(super) fn attach(&mut self, slot: usize, target: &str) -> Result<(), Failure> {
        let mut opened = self.take(slot)?;
        let root = path::handle("/")?;
        let tree = opened.tree.as_fd();
        let point = path::mount_point(root.as_fd(), target, path::kind_of(tree)?)?;
        if opened.new_volume {
            path::copy_owner_and_mode(point.as_fd(), tree, "")?;
        }
        mount::attach(tree, point.as_fd())?;
        opened.attach_below()?;
        self.shows(opened.own);
        Ok(())
    }
}

/// That of the network which the process is in.
fn new_sys(writable: bool) -> io::Result<OwnedFd> {
    Filesystem::new("sysfs")?.mount(Attributes { read_only: !writable, ..INERT })
}

/// A copy of a host tree. It is taken while the host's mounts still have their peers.
fn copy(
    top: BorrowedFd<'_>,
    recursive: bool,
    propagation: Propagation,
) -> Result<OwnedFd, Failure> {
    let tree = mount::clone_tree(top, "", recursive)?;
    let travel = match propagation {
        Propagation::Private => Travel::Private,
        Propagation::Slave => Travel::Slave,
        Propagation::Shared => Travel::Shared,
    };
    mount::set_propagation(tree.as_fd(), recursive, travel)?;
    Ok(tree)
}
