//! The seeded simulation of the machine; see `sim/mod.rs`.
//!
//! `SIM_SEEDS=N` changes how many seeds are run, `SIM_FIRST=N` where they begin;
//! `scripts/sim SEED` replays one with a trace.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must stop, and says where"
)]

use berth::{supervisor, unit};

#[path = "sim/mod.rs"]
mod sim;
#[path = "sim/story.rs"]
mod story;

// Examples: the documentation of what the machine does.
#[path = "sim/adoptions.rs"]
mod adoptions;
#[path = "sim/applies.rs"]
mod applies;
#[path = "sim/restarts.rs"]
mod restarts;
#[path = "sim/starts.rs"]
mod starts;
#[path = "sim/stops.rs"]
mod stops;

use std::io::Write as _;

use supervisor::Machine;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds one after the other, and names the first of those that fail.
fn run_all(first: u64, count: u64) {
    let mut total = sim::Tally::default();
    let mut failures = Vec::new();
    for seed in first..first + count {
        let outcome = sim::run(seed, Machine::new(seed), false);
        total.steps += outcome.tally.steps;
        total.runs += outcome.tally.runs;
        total.requests += outcome.tally.requests;
        total.time += outcome.tally.time;
        if let Err(why) = outcome.verdict {
            failures.push(format!("seed {seed}: {why}; replay it with: scripts/sim {seed}"));
            if failures.len() == 10 {
                break;
            }
        }
    }
    println!(
        "{count} seeds: {} steps, {} runs, {} requests, {} hours of virtual time",
        total.steps,
        total.runs,
        total.requests,
        total.time.as_secs() / 3_600
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total.runs > count, "the units were hardly ever started");
}

#[test]
fn no_seed_breaks_a_rule() {
    run_all(number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(20_000));
}

/// What `scripts/sim` calls.
#[test]
#[ignore = "needs SIM_SEED, see scripts/sim"]
fn replay() {
    let seed = number("SIM_SEED").expect("SIM_SEED names the seed to replay");
    let outcome = sim::run(seed, Machine::new(seed), true);
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(outcome.trace.as_bytes());
    match outcome.verdict {
        Ok(()) => println!("seed {seed}: every rule was kept; {:?}", outcome.tally),
        Err(why) => panic!("seed {seed}: {why}"),
    }
}

/// What an event costs with a thousand units, in the build it is called in:
/// `cargo test --release --test sim -- --ignored --nocapture thousand`.
#[test]
#[ignore = "a measurement, not a test"]
fn a_thousand_services() {
    for count in [1_000, 5_000] {
        let (events, time) = story::boot_and_shut_down(count);
        println!("{count} services: {events} inputs, {:?} each", time / events);
    }
}
