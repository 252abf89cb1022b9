//! Prints every cell of the table to `tests/sim/state-table.golden`. That file is the
//! state diagram: what it says is what the code does, or this test fails.
//! `BERTH_BLESS=1 cargo test --lib state_table` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::sim::units;
use super::state::{
    Backoff, Checks, Ending, Goal, On, Phase, PrepareStep, Preparing, Probe, Pulse, Running,
    StartStep, Starting, State, Stopping, Wait, Word,
};
use super::terms::Terms;
use super::transition::{Cx, Happening, Memo, step};
use crate::supervisor::event::Notify;
use crate::supervisor::machine::restart::History;
use crate::supervisor::request::Found;
use crate::supervisor::{Action, Exit, Hook, Run, Time, UnitId};
use crate::unit::model::{At, Health, HealthCheck, Kind, Ready, RestartPolicy, Unit};

/// All deadlines of the examples; it is also now.
const NOW: Time = Time(Duration::from_secs(1_000));
const RUN: Run = Run(1);

/// A service that has everything, or a oneshot that has.
fn everything(oneshot: bool) -> Unit {
    let command = || At::default_value(vec!["/bin/hook".to_owned()]);
    let mut service = units::plain_service();
    service.oneshot = oneshot;
    service.ready = if oneshot { Ready::Exec } else { Ready::Notify };
    service.start_pre = vec![command()];
    service.start_post = vec![command()];
    service.stop_post = vec![command()];
    service.stop_command = Some(command());
    service.reload_command = Some(command());
    service.watchdog = Some(Duration::from_secs(10));
    service.health = Some(Health {
        check: At::default_value(HealthCheck::Command(vec!["/bin/check".to_owned()])),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        retries: 1,
        start_period: Duration::ZERO,
        restart: true,
    });
    units::unit("web", Kind::Service(Box::new(service)))
}

fn starting(step: StartStep) -> State {
    let health = Checks::NONE;
    State::Starting(Starting {
        run: RUN,
        began: Time::default(),
        deadline: Some(NOW),
        step,
        health,
    })
}

fn running(pulse: Pulse, probe: Probe) -> State {
    State::Running(Running {
        run: RUN,
        began: Time::default(),
        since: Time::default(),
        health: Checks { probe, passed: true, failures: 0 },
        word: Word::Nothing,
        pulse,
    })
}

fn stopping(phase: Phase) -> State {
    State::Stopping(Stopping { run: RUN, phase, ending: Ending::Asked })
}

/// Each state and each step within it.
fn states() -> Vec<(&'static str, State)> {
    let preparing = |step| {
        let began = Time::default();
        State::Preparing(Preparing { run: RUN, began, deadline: Some(NOW), step })
    };
    let alive = |watchdog, reload| Pulse::Alive { watchdog, reload };
    let far = Time(Duration::from_secs(9_000));
    vec![
        ("Inactive", State::Inactive(String::new())),
        ("Waiting", State::Waiting(Wait::default())),
        ("Preparing: sandbox", preparing(PrepareStep::Sandbox)),
        ("Preparing: start-pre", preparing(PrepareStep::Hook(0))),
        ("Starting: command ordered", starting(StartStep::Exec)),
        ("Starting: not ready yet", starting(StartStep::Ready)),
        ("Starting: oneshot at work", starting(StartStep::Work)),
        ("Starting: start-post", starting(StartStep::Hook(0))),
        ("Running: watchdog due", running(alive(Some(NOW), None), Probe::Idle)),
        ("Running: reload-command too slow", running(alive(None, Some(NOW)), Probe::Idle)),
        ("Running: health check due", running(alive(None, None), Probe::Due(NOW))),
        ("Running: health check too slow", running(alive(None, None), Probe::Busy(NOW))),
        ("Running: health check does not die", running(alive(None, None), Probe::Dying(NOW))),
        ("Running: frozen", running(Pulse::Frozen, Probe::Idle)),
        ("Running: frozen, a check was killed", running(Pulse::Frozen, Probe::Stiff)),
        ("Stopping: dependents first", stopping(Phase::Dependents)),
        ("Stopping: command ordered", stopping(Phase::Exec { deadline: NOW })),
        ("Stopping: start-pre killed", stopping(Phase::Hook { deadline: NOW })),
        ("Stopping: stop-command", stopping(Phase::Command { deadline: NOW })),
        ("Stopping: signalled", stopping(Phase::Signalled { deadline: Some(NOW), limit: far })),
        ("Stopping: killed", stopping(Phase::Killed { deadline: NOW })),
        ("Stopping: stop-post", stopping(Phase::Post { index: 0, deadline: NOW })),
        ("Stopping: cleaning", stopping(Phase::Cleaning { stuck: None })),
        (
            "Backoff",
            State::Backoff(Backoff { until: Some(NOW), why: "x".into(), plan: "y".into() }),
        ),
        ("Failed", State::Failed("x".into())),
        ("Done", State::Done),
        ("Reached", State::Reached),
        ("Receding", State::Receding),
    ]
}

/// Each happening, with the variants that matter.
fn happenings() -> Vec<(&'static str, Happening)> {
    use Happening as H;
    let good = || Ok(Exit::Code(0));
    let bad = || Ok(Exit::Code(1));
    let exited = |code, left_behind| H::Exited { exit: Exit::Code(code), left_behind };
    vec![
        ("Adopted", H::Adopted(Found::Up { run: RUN, restarts: 3 })),
        ("Adopted, done", H::Adopted(Found::Done)),
        ("Prepared", H::Prepared),
        ("SetupFailed", H::SetupFailed("x".into())),
        ("Executed", H::Executed),
        ("Exited 0", exited(0, false)),
        ("Exited 0, children left", exited(0, true)),
        ("Exited 1", exited(1, false)),
        ("Ready", H::Ready),
        ("Notify status", H::Notify(Notify::Status("x".into()))),
        ("Notify watchdog", H::Notify(Notify::Watchdog)),
        ("Notify watchdog trigger", H::Notify(Notify::WatchdogTrigger)),
        ("Notify reloading", H::Notify(Notify::Reloading)),
        ("Notify stopping", H::Notify(Notify::Stopping)),
        ("Notify extend timeout", H::Notify(Notify::ExtendTimeout(Duration::from_secs(9)))),
        ("Hook start-pre ok", H::HookEnded(Hook::StartPre(0), good())),
        ("Hook start-pre failed", H::HookEnded(Hook::StartPre(0), bad())),
        ("Hook start-post ok", H::HookEnded(Hook::StartPost(0), good())),
        ("Hook start-post failed", H::HookEnded(Hook::StartPost(0), bad())),
        ("Hook reload ended", H::HookEnded(Hook::Reload, good())),
        ("Hook stop ended", H::HookEnded(Hook::Stop, good())),
        ("Hook stop-post ended", H::HookEnded(Hook::StopPost(0), bad())),
        ("Hook health ok", H::HookEnded(Hook::Health, good())),
        ("Hook health failed", H::HookEnded(Hook::Health, bad())),
        ("Cleaned", H::Cleaned),
        ("Stuck", H::Stuck("x".into())),
        ("OutOfMemory", H::OutOfMemory),
        ("Deadline", H::Deadline),
        ("Wake", H::Wake),
        ("Blocked", H::Blocked { on: On::Coming(UnitId(7)), cursor: 0 }),
        ("Go", H::Go),
        ("Leave", H::Leave),
        ("Alone", H::Alone),
        ("Reset", H::Reset),
        ("Reload", H::Reload),
        ("Freeze", H::Freeze(true)),
        ("Thaw", H::Freeze(false)),
        ("Hurry", H::Hurry),
    ]
}

/// One transition: the next state and the orders, in words; `None` if nothing happens.
fn cell(unit: &Unit, state: &State, happening: Happening, goal: Goal) -> Option<String> {
    let mut out = Vec::new();
    let (mut next_run, mut history, mut memo) = (2, History::default(), Memo::default());
    let mut aim = goal;
    let mut cx = Cx {
        id: UnitId(0),
        terms: Terms(unit),
        now: NOW,
        goal: &mut aim,
        closing: false,
        next_run: &mut next_run,
        history: &mut history,
        memo: &mut memo,
        jitter: 1_000,
        reloaded: None,
        out: &mut out,
    };
    let next = step(state.clone(), happening, &mut cx);
    let reloaded = cx.reloaded;
    if next == *state && out.is_empty() && reloaded.is_none() && aim == goal {
        return None;
    }
    let mut text = words(&next);
    if aim != goal {
        let _ = write!(text, ", goal {aim:?}");
    }
    for action in &out {
        let _ = write!(text, "; {}", order(action));
    }
    if let Some(result) = reloaded {
        text.push_str(if result.is_ok() {
            "; reload has succeeded"
        } else {
            "; reload has failed"
        });
    }
    Some(text)
}

fn words(state: &State) -> String {
    let ending = |ending: &Ending| match ending {
        Ending::Asked => "",
        Ending::Ended => " (ended)",
        Ending::Failed(_) => " (failed)",
    };
    match state {
        State::Inactive(_) => "Inactive".to_owned(),
        State::Waiting(_) => "Waiting".to_owned(),
        State::Preparing(it) => format!("Preparing {:?}", it.step),
        State::Starting(it) => format!("Starting {:?}", it.step),
        State::Running(it) => match it.pulse {
            Pulse::Frozen => "Running frozen".to_owned(),
            Pulse::Alive { .. } => "Running".to_owned(),
        },
        State::Stopping(it) => {
            let phase = format!("{:?}", it.phase);
            let phase = phase.split([' ', '{']).next().unwrap_or_default().to_owned();
            format!("Stopping {phase}{}", ending(&it.ending))
        }
        State::Backoff(_) => "Backoff".to_owned(),
        State::Failed(_) => "Failed".to_owned(),
        State::Done => "Done".to_owned(),
        State::Reached => "Reached".to_owned(),
        State::Receding => "Receding".to_owned(),
    }
}

fn order(action: &Action) -> String {
    match action {
        Action::Prepare { .. } => "Prepare".to_owned(),
        Action::RunMain { .. } => "RunMain".to_owned(),
        Action::RunHook { hook, .. } => format!("RunHook {hook:?}"),
        Action::KillHook { hook, .. } => format!("KillHook {hook:?}"),
        Action::StopWatching { .. } => "StopWatching".to_owned(),
        Action::Signal { signal, .. } => format!("Signal {signal}"),
        Action::Clean { .. } => "Clean".to_owned(),
        Action::Freeze { on, .. } => format!("Freeze {on}"),
        Action::Announce(_) => "Announce".to_owned(),
        Action::JobDone { .. } | Action::Removed { .. } | Action::ShutdownDone => {
            unreachable!("no transition orders this")
        }
    }
}

/// The whole table, and how a run that is over goes on.
fn table() -> String {
    let mut text = String::from(
        "Every cell of the machine's table (src/supervisor/machine/transition.rs): what each\n\
         state does on each happening, for a service with all hooks, a watchdog, a health check\n\
         and restart = \"on-failure\", whose goal is up and whose deadlines have all come.\n\
         Written by a test, see src/supervisor/machine/table.rs.\n",
    );
    for (name, state) in states() {
        let unit = everything(name.contains("oneshot"));
        let _ = write!(text, "\n{name}\n");
        let mut idle = Vec::new();
        for (happening_name, happening) in happenings() {
            match cell(&unit, &state, happening, Goal::Up) {
                Some(cell) => {
                    let _ = writeln!(text, "    {happening_name:<24} -> {cell}");
                }
                None => idle.push(happening_name),
            }
        }
        let _ = writeln!(text, "    stays on: {}", idle.join(", "));
    }
    text.push_str("\nAfter Cleaned, by goal, ending and policy\n");
    let mut rows: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for goal in [Goal::Up, Goal::Down, Goal::Cycle] {
        for (oneshot, kind) in [(false, "service"), (true, "oneshot")] {
            for policy in [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always] {
                for ending in [Ending::Asked, Ending::Ended, Ending::Failed("x".into())] {
                    let mut unit = everything(oneshot);
                    if let Kind::Service(service) = &mut unit.kind {
                        service.restart.policy = policy;
                    }
                    let phase = Phase::Cleaning { stuck: None };
                    let name = format!("goal {goal:?}, {ending:?}").replace("(\"x\")", "");
                    let state = State::Stopping(Stopping { run: RUN, phase, ending });
                    let next = cell(&unit, &state, Happening::Cleaned, goal).unwrap_or_default();
                    rows.entry((kind, name)).or_default().push(format!("{policy:?}: {next}"));
                }
            }
        }
    }
    for ((kind, name), cells) in rows {
        let _ = writeln!(text, "    {kind}, {name:<22} -> {}", cells.join(" | "));
    }
    text
}

#[test]
fn the_state_table_is_the_one_in_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/state-table.golden");
    let now = table();
    if std::env::var_os("BERTH_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = now.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(
        now == golden,
        "the table has changed, first at {differs:?}; if that is right: \
         BERTH_BLESS=1 cargo test --lib state_table"
    );
}
