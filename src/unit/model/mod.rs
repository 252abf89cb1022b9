//! The typed units: what is left of a unit file once it has been checked.
//!
//! This is the only language the supervisor, the containers and the logger speak about
//! units. It is plain data: it is sent from the forked reader to the supervisor as
//! bytes, compared by `apply` to find what changed, and never changed in place.
//! A value that a start can fail on carries the line that asked for it ([`At`]), so
//! that the error can name it.

mod health;
mod limits;
mod log;
mod mount;
mod network;
mod rare;
mod seccomp;
pub mod secret;
mod security;
mod service;
mod user_namespace;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::capability::{Capabilities, CapabilitySet};
pub use super::shared::Shared;
pub use health::{Health, HealthCheck};
pub use limits::{IoMax, IoUse, Limits, Oom};
pub use log::{Log, LogDriver};
pub use mount::{Mount, MountSource, Propagation};
pub use network::{Driver, Membership, Network, Networking, PORTS_MAX, Port, Protocol, Subnet};
pub use rare::{Rare, Unset};
pub use seccomp::{Filter, Seccomp};
pub use secret::{Secret, SecretSource, SecretUse, Secrets};
pub use security::{Device, Security, Sysctl};
pub use service::{
    ExitMatch, Id, Namespaces, Ready, Restart, RestartPolicy, Rootfs, Service, User, Writable,
};
pub use user_namespace::{IdMaps, IdRange, UserNamespace};

/// A value and the line of the unit file (from 1) that gave it; 0 when it is a default.
///
/// Equality ignores the line: a unit that only moved within its file did not change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct At<T> {
    /// The value itself.
    pub value: T,
    /// Line in [`Unit::file`], from 1; 0 for a default.
    pub line: u32,
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> At<T> {
    /// A value that no line asked for.
    pub const fn default_value(value: T) -> Self {
        Self { value, line: 0 }
    }
}

/// Everything that was read: the units, the volumes and who goes by which name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitSet {
    /// Services and targets, sorted by name, names unique. Holds an entry for every
    /// name that another unit refers to, and always the target `default`.
    pub units: Vec<Arc<Unit>>,
    /// Named volumes, sorted; those only mentioned in a mount are here too.
    pub volumes: Vec<String>,
    /// Networks, sorted by name.
    pub networks: Vec<Network>,
    /// Secrets, sorted by name, also those that no service uses.
    pub secrets: Vec<Secret>,
    /// Templates (`name@`), from which an instance `name@x` is made when it is asked for.
    pub templates: Vec<Unit>,
}

/// One service or target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unit {
    /// Unique among services and targets, `[A-Za-z0-9][A-Za-z0-9_.@-]*`, at most 64 bytes.
    pub name: String,
    /// The file it came from, as the user named it; empty for a synthetic target.
    pub file: String,
    /// Line of its `[kind.name]` header, from 1; 0 for a synthetic target.
    pub line: u32,
    /// One line for people; may be empty.
    pub description: String,
    /// Started too, must be ready first, and stops with it.
    pub requires: Vec<String>,
    /// As `requires`, but a failure is no obstacle.
    pub wants: Vec<String>,
    /// Order only, and only if both are wanted.
    pub after: Vec<String>,
    /// Order only, the other way round.
    pub before: Vec<String>,
    /// Never up together: starting one stops the other.
    pub conflicts: Vec<String>,
    /// Targets that want this unit (reverse `wants`).
    pub wanted_by: Vec<String>,
    /// What it is.
    pub kind: Kind,
}

impl PartialEq for Unit {
    /// Equality of what the unit does; where it was written is left out.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.description == other.description
            && self.requires == other.requires
            && self.wants == other.wants
            && self.after == other.after
            && self.before == other.before
            && self.conflicts == other.conflicts
            && self.wanted_by == other.wanted_by
            && self.kind == other.kind
    }
}

impl Unit {
    /// A target without any links.
    pub fn new(name: &str, file: &str, line: u32) -> Self {
        Self {
            name: name.to_owned(),
            file: file.to_owned(),
            line,
            description: String::new(),
            requires: Vec::new(),
            wants: Vec::new(),
            after: Vec::new(),
            before: Vec::new(),
            conflicts: Vec::new(),
            wanted_by: Vec::new(),
            kind: Kind::Target,
        }
    }

    /// The service's settings, if it is one.
    pub fn service(&self) -> Option<&Service> {
        match &self.kind {
            Kind::Service(service) => Some(service),
            Kind::Target => None,
        }
    }
}

/// What a unit is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Runs a command.
    Service(Box<Service>),
    /// Runs nothing: ready when all it requires is.
    Target,
}
