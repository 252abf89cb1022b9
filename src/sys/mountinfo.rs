//! What is mounted where, as `/proc/self/mountinfo` says.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::cgroup::tree::unescape;

/// Most of mountinfo that is read.
const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Filesystems without files of anybody.
const KERNEL_FILESYSTEMS: [&str; 19] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// A line of mountinfo, as much of it as is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its number.
    pub id: u64,
    /// That of the mount it is mounted on.
    pub parent: u64,
    /// Which filesystem, as `MAJOR:MINOR`.
    pub device: String,
    /// Which directory or file of that filesystem.
    pub root: String,
    /// Where, as the calling process sees it.
    pub point: String,
    /// The type of the filesystem.
    pub kind: String,
}

impl Mounted {
    /// Whether it is mounted on another: only the very first mount of a namespace is not.
    pub fn has_parent(&self) -> bool {
        self.id != self.parent
    }

    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        let [id, parent, device, root, point, ..] = fields.as_slice() else { return None };
        Some(Self {
            id: id.parse().ok()?,
            parent: parent.parse().ok()?,
            device: (*device).to_owned(),
            root: unescape(root),
            point: unescape(point),
            kind: right.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Which mounts [`mounts`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those of filesystems that hold somebody's files and do not only show the kernel.
    Files,
}

fn text() -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open("/proc/self/mountinfo")?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Every mount that the calling process can see, in the order of mountinfo.
///
/// # Errors
/// As open(2) and read(2).
pub fn table() -> io::Result<Vec<Mounted>> {
    Ok(text()?.lines().filter_map(Mounted::parse).collect())
}

/// The mounts of a table below a place in one of them (by its number and its path): the rest of
/// the way to each, and the mount. `wanted` is asked first, because finding out takes longer.
pub fn below<'a>(
    table: &'a [Mounted],
    id: u64,
    path: &'a str,
    wanted: impl Fn(&Mounted) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, &'a Mounted)> {
    table.iter().filter_map(move |mount| {
        let way = mount.point.strip_prefix(path.trim_end_matches('/'))?;
        let is_below = way.starts_with('/') && wanted(mount) && is_on(table, mount, id);
        is_below.then_some((way, mount))
    })
}

/// Whether a mount is mounted on another, or on what is mounted on that.
fn is_on(table: &[Mounted], mount: &Mounted, id: u64) -> bool {
    let mut parent = mount.parent;
    // No chain is longer than the table.
    for _ in table {
        if parent == id {
            return true;
        }
        match table.iter().find(|mount| mount.id == parent) {
            Some(mount) if mount.has_parent() => parent = mount.parent,
            _ => return false,
        }
    }
    false
}

/// The mounts of the calling process' namespace in the order of mountinfo, each mount point
/// once, at most `limit`.
///
/// # Errors
/// As open(2) and read(2).
pub fn mounts(which: Which, limit: usize) -> io::Result<Vec<Mounted>> {
    let mut mounts: Vec<Mounted> = Vec::new();
    for mount in table()? {
        let wanted = which == Which::All || !KERNEL_FILESYSTEMS.contains(&mount.kind.as_str());
        let known = mounts.iter().any(|other| other.point == mount.point);
        if wanted && !known && mounts.len() < limit {
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

/// The number of the mount that `fd` is in.
///
/// # Errors
/// As statx(2).
pub fn id_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags};
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// The path by which the calling process sees what `fd` refers to.
///
/// # Errors
/// As readlink(2).
pub fn path_of(fd: BorrowedFd<'_>) -> io::Result<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether the mount that `fd` is in is one that the calling process can see.
///
/// # Errors
/// As statx(2) and open(2).
pub fn is_in_sight(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let id = id_of(fd)?.to_string();
    Ok(text()?.lines().any(|line| line.split(' ').next() == Some(&id)))
}

/// Whether what is mounted on `fd` would be mounted in other namespaces too.
///
/// # Errors
/// As statx(2) and open(2); `ENOENT` when its mount is not in sight.
pub fn is_in_shared_mount(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let id = id_of(fd)?.to_string();
    let text = text()?;
    let mount = text.lines().find(|line| line.split(' ').next() == Some(&id));
    let mount = mount.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    // The optional fields stand between the sixth and a dash.
    let fields = mount.split(' ').skip(6).take_while(|field| *field != "-");
    Ok(fields.into_iter().any(|field| field.starts_with("shared:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_is_what_hangs_there() {
        let mount = |id, parent, point: &str| Mounted {
            id,
            parent,
            device: "0:1".to_owned(),
            root: "/".to_owned(),
            point: point.to_owned(),
            kind: "tmpfs".to_owned(),
        };
        let table = [
            mount(1, 1, "/"),
            mount(2, 1, "/a"),
            mount(3, 2, "/a/b"),
            mount(4, 3, "/a/b/c"),
            mount(5, 1, "/ab"),
            // Covered by the one that is mounted on top of it.
            mount(6, 1, "/a/hidden"),
        ];
        let ways = |id, path, wanted: fn(&Mounted) -> bool| -> Vec<&str> {
            below(&table, id, path, wanted).map(|(way, _)| way).collect()
        };
        assert_eq!(ways(2, "/a", |_| true), ["/b", "/b/c"]);
        assert_eq!(ways(2, "/a/b", |_| true), ["/c"]);
        assert_eq!(ways(1, "/", |mount| mount.id > 4), ["/ab", "/a/hidden"]);
    }

    #[test]
    fn a_line_is_read_to_its_type() {
        let line = r"35 28 0:33 /a\040b /mnt/x\134y rw,nosuid shared:9 master:1 - tmpfs tmpfs rw";
        let mount = Mounted::parse(line).unwrap();
        let Mounted { id, parent, device, root, point, kind } = &mount;
        assert_eq!((*id, *parent, device.as_str()), (35, 28, "0:33"));
        assert_eq!((root.as_str(), point.as_str(), kind.as_str()), ("/a b", r"/mnt/x\y", "tmpfs"));
        assert!(mount.has_parent());
        for wrong in ["", "1 2 3", "a b 0:1 / / rw - tmpfs x rw"] {
            assert_eq!(Mounted::parse(wrong), None);
        }
    }
}
