//! What depends on the machine that the tests run on.

use std::time::{Duration, Instant};

/// Longest time for anything that is waited for, in milliseconds.
const DEADLINE: i32 = 20_000;

/// How long something may take that usually takes no longer than this, in milliseconds. An
/// emulated machine says by `BERTH_TEST_SLOWNESS` how much slower it is.
pub fn patience(milliseconds: i32) -> i32 {
    let slowness = std::env::var("BERTH_TEST_SLOWNESS").map_or(1, |text| text.parse().unwrap());
    milliseconds * slowness
}

/// The version of the kernel, as `(6, 12)`.
pub fn kernel() -> (u32, u32) {
    let name = nix::sys::utsname::uname().unwrap();
    let mut numbers = name.release().to_str().unwrap().split('.');
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

/// Waits for a condition with a deadline.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = u64::from(patience(DEADLINE).unsigned_abs());
    let end = Instant::now() + Duration::from_millis(patience);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
