//! Health checks: one after the other, never two. A slow one is killed and has failed; one
//! that does not even die fails anew each interval. One that cannot be run at all has failed
//! for good the first time: nobody is to wait for the verdict of a program that is not there.

use std::time::Duration;

use super::super::{Action, Exit, Hook, Run};
use super::state::{Checks, Probe};
use super::terms::later;
use super::transition::Cx;
use super::words;

/// While a service with `ready = "health"` starts, checks follow each other at most this
/// far apart: a long interval would delay its dependents for nothing.
const STARTING_PAUSE: Duration = Duration::from_secs(1);

/// What a check that has ended means.
pub(super) enum Verdict {
    /// Nothing yet.
    None,
    /// Healthy.
    Passed,
    /// So many failures in a row that it is not.
    Unhealthy(String),
    /// The check cannot be run, and never could: no program of that name, most likely.
    Broken(String),
}

/// The pause between two checks of a start.
pub(super) fn pause(cx: &Cx<'_>) -> Duration {
    interval(cx).min(STARTING_PAUSE)
}

fn interval(cx: &Cx<'_>) -> Duration {
    cx.terms.health().map_or(STARTING_PAUSE, |health| health.interval)
}

/// Runs one now.
pub(super) fn begin(run: Run, cx: &mut Cx<'_>) -> Probe {
    let Some(health) = cx.terms.health() else { return Probe::Idle };
    cx.out.push(Action::RunHook { unit: cx.id, run, hook: Hook::Health });
    Probe::Busy(later(cx.now, health.timeout))
}

/// The next one, an interval from now.
pub(super) fn next(cx: &Cx<'_>) -> Probe {
    match cx.terms.health() {
        Some(health) => Probe::Due(later(cx.now, health.interval)),
        None => Probe::Idle,
    }
}

/// One was killed and has an interval's time to end.
pub(super) fn dying(cx: &Cx<'_>) -> Probe {
    Probe::Dying(later(cx.now, interval(cx)))
}

/// One has ended.
pub(super) fn ended(it: &mut Checks, result: &Result<Exit, String>, cx: &Cx<'_>) -> Verdict {
    match it.probe {
        Probe::Idle | Probe::Due(_) => Verdict::None,
        // Its verdict was taken when it was killed.
        Probe::Dying(_) | Probe::Stiff => {
            it.probe = next(cx);
            Verdict::None
        }
        Probe::Busy(_) => {
            it.probe = next(cx);
            match result {
                Ok(Exit::Code(0)) => {
                    it.passed = true;
                    it.failures = 0;
                    Verdict::Passed
                }
                Ok(exit) => failed(it, &words::exit(*exit), cx),
                // One that could be run before will be again: it counts like any failure.
                Err(text) if it.passed => failed(it, text, cx),
                Err(text) => {
                    let retries = cx.terms.health().map_or(1, |health| health.retries.max(1));
                    it.failures = it.failures.saturating_add(1).max(retries);
                    Verdict::Broken(words::cut(format!("its health check cannot be run: {text}")))
                }
            }
        }
    }
}

/// Its deadline may have come: runs what is due, kills what is too slow.
pub(super) fn deadline(it: &mut Checks, run: Run, cx: &mut Cx<'_>) -> Verdict {
    match it.probe {
        Probe::Due(time) if time <= cx.now => {
            it.probe = begin(run, cx);
            Verdict::None
        }
        Probe::Busy(time) if time <= cx.now => {
            end(it, run, cx);
            it.probe = dying(cx);
            let timeout = cx.terms.health().map_or(Duration::ZERO, |health| health.timeout);
            failed(it, &format!("no answer within {}", words::span(timeout)), cx)
        }
        Probe::Dying(time) if time <= cx.now => {
            it.probe = dying(cx);
            failed(it, "SIGKILL does not end it", cx)
        }
        Probe::Due(_) | Probe::Busy(_) | Probe::Dying(_) | Probe::Idle | Probe::Stiff => {
            Verdict::None
        }
    }
}

/// Kills the one that runs, if one does.
pub(super) fn end(it: &Checks, run: Run, cx: &mut Cx<'_>) {
    match it.probe {
        Probe::Busy(_) => {
            cx.out.push(Action::KillHook { unit: cx.id, run, hook: Hook::Health });
        }
        Probe::Idle | Probe::Due(_) | Probe::Dying(_) | Probe::Stiff => {}
    }
}

/// Counts a failure.
fn failed(it: &mut Checks, last: &str, cx: &Cx<'_>) -> Verdict {
    let Some(health) = cx.terms.health() else { return Verdict::None };
    it.failures = it.failures.saturating_add(1);
    let retries = health.retries.max(1);
    if it.failures < retries {
        return Verdict::None;
    }
    let failures = it.failures;
    Verdict::Unhealthy(words::cut(format!("unhealthy: {failures} checks failed, last: {last}")))
}
