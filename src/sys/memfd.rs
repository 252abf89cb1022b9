//! Files in memory: programs that nobody can change, not even who executes them, and what a
//! program is to read.

use std::io;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

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
    let mut file = std::fs::File::from(fd);
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
    let mut file = std::fs::File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
