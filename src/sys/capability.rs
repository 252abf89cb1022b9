//! Capabilities of the calling thread: what it has, and giving them up.
//!
//! For children about to execute a program, and for the supervisor to know what it can
//! give. Sets are bits in the kernel's order.

use std::io;

/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u64 = 1 << 21;

/// What a process has, and what programs it executes can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Permitted: what it can make effective, and give.
    pub permitted: u64,
    /// What no program it executes gets beyond.
    pub bounding: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 bits in two halves.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: i32,
}

/// One half.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The lower or the upper 32 bits.
fn halves(set: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    [half(set), half(set >> 32)]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The numbers of the bits that are set.
fn bits(set: u64) -> impl Iterator<Item = u8> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

fn prctl(option: libc::c_int, second: u64, third: u64) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take numbers, no pointers.
    super::check(unsafe { libc::prctl(option, second, third, 0_u64, 0_u64) })
}

/// What this thread has.
///
/// # Errors
/// As capget(2).
pub fn held() -> io::Result<Held> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Half::default(); 2];
    // SAFETY: version 3 reads one header and writes two halves; both live through the call.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr())
    })?;
    let permitted = whole(data.map(|half| half.permitted));
    let mut bounding = 0;
    for bit in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, bit, 0) {
            Ok(0) => {}
            Ok(_) => bounding |= 1_u64 << bit,
            // Beyond the last one that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Held { permitted, bounding })
}

/// Takes these out of the bounding set, for good.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`, `EINVAL` for one that the kernel does not know.
pub fn leave_out(set: u64) -> io::Result<()> {
    bits(set).try_for_each(|bit| prctl(libc::PR_CAPBSET_DROP, bit.into(), 0).map(drop))
}

/// Whether the permitted set stays when the user changes from root to another. The
/// effective one does not. Forgotten when a program is executed.
///
/// # Errors
/// As prctl(2).
pub fn keep_through_change_of_user(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// Permitted and effective; and what of them programs get that are executed without being
/// root (inheritable and ambient).
///
/// # Errors
/// `EPERM` for those it does not have.
pub fn set(permitted: u64, inherited: u64) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, u64_of(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0)?;
    let header = Header { version: VERSION_3, pid: 0 };
    let [low, high] = [halves(permitted), halves(inherited)];
    let half = |permitted, inheritable| Half { effective: permitted, permitted, inheritable };
    let data = [half(low[0], high[0]), half(low[1], high[1])];
    // SAFETY: version 3 reads one header and two halves; both live through the call.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr())
    })?;
    let raise = u64_of(libc::PR_CAP_AMBIENT_RAISE);
    bits(inherited).try_for_each(|bit| prctl(libc::PR_CAP_AMBIENT, raise, bit.into()).map(drop))
}

fn u64_of(option: libc::c_int) -> u64 {
    u64::from(option.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_cut_and_put_together() {
        for set in [0, 1, 0x8004_05fb, 1 << 40, u64::MAX] {
            assert_eq!(whole(halves(set)), set);
            assert_eq!(bits(set).fold(0, |all, bit| all | 1_u64 << bit), set);
        }
        assert_eq!(halves(0x1_0000_0002), [2, 1]);
    }

    #[test]
    fn the_kernel_says_the_same_as_its_file() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let expected = Held { permitted: line("CapPrm:"), bounding: line("CapBnd:") };
        assert_eq!(held().unwrap(), expected);
    }
}
