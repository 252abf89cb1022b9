//! berthctl, the program, against a supervisor that is played by a thread: what every verb
//! sends, prints and exits with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::needless_pass_by_value,
    reason = "helpers of tests may fail like tests"
)]

mod audit;
mod exec;
mod failures;
mod fake;
mod insight;
mod terminal;
mod top;
mod verbs;
