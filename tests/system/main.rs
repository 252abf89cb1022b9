//! The whole of berth as a user meets it: real processes, real namespaces, real output.
//!
//! Each test runs a supervisor of its own in namespaces of its own ([`rig`]), talks to it
//! with the real `berthctl`, and leaves the machine as it was: the rig checks that no
//! process, cgroup or file is left when it is dropped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::format_collect,
    missing_docs,
    reason = "a test that panics has failed, as it should; helpers are tests too"
)]

mod access;
mod adopt;
mod apply;
mod audit;
mod basics;
mod capabilities;
mod contained;
mod control;
mod daemons;
mod damaged;
mod delegate;
mod exec;
mod failing;
mod full;
mod groupless;
mod health;
mod hooks;
mod host;
mod insight;
mod killed;
mod landlock;
mod logs;
mod network;
mod network_attacks;
mod network_changes;
mod network_faults;
mod network_kinds;
mod network_leaks;
mod network_names;
mod network_ports;
mod notify;
mod program;
mod readiness;
mod real;
mod reaping;
mod restart;
mod rig;
mod runtimes;
mod secrets;
mod shortage;
mod stopping;
mod terminal;
mod tracer;
mod upgrade;
mod users;
mod verbs;
mod volumes;
mod wire;
