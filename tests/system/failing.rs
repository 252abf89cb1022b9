//! berth fails: faults of memory, no memory left. It begins again, and no service notices.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::rig::{Mode, Rig};

const UNITS: &str = r"
    [service.plain]
    command = ['sh', '-c', 'echo started; exec sleep 6755']
    isolation = 'none'
    [service.boxed]
    command = ['sh', '-c', 'n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.01; done']
    requires = ['job']
    [service.talker]
    command = ['perl', '-e', '''@PERL@ notify('READY=1'); $SIG{HUP} = sub { notify('STATUS=hupped') };
        while (1) { notify('WATCHDOG=1'); select(undef, undef, undef, 0.05) }''']
    ready = 'notify'
    watchdog = '10s'
    [service.job]
    command = ['sh', '-c', 'echo worked >> /mnt/work']
    mounts = [@SHARE@]
    type = 'oneshot'
    [service.dying]
    command = ['sh', '-c', 'until [ -e /mnt/die ]; do sleep 0.01; done; exit 7']
    mounts = [@SHARE@]
    restart = 'no'
";

const UP: [&str; 4] = ["plain", "boxed", "talker", "dying"];

/// Sends the program to address 0, as a stray pointer would: attaches with ptrace(2),
/// sets the instruction pointer, detaches.
const STRAY: &str = "my $pid = shift; sub trace { syscall(101, @_) == 0 or die $! } \
    trace(16, $pid + 0, 0, 0); waitpid($pid, 0); trace(6, $pid + 0, 128, 0); \
    trace(17, $pid + 0, 0, 0)";

fn fault(rig: &Rig) {
    let pid = rig.berth_pid().to_string();
    let status = Command::new("perl").args(["-e", STRAY, &pid]).status().unwrap();
    assert!(status.success());
}

/// How often it has begun again.
fn failures(rig: &Rig) -> usize {
    let said = [rig.out(), rig.err()];
    said.iter().map(|text| text.matches("and begins again").count()).sum()
}

fn mains(rig: &Rig) -> Vec<i64> {
    UP.iter().map(|unit| rig.main_pid(unit)).collect()
}

fn up(mode: Mode) -> Rig {
    let rig = Rig::start(mode, UNITS, &[]);
    for unit in UP {
        rig.wait_state(unit, "running");
    }
    rig.wait_state("job", "done");
    rig
}

fn assert_goes_on(rig: &Rig, before: &[i64], pid: i32) {
    rig.wait_control();
    assert_eq!(rig.berth_pid(), pid);
    assert_eq!(mains(rig), before, "{}", rig.story());
    assert_eq!(rig.logs("plain"), "started\n");
    assert_eq!(fs::read_to_string(rig.path("share/work")).unwrap(), "worked\n");
    rig.wait_state("job", "done");
    let ticks = rig.logs("boxed").lines().count();
    rig.wait_for("more output", |rig| rig.logs("boxed").lines().count() > ticks + 50);
    let number = |line: &str| line.strip_prefix("tick ").unwrap().parse().unwrap();
    let mut numbers: Vec<usize> = rig.logs("boxed").lines().map(number).collect();
    numbers.dedup();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    rig.ctl_ok(&["kill", "-s", "HUP", "talker"]);
    rig.wait_for("word of the service", |rig| rig.status("talker")["status_text"] == "hupped");
}

fn outlives_a_fault(mode: Mode) {
    let mut rig = up(mode);
    let (before, pid) = (mains(&rig), rig.berth_pid());
    // What others send is no fault.
    for signal in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS] {
        rig.signal(signal);
    }
    rig.wait_control();
    assert_eq!((rig.berth_pid(), failures(&rig)), (pid, 0));
    for times in 1..=2 {
        fault(&rig);
        rig.wait_for("another beginning", |rig| failures(rig) == times);
        assert_goes_on(&rig, &before, pid);
        rig.wait_log("berth", "berth has failed (SIGSEGV) and begins again");
    }
    fs::write(rig.path("share/die"), "").unwrap();
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    rig.ctl_ok(&["restart", "plain", "boxed"]);
    rig.ctl_ok(&["upgrade"]);
    fault(&rig);
    rig.wait_for("another beginning", |rig| failures(rig) == 3);
    rig.wait_control();
    assert_eq!(rig.state("boxed"), "running");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_fault_ends_no_supervisor() {
    outlives_a_fault(Mode::Boot);
}

#[test]
fn a_fault_ends_no_process_1() {
    outlives_a_fault(Mode::UpAsInit);
}

/// What people have started and stopped since the boot is no other after it; nor does a
/// mistake that is in a unit file by then end anything.
#[test]
fn what_was_started_and_stopped_by_hand_holds() {
    let units = "
        [service.unwanted]
        command = 'sleep 6756'
        [service.aside]
        command = 'sleep 6757'
        wanted-by = []
        [service.'worker@']
        command = ['sleep', '675%i']
        [service.short]
        command = 'true'
        restart = 'no'
        isolation = 'none'
    ";
    let mut rig = Rig::start(Mode::UpAsInit, units, &[]);
    rig.wait_state("unwanted", "running");
    rig.ctl_ok(&["start", "aside", "worker@8"]);
    rig.ctl_ok(&["stop", "unwanted"]);
    rig.wait_state("short", "inactive");
    let pids = |rig: &Rig| [rig.main_pid("aside"), rig.main_pid("worker@8")];
    let before = pids(&rig);
    rig.write_units(&format!("{units}\nnonsense"));
    for times in 1..=2 {
        fault(&rig);
        rig.wait_for("another beginning", |rig| failures(rig) == times);
        rig.wait_control();
        assert_eq!(pids(&rig), before, "{}", rig.story());
        assert_eq!(rig.state("unwanted"), "inactive");
        assert_eq!(rig.state("short"), "inactive");
        rig.write_units(units);
    }
    assert!(rig.err().contains("nonsense") || rig.out().contains("nonsense"), "{}", rig.story());
    rig.ctl_ok(&["start", "unwanted"]);
    let unwanted = rig.main_pid("unwanted");
    fault(&rig);
    rig.wait_for("another beginning", |rig| failures(rig) == 3);
    rig.wait_control();
    assert_eq!(rig.main_pid("unwanted"), unwanted, "{}", rig.story());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn on_its_way_down_it_does_not_come_up_again() {
    let units = "
        [service.slow]
        command = ['sh', '-c', 'trap : TERM; while :; do sleep 0.1; done']
        stop-timeout = '1h'
    ";
    let mut rig = Rig::start(Mode::Boot, units, &[]);
    rig.wait_state("slow", "running");
    rig.signal(Signal::SIGTERM);
    rig.wait_state("slow", "stopping");
    fault(&rig);
    assert_eq!(rig.wait_end(), 0);
    assert!(rig.err().contains("begins again, to end"), "{}", rig.err());
    assert!(!rig.path("run/lock").exists());
}

#[test]
fn failing_again_and_again_it_rests_and_services_go_on() {
    let mut rig = up(Mode::Boot);
    let log =
        |rig: &Rig| fs::metadata(rig.path("state/log/boxed/current")).map_or(0, |it| it.len());
    for times in 1..=6 {
        fault(&rig);
        rig.wait_for("another beginning", |rig| failures(rig) == times);
        if times < 6 {
            rig.wait_control();
        }
    }
    rig.wait_for("it to rest", |rig| rig.err().contains("rests for a minute"));
    assert!(
        log(&rig) > 0,
        "{:?}",
        fs::read_dir(rig.path("state/log")).unwrap().collect::<Vec<_>>()
    );
    let written = log(&rig);
    rig.wait_for("services to go on", |rig| log(rig) > written + 500);
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.wait_end(), 0);
    assert!(!rig.path("run/lock").exists());
}

#[test]
fn no_memory_left_costs_no_service() {
    let mut rig = up(Mode::UpAsInit);
    let (before, pid) = (mains(&rig), rig.berth_pid());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = |bytes: &str| {
        let pid = pid.to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, bytes]).status().unwrap();
        assert!(status.success());
    };
    limit(&format!("--as={}:", size * 1024 + 1_000_000));
    // Half-sent messages, each of which it has to keep.
    let mut clients = Vec::new();
    while failures(&rig) == 0 {
        assert!(clients.len() < 1000, "{}", rig.story());
        if let Ok(mut client) = UnixStream::connect(rig.path("run/control.sock")) {
            client.set_write_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            // It may begin again meanwhile.
            let _ = client.write_all(&vec![b'x'; 60_000]);
            clients.push(client);
        }
    }
    drop(clients);
    limit("--as=unlimited:");
    rig.wait_control();
    assert!(rig.err().contains("memory allocation of"), "{}", rig.err());
    rig.wait_log("berth", "berth has failed (SIGABRT");
    assert_goes_on(&rig, &before, pid);
    assert_eq!(rig.finish(), 0);
}
