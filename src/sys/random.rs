//! The kernel's random pool: what a seed gives to it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Longest seed.
pub const SEED: usize = 512;

/// `struct rand_pool_info` of linux/random.h with room for a seed.
#[repr(C)]
struct Pool {
    /// Bits that may be counted on.
    count: libc::c_int,
    /// Bytes.
    size: libc::c_int,
    seed: [u8; SEED],
}

/// `RNDADDENTROPY` of linux/random.h.
const ADD: libc::c_ulong = 0x4008_5203;

/// Stirs a seed into the pool of `/dev/urandom` (`device`) and has it count as entropy:
/// only for one that nobody else knows and that is used once.
///
/// # Errors
/// As random(4): `EPERM` without `CAP_SYS_ADMIN`.
pub fn credit(device: BorrowedFd<'_>, seed: &[u8]) -> io::Result<()> {
    let size = seed.len().min(SEED);
    let bytes = libc::c_int::try_from(size).map_err(io::Error::other)?;
    let mut pool = Pool { count: bytes.saturating_mul(8), size: bytes, seed: [0; SEED] };
    for (to, from) in pool.seed.iter_mut().zip(seed) {
        *to = *from;
    }
    // SAFETY: the structure says how many of its bytes count, and lives through the call.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), ADD, &raw const pool) }).map(drop)
}
