//! From a typed unit to the list of steps that make its processes. Pure.
//!
//! Three lists, in the order they are carried out: `outside`, while the process still
//! sees the host; `sandbox`, which makes the unit's own world (once a run); `process`,
//! which makes the process what the unit says (every process of the unit). What must
//! hold: what only root of the host may do (opening sources, making overlays and device
//! nodes, raising limits) is done before the namespaces are made, and all else after it, as
//! the root of the unit's user namespace where it has one; paths are protected after the last
//! mount that could cover them, the root becomes read-only after the last mount point may
//! have been made, and the user changes after everything that needs privilege.
//! Capabilities are limited before that and given up after it. The filter of system calls
//! comes last of all: nothing is called under it but what executes the program.

mod sandbox;

use super::capabilities::Grant;
use super::environment::Variables;
use sandbox::Sandbox;

use super::step::{Datagram, Fence, Label, Op, Step};
use crate::sys::limits::Resource;
use crate::unit::model::{At, Filter, Limits, Namespaces, Security, Service, Unit, UserNamespace};

/// What a plan needs to know besides the unit.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Absolute path of the runtime directory; hidden from units with the host's tree.
    pub runtime: &'a str,
    /// Absolute path of the state directory; likewise.
    pub state: &'a str,
    /// Files that it sees in place of those of its root tree, path and text.
    pub files: &'a [(String, String)],
}

/// How the processes of a unit are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the unit.
    pub unit: String,
    /// Its file, as the user named it.
    pub file: String,
    /// Which namespaces are its own.
    pub namespaces: Namespaces,
    /// Whether its network is that of another unit, into which the sandbox goes.
    pub shares_network: bool,
    /// Whether the tiny init is process 1.
    pub init: bool,
    /// In sight of the host, every process.
    pub outside: Vec<Step>,
    /// The unit's own world, once.
    pub sandbox: Vec<Step>,
    /// Every process.
    pub process: Vec<Step>,
    /// What of its system calls is let through: the last step of every process, which after
    /// that only executes its program. The init, if there is one, has a filter of its own.
    pub filter: Option<At<Filter>>,
    /// The capabilities its processes can have; `None`: as inherited.
    pub grant: Option<Grant>,
    /// Whether it takes `SYS_ADMIN` to install the filter.
    pub filters_with_privilege: bool,
    /// Whether running out of memory ends its processes alone, and not those of the machine.
    pub limits_memory: bool,
    /// How many slots the sandbox's steps use.
    pub slots: usize,
    /// Program and arguments of the main process, and their line.
    pub command: At<Vec<String>>,
    /// The unit's own variables.
    pub environment: Variables,
    /// Variables that nothing in the unit changes.
    pub fixed: Variables,
}

/// Where berth keeps its state unless it is told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/berth";

/// Compiles a service; `None` for a target, which runs nothing.
pub fn compile(unit: &Unit, context: &Context<'_>) -> Option<Plan> {
    let service = unit.service()?;
    let namespaces = service.namespaces.value;
    let name = unit.name.as_str();
    let mut sandbox = Sandbox { steps: Vec::new(), slots: 0, context, name, service };
    sandbox.compile();
    let slots = sandbox.slots;
    let filter = service.security.filter(namespaces);
    let filters_with_privilege = filter.is_some() && !service.security.gains_nothing();
    // Another user than root has to keep what installing the filter takes.
    let inherited = filters_with_privilege.then_some((Grant::INHERITED, 0));
    let grant = Grant::of(service).or(inherited);
    Some(Plan {
        unit: unit.name.clone(),
        file: unit.file.clone(),
        namespaces,
        shares_network: service.network_owner().is_some(),
        init: service.has_init(),
        outside: outside(service),
        sandbox: sandbox.steps,
        process: process(service, grant),
        filter,
        grant: grant.map(|(grant, _)| grant),
        filters_with_privilege,
        limits_memory: service.limits.memory.is_some() || service.limits.swap.is_some(),
        slots,
        command: service.command.clone(),
        environment: service.environment.clone(),
        fixed: fixed(unit, service, context),
    })
}

fn fixed(unit: &Unit, service: &Service, context: &Context<'_>) -> Variables {
    let mut fixed = Variables::new();
    if service.namespaces.value.mount {
        fixed.push(("container".to_owned(), "berth".to_owned()));
    }
    if service.wants_notify() {
        let path = if service.namespaces.value.mount {
            Datagram::Notify.path().to_owned()
        } else {
            format!("{}/notify/{}", context.runtime, unit.name)
        };
        fixed.push(("NOTIFY_SOCKET".to_owned(), path));
    }
    if let Some(watchdog) = service.watchdog {
        fixed.push(("WATCHDOG_USEC".to_owned(), watchdog.as_micros().to_string()));
    }
    fixed
}

/// A step that no line asked for.
fn plain(op: Op) -> Step {
    Step { op, line: 0 }
}

fn outside(service: &Service) -> Vec<Step> {
    let mut steps = vec![plain(Op::JoinGroups)];
    if let Some(score) = &service.limits.oom_score_adjust {
        steps.push(Step { op: Op::OomScore(score.value), line: score.line });
    }
    let own_users = *service.user_namespace() != UserNamespace::None;
    let core = (Resource::Core, &service.limits.core);
    for (resource, limit) in resource_limits(&service.limits).into_iter().chain([core]) {
        if let Some(limit) = limit.as_ref().filter(|_| own_users) {
            steps.push(Step { op: Op::Allow(resource, limit.value), line: limit.line });
        }
    }
    if let Some(nice) = &service.limits.nice {
        steps.push(Step { op: Op::Nice(nice.value), line: nice.line });
    }
    for file in &service.environment_files {
        let (path, optional) = match file.value.strip_prefix('-') {
            Some(path) => (path, true),
            None => (file.value.as_str(), false),
        };
        let op = Op::EnvironmentFile { path: path.to_owned(), optional };
        steps.push(Step { op, line: file.line });
    }
    labels(service, &mut steps, Op::OpenLabel);
    steps
}

fn process(service: &Service, grant: Option<(Grant, u32)>) -> Vec<Step> {
    let mut steps = Vec::new();
    if service.namespaces.value.mount {
        steps.push(plain(Op::Terminals));
    }
    steps.push(plain(Op::Session));
    steps.push(plain(Op::Keyring));
    limits(&service.limits, &mut steps);
    steps.push(plain(Op::Umask(service.umask)));
    // Limiting takes a capability that the user may not have.
    if let Some((grant, line)) = grant {
        steps.push(Step { op: Op::Bound(grant), line });
    }
    // Fences need this, or a capability that the user may not have.
    if service.security.gains_nothing() {
        steps.push(plain(Op::NoNewPrivileges));
    }
    fences(service, &mut steps);
    let user = service.user.as_ref();
    let line = user.map_or(0, |user| user.line);
    steps.push(Step { op: Op::User(user.map(|user| user.value.clone())), line });
    if let Some((grant, line)) = grant {
        steps.push(Step { op: Op::Capabilities(grant), line });
    }
    let directory = &service.working_directory;
    let op = Op::WorkingDirectory(directory.value.clone());
    steps.push(Step { op, line: directory.line });
    labels(service, &mut steps, Op::Label);
    steps
}

fn labels(service: &Service, steps: &mut Vec<Step>, op: fn(Label) -> Op) {
    let Security { apparmor, selinux, .. } = &*service.security;
    let mut push = |at: &At<String>, label: fn(String) -> Label| {
        steps.push(Step { op: op(label(at.value.clone())), line: at.line });
    };
    if let Some(name) = apparmor {
        push(name, Label::AppArmor);
    }
    if let Some(context) = selinux {
        push(context, Label::SeLinux);
    }
}

/// Where it may write, as far as mounts do not say it.
fn fences(service: &Service, steps: &mut Vec<Step>) {
    let Security { read_only_paths, writable_paths, devices, .. } = &*service.security;
    let mut put = |paths: &[At<String>], more: Vec<String>, fence: fn(Vec<String>) -> Fence| {
        let line = paths.first().map_or(0, |path| path.line);
        let paths = paths.iter().map(|path| path.value.clone()).chain(more).collect();
        steps.push(Step { op: Op::Fence(fence(paths)), line });
    };
    if !service.namespaces.value.mount && !read_only_paths.is_empty() {
        put(read_only_paths, Vec::new(), Fence::AllBut);
    }
    if let Some(paths) = writable_paths {
        // A device that it was given to write to is one of them.
        let given = devices.iter().flatten().map(|device| &device.value);
        let given = given.filter(|device| device.write).map(|device| device.target.clone());
        put(paths, given.collect(), Fence::Only);
    }
}

fn limits(limits: &Limits, steps: &mut Vec<Step>) {
    for (resource, limit) in resource_limits(limits) {
        if let Some(limit) = limit {
            steps.push(Step { op: Op::Limit(resource, limit.value), line: limit.line });
        }
    }
    // What a process knew is in its core file. A limit of 0 keeps the kernel from writing one,
    // and not from handing it to a program of the host's: 1 byte does both (fs/coredump.c).
    let (core, line) = limits.core.as_ref().map_or((0, 0), |core| (core.value, core.line));
    steps.push(Step { op: Op::Limit(Resource::Core, core.max(1)), line });
}

fn resource_limits(limits: &Limits) -> [(Resource, &Option<At<u64>>); 2] {
    [(Resource::Files, &limits.nofile), (Resource::Processes, &limits.nproc)]
}

/// Whether an absolute path is another or lies below it.
pub fn is_at_or_below(path: &str, top: &str) -> bool {
    let top = top.trim_end_matches('/');
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
