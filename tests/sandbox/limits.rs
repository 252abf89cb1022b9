//! Limits of control groups are really enforced, or said not to be.

use berth::sys::cgroup::Tree;
use berth::sys::reap::Ended;
use berth::unit::model::At;

use super::rig::{Rig, Test, service, unit};

pub const TESTS: &[Test] = &[
    ("too_many_processes_cannot_be_made", too_many_processes_cannot_be_made),
    ("too_much_memory_is_the_end", too_much_memory_is_the_end),
    ("processors_are_limited", processors_are_limited),
    ("a_wrong_value_is_named", a_wrong_value_is_named),
    ("what_cannot_be_enforced_is_said", what_cannot_be_enforced_is_said),
    ("every_limit_is_set_or_said", every_limit_is_set_or_said),
    ("usage_is_counted", usage_is_counted),
];

fn at<T>(value: T) -> Option<At<T>> {
    Some(At { value, line: 20 })
}

fn too_many_processes_cannot_be_made() {
    let rig = Rig::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all";
    assert!(rig.shell(script, |_| {}).output.contains("all"), "the control");
    let outcome = rig.shell(script, |s| s.limits.pids = at(6));
    assert!(
        outcome.output.contains("Cannot fork") && !outcome.output.contains("all"),
        "{outcome:?}"
    );
}

fn too_much_memory_is_the_end() {
    let rig = Rig::new();
    let script = "head -c 64M /dev/zero | tail -c 64M | wc -c";
    assert_eq!(rig.shell(script, |_| {}).good(), "67108864\n");
    let mut unit = unit("web", &["sh", "-c", "x=$(head -c 64M /dev/zero | tr '\\0' x); echo $?"]);
    assert_eq!(rig.run(&unit).good(), "0\n");
    service(&mut unit).limits.memory = at(16 << 20);
    let mut running = rig.up(&unit).unwrap();
    let outcome = running.wait();
    assert_eq!(outcome.ended, Ended::Signal(libc::SIGKILL), "{outcome:?}");
    assert!(running.group.oom_kills().unwrap() >= 1);
    running.down();
}

fn processors_are_limited() {
    let rig = Rig::new();
    let script = "grep Cpus_allowed_list /proc/self/status";
    let all = rig.shell(script, |_| {}).good();
    assert_ne!(all, "Cpus_allowed_list:\t1\n", "the control needs more than one processor");
    let one = rig.shell(script, |s| s.limits.cpuset = at("1".to_owned())).good();
    assert_eq!(one, "Cpus_allowed_list:\t1\n");
    let outcome = |milli| {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cat /proc/self/schedstat";
        let start = std::time::Instant::now();
        let text = rig.shell(script, |s| s.limits.cpu_milli = milli).good();
        let ran: u64 = text.split(' ').next().unwrap().parse().unwrap();
        (ran, u64::try_from(start.elapsed().as_nanos()).unwrap())
    };
    let (ran, took) = outcome(at(100));
    // A tenth of a processor takes at least five times as long as it computes.
    assert!(took > 5 * ran, "{ran} {took}");
}

fn a_wrong_value_is_named() {
    let rig = Rig::new();
    let text = rig.failure(|s| s.limits.cpuset = at("4000".to_owned()));
    assert!(text.starts_with("set the limit cpuset (4000 in cpuset.cpus): "), "{text}");
    assert!(text.ends_with(" at web.toml:20"), "{text}");
}

fn what_cannot_be_enforced_is_said() {
    let rig = Rig::new();
    let unified = Tree::discover().unwrap().own_groups().next().unwrap().join("cgroup.controllers");
    if std::fs::read_to_string(unified).unwrap().contains("memory") {
        // With version 2 there is nothing that cannot be enforced.
        rig.shell("true", |s| {
            s.limits.memory_high = at(1 << 30);
            s.limits.strict = true;
        })
        .good();
        return;
    }
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).limits.memory_high = at(1 << 30);
    let running = rig.up(&unit).unwrap();
    let expected = "memory-high: cgroup version 1 has nothing like it";
    assert_eq!(running.group.unenforced(), [expected]);
    running.down();
    let text = rig.failure(|s| {
        s.limits.memory_high = at(1 << 30);
        s.limits.strict = true;
    });
    assert!(text.contains("the limit memory-high cannot be enforced on this host"), "{text}");
}

fn every_limit_is_set_or_said() {
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).limits = berth::unit::model::Limits {
        memory: at(64 << 20),
        memory_high: at(32 << 20),
        swap: at(16 << 20),
        cpu_milli: at(1500),
        cpu_weight: at(50),
        cpuset: at("0".to_owned()),
        pids: at(33),
        io_weight: at(30),
        oom: at(berth::unit::model::Oom::KillUnit),
        ..berth::unit::model::Limits::default()
    }
    .into();
    let running = rig.up(&unit).unwrap();
    let said = running.group.unenforced().to_vec();
    let paths = rig.root.as_ref().unwrap().paths();
    // The file of either version and what it holds then.
    for (name, choices) in [
        ("memory", vec![("memory.max", "67108864"), ("memory.limit_in_bytes", "67108864")]),
        ("memory-high", vec![("memory.high", "33554432")]),
        (
            "swap",
            vec![("memory.swap.max", "16777216"), ("memory.memsw.limit_in_bytes", "83886080")],
        ),
        ("cpu", vec![("cpu.max", "150000 100000"), ("cpu.cfs_quota_us", "150000")]),
        ("cpu-weight", vec![("cpu.weight", "50"), ("cpu.shares", "512")]),
        ("cpuset", vec![("cpuset.cpus", "0")]),
        ("pids", vec![("pids.max", "33")]),
        ("oom", vec![("memory.oom.group", "1")]),
        (
            "io-weight",
            vec![("io.weight", "default 30"), ("blkio.weight", "150"), ("blkio.bfq.weight", "30")],
        ),
    ] {
        let set = paths.iter().flat_map(|path| choices.iter().map(move |c| (path, c))).any(
            |(path, (file, value))| {
                let text = std::fs::read_to_string(path.join("web-1").join(file));
                text.is_ok_and(|text| text.trim() == *value)
            },
        );
        let said = said.iter().any(|line| line.starts_with(&format!("{name}: ")));
        assert_ne!(set, said, "{name}");
    }
    // Every process of the unit is in all of the groups.
    let main = running.main.as_ref().unwrap().pid;
    let groups = std::fs::read_to_string(format!("/proc/{main}/cgroup")).unwrap();
    let inside = groups.lines().filter(|line| line.ends_with("/web-1")).count();
    let made = paths.iter().filter(|path| path.join("web-1").exists()).count();
    assert_eq!(inside, made, "{groups}");
    running.down();
}

fn usage_is_counted() {
    let rig = Rig::new();
    let mut unit = unit(
        "web",
        &["sh", "-c", "x=$(head -c 8M /dev/zero | tr '\\0' x); echo up; exec sleep 1000"],
    );
    service(&mut unit).limits.memory = at(256 << 20);
    let mut running = rig.up(&unit).unwrap();
    assert_eq!(running.line(), "up");
    assert!(running.group.memory().unwrap() > 0);
    assert_eq!(running.group.oom_kills(), Some(0));
    let pids = running.group.processes(100).unwrap();
    let main = running.main.as_ref().unwrap().pid;
    assert!(pids.contains(&main), "{pids:?}");
    assert!(running.group.holds(main).unwrap());
    assert!(!running.group.holds(std::process::id().cast_signed()).unwrap());
    // The service is the second process inside.
    let (found, _) = berth::sys::pidfd::find_inside(&pids, 2).unwrap().unwrap();
    assert_eq!(found, main);
    assert!(berth::sys::pidfd::find_inside(&pids, 4711).unwrap().is_none());
    running.down();
}
