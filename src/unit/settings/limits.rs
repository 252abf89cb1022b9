//! `[service.NAME.limits]`

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::syntax::{Node, Value};

const SERVICE: &[Section] = &[Section::Service];
const LIMITS: &[Section] = &[Section::Limits];
const SIZE: &str = "size";
const NUMBER: &str = "whole number";
const BAD_SIZES: &[&str] = &["\"lots\"", "-1", "0", "true", "\"99999999999999G\""];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "limits", "table", "{}", |d, v, cx| {
        if let Some(table) = value::table(v, cx) {
            super::apply(Section::Limits, table, d, cx);
        }
    })
    .help("See [limits](#servicenamelimits).")
    .good(&["{ memory = \"256M\" }"])
    .bad(&["[]", "{ memroy = 1 }"]),
    Setting::new(LIMITS, "memory", SIZE, "none", |d, v, cx| {
        let size = value::positive_size(v, cx);
        value::put_at(&mut d.service.limits.memory, v, size, cx);
    })
    .help("The most memory all its processes may use; beyond it the kernel kills.")
    .good(&["\"256M\"", "1048576"])
    .bad(BAD_SIZES),
    Setting::new(LIMITS, "memory-high", SIZE, "none", |d, v, cx| {
        let size = value::positive_size(v, cx);
        value::put_at(&mut d.service.limits.memory_high, v, size, cx);
    })
    .help("Above this its processes are slowed down and memory is taken back.")
    .good(&["\"200M\""])
    .bad(BAD_SIZES),
    Setting::new(LIMITS, "swap", SIZE, "none", |d, v, cx| {
        let size = value::size(v, cx);
        value::put_at(&mut d.service.limits.swap, v, size, cx);
    })
    .help("The most swap it may use besides.")
    .good(&["0", "\"1G\""])
    .bad(&["-1", "\"some\"", "1.5"]),
    Setting::new(LIMITS, "cpu", "number of CPUs", "none", |d, v, cx| {
        let milli = cpu(v, cx);
        value::put_at(&mut d.service.limits.cpu_milli, v, milli, cx);
    })
    .help("The most CPU time it may use, in CPUs.")
    .good(&["0.5", "2"])
    .bad(&["0", "-1", "0.001", "nan", "inf", "\"half\"", "100000"]),
    Setting::new(LIMITS, "cpu-weight", NUMBER, "100", |d, v, cx| {
        let weight = value::number(v, 1, 10_000, cx);
        value::put_at(&mut d.service.limits.cpu_weight, v, weight, cx);
    })
    .help("Its share when CPUs are scarce, 1 to 10000.")
    .good(&["200"])
    .bad(&["0", "10001", "\"1\""]),
    Setting::new(LIMITS, "cpuset", "list of CPUs", "all", |d, v, cx| {
        let set = cpuset(v, cx);
        value::put_at(&mut d.service.limits.cpuset, v, set, cx);
    })
    .help("The CPUs it may run on, as in cpuset(7).")
    .good(&["\"0-1,3\"", "\"0\""])
    .bad(&["\"\"", "\"1-0\"", "\"0,\"", "\"a\"", "\"9999\"", "0"]),
    Setting::new(LIMITS, "pids", "whole number | \"unlimited\"", "2048, see below", |d, v, cx| {
        let pids = match &v.value {
            Value::String(text) if text == "unlimited" => Some(u64::MAX),
            _ => value::number(v, 1, 4_194_304, cx),
        };
        value::put_at(&mut d.service.limits.pids, v, pids, cx);
    })
    .help(
        "The most processes and threads. By default a service with a mount namespace of its \
         own has at most 2048, others as many as the host allows.",
    )
    .good(&["200", "\"unlimited\""])
    .bad(&["0", "\"200\"", "-1"]),
    Setting::new(LIMITS, "io-weight", NUMBER, "100", |d, v, cx| {
        let weight = value::number(v, 1, 10_000, cx);
        value::put_at(&mut d.service.limits.io_weight, v, weight, cx);
    })
    .help("Its share when disks are busy, 1 to 10000.")
    .good(&["50"])
    .bad(&["0", "10001"]),
    Setting::new(LIMITS, "nofile", NUMBER, "as inherited", |d, v, cx| {
        let files = value::number(v, 1, 1_073_741_816, cx);
        value::put_at(&mut d.service.limits.nofile, v, files, cx);
    })
    .help("Open files of one process (`RLIMIT_NOFILE`).")
    .good(&["65536"])
    .bad(&["0", "\"many\""]),
    Setting::new(LIMITS, "nproc", "whole number | \"unlimited\"", "as inherited", |d, v, cx| {
        let processes = match &v.value {
            Value::String(text) if text == "unlimited" => Some(u64::MAX),
            _ => value::number(v, 1, 4_194_304, cx),
        };
        value::put_at(&mut d.service.limits.nproc, v, processes, cx);
    })
    .help("Processes of its user (`RLIMIT_NPROC`). `pids` is mostly what is meant.")
    .good(&["100", "\"unlimited\""])
    .bad(&["0", "\"many\""]),
    Setting::new(LIMITS, "core", "size | \"unlimited\"", "0", |d, v, cx| {
        let size = match &v.value {
            Value::String(text) if text == "unlimited" => Some(u64::MAX),
            _ => value::size(v, cx),
        };
        value::put_at(&mut d.service.limits.core, v, size, cx);
    })
    .help(
        "Largest core file (`RLIMIT_CORE`). With 0, which is set as 1 byte, a program that the \
         host pipes core dumps to gets none either; with more it gets them whole.",
    )
    .good(&["0", "\"unlimited\"", "\"1G\""])
    .bad(&["-1", "\"many\""]),
    Setting::new(LIMITS, "nice", NUMBER, "0", |d, v, cx| {
        let nice = value::number(v, -20, 19, cx);
        value::put_at(&mut d.service.limits.nice, v, nice, cx);
    })
    .help("-20 (first) to 19 (last).")
    .good(&["10", "-5"])
    .bad(&["20", "-21", "\"10\""]),
    Setting::new(LIMITS, "oom-score-adjust", NUMBER, "0", |d, v, cx| {
        let score = value::number(v, -1000, 1000, cx);
        value::put_at(&mut d.service.limits.oom_score_adjust, v, score, cx);
    })
    .help("-1000 (never) to 1000 (first) when the kernel must kill for memory.")
    .good(&["500"])
    .bad(&["1001", "-1001"]),
    Setting::new(LIMITS, "strict", "true | false", "false", |d, v, cx| {
        put(&mut d.service.limits.strict, value::flag(v, cx));
    })
    .help(
        "`true`: a limit, or a list of paths in `security`, that this host cannot enforce \
         makes the start fail. `false`: it is only said in `status`.",
    )
    .good(&["true"])
    .bad(&["\"yes\""]),
];

/// Thousandths of a CPU. The kernel counts in periods of 100 ms and wants at least 1 ms.
fn cpu(node: &Node, cx: &mut Context<'_>) -> Option<u64> {
    const MOST: u32 = 8192;
    let cpus = match node.value {
        Value::Integer(number) => match u32::try_from(number) {
            Ok(number) => f64::from(number),
            Err(_) => f64::NAN,
        },
        Value::Float(number) => number,
        _ => return cx.expected(node, "a number of CPUs such as 0.5"),
    };
    if !(0.01..=f64::from(MOST)).contains(&cpus) {
        return cx.refuse(node, format!("a number of CPUs is from 0.01 to {MOST}"));
    }
    // By way of text, because a cast of a float would hide what does not fit.
    let milli = (cpus * 1000.0).round();
    format!("{milli:.0}").parse().ok()
}

/// `0-3,5`: numbers below 8192, each range upwards.
fn cpuset(node: &Node, cx: &mut Context<'_>) -> Option<String> {
    let text = value::text(node, cx)?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|cpu| *cpu < 8192);
    let good = text.len() <= 4096
        && text.split(',').all(|range| match range.split_once('-') {
            Some((low, high)) => match (number(low), number(high)) {
                (Some(low), Some(high)) => low <= high,
                _ => false,
            },
            None => number(range).is_some(),
        });
    if good {
        return Some(text.to_owned());
    }
    cx.advise(node, "this is not a list of CPUs", "write numbers and ranges such as \"0-3,5\"")
}
