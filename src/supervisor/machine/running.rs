//! While a service is ready: its end, its watchdog, its health, reloading, freezing.

use std::time::Duration;

use super::super::event::Notify;
use super::super::view::{ResultName, StateName};
use super::super::{Action, Exit, Hook, Run};
use super::state::{Checks, Ending, Probe, Pulse, Running, Starting, State, Word};
use super::stopping::Manner;
use super::terms::later;
use super::transition::Cx;
use super::{health, stopping, words};

/// sigabrt(7): what a service gets that its watchdog has not heard of, so that it dumps core.
const SIGABRT: i32 = 6;

/// Ready.
pub(super) fn begin(it: Starting, cx: &mut Cx<'_>) -> State {
    let probe = match it.health.probe {
        Probe::Idle | Probe::Due(_) => health::next(cx),
        Probe::Busy(_) | Probe::Dying(_) | Probe::Stiff => it.health.probe,
    };
    State::Running(Running {
        run: it.run,
        began: it.began,
        since: cx.now,
        health: Checks { probe, failures: 0, ..it.health },
        word: Word::Nothing,
        pulse: Pulse::Alive { watchdog: next_watchdog(cx), reload: None },
    })
}

/// `READY=1` after `RELOADING=1`.
pub(super) fn ready(it: Running) -> State {
    State::Running(Running { word: Word::Nothing, ..it })
}

/// The service has said something.
pub(super) fn notify(mut it: Running, word: Notify, cx: &mut Cx<'_>) -> State {
    match word {
        Notify::Status(text) => cx.memo.status = words::cut(text),
        Notify::Reloading => it.word = Word::Reloading,
        Notify::Stopping => it.word = Word::Stopping,
        Notify::Watchdog => {
            if let Pulse::Alive { watchdog, .. } = &mut it.pulse {
                *watchdog = next_watchdog(cx);
            }
        }
        Notify::WatchdogTrigger if it.pulse != Pulse::Frozen => {
            return bark(&it, "it triggered its watchdog".to_owned(), cx);
        }
        Notify::WatchdogTrigger | Notify::ExtendTimeout(_) => {}
    }
    State::Running(it)
}

/// The command has ended, though nobody asked it to.
pub(super) fn exited(it: &Running, exit: Exit, left_behind: bool, cx: &mut Cx<'_>) -> State {
    let success = stopping::note_exit(it.run, exit, cx);
    end_hooks(it, cx);
    let ending = match (success, left_behind) {
        (true, true) => {
            cx.memo.blame(ResultName::Protocol);
            Ending::Failed(stopping::DAEMONISED.to_owned())
        }
        (true, false) => Ending::Ended,
        (false, _) => Ending::Failed(stopping::exit_text(exit, cx)),
    };
    over(it, cx);
    stopping::after_main(it.run, ending, cx)
}

/// A hook has ended.
pub(super) fn hook_ended(
    mut it: Running,
    hook: Hook,
    result: &Result<Exit, String>,
    cx: &mut Cx<'_>,
) -> State {
    match hook {
        Hook::Health => {
            let was_unhealthy = unhealthy(&it.health, cx);
            let verdict = health::ended(&mut it.health, result, cx);
            if it.pulse == Pulse::Frozen {
                it.health.probe = Probe::Idle;
            }
            if was_unhealthy && it.health.failures == 0 {
                cx.announce(StateName::Running, "healthy again".to_owned(), false);
            }
            judge(it, verdict, cx)
        }
        Hook::Reload => {
            if let Pulse::Alive { reload: reload @ Some(_), .. } = &mut it.pulse {
                *reload = None;
                cx.reloaded = Some(match result {
                    Ok(Exit::Code(0)) => Ok(()),
                    Ok(exit) => Err(format!("reload-command: {}", words::exit(*exit))),
                    Err(text) => Err(words::cut(format!("reload-command: {text}"))),
                });
            }
            State::Running(it)
        }
        Hook::StartPre(_) | Hook::StartPost(_) | Hook::Stop | Hook::StopPost(_) => {
            State::Running(it)
        }
    }
}

/// Whether so many checks in a row have failed that it counts.
pub(super) fn unhealthy(it: &Checks, cx: &Cx<'_>) -> bool {
    cx.terms.health().is_some_and(|health| it.failures >= health.retries.max(1))
}

/// Acts on a verdict.
fn judge(mut it: Running, verdict: health::Verdict, cx: &mut Cx<'_>) -> State {
    let (why, broken) = match verdict {
        health::Verdict::None | health::Verdict::Passed => return State::Running(it),
        health::Verdict::Unhealthy(why) => (why, false),
        health::Verdict::Broken(why) => (why, true),
    };
    let Some(terms) = cx.terms.health() else { return State::Running(it) };
    if !broken && cx.now.0.saturating_sub(it.began.0) < terms.start_period {
        it.health.failures = 0;
        return State::Running(it);
    }
    if !terms.restart {
        if it.health.failures == terms.retries.max(1) {
            cx.announce(StateName::Running, why, true);
        }
        return State::Running(it);
    }
    end_hooks(&it, cx);
    over(&it, cx);
    cx.memo.blame(ResultName::Unhealthy);
    stopping::end(it.run, Ending::Failed(why), Manner::Gentle, cx)
}

/// The watchdog has heard nothing for too long.
fn bark(it: &Running, why: String, cx: &mut Cx<'_>) -> State {
    end_hooks(it, cx);
    over(it, cx);
    cx.memo.blame(ResultName::Watchdog);
    stopping::end(it.run, Ending::Failed(why), Manner::Signal(SIGABRT), cx)
}

/// A deadline of the running service.
pub(super) fn deadline(mut it: Running, cx: &mut Cx<'_>) -> State {
    let now = cx.now;
    if let Pulse::Alive { watchdog, reload } = &mut it.pulse {
        if watchdog.is_some_and(|time| time <= now) {
            let silence = words::span(cx.terms.watchdog().unwrap_or(Duration::ZERO));
            return bark(&it, format!("watchdog: no sign of life for {silence}"), cx);
        }
        if reload.is_some_and(|time| time <= now) {
            *reload = None;
            kill_reload(it.run, cx);
            let bound = words::span(cx.terms.reload_bound());
            cx.reloaded = Some(Err(format!("reload-command took longer than {bound}")));
        }
    }
    let verdict = health::deadline(&mut it.health, it.run, cx);
    judge(it, verdict, cx)
}

/// `reload`.
pub(super) fn reload(mut it: Running, cx: &mut Cx<'_>) -> State {
    match &mut it.pulse {
        Pulse::Frozen => cx.reloaded = Some(Err("it is frozen, thaw it first".to_owned())),
        Pulse::Alive { reload: Some(_), .. } => {}
        Pulse::Alive { reload, .. } => {
            if cx.terms.reload_command() {
                *reload = Some(later(cx.now, cx.terms.reload_bound()));
                cx.out.push(Action::RunHook { unit: cx.id, run: it.run, hook: Hook::Reload });
            } else if let Some(signal) = cx.terms.reload_signal() {
                cx.out.push(Action::Signal { unit: cx.id, run: it.run, signal });
                cx.reloaded = Some(Ok(()));
            } else {
                let why = "it has no reload-signal or reload-command";
                cx.reloaded = Some(Err(why.to_owned()));
            }
        }
    }
    State::Running(it)
}

/// `freeze` and `thaw`. Nothing is expected of what is frozen: no ping, no check.
pub(super) fn freeze(mut it: Running, on: bool, cx: &mut Cx<'_>) -> State {
    match (&it.pulse, on) {
        (Pulse::Frozen, true) | (Pulse::Alive { .. }, false) => return State::Running(it),
        (Pulse::Alive { .. }, true) => {
            end_hooks(&it, cx);
            if matches!(it.pulse, Pulse::Alive { reload: Some(_), .. }) {
                cx.reloaded = Some(Err("it was frozen meanwhile".to_owned()));
            }
            it.health.probe = match it.health.probe {
                Probe::Idle | Probe::Due(_) => Probe::Idle,
                Probe::Busy(_) | Probe::Dying(_) | Probe::Stiff => Probe::Stiff,
            };
            it.pulse = Pulse::Frozen;
        }
        (Pulse::Frozen, false) => {
            it.pulse = Pulse::Alive { watchdog: next_watchdog(cx), reload: None };
            match it.health.probe {
                Probe::Idle => it.health.probe = health::next(cx),
                Probe::Stiff => it.health.probe = health::dying(cx),
                Probe::Due(_) | Probe::Busy(_) | Probe::Dying(_) => {}
            }
        }
    }
    cx.out.push(Action::Freeze { unit: cx.id, run: it.run, on });
    State::Running(it)
}

/// Ends what runs beside the command, and lets move what is to end.
pub(super) fn end_hooks(it: &Running, cx: &mut Cx<'_>) {
    health::end(&it.health, it.run, cx);
    match it.pulse {
        Pulse::Alive { reload: Some(_), .. } => kill_reload(it.run, cx),
        Pulse::Alive { reload: None, .. } => {}
        Pulse::Frozen => cx.out.push(Action::Freeze { unit: cx.id, run: it.run, on: false }),
    }
}

fn kill_reload(run: Run, cx: &mut Cx<'_>) {
    cx.out.push(Action::KillHook { unit: cx.id, run, hook: Hook::Reload });
}

/// A run that was ready ends: if it was for long enough, earlier failures are forgotten.
pub(super) fn over(it: &Running, cx: &mut Cx<'_>) {
    let ready = cx.now.0.saturating_sub(it.since.0);
    cx.history.ran(ready, cx.terms.restart());
}

fn next_watchdog(cx: &Cx<'_>) -> Option<super::super::Time> {
    cx.terms.watchdog().map(|silence| later(cx.now, silence))
}
