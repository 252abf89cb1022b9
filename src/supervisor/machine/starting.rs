//! From a wish to ready: preparation, `start-pre`, the command, readiness, `start-post`.
//!
//! What must hold: one run number a start, drawn here and nowhere else; every way out
//! that is not ready ends in [`stopping`], which alone gives the run back.

use std::time::Duration;

use super::super::event::Notify;
use super::super::request::Found;
use super::super::view::ResultName;
use super::super::{Action, Exit, Hook, Run};
use super::state::{
    Checks, Ending, On, PrepareStep, Preparing, Probe, StartStep, Starting, State, Wait,
};
use super::stopping::Manner;
use super::terms::later;
use super::transition::Cx;
use super::{health, running, stopping, words};
use crate::unit::model::Ready;

/// Wanted: looks for obstacles next.
pub(super) fn wake(cx: &mut Cx<'_>) -> State {
    cx.history.forget();
    again()
}

/// The delay is over.
pub(super) fn again() -> State {
    State::Waiting(Wait::default())
}

/// An obstacle was found.
pub(super) fn blocked(on: On, cursor: usize) -> State {
    State::Waiting(Wait { on: Some(on), cursor })
}

/// No obstacle is left.
pub(super) fn begin(cx: &mut Cx<'_>) -> State {
    if cx.terms.is_target() {
        return State::Reached;
    }
    let run = Run(*cx.next_run);
    *cx.next_run = cx.next_run.saturating_add(1);
    cx.memo.run = Some(run);
    cx.memo.status.clear();
    cx.memo.out_of_memory = false;
    cx.memo.result = None;
    cx.out.push(Action::Prepare { unit: cx.id, run });
    let deadline = cx.terms.start_timeout().map(|timeout| later(cx.now, timeout));
    State::Preparing(Preparing { run, began: cx.now, deadline, step: PrepareStep::Sandbox })
}

/// The sandbox is there.
pub(super) fn prepared(it: Preparing, cx: &mut Cx<'_>) -> State {
    match it.step {
        PrepareStep::Sandbox => next_pre(it, 0, cx),
        PrepareStep::Hook(_) => State::Preparing(it),
    }
}

/// It is there already: an earlier supervisor has started it.
pub(super) fn adopted(found: Found, cx: &mut Cx<'_>) -> State {
    match found {
        Found::Up { run, restarts } => {
            cx.memo.run = Some(run);
            cx.history.restarts = restarts;
            running::begin(
                Starting {
                    run,
                    began: cx.now,
                    deadline: None,
                    step: StartStep::Ready,
                    health: Checks::NONE,
                },
                cx,
            )
        }
        Found::Done => State::Done,
    }
}

fn next_pre(it: Preparing, index: usize, cx: &mut Cx<'_>) -> State {
    if index < cx.terms.start_pre() {
        cx.out.push(Action::RunHook { unit: cx.id, run: it.run, hook: Hook::StartPre(index) });
        return State::Preparing(Preparing { step: PrepareStep::Hook(index), ..it });
    }
    cx.out.push(Action::RunMain { unit: cx.id, run: it.run });
    State::Starting(Starting {
        run: it.run,
        began: it.began,
        deadline: it.deadline,
        step: StartStep::Exec,
        health: Checks::NONE,
    })
}

/// A hook of the preparation has ended.
pub(super) fn pre_ended(
    it: Preparing,
    hook: Hook,
    result: &Result<Exit, String>,
    cx: &mut Cx<'_>,
) -> State {
    let PrepareStep::Hook(index) = it.step else { return State::Preparing(it) };
    if hook != Hook::StartPre(index) {
        return State::Preparing(it);
    }
    match failure("start-pre", result, cx) {
        None => next_pre(it, index.saturating_add(1), cx),
        Some(why) => stopping::after_main(it.run, Ending::Failed(why), cx),
    }
}

/// How a hook failed, if it did.
fn failure(name: &str, result: &Result<Exit, String>, cx: &mut Cx<'_>) -> Option<String> {
    let (verdict, why) = match result {
        Ok(Exit::Code(0)) => return None,
        Ok(exit) => (stopping::verdict(*exit), format!("{name}: {}", words::exit(*exit))),
        Err(text) => (ResultName::Resources, words::cut(format!("{name}: {text}"))),
    };
    cx.memo.blame(verdict);
    Some(why)
}

/// The command was executed.
pub(super) fn executed(it: Starting, cx: &mut Cx<'_>) -> State {
    match it.step {
        StartStep::Exec if cx.terms.oneshot() => {
            State::Starting(Starting { step: StartStep::Work, ..it })
        }
        StartStep::Exec => match cx.terms.ready() {
            Ready::Exec => next_post(it, 0, cx),
            Ready::Health => {
                let health = Checks { probe: health::begin(it.run, cx), ..it.health };
                State::Starting(Starting { step: StartStep::Ready, health, ..it })
            }
            Ready::Notify
            | Ready::Fd(_)
            | Ready::Tcp { .. }
            | Ready::Unix(_)
            | Ready::Path(_)
            | Ready::Log(_) => State::Starting(Starting { step: StartStep::Ready, ..it }),
        },
        StartStep::Ready | StartStep::Work | StartStep::Hook(_) => State::Starting(it),
    }
}

/// The readiness probe succeeded.
pub(super) fn ready(it: Starting, cx: &mut Cx<'_>) -> State {
    match it.step {
        StartStep::Ready if is_watched(cx) => {
            cx.out.push(Action::StopWatching { unit: cx.id, run: it.run });
            next_post(it, 0, cx)
        }
        StartStep::Exec | StartStep::Ready | StartStep::Work | StartStep::Hook(_) => {
            State::Starting(it)
        }
    }
}

fn next_post(it: Starting, index: usize, cx: &mut Cx<'_>) -> State {
    if index < cx.terms.start_post() {
        cx.out.push(Action::RunHook { unit: cx.id, run: it.run, hook: Hook::StartPost(index) });
        return State::Starting(Starting { step: StartStep::Hook(index), ..it });
    }
    if cx.terms.oneshot() {
        return stopping::after_main(it.run, Ending::Ended, cx);
    }
    running::begin(it, cx)
}

/// A hook or a health check of the start has ended.
pub(super) fn hook_ended(
    mut it: Starting,
    hook: Hook,
    result: &Result<Exit, String>,
    cx: &mut Cx<'_>,
) -> State {
    match (it.step, hook) {
        (StartStep::Hook(index), Hook::StartPost(ended)) if index == ended => {
            match failure("start-post", result, cx) {
                None => next_post(it, index.saturating_add(1), cx),
                Some(why) => post_failed(&it, why, cx),
            }
        }
        (StartStep::Ready, Hook::Health) => match health::ended(&mut it.health, result, cx) {
            health::Verdict::Passed => next_post(it, 0, cx),
            health::Verdict::Broken(why) => {
                cx.memo.blame(ResultName::Unhealthy);
                fail(&it, why, cx)
            }
            health::Verdict::None | health::Verdict::Unhealthy(_) => {
                if let Probe::Due(_) = it.health.probe {
                    it.health.probe = Probe::Due(later(cx.now, health::pause(cx)));
                }
                State::Starting(it)
            }
        },
        (StartStep::Exec | StartStep::Work | StartStep::Hook(_), Hook::Health) => {
            health::ended(&mut it.health, result, cx);
            State::Starting(it)
        }
        (StartStep::Exec | StartStep::Ready | StartStep::Work | StartStep::Hook(_), _) => {
            State::Starting(it)
        }
    }
}

/// A `start-post` hook has failed; the command runs on (but for a oneshot's).
fn post_failed(it: &Starting, why: String, cx: &mut Cx<'_>) -> State {
    health::end(&it.health, it.run, cx);
    let ending = Ending::Failed(why);
    if cx.terms.oneshot() {
        return stopping::after_main(it.run, ending, cx);
    }
    stopping::end(it.run, ending, Manner::Signal(cx.terms.stop_signal()), cx)
}

/// The service has said something.
pub(super) fn notify(mut it: Starting, word: Notify, cx: &mut Cx<'_>) -> State {
    match word {
        Notify::Status(text) => cx.memo.status = words::cut(text),
        Notify::ExtendTimeout(by) => {
            let by = by.min(stopping::EXTENSION_BOUND);
            it.deadline = it.deadline.map(|deadline| deadline.max(later(cx.now, by)));
        }
        Notify::WatchdogTrigger => {
            cx.memo.blame(ResultName::Watchdog);
            return fail(&it, "it triggered its watchdog".to_owned(), cx);
        }
        Notify::Watchdog | Notify::Reloading | Notify::Stopping => {}
    }
    State::Starting(it)
}

/// The command has ended before it was ready (or, for a oneshot, has done its work).
pub(super) fn exited(it: &Starting, exit: Exit, left_behind: bool, cx: &mut Cx<'_>) -> State {
    let success = stopping::note_exit(it.run, exit, cx);
    if cx.terms.oneshot() && success && matches!(it.step, StartStep::Exec | StartStep::Work) {
        return next_post(*it, 0, cx);
    }
    end_hooks(it, cx);
    cx.memo.blame(ResultName::Protocol);
    let why = if !success {
        stopping::exit_text(exit, cx)
    } else if left_behind {
        stopping::DAEMONISED.to_owned()
    } else {
        format!("ended before it was ready: {}", stopping::exit_text(exit, cx))
    };
    stopping::after_main(it.run, Ending::Failed(why), cx)
}

/// The sandbox or a `start-pre` hook took too long.
pub(super) fn prepare_deadline(it: Preparing, cx: &mut Cx<'_>) -> State {
    if it.deadline.is_some_and(|deadline| deadline <= cx.now) {
        let why = too_slow(cx);
        return stopping::leave_preparing(&it, Ending::Failed(why), cx);
    }
    State::Preparing(it)
}

/// The start took too long, or a health check is due or too slow.
pub(super) fn deadline(mut it: Starting, cx: &mut Cx<'_>) -> State {
    if it.deadline.is_some_and(|deadline| deadline <= cx.now) {
        let why = too_slow(cx);
        return fail(&it, why, cx);
    }
    health::deadline(&mut it.health, it.run, cx);
    State::Starting(it)
}

fn too_slow(cx: &mut Cx<'_>) -> String {
    cx.memo.blame(ResultName::Timeout);
    let timeout = words::span(cx.terms.start_timeout().unwrap_or(Duration::ZERO));
    if cx.terms.oneshot() {
        format!("not done within {timeout}")
    } else {
        format!("not ready within {timeout}")
    }
}

fn fail(it: &Starting, why: String, cx: &mut Cx<'_>) -> State {
    stopping::leave_starting(it, Ending::Failed(why), cx)
}

/// Whether the loop looks out for readiness.
fn is_watched(cx: &Cx<'_>) -> bool {
    match cx.terms.ready() {
        Ready::Exec | Ready::Health => false,
        Ready::Notify
        | Ready::Fd(_)
        | Ready::Tcp { .. }
        | Ready::Unix(_)
        | Ready::Path(_)
        | Ready::Log(_) => !cx.terms.oneshot(),
    }
}

/// Ends what the start has begun beside the command.
pub(super) fn end_hooks(it: &Starting, cx: &mut Cx<'_>) {
    let run: Run = it.run;
    match it.step {
        StartStep::Hook(index) => {
            cx.out.push(Action::KillHook { unit: cx.id, run, hook: Hook::StartPost(index) });
        }
        StartStep::Ready | StartStep::Exec if is_watched(cx) => {
            cx.out.push(Action::StopWatching { unit: cx.id, run });
        }
        StartStep::Ready | StartStep::Exec | StartStep::Work => {}
    }
    health::end(&it.health, run, cx);
}
