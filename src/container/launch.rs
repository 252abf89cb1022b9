//! Making the processes of a unit: the supervisor's side.
//!
//! What must hold: the caller has one thread, and whatever happens the supervisor goes on
//! making its children in its own pid namespace. If the kernel refuses the way back,
//! [`Host`] refuses to launch anything until it has succeeded.
//!
//! What is not promised: until it executes its program, a process that joins a running
//! unit is a copy of the supervisor in that unit's pid namespace. It cannot be looked into
//! by those without `CAP_SYS_PTRACE` over the host's user namespace, so it is safe from
//! units that dropped that capability or have a user namespace of their own (the default),
//! and from no others. The sandbox's init is safe from all: it has executed before anybody
//! else is in.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::child::{self, Job, Task};
use super::environment::Variables;
use super::express;
use super::pad::{Given, Pad, Ticket};
use super::plan::Plan;
use super::secrets::vault::Vault;
use super::status::Channel;
use super::user_namespace::Users;
use crate::sys::capability::{self, Held};
use crate::sys::cgroup::Group;
use crate::sys::clone::{self, Files, Process, Side, namespace};
use crate::sys::pty::Size;
use crate::sys::spawn::Nest;
use crate::sys::{identity, limits, memfd, namespace as enter, pidfd, signal, socket};
use crate::unit::model::{Namespaces, User};

/// The tiny init, built by `build.rs`.
const INIT: &[u8] = include_bytes!(env!("BERTH_INIT"));

/// What every launch needs, made once.
#[derive(Debug)]
pub struct Host {
    pub(super) init: OwnedFd,
    pub(super) null: OwnedFd,
    /// The soft limit of descriptors that the supervisor was started with: it raises its own,
    /// but programs that use select(2) must not inherit that.
    pub(super) soft_files: Option<u64>,
    /// Secrets that the supervisor's environment brought.
    pub vault: Vault,
    /// The supervisor's own capabilities: it gives none that it has not.
    pub(super) held: Held,
    pid_namespace: OwnedFd,
    /// Whether the supervisor's children would be made in a unit's pid namespace.
    stranded: Cell<bool>,
    /// Whether a child is root without doing anything for it: berth is, in every respect.
    pub(super) is_plain_root: bool,
    /// Whether it has no supplementary groups to give up.
    pub(super) has_no_groups: bool,
    /// Where plain children live until they execute.
    nest: RefCell<Nest>,
    /// Where children find their descriptors.
    pad: Rc<RefCell<Pad>>,
}

/// What a successor of this program cannot find out by itself.
#[derive(Deserialize)]
struct Inherited {
    soft_files: Option<u64>,
    vault: Vault,
}

/// The same, as it is written.
#[derive(Serialize)]
struct Left<'a> {
    soft_files: Option<u64>,
    vault: &'a Vault,
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Left { soft_files: self.soft_files, vault: &self.vault }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Inherited { soft_files, vault } = Inherited::deserialize(deserializer)?;
        let mut fresh = Self::new().map_err(serde::de::Error::custom)?;
        fresh.vault.take_over(&vault).map_err(serde::de::Error::custom)?;
        Ok(Self { soft_files, ..fresh })
    }
}

impl Host {
    /// Opens what is needed; `/proc` and `/dev/null` must be there. To be called before the
    /// supervisor changes its own limits.
    ///
    /// # Errors
    /// As open(2) and `memfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let named = |path: &str| {
            let path = path.to_owned();
            move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
        };
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(named("/dev/null"))?;
        let null = OwnedFd::from(null);
        // Who cannot mount a tmpfs (no rights, a kernel without fsopen(2)) makes no containers,
        // which have one each; what else has an init gets one that only its seals keep.
        let init = memfd::kept_program("berth-init", INIT)
            .or_else(|_| memfd::sealed_program("berth-init", INIT))?;
        let vault = Vault::new(null.try_clone()?);
        let pad = Pad::new(null.try_clone()?, &[null.as_fd(), init.as_fd(), vault.as_fd()])?;
        Ok(Self {
            init,
            null,
            vault,
            pad: Rc::new(RefCell::new(pad)),
            soft_files: limits::soft_files(),
            held: capability::held().map_err(named("capget(2)"))?,
            pid_namespace: enter::own_pid_namespace().map_err(named("/proc/self/ns/pid"))?,
            stranded: Cell::new(false),
            is_plain_root: identity::is_plain_root(),
            has_no_groups: rustix::process::getgroups()?.is_empty(),
            nest: RefCell::new(Nest::new()?),
        })
    }

    /// The soft limit of descriptors that children get.
    pub fn soft_files(&self) -> Option<u64> {
        self.soft_files
    }

    /// A process that [`sandbox`] or [`process`] has made is about to be reaped: what it may
    /// not have taken is let go of. To be called before its status is read for the last time.
    pub fn ended(&self, pid: i32) {
        self.pad.borrow_mut().ended(pid);
        self.nest.borrow_mut().ended(pid);
    }

    /// How many processes shared the supervisor's memory until they executed.
    pub fn shared_starts(&self) -> u64 {
        self.nest.borrow().launched()
    }

    /// After a wave of starts: gives back what only the wave needed. Whether there was one.
    pub fn slim(&self) -> bool {
        self.nest.borrow_mut().slim()
    }

    /// Goes back to the supervisor's own pid namespace, if it is not there.
    ///
    /// # Errors
    /// [`LaunchError::Stranded`].
    pub fn recover(&self) -> Result<(), LaunchError> {
        if self.stranded.get() {
            enter::enter(self.pid_namespace.as_fd(), namespace::PID)
                .map_err(LaunchError::Stranded)?;
            self.stranded.set(false);
        }
        Ok(())
    }
}

/// Which program a process becomes.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// The unit's command.
    Main,
    /// A hook or a health check; run as the unit's own user, with its limits.
    Command {
        /// Program and arguments.
        argv: &'a [String],
        /// The line that named it.
        line: u32,
    },
    /// For a person.
    Exec(&'a Exec),
}

/// `berthctl exec`.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// On top of the unit's own variables, such as `TERM`.
    pub environment: Variables,
    /// Instead of the unit's user.
    pub user: Option<User>,
    /// Instead of the unit's working directory.
    pub working_directory: Option<String>,
    /// A terminal of this size, made inside: its master side comes by the status channel,
    /// and [`Stdio`] is not used.
    pub terminal: Option<Size>,
}

/// Descriptors 0 to 2 and named ones; `None` is `/dev/null`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Descriptor 1.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Descriptor 2.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Numbers 3 to 63 and what they refer to.
    pub named: &'a [(i32, BorrowedFd<'a>)],
}

/// A child on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its number as the supervisor sees it.
    pub pid: i32,
    /// Refers to it also after its number has been given to another.
    pub pidfd: OwnedFd,
    /// Says how it goes on; to be read until it says something final.
    pub status: Channel,
}

/// Why no child was made.
#[derive(Debug)]
pub enum LaunchError {
    /// socketpair(2).
    Channel(io::Error),
    /// clone3(2).
    Clone(io::Error),
    /// setns(2) into the unit's pid namespace: `ESRCH` when its process 1 has ended.
    Enter(io::Error),
    /// setns(2) back: the supervisor can make no child until [`Host::recover`] succeeds.
    /// If one was made meanwhile it has been killed.
    Stranded(io::Error),
    /// The plan has no sandbox, or no init.
    NoSandbox,
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => write!(f, "make a status channel: {error}"),
            Self::Clone(error) if error.raw_os_error() == Some(libc::EPERM) => write!(
                f,
                "make a process in namespaces of its own: {error}: it needs CAP_SYS_ADMIN, or \
                 isolation = \"none\""
            ),
            Self::Clone(error) => write!(f, "make a process: {error}"),
            Self::Enter(error) => write!(f, "enter the unit's pid namespace: {error}"),
            Self::Stranded(error) => {
                write!(f, "return to the supervisor's pid namespace, nothing can start: {error}")
            }
            Self::NoSandbox => write!(f, "the unit has no sandbox of its own"),
        }
    }
}

impl std::error::Error for LaunchError {}

/// The namespaces that clone3 makes; the others are made by the child, once it has what it
/// needs of the host and is in its group and its user namespace.
fn clone_flags(own: Namespaces) -> u64 {
    flags(Namespaces { pid: own.pid, ..Namespaces::NONE })
}

/// The namespaces that a process enters, or makes, itself.
pub(super) fn own_flags(own: Namespaces) -> u64 {
    flags(Namespaces { pid: false, ..own })
}

fn flags(own: Namespaces) -> u64 {
    [
        (own.mount, namespace::MOUNT),
        (own.pid, namespace::PID),
        (own.ipc, namespace::IPC),
        (own.uts, namespace::UTS),
        (own.cgroup, namespace::CGROUP),
        (own.network, namespace::NETWORK),
    ]
    .iter()
    .filter(|(on, _)| *on)
    .fold(0, |all, (_, flag)| all | flag)
}

/// Makes the sandbox of a unit with an init: its own namespaces, its tree, and the tiny
/// init in it. Its sockets come by the status channel.
///
/// # Errors
/// When no child could be made; what goes wrong in it is said by its status.
pub fn sandbox(
    host: &Host,
    plan: &Plan,
    group: &Group,
    users: Option<Users<'_>>,
) -> Result<Child, LaunchError> {
    if !plan.init {
        return Err(LaunchError::NoSandbox);
    }
    host.recover()?;
    let flags = clone_flags(plan.namespaces);
    let place = Where { group, inside: None, users };
    start(host, plan, flags, place, Stdio::default(), Job::Sandbox)
}

/// Where a process is made.
#[derive(Debug, Clone, Copy)]
pub struct Where<'a> {
    /// Its control group.
    pub group: &'a Group,
    /// Whom it joins.
    pub inside: Option<BorrowedFd<'a>>,
    /// The user namespace of the unit, where it has one.
    pub users: Option<Users<'a>>,
}

/// Makes a process of a unit: its command, a hook, a health check, something for `exec`.
///
/// `inside` is the pidfd of the sandbox (with an init), or of the running main process of
/// a unit without one: the new process joins it. With `None` it gets namespaces of its
/// own, as the plan says.
///
/// # Errors
/// When no child could be made; what goes wrong in it is said by its status.
pub fn process(
    host: &Host,
    plan: &Plan,
    place: Where<'_>,
    program: Program<'_>,
    stdio: &Stdio<'_>,
) -> Result<Child, LaunchError> {
    host.recover()?;
    let start = |flags| start(host, plan, flags, place, *stdio, Job::Process(program));
    match place.inside {
        None => start(clone_flags(plan.namespaces)),
        Some(sandbox) if plan.namespaces.pid => {
            enter::enter(sandbox, namespace::PID).map_err(LaunchError::Enter)?;
            host.stranded.set(true);
            let child = start(0);
            if let Err(error) = host.recover() {
                if let Ok(child) = &child {
                    // It only fails if the child has ended by itself.
                    let _ = pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL);
                }
                return Err(error);
            }
            child
        }
        Some(_) => start(0),
    }
}

/// Makes a child in its group, with the given descriptors and a status channel.
fn start(
    host: &Host,
    plan: &Plan,
    flags: u64,
    place: Where<'_>,
    stdio: Stdio<'_>,
    job: Job<'_>,
) -> Result<Child, LaunchError> {
    let Where { group, inside, users } = place;
    let (ours, theirs) = socket::seqpacket_pair().map_err(LaunchError::Channel)?;
    let procs = group.legacy_procs().collect();
    let root = users.map(Users::root);
    // Who joins a unit enters its user namespace with the others.
    let users = users.filter(|_| inside.is_none()).map(Users::fd);
    let given = Given { channel: theirs.as_fd(), stdio, procs, inside, users };
    let mut pad = host.pad.borrow_mut();
    let (given, ticket) = match pad.put(&given) {
        Some((given, ticket)) => (given, Some(ticket)),
        None => (given, None),
    };
    let taken = ticket.map(|ticket| ticket.index);
    let made = if let Some(made) = express(host, plan, group, &job, &given, ticket.as_ref()) {
        made
    } else {
        let files = if ticket.is_some() { Files::Shared } else { Files::Copied };
        // Who joins a unit may do so when there are other groups below its own.
        let is_visitor = inside.is_some() && !matches!(job, Job::Process(Program::Main));
        match clone::clone3(flags, group.entry(is_visitor), files) {
            Ok(Side::Child) => child::run(&Task { host, plan, job, given, root, ticket }),
            Ok(Side::Parent(process)) => Ok(process),
            Err(error) => Err(error),
        }
    };
    match made {
        Ok(Process { pid, pidfd }) => {
            if let Some(index) = taken {
                pad.taken(index, pid);
            }
            drop(pad);
            Ok(Child { pid, pidfd, status: Channel::new(ours, host.pad.clone()) })
        }
        Err(error) => {
            if let Some(index) = taken {
                pad.release(index.into());
            }
            Err(LaunchError::Clone(error))
        }
    }
}

/// The short way, for what can go it; `None`: the long one.
fn express(
    host: &Host,
    plan: &Plan,
    group: &Group,
    job: &Job<'_>,
    given: &Given<'_>,
    ticket: Option<&Ticket<'_>>,
) -> Option<io::Result<Process>> {
    let Job::Process(Program::Main) = job else { return None };
    let mut nest = host.nest.borrow_mut();
    if !signal::are_blocked() || !nest.has_place() {
        return None;
    }
    let script = express::script(host, plan, given, ticket?)?;
    match nest.launch(script, group.entry(false)) {
        // Not for us, see `clone::clone3`: by the long way it may do.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => None,
        other => Some(other),
    }
}
