//! Words for the trace of a replay.

use std::fmt::Write as _;

use crate::supervisor::request::Wish;
use crate::supervisor::{Action, Event, Input, Machine, Request, UnitId};
use crate::unit::model::{Kind, Unit};

/// One unit, on one line.
pub fn describe_unit(unit: &Unit) -> String {
    let kind = match &unit.kind {
        Kind::Target => "target".to_owned(),
        Kind::Service(it) if it.oneshot => format!("oneshot, restart {:?}", it.restart.policy),
        Kind::Service(it) => format!("service, ready {:?}, {:?}", it.ready, it.restart.policy),
    };
    let mut text = format!("  {}: {kind}", unit.name);
    for (link, names) in [
        ("requires", &unit.requires),
        ("wants", &unit.wants),
        ("after", &unit.after),
        ("before", &unit.before),
        ("conflicts", &unit.conflicts),
        ("wanted-by", &unit.wanted_by),
    ] {
        if !names.is_empty() {
            let _ = write!(text, "; {link} {}", names.join(" "));
        }
    }
    text
}

/// What came in.
pub fn describe(machine: &Machine, input: &Input) -> String {
    let name = |id: UnitId| {
        machine.unit(id).map_or_else(|| format!("#{}", id.0), |unit| unit.name.clone())
    };
    match input {
        Input::Tick => "tick".to_owned(),
        Input::Event(Event { unit, run, fact }) => {
            let mut text = format!("{fact:?}");
            text.truncate(60);
            format!("{}.{} {text}", name(*unit), run.0)
        }
        Input::Request(Request { job, wish }) => {
            let job = job.map_or_else(String::new, |job| format!(" (job {})", job.0));
            let text = match wish {
                Wish::Start(id) => format!("start {}", name(*id)),
                Wish::Stop(id) => format!("stop {}", name(*id)),
                Wish::Restart(id) => format!("restart {}", name(*id)),
                Wish::Reload(id) => format!("reload {}", name(*id)),
                Wish::Reset(id) => format!("reset {}", name(*id)),
                Wish::Freeze(id, on) => format!("freeze {} {on}", name(*id)),
                Wish::Forget(job) => format!("forget job {}", job.0),
                Wish::Apply(set) => format!("apply {} units", set.units.len()),
                Wish::Adopt(all) => {
                    let one = |(unit, found): &(_, _)| format!("{}: {found:?}", name(*unit));
                    format!("adopt {}", all.iter().map(one).collect::<Vec<_>>().join(", "))
                }
                Wish::Shutdown => "shutdown".to_owned(),
            };
            format!("{text}{job}")
        }
    }
}

/// What came out; `None` for what only makes the trace longer.
pub fn describe_action(action: &Action, name: &impl Fn(&UnitId) -> String) -> Option<String> {
    Some(match action {
        Action::Prepare { unit, run } => format!("prepare {}.{}", name(unit), run.0),
        Action::RunMain { unit, .. } => format!("run {}", name(unit)),
        Action::RunHook { unit, hook, .. } => format!("hook {} {hook:?}", name(unit)),
        Action::KillHook { unit, hook, .. } => format!("kill-hook {} {hook:?}", name(unit)),
        Action::StopWatching { .. } => return None,
        Action::Signal { unit, signal, .. } => format!("signal {} {signal}", name(unit)),
        Action::Clean { unit, .. } => format!("clean {}", name(unit)),
        Action::Freeze { unit, on, .. } => format!("freeze {} {on}", name(unit)),
        Action::Announce(notice) if notice.why.is_empty() => return None,
        Action::Announce(notice) => format!("\"{}: {}\"", name(&notice.unit), notice.why),
        Action::JobDone { job, result: Ok(()) } => format!("job {} ok", job.0),
        Action::JobDone { job, result: Err(why) } => format!("job {} failed: {why}", job.0),
        Action::Removed { name, .. } => format!("removed {name}"),
        Action::ShutdownDone => "shutdown done".to_owned(),
    })
}
