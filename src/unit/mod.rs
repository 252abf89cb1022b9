//! Unit files: text, then spans, then typed units, then a checked dependency graph.
//!
//! What must always hold: nothing here touches a running system; every mistake is
//! reported with its place, all of them at once; whatever reaches [`model`] has been
//! checked, so that nobody downstream checks it again.
//!
//! The way of a file: [`files`] reads it, [`syntax`] makes a tree of it, [`layers`] puts
//! the directories over each other, [`settings`] reads key by key into a [`draft`],
//! [`check`] makes that a unit, [`load`] and [`pool`] bring all units together with the
//! help of [`template`], [`graph`] and [`secrets`], and [`wire`] carries the result to the supervisor.
//! [`definition()`] goes the other way: from a unit to what its file would say.

mod capability;
pub mod check;
mod definition;
pub mod diagnostic;
pub mod draft;
pub mod files;
pub mod graph;
pub mod layers;
pub mod limits;
pub mod load;
pub mod model;
pub mod names;
mod nets;
pub mod pool;
pub mod reference;
mod seccomp;
pub mod secrets;
pub mod settings;
mod shared;
pub mod syntax;
pub mod template;
pub mod text;
pub mod wire;

pub use definition::definition;
pub use diagnostic::Diagnostic;
pub use files::Source;
pub use load::{Loaded, Previous, read};
pub use reference::reference;
pub use shared::together;
pub use template::instantiate;
pub use wire::{decode, encode};
