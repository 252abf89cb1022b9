//! Memory that the allocator holds and nobody uses.

/// Gives pages that are free, also those between others in use, back to the kernel
/// (`malloc_trim(3)`). For moments after which much less is needed than before; the
/// smaller the supervisor, the cheaper each of its forks.
pub fn trim() {
    // SAFETY: no memory in use is concerned. What it returns only says whether there
    // was something to give.
    unsafe { libc::malloc_trim(0) };
}
