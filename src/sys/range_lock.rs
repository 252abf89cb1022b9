//! Locks on ranges of a file: for what several processes share by numbers. A lock belongs to
//! the open file, so it is held by whoever has a copy of the descriptor, and ends with the last.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Who else may have it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Those who share it too.
    Shared,
    /// Nobody.
    Exclusive,
}

/// Locks `count` bytes of a file from `first` on, which need not be there, without waiting;
/// false if somebody else has one of them. What is locked by the same open file is changed.
///
/// # Errors
/// As fcntl(2) with `F_OFD_SETLK`; `EBADF` if the file is not open for reading and writing.
pub fn try_lock(
    file: BorrowedFd<'_>,
    first: u32,
    count: u32,
    sharing: Sharing,
) -> io::Result<bool> {
    let kind = match sharing {
        Sharing::Shared => libc::F_RDLCK,
        Sharing::Exclusive => libc::F_WRLCK,
    };
    // SAFETY: a structure of numbers, for which zero is good.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).unwrap_or_default();
    lock.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    lock.l_start = first.into();
    lock.l_len = count.into();
    let pointer: *const libc::flock = &raw const lock;
    // SAFETY: the structure lives through the call and is only read.
    match super::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, pointer) }) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn ranges_are_kept_apart_and_end_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let open = || {
            std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path)
        };
        let (one, two) = (open().unwrap(), open().unwrap());
        let lock = |file: &std::fs::File, first, count, sharing| {
            try_lock(file.as_fd(), first, count, sharing).unwrap()
        };
        assert!(lock(&one, 4_000_000_000, 65_536, Sharing::Exclusive));
        assert!(lock(&one, 4_000_000_000, 65_536, Sharing::Exclusive), "its own is no obstacle");
        assert!(!lock(&two, 4_000_065_535, 65_536, Sharing::Exclusive));
        assert!(!lock(&two, 4_000_065_535, 1, Sharing::Shared));
        assert!(lock(&two, 4_000_065_536, 65_536, Sharing::Exclusive));
        assert!(lock(&one, 0, 10, Sharing::Shared) && lock(&two, 5, 10, Sharing::Shared));
        assert!(!lock(&two, 5, 10, Sharing::Exclusive));
        drop(one);
        assert!(lock(&two, 4_000_000_000, 65_536, Sharing::Exclusive));
    }
}
