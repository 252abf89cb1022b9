//! Resource limits and priorities of the calling process.

use std::io;

/// Descriptors that are kept for what has to be done in any case.
const RESERVE: u64 = 64;

/// Which limit of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_AS`, bytes.
    AddressSpace,
    /// `RLIMIT_CPU`, seconds.
    Cpu,
    /// `RLIMIT_NOFILE`, descriptors.
    Files,
    /// `RLIMIT_NPROC`, processes of the user.
    Processes,
    /// `RLIMIT_CORE`, bytes.
    Core,
}

/// Sets soft and hard limit.
///
/// # Errors
/// `EPERM` when the hard limit would rise without `CAP_SYS_RESOURCE`, or a number of
/// descriptors is above `/proc/sys/fs/nr_open`.
pub fn set(resource: Resource, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the structure lives through the call.
    super::check(unsafe { libc::setrlimit(resource.number(), &raw const limit) }).map(drop)
}

/// Raises the hard limit, if it is lower: what may then be set takes no capability any more.
///
/// # Errors
/// As setrlimit(2).
pub fn allow(resource: Resource, value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call.
    super::check(unsafe { libc::getrlimit(resource.number(), &raw mut limit) })?;
    if limit.rlim_max >= value {
        return Ok(());
    }
    limit.rlim_max = value;
    // SAFETY: the structure lives through the call.
    super::check(unsafe { libc::setrlimit(resource.number(), &raw const limit) }).map(drop)
}

/// Whether a process as the calling one can surely set this: it does not raise the hard limit.
pub fn is_within(resource: Resource, value: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call.
    let known = super::check(unsafe { libc::getrlimit(resource.number(), &raw mut limit) });
    known.is_ok() && value <= limit.rlim_max
}

/// The soft limit of descriptors of the calling process.
pub fn soft_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Sets the soft limit of descriptors and leaves the hard one; above that, it becomes the same.
///
/// # Errors
/// As setrlimit(2).
pub fn set_soft_files(value: Option<u64>) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: at_most(value, maximum), maximum })?)
}

/// The lower of two limits, where `None` is no limit.
fn at_most(value: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    value.into_iter().chain(maximum).min()
}

/// Whether a descriptor of this number is among the last ones that this process may have:
/// [`RESERVE`] of them, or a quarter of very few.
pub fn is_reserved(number: i32) -> bool {
    soft_files().is_some_and(|limit| {
        let reserve = RESERVE.min(limit.checked_div(4).unwrap_or(0));
        u64::from(number.unsigned_abs()) >= limit.saturating_sub(reserve)
    })
}

/// Soft and hard limit as [`set_soft_files`] would set them; `None`: they are so already.
pub fn soft_files_to(value: Option<u64>) -> Option<[u64; 2]> {
    let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let value = at_most(value, now.maximum);
    (now.current != value).then(|| [number(value), number(now.maximum)])
}

/// Nice value of the calling process, -20 to 19.
///
/// # Errors
/// `EACCES` when lowering it without `CAP_SYS_NICE`.
pub fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    super::check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) }).map(drop)
}

impl Resource {
    /// The kernel's number.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::AddressSpace => libc::RLIMIT_AS,
            Self::Cpu => libc::RLIMIT_CPU,
            Self::Files => libc::RLIMIT_NOFILE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::Core => libc::RLIMIT_CORE,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AddressSpace => "address-space",
            Self::Cpu => "cpu-seconds",
            Self::Files => "nofile",
            Self::Processes => "nproc",
            Self::Core => "core",
        })
    }
}
