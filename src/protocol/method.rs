//! The calls: for each method its parameters, its reply, and one table of all of them.
//!
//! What must always hold: a method is declared once, in the table; name, parser and
//! writer come from there. Parameters are checked strictly (an unknown one is an error,
//! so that nothing is accepted and not carried out), replies are read leniently (a newer
//! supervisor may say more).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Error;
use super::insight::{UnitTimes, UnitUsage, Volume};
use super::types::{Dependency, Event, LogEntry, Network, Secret, ShutdownHow, Unit, UnitStatus};

/// Parameters of one method; the type of the reply hangs on it.
pub trait Method: Serialize + DeserializeOwned {
    /// Fully qualified.
    const NAME: &'static str;
    /// What each reply carries.
    type Reply: Serialize + DeserializeOwned;
}

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }
        )*
    };
}

macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }
        )*
    };
}

/// Declares [`Call`]: every method, its name and its reply.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $wire:literal -> $reply:ty),* $(,)?) => {
        /// A call, parsed and checked for form. Whether the units exist is for the server.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Call { $($(#[$doc])* $name($name)),* }

        impl Call {
            /// Fully qualified names of all methods.
            pub const NAMES: &'static [&'static str] = &[$($wire),*];

            /// Reads the parameters of the method of this name.
            ///
            /// # Errors
            /// `MethodNotFound`, `InterfaceNotFound` or `InvalidParameter`.
            pub fn parse(method: &str, parameters: Map<String, Value>) -> Result<Self, Error> {
                match method {
                    $($wire => read_parameters(parameters).map(Self::$name),)*
                    _ => Err(unknown_method(method)),
                }
            }

            /// The fully qualified name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => $wire),* }
            }
        }

        $(impl Method for $name {
            const NAME: &'static str = $wire;
            type Reply = $reply;
        })*
    };
}

calls! {
    /// Which supervisor this is.
    Version = "org.berth.Control.Version" -> VersionReply,
    /// All units.
    List = "org.berth.Control.List" -> ListReply,
    /// How units are.
    Status = "org.berth.Control.Status" -> StatusReply,
    /// A definition.
    Show = "org.berth.Control.Show" -> ShowReply,
    /// Dependencies.
    Deps = "org.berth.Control.Deps" -> DepsReply,
    /// When units came through the phases of their starts.
    Timeline = "org.berth.Control.Timeline" -> TimelineReply,
    /// What units use.
    Usage = "org.berth.Control.Usage" -> UsageReply,
    /// Named volumes.
    Volumes = "org.berth.Control.Volumes" -> VolumesReply,
    /// Delete a volume.
    RemoveVolume = "org.berth.Control.RemoveVolume" -> Empty,
    /// Networks and who is in them.
    Networks = "org.berth.Control.Networks" -> NetworksReply,
    /// Up.
    Start = "org.berth.Control.Start" -> JobReply,
    /// Down.
    Stop = "org.berth.Control.Stop" -> JobReply,
    /// Down and up.
    Restart = "org.berth.Control.Restart" -> JobReply,
    /// Reload signal or command.
    Reload = "org.berth.Control.Reload" -> JobReply,
    /// Forget failures.
    Reset = "org.berth.Control.Reset" -> JobReply,
    /// Send a signal.
    Kill = "org.berth.Control.Kill" -> JobReply,
    /// Freeze.
    Freeze = "org.berth.Control.Freeze" -> JobReply,
    /// Thaw.
    Thaw = "org.berth.Control.Thaw" -> JobReply,
    /// Output.
    Logs = "org.berth.Control.Logs" -> LogsReply,
    /// Changes of state.
    Events = "org.berth.Control.Events" -> EventsReply,
    /// Read units again.
    Apply = "org.berth.Control.Apply" -> ApplyReply,
    /// End everything.
    Shutdown = "org.berth.Control.Shutdown" -> Empty,
    /// Become another program.
    Upgrade = "org.berth.Control.Upgrade" -> UpgradeReply,
    /// Run a command inside a unit.
    Exec = "org.berth.Control.Exec" -> Empty,
    /// Which secrets there are.
    Secrets = "org.berth.Control.Secrets" -> SecretsReply,
    /// Keep the value of a secret.
    SetSecret = "org.berth.Control.SetSecret" -> Empty,
    /// Forget the value of a secret.
    RemoveSecret = "org.berth.Control.RemoveSecret" -> Empty,
    /// Who answers here.
    GetInfo = "org.varlink.service.GetInfo" -> InfoReply,
    /// An interface's description.
    GetInterfaceDescription = "org.varlink.service.GetInterfaceDescription" -> DescriptionReply,
}

parameters! {
    /// See [`VersionReply`].
    Version {}
    /// See [`ListReply`].
    List {}
    /// See [`StatusReply`].
    Status {
        /// Empty: all.
        units: Vec<String>,
    }
    /// See [`ShowReply`].
    Show {
        /// Which.
        unit: String,
    }
    /// See [`DepsReply`].
    Deps {
        /// Of which; of all when `None`.
        unit: Option<String>,
        /// What depends on it.
        reverse: bool,
    }
    /// See [`TimelineReply`].
    Timeline {}
    /// See [`UsageReply`].
    Usage {
        /// Empty: all that run.
        units: Vec<String>,
        /// Milliseconds between two rounds; one round when `None`.
        interval: Option<u64>,
    }
    /// See [`VolumesReply`].
    Volumes {
        /// Count what is in them.
        sizes: bool,
    }
    /// Answered by [`Empty`].
    RemoveVolume {
        /// Which.
        volume: String,
    }
    /// See [`NetworksReply`].
    Networks {}
    /// Answered by one [`JobReply`] a unit.
    Start {
        /// Which; not empty.
        units: Vec<String>,
        /// Reply when it has ended, not when it was taken.
        wait: bool,
    }
    /// As [`Start`].
    Stop {
        /// Which; not empty.
        units: Vec<String>,
        /// Reply when it has ended, not when it was taken.
        wait: bool,
    }
    /// As [`Start`].
    Restart {
        /// Which; not empty.
        units: Vec<String>,
        /// Reply when it has ended, not when it was taken.
        wait: bool,
    }
    /// As [`Start`].
    Reload {
        /// Which; not empty.
        units: Vec<String>,
        /// Reply when it has ended, not when it was taken.
        wait: bool,
    }
    /// As [`Start`].
    Reset {
        /// Which; not empty.
        units: Vec<String>,
        /// Reply when it has ended, not when it was taken.
        wait: bool,
    }
    /// Answered by one [`JobReply`] a unit.
    Kill {
        /// Which; not empty.
        units: Vec<String>,
        /// Signal number, 1 to 64.
        signal: i32,
    }
    /// Answered by one [`JobReply`] a unit.
    Freeze {
        /// Which; not empty.
        units: Vec<String>,
    }
    /// Answered by one [`JobReply`] a unit.
    Thaw {
        /// Which; not empty.
        units: Vec<String>,
    }
    /// See [`LogsReply`].
    Logs {
        /// Empty: all.
        units: Vec<String>,
        /// Only the last so many of each unit.
        lines: Option<u64>,
        /// Only what was written then or later, RFC 3339.
        since: Option<String>,
        /// Go on with what is written from now on.
        follow: bool,
    }
    /// See [`EventsReply`].
    Events {
        /// First those remembered since then, RFC 3339.
        since: Option<String>,
    }
    /// See [`ApplyReply`].
    Apply {
        /// Absolute; read besides what the supervisor was started with.
        paths: Vec<String>,
        /// Only say what would be done.
        dry_run: bool,
    }
    /// Answered by [`Empty`] when begun.
    Shutdown {
        /// And then; `None`: power off as the machine's init, else exit.
        how: Option<ShutdownHow>,
    }
    /// Needs [`Mode::Upgrade`](super::Mode::Upgrade); answered by [`Empty`], then frames.
    Exec {
        /// In which.
        unit: String,
        /// Program and arguments; not empty.
        command: Vec<String>,
        /// As `user` in a unit file; the unit's own when `None`.
        user: Option<String>,
        /// An absolute path in the unit's root; the unit's working directory when `None`.
        directory: Option<String>,
        /// Give it a terminal.
        tty: bool,
        /// Input will be sent.
        stdin: bool,
        /// Of the terminal.
        rows: Option<u16>,
        /// Of the terminal.
        columns: Option<u16>,
        /// `TERM`.
        term: Option<String>,
    }
    /// See [`SecretsReply`].
    Secrets {}
    /// Needs [`Mode::Upgrade`](super::Mode::Upgrade); answered by [`Empty`], then comes the
    /// value, then another [`Empty`].
    SetSecret {
        /// Which.
        secret: String,
    }
    /// Answered by [`Empty`].
    RemoveSecret {
        /// Which.
        secret: String,
    }
    /// See [`UpgradeReply`].
    Upgrade {
        /// Absolute path of the program; its own, as it was called, when `None`.
        program: Option<String>,
    }
    /// See [`InfoReply`].
    GetInfo {}
    /// See [`DescriptionReply`].
    GetInterfaceDescription {
        /// Of which.
        interface: String,
    }
}

replies! {
    /// Nothing to say.
    Empty {}
    /// Which supervisor this is.
    VersionReply {
        /// Of the program.
        version: String,
        /// Its process.
        pid: u32,
        /// When it started, RFC 3339.
        since: String,
        /// Microseconds since then, by its own clock: that of [`TimelineReply`].
        uptime: Option<u64>,
        /// Microseconds from the kernel's beginning until it started, as a machine's init.
        kernel: Option<u64>,
        /// The target it was to reach.
        target: Option<String>,
        /// What it cannot write down now and tries again, a sentence each.
        unwritten: Option<Vec<String>>,
    }
    /// The new program goes on.
    UpgradeReply {
        /// The version that was.
        from: String,
        /// The version that is.
        version: String,
    }
    /// All units, a page of them.
    ListReply {
        /// Sorted by name.
        units: Vec<Unit>,
    }
    /// How units are, a page of them.
    StatusReply {
        /// In the order asked for.
        units: Vec<UnitStatus>,
    }
    /// A definition.
    ShowReply {
        /// As the supervisor understood it.
        definition: Map<String, Value>,
        /// How the unit is.
        status: UnitStatus,
        /// Where the definition was read.
        file: Option<String>,
        /// Its line, from 1.
        line: Option<u32>,
    }
    /// Dependencies, a page of them.
    DepsReply {
        /// Direct ones and those through others.
        dependencies: Vec<Dependency>,
    }
    /// When units came where, a page of them.
    TimelineReply {
        /// Sorted by name.
        units: Vec<UnitTimes>,
    }
    /// What units use, a part of a round.
    UsageReply {
        /// In the order of their names.
        units: Vec<UnitUsage>,
        /// Whether the round is complete with these.
        complete: bool,
    }
    /// Volumes, a page of them.
    VolumesReply {
        /// Sorted by name.
        volumes: Vec<Volume>,
    }
    /// Networks, a page of them.
    NetworksReply {
        /// Sorted by name.
        networks: Vec<Network>,
    }
    /// One unit's job has ended (or, without `wait`, was taken).
    JobReply {
        /// Whose.
        unit: String,
        /// One sentence: what could not be done, and why.
        error: Option<String>,
    }
    /// Output, a page of it.
    LogsReply {
        /// Oldest first.
        entries: Vec<LogEntry>,
    }
    /// A change of state.
    EventsReply {
        /// None in the first reply.
        event: Option<Event>,
    }
    /// What `apply` did or would do; the parts of all replies are joined.
    #[derive(Default)]
    ApplyReply {
        /// For people.
        diagnostics: String,
        /// Errors in `diagnostics`.
        mistakes: u32,
        /// New.
        add: Vec<String>,
        /// New definition, not running.
        change: Vec<String>,
        /// Changed and up.
        restart: Vec<String>,
        /// No longer there.
        remove: Vec<String>,
    }
    /// Secrets without their values, a page of them.
    SecretsReply {
        /// Those that are declared, by name, then those that are only stored.
        secrets: Vec<Secret>,
    }
    /// Who answers here.
    InfoReply {
        /// Who makes it.
        vendor: String,
        /// What it is.
        product: String,
        /// Which one.
        version: String,
        /// Where to read more.
        url: String,
        /// What can be called.
        interfaces: Vec<String>,
    }
    /// An interface's description.
    DescriptionReply {
        /// Text of the `.varlink` file.
        description: String,
    }
}

impl InfoReply {
    /// This program.
    pub fn this() -> Self {
        Self {
            vendor: "berth".to_owned(),
            product: "berth".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: String::new(),
            interfaces: vec![super::SERVICE_INTERFACE.to_owned(), super::INTERFACE.to_owned()],
        }
    }
}

/// The error for a method that is not in the table.
fn unknown_method(method: &str) -> Error {
    match method.rsplit_once('.') {
        Some((interface, _)) if super::description(interface).is_none() => {
            Error::InterfaceNotFound { interface: interface.to_owned() }
        }
        _ => Error::MethodNotFound { method: method.to_owned() },
    }
}

/// Reads parameters; the error names the one that is wrong.
fn read_parameters<M: DeserializeOwned>(parameters: Map<String, Value>) -> Result<M, Error> {
    let whole = parameters.clone();
    serde_json::from_value(Value::Object(parameters)).map_err(|error| {
        let message = error.to_string();
        let parameter = culprit::<M>(whole, &message).unwrap_or(message);
        Error::InvalidParameter { parameter }
    })
}

/// Which parameter `message` is about. serde names a missing one in back quotes; any
/// other is the last of the shortest beginning that fails in the same way. Parameters
/// are read in order and the first unknown one fails, so there are only a few to try.
fn culprit<M: DeserializeOwned>(whole: Map<String, Value>, message: &str) -> Option<String> {
    let mut beginning = Map::new();
    for (name, value) in whole {
        beginning.insert(name.clone(), value);
        match serde_json::from_value::<M>(Value::Object(beginning.clone())) {
            Err(error) if error.to_string() == message && !message.starts_with("missing field") => {
                return Some(name);
            }
            _ => {}
        }
    }
    message.split('`').nth(1).map(str::to_owned)
}
