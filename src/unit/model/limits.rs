//! `[service.NAME.limits]`: cgroup and rlimits. Most services set none: see [`Rare`].

use serde::{Deserialize, Serialize};

use super::At;
#[cfg(doc)]
use super::Rare;
use super::rare::Unset;

/// cgroup and resource limits; `None`: as inherited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<At<u64>>,
    /// Bytes; throttled above it.
    pub memory_high: Option<At<u64>>,
    /// Bytes of swap on top.
    pub swap: Option<At<u64>>,
    /// Thousandths of a CPU.
    pub cpu_milli: Option<At<u64>>,
    /// 1 to 10000, default 100.
    pub cpu_weight: Option<At<u64>>,
    /// cpuset(7) list format, checked.
    pub cpuset: Option<At<String>>,
    /// Processes and threads.
    pub pids: Option<At<u64>>,
    /// 1 to 10000, default 100.
    pub io_weight: Option<At<u64>>,
    /// What disks may be used for, each device and each kind of use once.
    pub io_max: Vec<At<IoMax>>,
    /// Who dies for lack of memory.
    pub oom: Option<At<Oom>>,
    /// Whether it makes control groups of its own.
    pub delegate: Option<At<bool>>,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub nofile: Option<At<u64>>,
    /// `RLIMIT_NPROC`.
    pub nproc: Option<At<u64>>,
    /// `RLIMIT_CORE` in bytes.
    pub core: Option<At<u64>>,
    /// -20 to 19.
    pub nice: Option<At<i32>>,
    /// -1000 to 1000.
    pub oom_score_adjust: Option<At<i32>>,
    /// A limit this host cannot enforce is refused instead of only reported.
    pub strict: bool,
}

impl Limits {
    /// Whether the unit makes control groups of its own.
    pub fn delegates(&self) -> bool {
        self.delegate.as_ref().is_some_and(|at| at.value)
    }
}

/// How much of one kind of use of a disk is allowed in a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// Path of a block device.
    pub device: String,
    /// Of what.
    pub what: IoUse,
    /// How much.
    pub most: u64,
}

/// What a disk is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoUse {
    /// Bytes read.
    Read,
    /// Bytes written.
    Write,
    /// Reads.
    ReadOps,
    /// Writes.
    WriteOps,
}

impl IoUse {
    /// Each, with its name in a unit file.
    pub const ALL: [(&'static str, Self); 4] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("read-ops", Self::ReadOps),
        ("write-ops", Self::WriteOps),
    ];
}

/// Who dies when the kernel must kill for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oom {
    /// One process, as the kernel chooses.
    KillProcess,
    /// All of the unit.
    KillUnit,
}

impl Oom {
    /// Each, with its name in a unit file.
    pub const ALL: [(&'static str, Self); 2] =
        [("kill-process", Self::KillProcess), ("kill-unit", Self::KillUnit)];
}

impl Unset for Limits {
    const UNSET: &'static Self = &Self {
        memory: None,
        memory_high: None,
        swap: None,
        cpu_milli: None,
        cpu_weight: None,
        cpuset: None,
        pids: None,
        io_weight: None,
        io_max: Vec::new(),
        oom: None,
        delegate: None,
        nofile: None,
        nproc: None,
        core: None,
        nice: None,
        oom_score_adjust: None,
        strict: false,
    };
}
