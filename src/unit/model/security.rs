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
use super::{At, Capabilities};

/// What a service's processes may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// `PR_SET_NO_NEW_PRIVS`; default true.
    pub no_new_privileges: bool,
    /// What its processes may do of what only root may.
    pub capabilities: Capabilities,
    /// A container that has all capabilities; then `capabilities` is the default.
    pub privileged: bool,
    /// Absolute paths inside its root that it does not see, besides the default ones.
    pub masked_paths: Vec<At<String>>,
    /// Absolute paths inside its root that it cannot write, besides the default ones.
    pub read_only_paths: Vec<At<String>>,
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
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        devices: None,
        sysctls: Vec::new(),
    };
}

impl Security {
    /// Calls `f` for every string that a person wrote, for templates. All fields are named,
    /// so that a new one cannot be forgotten.
    pub fn strings(&mut self, f: &mut dyn FnMut(&mut String)) {
        let Self {
            no_new_privileges: _,
            capabilities: _,
            privileged: _,
            masked_paths,
            read_only_paths,
            devices,
            sysctls,
        } = self;
        for path in masked_paths.iter_mut().chain(read_only_paths) {
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
