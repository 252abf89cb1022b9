//! The timeline as data: which stretches each unit has on its lane, before anything is drawn.
//!
//! What must always hold: each unit that was wanted within the time shown has one lane; no
//! stretch leaves that time; on one lane none overlaps another.

use super::{Boot, took};
use crate::protocol::insight::{Phases, UnitTimes};
use crate::protocol::types::Kind;

/// What a unit does during a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Wanted; something it needs is not there.
    Waiting,
    /// Cgroup, namespaces, `start-pre`.
    Preparing,
    /// The command runs, not ready yet.
    Starting,
    /// Ready.
    Ready,
}

/// A part of a lane, in microseconds after the supervisor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// What.
    pub phase: Phase,
    /// From when.
    pub from: i64,
    /// Until when.
    pub to: i64,
}

/// One unit.
#[derive(Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Whether it is a target.
    pub target: bool,
    /// In the order of time.
    pub stretches: Vec<Stretch>,
    /// When starts of it failed, or were called off.
    pub failures: Vec<i64>,
    /// When it was ready for the first time, as far as is known.
    pub ready: Option<i64>,
    /// How long that start took.
    pub took: Option<i64>,
}

/// All lanes, and the time they show.
#[derive(Debug, PartialEq, Eq)]
pub struct Lanes {
    /// In the order in which they were begun.
    pub lanes: Vec<Lane>,
    /// The earliest moment: zero, or before it the kernel's beginning.
    pub from: i64,
    /// The latest.
    pub to: i64,
    /// Units that were wanted only later.
    pub later: usize,
}

impl Lanes {
    /// The lanes of a boot: until its target was reached, or until now.
    pub fn of(boot: &Boot) -> Self {
        let kernel = boot.supervisor.kernel.and_then(|it| i64::try_from(it).ok()).unwrap_or(0);
        let starts = || boot.units.iter().filter_map(|unit| unit.first.as_ref());
        let earliest = starts().filter_map(|it| it.waiting).min().unwrap_or(0);
        let last = || {
            let now = boot.supervisor.uptime.and_then(|it| i64::try_from(it).ok());
            now.or_else(|| starts().filter_map(|it| it.ready.or(it.ended)).max()).unwrap_or(0)
        };
        let reached = boot.reached().unwrap_or_else(last);
        let from = earliest.min(0).min(kernel.saturating_neg());
        // A little of what came then, and never nothing at all.
        let length = reached.saturating_sub(from).max(1_000);
        let to = from.saturating_add(length).saturating_add(length / 40);
        let mut lanes: Vec<Lane> =
            boot.units.iter().filter_map(|unit| lane(unit, from, to)).collect();
        let begun = |lane: &Lane| {
            let work = lane.stretches.iter().find(|it| it.phase != Phase::Waiting);
            work.or(lane.stretches.first()).map_or(to, |stretch| stretch.from)
        };
        lanes.sort_by(|a, b| (begun(a), a.ready, &a.name).cmp(&(begun(b), b.ready, &b.name)));
        let later = starts().filter(|it| it.waiting.is_some_and(|at| at > to)).count();
        Self { lanes, from, to, later }
    }
}

/// `None`: it was not wanted in that time.
fn lane(unit: &UnitTimes, from: i64, to: i64) -> Option<Lane> {
    let first = unit.first.as_ref()?;
    let was_ready = |it: &&Phases| it.ready.is_some_and(|at| at <= to);
    let good = [Some(first), unit.latest.as_ref()].into_iter().flatten().find(was_ready);
    let mut lane = Lane {
        name: unit.name.clone(),
        target: unit.kind == Kind::Target,
        stretches: Vec::new(),
        failures: Vec::new(),
        ready: good.and_then(|it| it.ready),
        took: good.and_then(took),
    };
    let second = unit.latest.as_ref().and_then(|it| it.waiting);
    add(&mut lane, first, from, second.unwrap_or(to).min(to));
    if let Some(latest) = &unit.latest {
        add(&mut lane, latest, from, to);
    }
    (!lane.stretches.is_empty() || !lane.failures.is_empty()).then_some(lane)
}

fn add(lane: &mut Lane, phases: &Phases, from: i64, to: i64) {
    let end = phases.ended.unwrap_or(to);
    let marks = [
        (Phase::Waiting, phases.waiting),
        (Phase::Preparing, phases.preparing),
        (Phase::Starting, phases.starting),
        (Phase::Ready, phases.ready),
    ];
    for (index, (phase, at)) in marks.iter().enumerate() {
        let Some(at) = at else { continue };
        let after = marks.get(index.saturating_add(1)..).unwrap_or_default();
        let next = after.iter().find_map(|(_, at)| *at).unwrap_or(end);
        let before = lane.stretches.last().map_or(from, |last| last.to);
        let stretch =
            Stretch { phase: *phase, from: (*at).max(from).max(before), to: next.min(end).min(to) };
        if stretch.from < stretch.to {
            lane.stretches.push(stretch);
        }
    }
    if let (Some(ended), None) = (phases.ended, phases.ready)
        && ended <= to
        && phases.preparing.is_some()
    {
        lane.failures.push(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::method::VersionReply;
    use crate::protocol::types::State;

    #[expect(clippy::unnecessary_wraps, reason = "that is how a unit has it")]
    fn phases(moments: [Option<i64>; 5]) -> Option<Phases> {
        let [waiting, preparing, starting, ready, ended] = moments;
        Some(Phases { waiting, preparing, starting, ready, ended })
    }

    fn boot(kernel: Option<u64>, units: Vec<(&str, Option<Phases>, Option<Phases>)>) -> Boot {
        let unit = |(name, first, latest): (&str, _, _)| UnitTimes {
            name: name.to_owned(),
            kind: if name == "default" { Kind::Target } else { Kind::Service },
            state: State::Running,
            first,
            latest,
        };
        let supervisor = VersionReply {
            version: "1".to_owned(),
            pid: 1,
            since: "now".to_owned(),
            uptime: Some(90_000),
            kernel,
            target: Some("default".to_owned()),
            unwritten: None,
        };
        Boot { supervisor, units: units.into_iter().map(unit).collect() }
    }

    fn story() -> Boot {
        boot(
            Some(5_000),
            vec![
                ("web", phases([Some(10), Some(50), Some(60), Some(2_000), None]), None),
                ("db", phases([Some(10), Some(20), Some(30), Some(50), Some(70)]), None),
                (
                    "flaky",
                    phases([Some(10), Some(11), Some(12), None, Some(40)]),
                    phases([Some(140), Some(141), Some(142), Some(150), None]),
                ),
                ("default", phases([Some(10), None, None, Some(2_000), None]), None),
                ("by-hand", phases([Some(80_000), Some(80_001), None, None, None]), None),
                ("never", None, None),
            ],
        )
    }

    #[test]
    fn lanes_have_what_happened_until_the_target_was_reached() {
        let lanes = Lanes::of(&story());
        let names: Vec<&str> = lanes.lanes.iter().map(|lane| lane.name.as_str()).collect();
        assert_eq!(names, ["flaky", "db", "web", "default"]);
        assert_eq!((lanes.from, lanes.to, lanes.later), (-5_000, 2_175, 1));
        let [flaky, db, web, default] = lanes.lanes.as_slice() else { panic!() };
        let stretch = |phase, from, to| Stretch { phase, from, to };
        assert_eq!(flaky.failures, [40]);
        assert_eq!(flaky.stretches.first(), Some(&stretch(Phase::Waiting, 10, 11)));
        assert_eq!(flaky.stretches.last(), Some(&stretch(Phase::Ready, 150, 2_175)));
        assert_eq!(db.stretches.last(), Some(&stretch(Phase::Ready, 50, 70)));
        assert_eq!((web.took, default.took), (Some(1_950), None));
        assert!(default.target && default.failures.is_empty());
    }

    #[test]
    fn stretches_neither_overlap_nor_leave_the_picture() {
        let mut boot = story();
        // A server that talks nonsense.
        boot.units.push(UnitTimes {
            name: "odd".to_owned(),
            kind: Kind::Service,
            state: State::Running,
            first: phases([Some(500), Some(i64::MIN), Some(400), Some(i64::MAX), Some(3)]),
            latest: phases([Some(-7), Some(600), Some(i64::MAX), Some(0), None]),
        });
        for lane in Lanes::of(&boot).lanes {
            let mut before = i64::MIN;
            for stretch in &lane.stretches {
                assert!(before <= stretch.from && stretch.from < stretch.to, "{lane:?}");
                before = stretch.to;
            }
        }
        // Nothing was started, nothing is reached: still a picture.
        let lanes = Lanes::of(&self::boot(None, Vec::new()));
        assert!(lanes.from < lanes.to && lanes.lanes.is_empty());
    }
}
