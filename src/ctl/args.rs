//! The command line: one verb, its flags, its operands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Talks to a running berth over its control socket.
///
/// Exit codes: 0 done, 1 it failed, 2 usage, 3 the unit is not running (status UNIT),
/// 4 no such unit, 5 no supervisor answers.
#[derive(Debug, Parser)]
#[command(name = "berthctl", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Where the supervisor's socket is.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help = "Where the supervisor's socket is [default: $BERTH_RUNTIME_DIR, else /run/berth]"
    )]
    pub runtime_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Reads the command line. If there is nothing to do (or help was asked for), it has been
/// said, and this is the exit code.
///
/// # Errors
/// That code.
pub fn parse() -> Result<Cli, u8> {
    Cli::try_parse().map_err(|error| {
        if error.use_stderr()
            && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        {
            // Every failure begins in the same way, and says what it is about.
            let text = error.to_string();
            super::failure::complain(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            return 2;
        }
        // That nobody can be told anything is all there is to say.
        let _ = error.print();
        u8::try_from(error.exit_code()).unwrap_or(2)
    })
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how units are; with UNIT also why, and its last lines of output
    Status {
        /// Units; all if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// List all units
    List {
        /// Print a JSON array
        #[arg(long, conflicts_with = "names")]
        json: bool,
        /// Print only names
        #[arg(long)]
        names: bool,
    },
    /// Start units and what they require; wait until they are ready
    Start(Job),
    /// Stop units and what requires them; wait until nothing is left of them
    Stop(Job),
    /// Stop and start units
    Restart(Job),
    /// Have units read their configuration again
    Reload(Job),
    /// Forget failures, restart counts and delays of units
    Reset(Job),
    /// Send a signal to the main process of units
    Kill {
        /// Name or number
        #[arg(short, long, value_name = "SIG", default_value = "TERM",
              value_parser = super::signal::parse)]
        signal: i32,
        /// Units
        #[arg(value_name = "UNIT", required = true)]
        units: Vec<String>,
    },
    /// Suspend all processes of units
    Freeze(Units),
    /// Let the processes of frozen units go on
    Thaw(Units),
    /// Show the output of units
    Logs {
        /// Go on with what is written from now on
        #[arg(short, long)]
        follow: bool,
        /// Only the last N lines of each unit
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<u64>,
        /// Only what was written since: 5min, 2h, 14:30, 2026-01-31, 2026-01-31T14:30:00Z
        #[arg(long, value_name = "T", value_parser = super::time::parse_since)]
        since: Option<jiff::Timestamp>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        /// Units; all if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Run a command inside a running unit
    Exec {
        /// Pass on standard input
        #[arg(short, long)]
        interactive: bool,
        /// Give the command a terminal
        #[arg(short, long)]
        tty: bool,
        /// Name or uid[:gid], as in the unit's root [default: the unit's own]
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
        /// Absolute path in the unit's root [default: the unit's working directory]
        #[arg(short, long, value_name = "DIR")]
        workdir: Option<String>,
        /// Unit
        #[arg(value_name = "UNIT")]
        unit: String,
        /// Command and arguments, after --
        #[arg(
            value_name = "CMD",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        command: Vec<String>,
    },
    /// Show changes of state as they happen
    Events {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        /// First those since then: 5min, 2h, 14:30, 2026-01-31, 2026-01-31T14:30:00Z
        #[arg(long, value_name = "T", value_parser = super::time::parse_since)]
        since: Option<jiff::Timestamp>,
    },
    /// Report every mistake in unit files; no supervisor is needed
    Check {
        /// Files and directories
        #[arg(value_name = "FILE|DIR", required = true)]
        paths: Vec<PathBuf>,
    },
    /// Have the supervisor read its units again and touch only what changed
    Apply {
        /// Only print the plan
        #[arg(long)]
        dry_run: bool,
        /// Files and directories to read besides those the supervisor was started with
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
    },
    /// Show a unit's definition and where it was read
    Show {
        /// Unit
        #[arg(value_name = "UNIT")]
        unit: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show what protects others from a unit, with a score; of all units, the scores
    Audit {
        /// Unit; all services if left out
        #[arg(value_name = "UNIT")]
        unit: Option<String>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show what a unit depends on, as a tree
    Deps {
        /// Unit
        #[arg(value_name = "UNIT")]
        unit: String,
        /// Show what depends on it
        #[arg(long)]
        reverse: bool,
    },
    /// Print the graph of dependencies: `graph | dot -Tpng`, or a picture made here
    Graph {
        /// What to print
        #[arg(long, value_name = "FORMAT", default_value = "dot")]
        format: GraphFormat,
        /// In a picture, draw also what follows from other dependencies
        #[arg(long)]
        all: bool,
        /// These units and what they depend on; all if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Show how long units took to start, the slowest first
    Blame {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show what a start waited for, as a tree
    CriticalChain {
        /// Units; the target that was booted if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
        /// Show also what was ready at most so long before the last
        #[arg(long, value_name = "DURATION", default_value = "0s",
              value_parser = super::time::parse_duration)]
        fuzz: Duration,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Draw the start of all units as a timeline: `plot > boot.svg`
    Plot,
    /// Show what units use, again and again; q quits
    Top {
        /// What is on top
        #[arg(short, long, value_name = "FIELD", default_value = "cpu")]
        sort: super::stats::Sort,
        /// Between two looks
        #[arg(short, long, value_name = "DURATION", default_value = "2s",
              value_parser = super::time::parse_interval)]
        interval: Duration,
        /// Units; all that run if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Show once what units use: processor, memory, processes, disk
    Stats {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        /// Units; all that run if none is given
        #[arg(value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Volumes: which there are, delete them
    Volume {
        /// What to do
        #[command(subcommand)]
        verb: VolumeVerb,
    },
    /// Show networks: who is in them, with which addresses, names and ports
    Network {
        /// What of them
        #[command(subcommand)]
        verb: NetworkVerb,
    },
    /// Secrets: which there are; keep or forget the value of one
    Secret {
        /// What to do
        #[command(subcommand)]
        verb: SecretVerb,
    },
    /// Stop everything and end the machine, or only the supervisor
    Shutdown {
        /// How [default: poweroff of a machine, exit of everything else]
        #[arg(value_name = "HOW")]
        how: Option<How>,
    },
    /// Have the supervisor become another program file, without any unit noticing
    Upgrade {
        /// The new program [default: what is now at the path of the running one]
        #[arg(value_name = "PROGRAM")]
        program: Option<PathBuf>,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the versions of berthctl and of the supervisor
    Version,
}

/// What to show of networks.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// List the networks that are there
    Ls {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one: units, addresses, ports, rules
    Show {
        /// Network
        #[arg(value_name = "NETWORK")]
        name: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// Show where each volume is, how large, and who uses it
    Ls {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Delete volumes with all that is in them; units that use one must be stopped
    Rm {
        /// Volumes
        #[arg(value_name = "VOLUME", required = true)]
        volumes: Vec<String>,
    },
    /// Delete all volumes that no unit file names any more
    Prune {
        /// Only print them
        #[arg(long)]
        dry_run: bool,
    },
}

/// How to print a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Text for Graphviz
    Dot,
    /// A picture
    Svg,
}

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretVerb {
    /// Show where each secret is and who uses it; never its value
    Ls {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Read a value from standard input, as it is, and keep it encrypted; services see it at
    /// their next start
    Set {
        /// Secret
        #[arg(value_name = "SECRET")]
        secret: String,
    },
    /// Forget the value of a secret
    Rm {
        /// Secret
        #[arg(value_name = "SECRET")]
        secret: String,
    },
}

/// Units, and whether to wait.
#[derive(Debug, Args)]
pub struct Job {
    /// Return at once
    #[arg(long)]
    pub no_wait: bool,
    /// Units
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,
}

/// Units.
#[derive(Debug, Args)]
pub struct Units {
    /// Units
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// Switch the machine off
    Poweroff,
    /// Start the machine again
    Reboot,
    /// Stop the machine, leave it on
    Halt,
    /// End only the supervisor
    Exit,
}
