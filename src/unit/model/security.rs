//! `[service.NAME.security]`: what a service's processes may do, and what is kept from
//! them. Most services set nothing: see [`Rare`].
//!
//! What must always hold: the value of [`Unset`] is the safest that an ordinary daemon can
//! live with.

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
            writable_paths,
            apparmor,
            selinux,
        } = self;
        let lists = [masked_paths, read_only_paths].into_iter().chain(writable_paths);
        for path in lists.flatten().chain(apparmor).chain(selinux) {
            f(&mut path.value);
        }
    }
}
