//! Upgrade in place: berth becomes another program, and no service notices.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::rig::{BERTH, Mode, Rig};

const UNITS: &str = r"
    [service.plain]
    command = 'sleep 5511'
    isolation = 'none'
    [service.boxed]
    command = ['sh', '-c', 'n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.01; done']
    [service.talker]
    command = ['perl', '-e', '''@PERL@ notify('READY=1'); $SIG{HUP} = sub { notify('STATUS=hupped') };
        while (1) { notify('WATCHDOG=1'); select(undef, undef, undef, 0.05) }''']
    ready = 'notify'
    watchdog = '5s'
    [service.flaky]
    command = ['sh', '-c', 'exit 3']
    restart-delay = '1h'
    restart-delay-max = '1h'
    [service.slow]
    command = ['sh', '-c', 'until [ -e /mnt/go ]; do sleep 0.01; done; echo >&3; exec sleep 5512']
    ready = 'fd:3'
    mounts = [@SHARE@]
    wanted-by = []
    [service.job]
    command = 'true'
    type = 'oneshot'
    [service.dying]
    command = ['sh', '-c', 'until [ -e /mnt/die ]; do sleep 0.01; done; exit 7']
    mounts = [@SHARE@]
    restart = 'no'
    isolation = ['mount']
";

fn up() -> Rig {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    for unit in ["plain", "boxed", "talker", "dying"] {
        rig.wait_state(unit, "running");
    }
    rig.wait_state("job", "done");
    rig.wait_state("flaky", "backoff");
    rig
}

/// What must not change.
fn facts(rig: &Rig) -> Vec<Value> {
    let text = rig.ctl_ok(&["status", "--json"]);
    let mut list: Vec<Value> = serde_json::from_str(&text).unwrap();
    for unit in &mut list {
        let unit = unit.as_object_mut().unwrap();
        // A moment of the past is told by the wall clock of today, to the millisecond.
        unit.retain(|key, _| {
            ["name", "state", "desired", "main_pid", "exit", "restarts", "cgroup", "why", "result"]
                .contains(&key.as_str())
        });
    }
    list
}

/// A copy of the program: the same, but another file.
fn copy(rig: &Rig, name: &str) -> PathBuf {
    fs::create_dir(rig.path(name)).unwrap();
    let path = rig.path(name).join("berth");
    fs::copy(BERTH, &path).unwrap();
    path
}

fn as_text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

/// Whether the ticks of `boxed` are 1, 2, 3 … without a gap or a repetition.
fn assert_no_tick_is_lost(rig: &Rig) {
    let ticks = rig.logs("boxed");
    for (index, line) in ticks.lines().enumerate() {
        assert_eq!(line, format!("tick {}", index + 1));
    }
}

#[test]
fn no_service_notices_it() {
    let mut rig = up();
    let before = facts(&rig);
    let logger = rig.child("berth-logger").unwrap();
    let pid = rig.berth_pid();
    // Those who wait: for a start, for events, for output, for a command.
    let mut start = rig.ctl_command(&["start", "slow"]).spawn().unwrap();
    rig.wait_state("slow", "starting");
    let mut events = rig.ctl_command(&["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut exec = rig
        .ctl_command(&["exec", "-i", "boxed", "--", "sh", "-c", "read x; echo got $x; exit 9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    rig.wait_for("the command", |rig| rig.commands("got $x") > 0);

    let said = rig.ctl_ok(&["upgrade"]);
    assert!(said.contains("goes on where"), "{said}");
    assert_eq!(rig.berth_pid(), pid);
    // The same file: the logger stays.
    assert_eq!(rig.child("berth-logger"), Some(logger));
    let other = copy(&rig, "new");
    rig.ctl_ok(&["upgrade", as_text(&other)]);
    assert_eq!(rig.berth_pid(), pid);
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(exe, other);
    rig.wait_for("the logger of the new program", |rig| {
        rig.child("berth-logger").is_some_and(|new| new != logger)
    });
    let mut after = facts(&rig);
    assert_eq!(after.iter().filter(|unit| unit["name"] == "slow").count(), 1);
    let calm = |unit: &Value| unit["name"] != "slow";
    let mut before: Vec<Value> = before.into_iter().filter(calm).collect();
    after.retain(calm);
    before.sort_by_key(|unit| unit["name"].to_string());
    after.sort_by_key(|unit| unit["name"].to_string());
    assert_eq!(before, after);

    // Everything goes on: the exit code of what ends now, the job, the relay, the notify socket.
    fs::write(rig.path("share/die"), "").unwrap();
    rig.wait_state("dying", "failed");
    assert_eq!(rig.status("dying")["exit"]["code"], 7);
    fs::write(rig.path("share/go"), "").unwrap();
    assert!(start.wait().unwrap().success());
    rig.wait_state("slow", "running");
    let mut input = exec.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"bytes\n").unwrap();
    let output = exec.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(9), b"got bytes\n".as_slice())
    );
    rig.ctl_ok(&["kill", "-s", "HUP", "talker"]);
    rig.wait_for("word of the service", |rig| rig.status("talker")["status_text"] == "hupped");
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let seen = lines.find(|line| line.as_ref().unwrap().contains("\"dying\"")).unwrap().unwrap();
    assert!(seen.contains("failed") || seen.contains("stopping"), "{seen}");
    events.kill().unwrap();
    events.wait().unwrap();
    rig.wait_for("more ticks", |rig| rig.logs("boxed").lines().count() > 50);
    assert_no_tick_is_lost(&rig);
    assert_eq!(rig.restarts("talker"), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_cannot_take_over_is_refused_and_nothing_has_changed() {
    let mut rig = up();
    let before = facts(&rig);
    let executable = |name: &str, text: &[u8]| {
        let path = rig.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let old = executable(
        "old",
        b"#!/bin/sh\necho 'berth 0.0 does not understand the state' >&2; exit 1\n",
    );
    let mute = executable("mute", b"#!/bin/sh\nexit 4\n");
    let killed = executable("killed", b"#!/bin/sh\nkill -9 $$\n");
    let program = fs::read(BERTH).unwrap();
    let half = executable("half", &program[..4096]);
    let text = rig.path("text");
    fs::write(&text, "no program").unwrap();
    for (program, why) in [
        ("/bin/true", "/bin/true is not a berth that can take over"),
        ("/nothing/here", "No such file or directory"),
        (as_text(&text), "Permission denied"),
        (as_text(&old), "berth 0.0 does not understand the state"),
        (as_text(&mute), "cannot take over: exit code 4"),
        (as_text(&killed), "was killed while it read the state"),
        (as_text(&half), "half"),
    ] {
        let said = rig.ctl(&["upgrade", program]);
        assert_eq!(said.code, 1, "{program}: {said:?}");
        assert!(
            said.err.contains("cannot upgrade") && said.err.contains(why),
            "{program}: {said:?}"
        );
        assert_eq!(facts(&rig), before, "{program}");
    }
    // The control: one that can.
    rig.ctl_ok(&["upgrade"]);
    assert_eq!(facts(&rig), before);
    // A new file at the same path is what the next upgrade takes.
    let path = copy(&rig, "new");
    rig.ctl_ok(&["upgrade", as_text(&path)]);
    fs::rename(copy(&rig, "newer"), &path).unwrap();
    let exe = format!("/proc/{}/exe", rig.berth_pid());
    assert!(fs::read_link(&exe).unwrap().to_string_lossy().ends_with("(deleted)"));
    rig.ctl_ok(&["upgrade"]);
    assert_eq!(fs::read_link(&exe).unwrap(), path);
    assert_eq!(facts(&rig), before);
    assert_no_tick_is_lost(&rig);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_thousand_upgrades_under_load() {
    let units = format!(
        "{UNITS}
        [service.restless]
        command = ['sh', '-c', 'exit 5']
        isolation = 'none'
        restart-delay = '0s'
        restart-limit = {{ count = 0, window = '1min' }}
        [service.restless-box]
        command = ['sh', '-c', 'exit 6']
        restart-delay = '1ms'
        restart-delay-max = '1ms'
        restart-limit = {{ count = 0, window = '1min' }}
        "
    );
    let mut rig = Rig::start(Mode::Boot, &units, &[]);
    rig.wait_state("boxed", "running");
    let pid = rig.main_pid("boxed");
    let descriptors = rig.descriptors();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (rig, over) = (&rig, &over);
        scope.spawn(move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                rig.ctl_ok(&["restart", "plain"]);
                rig.ctl_ok(&["stop", "talker"]);
                rig.ctl_ok(&["start", "talker"]);
            }
        });
        for _ in 0..1000 {
            rig.ctl_ok(&["upgrade"]);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(rig.main_pid("boxed"), pid);
    rig.wait_state("talker", "running");
    assert_no_tick_is_lost(&rig);
    assert!(rig.restarts("restless") > 100 && rig.restarts("restless-box") > 10);
    for unit in ["restless", "restless-box"] {
        rig.ctl_ok(&["stop", unit]);
    }
    // Nothing was left behind by a thousand programs but what the restless had.
    rig.wait_for("no more descriptors than before", |rig| rig.descriptors() <= descriptors);
    assert_eq!(rig.finish(), 0);
}
