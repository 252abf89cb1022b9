//! The logger as a process of its own, and readers beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a test that panics has failed, as it should; helpers are tests too"
)]

mod logger;
mod reading;
mod robust;
mod support;

/// Not a test: the logger process. The tests run this binary again with just this name and
/// the logger's socket as standard input.
#[test]
#[ignore = "the body of the logger process, run by the other tests"]
fn logger_process() {
    use std::os::fd::AsFd;
    let directory = std::env::var_os("BERTH_TEST_LOGS").unwrap();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    std::process::exit(berth::log::logger::run(socket, directory.as_ref()));
}
