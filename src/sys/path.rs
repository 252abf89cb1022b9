//! Paths inside a tree that others may have filled: resolved as if the given directory
//! were the root, never through the magic links of /proc.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// How often a lookup is tried again when something is renamed at the same time.
const TRIES: usize = 16;

/// The current directory, for functions that take a directory.
pub fn here() -> BorrowedFd<'static> {
    CWD
}

/// A handle (`O_PATH`) on an absolute path of the calling process; symbolic links are
/// followed.
///
/// # Errors
/// As open(2).
pub fn handle(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` inside `root`: neither `..`, nor a symbolic link, nor /proc leads out.
///
/// # Errors
/// As `openat2(2)`; `ELOOP` for a magic link.
pub fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut last = rustix::io::Errno::AGAIN;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            Err(error @ rustix::io::Errno::AGAIN) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// Opens a regular file inside `root` for reading; anything else (a FIFO, a device, a
/// directory) is refused without being opened: that alone can do something to a device.
///
/// # Errors
/// As [`open_in`]; `EINVAL` when it is not a regular file; `ENOENT` also without /proc.
pub fn open_regular_in(root: BorrowedFd<'_>, path: &str) -> io::Result<std::fs::File> {
    regular(open_in(root, path, OFlags::PATH)?.as_fd())
}

/// As [`open_regular_in`], for a path of the calling process.
///
/// # Errors
/// As open(2); `EINVAL` when it is not a regular file.
pub fn open_regular(path: &str) -> io::Result<std::fs::File> {
    regular(handle(path)?.as_fd())
}

/// As [`open_regular`], for a path of which no part is a symbolic link.
///
/// # Errors
/// As [`open_regular`]; `ELOOP` where one is.
pub fn open_regular_directly(path: &str) -> io::Result<std::fs::File> {
    let resolve = ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    regular(rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?.as_fd())
}

/// Opens what a handle refers to, if it is a regular file. By the handle, so that nobody
/// can put something else in its place.
fn regular(handle: BorrowedFd<'_>) -> io::Result<std::fs::File> {
    let mode = rustix::fs::fstat(handle)?.st_mode;
    if rustix::fs::FileType::from_raw_mode(mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(link, flags, Mode::empty())?.into())
}

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else: an empty file will do.
    File,
}

/// What `fd` refers to, as a mount point sees it.
///
/// # Errors
/// As fstat(2).
pub fn kind_of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    let directory = rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Directory;
    Ok(if directory { Kind::Directory } else { Kind::File })
}

/// A handle on a mount point inside `root`, which is made with its parents (directories
/// 0755, files 0644) where it is missing.
///
/// # Errors
/// As [`open_in`] and mkdir(2); `EROFS` when it is missing in a read-only tree; `ENOTDIR`
/// or `EISDIR` when it is there and of the other kind.
pub fn mount_point(root: BorrowedFd<'_>, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    let found = match open_in(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_all(root, path, kind)?,
        found => found?,
    };
    match (kind, kind_of(found.as_fd())?) {
        (Kind::Directory, Kind::File) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        (Kind::File, Kind::Directory) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        _ => Ok(found),
    }
}

fn make_all(root: BorrowedFd<'_>, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut so_far = String::with_capacity(path.len().saturating_add(1));
    let mut parent = open_in(root, "/", OFlags::PATH)?;
    for (index, part) in parts.iter().enumerate() {
        so_far.push('/');
        so_far.push_str(part);
        parent = match open_in(root, &so_far, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let last = index.saturating_add(1) == parts.len();
                make(parent.as_fd(), part, if last { kind } else { Kind::Directory })?;
                open_in(root, &so_far, OFlags::PATH)?
            }
            found => found?,
        };
    }
    Ok(parent)
}

fn make(parent: BorrowedFd<'_>, name: &str, kind: Kind) -> io::Result<()> {
    let result = match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let mode = Mode::from_raw_mode(0o644);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, mode).map(drop)
        }
    };
    match result {
        // A symbolic link that leads nowhere is there already.
        Err(rustix::io::Errno::EXIST) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        other => Ok(other?),
    }
}

/// Filesystems that are told apart by what they say they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// overlayfs.
    Overlay,
    /// procfs.
    Proc,
    /// sysfs.
    Sys,
}

/// Whether `fd` is on a filesystem of that type.
///
/// # Errors
/// As fstatfs(2).
pub fn is_on(fd: BorrowedFd<'_>, kind: Type) -> io::Result<bool> {
    let magic = match kind {
        Type::Overlay => libc::OVERLAYFS_SUPER_MAGIC,
        Type::Proc => libc::PROC_SUPER_MAGIC,
        // SYSFS_MAGIC of <linux/magic.h>.
        Type::Sys => 0x6265_6572,
    };
    Ok(rustix::fs::fstatfs(fd)?.f_type == magic)
}

/// Whether `fd` is on a filesystem that only shows the kernel: its files are nobody's.
///
/// # Errors
/// As fstatfs(2).
pub fn is_of_kernel(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // As in <linux/magic.h>: those of KERNEL_FILESYSTEMS that somebody could have mounted.
    const MAGIC: [libc::__fsword_t; 13] = [
        libc::PROC_SUPER_MAGIC,
        0x6265_6572, // sysfs
        libc::CGROUP_SUPER_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
        libc::DEBUGFS_MAGIC,
        libc::TRACEFS_MAGIC,
        libc::SECURITYFS_MAGIC,
        libc::BPF_FS_MAGIC,
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6165_676c, // pstore
        0x6e73_6673, // nsfs
        0x5049_4446, // pidfs
    ];
    Ok(MAGIC.contains(&rustix::fs::fstatfs(fd)?.f_type))
}

/// Whether `fd` refers to something without content of its own: a device, a socket, a FIFO.
///
/// # Errors
/// As fstat(2).
pub fn holds_no_files(fd: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::fs::FileType;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    Ok(!matches!(kind, FileType::Directory | FileType::RegularFile))
}

/// Opens a directory that no symbolic link leads to.
///
/// # Errors
/// As [`open_in`]; `ELOOP` for a symbolic link.
pub fn open_directly_in(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    open_linkless_in(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens what no symbolic link leads to.
///
/// # Errors
/// As [`open_in`]; `ELOOP` for a symbolic link.
pub fn open_linkless_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// A handle on a directory inside `root` that no symbolic link leads to, made with its
/// parents (0755) where it is missing.
///
/// # Errors
/// As [`open_directly_in`] and mkdir(2).
pub fn directory_directly_in(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut parent = open_directly_in(root, "/")?;
    let mut so_far = String::with_capacity(path.len().saturating_add(1));
    for part in path.split('/').filter(|part| !part.is_empty()) {
        so_far.push('/');
        so_far.push_str(part);
        parent = match open_directly_in(root, &so_far) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open_directly_in(root, &so_far)?
            }
            found => found?,
        };
    }
    Ok(parent)
}

/// Whether `fd` refers to a device node of `/dev/null`.
///
/// # Errors
/// As fstat(2).
pub fn is_null(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let status = rustix::fs::fstat(fd)?;
    let kind = rustix::fs::FileType::from_raw_mode(status.st_mode);
    let character = kind == rustix::fs::FileType::CharacterDevice;
    Ok(character && status.st_rdev == rustix::fs::makedev(1, 3))
}

/// Which device a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// A block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A handle on a device node of the calling process' tree; the device is not opened.
///
/// # Errors
/// As [`open_in`]; `ENODEV` when it is no device node.
pub fn device(path: &str) -> io::Result<(OwnedFd, Node)> {
    use rustix::fs::FileType;
    let fd = open_in(handle("/")?.as_fd(), path, OFlags::PATH)?;
    let status = rustix::fs::fstat(&fd)?;
    let block = match FileType::from_raw_mode(status.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
    };
    let (major, minor) = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
    Ok((fd, Node { block, major, minor }))
}

/// `/dev/null` of the calling process' tree, checked to be that device.
///
/// # Errors
/// As open(2); `ENXIO` when it is something else.
pub fn open_null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_in(handle("/")?.as_fd(), "/dev/null", flags)?;
    if !is_null(fd.as_fd())? {
        return Err(io::Error::from_raw_os_error(libc::ENXIO));
    }
    super::fd::set_nonblocking(fd.as_fd(), false)?;
    Ok(fd)
}

/// Whether there is something at a path of the calling process.
pub fn exists(path: &str) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

/// The first bytes of a regular file: as much as tells a script's interpreter.
///
/// # Errors
/// As open(2) and read(2).
pub fn head(path: &str) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut start = Vec::new();
    open_regular(path)?.take(256).read_to_end(&mut start)?;
    Ok(start)
}

/// Writes a short value to a file of /proc.
///
/// # Errors
/// As open(2) and write(2).
pub fn write_value(path: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Gives `name` in `parent` (with `name` empty: `parent` itself) the owner and the mode of
/// what `like` refers to.
///
/// # Errors
/// As `fchownat(2)` and `chmod(2)`.
pub fn copy_owner_and_mode(
    like: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &str,
) -> io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Uid};
    let status = rustix::fs::fstat(like)?;
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    let name = if name.is_empty() { "." } else { name };
    Ok(rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?)
}

/// Whether `fd` is the first inode of its filesystem: for procfs and sysfs the root.
///
/// # Errors
/// As fstat(2).
pub fn is_first_inode(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstat(fd)?.st_ino == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use std::io::Read as _;

    #[test]
    fn what_is_no_regular_file_is_not_even_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("file"), "text").unwrap();
        rustix::fs::symlink("file", at("link")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let root = handle(directory.path().to_str().unwrap()).unwrap();
        for name in ["file", "link"] {
            for opened in [open_regular(&at(name)), open_regular_in(root.as_fd(), name)] {
                let mut text = String::new();
                opened.unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, "text");
            }
        }
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, at("fifo"), WatchFlags::OPEN).unwrap();
        let refused = |opened: io::Result<std::fs::File>| opened.unwrap_err().raw_os_error();
        assert_eq!(refused(open_regular(&at("fifo"))), Some(libc::EINVAL));
        assert_eq!(refused(open_regular_in(root.as_fd(), "fifo")), Some(libc::EINVAL));
        assert_eq!(refused(open_regular(&at("."))), Some(libc::EINVAL));
        let events = || rustix::io::read(&watch, &mut [0; 4096]);
        assert_eq!(events(), Err(rustix::io::Errno::AGAIN));
        // The control: an open would have been seen.
        rustix::fs::open(at("fifo"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        assert!(events().is_ok());
    }
}
