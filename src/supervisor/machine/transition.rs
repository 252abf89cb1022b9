//! The table: what each state does on each happening. It alone writes states. No arm is
//! a wildcard, so a new state or happening does not compile until every cell was thought
//! of; `tests/sim/state-table.golden` shows them all.
//!
//! What must hold: a fact arrives here only if it belongs to the run that is there
//! (the machine drops the others), so states without a run never see one.

use serde::{Deserialize, Serialize};

use super::super::event::Notify;
use super::super::request::Found;
use super::super::{Action, Exit, Hook, Run, Time, UnitId};
use super::restart::History;
use super::state::{Goal, On, State, State as S};
use super::terms::Terms;
use super::{running, starting, stopping};
use crate::supervisor::action::Notice;
use crate::supervisor::view::ResultName;

/// What can happen to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// `Fact::Prepared`.
    Prepared,
    /// `Fact::SetupFailed`.
    SetupFailed(String),
    /// `Fact::MainExecuted`.
    Executed,
    /// `Fact::MainExited`.
    Exited { exit: Exit, left_behind: bool },
    /// `Fact::Ready`.
    Ready,
    /// `Fact::Notify`.
    Notify(Notify),
    /// `Fact::HookEnded`.
    HookEnded(Hook, Result<Exit, String>),
    /// `Fact::Cleaned`.
    Cleaned,
    /// `Fact::CleanStuck`.
    Stuck(String),
    /// `Fact::OutOfMemory`.
    OutOfMemory,
    /// The nearest deadline of its state has come.
    Deadline,
    /// `Wish::Adopt`.
    Adopted(Found),
    /// It shall come up.
    Wake,
    /// It cannot begin yet.
    Blocked { on: On, cursor: usize },
    /// Everything it needs is there.
    Go,
    /// It must go down: its goal says so, or something it requires has gone.
    Leave,
    /// Nothing that had to go down before it is left.
    Alone,
    /// Failures are forgotten.
    Reset,
    /// `reload`.
    Reload,
    /// `freeze` or `thaw`.
    Freeze(bool),
    /// No more waiting: SIGKILL.
    Hurry,
}

/// What a transition may look at and speak to.
pub(super) struct Cx<'a> {
    pub id: UnitId,
    pub terms: Terms<'a>,
    pub now: Time,
    pub goal: &'a mut Goal,
    /// Nothing starts any more.
    pub closing: bool,
    pub next_run: &'a mut u64,
    pub history: &'a mut History,
    pub memo: &'a mut Memo,
    /// Jitter, drawn for this transition.
    pub jitter: u32,
    /// The end of a reload.
    pub reloaded: Option<Result<(), String>>,
    pub out: &'a mut Vec<Action>,
}

/// What is remembered of a unit across its states, only to be shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memo {
    /// The latest run.
    pub run: Option<Run>,
    /// The last end of a main process, and in which run.
    pub exit: Option<(Run, Exit)>,
    /// `STATUS=` of the latest run.
    pub status: String,
    /// Whether the kernel killed something of the latest run for lack of memory.
    pub out_of_memory: bool,
    /// How the latest run ended.
    pub result: Option<ResultName>,
}

impl Memo {
    /// Notes why the latest run ends. Only the first failure counts.
    pub(super) fn blame(&mut self, result: ResultName) {
        if matches!(self.result, None | Some(ResultName::Success)) {
            self.result = Some(result);
        }
    }

    /// How the latest run's main process ended, if it has.
    pub(super) fn fresh_exit(&self) -> Option<Exit> {
        self.exit.filter(|&(run, _)| Some(run) == self.run).map(|(_, exit)| exit)
    }
}

impl Cx<'_> {
    /// Tells people something that is not a change of the state's name.
    pub(super) fn announce(
        &mut self,
        state: super::super::view::StateName,
        why: String,
        grave: bool,
    ) {
        self.out.push(Action::Announce(Notice { unit: self.id, state, why, exit: None, grave }));
    }
}

/// The next state.
#[rustfmt::skip]
#[expect(clippy::match_same_arms, reason = "why a cell stays as it is differs from row to row")]
pub(super) fn step(state: State, happening: Happening, cx: &mut Cx<'_>) -> State {
    use Happening as H;
    match (state, happening) {
        // Coming up.
        (S::Inactive(_) | S::Failed(_) | S::Backoff(_), H::Wake) => starting::wake(cx),
        (S::Waiting(_), H::Blocked { on, cursor })        => starting::blocked(on, cursor),
        (S::Waiting(_), H::Go)                            => starting::begin(cx),
        (S::Preparing(it), H::Prepared)                   => starting::prepared(it, cx),
        (S::Preparing(it), H::HookEnded(hook, result))    => starting::pre_ended(it, hook, &result, cx),
        (S::Starting(it), H::Executed)                    => starting::executed(it, cx),
        (S::Starting(it), H::Ready)                       => starting::ready(it, cx),
        (S::Starting(it), H::HookEnded(hook, result))     => starting::hook_ended(it, hook, &result, cx),
        (S::Starting(it), H::Notify(word))                => starting::notify(it, word, cx),
        (S::Inactive(_) | S::Waiting(_), H::Adopted(found)) => starting::adopted(found, cx),
        // Being up.
        (S::Running(it), H::Ready)                        => running::ready(it),
        (S::Running(it), H::Notify(word))                 => running::notify(it, word, cx),
        (S::Running(it), H::HookEnded(hook, result))      => running::hook_ended(it, hook, &result, cx),
        (S::Running(it), H::Reload)                       => running::reload(it, cx),
        (S::Running(it), H::Freeze(on))                   => running::freeze(it, on, cx),
        // Failing.
        (S::Preparing(it), H::SetupFailed(text))          => stopping::setup_failed(it.run, text, cx),
        (S::Starting(it), H::SetupFailed(text))           => stopping::setup_failed(it.run, text, cx),
        (S::Starting(it), H::Exited { exit, left_behind }) => starting::exited(&it, exit, left_behind, cx),
        (S::Running(it), H::Exited { exit, left_behind }) => running::exited(&it, exit, left_behind, cx),
        // Going down.
        (S::Waiting(_) | S::Backoff(_), H::Leave)         => stopping::rest(),
        (S::Preparing(it), H::Leave)                      => stopping::leave_preparing(&it, stopping::asked(), cx),
        (S::Starting(it), H::Leave)                       => stopping::leave_starting(&it, stopping::asked(), cx),
        (S::Running(it), H::Leave)                        => stopping::leave_running(it, cx),
        (S::Done | S::Reached, H::Leave)                  => S::Receding,
        (S::Stopping(it), H::Leave)                       => stopping::leave(it, cx),
        (S::Receding, H::Alone)                           => stopping::receded(cx),
        (S::Stopping(it), H::Alone)                       => stopping::alone(it, cx),
        (S::Stopping(it), H::Executed)                    => stopping::executed(it, cx),
        (S::Stopping(it), H::SetupFailed(_))              => stopping::never_ran(it, cx),
        (S::Stopping(it), H::Exited { exit, .. })         => stopping::exited(it, exit, cx),
        (S::Stopping(it), H::HookEnded(hook, _))          => stopping::hook_ended(it, hook, cx),
        (S::Stopping(it), H::Notify(word))                => stopping::notify(it, word, cx),
        (S::Stopping(it), H::Stuck(text))                 => stopping::stuck(it, text, cx),
        (S::Stopping(it), H::Cleaned)                     => stopping::cleaned(it, cx),
        // Deadlines.
        (S::Preparing(it), H::Deadline)                   => starting::prepare_deadline(it, cx),
        (S::Starting(it), H::Deadline)                    => starting::deadline(it, cx),
        (S::Running(it), H::Deadline)                     => running::deadline(it, cx),
        (S::Stopping(it), H::Deadline)                    => stopping::deadline(it, cx),
        (S::Backoff(_), H::Deadline)                      => starting::again(),
        // Wherever it is.
        (S::Preparing(it), H::Hurry)                      => stopping::clean(it.run, stopping::asked(), cx),
        (S::Starting(it), H::Hurry)                       => stopping::clean(it.run, stopping::asked(), cx),
        (S::Running(it), H::Hurry)                        => stopping::clean(it.run, stopping::asked(), cx),
        (S::Stopping(it), H::Hurry)                       => stopping::hurry(it, cx),
        (S::Backoff(_), H::Reset)                         => starting::wake(cx),
        (S::Failed(_), H::Reset)                          => stopping::forgotten(cx),
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Preparing(_) | S::Starting(_) | S::Running(_)
            | S::Stopping(_) | S::Done | S::Reached | S::Receding), H::Reset) => forget(state, cx),
        (state @ (S::Preparing(_) | S::Starting(_) | S::Running(_) | S::Stopping(_)), H::OutOfMemory)
                                                          => out_of_memory(state, cx),

        // Reload and freeze need a running service.
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Preparing(_) | S::Starting(_) | S::Stopping(_)
            | S::Backoff(_) | S::Failed(_) | S::Done | S::Reached | S::Receding),
            H::Reload | H::Freeze(_))                     => state,
        // Whatever was found, this supervisor has begun itself.
        (state @ (S::Preparing(_) | S::Starting(_) | S::Running(_) | S::Stopping(_) | S::Backoff(_)
            | S::Failed(_) | S::Done | S::Reached | S::Receding), H::Adopted(_)) => state,
        // Nothing to wake, to begin or to hold back: it is up already, or still going down.
        (state @ (S::Waiting(_) | S::Preparing(_) | S::Starting(_) | S::Running(_) | S::Stopping(_)
            | S::Done | S::Reached | S::Receding), H::Wake) => state,
        (state @ (S::Inactive(_) | S::Preparing(_) | S::Starting(_) | S::Running(_) | S::Stopping(_)
            | S::Backoff(_) | S::Failed(_) | S::Done | S::Reached | S::Receding),
            H::Go | H::Blocked { .. })                    => state,
        // Nothing to end, or it ends already.
        (state @ (S::Inactive(_) | S::Failed(_) | S::Receding), H::Leave) => state,
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Preparing(_) | S::Starting(_) | S::Running(_)
            | S::Backoff(_) | S::Failed(_) | S::Done | S::Reached), H::Alone) => state,
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Backoff(_) | S::Failed(_) | S::Done
            | S::Reached | S::Receding), H::Hurry)        => state,
        // No deadline in these.
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Failed(_) | S::Done | S::Reached
            | S::Receding), H::Deadline)                  => state,
        // Facts that mean nothing (any more) at this point of the run.
        (state @ (S::Starting(_) | S::Running(_) | S::Stopping(_)), H::Prepared) => state,
        (state @ S::Running(_), H::SetupFailed(_))        => state,
        (state @ (S::Preparing(_) | S::Running(_)), H::Executed) => state,
        (state @ S::Preparing(_), H::Exited { .. })       => state,
        (state @ (S::Preparing(_) | S::Stopping(_)), H::Ready) => state,
        (state @ S::Preparing(_), H::Notify(_))           => state,
        (state @ (S::Preparing(_) | S::Starting(_) | S::Running(_)), H::Cleaned | H::Stuck(_)) => state,
        // Without a run there are no facts.
        (state @ (S::Inactive(_) | S::Waiting(_) | S::Backoff(_) | S::Failed(_) | S::Done
            | S::Reached | S::Receding),
            H::Prepared | H::SetupFailed(_) | H::Executed | H::Exited { .. } | H::Ready
            | H::Notify(_) | H::HookEnded(..) | H::Cleaned | H::Stuck(_) | H::OutOfMemory) => state,
    }
}

/// `reset` where there is nothing to leave.
fn forget(state: State, cx: &mut Cx<'_>) -> State {
    cx.history.forget();
    state
}

/// The kernel has killed something; how the run goes on is told by other facts.
fn out_of_memory(state: State, cx: &mut Cx<'_>) -> State {
    cx.memo.out_of_memory = true;
    let name = state.face(*cx.goal).name;
    cx.announce(name, "out of memory: the kernel killed a process of it".to_owned(), true);
    state
}
