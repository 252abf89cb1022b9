//! Landlock (landlock(7)): a process gives up rights on files, for itself and all that it
//! executes, and never gets them back.
//!
//! Three system calls, made here directly: the crate of that name brings six times this
//! code, most of it about what a kernel may lack, which a supervisor has to say to people
//! itself. What must hold: only rights that the kernel knows are named to it, so that an
//! older one is never asked in vain.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check_long, path::Kind};

/// Version of the rights that this kernel knows; 0: it has no Landlock, or not switched on.
pub fn version() -> u32 {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<Attributes>();
    // SAFETY: with this flag the kernel wants a null pointer and a size of 0.
    let answer = check_long(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION)
    });
    answer.ok().and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}

/// The first version that stops files from being truncated (Linux 6.2).
pub const TRUNCATING: u32 = 3;

/// `LANDLOCK_ACCESS_FS_*` that change something, and the version from which they are known.
const RIGHTS: [(u64, u32); 13] = [
    (1 << 1, 1),           // WRITE_FILE
    (1 << 4, 1),           // REMOVE_DIR
    (1 << 5, 1),           // REMOVE_FILE
    (1 << 6, 1),           // MAKE_CHAR
    (1 << 7, 1),           // MAKE_DIR
    (1 << 8, 1),           // MAKE_REG
    (1 << 9, 1),           // MAKE_SOCK
    (1 << 10, 1),          // MAKE_FIFO
    (1 << 11, 1),          // MAKE_BLOCK
    (1 << 12, 1),          // MAKE_SYM
    (1 << 13, 2),          // REFER
    (1 << 14, TRUNCATING), // TRUNCATE
    (1 << 15, 5),          // IOCTL_DEV
];

/// Those of them that a file, not a directory, can have: writing, truncating, ioctl.
const OF_FILES: u64 = 1 << 1 | 1 << 14 | 1 << 15;

/// All rights to change something that a kernel of this version knows.
fn changing(version: u32) -> u64 {
    RIGHTS.iter().filter(|(_, since)| *since <= version).fold(0, |all, (right, _)| all | right)
}

/// `struct landlock_ruleset_attr`, first version.
#[repr(C)]
struct Attributes {
    handled_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// Rules under which nothing may be changed but beneath the paths that are named.
#[derive(Debug)]
pub struct Ruleset {
    fd: OwnedFd,
    rights: u64,
}

impl Ruleset {
    /// Begins with nothing that may be changed.
    ///
    /// # Errors
    /// `ENOSYS` or `EOPNOTSUPP` where [`version`] is 0.
    pub fn new() -> io::Result<Self> {
        let rights = changing(version());
        let attributes = Attributes { handled_fs: rights };
        // SAFETY: the structure lives through the call and has the size that is said.
        let fd = check_long(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size_of::<Attributes>(),
                0_u32,
            )
        })?;
        let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        // SAFETY: a new descriptor (close-on-exec) that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, rights })
    }

    /// This (a handle will do) and all beneath may be changed.
    ///
    /// # Errors
    /// As `landlock_add_rule(2)`.
    pub fn allow(&self, path: BorrowedFd<'_>, kind: Kind) -> io::Result<()> {
        /// `LANDLOCK_RULE_PATH_BENEATH`.
        const BENEATH: libc::c_uint = 1;
        let allowed = match kind {
            Kind::Directory => self.rights,
            Kind::File => self.rights & OF_FILES,
        };
        let rule = Beneath { allowed, parent: path.as_raw_fd() };
        // SAFETY: the structure lives through the call.
        check_long(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.fd.as_raw_fd(),
                BENEATH,
                &raw const rule,
                0_u32,
            )
        })
        .map(drop)
    }

    /// From now on the calling thread and all that it makes or executes obeys.
    ///
    /// # Errors
    /// `EPERM` for one that can still gain privileges and does not have `SYS_ADMIN`.
    pub fn enforce(self) -> io::Result<()> {
        // SAFETY: no pointers.
        check_long(unsafe {
            libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0_u32)
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_only_for_what_it_knows() {
        assert_eq!(changing(0), 0);
        assert_eq!(changing(1), 0b1_1111_1111_0010);
        assert_eq!(changing(2) ^ changing(1), 1 << 13);
        assert_eq!(changing(3) ^ changing(2), 1 << 14);
        assert_eq!(changing(4), changing(3));
        assert_eq!(changing(5) ^ changing(4), 1 << 15);
        assert_eq!(changing(99), changing(5));
        assert_eq!(OF_FILES & !changing(5), 0);
    }
}
