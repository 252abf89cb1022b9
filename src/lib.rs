//! berth: an init and service supervisor whose units are containers.
//!
//! The rooms and who may use whom are in `docs/architecture.md`; `tests/tidy.rs`
//! holds the code to it.

pub mod container;
pub mod ctl;
pub mod daemon;
pub mod log;
pub mod network;
pub mod pid1;
pub mod protocol;
pub mod seccomp;
pub mod supervisor;
pub mod sys;
pub mod unit;
