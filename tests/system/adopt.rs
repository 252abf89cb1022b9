//! berth killed without warning: what its successor takes over.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{Mode, Rig};

const UNITS: &str = r"
    [service.plain]
    command = ['sh', '-c', 'echo started; exec sleep 6655']
    isolation = 'none'
    [service.boxed]
    command = ['sh', '-c', 'n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.01; done']
    requires = ['job']
    [service.talker]
    command = ['perl', '-e', '''@PERL@ notify('READY=1'); $SIG{HUP} = sub { notify('STATUS=hupped') };
        while (1) { notify('WATCHDOG=1'); select(undef, undef, undef, 0.05) }''']
    ready = 'notify'
    watchdog = '10s'
    reload-command = ['sh', '-c', 'echo reloaded']
    [service.naked]
    command = ['perl', '-e', '''@PERL@ notify('READY=1'); $SIG{HUP} = sub { notify('STATUS=hupped') };
        sleep 1 while 1''']
    ready = 'notify'
    isolation = 'none'
    [service.job]
    command = ['sh', '-c', 'echo worked >> /mnt/work']
    mounts = [@SHARE@]
    type = 'oneshot'
    [service.early]
    command = ['sh', '-c', 'echo begun; until [ -e /mnt/go ]; do sleep 0.01; done; echo >&3; exec sleep 6656']
    ready = 'fd:3'
    mounts = [@SHARE@]
    start-timeout = '1h'
    [service.dying]
    command = ['sh', '-c', 'until [ -e /mnt/die ]; do sleep 0.01; done; exit 7']
    mounts = [@SHARE@]
    restart = 'no'
";

const UP: [&str; 5] = ["plain", "boxed", "talker", "naked", "dying"];

fn up() -> Rig {
    let rig = Rig::start(Mode::Revived, UNITS, &[]);
    for unit in UP {
        rig.wait_state(unit, "running");
    }
    rig.wait_state("job", "done");
    rig.wait_state("early", "starting");
    rig.wait_log("early", "begun");
    rig
}

/// Main processes by the numbers that this test knows.
fn mains(rig: &Rig) -> Vec<i32> {
    UP.iter().map(|unit| rig.host_pid(rig.main_pid(unit))).collect()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn what_still_runs_is_taken_over() {
    let mut rig = up();
    let before = mains(&rig);
    let groups = rig.cgroups();
    let ticks = rig.logs("boxed").lines().count();
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(mains(&rig), before);
    assert_eq!(rig.cgroups(), groups);
    // Nothing was started a second time, but for what was not ready.
    assert_eq!(rig.logs("plain"), "started\n");
    assert_eq!(lines(&rig.path("share/work")), 1);
    rig.wait_state("job", "done");
    rig.wait_for("it to begin again", |rig| rig.logs("early") == "begun\nbegun\n");
    fs::write(rig.path("share/go"), "").unwrap();
    rig.wait_state("early", "running");
    rig.wait_for("one of them", |rig| rig.commands("sleep\x006656") == 1);

    // Its output, its words and its end are heard.
    rig.wait_for("more output", |rig| rig.logs("boxed").lines().count() > ticks + 50);
    // A logger that is killed may repeat what it had just written, and loses nothing.
    let number = |line: &str| line.strip_prefix("tick ").unwrap().parse().unwrap();
    let mut numbers: Vec<usize> = rig.logs("boxed").lines().map(number).collect();
    numbers.dedup();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    for unit in ["talker", "naked"] {
        rig.ctl_ok(&["kill", "-s", "HUP", unit]);
        rig.wait_for("word of the service", |rig| rig.status(unit)["status_text"] == "hupped");
    }
    rig.ctl_ok(&["reload", "talker"]);
    rig.wait_log("talker", "reloaded");
    assert_eq!(rig.ctl_ok(&["exec", "boxed", "--", "readlink", "/proc/self/ns/mnt"]), {
        let pid = rig.host_pid(rig.main_pid("boxed"));
        format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap().display())
    });
    fs::write(rig.path("share/die"), "").unwrap();
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    // It restarts, reloads and stops like any other.
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).unwrap();
    rig.wait_for("another run", |rig| {
        let now = rig.status("plain");
        now["state"] == "running" && now["restarts"] == 1
    });
    assert_eq!(rig.logs("plain"), "started\nstarted\n");
    assert_eq!(rig.restarts("plain"), 1);
    rig.ctl_ok(&["stop", "talker", "boxed"]);
    for pid in [before[1], before[2]] {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid}");
    }
    rig.ctl_ok(&["start", "boxed"]);
    // Once more, with all of that behind it.
    let before = rig.host_pid(rig.main_pid("plain"));
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(rig.host_pid(rig.main_pid("plain")), before);
    assert_eq!(rig.restarts("plain"), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_has_changed_or_died_meanwhile_begins_again() {
    let mut rig = up();
    let before = mains(&rig);
    let numbers = [before[1], before[3]];
    // The shell that starts berth again is held up, so that there is a time without one.
    let shell = rig.parent_of_berth();
    kill(Pid::from_raw(shell), Signal::SIGSTOP).unwrap();
    rig.signal(Signal::SIGKILL);
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).unwrap();
    let units = UNITS
        .replace("tick $n", "tack $n")
        .replace("[service.naked]", "[service.other]")
        .replace("exit 7", "exit  7");
    rig.write_units(&units);
    kill(Pid::from_raw(shell), Signal::SIGCONT).unwrap();
    rig.wait_control();
    for unit in ["plain", "boxed", "talker", "other", "dying"] {
        rig.wait_state(unit, "running");
    }
    // The dead one and the changed ones run anew, the removed one does not, the rest stays.
    assert_eq!(rig.logs("plain"), "started\nstarted\n");
    rig.wait_log("boxed", "tack 1");
    for pid in numbers {
        rig.wait_for("its end", |_| !Path::new(&format!("/proc/{pid}")).exists());
    }
    assert_eq!(rig.host_pid(rig.main_pid("talker")), before[2]);
    assert_ne!(rig.host_pid(rig.main_pid("dying")), before[4]);
    assert_eq!(lines(&rig.path("share/work")), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_requirement_that_has_died_takes_its_dependents_along() {
    let units = "
        [service.db]
        command = ['sh', '-c', 'echo started; exec sleep 6657']
        [service.web]
        command = ['sh', '-c', 'echo started; exec sleep 6658']
        requires = ['db']
        [service.apart]
        command = ['sh', '-c', 'echo started; exec sleep 6659']
    ";
    let mut rig = Rig::start(Mode::Revived, units, &[]);
    for unit in ["db", "web", "apart"] {
        rig.wait_state(unit, "running");
    }
    let db = rig.host_pid(rig.main_pid("db"));
    let shell = rig.parent_of_berth();
    kill(Pid::from_raw(shell), Signal::SIGSTOP).unwrap();
    rig.signal(Signal::SIGKILL);
    kill(Pid::from_raw(db), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(shell), Signal::SIGCONT).unwrap();
    rig.wait_control();
    rig.wait_for("both anew", |rig| {
        rig.logs("web") == "started\nstarted\n" && rig.logs("db") == "started\nstarted\n"
    });
    for unit in ["db", "web", "apart"] {
        rig.wait_state(unit, "running");
    }
    assert_eq!(rig.logs("apart"), "started\n");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_ledger_that_lies_is_not_believed() {
    let mut rig = Rig::start(Mode::Revived, UNITS, &[]);
    for unit in ["plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    let stranger = rig.host_pid(rig.main_pid("boxed"));
    let shell = rig.parent_of_berth();
    let ledger = rig.path("run/ledger");
    kill(Pid::from_raw(shell), Signal::SIGSTOP).unwrap();
    rig.signal(Signal::SIGKILL);
    let text = fs::read_to_string(&ledger).unwrap();
    // `plain` with the main process of another unit, one that began later, and rubbish.
    let line = text.lines().rfind(|line| line.contains("\"plain\"")).unwrap();
    let mut entry: serde_json::Value = serde_json::from_str(line).unwrap();
    let inside = fs::read_to_string(format!("/proc/{stranger}/status")).unwrap();
    let pids = inside.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    let pid: i64 = pids.split_whitespace().nth(1).unwrap().parse().unwrap();
    entry["up"]["main"]["pid"] = pid.into();
    let rubbish =
        "{\"up\":{}}\n\u{0}\u{1}\n[[[[\n{\"logger\":{\"pid\":-1,\"at\":{\"secs\":1,\"nanos\":0}}}";
    fs::write(&ledger, format!("{text}{entry}\n{rubbish}\n")).unwrap();
    kill(Pid::from_raw(shell), Signal::SIGCONT).unwrap();
    rig.wait_control();
    for unit in UP {
        rig.wait_state(unit, "running");
    }
    rig.wait_for("one of each", |rig| rig.commands("sleep\x006655") == 1);
    assert_eq!(rig.logs("plain"), "started\nstarted\n");
    assert_eq!(rig.finish(), 0);
}
