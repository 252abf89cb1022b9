//! berth as process 1 of a machine: real kernels, booted in an emulator.
//!
//! Each test boots one machine ([`rig`]) by `scripts/vm`. What is checked inside is written
//! in shell (`checks/*.sh`), run by a unit of the machine itself, and reported a line each
//! over a serial port; how the machine ended, and that its disk is clean, is seen from here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "a test that panics has failed, as it should; helpers are tests too"
)]

mod boots;
mod ends;
mod failures;
mod faults;
mod inside;
mod rescues;
mod rig;
