//! The two clocks: monotonic time for the machine, wall time for people.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::supervisor::Time;

/// Where the machine's time began.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Clock {
    /// On `CLOCK_MONOTONIC`, which goes on whatever program this process executes.
    origin: Duration,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self { origin: monotonic() }
    }

    /// The machine's time.
    pub fn now(&self) -> Time {
        Time(monotonic().saturating_sub(self.origin))
    }

    /// Microseconds from the beginning of the kernel's clock to the machine's zero.
    pub fn origin(&self) -> i64 {
        i64::try_from(self.origin.as_micros()).unwrap_or(i64::MAX)
    }

    /// Wall time of a moment of the machine's, as the wall clock counts it today: a clock
    /// that was set in between moves past moments with it.
    pub fn wall(&self, moment: Time) -> Timestamp {
        let ago = self.now().0.saturating_sub(moment.0);
        Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN)
    }
}

/// Since some moment before the machine booted.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
