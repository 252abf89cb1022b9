//! The control tool: arguments and a call.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ExitCode::from(berth::ctl::run(berth::ctl::args::Cli::parse()))
}
