//! Nothing can be written down any more: state, runtime directory and logs are full, or
//! read-only. Services go on, orders are carried out, it is said once; and once there is room
//! again everything is on the disk, as a killed berth's successor shows.

use std::fs::{self, File};
use std::io::{self, Write};

use nix::sys::signal::Signal;

use crate::rig::{Mode, Rig};
use crate::secrets::set;
use crate::tracer::Tracer;

const UNITS: &str = "
    [network.front]
    [secret.word]
    [service.talker]
    command = ['sh', '-c', 'trap \"echo again >> /mnt/reloads\" HUP; n=0; while :; do n=$((n+1)); \
        echo tick $n; echo $n > /mnt/n; sleep 0.05; done']
    mounts = [@SHARE@]
    reload-signal = 'HUP'
    [service.plain]
    command = 'sleep 6781'
    isolation = 'none'
    restart = 'unless-stopped'
    [service.boxed]
    command = 'sleep 6782'
    [service.late]
    command = 'sleep 6783'
    wanted-by = []
    [service.wired]
    command = 'sleep 6784'
    networks = ['front']
    wanted-by = []
";

/// Everything that berth writes to, a filesystem each.
const PLACES: [&str; 3] = ["run", "state", "state/log"];

/// What cannot be written then, as far as somebody will miss it.
const FILES: [&str; 4] = ["run/ledger", "state/stopped", "state/user-namespaces", "run/network"];

/// ENOSPC and EROFS.
const FULL: &str = "No space left on device";
const READ_ONLY: &str = "Read-only file system";

/// Each place on a small filesystem; `then` is done in each before berth starts.
fn prepare(then: &str) -> Rig {
    let mut rig = Rig::prepare(UNITS);
    rig.before = format!(
        "for place in {}; do place={}$place; mkdir -p $place; \
         mount -t tmpfs -o size=1M,nr_inodes=300,mode=711 small $place; cd $place; {then} cd /; done;",
        PLACES.join(" "),
        rig.path("").display(),
    );
    rig
}

fn up(mode: Mode) -> Rig {
    let mut rig = prepare("");
    rig.launch(mode, &[]);
    rig.wait_control();
    for unit in ["talker", "plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    rig
}

/// No byte and no file more.
fn fill(rig: &Rig) {
    for place in PLACES {
        let filler = rig.inside(place).join("filler");
        fs::create_dir(&filler).unwrap();
        let mut bytes = File::create(filler.join("bytes")).unwrap();
        let full = io::copy(&mut io::repeat(0), &mut bytes).unwrap_err();
        assert!(full.to_string().contains(FULL), "{full}");
        let mut files = (0..1000).map(|number| File::create(filler.join(number.to_string())));
        let full = files.find_map(Result::err).expect("there is no end of files");
        assert!(full.to_string().contains(FULL), "{full}");
        // The control: who tries fails, with a file of its own and at the end of another.
        let mine = fs::write(rig.inside(place).join("mine"), "").unwrap_err();
        let more = bytes.write(&[0; 1]).unwrap_err();
        assert_eq!([mine.kind(), more.kind()], [io::ErrorKind::StorageFull; 2]);
    }
}

fn make_room(rig: &Rig) {
    for place in PLACES {
        fs::remove_dir_all(rig.inside(place).join("filler")).unwrap();
    }
}

/// What a person is told is not written, and why.
fn unwritten(rig: &Rig) -> String {
    let said = rig.ctl_ok(&["status"]);
    said.lines().filter(|line| line.contains(" cannot be written")).collect::<Vec<_>>().join("\n")
}

fn said(rig: &Rig, text: &str) -> usize {
    rig.logs("berth").lines().filter(|line| line.contains(text)).count()
}

/// A talking service is not held up.
fn goes_on(rig: &Rig) {
    let number = || fs::read_to_string(rig.path("share/n")).unwrap().trim().parse().unwrap_or(0);
    let before: u64 = number();
    rig.wait_for("the talker to go on", |_| number() > before + 10);
}

/// One process each, and no other.
fn one_of_each(rig: &Rig, commands: &[&str]) {
    for command in commands {
        rig.wait_for(&format!("one {command:?}"), |rig| rig.commands(command) == 1);
    }
}

fn mains(rig: &Rig) -> Vec<i64> {
    ["talker", "plain", "boxed", "late", "wired"].map(|unit| rig.main_pid(unit)).to_vec()
}

/// Starts, stops, restarts and reloads, some of which berth wants to remember.
fn order_about(rig: &Rig) {
    rig.ctl_ok(&["start", "late", "wired"]);
    rig.ctl_ok(&["stop", "plain", "boxed"]);
    rig.ctl_ok(&["start", "boxed"]);
    // More than the ledger's last page takes.
    for _ in 0..10 {
        rig.ctl_ok(&["restart", "boxed", "wired"]);
    }
    rig.ctl_ok(&["reload", "talker"]);
    rig.wait_for("the reload", |rig| rig.path("share/reloads").exists());
}

#[test]
fn on_full_disks_everything_goes_on_and_is_written_when_there_is_room() {
    let mut rig = up(Mode::Revived);
    assert_eq!(set(&rig, "word", b"old").code, 0);
    let value = || fs::read(rig.inside("state/secrets/word")).unwrap();
    let old = value();
    fill(&rig);
    order_about(&rig);
    goes_on(&rig);
    let refused = set(&rig, "word", b"new");
    assert!(refused.code == 1 && refused.err.contains(FULL), "{refused:?}");
    assert_eq!(value(), old);
    for file in FILES {
        let path = rig.path(file).display().to_string();
        let told = |rig: &Rig| {
            unwritten(rig).lines().any(|line| line.contains(&path) && line.contains(FULL))
        };
        rig.wait_for(&format!("{file} to be told of"), told);
    }
    // Stopped by hand: not remembered yet, and in force.
    assert_eq!(rig.state("plain"), "inactive");
    assert!(!rig.inside("state/stopped/plain").exists());
    assert!(!rig.inside("run/network/leases-front").exists());
    make_room(&rig);
    rig.wait_for("everything to be written", |rig| unwritten(rig).is_empty());
    assert!(rig.inside("state/stopped/plain").exists());
    assert_eq!(set(&rig, "word", b"new").code, 0);
    assert!(value() != old);
    for file in FILES {
        let path = rig.path(file).display().to_string();
        assert_eq!(said(&rig, &format!("{path} is written again")), 1, "{file}");
        assert_eq!(said(&rig, &format!("{path} cannot be written")), 1, "{file}");
    }
    assert!(rig.inside("run/network/leases-front").exists());
    rig.ctl_ok(&["start", "plain"]);
    let before = mains(&rig);
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(mains(&rig), before, "{}", rig.story());
    one_of_each(&rig, &["sleep\x006781", "sleep\x006782", "sleep\x006783", "sleep\x006784"]);
    goes_on(&rig);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn killed_on_full_disks_it_starts_no_second_copy() {
    let mut rig = up(Mode::Revived);
    fill(&rig);
    for _ in 0..10 {
        rig.ctl_ok(&["restart", "boxed"]);
    }
    assert!(unwritten(&rig).contains("run/ledger"), "{}", rig.story());
    rig.ctl_ok(&["start", "late"]);
    rig.kill_berth();
    rig.wait_control();
    // What the ledger does not tell of is ended, and comes up anew if it is wanted.
    for unit in ["talker", "plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    one_of_each(&rig, &["sleep\x006781", "sleep\x006782", "echo tick"]);
    assert_eq!(rig.commands("sleep\x006783"), 0);
    goes_on(&rig);
    make_room(&rig);
    rig.wait_for("everything to be written", |rig| unwritten(rig).is_empty());
    rig.ctl_ok(&["start", "late", "wired"]);
    let before = mains(&rig);
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(mains(&rig), before, "{}", rig.story());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn it_begins_on_full_disks() {
    let mut rig = prepare("mkdir filler; cat /dev/zero >filler/bytes 2>/dev/null;");
    rig.launch(Mode::Revived, &[]);
    rig.wait_control();
    for unit in ["talker", "plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    goes_on(&rig);
    for file in ["run/lock", "run/ledger"] {
        assert!(unwritten(&rig).contains(&rig.path(file).display().to_string()), "{}", rig.story());
        assert_eq!(fs::metadata(rig.inside(file)).unwrap().len(), 0, "{file}");
    }
    make_room(&rig);
    rig.wait_for("everything to be written", |rig| unwritten(rig).is_empty());
    rig.ctl_ok(&["start", "late", "wired"]);
    let before = mains(&rig);
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(mains(&rig), before, "{}", rig.story());
    assert_eq!(rig.finish(), 0);
}

/// The state is a mount of its own; what berth has open for writing is on others, as the kernel
/// wants it.
fn can_be_read_only() -> Rig {
    let mut rig = Rig::prepare(UNITS);
    rig.before = format!(
        "cd {}; mkdir -p state; mount --bind state state; mkdir -p state/log; touch lock state/lock; \
         mount --bind lock state/lock; mount -t tmpfs logs state/log; cd /;",
        rig.path("").display()
    );
    rig
}

fn remount(rig: &Rig, how: &str) {
    let state = rig.path("state").display().to_string();
    let (done, said) = rig.on_host(&format!("mount -o remount,bind,{how} {state} 2>&1"));
    assert!(done, "{said}");
}

#[test]
fn state_that_becomes_read_only_stops_nobody() {
    let mut rig = can_be_read_only();
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    for unit in ["talker", "plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    remount(&rig, "ro");
    // The control.
    let refused = fs::write(rig.inside("state/mine"), "").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    order_about(&rig);
    goes_on(&rig);
    let refused = set(&rig, "word", b"value");
    assert!(refused.code == 1 && refused.err.contains(READ_ONLY), "{refused:?}");
    for file in ["state/stopped", "state/user-namespaces"] {
        rig.wait_for(&format!("{file} to be told of"), |rig| {
            let path = rig.path(file).display().to_string();
            unwritten(rig).lines().any(|line| line.contains(&path) && line.contains(READ_ONLY))
        });
    }
    // Another program goes on with it, and has nothing new to say.
    rig.ctl_ok(&["upgrade"]);
    assert!(unwritten(&rig).contains("state/stopped"), "{}", rig.story());
    remount(&rig, "rw");
    rig.wait_for("everything to be written", |rig| unwritten(rig).is_empty());
    assert!(rig.inside("state/stopped/plain").exists());
    assert_eq!(set(&rig, "word", b"value").code, 0);
    let path = rig.path("state/stopped").display().to_string();
    assert_eq!(said(&rig, &format!("{path} cannot be written")), 1);
    assert_eq!(said(&rig, &format!("{path} is written again")), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_end_waits_for_no_disk_but_tries_once_more() {
    let mut rig = can_be_read_only();
    for room in [false, true] {
        rig.launch(Mode::Boot, &[]);
        rig.wait_control();
        rig.wait_state("plain", "running");
        remount(&rig, "ro");
        rig.ctl_ok(&["stop", "plain"]);
        rig.wait_for("it to be told of", |rig| unwritten(rig).contains("state/stopped"));
        if room {
            remount(&rig, "rw");
        }
        rig.signal(Signal::SIGTERM);
        assert_eq!(rig.wait_end(), 0, "{}", rig.story());
        assert_eq!(rig.path("state/stopped/plain").exists(), room);
    }
}

/// The disk fails: the same by a tracer, which lets no write to the ledger through.
#[test]
fn a_ledger_that_fails_is_written_when_it_works_again() {
    let mut rig = Rig::start(Mode::Revived, UNITS, &[]);
    for unit in ["talker", "plain", "boxed"] {
        rig.wait_state(unit, "running");
    }
    let paths = ["run/ledger", "run/ledger.new"].map(|name| rig.path(name).display().to_string());
    let options = ["write", "-P", &paths[0], "-P", &paths[1]];
    let tracer = Tracer::attach(rig.berth_pid(), &options, "error=EIO", rig.path("trace"));
    rig.ctl_ok(&["start", "late", "wired"]);
    // The control.
    assert!(tracer.done().len() > 1);
    assert!(unwritten(&rig).contains("Input/output error"), "{}", rig.story());
    let late = format!("\"pid\":{}", rig.main_pid("late"));
    let is_told = |rig: &Rig| fs::read_to_string(rig.path("run/ledger")).unwrap().contains(&late);
    assert!(!is_told(&rig));
    tracer.end();
    rig.wait_for("it to be written", |rig| unwritten(rig).is_empty());
    assert!(is_told(&rig));
    let before = mains(&rig);
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(mains(&rig), before, "{}", rig.story());
    assert_eq!(rig.finish(), 0);
}

/// Something is in the place of the control socket that cannot be moved out of the way.
#[test]
fn process_1_begins_without_a_control_socket() {
    let mut rig = Rig::prepare(UNITS);
    let socket = rig.path("run/control.sock").display().to_string();
    let run = rig.path("run").display().to_string();
    rig.before = format!("mkdir {run}; touch {socket}; mount --bind {socket} {socket};");
    rig.launch(Mode::UpAsInit, &[]);
    rig.wait_for("the talker", |rig| rig.path("share/n").exists());
    goes_on(&rig);
    assert!(rig.ctl(&["status"]).code != 0);
    let (done, said) = rig.on_host(&format!("umount {socket} 2>&1"));
    assert!(done, "{said}");
    rig.wait_control();
    rig.wait_log("berth", &format!("{socket} is written again"));
    let told = rig.logs("berth");
    let told = told.lines().filter(|line| line.contains("where berthctl finds this supervisor"));
    assert_eq!(told.count(), 1);
    assert_eq!(rig.finish(), 0);
}
