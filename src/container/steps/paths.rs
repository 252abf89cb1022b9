//! Steps that keep a unit from paths of its own tree: masks, and mounts that make read-only.
//!
//! What must hold: a path is resolved once, inside the unit's root and never through the
//! magic links of /proc, and what it led to is covered by descriptor. The kernel's files are
//! looked up below `/proc` and `/sys` only once these are found to be what they are called.
//! What covers comes from filesystems made here, never from the unit's tree. Nothing made
//! here appears on the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::mounts::INERT;
use crate::container::status::Failure;
use crate::container::step::Covered;
use crate::sys::mount::{self, Attributes, Filesystem};
use crate::sys::mountinfo;
use crate::sys::path::{self, Kind, Type};

/// Below `/proc`: what shows the host's hardware, memory, keys and timing.
const MASKED_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// Below `/sys`: the firmware's tables, and power meters that betray what others compute.
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// Below `/proc`: what changes the host.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Most processors that Linux can be built for.
const PROCESSORS_MAX: u32 = 8192;

/// What covers paths: each is made when it is first needed, the further ones are copies.
#[derive(Debug, Default)]
pub(super) struct Covers {
    /// The unit's own `/dev/null`, once it is there.
    pub(super) null: Option<OwnedFd>,
    /// Whether the unit has a mount that travels to the host.
    pub(super) shared: bool,
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl Covers {
    pub(super) fn mask(&mut self, covered: &Covered) -> Result<(), Failure> {
        match covered {
            Covered::Path(path) => self.cover(open(path)?.as_fd()),
            Covered::Kernel => {
                let proc = kernel("/proc", Type::Proc)?;
                each(&proc, &MASKED_PROC, |point| self.cover(point))?;
                let sys = kernel("/sys", Type::Sys)?;
                each(&sys, &MASKED_SYS, |point| self.cover(point))?;
                for number in 0..processors(&sys)? {
                    let throttling = format!("devices/system/cpu/cpu{number}/thermal_throttle");
                    each(&sys, &[&throttling], |point| self.cover(point))?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn read_only(&self, covered: &Covered) -> Result<(), Failure> {
        match covered {
            Covered::Path(path) => self.protect(open(path)?.as_fd()),
            Covered::Kernel => {
                let proc = kernel("/proc", Type::Proc)?;
                each(&proc, &READ_ONLY_PROC, |point| self.protect(point))
            }
        }
    }

    /// Puts something empty of the same kind in its place.
    pub(super) fn cover(&mut self, point: BorrowedFd<'_>) -> Result<(), Failure> {
        self.stays_inside(point)?;
        let kind = path::kind_of(point)?;
        let first = match kind {
            Kind::Directory => &mut self.directory,
            Kind::File => &mut self.file,
        };
        let tree = match (&first, kind) {
            (Some(first), _) => mount::clone_tree(first.as_fd(), "", false)?,
            (None, Kind::Directory) => empty_directory()?,
            (None, Kind::File) => empty_file(self.null.as_ref())?,
        };
        mount::attach(tree.as_fd(), point)?;
        // Only what is attached can be copied on every kernel.
        first.get_or_insert(tree);
        Ok(())
    }

    /// Puts a read-only view of the same in its place.
    fn protect(&self, point: BorrowedFd<'_>) -> Result<(), Failure> {
        self.stays_inside(point)?;
        let tree = mount::clone_tree(point, "", true)?;
        mount::seal(tree.as_fd())?;
        Ok(mount::attach(tree.as_fd(), point)?)
    }

    /// What is mounted in a shared mount is mounted on the host too.
    pub(super) fn stays_inside(&self, point: BorrowedFd<'_>) -> Result<(), Failure> {
        if self.shared && mountinfo::is_in_shared_mount(point)? {
            let why = "it lies in a mount with propagation = \"shared\", where the host would \
                       be kept from it too; use \"slave\" or \"private\"";
            return Err(Failure::text(why));
        }
        Ok(())
    }
}

fn empty_directory() -> Result<OwnedFd, Failure> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0555")?;
    filesystem.set("size", "4k")?;
    filesystem.set("nr_inodes", "2")?;
    Ok(filesystem.mount(Attributes { read_only: true, ..INERT })?)
}

/// The null device, whose mode and owner cannot be changed here.
fn empty_file(null: Option<&OwnedFd>) -> Result<OwnedFd, Failure> {
    let null = null.ok_or_else(|| Failure::text("there is no /dev yet"))?;
    let tree = mount::clone_tree(null.as_fd(), "", false)?;
    if !path::is_null(tree.as_fd())? {
        return Err(Failure::text("the unit's null device is something else"));
    }
    let attributes = Attributes { read_only: true, no_dev: false, ..INERT };
    mount::add_attributes(tree.as_fd(), false, attributes)?;
    Ok(tree)
}

/// A path that a line of the unit's file names.
fn open(path: &str) -> io::Result<OwnedFd> {
    path::open_in(path::handle("/")?.as_fd(), path, OFlags::PATH)
}

/// `/proc` or `/sys`, if it is that and nothing else is mounted there.
pub(super) fn kernel(path: &str, kind: Type) -> Result<OwnedFd, Failure> {
    let directory = path::open_directly_in(path::handle("/")?.as_fd(), path)?;
    if path::is_on(directory.as_fd(), kind)? && path::is_first_inode(directory.as_fd())? {
        Ok(directory)
    } else {
        Err(Failure::text(format!("what is mounted on {path} is not the kernel's own")))
    }
}

/// Does it with those of some paths that exist. Below `directory` no link leads out of it.
fn each(
    directory: &OwnedFd,
    paths: &[&str],
    mut act: impl FnMut(BorrowedFd<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for path in paths {
        if let Some(point) = there(path::open_in(directory.as_fd(), path, OFlags::PATH))? {
            act(point.as_fd()).map_err(|failure| failure.at(path))?;
        }
    }
    Ok(())
}

/// `None` for what is not there.
pub(super) fn there(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// How many processors there can be, by their numbers; at most [`PROCESSORS_MAX`].
fn processors(sys: &OwnedFd) -> Result<u32, Failure> {
    let list = match path::open_regular_in(sys.as_fd(), "devices/system/cpu/possible") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => io::read_to_string(other?)?,
    };
    // "0-3", "0,2-7": the last number is the highest.
    let highest = list.trim().rsplit(['-', ',']).next().unwrap_or_default();
    match highest.parse::<u32>() {
        Ok(highest) => Ok(highest.saturating_add(1).min(PROCESSORS_MAX)),
        Err(_) => Err(Failure::text("the kernel's list of processors is no list")),
    }
}
