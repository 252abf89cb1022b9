//! Children that share this process' memory until they execute their program.
//!
//! A fork copies the page tables of the supervisor, makes both sides fault on every page
//! they write afterwards, and takes the copy apart again: more than half of what the two
//! do for a plain start with a thousand units. `CLONE_VM` does without. What must hold, as
//! nothing in the language sees to it:
//!
//! - the child runs [`live`] and what that calls, on a stack of its own: only system calls
//!   prepared by the supervisor; no allocation, no libc, no thread-local, no panic;
//! - what it reads (its [`Script`]) stays as it is until the kernel says that it has left the
//!   memory (`CLONE_CHILD_CLEARTID`) or it has been reaped;
//! - it changes nothing that belongs to the memory and not to it: `PR_SET_DUMPABLE`, a user
//!   that is not the supervisor's, `oom_score_adj` (but see [`super::oom::shared`]);
//! - it is in no cgroup with a limit of memory: an out-of-memory kill takes everybody who
//!   shares the memory (see [`crate::container`]'s `express`).

#[cfg(target_arch = "x86_64")]
mod child;
#[cfg(target_arch = "x86_64")]
mod nest;
#[cfg(not(target_arch = "x86_64"))]
mod nowhere;

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use super::identity::Strings;
use super::limits::Resource;

/// One thing that a child does before its program.
#[derive(Debug)]
pub enum Call {
    /// Own descriptors instead of the shared ones, and only those below this number.
    Unshare(u32),
    /// One byte into a descriptor.
    Write(RawFd, u8),
    /// A text into the file of this path, in one write(2).
    Text(&'static CStr, CString),
    /// The second number refers to what the first does, inherited by programs.
    Place(RawFd, RawFd),
    /// Closes all from the first number to the second.
    Close(u32, u32),
    /// setsid(2).
    Session,
    /// Soft and hard limit.
    Limit(Resource, [u64; 2]),
    /// setpriority(2).
    Nice(i32),
    /// umask(2).
    Umask(u32),
    /// No supplementary groups.
    NoGroups,
    /// chdir(2).
    Directory(CString),
    /// As [`crate::sys::identity::new_session_keyring`], where there are keys.
    Keyring,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// No signal is blocked.
    Unblock,
}

/// A child's whole life.
#[derive(Debug)]
pub struct Script {
    /// One after the other, each with what names it in a [`Word::Failed`].
    pub calls: Vec<(Call, [u8; 3])>,
    /// The child's end of a socket to the supervisor.
    pub channel: RawFd,
    /// Where the program may be.
    pub candidates: Vec<CString>,
    /// Its arguments.
    pub argv: Strings,
    /// Its environment.
    pub envp: Strings,
}

/// What such a child says on its channel, in this form: its kind, three bytes, errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// The program is executed next. This one is a single byte.
    Executing = b'X',
    /// A call failed: its name.
    Failed = b'F',
    /// The program cannot be executed: the number of the candidate ([`NOWHERE`]: there is
    /// none), a zero, and behind errno the beginning of the file, when that is there and
    /// errno says that something is not.
    Unusable = b'U',
}

/// No candidate exists.
pub const NOWHERE: u16 = u16::MAX;

/// As much of a file as tells its interpreter.
pub const HEAD: usize = 256;

#[cfg(target_arch = "x86_64")]
pub use nest::Nest;
#[cfg(not(target_arch = "x86_64"))]
pub use nowhere::Nest;
