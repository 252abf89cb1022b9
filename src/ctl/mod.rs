//! berthctl: one file per verb; everything it shows comes over the control socket.
//!
//! What must always hold: exit codes as in the contract (see [`failure`]); every failure is
//! one line first on stderr, `berthctl: cannot start web: …`; nothing a service wrote
//! reaches a terminal unescaped (see [`render`]); a server that sends nonsense ends in an
//! error, never in a panic.

pub mod apply;
pub mod args;
pub mod audit;
pub mod boot;
pub mod check;
pub mod client;
pub mod completions;
pub mod deps;
pub mod events;
pub mod exec;
pub mod failure;
pub mod graph;
pub mod jobs;
pub mod list;
pub mod logs;
pub mod network;
pub mod render;
pub mod secret;
pub mod show;
pub mod shutdown;
pub mod signal;
pub mod stats;
pub mod status;
pub mod svg;
pub mod terminal;
pub mod time;
pub mod top;
pub mod upgrade;
pub mod version;
pub mod volume;

use std::io::{self, Write};
use std::path::PathBuf;

use args::{Cli, SecretVerb, Verb, VolumeVerb};
use failure::Failure;
use render::Style;

/// What every verb gets.
pub struct Context<'a> {
    /// Where the supervisor's socket is.
    pub runtime_dir: PathBuf,
    /// Where results go.
    pub out: &'a mut dyn Write,
    /// How they look.
    pub style: Style,
}

impl Context<'_> {
    /// Connects to the supervisor.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect(&self) -> Result<client::Client, Failure> {
        client::Client::connect(&self.runtime_dir)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// The output is broken.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    /// Writes a value as JSON for people and programs.
    ///
    /// # Errors
    /// The output is broken.
    pub fn json<T: serde::Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, value)
            .map_err(|error| Failure::Output(error.into()))?;
        self.say("")
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// The output is broken.
    pub fn json_line<T: serde::Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value)
            .map_err(|error| Failure::Output(error.into()))?;
        self.say("")?;
        self.flush()
    }

    /// Lets what was written be seen.
    ///
    /// # Errors
    /// The output is broken.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }
}

/// Carries out the command line; returns the exit code.
pub fn run(cli: Cli) -> u8 {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let runtime_dir = cli
        .runtime_dir
        .or_else(|| std::env::var_os("BERTH_RUNTIME_DIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/run/berth"));
    let mut context = Context { runtime_dir, out: &mut out, style: Style::of_stdout() };
    let doing = doing(&cli.verb);
    let result = dispatch(cli.verb, &mut context);
    match result.and_then(|()| context.flush()) {
        Ok(()) => 0,
        Err(failure) => {
            // What was written before the failure comes first, if it can be written at all.
            let _ = context.flush();
            failure.report(&doing);
            failure.exit_code()
        }
    }
}

fn dispatch(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Status { units, json } => status::run(context, units, json),
        Verb::List { json, names } => list::run(context, json, names),
        Verb::Start(job) => jobs::start(context, job),
        Verb::Stop(job) => jobs::stop(context, job),
        Verb::Restart(job) => jobs::restart(context, job),
        Verb::Reload(job) => jobs::reload(context, job),
        Verb::Reset(job) => jobs::reset(context, job),
        Verb::Kill { signal, units } => jobs::kill(context, units, signal),
        Verb::Freeze(units) => jobs::freeze(context, units.units),
        Verb::Thaw(units) => jobs::thaw(context, units.units),
        Verb::Logs { follow, lines, since, json, units } => {
            logs::run(context, logs::Wish { units, lines, since, follow, json })
        }
        Verb::Exec { interactive, tty, user, workdir: directory, unit, command } => {
            exec::run(context, exec::Wish { unit, command, user, directory, tty, interactive })
        }
        Verb::Events { json, since } => events::run(context, since, json),
        Verb::Check { paths } => check::run(context, &paths),
        Verb::Apply { dry_run, paths } => apply::run(context, &paths, dry_run),
        Verb::Show { unit, json } => show::run(context, unit, json),
        Verb::Audit { unit, json } => audit::run(context, unit.as_deref(), json),
        Verb::Deps { unit, reverse } => deps::run(context, &unit, reverse),
        Verb::Graph { format, all, units } => graph::run(context, format, all, &units),
        Verb::Blame { json } => boot::blame::run(context, json),
        Verb::CriticalChain { units, fuzz, json } => {
            boot::chain::run(context, units, time::micros(fuzz), json)
        }
        Verb::Plot => boot::plot::run(context),
        Verb::Top { sort, interval, units } => top::run(context, units, sort, interval),
        Verb::Stats { json, units } => stats::run(context, &units, json),
        Verb::Volume { verb } => volume::run(context, verb),
        Verb::Network { verb } => network::run(context, verb),
        Verb::Secret { verb } => secret::run(context, verb),
        Verb::Shutdown { how } => shutdown::run(context, how),
        Verb::Upgrade { program } => upgrade::run(context, program),
        Verb::Completions { shell } => completions::run(context, shell),
        Verb::Version => version::run(context),
    }
}

/// What a verb is about, to follow "cannot".
fn doing(verb: &Verb) -> String {
    let of = |what: &str, units: &[String]| {
        if units.is_empty() { what.to_owned() } else { format!("{what} of {}", units.join(", ")) }
    };
    let these = |what: &str, units: &[String]| format!("{what} {}", units.join(", "));
    match verb {
        Verb::Status { units, .. } => of("show the status", units),
        Verb::List { .. } => "list the units".to_owned(),
        Verb::Start(job) => these("start", &job.units),
        Verb::Stop(job) => these("stop", &job.units),
        Verb::Restart(job) => these("restart", &job.units),
        Verb::Reload(job) => these("reload", &job.units),
        Verb::Reset(job) => these("reset", &job.units),
        Verb::Kill { units, .. } => these("send a signal to", units),
        Verb::Freeze(units) => these("freeze", &units.units),
        Verb::Thaw(units) => these("thaw", &units.units),
        Verb::Logs { units, .. } => of("show the output", units),
        Verb::Exec { unit, command, .. } => {
            format!("run {} in {unit}", command.first().map_or("a command", String::as_str))
        }
        Verb::Events { .. } => "show events".to_owned(),
        Verb::Check { .. } => "check".to_owned(),
        Verb::Apply { .. } => "apply".to_owned(),
        Verb::Show { unit, .. } => format!("show {unit}"),
        Verb::Audit { unit: Some(unit), .. } => format!("audit {unit}"),
        Verb::Audit { unit: None, .. } => "audit the units".to_owned(),
        Verb::Deps { unit, .. } => format!("show the dependencies of {unit}"),
        Verb::Graph { units, .. } => of("show the graph", units),
        Verb::Blame { .. } => "show what took long to start".to_owned(),
        Verb::CriticalChain { units, .. } => of("show the critical chain", units),
        Verb::Plot => "draw the start".to_owned(),
        Verb::Top { units, .. } | Verb::Stats { units, .. } if units.is_empty() => {
            "show what units use".to_owned()
        }
        Verb::Top { units, .. } | Verb::Stats { units, .. } => {
            format!("show what {} uses", units.join(", "))
        }
        Verb::Volume { verb } => match verb {
            VolumeVerb::Ls { .. } => "list the volumes".to_owned(),
            VolumeVerb::Rm { volumes } => these("delete the volume", volumes),
            VolumeVerb::Prune { .. } => "delete unused volumes".to_owned(),
        },
        Verb::Network { verb: args::NetworkVerb::Ls { .. } } => "list the networks".to_owned(),
        Verb::Network { verb: args::NetworkVerb::Show { name, .. } } => {
            format!("show the network {name}")
        }
        Verb::Secret { verb } => match verb {
            SecretVerb::Ls { .. } => "list the secrets".to_owned(),
            SecretVerb::Set { secret } => format!("set the secret {secret}"),
            SecretVerb::Rm { secret } => format!("remove the secret {secret}"),
        },
        Verb::Shutdown { .. } => "shut down".to_owned(),
        Verb::Upgrade { .. } => "upgrade".to_owned(),
        Verb::Completions { .. } => "print the completions".to_owned(),
        Verb::Version => "show the versions".to_owned(),
    }
}
