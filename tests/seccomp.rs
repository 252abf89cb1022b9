//! Profiles of system calls and the programs made of them: what a program answers is what
//! its profile says, for every number and arguments at every edge; and what the default
//! profile says of every call stands in `seccomp/default.golden`. That the kernel gives the
//! same answers is held by `tests/sandbox/seccomp.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

#[path = "seccomp/default.rs"]
mod default;
#[path = "seccomp/machine.rs"]
mod machine;
#[path = "seccomp/oci.rs"]
mod oci;
#[path = "seccomp/programs.rs"]
mod programs;
