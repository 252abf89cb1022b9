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
        nofile: None,
        nproc: None,
        core: None,
        nice: None,
        oom_score_adjust: None,
        strict: false,
    };
}
