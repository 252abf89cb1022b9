//! Unit files: text, then spans, then typed units, then a checked dependency graph.
//!
//! What must always hold: nothing here touches a running system; every mistake is
//! reported with its place, all of them at once; whatever reaches [`model`] has been
//! checked, so that nobody downstream checks it again.

pub mod model;
