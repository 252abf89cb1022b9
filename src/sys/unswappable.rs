//! A filesystem in memory that is never swapped out.
//!
//! tmpfs can do without swap since Linux 6.4, and only for those with `CAP_SYS_ADMIN` over
//! the host; where it cannot, ramfs, which never does. Of the two tmpfs is the better one:
//! it has a size, and its mounts can be shown with other owners (idmapped).

use std::io;
use std::os::fd::OwnedFd;

use super::mount::{Attributes, Filesystem};

/// A detached one for data only, whose root anybody may search. It holds at most `bytes`, in
/// at most `files` files, where the kernel counts.
///
/// # Errors
/// As fsopen(2), fsconfig(2) and fsmount(2).
pub fn filesystem(bytes: usize, files: usize) -> io::Result<OwnedFd> {
    let inert = Attributes { read_only: false, no_suid: true, no_dev: true, no_exec: true };
    let tmpfs = Filesystem::new("tmpfs")?;
    match tmpfs.flag("noswap") {
        Ok(()) => {
            tmpfs.set("mode", "0755")?;
            tmpfs.set("size", &bytes.to_string())?;
            // The root is one, too.
            tmpfs.set("nr_inodes", &files.saturating_add(1).to_string())?;
            tmpfs.mount(inert)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let ramfs = Filesystem::new("ramfs")?;
            ramfs.set("mode", "0755")?;
            ramfs.mount(inert)
        }
        Err(error) => Err(error),
    }
}
