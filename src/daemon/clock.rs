//! The two clocks: monotonic time for the machine, wall time for people.

use std::time::Instant;

use jiff::Timestamp;

use crate::supervisor::Time;

/// Where the machine's time began.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The machine's time.
    pub fn now(&self) -> Time {
        Time(self.origin.elapsed())
    }

    /// Wall time of a moment of the machine's, as the wall clock counts it today: a clock
    /// that was set in between moves past moments with it.
    pub fn wall(&self, moment: Time) -> Timestamp {
        let ago = self.now().0.saturating_sub(moment.0);
        Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN)
    }
}
