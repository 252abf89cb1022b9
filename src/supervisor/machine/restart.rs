//! When to try again: policies, the growing delay with its jitter, the limit.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::Time;
use super::super::view::ResultName;
use super::state::{Backoff, State};
use super::terms::later;
use super::transition::Cx;
use super::words;
use crate::unit::model::{Restart, RestartPolicy};

/// Attempts that are remembered for the limit; a greater `count` is taken as this.
const REMEMBERED: usize = 1_000;
/// Jitter, in thousandths of the delay.
pub(super) const JITTER: (u32, u32) = (800, 1_200);

/// What is remembered of a unit's failures.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// Attempts in a row, for the delay.
    attempts: u32,
    /// Restarts since the last start by hand or `reset`, to be shown.
    pub restarts: u32,
    /// When it was restarted, for the limit; oldest first, bounded by [`REMEMBERED`].
    recent: VecDeque<Time>,
}

impl History {
    /// `reset`, or a start by hand.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A run was ready for this long.
    pub(super) fn ran(&mut self, ready: Duration, restart: Option<&Restart>) {
        if restart.is_some_and(|restart| ready >= restart.reset) {
            self.attempts = 0;
            self.recent.clear();
        }
    }

    /// Whether the limit is reached; else the restart is counted.
    fn exhausted(&mut self, now: Time, restart: &Restart) -> bool {
        let limit = usize::try_from(restart.limit_count).unwrap_or(REMEMBERED).min(REMEMBERED);
        if limit == 0 {
            return false;
        }
        let recent = |time: &Time| now.0.saturating_sub(time.0) < restart.limit_window;
        while self.recent.front().is_some_and(|time| !recent(time)) || self.recent.len() > limit {
            self.recent.pop_front();
        }
        if self.recent.len() >= limit {
            return true;
        }
        self.recent.push_back(now);
        false
    }

    /// The delay before the next attempt: doubled each time, never above the cap.
    fn delay(&mut self, restart: &Restart, jitter: u32) -> Duration {
        let grown = 2_u32.saturating_pow(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        if restart.delay.is_zero() {
            return Duration::ZERO;
        }
        let delay = restart.delay.saturating_mul(grown).min(restart.delay_max);
        let part = delay.checked_div(1_000).unwrap_or_default();
        part.saturating_mul(jitter).min(restart.delay_max).max(Duration::from_millis(1))
    }
}

/// A run has ended with success, though nobody asked it to.
pub(super) fn after_success(why: String, cx: &mut Cx<'_>) -> Option<State> {
    match cx.terms.policy() {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => Some(again(why, cx)),
        RestartPolicy::No | RestartPolicy::OnFailure => None,
    }
}

/// A run or a start has failed.
pub(super) fn after_failure(why: String, cx: &mut Cx<'_>) -> State {
    match cx.terms.policy() {
        RestartPolicy::No => State::Failed(why),
        RestartPolicy::OnFailure | RestartPolicy::Always | RestartPolicy::UnlessStopped => {
            again(why, cx)
        }
    }
}

fn again(why: String, cx: &mut Cx<'_>) -> State {
    let Some(restart) = cx.terms.restart() else { return State::Failed(why) };
    if cx.history.exhausted(cx.now, restart) {
        let times = restart.limit_count;
        let window = words::span(restart.limit_window);
        cx.memo.result = Some(ResultName::StartLimit);
        return State::Failed(format!("failed after {times} restarts in {window}: {why}"));
    }
    let delay = cx.history.delay(restart, cx.jitter);
    cx.history.restarts = cx.history.restarts.saturating_add(1);
    let number = cx.history.restarts;
    if delay.is_zero() {
        return State::Backoff(Backoff {
            until: None,
            why,
            plan: format!("restart {number} at once"),
        });
    }
    let plan = format!("restart {number} in {}", words::span(delay));
    State::Backoff(Backoff { until: Some(later(cx.now, delay)), why, plan })
}
