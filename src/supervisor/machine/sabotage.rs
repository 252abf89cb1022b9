//! Ways to break the machine on purpose, to prove that the simulation would notice. Only
//! compiled into the crate's own tests.

use super::Machine;
use crate::supervisor::machine::sim;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Starts without looking at what is required.
    IgnoreRequirements,
    /// Starts beside what it conflicts with.
    IgnoreConflicts,
    /// Starts without waiting for what goes first.
    IgnoreOrder,
    /// Takes events of earlier runs for those of the present one.
    TakeStaleEvents,
    /// Starts again before the old run is cleaned up.
    RestartBeforeClean,
    /// Does not tell those who wait that what they wait for is ready.
    LoseWaiting,
    /// Forgets the deadline of a stop.
    ForgetStopTimer,
    /// Waits again and again for who ignores its stop signal.
    NeverKill,
    /// Ends jobs without telling anybody.
    LoseJobs,
    /// Accepts starts during shutdown.
    StartInShutdown,
    /// Says that shutdown is complete at once.
    ShutdownTooEarly,
    /// Leaves units up when what they require goes down.
    KeepDependents,
    /// Stops units before those that need them.
    StopInAnyOrder,
    /// No longer wants what has failed once.
    DropGoal,
}

impl Machine {
    /// Whether it is broken in this way.
    pub(super) fn broken(&self, way: Sabotage) -> bool {
        self.sabotage == Some(way)
    }
}

/// Seeds that are tried until the damage shows.
const SEEDS: u64 = 2_000;

/// Breaks the machine, and returns what the simulation says about it.
fn caught(way: Sabotage) -> String {
    for seed in 1..=SEEDS {
        let mut machine = Machine::new(seed);
        machine.sabotage = Some(way);
        let outcome = sim::run(seed, machine, false);
        if let Err(why) = outcome.verdict {
            println!("{way:?}: seed {seed}, step {}: {why}", outcome.tally.steps);
            return why;
        }
    }
    panic!("{way:?} was not caught by {SEEDS} seeds");
}

#[track_caller]
fn is_caught(way: Sabotage, by: &[&str]) {
    let why = caught(way);
    assert!(by.iter().any(|rule| why.contains(rule)), "{way:?} was caught by accident: {why}");
}

#[test]
fn a_start_before_its_requirement_is_caught() {
    let rules = ["which it requires, is not ready", "is reached, but"];
    is_caught(Sabotage::IgnoreRequirements, &rules);
}

#[test]
fn a_start_beside_a_conflict_is_caught() {
    is_caught(Sabotage::IgnoreConflicts, &["its conflict, is there"]);
}

#[test]
fn a_start_out_of_order_is_caught() {
    is_caught(Sabotage::IgnoreOrder, &["which goes first, moves"]);
}

#[test]
fn an_event_of_an_earlier_run_is_caught() {
    let rules = [
        "an order for run",
        "two live runs",
        "before its preparation",
        "no rest after",
        // By the readiness of a run that is over.
        "which it requires, is not ready",
    ];
    is_caught(Sabotage::TakeStaleEvents, &rules);
}

#[test]
fn a_second_live_run_is_caught() {
    is_caught(Sabotage::RestartBeforeClean, &["two live runs"]);
}

#[test]
fn a_lost_start_is_caught() {
    is_caught(Sabotage::LoseWaiting, &["no rest after", "waits for nothing"]);
}

#[test]
fn a_stop_without_a_deadline_is_caught() {
    is_caught(Sabotage::ForgetStopTimer, &["the nearest deadline is", "shutdown does not end"]);
}

#[test]
fn a_stop_without_a_bound_is_caught() {
    is_caught(Sabotage::NeverKill, &["has not ended by", "shutdown does not end", "no rest after"]);
}

#[test]
fn a_lost_job_is_caught() {
    is_caught(Sabotage::LoseJobs, &["still waits", "has not ended by"]);
}

#[test]
fn a_start_in_shutdown_is_caught() {
    is_caught(Sabotage::StartInShutdown, &["after shutdown began"]);
}

#[test]
fn a_shutdown_that_leaves_something_is_caught() {
    is_caught(Sabotage::ShutdownTooEarly, &["shutdown was complete while"]);
}

#[test]
fn a_goal_that_is_dropped_is_caught() {
    is_caught(Sabotage::DropGoal, &["is no longer wanted"]);
}

#[test]
fn a_unit_that_outlives_its_requirement_is_caught() {
    is_caught(Sabotage::KeepDependents, &["is up without", "is stopped before", "no rest after"]);
}

#[test]
fn a_stop_in_the_wrong_order_is_caught() {
    is_caught(Sabotage::StopInAnyOrder, &["is stopped before"]);
}
