//! When a unit came through the phases of its first start and of its latest one: what
//! `berthctl blame`, `critical-chain` and `plot` show.
//!
//! What must hold: only changes of a state's name are noted, so it costs nothing while
//! nothing changes; a start that never got beyond waiting is forgotten by the next one;
//! what is kept of a unit does not grow.

use serde::{Deserialize, Serialize};

use super::Time;
use super::view::StateName;

/// A moment, in microseconds after the supervisor began; before zero: an earlier supervisor
/// saw it.
pub type Moment = i64;

/// The phases of one start, those it came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Wanted.
    pub waiting: Option<Moment>,
    /// Everything it needs was there: its sandbox is made, `start-pre` runs.
    pub preparing: Option<Moment>,
    /// Its command was ordered to run.
    pub starting: Option<Moment>,
    /// Its dependents went on; a oneshot: it has succeeded.
    pub ready: Option<Moment>,
    /// It was on its way down, had failed or was not wanted any more.
    pub ended: Option<Moment>,
}

impl Phases {
    fn came_to_something(&self) -> bool {
        self.preparing.or(self.starting).or(self.ready).is_some()
    }

    fn moved(&mut self, by: Moment) {
        let all = [
            &mut self.waiting,
            &mut self.preparing,
            &mut self.starting,
            &mut self.ready,
            &mut self.ended,
        ];
        for moment in all.into_iter().flatten() {
            *moment = moment.saturating_add(by);
        }
    }
}

/// The first start and the latest, if that is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// `None` before anybody wanted it.
    pub first: Option<Box<Phases>>,
    /// `None` as long as there was only one.
    pub latest: Option<Box<Phases>>,
}

impl Timeline {
    /// The state's name has changed.
    pub fn note(&mut self, from: StateName, to: StateName, now: Time) {
        let now = moment(now);
        if to == StateName::Waiting {
            return self.begin(now);
        }
        let Some(it) = self.current() else { return };
        match to {
            StateName::Preparing => it.preparing = Some(now),
            StateName::Starting => it.starting = Some(now),
            // Thawed, or taken over from an earlier supervisor, which has seen it get ready.
            StateName::Running | StateName::Done
                if matches!(from, StateName::Frozen | StateName::Inactive) => {}
            // From the cleaning after a oneshot's success, too.
            StateName::Running | StateName::Done => {
                it.ready = Some(now);
                it.ended = None;
            }
            StateName::Stopping | StateName::Backoff | StateName::Failed | StateName::Inactive => {
                it.ended.get_or_insert(now);
            }
            StateName::Waiting | StateName::Frozen => {}
        }
    }

    fn begin(&mut self, now: Moment) {
        let fresh = Phases { waiting: Some(now), ..Phases::default() };
        match self.current() {
            Some(last) if last.came_to_something() => self.latest = Some(Box::new(fresh)),
            Some(last) => *last = fresh,
            None => self.first = Some(Box::new(fresh)),
        }
    }

    fn current(&mut self) -> Option<&mut Phases> {
        self.latest.as_deref_mut().or(self.first.as_deref_mut())
    }

    /// The same on a clock that began so much earlier (or later: negative).
    #[must_use]
    pub fn moved(mut self, by: Moment) -> Self {
        for phases in [&mut self.first, &mut self.latest].into_iter().flatten() {
            phases.moved(by);
        }
        self
    }
}

/// A time as a moment.
fn moment(time: Time) -> Moment {
    Moment::try_from(time.0.as_micros()).unwrap_or(Moment::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use StateName as S;

    fn told(changes: &[(S, u64)]) -> Timeline {
        let mut timeline = Timeline::default();
        let mut from = S::Inactive;
        for &(to, at) in changes {
            timeline.note(from, to, Time(Duration::from_micros(at)));
            from = to;
        }
        timeline
    }

    #[expect(clippy::unnecessary_wraps, reason = "that is how a timeline has it")]
    fn phases(moments: [Option<Moment>; 5]) -> Option<Box<Phases>> {
        let [waiting, preparing, starting, ready, ended] = moments;
        Some(Box::new(Phases { waiting, preparing, starting, ready, ended }))
    }

    #[test]
    fn the_first_start_is_kept_beside_the_latest() {
        let once = [(S::Waiting, 1), (S::Preparing, 2), (S::Starting, 3), (S::Running, 4)];
        let timeline = told(&once);
        assert_eq!(timeline.first, phases([Some(1), Some(2), Some(3), Some(4), None]));
        assert_eq!(timeline.latest, None);
        let again = [
            (S::Stopping, 5),
            (S::Backoff, 6),
            (S::Waiting, 7),
            (S::Preparing, 8),
            (S::Stopping, 9),
            (S::Backoff, 10),
            (S::Waiting, 11),
            (S::Preparing, 12),
        ];
        let timeline = told(&[&once[..], &again].concat());
        assert_eq!(timeline.first, phases([Some(1), Some(2), Some(3), Some(4), Some(5)]));
        assert_eq!(timeline.latest, phases([Some(11), Some(12), None, None, None]));
    }

    #[test]
    fn a_oneshot_is_ready_when_it_has_been_cleaned() {
        let timeline = told(&[
            (S::Waiting, 1),
            (S::Preparing, 2),
            (S::Starting, 3),
            (S::Stopping, 4),
            (S::Done, 5),
        ]);
        assert_eq!(timeline.first, phases([Some(1), Some(2), Some(3), Some(5), None]));
    }

    #[test]
    fn waiting_in_vain_is_no_start_and_freezing_no_end() {
        let timeline = told(&[(S::Waiting, 1), (S::Inactive, 2), (S::Waiting, 3), (S::Running, 4)]);
        assert_eq!(timeline.first, phases([Some(3), None, None, Some(4), None]));
        assert_eq!(timeline.latest, None);
        let timeline = told(&[(S::Waiting, 1), (S::Running, 2), (S::Frozen, 3), (S::Running, 4)]);
        assert_eq!(timeline.first, phases([Some(1), None, None, Some(2), None]));
    }

    #[test]
    fn another_clock_moves_all_of_it() {
        let timeline = told(&[(S::Waiting, 5), (S::Running, 7)]).moved(-6);
        assert_eq!(timeline.first, phases([Some(-1), None, None, Some(1), None]));
    }
}
