//! The control tool: arguments and a call.

use std::process::ExitCode;

use berth::ctl;

fn main() -> ExitCode {
    ExitCode::from(ctl::args::parse().map_or_else(|code| code, ctl::run))
}
