//! `[service.NAME.security]`: what a service's processes may do, and what is kept from
//! them. Most services set nothing: see [`Rare`].
//!
//! What must always hold: the value of [`Unset`] is the safest that an ordinary daemon can
//! live with.

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Rare;
use super::rare::Unset;
use super::{At, Capabilities, Filter, Namespaces, Seccomp, UserNamespace};

/// What a service's processes may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// `PR_SET_NO_NEW_PRIVS`; default true.
    pub no_new_privileges: bool,
    /// What its processes may do of what only root may.
    pub capabilities: Capabilities,
    /// A container that has all capabilities; then `capabilities` is the default.
    pub privileged: bool,
    /// Whose numbers its users are on the host.
    pub user_namespace: UserNamespace,
    /// Which system calls; `None`: the default profile for a container that is not
    /// privileged, else any. See [`Security::filter`].
    pub seccomp: Option<At<Seccomp>>,
    /// Absolute paths inside its root that it does not see, besides the default ones.
    pub masked_paths: Vec<At<String>>,
    /// Absolute paths inside its root that it cannot write, besides the default ones.
    pub read_only_paths: Vec<At<String>>,
    /// Absolute paths inside its root beneath which alone it can write.
    pub writable_paths: Option<Vec<At<String>>>,
    /// Name of an AppArmor profile, or `unconfined`; as inherited when `None`.
    pub apparmor: Option<At<String>>,
    /// SELinux context, or its type alone; as inherited when `None`.
    pub selinux: Option<At<String>>,
    /// Devices it may use besides the standard ones; `None`: not said, which matters only
    /// without a mount namespace, where then nothing is kept from it.
    pub devices: Option<Vec<At<Device>>>,
    /// Settings of its own namespaces.
    pub sysctls: Vec<At<Sysctl>>,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its node on the host, below `/dev`.
    pub path: String,
    /// Its node inside, below `/dev`.
    pub target: String,
    /// Whether it may be read.
    pub read: bool,
    /// Whether it may be written.
    pub write: bool,
    /// Whether further nodes of it may be made.
    pub mknod: bool,
}

/// A setting of the kernel that each namespace has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Where, below `/proc/sys`; without `..`, without a slash at either end.
    pub path: String,
    /// What is written there.
    pub value: String,
}

impl fmt::Display for Device {
    /// As a unit file says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.target != self.path {
            write!(f, ":{}", self.target)?;
        }
        let letters = [(self.read, "r"), (self.write, "w"), (self.mknod, "m")];
        f.write_str(":")?;
        letters.iter().filter(|(on, _)| *on).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

impl Sysctl {
    /// Its name as sysctl(8) writes it.
    pub fn name(&self) -> String {
        let swapped = |c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        };
        self.path.chars().map(swapped).collect()
    }
}

impl Default for Security {
    fn default() -> Self {
        Self::UNSET.clone()
    }
}

impl Unset for Security {
    const UNSET: &'static Self = &Self {
        no_new_privileges: true,
        capabilities: Capabilities::Default,
        privileged: false,
        user_namespace: UserNamespace::Unset,
        seccomp: None,
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        devices: None,
        sysctls: Vec::new(),
        writable_paths: None,
        apparmor: None,
        selinux: None,
    };
}

impl Security {
    /// What filters its system calls, and the line that says so (0: none does).
    pub fn filter(&self, own: Namespaces) -> Option<At<Filter>> {
        match &self.seccomp {
            Some(at) => Some(At { value: at.value.filter()?, line: at.line }),
            None if own.mount && !self.privileged => Some(At::default_value(Filter::Default)),
            None => None,
        }
    }

    /// Calls `f` for every string that a person wrote, for templates. All fields are named,
    /// so that a new one cannot be forgotten.
    pub fn strings(&mut self, f: &mut dyn FnMut(&mut String)) {
        let Self {
            no_new_privileges: _,
            capabilities: _,
            privileged: _,
            user_namespace: _,
            // Read before there are instances; the path of a template holds no `%i`.
            seccomp: _,
            masked_paths,
            read_only_paths,
            devices,
            sysctls,
            writable_paths,
            apparmor,
            selinux,
        } = self;
        let lists = [masked_paths, read_only_paths].into_iter().chain(writable_paths);
        for path in lists.flatten().chain(apparmor).chain(selinux) {
            f(&mut path.value);
        }
        for device in devices.iter_mut().flatten() {
            f(&mut device.value.path);
            f(&mut device.value.target);
        }
        for sysctl in sysctls {
            f(&mut sysctl.value.path);
            f(&mut sysctl.value.value);
        }
    }
}
