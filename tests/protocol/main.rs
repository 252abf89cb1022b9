//! The control protocol: the `.varlink` files against the types, framing against any
//! bytes, limits against long things.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests may fail like tests"
)]

mod framing;
mod idl;
mod interface;
mod messages;
