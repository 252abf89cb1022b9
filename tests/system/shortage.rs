//! Descriptors are short: berth at its limit goes on with what runs, says why the rest has to
//! wait, and ends in order.

use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::rig::{Mode, Rig};
use crate::tracer::Tracer;

const UNITS: &str = "
    [service.plain]
    command = 'sleep 6761'
    isolation = 'none'
    [service.boxed]
    command = ['sh', '-c', 'n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done']
    [service.dying]
    command = ['sh', '-c', 'until [ -e /mnt/die ]; do sleep 0.01; done; exit 7']
    mounts = [@SHARE@]
    restart = 'no'
    [service.again]
    command = ['sh', '-c', '[ -e /mnt/again ] && exec sleep 6763; until [ -e /mnt/again ]; do sleep 0.01; done; exit 1']
    mounts = [@SHARE@]
    restart-delay = '50ms'
    restart-limit = { count = 1000, window = '1min' }
    [service.late]
    command = 'sleep 6762'
    restart = 'on-failure'
    restart-delay = '50ms'
    restart-limit = { count = 1000, window = '1min' }
    wanted-by = []
";

/// Gives berth no more than so many descriptors from now on.
fn limit(rig: &Rig, number: usize) {
    set_limit(rig, &format!("--nofile={number}:"));
}

/// Nor lets it have more again.
fn limit_both(rig: &Rig, number: usize) {
    set_limit(rig, &format!("--nofile={number}:{number}"));
}

fn set_limit(rig: &Rig, value: &str) {
    let pid = rig.berth_pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, value]).status().unwrap();
    assert!(status.success());
}

/// Connections that say nothing, until berth has no room for them.
fn crowd(rig: &Rig, most: usize) -> Vec<UnixStream> {
    (0..most).filter_map(|_| UnixStream::connect(rig.path("run/control.sock")).ok()).collect()
}

fn up() -> Rig {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    for unit in ["plain", "boxed", "dying", "again"] {
        rig.wait_state(unit, "running");
    }
    rig
}

#[test]
fn a_crowd_of_clients_takes_nothing_from_units_and_leaves_room_for_one_more() {
    let mut rig = up();
    let used = rig.descriptors();
    limit(&rig, used + 80);
    let crowd = crowd(&rig, 300);
    rig.wait_for("the reserve", |rig| rig.descriptors() >= used + 10);
    // Who has something to say is heard, instead of those who have not.
    for _ in 0..5 {
        assert_eq!(rig.state("plain"), "running");
    }
    rig.wait_log("berth", "silent clients have to go: no descriptors are left");
    assert!(rig.descriptors() < used + 40, "the reserve is used up");
    std::fs::write(rig.path("share/die"), "").unwrap();
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    rig.ctl_ok(&["stop", "boxed"]);
    drop(crowd);
    rig.ctl_ok(&["start", "late"]);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn at_the_limit_starts_wait_and_what_runs_goes_on_and_ends() {
    let mut rig = up();
    // The control: with as many as it has, and those kept back, a unit starts.
    rig.ctl_ok(&["start", "late"]);
    rig.ctl_ok(&["stop", "late"]);
    let used = rig.descriptors();
    limit(&rig, used + 4);
    let said = rig.ctl(&["start", "--no-wait", "late"]);
    assert_eq!(said.code, 0, "{said:?}");
    rig.wait_for("a refused start", |rig| rig.restarts("late") > 2);
    let (_, why, _) = rig.verdict("late");
    assert!(why.contains("no descriptors are left for it: the limit of"), "{why}");
    let said = rig.ctl(&["exec", "boxed", "true"]);
    assert!(said.code != 0 && said.err.contains("no descriptors are left"), "{said:?}");
    // What runs: output, an exit code, a stop.
    let ticks = rig.logs("boxed").lines().count();
    rig.wait_for("more output", |rig| rig.logs("boxed").lines().count() > ticks + 5);
    std::fs::write(rig.path("share/die"), "").unwrap();
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    rig.ctl_ok(&["stop", "boxed"]);
    limit(&rig, 4096);
    rig.wait_state("late", "running");
    assert_eq!(rig.finish(), 0);
}

/// What a service of each kind is allowed, as it says itself.
fn allowed(rig: &Rig) -> [String; 2] {
    ["asks", "asks-inside"].map(|unit| {
        rig.ctl_ok(&["restart", unit]);
        rig.logs(unit).lines().last().unwrap().to_owned()
    })
}

#[test]
fn a_hard_limit_that_is_lowered_is_what_children_get() {
    let units = "
        [service.asks]
        command = ['sh', '-c', 'echo $(ulimit -Sn) $(ulimit -Hn)']
        type = 'oneshot'
        isolation = 'none'
        [service.asks-inside]
        command = ['sh', '-c', 'echo $(ulimit -Sn) $(ulimit -Hn)']
        type = 'oneshot'
    ";
    let mut rig = Rig::start(Mode::Boot, units, &[]);
    rig.wait_state("asks-inside", "done");
    // The control: what berth was started with.
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let before = format!("{} {}", text(own.current), text(own.maximum));
    assert_eq!(allowed(&rig), [before.clone(), before]);
    let number = rig.descriptors() + 100;
    limit_both(&rig, number);
    let after = format!("{number} {number}");
    assert_eq!(allowed(&rig), [after.clone(), after]);
    assert_eq!(rig.finish(), 0);
}

/// Calls that open a file, for which there may be none left on the machine (`fs.file-max`). The
/// kernel has always one for who has `CAP_SYS_ADMIN`, so it takes a tracer.
const OPENING: &str =
    "openat,openat2,pipe2,accept4,socketpair,memfd_create,pidfd_open,epoll_create1";

#[test]
fn when_the_machine_has_no_files_left_what_runs_goes_on() {
    let mut rig = up();
    let output = || std::fs::metadata(rig.path("state/log/boxed/current")).unwrap().len();
    let tracer = Tracer::attach(rig.berth_pid(), &[OPENING], "error=ENFILE", rig.path("trace"));
    let before = output();
    for flag in ["die", "again"] {
        std::fs::write(rig.path("share").join(flag), "").unwrap();
    }
    let waiting = UnixStream::connect(rig.path("run/control.sock")).unwrap();
    rig.wait_for("starts and clients that are refused", |_| {
        let done = tracer.done();
        let refused = |call: &str| done.iter().filter(|line| line.starts_with(call)).count();
        refused("accept4") > 1 && done.len() > 10 + refused("accept4")
    });
    assert!(output() > before);
    tracer.end();
    rig.wait_state("again", "running");
    rig.wait_log("berth", "clients have to wait: Too many open files in system");
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    drop(waiting);
    // A start that is refused says why, and is tried again.
    let tracer = Tracer::attach(rig.berth_pid(), &["pipe2"], "error=ENFILE", rig.path("trace"));
    rig.ctl_ok(&["start", "--no-wait", "late"]);
    rig.wait_for("a refused start", |rig| rig.restarts("late") > 2);
    let (_, why, _) = rig.verdict("late");
    assert!(why.contains("a pipe for its output: Too many open files in system"), "{why}");
    tracer.end();
    rig.wait_state("late", "running");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn with_every_descriptor_taken_it_still_ends_in_order() {
    let mut rig = up();
    let used = rig.descriptors();
    // Below what it has already: not one more can be opened.
    limit(&rig, used / 2);
    rig.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.story());
}
