//! `berthctl check`: mistakes in unit files. Needs no supervisor.

use std::io::Write as _;
use std::path::PathBuf;

use super::Context;
use super::failure::Failure;
use super::render;
use crate::unit::{self, Previous, Source};

/// Prints every mistake on stderr, as `berth check` does; nothing if all is right.
///
/// # Errors
/// There was a mistake.
pub fn run(context: &mut Context, paths: &[PathBuf]) -> Result<(), Failure> {
    let loaded = unit::read(&[Source::Given(paths.to_vec())], &Previous::default());
    if loaded.is_clean() {
        return Ok(());
    }
    context.flush()?;
    let report = render::lines(&loaded.report());
    std::io::stderr().write_all(report.as_bytes()).map_err(Failure::Output)?;
    Err(Failure::Said(1))
}
