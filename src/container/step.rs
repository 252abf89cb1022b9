//! The steps a plan consists of, and how each is called when it fails.

use std::fmt;

use super::capabilities::Grant;
use crate::sys::limits::Resource;
use crate::unit::model::secret::DIRECTORY;
use crate::unit::model::{At, Id, MountSource, Namespaces, Propagation, SecretUse, User};

/// One step, and the line of the unit file that asked for it (0: none did).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// Line in the unit's file, from 1; 0: it follows from the kind of unit.
    pub line: u32,
}

/// The first port that takes no capability, below `/proc/sys`.
pub const UNPRIVILEGED_PORTS: &str = "net/ipv4/ip_unprivileged_port_start";

/// Where the writes of an overlay go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// To memory, gone with the mount namespace.
    Memory,
    /// To `upper` in this directory of the host (`work` beside it); made if missing.
    Directory(String),
}

/// A socket that a sandbox makes and hands to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// `/dev/berth-notify`.
    Notify,
    /// `/dev/log`.
    Syslog,
}

impl Datagram {
    /// Where it is, inside.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Notify => "/dev/berth-notify",
            Self::Syslog => "/dev/log",
        }
    }
}

/// A filesystem that a unit gets a new one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// procfs, of the pid namespace that the process is in.
    Proc,
    /// sysfs, of the network namespace that the process is in.
    Sys {
        /// Whether it is not read-only.
        writable: bool,
        /// Where a copy of the host's may be, for want of an own one.
        hosts: Option<usize>,
    },
    /// A tmpfs with device nodes.
    Devices,
    /// Message queues, of the ipc namespace that the process is in.
    Queues,
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proc => "/proc",
            Self::Sys { .. } => "/sys",
            Self::Devices => "/dev",
            Self::Queues => "/dev/mqueue",
        })
    }
}

/// What a mask or a read-only mount covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered {
    /// What every unit is kept from: files of the kernel that show or change the host, as
    /// far as this kernel has them.
    Kernel,
    /// An absolute path inside, which must be there.
    Path(String),
}

/// Where a process may write, and nowhere else: by Landlock, so that no mount is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// Beneath these absolute paths.
    Only(Vec<String>),
    /// Everywhere but beneath these.
    AllBut(Vec<String>),
}

/// What a security module is to make of the program that is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// The name of a profile, or `unconfined`.
    AppArmor(String),
    /// A context, or its type alone.
    SeLinux(String),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppArmor(name) => write!(f, "the AppArmor profile {name}"),
            Self::SeLinux(context) => write!(f, "the SELinux label {context}"),
        }
    }
}

/// What a step does. Those of a mount that needs something of the host are two: the
/// source is opened while the host's tree is in sight (`slot` says where it is kept), and
/// attached when the unit's own tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Be in the version 1 control groups that the limits need.
    JoinGroups,
    /// Read variables; a missing file is fine if optional.
    EnvironmentFile {
        /// Absolute host path.
        path: String,
        /// Whether it may be missing.
        optional: bool,
    },
    /// `/proc/self/oom_score_adj`.
    OomScore(i32),
    /// Raise the hard limit to what the unit's own limit needs, while that is possible.
    Allow(Resource, u64),
    /// Enter the user namespace, if there is one, and make the others. From here on there is
    /// nothing that root of the host could do and the unit's own could not.
    Namespaces(Namespaces),
    /// Make a filesystem of the kernel's that only its maker has the rights for.
    Fresh {
        /// Where it is kept.
        slot: usize,
        /// Which.
        kind: Fresh,
    },
    /// A copy of the host's `/sys`, if the unit may be refused one of its own.
    SpareSys {
        /// Where it is kept.
        slot: usize,
    },
    /// Open a host path or volume.
    Open {
        /// Where it is kept.
        slot: usize,
        /// What.
        source: MountSource,
        /// Absolute host path of a volume's directory; of a bind's source.
        path: String,
        /// Not writable through this mount.
        read_only: bool,
        /// Where it will go, for the name of the step.
        target: String,
    },
    /// Memory for secrets that is never swapped out.
    SecretsMemory {
        /// Where it is kept.
        slot: usize,
    },
    /// One secret into it.
    Secret {
        /// Where it is kept.
        slot: usize,
        /// Absolute host path of the state directory.
        state: String,
        /// Which, and where its value is.
        wanted: SecretUse,
    },
    /// All secrets on `/run/secrets`, read-only, each with its owner.
    Secrets {
        /// What holds them.
        slot: usize,
        /// The unit's user, who has those without an owner of their own.
        user: Option<User>,
        /// Which.
        wanted: Vec<At<SecretUse>>,
    },
    /// Put what is the host's together in a mount namespace that is the host's too.
    PutTogether,
    /// Take it from there into the unit's, where the kernel lets nobody change it any more.
    TakeLocked,
    /// From now on no mount made here is seen by the host.
    PrivateMounts,
    /// A root tree of two layers.
    Overlay {
        /// Absolute host path.
        lower: String,
        /// Where writes go.
        upper: Upper,
        /// Whether a recursive bind will do where the kernel cannot stack another overlay:
        /// nobody will write to it.
        bind_will_do: bool,
    },
    /// A directory as the root tree, in place.
    Direct {
        /// Absolute host path.
        path: String,
    },
    /// The host's further filesystems, read-only, at their places; none at or below
    /// `except`.
    HostMounts {
        /// Absolute paths.
        except: Vec<String>,
    },
    /// Make it the root, let go of the host's tree.
    ChangeRoot,
    /// Find berth's own directories, as far as they exist, while the host's tree is in sight.
    FindOwn {
        /// Absolute paths.
        names: Vec<String>,
    },
    /// Cover each with an empty read-only one, wherever the unit's tree shows it by now.
    HideOwn,
    /// `/proc`.
    Proc {
        /// A new one.
        slot: usize,
    },
    /// `/sys`.
    Sys {
        /// A copy of the host's when the network is the host's, or a new one.
        slot: usize,
    },
    /// `/sys/fs/cgroup`.
    CgroupMount {
        /// Whether it is not read-only.
        writable: bool,
    },
    /// `/dev` with its nodes, `pts`, `shm` and `mqueue`.
    Dev {
        /// The nodes.
        slot: usize,
        /// The host's message queues; the unit's own if `None`.
        queues: Option<usize>,
    },
    /// A device node of the host, to be used inside.
    OpenDevice {
        /// Where it is kept.
        slot: usize,
        /// Its path on the host.
        path: String,
    },
    /// What a slot holds, in a fresh `/dev`.
    Device {
        /// Which.
        slot: usize,
        /// Absolute path inside.
        target: String,
    },
    /// In a network of its own no port is for root alone.
    UnprivilegedPorts,
    /// A setting of one of the unit's namespaces.
    Sysctl {
        /// Below `/proc/sys`.
        path: String,
        /// What is written.
        value: String,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Bytes.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
        /// Not writable.
        read_only: bool,
    },
    /// What a slot holds.
    Attach {
        /// Which.
        slot: usize,
        /// What it was opened from.
        source: MountSource,
        /// Absolute path inside.
        target: String,
    },
    /// A socket, handed to the supervisor.
    Socket(Datagram),
    /// An empty file or directory in its place.
    Mask(Covered),
    /// Not writable, with all mounts below.
    ReadOnly(Covered),
    /// No more writes to the root tree itself.
    ReadOnlyRoot,
    /// sethostname(2).
    HostName(String),
    /// `lo`.
    Loopback,
    /// Enter the network of another unit, whose process comes by the status channel.
    ShareNetwork,
    /// Wait until the supervisor says that the devices of its networks are there.
    AwaitNetwork,
    /// Say that its network namespace is there to be filled.
    AnnounceNetwork,
    /// Files of berth's own over those of the root tree: path and text.
    Files(Vec<(String, String)>),
    /// The init needs no capability, nor does anything it could execute.
    Disarm,
    /// For a process with a terminal: a `/dev/pts` that no other process of the unit sees.
    Terminals,
    /// setsid(2), and the terminal if there is one.
    Session,
    /// A session keyring of its own: the supervisor's may hold somebody's keys.
    Keyring,
    /// setrlimit(2).
    Limit(Resource, u64),
    /// setpriority(2).
    Nice(i32),
    /// umask(2).
    Umask(u32),
    /// Nothing executed from now on has more than this; the process itself still does.
    Bound(Grant),
    /// Look up and become; root when `None`, or whoever a supervisor without privileges is.
    User(Option<User>),
    /// What this user has.
    Capabilities(Grant),
    /// chdir(2).
    WorkingDirectory(String),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Landlock.
    Fence(Fence),
    /// Find where a label is asked for, while the host's `/proc` is in sight.
    OpenLabel(Label),
    /// Ask for it.
    Label(Label),
}

fn id(id: &Id) -> String {
    match id {
        Id::Name(name) => name.clone(),
        Id::Number(number) => number.to_string(),
    }
}

fn mount(f: &mut fmt::Formatter<'_>, source: &MountSource, target: &str) -> fmt::Result {
    match source {
        MountSource::Bind { path, propagation, recursive } => {
            write!(f, "bind-mount {path} on {target}")?;
            match propagation {
                Propagation::Private => {}
                Propagation::Slave => write!(f, " (slave)")?,
                Propagation::Shared => write!(f, " (shared)")?,
            }
            if *recursive { Ok(()) } else { write!(f, " (without the mounts below)") }
        }
        MountSource::Volume { name } => write!(f, "mount volume {name} on {target}"),
        MountSource::Tmpfs { .. } => write!(f, "mount a tmpfs on {target}"),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinGroups => write!(f, "join the control groups of its limits"),
            Self::EnvironmentFile { path, .. } => write!(f, "read the environment file {path}"),
            Self::OomScore(score) => write!(f, "set the oom score adjustment to {score}"),
            Self::Allow(resource, value) => write!(f, "allow the limit {resource} to be {value}"),
            Self::Namespaces(_) => write!(f, "make the unit's namespaces"),
            Self::Fresh { kind, .. } => write!(f, "make a new {kind}"),
            Self::Open { source, target, .. } | Self::Attach { source, target, .. } => {
                mount(f, source, target)
            }
            Self::SpareSys { .. } => write!(f, "copy the host's /sys"),
            Self::SecretsMemory { .. } => write!(f, "make the memory for its secrets"),
            Self::Secret { wanted, .. } => write!(f, "give it the secret {}", wanted.secret),
            Self::Secrets { .. } => write!(f, "mount its secrets on {DIRECTORY}"),
            Self::PutTogether => write!(f, "put the host's files together"),
            Self::TakeLocked => write!(f, "lock the mounts of the host's files"),
            Self::PrivateMounts => write!(f, "make all mounts private"),
            Self::Overlay { lower, upper: Upper::Memory, .. } => {
                write!(f, "make an overlay of {lower}")
            }
            Self::Overlay { lower, upper: Upper::Directory(upper), .. } => {
                write!(f, "make an overlay of {lower} with its writes in {upper}")
            }
            Self::Direct { path } => write!(f, "mount the root tree {path}"),
            Self::HostMounts { .. } => write!(f, "mount the host's filesystems read-only"),
            Self::ChangeRoot => write!(f, "change the root"),
            Self::FindOwn { .. } => write!(f, "find berth's own directories"),
            Self::HideOwn => write!(f, "hide berth's own directories"),
            Self::Proc { .. } => write!(f, "mount /proc"),
            Self::Sys { .. } => write!(f, "mount /sys"),
            Self::CgroupMount { .. } => write!(f, "mount /sys/fs/cgroup"),
            Self::Dev { .. } => write!(f, "fill /dev"),
            Self::OpenDevice { path, .. } => write!(f, "open the device {path}"),
            Self::Device { target, .. } => write!(f, "make the device node {target}"),
            Self::UnprivilegedPorts => write!(f, "let every user listen on every port"),
            Self::Sysctl { path, value } => write!(f, "write {value} to /proc/sys/{path}"),
            Self::Terminals => write!(f, "give a terminal a /dev/pts of its own"),
            Self::Tmpfs { target, .. } => write!(f, "mount a tmpfs on {target}"),
            Self::Socket(socket) => write!(f, "make the socket {}", socket.path()),
            Self::Mask(Covered::Kernel) => write!(f, "mask what /proc and /sys show of the host"),
            Self::Mask(Covered::Path(path)) => write!(f, "mask {path}"),
            Self::ReadOnly(Covered::Kernel) => write!(f, "make what /proc changes read-only"),
            Self::ReadOnly(Covered::Path(path)) => write!(f, "make {path} read-only"),
            Self::ReadOnlyRoot => write!(f, "make the root tree read-only"),
            Self::HostName(name) => write!(f, "set the host name to {name}"),
            Self::Loopback => write!(f, "bring the loopback device up"),
            Self::ShareNetwork => write!(f, "enter the network it shares"),
            Self::AnnounceNetwork => write!(f, "say that its network is there"),
            Self::AwaitNetwork => write!(f, "wait for its networks"),
            Self::Files(_) => write!(f, "make its hosts, hostname and resolv.conf"),
            Self::Disarm => write!(f, "give up the init's capabilities"),
            Self::Session => write!(f, "begin a session"),
            Self::Keyring => write!(f, "make a session keyring"),
            Self::Limit(resource, value) => write!(f, "set the limit {resource} to {value}"),
            Self::Nice(value) => write!(f, "set the nice value to {value}"),
            Self::Umask(mask) => write!(f, "set the umask to {mask:04o}"),
            Self::Bound(grant) => write!(f, "limit the capabilities to {}", grant.root),
            Self::Capabilities(Grant { root, others, .. }) => {
                write!(f, "keep the capabilities {root}, or as another user {others}")
            }
            Self::User(None) => write!(f, "become root"),
            Self::User(Some(User { user, group: None })) => write!(f, "become user {}", id(user)),
            Self::User(Some(User { user, group: Some(group) })) => {
                write!(f, "become user {} in group {}", id(user), id(group))
            }
            Self::WorkingDirectory(path) => write!(f, "enter the working directory {path}"),
            Self::NoNewPrivileges => write!(f, "give up gaining privileges"),
            Self::OpenLabel(label) => write!(f, "prepare {label}"),
            Self::Label(label) => write!(f, "ask for {label}"),
            Self::Fence(Fence::Only(paths)) if paths.is_empty() => {
                write!(f, "let it write nowhere")
            }
            Self::Fence(Fence::Only(paths)) => {
                write!(f, "let it write only beneath {}", paths.join(" "))
            }
            Self::Fence(Fence::AllBut(paths)) => {
                write!(f, "keep it from writing beneath {}", paths.join(" "))
            }
        }
    }
}
