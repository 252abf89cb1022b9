//! The typed units: what is left of a unit file once it has been checked.
//!
//! This is the only language the supervisor, the containers and the logger speak about
//! units. It is plain data: it is sent from the forked reader to the supervisor as
//! bytes, compared by `apply` to find what changed, and never changed in place.
//! A value that a start can fail on carries the line that asked for it ([`At`]), so
//! that the error can name it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::capability::{Capabilities, CapabilitySet};
pub use super::network::{Driver, Membership, Network, Networking, Port, Protocol, Subnet};
pub use super::rare::RareLimits;

/// A value and the line of the unit file (from 1) that gave it; 0 when it is a default.
///
/// Equality ignores the line: a unit that only moved within its file did not change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct At<T> {
    /// The value itself.
    pub value: T,
    /// Line in [`Unit::file`], from 1; 0 for a default.
    pub line: u32,
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> At<T> {
    /// A value that no line asked for.
    pub const fn default_value(value: T) -> Self {
        Self { value, line: 0 }
    }
}

/// Everything that was read: the units, the volumes and who goes by which name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitSet {
    /// Services and targets, sorted by name, names unique. Holds an entry for every
    /// name that another unit refers to, and always the target `default`.
    pub units: Vec<Arc<Unit>>,
    /// Named volumes, sorted; those only mentioned in a mount are here too.
    pub volumes: Vec<String>,
    /// Networks, sorted by name.
    pub networks: Vec<Network>,
    /// Templates (`name@`), from which an instance `name@x` is made when it is asked for.
    pub templates: Vec<Unit>,
}

/// One service or target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unit {
    /// Unique among services and targets, `[A-Za-z0-9][A-Za-z0-9_.@-]*`, at most 64 bytes.
    pub name: String,
    /// The file it came from, as the user named it; empty for a synthetic target.
    pub file: String,
    /// Line of its `[kind.name]` header, from 1; 0 for a synthetic target.
    pub line: u32,
    /// One line for people; may be empty.
    pub description: String,
    /// Started too, must be ready first, and stops with it.
    pub requires: Vec<String>,
    /// As `requires`, but a failure is no obstacle.
    pub wants: Vec<String>,
    /// Order only, and only if both are wanted.
    pub after: Vec<String>,
    /// Order only, the other way round.
    pub before: Vec<String>,
    /// Never up together: starting one stops the other.
    pub conflicts: Vec<String>,
    /// Targets that want this unit (reverse `wants`).
    pub wanted_by: Vec<String>,
    /// What it is.
    pub kind: Kind,
}

impl PartialEq for Unit {
    /// Equality of what the unit does; where it was written is left out.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.description == other.description
            && self.requires == other.requires
            && self.wants == other.wants
            && self.after == other.after
            && self.before == other.before
            && self.conflicts == other.conflicts
            && self.wanted_by == other.wanted_by
            && self.kind == other.kind
    }
}

impl Unit {
    /// The service's settings, if it is one.
    pub fn service(&self) -> Option<&Service> {
        match &self.kind {
            Kind::Service(service) => Some(service),
            Kind::Target => None,
        }
    }
}

/// What a unit is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Runs a command.
    Service(Box<Service>),
    /// Runs nothing: ready when all it requires is.
    Target,
}

/// A service: how to start, watch and stop it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Program and arguments; never empty.
    pub command: At<Vec<String>>,
    /// Which tree is its root.
    pub rootfs: At<Rootfs>,
    /// What happens to what it writes there.
    pub writable: Writable,
    /// Which namespaces it gets of its own. None at all: a plain child process, and
    /// `rootfs`, `mounts`, `hostname`, `network` do not apply (the checker refuses them).
    pub namespaces: At<Namespaces>,
    /// Who it runs as; root when `None`.
    pub user: Option<At<User>>,
    /// Absolute, inside its root.
    pub working_directory: At<String>,
    /// Variables, in the order written.
    pub environment: Vec<(String, String)>,
    /// Absolute host paths of `NAME=value` files; a leading `-` (optional file) is kept.
    pub environment_files: Vec<At<String>>,
    /// Host name inside; the unit's name when `None`.
    pub hostname: Option<At<String>>,
    /// In the order written.
    pub mounts: Vec<At<Mount>>,
    /// Absolute paths inside its root that it does not see, besides the default ones.
    pub masked_paths: Vec<At<String>>,
    /// Absolute paths inside its root that it cannot write, besides the default ones.
    pub read_only_paths: Vec<At<String>>,
    /// File mode creation mask, default 0o022.
    pub umask: u32,
    /// `PR_SET_NO_NEW_PRIVS`; default true.
    pub no_new_privileges: bool,
    /// What its processes may do of what only root may.
    pub capabilities: Capabilities,
    /// A container that has all capabilities; then `capabilities` is the default.
    pub privileged: bool,
    /// Whether the tiny init is process 1 inside. Only meaningful with a pid namespace.
    pub init: bool,
    /// `type = "oneshot"`: ready when it has exited with success.
    pub oneshot: bool,
    /// When it counts as ready (a oneshot: always `Exec`, and ready when done).
    pub ready: Ready,
    /// When to start it again.
    pub restart: Restart,
    /// Besides 0.
    pub success_exit_status: Vec<ExitMatch>,
    /// Its failure ends `berth up` or a container's process 1.
    pub critical: bool,
    /// From the first step to ready; `None`: for ever.
    pub start_timeout: Option<Duration>,
    /// From the stop signal to SIGKILL of the whole cgroup; `None`: for ever.
    pub stop_timeout: Option<Duration>,
    /// Signal number, default SIGTERM.
    pub stop_signal: i32,
    /// Signal number, if reloading is by signal.
    pub reload_signal: Option<i32>,
    /// Run instead of the reload signal.
    pub reload_command: Option<At<Vec<String>>>,
    /// Run before the stop signal.
    pub stop_command: Option<At<Vec<String>>>,
    /// Before the command, one after the other; a failure is a failed start.
    pub start_pre: Vec<At<Vec<String>>>,
    /// Once ready, before it counts as running.
    pub start_post: Vec<At<Vec<String>>>,
    /// Once the main process has ended.
    pub stop_post: Vec<At<Vec<String>>>,
    /// Longest silence between two `WATCHDOG=1`; `None`: no watchdog.
    pub watchdog: Option<Duration>,
    /// Resource limits.
    pub limits: RareLimits,
    /// Health check.
    pub health: Option<Health>,
    /// Where its output goes.
    pub log: Log,
    /// Networks and ports, if it has any.
    pub networking: Option<Box<Networking>>,
}

impl Service {
    /// The networks it is part of.
    pub fn memberships(&self) -> &[Membership] {
        self.networking.as_deref().map_or(&[], |networking| &networking.memberships)
    }

    /// Whose network it shares, if another service's.
    pub fn network_owner(&self) -> Option<&str> {
        self.networking.as_ref()?.owner.as_ref().map(|owner| owner.value.as_str())
    }

    /// Whether the tiny init runs: it is asked for and there is a pid namespace for it.
    pub fn has_init(&self) -> bool {
        self.init && self.namespaces.value.pid
    }

    /// Whether it needs a notify socket.
    pub fn wants_notify(&self) -> bool {
        self.ready == Ready::Notify || self.watchdog.is_some()
    }

    /// Whether it writes straight to the supervisor's own standard output and error, which
    /// are not the unit's in any way. (Where a line is watched for, the logger comes first.)
    pub fn shares_output(&self) -> bool {
        self.log.driver == LogDriver::Console && !matches!(self.ready, Ready::Log(_))
    }
}

/// A root tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// The host's own tree, read-only, with private `/tmp /run /dev /proc /sys`.
    Host,
    /// A directory, absolute.
    Directory(String),
}

/// What happens to writes into the root tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writable {
    /// Overlay, gone at stop. Default for a directory.
    Ephemeral,
    /// Overlay, kept in the state directory.
    Persistent,
    /// Read-only. Default for `"host"`.
    None,
    /// `rootfs-mode = "direct"`: the directory itself is written.
    Direct,
}

/// Which namespaces are the unit's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mounts (and with it the root tree).
    pub mount: bool,
    /// Process numbers.
    pub pid: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// The view of the cgroup tree.
    pub cgroup: bool,
    /// Network devices, with `lo` up. Off for `network = "host"`.
    pub network: bool,
}

impl Namespaces {
    /// Every namespace: `isolation = "container"`.
    pub const ALL: Self =
        Self { mount: true, pid: true, ipc: true, uts: true, cgroup: true, network: true };
    /// No namespace: `isolation = "none"`.
    pub const NONE: Self =
        Self { mount: false, pid: false, ipc: false, uts: false, cgroup: false, network: false };
}

/// A user, to be looked up in the unit's own root tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub user: Id,
    /// Primary group; the user's own when `None`.
    pub group: Option<Id>,
}

/// A name or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Id {
    /// Looked up in `/etc/passwd` or `/etc/group` of the unit's root tree.
    Name(String),
    /// Taken as it is; 4294967295 is refused by the checker.
    Number(u32),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the unit's root, without `..`.
    pub target: String,
    /// Not writable through this mount.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A host path.
    Bind {
        /// Absolute host path.
        path: String,
        /// Whether mounts made later travel.
        propagation: Propagation,
        /// Take the mounts below it too (default true).
        recursive: bool,
    },
    /// A named volume, made on first use.
    Volume {
        /// Name of the volume.
        name: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None`: the kernel's default of half the memory.
        size: Option<u64>,
        /// Mode of its root, default 0o1777.
        mode: u32,
    },
}

/// See `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// No events in either direction.
    #[default]
    Private,
    /// The host's later mounts appear inside.
    Slave,
    /// Both directions.
    Shared,
}

/// When a service counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// Its program was executed.
    Exec,
    /// `READY=1` on the notify socket.
    Notify,
    /// A newline on this descriptor (3 to 63).
    Fd(u32),
    /// A connection to this address (default 127.0.0.1) inside its network succeeds.
    Tcp {
        /// IP address literal.
        host: String,
        /// Port.
        port: u16,
    },
    /// A connection to this stream socket inside its root succeeds.
    Unix(String),
    /// This path exists inside its root.
    Path(String),
    /// The first health check succeeded.
    Health,
    /// A line of its output matches (regex-lite syntax, already checked).
    Log(String),
}

/// When and how fast to start again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// First delay; doubles with jitter from then on. Zero: at once, every time.
    pub delay: Duration,
    /// Cap of the delay.
    pub delay_max: Duration,
    /// A run that was ready for this long forgets the attempts before it.
    pub reset: Duration,
    /// At most this many restarts within `limit_window`, then failed; 0: never give up.
    pub limit_count: u32,
    /// See `limit_count`.
    pub limit_window: Duration,
}

/// `restart = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// After anything that is not success.
    OnFailure,
    /// After any end that nobody asked for.
    Always,
    /// As `Always`; a unit that was stopped by hand stays down also after a boot.
    UnlessStopped,
}

/// One entry of `success-exit-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitMatch {
    /// Exit code 0 to 255.
    Code(u8),
    /// Ended by this signal.
    Signal(i32),
}

/// cgroup and resource limits; `None`: as inherited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<At<u64>>,
    /// Bytes; throttled above it.
    pub memory_high: Option<At<u64>>,
    /// Bytes of swap on top.
    pub swap: Option<At<u64>>,
    /// Thousandths of a CPU.
    pub cpu_milli: Option<At<u64>>,
    /// 1 to 10000, default 100.
    pub cpu_weight: Option<At<u64>>,
    /// cpuset(7) list format, checked.
    pub cpuset: Option<At<String>>,
    /// Processes and threads.
    pub pids: Option<At<u64>>,
    /// 1 to 10000, default 100.
    pub io_weight: Option<At<u64>>,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub nofile: Option<At<u64>>,
    /// `RLIMIT_NPROC`.
    pub nproc: Option<At<u64>>,
    /// `RLIMIT_CORE` in bytes.
    pub core: Option<At<u64>>,
    /// -20 to 19.
    pub nice: Option<At<i32>>,
    /// -1000 to 1000.
    pub oom_score_adjust: Option<At<i32>>,
    /// A limit this host cannot enforce is refused instead of only reported.
    pub strict: bool,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    pub check: At<HealthCheck>,
    /// From the end of one to the start of the next, default 10 s.
    pub interval: Duration,
    /// Then it is killed and counts as failed, default 5 s.
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy, default 3.
    pub retries: u32,
    /// Failures in this time after the start do not count, default 0.
    pub start_period: Duration,
    /// Whether an unhealthy service is restarted (default) or only reported.
    pub restart: bool,
}

/// How health is checked. Each runs inside the unit's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheck {
    /// Exit code 0 is healthy.
    Command(Vec<String>),
    /// `GET`; 200 to 399 is healthy.
    Http {
        /// IP address literal, default 127.0.0.1.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, starts with `/`.
        path: String,
    },
    /// A connection succeeds.
    Tcp {
        /// IP address literal, default 127.0.0.1.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Rotate at this many bytes, default 10M.
    pub max_size: u64,
    /// Files kept in all, default 3.
    pub max_files: u32,
    /// Where to.
    pub driver: LogDriver,
}

impl Default for Log {
    fn default() -> Self {
        Self { max_size: 10 * 1024 * 1024, max_files: 3, driver: LogDriver::File }
    }
}

/// `driver = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// `STATE/log/NAME/`.
    File,
    /// Inherit the supervisor's own output.
    Console,
    /// Nowhere.
    None,
}
