//! `mounts = […]`: what a unit sees besides its root tree.

use serde::{Deserialize, Serialize};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the unit's root, without `..`.
    pub target: String,
    /// Not writable through this mount.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A host path.
    Bind {
        /// Absolute host path.
        path: String,
        /// Whether mounts made later travel.
        propagation: Propagation,
        /// Take the mounts below it too (default true).
        recursive: bool,
    },
    /// A named volume, made on first use.
    Volume {
        /// Name of the volume.
        name: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None`: the kernel's default of half the memory.
        size: Option<u64>,
        /// Mode of its root, default 0o1777.
        mode: u32,
    },
}

/// See `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// No events in either direction.
    #[default]
    Private,
    /// The host's later mounts appear inside.
    Slave,
    /// Both directions.
    Shared,
}
