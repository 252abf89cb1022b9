//! Memory that this process holds and does not need.

use std::ffi::c_void;
use std::time::Duration;

unsafe extern "C" {
    /// Where the program begins in memory, by the linker.
    static __executable_start: u8;
    /// Where its code ends.
    static etext: u8;
}

/// How long a process that stays has had nothing to do before it calls [`trim`]: what it
/// did last is then not what it does next, and nobody waits for it.
pub const REST: Duration = Duration::from_millis(250);

/// For moments after which much less is needed than before: gives free pages, also those
/// between others in use, back to the kernel (`malloc_trim(3)`), and lets go of the
/// program's own code, of which it takes back the little that it goes on using. The smaller
/// the supervisor, the cheaper each of its forks.
pub fn trim() {
    // SAFETY: no memory in use is concerned. What it returns only says whether there
    // was something to give.
    unsafe { libc::malloc_trim(0) };
    let (start, end) = (&raw const __executable_start, &raw const etext);
    let length = end.addr().saturating_sub(start.addr());
    // SAFETY: only what is mapped from the program's file and never written: the next
    // access finds the same bytes there. Refused, it has cost nothing.
    unsafe { libc::madvise(start.cast_mut().cast::<c_void>(), length, libc::MADV_DONTNEED) };
}
