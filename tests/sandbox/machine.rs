//! What depends on the machine that the tests run on.

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
