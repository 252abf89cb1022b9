//! Whatever a unit's processes have done, they end when the group is killed.

use std::os::fd::AsFd;

use berth::sys::cgroup::{self, Tree};
use berth::sys::{fd, fork, reap};
use berth::unit::model::Namespaces;

use super::rig::{Rig, Test, executed, reap_orphans, service, unit, wait_for};

pub const TESTS: &[Test] = &[
    ("daemons_in_hiding_die", daemons_in_hiding_die),
    ("frozen_processes_die", frozen_processes_die),
    ("groups_below_are_removed", groups_below_are_removed),
    ("a_killed_supervisors_units_are_ended", a_killed_supervisors_units_are_ended),
    ("left_processes_die_without_a_kill_file", left_processes_die_without_a_kill_file),
    ("emptiness_is_announced", emptiness_is_announced),
    ("without_control_groups_the_init_is_enough", without_control_groups_the_init_is_enough),
];

fn daemons_in_hiding_die() {
    let rig = Rig::new();
    let script = "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' &) ; \
                  setsid -f sleep 1000; echo up; exec sleep 1000";
    for namespaces in [Namespaces::ALL, Namespaces::NONE] {
        let mut unit = unit("web", &["sh", "-c", script]);
        service(&mut unit).namespaces.value = namespaces;
        let mut running = rig.up(&unit).unwrap();
        assert_eq!(running.line(), "up");
        wait_for("all are there", || running.group.processes(100).unwrap().len() >= 5);
        let pids = running.group.processes(100).unwrap();
        running.down();
        // A process leaves its group before its parent can reap it.
        for pid in pids {
            wait_for("it is reaped", || {
                reap_orphans();
                !std::path::Path::new(&format!("/proc/{pid}")).exists()
            });
        }
    }
}

fn frozen_processes_die() {
    let rig = Rig::new();
    let mut running =
        rig.up(&unit("web", &["sh", "-c", "while :; do echo tick; sleep 0.01; done"])).unwrap();
    assert_eq!(running.line(), "tick");
    running.group.freeze(true).unwrap();
    let events = running.group.path().unwrap().join("cgroup.events");
    wait_for("it is frozen", || std::fs::read_to_string(&events).unwrap().contains("frozen 1"));
    running.group.freeze(false).unwrap();
    wait_for("it is thawed", || std::fs::read_to_string(&events).unwrap().contains("frozen 0"));
    assert_eq!(running.line(), "tick");
    running.group.freeze(true).unwrap();
    wait_for("it is frozen", || std::fs::read_to_string(&events).unwrap().contains("frozen 1"));
    running.down();
}

fn groups_below_are_removed() {
    let rig = Rig::new();
    let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let path = running.group.path().unwrap();
    for below in ["a/b/c/d", "a/e", "f"] {
        std::fs::create_dir_all(path.join(below)).unwrap();
    }
    let main = running.main.as_ref().unwrap().pid;
    std::fs::write(path.join("a/b/c/cgroup.procs"), main.to_string()).unwrap();
    assert!(running.group.populated().unwrap());
    running.down();
}

fn a_killed_supervisors_units_are_ended() {
    let id = format!("rig-{}-killed", std::process::id());
    let (mut read, write) = std::io::pipe().unwrap();
    let keep = [write.as_fd()];
    let options = fork::Options { keep: &keep, ..fork::Options::default() };
    // A supervisor that starts a unit and is killed.
    let killed = fork::child(&options, || {
        let rig = Rig::new();
        let mut unit = unit("web", &["sleep", "1000"]);
        service(&mut unit).namespaces.value = Namespaces::NONE;
        service(&mut unit).limits.pids = Some(berth::unit::model::At { value: 10, line: 1 });
        let running = rig.up(&unit).unwrap();
        let pid = running.main.as_ref().unwrap().pid;
        let paths: Vec<String> =
            rig.root.as_ref().unwrap().paths().iter().map(|p| p.display().to_string()).collect();
        let directory = rig.path("");
        let text = format!("{pid}\n{directory}\n{}", paths.join("\n"));
        rustix::io::write(&write, text.as_bytes()).unwrap();
        berth::sys::clone::exit(0)
    })
    .unwrap();
    drop(write);
    super::rig::wait_pidfd(killed.pidfd.as_fd()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    let mut lines = text.lines();
    let pid = lines.next().unwrap();
    std::fs::remove_dir_all(lines.next().unwrap()).unwrap();
    let paths: Vec<std::path::PathBuf> = lines.map(Into::into).collect();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the control");
    assert!(paths.len() > 1 && paths[0].join("web-1").exists(), "{paths:?} {id}");
    let mut recorded = paths.clone();
    // What is no group of a berth is left alone.
    recorded.extend(["/etc".into(), "/berth-nothing".into()]);
    recorded.extend(Tree::discover().unwrap().own_groups().map(Into::into));
    cgroup::tree::kill_leftovers(&recorded).unwrap();
    assert!(paths.iter().all(|path| !path.exists()));
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(state.is_err() || state.unwrap().contains(") Z "));
}

/// As on a host that has version 1 only (or a kernel that is older than the file).
fn left_processes_die_without_a_kill_file() {
    let tree = Tree::discover().unwrap();
    let legacy = tree.own_groups().find(|own| !own.join("cgroup.controllers").exists());
    let Some(own) = legacy else { return eprintln!("no version 1 hierarchy here: not tested") };
    let ours = own.join(format!("berth-rig-{}-legacy", std::process::id()));
    let other = own.join(format!("other-rig-{}-legacy", std::process::id()));
    let put = |group: &std::path::Path| {
        std::fs::create_dir_all(group).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read(own.join(file)) {
                std::fs::write(group.parent().unwrap().join(file), &all).unwrap();
                std::fs::write(group.join(file), &all).unwrap();
            }
        }
        let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    };
    let mut left: Vec<_> = ["web", "web/below"].iter().map(|name| put(&ours.join(name))).collect();
    let mut stranger = put(&other.join("web"));
    cgroup::tree::kill_leftovers(&[ours.clone(), other.clone()]).unwrap();
    assert!(!ours.exists());
    for child in &mut left {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    assert!(stranger.try_wait().unwrap().is_none(), "it is nobody of ours");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    for group in [other.join("web"), other] {
        wait_for("the group is removed", || std::fs::remove_dir(&group).is_ok());
    }
}

fn emptiness_is_announced() {
    let rig = Rig::new();
    let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let events = running.group.events().unwrap();
    let announced = |seconds| {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut fds, Some(&timeout)).unwrap();
        fds[0].revents().contains(PollFlags::PRI)
    };
    // The first read arms it; then nothing happens until somebody dies.
    assert!(running.group.populated().unwrap());
    let mut buffer = [0; 128];
    rustix::io::pread(&events, &mut buffer, 0).unwrap();
    assert!(!announced(0));
    running.group.kill().unwrap();
    // The init ends once the supervisor has reaped its own children in there.
    for child in [running.main.as_ref(), running.sandbox.as_ref()].into_iter().flatten() {
        assert!(
            fd::readable_within(child.pidfd.as_fd(), super::machine::patience(10_000)).unwrap()
        );
        super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap().unwrap();
    }
    assert!(announced(10));
    assert!(!running.group.populated().unwrap());
    running.down();
}

fn without_control_groups_the_init_is_enough() {
    use berth::container::{Program, Stdio, process, sandbox};
    let rig = Rig::new();
    let plan = rig.plan(&unit("web", &["sh", "-c", "setsid -f sleep 1000; exec sleep 1000"]));
    let group = cgroup::Group::absent();
    let mut init = sandbox(&rig.host, &plan, &group, None).unwrap();
    executed(&mut init.status, &plan, &mut Vec::new()).unwrap();
    let inside = Some(init.pidfd.as_fd());
    let stdio = Stdio::default();
    let place = berth::container::Where { group: &group, inside, users: None };
    let mut main = process(&rig.host, &plan, place, Program::Main, &stdio).unwrap();
    executed(&mut main.status, &plan, &mut Vec::new()).unwrap();
    berth::sys::pidfd::send_signal(init.pidfd.as_fd(), libc::SIGKILL).unwrap();
    for child in [&main, &init] {
        let dead = super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap().unwrap();
        assert_eq!(dead.ended, reap::Ended::Signal(libc::SIGKILL));
    }
}
