//! A service as a whole, and the small types of its own table.
//!
//! What must always hold: [`Service::new`] is the only place that knows the defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{At, Health, Limits, Log, Mount, Networking, Rare, Secrets, Security, UserNamespace};

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
    /// File mode creation mask, default 0o022.
    pub umask: u32,
    /// What its processes may do, and what is kept from them.
    pub security: Rare<Security>,
    /// What it is given and nobody else may see.
    pub secrets: Rare<Secrets>,
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
    pub limits: Rare<Limits>,
    /// Health check.
    pub health: Option<Health>,
    /// Where its output goes.
    pub log: Log,
    /// Networks and ports.
    pub networking: Rare<Networking>,
}

impl Service {
    /// A container with this command and all defaults, on the host's tree.
    pub fn new(command: At<Vec<String>>) -> Self {
        Self {
            command,
            rootfs: At::default_value(Rootfs::Host),
            writable: Writable::None,
            namespaces: At::default_value(Namespaces::ALL),
            user: None,
            working_directory: At::default_value("/".to_owned()),
            environment: Vec::new(),
            environment_files: Vec::new(),
            hostname: None,
            mounts: Vec::new(),
            umask: 0o022,
            security: Rare::default(),
            secrets: Rare::default(),
            init: true,
            oneshot: false,
            ready: Ready::Exec,
            restart: Restart::default(),
            success_exit_status: Vec::new(),
            critical: false,
            start_timeout: Some(Duration::from_secs(60)),
            stop_timeout: Some(Duration::from_secs(10)),
            stop_signal: 15,
            reload_signal: None,
            reload_command: None,
            stop_command: None,
            start_pre: Vec::new(),
            start_post: Vec::new(),
            stop_post: Vec::new(),
            watchdog: None,
            limits: Rare::default(),
            health: None,
            log: Log::default(),
            networking: Rare::default(),
        }
    }

    /// Whose network it shares, if another service's.
    pub fn network_owner(&self) -> Option<&str> {
        self.networking.owner.as_ref().map(|owner| owner.value.as_str())
    }

    /// Whether the tiny init runs: it is asked for and there is a pid namespace for it.
    pub fn has_init(&self) -> bool {
        self.init && self.namespaces.value.pid
    }

    /// Whose numbers its users are to be on the host: all but [`UserNamespace::Unset`].
    pub fn user_namespace(&self) -> &UserNamespace {
        let Security { user_namespace, privileged, .. } = &*self.security;
        match user_namespace {
            UserNamespace::Unset if self.namespaces.value.mount && !privileged => {
                &UserNamespace::Auto
            }
            UserNamespace::Unset => &UserNamespace::None,
            said => said,
        }
    }

    /// Whether it needs a notify socket.
    pub fn wants_notify(&self) -> bool {
        self.ready == Ready::Notify || self.watchdog.is_some()
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

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(60),
            reset: Duration::from_secs(10),
            limit_count: 10,
            limit_window: Duration::from_secs(60),
        }
    }
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
