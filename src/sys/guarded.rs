//! Memory for a secret: never swapped out, not in a core dump, not in a fork's copy, and
//! overwritten before it is given back.
//!
//! What must hold: the bytes are never copied anywhere else by this module. mlock(2) counts
//! against `RLIMIT_MEMLOCK`, which root has no need of.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use zeroize::Zeroize;

/// Bytes in such memory.
#[derive(Debug)]
pub struct Guarded {
    start: NonNull<u8>,
    capacity: usize,
    length: usize,
}

impl Guarded {
    /// Room for so many bytes, all zero, none in use.
    ///
    /// # Errors
    /// As mmap(2); `ENOMEM` or `EPERM` of mlock(2) where so much cannot be locked.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let capacity = capacity.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), capacity, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, capacity, length: 0 };
        // SAFETY: the mapping just made, which nothing refers to yet.
        super::check(unsafe { libc::mlock(start.as_ptr().cast(), capacity) })?;
        for advice in [libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK] {
            // SAFETY: as above.
            super::check(unsafe { libc::madvise(start.as_ptr().cast(), capacity, advice) })?;
        }
        Ok(memory)
    }

    /// What a descriptor gives up to its end, at most `limit` bytes.
    ///
    /// # Errors
    /// As read(2) and [`Self::new`]; `EFBIG` when there is more.
    pub fn read(fd: BorrowedFd<'_>, limit: usize) -> io::Result<Self> {
        // One byte more shows that there is more.
        let mut memory = Self::new(limit.saturating_add(1))?;
        loop {
            let length = memory.length;
            let Some(room) = memory.space().get_mut(length..).filter(|room| !room.is_empty())
            else {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            };
            match rustix::io::read(fd, room) {
                Ok(0) => return Ok(memory),
                Ok(count) => memory.length = length.saturating_add(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A copy of some bytes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut memory = Self::new(bytes.len())?;
        memory.push(bytes);
        Ok(memory)
    }

    /// Appends bytes, as far as there is room; false if there was not enough.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.length.saturating_add(bytes.len());
        let length = self.length;
        match self.space().get_mut(length..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length = end;
                true
            }
            None => false,
        }
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable for `capacity` bytes, which `length` never exceeds,
        // and lives as long as `self`, which is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes in use, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.space().get_mut(..length).unwrap_or_default()
    }

    /// All the room.
    fn space(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is writable for `capacity` bytes and only reached through
        // `self`, which is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.space().zeroize();
        // SAFETY: the mapping is this value's own, and nobody can refer to it any more. That
        // the kernel takes back what it gave cannot fail.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.capacity) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn holds_what_it_is_given_and_no_more() {
        let mut memory = Guarded::new(4).unwrap();
        assert!(memory.push(b"ab") && memory.push(b"cd"));
        assert!(!memory.push(b"e"));
        assert_eq!(memory.bytes(), b"abcd");
        memory.bytes_mut()[0] = b'x';
        assert_eq!(memory.bytes(), b"xbcd");
    }

    #[test]
    fn reads_to_the_end_or_says_that_it_is_too_much() {
        let read = |text: &[u8], limit| {
            let (read, mut write) = std::io::pipe().unwrap();
            write.write_all(text).unwrap();
            drop(write);
            Guarded::read(read.as_fd(), limit).map(|memory| memory.bytes().to_vec())
        };
        assert_eq!(read(b"", 3).unwrap(), b"");
        assert_eq!(read(b"abc", 3).unwrap(), b"abc");
        assert_eq!(read(b"abcd", 3).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn is_locked_and_left_out_of_dumps_and_forks() {
        let memory = Guarded::copy(b"secret").unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begin = format!("{:x}-", memory.bytes().as_ptr().addr());
        let mapping = maps.split_once(&format!("\n{begin}")).unwrap().1;
        let flags = mapping.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        for flag in ["lo", "dd", "wf"] {
            assert!(flags.split(' ').any(|it| it == flag), "{flag} is not in {flags}");
        }
    }
}
