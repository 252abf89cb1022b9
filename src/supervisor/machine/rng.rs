//! A small generator of its own (splitmix64), for jitter only: the same seed gives the
//! same machine, which is what makes a simulated failure repeatable.

use serde::{Deserialize, Serialize};

/// State of the generator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rng(u64);

impl Rng {
    /// Starts from a seed; any value will do.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of thousandths from `low` to `high`, both included.
    pub(super) fn thousandths(&mut self, low: u32, high: u32) -> u32 {
        let width = u64::from(high.saturating_sub(low)).saturating_add(1);
        let part = self.next().checked_rem(width).unwrap_or(0);
        low.saturating_add(u32::try_from(part).unwrap_or(0))
    }
}
