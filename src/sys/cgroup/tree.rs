//! The trees of the host, berth's own place in each, and the groups `berth-ID` there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::devices::Programs;
use super::group::{Above, Legacy};
use super::{Error, Group, Wanted, group, limits, read};

/// Where berth itself goes on a host whose groups hold either processes or children.
/// No unit's name begins with a dash.
const OWN_GROUP: &str = "-supervisor";

/// How long the groups of a killed supervisor may take to become empty.
const LEFTOVERS_WAIT: Duration = Duration::from_secs(5);

/// One mounted hierarchy and berth's own group in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    /// Names of its version 1 controllers; empty for version 2.
    pub controllers: Vec<String>,
    /// The directory of berth's own group.
    pub own: PathBuf,
    /// Its path as in /proc/self/cgroup.
    pub path: PathBuf,
}

impl Hierarchy {
    /// Whether a controller is bound to it.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }
}

/// Where control groups can be made on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    unified: Option<Hierarchy>,
    legacy: Vec<Hierarchy>,
    /// This process is in [`OWN_GROUP`], into which it has moved before it began again: what
    /// counts as its own group is the one it was in before.
    inside: bool,
}

impl Tree {
    /// Finds berth's own group in every mounted hierarchy.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn discover() -> Result<Self, Error> {
        let get = |path: &str| {
            let path = Path::new(path);
            read(path).map_err(|error| Error::io("read", path, error))
        };
        Ok(Self::parse(&get("/proc/self/cgroup")?, &get("/proc/self/mountinfo")?))
    }

    /// The pure part of [`Self::discover`]: both texts as in proc(5).
    pub fn parse(own: &str, mounts: &str) -> Self {
        let mut tree = Self::default();
        for mount in mounts.lines().filter_map(parse_mount) {
            let Some(entry) = own.lines().find_map(|line| own_entry(line, &mount)) else {
                continue;
            };
            let Some(own) = place(&mount, entry.path) else { continue };
            let path = PathBuf::from(entry.path);
            let (own, path) = match (outside(&own), outside(&path)) {
                (Some(own), Some(path)) => {
                    tree.inside = true;
                    (own, path)
                }
                _ => (own, path),
            };
            if mount.kind == "cgroup2" {
                tree.unified.get_or_insert(Hierarchy { controllers: Vec::new(), own, path });
            } else if !tree.legacy.iter().any(|known| known.own == own) {
                let controllers = entry.controllers.split(',').map(str::to_owned).collect();
                tree.legacy.push(Hierarchy { controllers, own, path });
            }
        }
        tree
    }

    /// The directories of berth's own group, in version 2 first.
    pub fn own_groups(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().chain(&self.legacy).map(|one| one.own.as_path())
    }

    /// Makes the group `berth-ID`, in which those of the units will be. Where controllers
    /// are bound to version 2 they are enabled, and if need be this process moves into a
    /// group of its own for that. A host without a writable version 2 tree is no error:
    /// see [`Root::missing`].
    ///
    /// # Errors
    /// None at present but those of reading the tree's own files.
    pub fn open(&self, id: &str) -> Result<Root, Error> {
        let name = format!("berth-{id}");
        let legacy = self.legacy.iter().map(|one| {
            Rc::new(Hierarchy {
                controllers: one.controllers.clone(),
                own: one.own.join(&name),
                path: one.path.join(&name),
            })
        });
        let mut root = Root {
            unified: Err(String::new()),
            above: Rc::default(),
            controllers: Vec::new(),
            obstacle: None,
            moved_from: None,
            legacy: legacy.collect(),
            programs: Programs::default(),
        };
        let Some(unified) = &self.unified else {
            root.unified = Err("no cgroup version 2 hierarchy is mounted".to_owned());
            return Ok(root);
        };
        let above = &unified.own;
        let path = above.join(&name);
        let seen_as = unified.path.join(&name);
        root.above = Rc::new(Above { path: path.clone(), seen_as });
        match make_directory(&path) {
            Ok(()) => {
                let enabled = limits::enable(above, &path, &path.join(OWN_GROUP));
                root.controllers = enabled.controllers;
                root.obstacle = enabled.obstacle;
                let moved = enabled.moved || self.inside;
                root.moved_from = moved.then(|| above.to_owned());
                root.unified = Ok(path);
            }
            Err(error) => root.unified = Err(format!("cannot make {}: {error}", path.display())),
        }
        Ok(root)
    }
}

/// Where `…/berth-ID/-supervisor` is in.
fn outside(path: &Path) -> Option<PathBuf> {
    let root = path.parent().filter(|_| path.ends_with(OWN_GROUP))?;
    let name = root.file_name()?.to_str()?;
    name.starts_with("berth-").then(|| root.parent().map(Path::to_owned))?
}

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

struct CgroupMount<'a> {
    kind: &'a str,
    root: &'a str,
    point: String,
    options: &'a str,
}

/// One line of mountinfo, if it is one of a control group hierarchy.
fn parse_mount(line: &str) -> Option<CgroupMount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    if kind != "cgroup" && kind != "cgroup2" {
        return None;
    }
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    Some(CgroupMount { kind, root, point: unescape(point), options: right.nth(1)? })
}

/// Undoes the octal escapes of mountinfo (blank, tab, newline, backslash).
pub fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A line of /proc/self/cgroup.
struct Entry<'a> {
    controllers: &'a str,
    path: &'a str,
}

/// The line of /proc/self/cgroup, if it belongs to the mount's hierarchy.
fn own_entry<'a>(line: &'a str, mount: &CgroupMount<'_>) -> Option<Entry<'a>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let mine = if mount.kind == "cgroup2" {
        controllers.is_empty()
    } else {
        let mut names = controllers.split(',');
        !controllers.is_empty() && names.all(|name| mount.options.split(',').any(|o| o == name))
    };
    mine.then_some(Entry { controllers, path })
}

/// The directory of a group in a mount that may show only a part of the hierarchy.
fn place(mount: &CgroupMount<'_>, path: &str) -> Option<PathBuf> {
    let root = mount.root.trim_end_matches('/');
    let below = path.strip_prefix(root)?;
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    let below = below.trim_matches('/');
    let point = Path::new(&mount.point);
    Some(if below.is_empty() { point.to_owned() } else { point.join(below) })
}

/// The group `berth-ID` in every hierarchy where one is needed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Root {
    /// Its directory in version 2, or why there is none.
    pub(super) unified: Result<PathBuf, String>,
    /// The same for the groups in it.
    above: Rc<Above>,
    /// Version 2 controllers that are enabled for units.
    pub(super) controllers: Vec<String>,
    /// Why others are not, where that can be helped.
    pub(super) obstacle: Option<String>,
    /// Where this process was before it moved into a group of its own.
    moved_from: Option<PathBuf>,
    /// Its directory in the version 1 hierarchies; made when a limit needs it.
    pub(super) legacy: Vec<Rc<Hierarchy>>,
    /// Which devices its groups may use; made again when they are needed again.
    #[serde(skip)]
    pub(super) programs: Programs,
}

impl Root {
    /// What the groups of all units have in common.
    pub(super) fn above(&self) -> &Rc<Above> {
        &self.above
    }

    /// Why there are no control groups here, if that is so. To be reported once.
    pub fn missing(&self) -> Option<&str> {
        self.unified.as_ref().err().map(String::as_str)
    }

    /// The directories that hold what belongs to this supervisor, for [`kill_leftovers`]
    /// of the next one: all that exist or may come to exist.
    pub fn paths(&self) -> Vec<PathBuf> {
        let legacy = self.legacy.iter().map(|one| one.own.clone());
        self.unified.iter().cloned().chain(legacy).collect()
    }

    /// The group of a unit that a killed supervisor has left, with the limits that are in
    /// force there.
    ///
    /// # Errors
    /// As open(2).
    pub fn adopt(&self, name: &str, unenforced: Vec<String>) -> Result<Group, Error> {
        let mut group = Group::named(name);
        group.unenforced = unenforced;
        let root = self
            .unified
            .as_ref()
            .map_err(|why| Error::io("open", Path::new(why), io::ErrorKind::Unsupported.into()))?;
        group.set_directory(open_directory(&root.join(name))?, self.above.clone());
        if group.was_divided() {
            group.divide().map_err(|error| Error::io("open", root, error))?;
        }
        for hierarchy in &self.legacy {
            let path = group.legacy_path(hierarchy);
            if path.is_dir() {
                let procs = group::open_procs(&path)?;
                group.add_legacy(Legacy { hierarchy: hierarchy.clone(), procs });
            }
        }
        Ok(group)
    }

    /// Makes the group of a unit with its limits. Where there are no control groups the
    /// result is one without a directory.
    ///
    /// # Errors
    /// A limit that is refused by the host, or not enforceable and `strict`. Nothing is
    /// left behind then.
    pub fn create(&self, name: &str, wanted: &[Wanted<'_>], strict: bool) -> Result<Group, Error> {
        let mut group = Group::named(name);
        let done = self.fill(&mut group, name, wanted, strict);
        match done {
            Ok(()) => Ok(group),
            Err(error) => {
                // Nobody is in it yet, so this only fails if the tree itself is broken; the
                // first error says more.
                let _ = group.remove();
                Err(error)
            }
        }
    }

    fn fill(
        &self,
        group: &mut Group,
        name: &str,
        wanted: &[Wanted<'_>],
        strict: bool,
    ) -> Result<(), Error> {
        if let Ok(root) = &self.unified {
            let path = root.join(name);
            match std::fs::create_dir(&path) {
                // One that a killed supervisor left, empty, may have limits of its own.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    group::remove_tree(&path)
                        .and_then(|()| std::fs::create_dir(&path))
                        .map_err(|error| Error::io("make", &path, error))?;
                }
                other => other.map_err(|error| Error::io("make", &path, error))?,
            }
            group.set_directory(open_directory(&path)?, self.above.clone());
        }
        limits::apply(self, group, wanted, strict)
    }

    /// Lets a unit make groups of its own, with all controllers that there are.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn delegate(&self, group: &mut Group, line: u32, strict: bool) -> Result<(), Error> {
        let Some(path) = group.path() else {
            let why = self.missing().unwrap_or("there is no group of version 2").to_owned();
            if strict {
                return Err(Error::Unenforceable { limit: "delegate", line, why });
            }
            group.unenforced.push(format!("delegate: {why}"));
            return Ok(());
        };
        group.divide().map_err(|error| Error::io("divide", &path, error))?;
        for controller in &self.controllers {
            let file = path.join("cgroup.subtree_control");
            super::write(&file, &format!("+{controller}"))
                .map_err(|error| Error::io(&format!("write +{controller} to"), &file, error))?;
        }
        Ok(())
    }

    /// Removes the groups themselves, once those of the units are gone.
    ///
    /// # Errors
    /// As rmdir(2), `EBUSY` while a unit's processes are there.
    pub fn remove(self) -> Result<(), Error> {
        if let (Some(above), Ok(root)) = (&self.moved_from, &self.unified) {
            limits::disable(above, root, &self.controllers)
                .map_err(|error| Error::io("leave", root, error))?;
        }
        for path in self.paths() {
            group::remove_tree(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io("open", path, error.into()))
}

/// Ends every process in the groups that a killed supervisor recorded (see
/// [`Root::paths`]) and removes them. Waits for the processes, at most five seconds: for
/// the time before the loop runs. Paths that are not groups of a berth are left alone.
///
/// # Errors
/// When something is still there after that time.
pub fn kill_leftovers(recorded: &[PathBuf]) -> Result<(), Error> {
    recorded.iter().filter(|path| is_ours(path)).try_for_each(|path| end(path))
}

/// Ends what is in these groups of one unit, and removes them.
///
/// # Errors
/// As [`kill_leftovers`].
pub fn end_all(groups: &[PathBuf]) -> Result<(), Error> {
    let ours = |path: &&PathBuf| path.parent().is_some_and(is_ours) && path.is_dir();
    groups.iter().filter(ours).try_for_each(|path| end(path))
}

/// Ends what is in a group and below, and removes it.
fn end(path: &Path) -> Result<(), Error> {
    let deadline = Instant::now().checked_add(LEFTOVERS_WAIT);
    loop {
        // Again each time: version 1 has no kill that also hits those made meanwhile.
        group::kill_tree(path).map_err(|error| Error::io("kill the processes of", path, error))?;
        match group::remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(error) if deadline.is_none_or(|deadline| Instant::now() >= deadline) => {
                return Err(Error::io("remove", path, error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// As [`kill_leftovers`] for all units but these; the groups above stay.
///
/// # Errors
/// As [`kill_leftovers`].
pub fn kill_others(recorded: &[PathBuf], spared: &[&str]) -> Result<(), Error> {
    for above in recorded.iter().filter(|path| is_ours(path)) {
        let entries = match std::fs::read_dir(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| Error::io("read", above, error))?,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let spared =
                name.to_str().is_some_and(|name| name == OWN_GROUP || spared.contains(&name));
            if !spared && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                end(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// A directory `berth-*` of a control group filesystem.
fn is_ours(path: &Path) -> bool {
    let named = path.file_name().and_then(|name| name.to_str());
    let magic = rustix::fs::statfs(path).map(|fs| u64::try_from(fs.f_type).unwrap_or_default());
    named.is_some_and(|name| name.starts_with("berth-"))
        && magic.is_ok_and(|magic| {
            [libc::CGROUP2_SUPER_MAGIC, libc::CGROUP_SUPER_MAGIC]
                .iter()
                .any(|known| u64::try_from(*known).is_ok_and(|known| known == magic))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(tree: &Tree) -> Vec<&str> {
        tree.own_groups().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn a_pure_version_2_host() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                      27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let tree = Tree::parse("0::/system.slice/berth.service\n", mounts);
        assert_eq!(own(&tree), ["/sys/fs/cgroup/system.slice/berth.service"]);
        assert_eq!(own(&Tree::parse("0::/\n", mounts)), ["/sys/fs/cgroup"]);
    }

    #[test]
    fn a_hybrid_host() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu\\040x rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own_text = "9:name=systemd:/\n4:memory:/a/b:c\n1:cpu,cpuacct:/\n0::/u\n";
        let tree = Tree::parse(own_text, mounts);
        let expected = [
            "/sys/fs/cgroup/unified/u",
            "/sys/fs/cgroup/cpu x",
            "/sys/fs/cgroup/memory/a/b:c",
            "/sys/fs/cgroup/systemd",
        ];
        assert_eq!(own(&tree), expected);
        assert_eq!(tree.legacy[0].controllers, ["cpu", "cpuacct"]);
    }

    #[test]
    fn a_mount_that_shows_a_part() {
        let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let tree = Tree::parse("0::/docker/abc/berth\n", mounts);
        assert_eq!(own(&tree), ["/sys/fs/cgroup/berth"]);
        assert_eq!(own(&Tree::parse("0::/docker/abc\n", mounts)), ["/sys/fs/cgroup"]);
        // Not below what is mounted: it cannot be reached.
        assert_eq!(own(&Tree::parse("0::/docker/abcdef\n", mounts)), [""; 0]);
        assert_eq!(own(&Tree::parse("0::/other\n", mounts)), [""; 0]);
    }

    #[test]
    fn no_tree_at_all_is_no_error() {
        let root = Tree::parse("", "").open("test").unwrap();
        assert_eq!(root.missing(), Some("no cgroup version 2 hierarchy is mounted"));
        assert_eq!(root.paths(), Vec::<PathBuf>::new());
        let limit = limits::Limit::Pids(3);
        let wanted = [Wanted { limit, line: 7 }];
        let group = root.create("web", &wanted, false).unwrap();
        assert_eq!(group.unenforced(), ["pids: no cgroup controller pids is available"]);
        let error = root.create("web", &wanted, true).unwrap_err();
        assert_eq!(error.line(), 7);
        assert_eq!(group.kill().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!((group.path(), group.memory(), group.fd().is_none()), (None, None, true));
    }
}
