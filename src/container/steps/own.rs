//! Steps that keep berth's own directories (where its control socket, secrets and keys are) out
//! of a unit's sight, whichever of the host's directories it is shown.
//!
//! Paths do not say what is where: links lead elsewhere, and a filesystem may be mounted in
//! several places. What must hold: a directory is known by its filesystem and its place in
//! there; where a copy of a host's tree shows one, it is opened in that very copy before
//! anybody of the unit runs, and covered by that descriptor. What a unit file names by berth's
//! own path is meant; what only a link leads to is not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::State;
use super::paths::there;
use crate::container::plan::is_at_or_below;
use crate::container::status::Failure;
use crate::sys::mountinfo::{self, Mounted};
use crate::sys::path::{self, Type};

/// Below an own directory, what may be meant by whoever made a link to it: it is the units'.
const OF_UNITS: [&str; 2] = ["/rootfs/", "/volumes/"];

/// What sysfs has for mounts, and nothing below (`sysfs_create_mount_point` of the kernel).
const MOUNT_POINTS: [&str; 13] = [
    "/sys/firmware/efi/efivars",
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/fs/resctrl",
    "/sys/fs/selinux",
    "/sys/fs/smackfs",
    "/sys/hypervisor/s390",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// What is known of berth's own directories.
#[derive(Debug, Default)]
pub(super) struct Own {
    directories: Vec<Directory>,
    table: Vec<Mounted>,
    /// In trees that the unit sees.
    shown: Vec<OwnedFd>,
    /// In a root tree of two layers, which shows files under numbers of its own: paths.
    in_root: Vec<String>,
}

/// One of them.
#[derive(Debug)]
struct Directory {
    /// As it was told.
    name: String,
    place: Place,
    device: u64,
    inode: u64,
}

/// Where something is, whatever path leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The filesystem as mountinfo names it; empty where that says nothing.
    filesystem: String,
    /// The path in there, without a slash at its end.
    path: String,
}

/// Where a tree shows one of them.
struct Shown {
    /// From the top of the tree.
    path: String,
    device: u64,
    /// `None`: a part of it.
    inode: Option<u64>,
}

/// What of `path` is beyond `top`: empty, or with a slash at its begin.
fn beyond<'a>(path: &'a str, top: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(top.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_end_matches('/'))
}

/// Whether something in an own directory is there for units.
fn is_of_units(inside: &str) -> bool {
    OF_UNITS.iter().any(|of_units| inside.starts_with(of_units))
}

impl Place {
    fn of(fd: BorrowedFd<'_>, table: &[Mounted]) -> io::Result<(Self, String)> {
        let id = mountinfo::id_of(fd)?;
        let path = mountinfo::path_of(fd)?;
        let mount = table.iter().find(|mount| mount.id == id);
        let known = mount.and_then(|mount| Some((mount, beyond(&path, &mount.point)?)));
        let place = match known {
            Some((mount, rest)) => Self::new(&mount.device, &mount.root, rest),
            // A root that is no mount: paths are all there is.
            None => Self::new("", "/", &path),
        };
        Ok((place, path))
    }

    fn new(filesystem: &str, root: &str, rest: &str) -> Self {
        let path = format!("{}{}", root.trim_end_matches('/'), rest.trim_end_matches('/'));
        Self { filesystem: filesystem.to_owned(), path }
    }

    /// What of `other` is beyond this.
    fn down_to<'a>(&self, other: &'a Self) -> Option<&'a str> {
        let same = self.filesystem == other.filesystem;
        same.then(|| beyond(&other.path, &self.path)).flatten()
    }
}

impl Own {
    fn find(names: &[String]) -> Result<Self, Failure> {
        let mut own = Self { table: mountinfo::table()?, ..Self::default() };
        for name in names {
            let Some(fd) = there(path::handle(name))? else { continue };
            let (place, _) = Place::of(fd.as_fd(), &own.table)?;
            let status = rustix::fs::fstat(&fd)?;
            let (device, inode) = (status.st_dev, status.st_ino);
            own.directories.push(Directory { name: name.clone(), place, device, inode });
        }
        Ok(own)
    }

    /// Where a tree, of which `top` is the place on the host, shows them.
    fn shown_in(&self, top: BorrowedFd<'_>, recursive: bool) -> Result<Vec<Shown>, Failure> {
        if self.directories.is_empty() {
            return Ok(Vec::new());
        }
        let (place, path) = Place::of(top, &self.table)?;
        let mut trees = vec![(String::new(), place)];
        if recursive {
            let matters = |mount: &Mounted| {
                self.directories.iter().any(|own| own.place.filesystem == mount.device)
            };
            let below = mountinfo::below(&self.table, mountinfo::id_of(top)?, &path, matters);
            trees.extend(
                below.map(|(way, mount)| {
                    (way.to_owned(), Place::new(&mount.device, &mount.root, ""))
                }),
            );
        }
        let mut all = Vec::new();
        for (way, tree) in &trees {
            for own in &self.directories {
                let (rest, inode) = if let Some(rest) = tree.down_to(&own.place) {
                    (rest, Some(own.inode))
                } else if own.place.down_to(tree).is_some_and(|inside| !is_of_units(inside)) {
                    ("", None)
                } else {
                    continue;
                };
                // The tree itself was asked for.
                if !(way.is_empty() && rest.is_empty()) {
                    all.push(Shown { path: format!("{way}{rest}"), device: own.device, inode });
                }
            }
        }
        Ok(all)
    }

    /// That a source that is named as a part of a volume, or of a root tree of berth's, is one:
    /// whoever writes there can have made a link of it.
    fn stays_in_what_is_the_units(&self, named: &str, top: BorrowedFd<'_>) -> Result<(), Failure> {
        // Without double slashes and dots.
        let named: PathBuf = Path::new(named).components().collect();
        let named = named.to_str().unwrap_or_default();
        for own in &self.directories {
            let inside = beyond(named, &own.name).filter(|it| is_of_units(it));
            let Some(inside) = inside else { continue };
            // "/volumes/NAME": who calls it so has no power over these two.
            let parts: Vec<&str> = inside.splitn(4, '/').take(3).collect();
            let whole = format!("{}{}", own.name.trim_end_matches('/'), parts.join("/"));
            let Some(whole) = there(path::handle(&whole))? else { continue };
            let (whole, path) = (mountinfo::path_of(whole.as_fd())?, mountinfo::path_of(top)?);
            if !is_at_or_below(&path, &whole) {
                let why = format!(
                    "a link in {whole} leads to {path}, and a service may have made it; if that \
                     is meant, write {path}"
                );
                return Err(Failure::text(why));
            }
        }
        Ok(())
    }

    /// That a source is none of them, nor lies within one, unless it was named so.
    fn refuse(&self, named: &str, top: BorrowedFd<'_>) -> Result<(), Failure> {
        if self.directories.is_empty() {
            return Ok(());
        }
        let (place, path) = Place::of(top, &self.table)?;
        for own in &self.directories {
            let Some(inside) = own.place.down_to(&place) else { continue };
            let meant = self.directories.iter().any(|own| is_at_or_below(named, &own.name))
                || is_of_units(inside);
            if !meant {
                let why = format!(
                    "it leads to {path}, which is berth's own; if that is meant, write {}{inside}",
                    own.name
                );
                return Err(Failure::text(why));
            }
        }
        Ok(())
    }
}

impl State<'_> {
    /// Finds them, while the host's tree is in sight.
    pub(super) fn find_own(&mut self, names: &[String]) -> Result<(), Failure> {
        self.own = Own::find(names)?;
        Ok(())
    }

    /// Whether something may be mounted below the host's `/sys` that keeps a part of it from
    /// sight: anything but on the directories that sysfs makes for that, which are empty.
    pub(super) fn hides_sys(&self) -> bool {
        self.own.table.iter().any(|mount| {
            let is_below = mount.point.starts_with("/sys/");
            let parent = self.own.table.iter().find(|other| other.id == mount.parent);
            let on_sysfs = parent.is_some_and(|parent| parent.kind == "sysfs");
            is_below && on_sysfs && !MOUNT_POINTS.contains(&mount.point.as_str())
        })
    }

    /// In another mount namespace all mounts have other numbers.
    pub(super) fn look_for_own_again(&mut self) -> Result<(), Failure> {
        if !self.own.directories.is_empty() {
            self.own.table = mountinfo::table()?;
        }
        Ok(())
    }

    /// That somebody meant to show this to the unit.
    pub(super) fn is_meant(&self, named: &str, top: BorrowedFd<'_>) -> Result<(), Failure> {
        self.own.stays_in_what_is_the_units(named, top)?;
        self.own.refuse(named, top)
    }

    /// Whether a place on the host is one of them, or lies within one, and is not the units'.
    pub(super) fn is_own(&self, top: BorrowedFd<'_>) -> bool {
        self.own.refuse("", top).is_err()
    }

    /// Opens them in a copy of the host's tree at `top`.
    pub(super) fn own_in(
        &self,
        top: BorrowedFd<'_>,
        tree: BorrowedFd<'_>,
        recursive: bool,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let mut opened = Vec::new();
        for Shown { path, device, inode } in self.own.shown_in(top, recursive)? {
            // Something else may be mounted on it.
            let Some(point) = there(path::open_in(tree, &path, OFlags::PATH))? else { continue };
            let status = rustix::fs::fstat(&point)?;
            if status.st_dev == device && inode.is_none_or(|inode| status.st_ino == inode) {
                opened.push(point);
            }
        }
        Ok(opened)
    }

    /// They are to be hidden.
    pub(super) fn shows(&mut self, points: Vec<OwnedFd>) {
        self.own.shown.extend(points);
    }

    /// The root tree is made of two layers, the lower one of which is `lower`.
    pub(super) fn root_shows(&mut self, lower: BorrowedFd<'_>) -> Result<(), Failure> {
        let shown = self.own.shown_in(lower, false)?;
        self.own.in_root.extend(shown.into_iter().map(|shown| shown.path));
        Ok(())
    }

    /// Covers what is in sight by now.
    pub(super) fn hide_own(&mut self) -> Result<(), Failure> {
        let root = path::handle("/")?;
        for point in self.take_own_in_root(root.as_fd())? {
            self.covers.cover(point.as_fd())?;
        }
        for point in self.take_shown() {
            self.covers.cover(point.as_fd())?;
        }
        Ok(())
    }

    /// What is to be covered in the root tree of two layers, whose top is `root`.
    pub(super) fn take_own_in_root(
        &mut self,
        root: BorrowedFd<'_>,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let mut points = Vec::new();
        for way in std::mem::take(&mut self.own.in_root) {
            let point = match path::open_directly_in(root, &way) {
                // A link, or no directory: the upper layer has something else there.
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => continue,
                other => there(other)?,
            };
            let Some(point) = point else { continue };
            if path::is_on(point.as_fd(), Type::Overlay)? {
                points.push(point);
            }
        }
        Ok(points)
    }

    /// What is to be covered in other trees.
    pub(super) fn take_shown(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.own.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_what_is_mounted() {
        let place = |filesystem, root, rest| Place::new(filesystem, root, rest);
        let own = place("8:1", "/", "/var/lib/berth");
        assert_eq!(own, place("8:1", "/var/lib", "/berth/"));
        assert_eq!(place("8:1", "/", "").down_to(&own), Some("/var/lib/berth"));
        assert_eq!(place("8:1", "/var", "/lib").down_to(&own), Some("/berth"));
        assert_eq!(own.down_to(&own), Some(""));
        assert_eq!(own.down_to(&place("8:1", "/var/lib/berth/log", "")), Some("/log"));
        for other in [place("8:2", "/", ""), place("8:1", "/var/li", ""), place("", "/", "")] {
            assert_eq!(other.down_to(&own), None);
        }
    }
}
