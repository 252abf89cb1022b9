//! The short way to a plain process ends where the long one does.
//!
//! It is taken once the supervisor has its signals from a descriptor, so the same rig goes
//! the long way first and the short one then.

use berth::container::{self, Program, Stdio, Where};
use berth::sys::signal;
use berth::unit::model::{At, Namespaces, Service, User};

use super::rig::{Rig, Test, executed, reap_orphans, service, unit, wait_for};

pub const TESTS: &[Test] = &[
    ("both_ways_make_the_same_process", both_ways_make_the_same_process),
    ("both_ways_fail_with_the_same_words", both_ways_fail_with_the_same_words),
    ("what_would_change_the_supervisor_goes_the_long_way", the_long_way),
    ("the_supervisor_is_as_it_was", the_supervisor_is_as_it_was),
    ("a_crowd_gets_its_own_arguments", a_crowd_gets_its_own_arguments),
    ("one_that_is_killed_on_its_way_leaves_its_place", killed_on_its_way),
];

type Change = fn(&mut Service);

fn plain(change: Change) -> impl Fn(&mut Service) {
    move |service| {
        service.namespaces.value = Namespaces::NONE;
        service.limits.nofile = Some(At { value: 77, line: 4 });
        change(service);
    }
}

/// Everything about a process that its start decides and that is not a number of its own.
const LOOK: &str = "grep -vE '^(Pid|Tgid|NSpid|NSpgid|NSsid|NStgid|PPid|Vm|Rss|.*ctxt|Sig[PQ]|\
    Shd|Cpus|Mems|Name|State|FDSize|Threads|x86|Hugetlb|Thp|untag)' /proc/self/status; \
    ulimit -a -S; ulimit -a -H; umask; pwd; env | sort; \
    for fd in /proc/self/fd/*; do echo ${fd##*/} $(readlink $fd | sed 's/[0-9]//g'); done; \
    cut -d' ' -f 7,19 /proc/self/stat; [ $(cut -d' ' -f 6 /proc/$$/stat) = $$ ] && echo leads; \
    sed 's/[0-9a-f]//g' /proc/keys 2>/dev/null | grep -c _ses; \
    grep -o 'web-.*' /proc/self/cgroup | sed 's/[0-9]//g'";

fn both_ways_make_the_same_process() {
    let rig = Rig::new();
    let changes: [Change; 4] = [
        |_| {},
        |s| s.environment = vec![("A".into(), "1".into()), ("PATH".into(), "/bin:/usr/bin".into())],
        |s| {
            s.umask = 0o027;
            s.security.no_new_privileges = true;
            s.working_directory.value = "/usr/share".into();
        },
        |s| {
            s.limits.nice = Some(At { value: 5, line: 4 });
            s.limits.core = Some(At { value: 4096, line: 4 });
            s.limits.cpu_weight = Some(At { value: 50, line: 4 });
        },
    ];
    let all = || changes.map(|change| rig.shell(LOOK, plain(change)).good());
    let long = all();
    assert_eq!(rig.host.shared_starts(), 0);
    let _signals = signal::block_all().unwrap();
    let short = all();
    assert_eq!(rig.host.shared_starts(), 4);
    for (long, short) in long.iter().zip(&short) {
        assert_eq!(long, short);
        assert!(long.contains("SigBlk:\t0000000000000000") && long.contains("leads"), "{long}");
    }
    assert!(short[2].contains("NoNewPrivs:\t1") && short[2].contains("/usr/share"), "{}", short[2]);
}

fn both_ways_fail_with_the_same_words() {
    let rig = Rig::new();
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = rig.file(name, text);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let commands = [
        "ngnix".to_owned(),
        "/opt/ngnix".to_owned(),
        file("files/script", "#!/usr/bin/no-python -u\n", 0o755),
        file("files/garbage", "\u{1}garbage", 0o755),
        file("files/denied", "#!/bin/sh\n", 0o644),
        "/etc/passwd/x".to_owned(),
        "/usr".to_owned(),
    ];
    let all = || -> Vec<String> {
        let fail = |name: &String| {
            rig.failure(|s| {
                plain(|_| {})(s);
                s.command.value = vec![name.clone()];
            })
        };
        let directory = rig.failure(|s| {
            plain(|_| {})(s);
            s.working_directory = At { value: "/not/there".into(), line: 5 };
        });
        commands.iter().map(fail).chain([directory]).collect()
    };
    let long = all();
    assert_eq!(rig.host.shared_starts(), 0);
    let _signals = signal::block_all().unwrap();
    assert_eq!(all(), long);
    assert_eq!(rig.host.shared_starts(), 8);
    assert!(long[2].contains("the interpreter /usr/bin/no-python of"), "{}", long[2]);
    assert!(long[7].contains("/not/there") && long[7].contains("web.toml:5"), "{}", long[7]);
}

fn the_long_way() {
    let _signals = signal::block_all().unwrap();
    let rig = Rig::new();
    let changes: [Change; 6] = [
        |s| s.namespaces.value = Namespaces { uts: true, ..Namespaces::NONE },
        |s| s.limits.memory = Some(At { value: 1 << 30, line: 4 }),
        |s| s.limits.oom_score_adjust = Some(At { value: 100, line: 4 }),
        |s| s.environment_files = vec![At { value: "-/not/there".into(), line: 4 }],
        |s| {
            use berth::unit::model::Id;
            let user = User { user: Id::Number(12), group: None };
            s.user = Some(At { value: user, line: 4 });
        },
        |s| {
            use berth::unit::model::{Capabilities, CapabilitySet};
            let none = At { value: CapabilitySet::EMPTY, line: 4 };
            s.security.capabilities = Capabilities::Exactly(none);
        },
    ];
    for change in changes {
        rig.shell("true", plain(change)).good();
    }
    assert_eq!(rig.host.shared_starts(), 0);
    rig.shell("true", plain(|_| {})).good();
    assert_eq!(rig.host.shared_starts(), 1, "the control");
}

fn the_supervisor_is_as_it_was() {
    let _signals = signal::block_all().unwrap();
    let rig = Rig::new();
    let look = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kept = |line: &&str| {
            let moves =
                ["Vm", "Rss", "ShdPnd", "voluntary", "nonvoluntary", "SigQ", "HugetlbPages"];
            !moves.iter().any(|name| line.starts_with(name))
        };
        let lines: Vec<&str> = status.lines().filter(kept).collect();
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let dumpable = nix::sys::prctl::get_dumpable().unwrap();
        let nice = std::fs::read_to_string("/proc/self/stat").unwrap();
        let nice = nice.split(' ').nth(18).unwrap().to_owned();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let here = std::env::current_dir().unwrap();
        format!("{}\n{score}{dumpable} {nice}\n{limits}{}", lines.join("\n"), here.display())
    };
    let before = look();
    let nice: Change = |s| {
        s.limits.nice = Some(At { value: 5, line: 4 });
        s.umask = 0o027;
        s.security.no_new_privileges = true;
        s.working_directory.value = "/usr".into();
    };
    rig.shell("true", plain(nice)).good();
    rig.failure(|s| {
        plain(|_| {})(s);
        s.command.value = vec!["/not/there".into()];
    });
    assert_eq!(rig.host.shared_starts(), 2);
    assert_eq!(look(), before);
}

/// More than there are places, at once: what each one reads of its memory is its own.
fn a_crowd_gets_its_own_arguments() {
    use std::io::Read;
    use std::os::fd::AsFd;
    let _signals = signal::block_all().unwrap();
    let rig = Rig::new();
    let mut crowd = Vec::new();
    for number in 0..300 {
        let text = format!("{number} {}", "x".repeat(number));
        let mut unit = unit("web", &["sh", "-c", "echo \"$0 $V\"; exec sleep 100", &text]);
        service(&mut unit).namespaces.value = Namespaces::NONE;
        service(&mut unit).environment = vec![("V".into(), format!("v{number}"))];
        let plan = rig.plan(&unit);
        let name = format!("crowd-{number}");
        let group = container::group(rig.root.as_ref().unwrap(), &unit, &name).unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let output = Some(write.as_fd());
        let stdio = Stdio { stdin: None, stdout: output, stderr: None, named: &[] };
        let place = Where { group: &group, inside: None, users: None };
        let child = container::process(&rig.host, &plan, place, Program::Main, &stdio).unwrap();
        crowd.push((child, plan, group, read, text));
    }
    let short = rig.host.shared_starts();
    assert!(short >= 20, "{short}");
    for (number, (child, plan, group, read, text)) in crowd.iter_mut().enumerate() {
        executed(&mut child.status, plan, &mut Vec::new()).unwrap();
        let mut line = vec![0; text.len() + 2 + format!("v{number}").len()];
        read.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), format!("{text} v{number}\n"));
        group.kill().unwrap();
    }
    for (child, _, mut group, ..) in crowd {
        super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
        rig.host.ended(child.pid);
        wait_for("the group is gone", || {
            reap_orphans();
            group.remove().is_ok()
        });
    }
    // All places are free: after a wave their memory is given back, once.
    assert!(rig.host.slim() && !rig.host.slim());
    rig.shell("true", plain(|_| {})).good();
    assert_eq!(rig.host.shared_starts(), short + 1);
}

fn killed_on_its_way() {
    use std::os::fd::AsFd;
    let _signals = signal::block_all().unwrap();
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "100"]);
    service(&mut unit).namespaces.value = Namespaces::NONE;
    let plan = rig.plan(&unit);
    for round in 1..=200 {
        let name = format!("killed-{round}");
        let mut group = container::group(rig.root.as_ref().unwrap(), &unit, &name).unwrap();
        let stdio = Stdio::default();
        let place = Where { group: &group, inside: None, users: None };
        let child = container::process(&rig.host, &plan, place, Program::Main, &stdio).unwrap();
        // Wherever it is by now.
        group.kill().unwrap();
        super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
        rig.host.ended(child.pid);
        assert_eq!(rig.host.shared_starts(), round);
        wait_for("the group is gone", || group.remove().is_ok());
    }
}
