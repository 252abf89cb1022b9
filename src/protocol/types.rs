//! What calls and replies carry: plain data, field by field as in the `.varlink` file.
//!
//! What must always hold: these are the words of the wire, apart from the supervisor's
//! own types, so that a change inside the machine is not a change of the protocol. An
//! optional field is written as null, and may be left out by whoever sends it.

use serde::{Deserialize, Serialize};

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Runs a command.
    Service,
    /// Runs nothing, groups others.
    Target,
    /// Listens for a service.
    Socket,
    /// Starts a service from time to time.
    Timer,
}

/// What a unit is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not wanted, nothing there.
    Inactive,
    /// Wanted; something it needs is not ready yet.
    Waiting,
    /// Cgroup, namespaces, `start-pre`.
    Preparing,
    /// The command runs, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// On its way down.
    Stopping,
    /// Will be started again by itself.
    Backoff,
    /// Down until somebody starts or resets it.
    Failed,
    /// A oneshot that has succeeded.
    Done,
    /// Its cgroup is frozen.
    Frozen,
}

/// What somebody wants a unit to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Started.
    Up,
    /// Stopped.
    Down,
}

/// The verdict of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// None yet.
    Starting,
    /// The last check succeeded, or too few failed.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

/// How a process ended: `{"code": 3}` or `{"signal": 9}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// A unit by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Unique.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it does.
    pub state: State,
}

/// A unit and everything worth knowing about it now: an element of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Unique.
    pub name: String,
    /// One line for people; may be empty.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// What it does.
    pub state: State,
    /// What it is to be.
    pub desired: Desired,
    /// The main process, as the host numbers it.
    pub main_pid: Option<u32>,
    /// How the last main process ended.
    pub exit: Option<Exit>,
    /// Starts of its own accord.
    pub restarts: u32,
    /// When it came into its state, RFC 3339.
    pub since: Option<String>,
    /// Whether what requires it may go on.
    pub ready: bool,
    /// The health check's verdict, if there is a check.
    pub health: Option<Health>,
    /// `success`, or one word for how the last run failed.
    pub result: Option<String>,
    /// Directory of its cgroup.
    pub cgroup: Option<String>,
    /// Bytes its cgroup uses.
    pub memory: Option<u64>,
    /// How many of its processes the kernel killed for lack of memory, in all runs.
    pub oom_kills: u64,
    /// The last of them, as `NAME (PID)`, where the kernel's log can be read.
    pub oom_victim: Option<String>,
    /// Published ports, as the unit file writes them.
    pub ports: Option<Vec<String>>,
    /// Why it is in this state, one line; may be empty.
    pub why: String,
    /// `STATUS=` of the service; may be empty.
    pub status_text: String,
    /// Number of the run that is there.
    pub run: Option<u64>,
    /// What the definition asks for and this host cannot enforce.
    pub unenforced: Vec<String>,
    /// Which users inside are which on the host, as a unit file writes it; `None`: they are
    /// the host's.
    pub user_namespace: Option<String>,
    /// Why it has no user namespace, if it is to have one.
    pub no_user_namespace: Option<String>,
    /// Whether it is a container with all capabilities; `None` for what is no service.
    pub privileged: Option<bool>,
}

/// How one unit depends on another. What is written at the other end (`wanted-by`,
/// `before`) is turned round: `before = ["b"]` of a is `After` of b.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyKind {
    /// Must be ready first; stops with it.
    Requires,
    /// Started too.
    Wants,
    /// Order only.
    After,
    /// Never both.
    Conflicts,
}

/// One unit depends on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which depends.
    pub unit: String,
    /// How.
    pub kind: DependencyKind,
    /// On which.
    pub on: String,
    /// State of `on`; for a reverse question, of `unit`.
    pub state: State,
}

/// A network that is there. One of many units comes in several parts of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Unique.
    pub name: String,
    /// `bridge`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// The bridge's name on the host.
    pub device: Option<String>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Its addresses.
    pub subnets: Vec<String>,
    /// The way out of each subnet.
    pub gateways: Vec<String>,
    /// Who is in it.
    pub units: Vec<NetworkUnit>,
    /// What it and these units have in the rules, as nft(8) writes it.
    pub rules: Vec<String>,
}

/// A unit in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkUnit {
    /// Which.
    pub unit: String,
    /// Its device inside.
    pub device: String,
    /// Its addresses, which are leased to it.
    pub addresses: Vec<String>,
    /// Its further names.
    pub aliases: Vec<String>,
    /// Ports of the host that lead to it by this network.
    pub ports: Vec<String>,
    /// Whether its names and ports are published: it is ready.
    pub published: bool,
}

/// Where a line of output was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
    /// The unit's `/dev/log`.
    Syslog,
    /// Not the unit's output: what the supervisor itself says.
    Supervisor,
}

/// One line of output, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When it was read, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub unit: String,
    /// In which run.
    pub run: Option<u64>,
    /// Where to.
    pub stream: LogStream,
    /// The line goes on in the unit's next entry of the same stream.
    pub partial: bool,
    /// Without the newline.
    pub text: String,
}

/// Most bytes of text in one entry: six times as many, if every one of them has to be
/// written as `\u00XX`, still fit into a message.
const LOG_TEXT_MAX: usize = super::MESSAGE_MAX / 8;

impl LogEntry {
    /// The same text in entries short enough for a message each. The logger's lines may
    /// be longer than a message may be.
    pub fn pieces(mut self) -> Vec<Self> {
        let mut pieces = Vec::new();
        while self.text.len() > LOG_TEXT_MAX {
            let rest = self.text.split_off(super::char_boundary(&self.text, LOG_TEXT_MAX));
            let head = std::mem::replace(&mut self.text, rest);
            pieces.push(Self { text: head, partial: true, ..self.clone() });
        }
        pieces.push(self);
        pieces
    }
}

/// A change of a unit's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339.
    pub time: String,
    /// Of which unit.
    pub unit: String,
    /// Its state now.
    pub state: State,
    /// Why, one line; may be empty.
    pub why: String,
    /// How the main process ended, where that is what happened.
    pub exit: Option<Exit>,
    /// A failure that people should hear of.
    pub grave: bool,
}

/// Where the value of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretFrom {
    /// In the state directory, encrypted.
    Stored,
    /// In a file of the host.
    File,
    /// In a variable of the supervisor.
    Environment,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Where its value is.
    pub from: SecretFrom,
    /// The path or the variable.
    pub place: Option<String>,
    /// Whether a unit file declares it.
    pub declared: bool,
    /// Why a service could not have it now.
    pub problem: Option<String>,
    /// Services that list it.
    pub users: Vec<String>,
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownHow {
    /// Switch the machine off.
    Poweroff,
    /// Start the machine again.
    Reboot,
    /// Stop the machine without switching it off.
    Halt,
    /// End only the supervisor.
    Exit,
}
