//! The supervisor: arguments and a call.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use berth::daemon::{self, First, Options, Pool};
use berth::pid1;
use berth::unit::model::Id;

const USAGE: &str = "\
usage: berth [--config DIR]... [--runtime-dir DIR] [--state-dir DIR] [--target NAME]
             [--control-group NAME|GID] [--user-namespace-pool FIRST:COUNT]
       berth up [--quiet] [--exit-code-from NAME] [--target NAME]
                [--runtime-dir DIR] [--state-dir DIR] [--control-group NAME|GID]
                [--user-namespace-pool FIRST:COUNT] FILE|DIR...
       berth check FILE|DIR...
       berth machine STEP
       berth -- COMMAND [ARGUMENT]...
       berth --help | --version
";

/// What the arguments ask for.
enum Ask {
    Run(Box<Options>),
    Check(Vec<PathBuf>),
    Step(String),
    Print(String),
}

fn main() -> ExitCode {
    // Between a berth and its successor; not for people.
    let arguments: Vec<_> =
        std::env::args_os().skip(1).take(4).map(|it| it.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--rehearse", state] => return daemon::rehearse(state),
        ["--resume", state, old] => return daemon::resume(state, old),
        [daemon::RECOVER, record, signal] => return daemon::recover(record, signal),
        ["--", command, ..] => {
            let words: Vec<_> = std::env::args_os().skip(3).collect();
            return pid1::drop_in::run(command.as_ref(), &words);
        }
        _ => {}
    }
    match parse(lexopt::Parser::from_env()) {
        Ok(Ask::Run(options)) => daemon::run(*options),
        Ok(Ask::Check(paths)) => daemon::check(&paths),
        Ok(Ask::Step(name)) => pid1::steps::run(&name),
        Ok(Ask::Print(text)) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // The kernel hands on what it does not know; a machine boots all the same.
        Err(_) if pid1::is_machine() => daemon::run(Options::default()),
        Err(error) => {
            // Nothing is left to report to if stderr is closed.
            let _ = write!(std::io::stderr(), "berth: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Reads the command line; the error is one sentence.
fn parse(mut parser: lexopt::Parser) -> Result<Ask, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value};
    let mut verb: Option<String> = None;
    let mut options = Options::default();
    let mut config: Vec<PathBuf> = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(argument) = parser.next()? {
        let up = verb.as_deref() == Some("up");
        match argument {
            Long("config") if verb.is_none() => config.push(directory(parser.value()?)?),
            Long("runtime-dir") => options.runtime_dir = directory(parser.value()?)?,
            Long("state-dir") => options.state_dir = directory(parser.value()?)?,
            Long("target") => options.target = text(parser.value()?)?,
            Long("user-namespace-pool") => options.pool = Pool::parse(&text(parser.value()?)?)?,
            Long("control-group") => options.control_group = Some(group(parser.value()?)?),
            Long("quiet") if up => options.quiet = true,
            Long("exit-code-from") if up => options.exit_code_from = Some(text(parser.value()?)?),
            Short('h') | Long("help") => return Ok(Ask::Print(USAGE.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Ask::Print(format!("berth {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Value(word) if verb.is_none() => match word.to_str() {
                Some(word @ ("up" | "check" | "machine")) => verb = Some(word.to_owned()),
                _ => {
                    return Err(format!(
                        "unknown verb {}; verbs are up, check and machine",
                        word.display()
                    )
                    .into());
                }
            },
            Value(path) => files.push(PathBuf::from(path)),
            _ => return Err(argument.unexpected()),
        }
    }
    match verb.as_deref() {
        Some(verb) if files.is_empty() && verb != "machine" => {
            Err(format!("{verb} needs at least one unit file or directory").into())
        }
        Some("machine") => match files.as_slice() {
            [step] => Ok(Ask::Step(step.display().to_string())),
            _ => Err("machine wants the name of one step".into()),
        },
        Some("check") => Ok(Ask::Check(files)),
        Some(_) => {
            options.sources = First::Files(files).into();
            Ok(Ask::Run(Box::new(options)))
        }
        None => {
            if !config.is_empty() {
                options.sources = First::Directories(config).into();
            }
            Ok(Ask::Run(Box::new(options)))
        }
    }
}

/// A path made absolute, so that it means the same in every child.
fn directory(value: OsString) -> Result<PathBuf, lexopt::Error> {
    std::path::absolute(PathBuf::from(value))
        .map_err(|error| format!("cannot make the path absolute: {error}").into())
}

/// The name of a group, or its number.
fn group(value: OsString) -> Result<Id, lexopt::Error> {
    let name = text(value)?;
    match name.parse() {
        Ok(u32::MAX) => Err("no group has the number 4294967295".into()),
        Ok(number) => Ok(Id::Number(number)),
        Err(_) => Ok(Id::Name(name)),
    }
}

fn text(value: OsString) -> Result<String, lexopt::Error> {
    value.into_string().map_err(|value| format!("{} is not UTF-8", value.display()).into())
}
