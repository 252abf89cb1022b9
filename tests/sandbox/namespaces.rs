//! Each namespace is the unit's own exactly if the unit says so.

use std::collections::BTreeMap;

use berth::sys::reap::Ended;
use berth::unit::model::{At, Namespaces};

use super::rig::{Rig, Test, service, unit};

pub const TESTS: &[Test] = &[
    ("a_plain_process_shares_everything", a_plain_process_shares_everything),
    ("a_container_shares_nothing", a_container_shares_nothing),
    ("without_init_the_command_is_process_1", without_init_the_command_is_process_1),
    ("a_list_of_namespaces_is_exactly_that", a_list_of_namespaces_is_exactly_that),
    ("every_combination_works", every_combination_works),
    ("mounts_without_a_network_of_its_own", mounts_without_a_network_of_its_own),
    ("exec_is_where_the_service_is", exec_is_where_the_service_is),
    ("the_host_name_is_the_units", the_host_name_is_the_units),
    ("loopback_is_up_and_alone", loopback_is_up_and_alone),
    ("the_cgroup_view_begins_at_the_unit", the_cgroup_view_begins_at_the_unit),
];

const KINDS: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

const PRINT: &str = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";

fn outside() -> Vec<String> {
    let link = |kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    KINDS.iter().map(|kind| link(kind).to_str().unwrap().to_owned()).collect()
}

/// Which namespaces differ from ours, by what the unit printed.
fn own(output: &str) -> BTreeMap<&'static str, bool> {
    let inside: Vec<&str> = output.lines().collect();
    assert_eq!(inside.len(), KINDS.len(), "{output}");
    let pairs = KINDS.iter().zip(inside.iter().zip(outside()));
    pairs.map(|(kind, (inside, outside))| (*kind, *inside != outside)).collect()
}

fn expect(output: &str, different: &[&str]) {
    for (kind, differs) in own(output) {
        assert_eq!(differs, different.contains(&kind), "{kind} in {output}");
    }
}

fn a_plain_process_shares_everything() {
    let rig = Rig::new();
    let outcome = rig.shell(&format!("{PRINT}; exit 3"), |s| s.namespaces.value = Namespaces::NONE);
    expect(&outcome.output, &[]);
    assert_eq!(outcome.ended, Ended::Code(3));
}

fn a_container_shares_nothing() {
    let rig = Rig::new();
    expect(&rig.shell(PRINT, |_| {}).good(), &KINDS);
    expect(&rig.shell(PRINT, |s| s.init = false).good(), &KINDS);
}

fn without_init_the_command_is_process_1() {
    let rig = Rig::new();
    assert_eq!(rig.shell("echo $$; cat /proc/1/comm", |s| s.init = false).good(), "1\nsh\n");
    assert_eq!(rig.shell("echo $$; cat /proc/1/comm", |_| {}).good(), "2\nberth-init\n");
}

fn a_list_of_namespaces_is_exactly_that() {
    let rig = Rig::new();
    let marker = rig.file("files/marker", "seen");
    let list = Namespaces { network: true, ipc: true, ..Namespaces::NONE };
    let output = rig.shell(PRINT, |s| s.namespaces.value = list).good();
    expect(&output, &["ipc", "net"]);
    let output = rig.shell(&format!("cat {marker}"), |s| s.namespaces.value = list).good();
    assert_eq!(output, "seen");
    let list = Namespaces { pid: true, ..Namespaces::NONE };
    expect(&rig.shell(PRINT, |s| s.namespaces.value = list).good(), &["pid"]);
    let list = Namespaces { cgroup: true, uts: true, ..Namespaces::NONE };
    expect(&rig.shell(PRINT, |s| s.namespaces.value = list).good(), &["cgroup", "uts"]);
}

fn every_combination_works() {
    let rig = Rig::new();
    for bits in 0..64u32 {
        let bit = |n: u32| bits >> n & 1 == 1;
        let list = Namespaces {
            cgroup: bit(0),
            ipc: bit(1),
            mount: bit(2),
            network: bit(3),
            pid: bit(4),
            uts: bit(5),
        };
        // In the order of KINDS.
        let own = [list.cgroup, list.ipc, list.mount, list.network, list.pid, list.uts];
        let different: Vec<&str> =
            KINDS.iter().zip(own).filter(|(_, own)| *own).map(|(kind, _)| *kind).collect();
        expect(&rig.shell(PRINT, |s| s.namespaces.value = list).good(), &different);
    }
}

fn mounts_without_a_network_of_its_own() {
    let rig = Rig::new();
    let list = Namespaces { network: false, ..Namespaces::ALL };
    let script = format!("{PRINT}; touch /sys/x 2>/dev/null && echo writable >&2");
    let outcome = rig.shell(&script, |s| s.namespaces.value = list);
    expect(&outcome.output, &["cgroup", "ipc", "mnt", "pid", "uts"]);
    let list = |path: &str| {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.join("\n")
    };
    let script = "LC_ALL=C ls /sys/class/net";
    let output = rig.shell(script, |s| s.namespaces.value.network = false).good();
    assert_eq!(output.trim(), list("/sys/class/net"));
}

fn exec_is_where_the_service_is() {
    let rig = Rig::new();
    let mut unit = unit("web", &["sh", "-c", &format!("{PRINT}; echo end; exec sleep 1000")]);
    for init in [true, false] {
        service(&mut unit).init = init;
        let mut running = rig.up(&unit).unwrap();
        let mut main = Vec::new();
        while main.last().is_none_or(|line| line != "end") {
            main.push(running.line());
        }
        let exec = running.shell(&format!("{PRINT}; echo end")).good();
        assert_eq!(exec.lines().collect::<Vec<_>>(), main);
        let root = running.shell("ls / | sort | head -3; cat /proc/self/cgroup | grep ^0").good();
        assert!(root.ends_with("0::/\n"), "{root}");
        running.down();
    }
}

fn the_host_name_is_the_units() {
    let rig = Rig::new();
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let script = "cat /proc/sys/kernel/hostname";
    assert_eq!(rig.shell(script, |_| {}).good(), "web\n");
    let name = Some(At { value: "front.example".to_owned(), line: 4 });
    assert_eq!(rig.shell(script, |s| s.hostname = name).good(), "front.example\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    let shared = |s: &mut berth::unit::model::Service| s.namespaces.value.uts = false;
    assert_eq!(rig.shell(script, shared).good(), before);
}

fn loopback_is_up_and_alone() {
    let rig = Rig::new();
    let output = rig.shell("cd /sys/class/net; echo *; cat lo/flags", |_| {}).good();
    assert_eq!(output, "lo\n0x9\n");
}

fn the_cgroup_view_begins_at_the_unit() {
    let rig = Rig::new();
    let script = "grep ^0:: /proc/self/cgroup; ls -d /sys/fs/cgroup/cgroup.procs; \
                  cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>/dev/null || echo no";
    let output = rig.shell(script, |_| {}).good();
    let expected = "0::/\n/sys/fs/cgroup/cgroup.procs\n1\n2\n";
    assert!(output.starts_with(expected) && output.ends_with("no\n"), "{output}");
    // Without a namespace of its own it sees the real path.
    let output = rig.shell("grep ^0:: /proc/self/cgroup", |s| s.namespaces.value.cgroup = false);
    assert!(output.output.contains("berth-rig-"), "{}", output.output);
}
