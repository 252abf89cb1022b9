//! The loop: sources of events in, actions out. It decides nothing.

pub mod clock;
pub mod journal;
pub mod notify;
pub mod poller;
