//! The second list of a plan: what makes the unit's own world, once a run.
//!
//! What must hold is said in the module above.

use std::path::Path;

use super::super::capabilities::Grant;
use super::super::step::{Covered, Datagram, Fresh, Op, Step, UNPRIVILEGED_PORTS, Upper};
use super::{Context, DEFAULT_STATE, is_at_or_below, plain};
use crate::sys::capability;
use crate::unit::model::{
    At, Mount, MountSource, Namespaces, Propagation, Rootfs, Security, Service, Sysctl,
    UserNamespace, Writable,
};
use crate::unit::names;

/// Directories of the host's tree that a unit has of its own.
const PRIVATE: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Builds the steps of the unit's own world.
pub(super) struct Sandbox<'a> {
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    pub(super) context: &'a Context<'a>,
    pub(super) name: &'a str,
    pub(super) service: &'a Service,
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

    /// All of it.
    pub(super) fn compile(&mut self) {
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
                Some(name) => (name.value.clone(), name.line),
                None => (names::host_name(self.name), 0),
            };
            self.steps.push(Step { op: Op::HostName(name), line });
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
        self.push(Op::FindOwn { names: self.own_directories() });
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
        let writable = self.writes_to_kernel();
        let kind = Fresh::Sys { writable, hosts: None };
        let ready_sys = host_sys.or_else(|| shared.then(|| self.fresh(kind)));
        let hosts = ready_sys.is_none().then(|| self.spare_sys()).flatten();
        let locks = self.could_change_mounts();
        if locks {
            self.push(Op::PutTogether);
        }
        self.namespaces();
        if locks {
            self.push(Op::TakeLocked);
        }
        self.push(Op::PrivateMounts);
        // As long as the host's is in sight: the kernel shows no more of it than that does.
        let sys = ready_sys.unwrap_or_else(|| self.fresh(Fresh::Sys { writable, hosts }));
        self.push(Op::ChangeRoot);
        self.push(Op::Proc { slot: proc });
        // Before anything of the unit's can be mounted there.
        self.sysctls();
        self.push(Op::Sys { slot: sys });
        if own.cgroup {
            let writable = writable || self.service.limits.delegates();
            self.push(Op::CgroupMount { writable });
        }
        self.push(Op::Dev { slot: nodes, queues });
        self.steps.extend(devices);
        if self.service.rootfs.value == Rootfs::Host {
            self.private_directories();
        }
        // Before what is asked for, which may be some of it.
        self.push(Op::HideOwn);
        self.mounts(&slots);
        let files = self.context.files.iter().filter(|(path, _)| !self.is_mounted(path));
        let files: Vec<(String, String)> = files.cloned().collect();
        if !files.is_empty() {
            self.push(Op::Files(files));
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

    /// Whether it gets back what is read-only for every other unit. Root of a user namespace
    /// could change nothing there anyway.
    fn writes_to_kernel(&self) -> bool {
        self.service.security.privileged && *self.service.user_namespace() == UserNamespace::None
    }

    /// Whether root of its user namespace has power over its mounts.
    fn could_change_mounts(&self) -> bool {
        let admin = |grant: Grant| grant.root.0 & capability::SYS_ADMIN != 0;
        *self.service.user_namespace() != UserNamespace::None
            && Grant::of(self.service).is_none_or(|(grant, _)| admin(grant))
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

    /// Who can do without a `/sys` of its own network may get the host's.
    fn spare_sys(&mut self) -> Option<usize> {
        let own_users = *self.service.user_namespace() != UserNamespace::None;
        let wanted = own_users && !self.service.limits.strict;
        wanted.then(|| {
            let slot = self.slot();
            self.push(Op::SpareSys { slot });
            slot
        })
    }

    fn sysctls(&mut self) {
        let asked = |at: &At<Sysctl>| at.value.path == UNPRIVILEGED_PORTS;
        if self.has_new_network() && !self.service.security.sysctls.iter().any(asked) {
            self.push(Op::UnprivilegedPorts);
        }
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
        let read_only = !self.writes_to_kernel();
        self.push(Op::Open { slot, source, path: path.clone(), read_only, target: path });
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
        let own = self.own_directories();
        let own = own.into_iter();
        let own = own.filter(|path| !PRIVATE.iter().any(|private| is_at_or_below(path, private)));
        PRIVATE.iter().map(|path| (*path).to_owned()).chain(own).collect()
    }

    /// What another supervisor keeps is as little of this unit's business as what its own does.
    fn own_directories(&self) -> Vec<String> {
        let mut all = vec![self.context.runtime, self.context.state, DEFAULT_STATE];
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(str::to_owned).collect()
    }

    fn private_directories(&mut self) {
        for (target, mode) in [("/tmp", 0o1777), ("/run", 0o755)] {
            let target = target.to_owned();
            self.push(Op::Tmpfs { target, size: None, mode, read_only: false });
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
            let is_bind = matches!(op, Op::Attach { source: MountSource::Bind { .. }, .. });
            self.steps.push(Step { op, line: *line });
            if is_bind {
                self.push(Op::HideOwn);
            }
        }
    }
}
