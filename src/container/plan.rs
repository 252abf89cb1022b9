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

use std::path::Path;

use super::capabilities::Grant;
use super::environment::Variables;
use super::step::{Covered, Datagram, Fence, Fresh, Label, Op, Step, Upper};
use crate::sys::limits::Resource;
use crate::unit::model::{
    At, Filter, Limits, Mount, MountSource, Namespaces, Propagation, Rootfs, Security, Service,
    Sysctl, Unit, UserNamespace, Writable,
};

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
    /// Whether its output goes to the supervisor's own, whose owner stays as it is.
    pub shares_output: bool,
    /// Program and arguments of the main process, and their line.
    pub command: At<Vec<String>>,
    /// The unit's own variables.
    pub environment: Variables,
    /// Variables that nothing in the unit changes.
    pub fixed: Variables,
}

/// Where berth keeps its state unless it is told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/berth";

/// Directories of the host's tree that a unit has of its own.
const PRIVATE: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Compiles a service; `None` for a target, which runs nothing.
pub fn compile(unit: &Unit, context: &Context<'_>) -> Option<Plan> {
    let service = unit.service()?;
    let namespaces = service.namespaces.value;
    let name = unit.name.as_str();
    let mut sandbox = Sandbox { steps: Vec::new(), slots: 0, context, name, service };
    sandbox.compile();
    let slots = sandbox.slots;
    let filter = service.security.filter(namespaces);
    let filters_with_privilege = filter.is_some() && !service.security.no_new_privileges;
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
        shares_output: service.shares_output(),
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
    if service.security.no_new_privileges {
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
    let Security { read_only_paths, writable_paths, .. } = &*service.security;
    let mut put = |paths: &[At<String>], fence: fn(Vec<String>) -> Fence| {
        let line = paths.first().map_or(0, |path| path.line);
        let paths = paths.iter().map(|path| path.value.clone()).collect();
        steps.push(Step { op: Op::Fence(fence(paths)), line });
    };
    if !service.namespaces.value.mount && !read_only_paths.is_empty() {
        put(read_only_paths, Fence::AllBut);
    }
    if let Some(paths) = writable_paths {
        put(paths, Fence::Only);
    }
}

fn limits(limits: &Limits, steps: &mut Vec<Step>) {
    for (resource, limit) in resource_limits(limits) {
        if let Some(limit) = limit {
            steps.push(Step { op: Op::Limit(resource, limit.value), line: limit.line });
        }
    }
    // What a process knew is in its core file.
    let (core, line) = limits.core.as_ref().map_or((0, 0), |core| (core.value, core.line));
    steps.push(Step { op: Op::Limit(Resource::Core, core), line });
}

fn resource_limits(limits: &Limits) -> [(Resource, &Option<At<u64>>); 2] {
    [(Resource::Files, &limits.nofile), (Resource::Processes, &limits.nproc)]
}

/// Builds the steps of the unit's own world.
struct Sandbox<'a> {
    steps: Vec<Step>,
    slots: usize,
    context: &'a Context<'a>,
    name: &'a str,
    service: &'a Service,
}

impl Sandbox<'_> {
    fn push(&mut self, op: Op) {
        self.steps.push(plain(op));
    }

    fn slot(&mut self) -> usize {
        let slot = self.slots;
        self.slots = slot.saturating_add(1);
        slot
    }

    fn fresh(&mut self, kind: Fresh) -> usize {
        let slot = self.slot();
        self.push(Op::Fresh { slot, kind });
        slot
    }

    fn compile(&mut self) {
        let own = self.service.namespaces.value;
        if own == Namespaces::NONE {
            return;
        }
        self.push(Op::JoinGroups);
        if self.service.network_owner().is_some() {
            // Before the tree, whose /sys shows it, and as root of the host: it is another's.
            self.push(Op::ShareNetwork);
        }
        if own.mount {
            self.tree();
        } else {
            self.namespaces();
            self.sysctls();
        }
        if own.uts {
            let (name, line) = match &self.service.hostname {
                Some(name) => (name.value.as_str(), name.line),
                None => (self.name, 0),
            };
            self.steps.push(Step { op: Op::HostName(host_name(name)), line });
        }
        if self.has_new_network() {
            self.push(Op::Loopback);
        }
        if !self.service.networking.memberships.is_empty() {
            // Last: meanwhile they are made.
            self.push(Op::AwaitNetwork);
        }
        if self.service.has_init() {
            self.push(Op::Disarm);
        }
    }

    /// Whether it has a network namespace that is not another service's.
    fn has_new_network(&self) -> bool {
        self.service.namespaces.value.network && self.service.network_owner().is_none()
    }

    fn namespaces(&mut self) {
        let network = self.has_new_network();
        self.push(Op::Namespaces(Namespaces { network, ..self.service.namespaces.value }));
        if !self.service.networking.memberships.is_empty() {
            self.push(Op::AnnounceNetwork);
        }
    }

    fn tree(&mut self) {
        let own = self.service.namespaces.value;
        let slots = self.open_sources();
        let devices = self.open_devices();
        let secrets = self.read_secrets();
        let host_sys = (!own.network).then(|| self.open_host_sys());
        self.root();
        let proc = self.fresh(Fresh::Proc);
        let nodes = self.fresh(Fresh::Devices);
        let queues = (!own.ipc).then(|| self.fresh(Fresh::Queues));
        // That of a network which is another's can be made by root of the host only.
        let shared = own.network && !self.has_new_network();
        let ready_sys = host_sys.or_else(|| shared.then(|| self.fresh(Fresh::Sys)));
        self.namespaces();
        self.push(Op::PrivateMounts);
        // As long as the host's is in sight: the kernel shows no more of it than that does.
        let sys = ready_sys.unwrap_or_else(|| self.fresh(Fresh::Sys));
        self.push(Op::ChangeRoot);
        self.push(Op::Proc { slot: proc });
        // Before anything of the unit's can be mounted there.
        self.sysctls();
        self.push(Op::Sys { slot: sys });
        if own.cgroup {
            self.push(Op::CgroupMount);
        }
        self.push(Op::Dev { slot: nodes, queues });
        self.steps.extend(devices);
        if self.service.rootfs.value == Rootfs::Host {
            self.private_directories();
        }
        self.mounts(&slots);
        let files = self.context.files.iter().filter(|(path, _)| !self.is_mounted(path));
        let files: Vec<(String, String)> = files.cloned().collect();
        if !files.is_empty() {
            self.push(Op::Files(files));
        }
        let seen = self.own_in_binds();
        if !seen.is_empty() {
            self.push(Op::Hide { paths: seen });
        }
        if let Some(slot) = secrets {
            let wanted = self.service.secrets.uses.clone();
            let user = self.service.user.as_ref().map(|user| user.value.clone());
            self.push(Op::Secrets { slot, user, wanted });
        }
        if !self.is_mounted(Datagram::Syslog.path()) {
            self.push(Op::Socket(Datagram::Syslog));
        }
        // Nothing can be mounted on that one: the unit reader refuses it.
        if self.service.wants_notify() {
            self.push(Op::Socket(Datagram::Notify));
        }
        self.protected_paths();
        if self.service.writable == Writable::None {
            self.push(Op::ReadOnlyRoot);
        }
    }

    /// Last of all that is mounted, so that no mount lies on top. A mask may lie in what is
    /// read-only, for which nothing needs to be made there.
    fn protected_paths(&mut self) {
        let Security { masked_paths, read_only_paths, .. } = &*self.service.security;
        self.protect(Op::ReadOnly, read_only_paths);
        self.protect(Op::Mask, masked_paths);
    }

    fn protect(&mut self, op: fn(Covered) -> Op, paths: &[At<String>]) {
        // A privileged unit gets back what every other one is kept from, not what it asked for.
        if !self.service.security.privileged {
            self.push(op(Covered::Kernel));
        }
        for At { value: path, line } in paths {
            let op = op(Covered::Path(path.clone()));
            self.steps.push(Step { op, line: *line });
        }
    }

    /// Whether the unit has something of its own there, such as the host's `/dev/log`.
    fn is_mounted(&self, path: &str) -> bool {
        // Paths compare by their parts, so `/dev//log/` is the same.
        self.service.mounts.iter().any(|it| Path::new(&it.value.target) == Path::new(path))
    }

    /// Opens what mounts need of the host; one slot, or none, for each mount.
    fn open_sources(&mut self) -> Vec<Option<usize>> {
        let mut slots = Vec::new();
        for At { value: mount, line } in &self.service.mounts {
            let path = match &mount.source {
                MountSource::Bind { path, .. } => path.clone(),
                MountSource::Volume { name } => format!("{}/volumes/{name}", self.context.state),
                MountSource::Tmpfs { .. } => {
                    slots.push(None);
                    continue;
                }
            };
            let slot = self.slot();
            let Mount { source, target, read_only } = mount.clone();
            let op = Op::Open { slot, source, path, read_only, target };
            self.steps.push(Step { op, line: *line });
            slots.push(Some(slot));
        }
        slots
    }

    /// Opens the nodes of devices, and says which steps put them into `/dev`.
    fn open_devices(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for At { value: device, line } in self.service.security.devices.iter().flatten() {
            let slot = self.slot();
            let op = Op::OpenDevice { slot, path: device.path.clone() };
            self.steps.push(Step { op, line: *line });
            let op = Op::Device { slot, target: device.target.clone() };
            steps.push(Step { op, line: *line });
        }
        steps
    }

    fn sysctls(&mut self) {
        for At { value: Sysctl { path, value }, line } in &self.service.security.sysctls {
            let op = Op::Sysctl { path: path.clone(), value: value.clone() };
            self.steps.push(Step { op, line: *line });
        }
    }

    /// Reads the values of its secrets, before its own tree hides where they are.
    fn read_secrets(&mut self) -> Option<usize> {
        let service = self.service;
        if service.secrets.uses.is_empty() {
            return None;
        }
        let slot = self.slot();
        self.push(Op::SecretsMemory { slot });
        for At { value: wanted, line } in &service.secrets.uses {
            let (state, wanted) = (self.context.state.to_owned(), wanted.clone());
            self.steps.push(Step { op: Op::Secret { slot, state, wanted }, line: *line });
        }
        Some(slot)
    }

    fn open_host_sys(&mut self) -> usize {
        let slot = self.slot();
        let path = "/sys".to_owned();
        let propagation = Propagation::Private;
        let source = MountSource::Bind { path: path.clone(), propagation, recursive: false };
        self.push(Op::Open { slot, source, path: path.clone(), read_only: true, target: path });
        slot
    }

    fn root(&mut self) {
        let At { value: rootfs, line } = &self.service.rootfs;
        let writable = self.service.writable;
        let lower = match rootfs {
            Rootfs::Host => "/".to_owned(),
            Rootfs::Directory(path) => path.clone(),
        };
        let op = match (writable, rootfs) {
            (Writable::Direct, Rootfs::Directory(path)) => Op::Direct { path: path.clone() },
            (Writable::Persistent, _) => {
                let upper = format!("{}/overlay/{}", self.context.state, self.name);
                Op::Overlay { lower, upper: Upper::Directory(upper), bind_will_do: false }
            }
            (Writable::Ephemeral | Writable::None | Writable::Direct, _) => {
                let bind_will_do = writable == Writable::None;
                Op::Overlay { lower, upper: Upper::Memory, bind_will_do }
            }
        };
        self.steps.push(Step { op, line: *line });
        if *rootfs == Rootfs::Host {
            self.push(Op::HostMounts { except: self.not_for_units() });
        }
    }

    /// What of the host's tree no unit sees.
    fn not_for_units(&self) -> Vec<String> {
        let private = PRIVATE.iter().map(|path| (*path).to_owned());
        private.chain(self.hidden()).collect()
    }

    fn hidden(&self) -> Vec<String> {
        // What another supervisor keeps is as little of this unit's business as what its own
        // does.
        let mut all = vec![self.context.runtime, self.context.state, DEFAULT_STATE];
        all.sort_unstable();
        all.dedup();
        let all = all.into_iter();
        all.filter(|path| !PRIVATE.iter().any(|private| is_at_or_below(path, private)))
            .map(str::to_owned)
            .collect()
    }

    /// Where a directory of the host that the unit is shown has berth's own directories somewhere
    /// below: nobody asked for that. What is bound by its own path, or shared with the host, is
    /// left.
    fn own_in_binds(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for At { value: mount, .. } in &self.service.mounts {
            let MountSource::Bind { path, propagation, .. } = &mount.source else { continue };
            if *propagation == Propagation::Shared {
                continue;
            }
            let top = path.trim_end_matches('/');
            for own in [self.context.runtime, self.context.state, DEFAULT_STATE] {
                let below = own.strip_prefix(top).filter(|rest| rest.starts_with('/'));
                let inside = below.map(|rest| format!("{}{rest}", mount.target));
                seen.extend(inside.filter(|path| !seen.contains(path)));
            }
        }
        seen
    }

    fn private_directories(&mut self) {
        for (target, mode) in [("/tmp", 0o1777), ("/run", 0o755)] {
            let target = target.to_owned();
            self.push(Op::Tmpfs { target, size: None, mode, read_only: false });
        }
        let paths = self.hidden();
        if !paths.is_empty() {
            self.push(Op::Hide { paths });
        }
    }

    fn mounts(&mut self, slots: &[Option<usize>]) {
        for (At { value: mount, line }, slot) in self.service.mounts.iter().zip(slots) {
            let Mount { source, target, read_only } = mount.clone();
            let op = match (&source, *slot) {
                (MountSource::Tmpfs { size, mode }, _) => {
                    Op::Tmpfs { target, size: *size, mode: *mode, read_only }
                }
                (_, Some(slot)) => Op::Attach { slot, source, target },
                (_, None) => continue,
            };
            self.steps.push(Step { op, line: *line });
        }
    }
}

/// Whether an absolute path is another or lies below it.
pub fn is_at_or_below(path: &str, top: &str) -> bool {
    let top = top.trim_end_matches('/');
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The kernel takes 64 bytes; a unit's name is not longer, but an instance's `@` and other
/// signs that no host name has become dashes.
fn host_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    name.chars().map(legal).take(64).collect()
}
