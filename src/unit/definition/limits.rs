//! `[service.NAME.limits]` of a definition.

use serde_json::{Value, json};

use super::{Table, placed, size};
use crate::unit::model::{IoMax, IoUse, Limits, Oom};

pub(super) fn limiting(limits: &Limits) -> Value {
    let Limits {
        memory,
        memory_high,
        swap,
        cpu_milli,
        cpu_weight,
        cpuset,
        pids,
        io_weight,
        io_max,
        oom,
        delegate,
        nofile,
        nproc,
        core,
        nice,
        oom_score_adjust,
        strict,
    } = limits;
    let mut table = Table::default();
    let or_unlimited = |value: u64| {
        if value == u64::MAX { json!("unlimited") } else { json!(value) }
    };
    for (key, at) in [("memory", memory), ("memory-high", memory_high), ("swap", swap)] {
        table.some(key, at.as_ref().map(|at| placed(at, size(at.value))));
    }
    let numbers = [
        ("cpu-weight", cpu_weight),
        ("pids", pids),
        ("io-weight", io_weight),
        ("nofile", nofile),
        ("nproc", nproc),
        ("core", core),
    ];
    for (key, at) in numbers {
        table.some(key, at.as_ref().map(|at| placed(at, or_unlimited(at.value))));
    }
    // Way below 2^53, so that the division loses nothing.
    let cpus = |milli: u64| f64::from(u32::try_from(milli).unwrap_or(u32::MAX)) / 1000.0;
    table.some("cpu", cpu_milli.as_ref().map(|at| placed(at, cpus(at.value))));
    table.some("cpuset", cpuset.as_ref().map(|at| placed(at, at.value.as_str())));
    table.some("nice", nice.as_ref().map(|at| placed(at, at.value)));
    table.some("oom-score-adjust", oom_score_adjust.as_ref().map(|at| placed(at, at.value)));
    let io_max: Vec<Value> = io_max.iter().map(|at| placed(at, io_text(&at.value))).collect();
    table.put("io-max", io_max);
    let word = |oom| Oom::ALL.iter().find(|(_, known)| *known == oom).map(|(word, _)| *word);
    table.some("oom", oom.as_ref().map(|at| placed(at, word(at.value))));
    table.some("delegate", delegate.as_ref().map(|at| placed(at, at.value)));
    table.put("strict", *strict);
    Value::Object(table.0)
}

/// As an entry of `io-max` is written.
fn io_text(io: &IoMax) -> String {
    let name = IoUse::ALL.iter().find(|(_, what)| *what == io.what).map_or("", |(name, _)| name);
    format!("{} {name}={}", io.device, io.most)
}
