//! The way down: dependents first, `stop-command`, the stop signal, SIGKILL, `stop-post`,
//! `Clean`; then, and only then, what comes next.
//!
//! What must hold: every phase but the first and the last has a deadline of its own, so a
//! stop ends whatever the unit does; `Clean` is ordered once a run, and only `Cleaned`
//! leaves the state.

use std::time::Duration;

use super::super::event::Notify;
use super::super::view::{ResultName, StateName};
use super::super::{Action, Exit, Hook, Run, Time};
use super::state::{
    Ending, Goal, Phase, PrepareStep, Preparing, Running, StartStep, Starting, State, Stopping,
    Wait,
};
use super::terms::later;
use super::transition::Cx;
use super::{restart, running, starting, words};

const SIGKILL: i32 = 9;
/// How long a killed process may take to be reaped before `Clean` goes after it.
const KILL_BOUND: Duration = Duration::from_secs(5);
/// `EXTEND_TIMEOUT_USEC` may put a deadline off, but not for ever: so much in all for a
/// stop, and so much at once for a start (that of a database may take a day).
pub(super) const EXTENSION_BOUND: Duration = Duration::from_secs(3_600);

/// What is said of a service that ends with success and leaves its children behind.
pub(super) const DAEMONISED: &str =
    "it went into the background (daemonised) and cannot be watched: run it in the foreground";

/// How a running command is told to end.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// `stop-command`, then the stop signal.
    Gentle,
    /// This signal.
    Signal(i32),
}

/// Told to.
pub(super) const fn asked() -> Ending {
    Ending::Asked
}

/// Notes how the main process has ended; whether that counts as success.
pub(super) fn note_exit(run: Run, exit: Exit, cx: &mut Cx<'_>) -> bool {
    cx.memo.exit = Some((run, exit));
    let success = cx.terms.success(exit);
    cx.memo.blame(match verdict(exit) {
        _ if success => ResultName::Success,
        _ if cx.memo.out_of_memory => ResultName::OomKill,
        other => other,
    });
    success
}

/// The word for an end.
pub(super) const fn verdict(exit: Exit) -> ResultName {
    match exit {
        Exit::Code(0) => ResultName::Success,
        Exit::Code(_) | Exit::Unknown => ResultName::ExitCode,
        Exit::Signal(_) => ResultName::Signal,
    }
}

/// How a process ended, and that memory was short if it was.
pub(super) fn exit_text(exit: Exit, cx: &Cx<'_>) -> String {
    let text = words::exit(exit);
    if cx.memo.out_of_memory && exit == Exit::Signal(SIGKILL) {
        return format!("{text} (out of memory)");
    }
    text
}

/// Not begun, so nothing to end.
pub(super) fn rest() -> State {
    State::Inactive(String::new())
}

/// `reset` of a failed unit: as if it had never been started.
pub(super) fn forgotten(cx: &mut Cx<'_>) -> State {
    cx.history.forget();
    cx.memo.result = None;
    *cx.goal = Goal::Down;
    rest()
}

/// A preparation must end.
pub(super) fn leave_preparing(it: &Preparing, ending: Ending, cx: &mut Cx<'_>) -> State {
    match it.step {
        PrepareStep::Sandbox => clean(it.run, ending, cx),
        PrepareStep::Hook(index) => {
            let hook = Hook::StartPre(index);
            cx.out.push(Action::KillHook { unit: cx.id, run: it.run, hook });
            let deadline = later(cx.now, cx.terms.stop_hook_bound());
            stopping(it.run, Phase::Hook { deadline }, ending)
        }
    }
}

/// A start must end.
pub(super) fn leave_starting(it: &Starting, ending: Ending, cx: &mut Cx<'_>) -> State {
    starting::end_hooks(it, cx);
    match it.step {
        StartStep::Exec => {
            let deadline = later(cx.now, cx.terms.stop_hook_bound());
            stopping(it.run, Phase::Exec { deadline }, ending)
        }
        StartStep::Hook(_) if cx.terms.oneshot() => after_main(it.run, ending, cx),
        StartStep::Ready | StartStep::Work | StartStep::Hook(_) => {
            let manner = match ending {
                Ending::Asked => Manner::Gentle,
                Ending::Ended | Ending::Failed(_) => Manner::Signal(cx.terms.stop_signal()),
            };
            end(it.run, ending, manner, cx)
        }
    }
}

/// A running service must end, but not before what needs it.
pub(super) fn leave_running(it: Running, cx: &mut Cx<'_>) -> State {
    running::end_hooks(&it, cx);
    running::over(&it, cx);
    stopping(it.run, Phase::Dependents, Ending::Asked)
}

/// What it requires has gone while it ends. A oneshot that has succeeded must not count
/// as done on top of that: it is done again once it can be.
pub(super) fn leave(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.ending {
        Ending::Ended if cx.terms.oneshot() => stopping(it.run, it.phase, Ending::Asked),
        Ending::Asked | Ending::Ended | Ending::Failed(_) => State::Stopping(it),
    }
}

/// Nothing is left that has to go first.
pub(super) fn alone(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.phase {
        Phase::Dependents => end(it.run, it.ending, Manner::Gentle, cx),
        Phase::Exec { .. }
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. }
        | Phase::Cleaning { .. } => State::Stopping(it),
    }
}

/// A target or a finished oneshot, with nothing left that needs it.
pub(super) fn receded(cx: &mut Cx<'_>) -> State {
    settle(cx).unwrap_or_else(|| State::Waiting(Wait::default()))
}

/// Tells a running command to end.
pub(super) fn end(run: Run, ending: Ending, manner: Manner, cx: &mut Cx<'_>) -> State {
    match manner {
        Manner::Gentle if cx.terms.stop_command() => {
            cx.out.push(Action::RunHook { unit: cx.id, run, hook: Hook::Stop });
            let deadline = later(cx.now, cx.terms.stop_hook_bound());
            stopping(run, Phase::Command { deadline }, ending)
        }
        Manner::Gentle => signal(run, ending, cx.terms.stop_signal(), cx),
        Manner::Signal(number) => signal(run, ending, number, cx),
    }
}

fn signal(run: Run, ending: Ending, signal: i32, cx: &mut Cx<'_>) -> State {
    cx.out.push(Action::Signal { unit: cx.id, run, signal });
    let deadline = cx.terms.stop_timeout().map(|timeout| later(cx.now, timeout));
    let limit = later(cx.now, EXTENSION_BOUND.max(cx.terms.stop_timeout().unwrap_or_default()));
    stopping(run, Phase::Signalled { deadline, limit }, ending)
}

/// The command has ended (or never ran): `stop-post`, then `Clean`.
pub(super) fn after_main(run: Run, ending: Ending, cx: &mut Cx<'_>) -> State {
    post(run, ending, 0, cx)
}

fn post(run: Run, ending: Ending, index: usize, cx: &mut Cx<'_>) -> State {
    if index >= cx.terms.stop_post() {
        return clean(run, ending, cx);
    }
    cx.out.push(Action::RunHook { unit: cx.id, run, hook: Hook::StopPost(index) });
    let deadline = later(cx.now, cx.terms.stop_hook_bound());
    stopping(run, Phase::Post { index, deadline }, ending)
}

/// Nothing is asked any more.
pub(super) fn clean(run: Run, ending: Ending, cx: &mut Cx<'_>) -> State {
    cx.out.push(Action::Clean { unit: cx.id, run });
    stopping(run, Phase::Cleaning { stuck: None }, ending)
}

fn stopping(run: Run, phase: Phase, ending: Ending) -> State {
    State::Stopping(Stopping { run, phase, ending })
}

/// A step of the set-up failed; nothing of the command is left.
pub(super) fn setup_failed(run: Run, text: String, cx: &mut Cx<'_>) -> State {
    cx.memo.blame(ResultName::Resources);
    clean(run, Ending::Failed(words::cut(text)), cx)
}

/// The command was executed while it is to end: now there is somebody to signal.
pub(super) fn executed(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.phase {
        Phase::Exec { .. } => signal(it.run, it.ending, cx.terms.stop_signal(), cx),
        Phase::Dependents
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. }
        | Phase::Cleaning { .. } => State::Stopping(it),
    }
}

/// The command was not executed.
pub(super) fn never_ran(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.phase {
        Phase::Cleaning { .. } => State::Stopping(it),
        Phase::Dependents
        | Phase::Exec { .. }
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. } => clean(it.run, it.ending, cx),
    }
}

/// The command has ended.
pub(super) fn exited(it: Stopping, exit: Exit, cx: &mut Cx<'_>) -> State {
    if it.ending == Ending::Asked && exit == Exit::Signal(cx.terms.stop_signal()) {
        // What it was told to.
        cx.memo.exit = Some((it.run, exit));
        cx.memo.blame(ResultName::Success);
    } else {
        note_exit(it.run, exit, cx);
    }
    match it.phase {
        Phase::Command { .. } => {
            cx.out.push(Action::KillHook { unit: cx.id, run: it.run, hook: Hook::Stop });
            after_main(it.run, it.ending, cx)
        }
        Phase::Dependents | Phase::Exec { .. } | Phase::Signalled { .. } | Phase::Killed { .. } => {
            after_main(it.run, it.ending, cx)
        }
        Phase::Hook { .. } | Phase::Post { .. } | Phase::Cleaning { .. } => State::Stopping(it),
    }
}

/// A hook has ended; only the one that is waited for counts.
pub(super) fn hook_ended(it: Stopping, hook: Hook, cx: &mut Cx<'_>) -> State {
    match (&it.phase, hook) {
        (Phase::Hook { .. }, Hook::StartPre(_)) => after_main(it.run, it.ending, cx),
        (Phase::Command { .. }, Hook::Stop) => {
            signal(it.run, it.ending, cx.terms.stop_signal(), cx)
        }
        (Phase::Post { index, .. }, Hook::StopPost(ended)) if *index == ended => {
            post(it.run, it.ending, ended.saturating_add(1), cx)
        }
        (
            Phase::Dependents
            | Phase::Exec { .. }
            | Phase::Hook { .. }
            | Phase::Command { .. }
            | Phase::Signalled { .. }
            | Phase::Killed { .. }
            | Phase::Post { .. }
            | Phase::Cleaning { .. },
            _,
        ) => State::Stopping(it),
    }
}

/// The service has said something.
pub(super) fn notify(mut it: Stopping, word: Notify, cx: &mut Cx<'_>) -> State {
    match word {
        Notify::Status(text) => cx.memo.status = words::cut(text),
        Notify::ExtendTimeout(by) => {
            if let Phase::Signalled { deadline: Some(deadline), limit } = &mut it.phase {
                *deadline = (*deadline).max(later(cx.now, by)).min(*limit);
            }
        }
        Notify::Watchdog | Notify::WatchdogTrigger | Notify::Reloading | Notify::Stopping => {}
    }
    State::Stopping(it)
}

/// Something took too long: the next, harder step.
pub(super) fn deadline(it: Stopping, cx: &mut Cx<'_>) -> State {
    let passed = |time: Time| time <= cx.now;
    match it.phase {
        Phase::Exec { deadline } if passed(deadline) => kill(it, cx),
        Phase::Signalled { deadline: Some(time), .. } if passed(time) => {
            cx.memo.blame(ResultName::Timeout);
            kill(it, cx)
        }
        Phase::Hook { deadline } | Phase::Killed { deadline } if passed(deadline) => {
            after_main(it.run, it.ending, cx)
        }
        Phase::Command { deadline } if passed(deadline) => {
            cx.out.push(Action::KillHook { unit: cx.id, run: it.run, hook: Hook::Stop });
            signal(it.run, it.ending, cx.terms.stop_signal(), cx)
        }
        Phase::Post { index, deadline } if passed(deadline) => {
            let hook = Hook::StopPost(index);
            cx.out.push(Action::KillHook { unit: cx.id, run: it.run, hook });
            post(it.run, it.ending, index.saturating_add(1), cx)
        }
        Phase::Dependents
        | Phase::Exec { .. }
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. }
        | Phase::Cleaning { .. } => State::Stopping(it),
    }
}

/// Asking is over. `Clean` kills everything; where `stop-post` is to run in what is
/// left, only the command is killed first.
fn kill(it: Stopping, cx: &mut Cx<'_>) -> State {
    if cx.terms.stop_post() == 0 {
        return clean(it.run, it.ending, cx);
    }
    cx.out.push(Action::Signal { unit: cx.id, run: it.run, signal: SIGKILL });
    stopping(it.run, Phase::Killed { deadline: later(cx.now, KILL_BOUND) }, it.ending)
}

/// No more waiting.
pub(super) fn hurry(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.phase {
        Phase::Cleaning { .. } => State::Stopping(it),
        Phase::Dependents
        | Phase::Exec { .. }
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. } => clean(it.run, it.ending, cx),
    }
}

/// A process survives SIGKILL.
pub(super) fn stuck(mut it: Stopping, text: String, cx: &mut Cx<'_>) -> State {
    if let Phase::Cleaning { stuck } = &mut it.phase {
        let text = words::cut(text);
        *stuck = Some(text.clone());
        cx.announce(StateName::Stopping, text, true);
    }
    State::Stopping(it)
}

/// Nothing is left of the run: what now?
pub(super) fn cleaned(it: Stopping, cx: &mut Cx<'_>) -> State {
    match it.phase {
        Phase::Cleaning { .. } => next(it.ending, cx),
        // Not ordered, so not true.
        Phase::Dependents
        | Phase::Exec { .. }
        | Phase::Hook { .. }
        | Phase::Command { .. }
        | Phase::Signalled { .. }
        | Phase::Killed { .. }
        | Phase::Post { .. } => State::Stopping(it),
    }
}

fn next(ending: Ending, cx: &mut Cx<'_>) -> State {
    if let Some(state) = settle(cx) {
        return state;
    }
    match ending {
        Ending::Asked => State::Waiting(Wait::default()),
        Ending::Failed(why) => restart::after_failure(why, cx),
        Ending::Ended if cx.terms.oneshot() => State::Done,
        Ending::Ended => {
            let why = cx.memo.fresh_exit().map_or_else(String::new, |exit| exit_text(exit, cx));
            restart::after_success(why.clone(), cx).unwrap_or_else(|| {
                *cx.goal = Goal::Down;
                State::Inactive(why)
            })
        }
    }
}

/// Where the goal alone decides what comes after the end.
fn settle(cx: &mut Cx<'_>) -> Option<State> {
    if cx.closing {
        return Some(State::Inactive(String::new()));
    }
    match *cx.goal {
        Goal::Down => Some(State::Inactive(String::new())),
        Goal::Cycle => {
            *cx.goal = Goal::Up;
            cx.history.forget();
            Some(State::Waiting(Wait::default()))
        }
        Goal::Up => None,
    }
}
