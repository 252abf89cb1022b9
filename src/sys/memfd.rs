//! Files in memory: programs that nobody can change, not even who executes them, and what a
//! program is to read.

use std::fs::File;
use std::io;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, openat};

use super::mount::{self, Attributes, Filesystem};

/// An executable file with this content that nobody can change, nor its mode, its owner or its
/// attributes: it is on a filesystem of its own, which is mounted read-only and nowhere. (The
/// seals of a memfd keep only the content, and whoever is root of the host in a unit could
/// take the right to execute it from all others.) Close-on-exec.
///
/// # Errors
/// As fsopen(2) and open(2); `EPERM` without `CAP_SYS_ADMIN`.
pub fn kept_program(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    let inert = Attributes { no_suid: true, no_dev: true, ..Attributes::default() };
    let tree = filesystem.mount(inert)?;
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&tree, name, new, Mode::empty())?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    File::from(file).write_all(content)?;
    mount::add_attributes(tree.as_fd(), false, Attributes { read_only: true, ..inert })?;
    Ok(openat(&tree, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A sealed, executable file with this content; close-on-exec.
///
/// # Errors
/// As `memfd_create(2)`; `EACCES` where `vm.memfd_noexec` forbids executable ones.
pub fn sealed_program(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 there is no such flag, and every one is executable.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file.into())
}

/// A file with this content, to be read from its beginning; close-on-exec.
///
/// # Errors
/// As `memfd_create(2)` and write(2).
pub fn holding(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
