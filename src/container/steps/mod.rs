//! Carrying steps out, inside the child: one function for each [`Op`].

mod capabilities;
mod dev;
mod devices;
mod fence;
mod kernel;
mod label;
mod lock;
mod mounts;
mod namespaces;
mod network;
mod overlay;
mod own;
mod paths;
mod process;
mod root;
mod seccomp;
mod secrets;

use std::os::fd::{BorrowedFd, OwnedFd};

pub use namespaces::Membership;

use super::environment::{self, Variables};
use super::launch::Exec;
use super::plan::Plan;
use super::status::{self, Failure};
use super::step::{Datagram, Op};
use super::users::Identity;
use crate::sys::capability::Held;
use crate::sys::{namespace, net, socket};
pub use seccomp::Gate;

/// What steps leave for later ones.
pub struct State<'a> {
    channel: BorrowedFd<'a>,
    plan: &'a Plan,
    /// `cgroup.procs` of the version 1 groups to join; empty once joined.
    procs: Vec<OwnedFd>,
    /// Opened sources, until they are attached.
    slots: Vec<Option<mounts::Source>>,
    /// The unit's own root, until it is the root.
    root: Option<root::Tree>,
    /// Copies of the host's further mounts and where they go, until the root changes.
    host_mounts: Vec<(String, OwnedFd)>,
    /// Whether it has entered the network that it shares.
    in_network: bool,
    /// Directories of volumes that were made by this process.
    new_volumes: Vec<String>,
    /// The unit's user namespace.
    pub users: Membership,
    /// What no unit is to see.
    own: own::Own,
    /// Where its terminal is made, if it is to have one that the unit does not see.
    terminals: Option<OwnedFd>,
    /// Mounts whose files it sees as nobody's.
    unmapped: Vec<String>,
    /// What protects paths.
    covers: paths::Covers,
    /// From the environment files.
    files: Variables,
    /// Where labels of security modules are written.
    labels: label::Files,
    /// What the supervisor has and can give.
    held: Held,
    /// Secrets that the supervisor's environment brought, if they are needed.
    pub vault: Option<OwnedFd>,
    /// Who the process is.
    identity: Identity,
    /// For `berthctl exec`.
    pub exec: Option<&'a Exec>,
}

impl<'a> State<'a> {
    /// Before the first step.
    pub fn new(channel: BorrowedFd<'a>, plan: &'a Plan, procs: Vec<OwnedFd>, held: Held) -> Self {
        Self {
            channel,
            plan,
            procs,
            slots: (0..plan.slots).map(|_| None).collect(),
            root: None,
            host_mounts: Vec::new(),
            in_network: false,
            new_volumes: Vec::new(),
            users: Membership::default(),
            own: own::Own::default(),
            terminals: None,
            unmapped: Vec::new(),
            covers: paths::Covers::default(),
            files: Variables::new(),
            labels: label::Files::default(),
            held,
            vault: None,
            identity: Identity::root(),
            exec: None,
        }
    }

    /// The environment of the program.
    pub fn variables(&self) -> Variables {
        let own = environment::of_identity(&self.identity);
        let exec = self.exec.map(|exec| exec.environment.as_slice()).unwrap_or_default();
        let plan = self.plan;
        environment::merge([&own, &plan.environment, &self.files, exec, &plan.fixed])
    }

    /// Carries out one step.
    ///
    /// # Errors
    /// What the kernel answered, and a hint where there is one.
    pub fn carry_out(&mut self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::JoinGroups => self.join_groups(),
            Op::EnvironmentFile { path, optional } => self.environment_file(path, *optional),
            Op::OomScore(score) => process::oom_score(*score),
            Op::Allow(resource, value) => process::allow(*resource, *value),
            Op::Namespaces(own) => self.namespaces(*own),
            Op::Fresh { slot, kind } => self.fresh(*slot, *kind),
            Op::Open { slot, source, path, read_only, .. } => {
                self.open(*slot, source, path, *read_only)
            }
            Op::SpareSys { slot } => self.spare_sys(*slot),
            Op::SecretsMemory { slot } => self.secrets_memory(*slot),
            Op::Secret { slot, state, wanted } => self.secret(*slot, state, wanted),
            Op::Secrets { slot, user, wanted } => self.attach_secrets(*slot, user.as_ref(), wanted),
            Op::PutTogether => self.put_together(),
            Op::TakeLocked => self.take_locked(),
            Op::PrivateMounts => root::private_mounts(),
            Op::Overlay { lower, upper, bind_will_do } => {
                self.root = Some(self.overlay(lower, upper, *bind_will_do)?);
                Ok(())
            }
            Op::Direct { path } => {
                self.root = Some(self.direct(path)?);
                Ok(())
            }
            Op::HostMounts { except } => self.host_mounts(except),
            Op::ChangeRoot => self.change_root(),
            Op::FindOwn { names } => self.find_own(names),
            Op::HideOwn => self.hide_own(),
            Op::Proc { slot } => self.put_slot(*slot, "/proc"),
            Op::Sys { slot } => self.put_slot(*slot, "/sys"),
            Op::CgroupMount { writable } => mounts::cgroup(*writable),
            Op::Dev { slot, queues } => self.dev(*slot, *queues),
            Op::OpenDevice { slot, path } => self.open_device(*slot, path),
            Op::UnprivilegedPorts => kernel::unprivileged_ports(),
            Op::Sysctl { path, value } => kernel::sysctl(path, value),
            Op::Terminals => self.own_terminals(),
            Op::Tmpfs { target, size, mode, read_only } => {
                mounts::tmpfs(target, *size, *mode, *read_only)
            }
            Op::Attach { slot, target, .. } => self.attach(*slot, target),
            Op::Device { slot, target } => self.device(*slot, target),
            Op::Socket(kind) => self.socket(*kind),
            Op::Mask(covered) => self.covers.mask(covered),
            Op::ReadOnly(covered) => self.covers.read_only(covered),
            Op::ReadOnlyRoot => root::read_only(),
            Op::HostName(name) => Ok(namespace::set_host_name(name)?),
            Op::Loopback => Ok(net::loopback_up()?),
            // When it had to begin again it is in there already.
            Op::ShareNetwork if self.in_network => Ok(()),
            Op::ShareNetwork => {
                self.in_network = true;
                network::share(self.channel)
            }
            Op::AnnounceNetwork => Ok(status::send_has_network(self.channel)?),
            Op::AwaitNetwork => network::wait(self.channel),
            Op::Files(files) => network::files(files),
            Op::Disarm => self.disarm(),
            Op::Session => self.session(),
            Op::Keyring => process::keyring(),
            Op::Limit(resource, value) => process::limit(*resource, *value),
            Op::Nice(value) => process::nice(*value),
            Op::Umask(mask) => {
                crate::sys::identity::set_umask(*mask);
                Ok(())
            }
            Op::Bound(grant) => self.bound(*grant),
            Op::User(user) => self.become_user(user.as_ref()),
            Op::Capabilities(grant) => self.capabilities(*grant),
            Op::WorkingDirectory(path) => self.working_directory(path),
            Op::OpenLabel(label) => self.open_label(label),
            Op::Label(label) => self.label(label),
            Op::Fence(fence) => fence::put(fence),
            Op::NoNewPrivileges => Ok(crate::sys::identity::no_new_privileges()?),
        }
    }

    /// Binds a socket inside and sends it to the supervisor.
    fn socket(&self, kind: Datagram) -> Result<(), Failure> {
        let path = std::path::Path::new(kind.path());
        let socket = socket::bind_datagram(path)?;
        let fd = std::os::fd::AsFd::as_fd(&socket);
        Ok(status::send_socket(self.channel, kind.into(), fd)?)
    }
}
