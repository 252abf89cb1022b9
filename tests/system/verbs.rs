//! Every other verb of berthctl, against the real supervisor.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::rig::{Mode, Rig};

const UNITS: &str = "
    [service.db]
    command = 'sleep 1001'
    isolation = 'none'
    description = 'holds it all'
    [service.web]
    command = ['sh', '-c', '''trap 'echo reloaded' HUP; trap 'echo used' USR1; echo up; while :; do sleep 0.02; done''']
    requires = ['db']
    reload-signal = 'HUP'
    restart = 'no'
    [service.web.limits]
    pids = 100
    [service.plain]
    command = 'sleep 1002'
    isolation = 'none'
    wanted-by = []
    restart = 'no'
    [target.all]
    wants = ['web', 'plain']
";

fn rig() -> Rig {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    rig.wait_state("web", "running");
    rig.wait_log("web", "up");
    rig
}

#[test]
fn events_are_told_as_they_happen_and_afterwards() {
    let rig = rig();
    let mut command = rig.ctl_command(&["events", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    // berthctl says nothing until something happens: start and stop until it is heard.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let heard = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rig.ctl_ok(&["start", "plain"]);
                rig.ctl_ok(&["stop", "plain"]);
            }
        });
        let heard: Vec<Value> = (0..12).map(|_| next()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        heard
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(heard.iter().all(|event| event["unit"] == "plain"), "{heard:?}");
    let states: Vec<&str> = heard.iter().map(|event| event["state"].as_str().unwrap()).collect();
    let at = |state: &str| states.iter().position(|it| *it == state).unwrap_or(usize::MAX);
    assert!(states.contains(&"running") && states.contains(&"stopping"), "{states:?}");
    let running = at("running");
    assert!(states[running..].contains(&"inactive"), "{states:?}");
    // Remembered: all since the beginning, in order.
    let mut command = rig.ctl_command(&["events", "--since", "1h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Vec<String> = (0..8).map(|_| lines.next().unwrap().unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.iter().any(|line| line.contains("db") && line.contains("running")), "{first:?}");
}

#[test]
fn kill_reload_and_reset_reach_the_unit() {
    let rig = rig();
    rig.ctl_ok(&["kill", "-s", "USR1", "web"]);
    rig.wait_log("web", "used");
    rig.ctl_ok(&["reload", "web"]);
    rig.wait_log("web", "reloaded");
    let said = rig.ctl(&["reload", "plain"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("plain"), "{said:?}");
    let said = rig.ctl(&["kill", "plain"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("not running") || said.err.contains("inactive"), "{said:?}");
    assert_eq!(rig.ctl(&["kill", "-s", "NOPE", "web"]).code, 2);
    rig.ctl_ok(&["kill", "-s", "9", "web"]);
    rig.wait_state("web", "failed");
    let status = rig.status("web");
    assert_eq!(status["exit"]["signal"], 9);
    assert_eq!(rig.ctl(&["status", "web"]).code, 3);
    rig.ctl_ok(&["reset", "web"]);
    assert_eq!(rig.state("web"), "inactive");
    assert_eq!(rig.state("db"), "running");
    // A name too much, and nothing is done.
    assert_eq!(rig.ctl(&["stop", "db", "nobody"]).code, 4);
    assert_eq!(rig.state("db"), "running");
}

#[test]
fn frozen_units_stand_still_and_stop_all_the_same() {
    let rig = rig();
    rig.ctl_ok(&["freeze", "web"]);
    rig.wait_state("web", "frozen");
    let pid = rig.main_pid("web");
    rig.ctl_ok(&["thaw", "web"]);
    rig.wait_state("web", "running");
    assert_eq!(rig.main_pid("web"), pid);
    rig.ctl_ok(&["kill", "-s", "USR1", "web"]);
    rig.wait_log("web", "used");
    assert_eq!(rig.ctl(&["freeze", "plain"]).code, 1);
    rig.ctl_ok(&["freeze", "web"]);
    rig.ctl_ok(&["stop", "web"]);
    assert_eq!(rig.state("web"), "inactive");
    rig.ctl_ok(&["start", "web"]);
    assert_eq!(rig.state("web"), "running");
}

#[test]
fn what_is_known_is_shown() {
    let rig = rig();
    assert_eq!(rig.ctl_ok(&["list", "--names"]), "all\ndb\ndefault\nplain\nweb\n");
    let list: Value = serde_json::from_str(&rig.ctl_ok(&["list", "--json"])).unwrap();
    assert_eq!(list[4]["name"], "web");
    assert_eq!(list[4]["kind"], "service");
    assert_eq!(list[0]["kind"], "target");
    let deps = rig.ctl_ok(&["deps", "web"]);
    assert!(deps.contains("db") && !deps.contains("plain"), "{deps}");
    let deps = rig.ctl_ok(&["deps", "--reverse", "db"]);
    assert!(deps.contains("web") && deps.contains("all"), "{deps}");
    // The definition has the words of the unit file.
    let shown = rig.ctl_ok(&["show", "web"]);
    for part in [
        "requires = [\"db\"]",
        "reload-signal = \"HUP\"",
        "restart = \"no\"",
        "pids = 100",
        "test.toml:",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown: Value = serde_json::from_str(&rig.ctl_ok(&["show", "--json", "db"])).unwrap();
    assert_eq!(shown["definition"]["description"], "holds it all");
    assert_eq!(shown["definition"]["isolation"]["value"], "none");
    assert_eq!(shown["definition"]["command"]["line"], 3);
    let status: Value = serde_json::from_str(&rig.ctl_ok(&["status", "--json"])).unwrap();
    let keys = [
        "name", "kind", "state", "desired", "main_pid", "exit", "restarts", "since", "ready",
        "health", "result", "cgroup", "memory", "ports",
    ];
    for unit in status.as_array().unwrap() {
        for key in keys {
            assert!(unit.get(key).is_some(), "{key} is missing in {unit}");
        }
    }
    let version = rig.ctl_ok(&["version"]);
    assert_eq!(version.matches(env!("CARGO_PKG_VERSION")).count(), 2, "{version}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(rig.ctl_ok(&["completions", shell]).contains("berthctl"));
    }
    assert_eq!(rig.ctl(&["completions", "dos"]).code, 2);
    for arguments in [
        &["show", "wbe"][..],
        &["deps", "wbe"],
        &["logs", "wbe"],
        &["kill", "wbe"],
        &["freeze", "wbe"],
    ] {
        let said = rig.ctl(arguments);
        assert_eq!(said.code, 4, "{said:?}");
        assert!(said.err.starts_with("berthctl: ") && said.err.contains("web"), "{said:?}");
    }
    let said = rig.ctl(&["check", rig.path("units").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn jobs_may_be_left_to_themselves() {
    let rig = rig();
    rig.ctl_ok(&["stop", "--no-wait", "web", "db"]);
    rig.wait_state("db", "inactive");
    rig.ctl_ok(&["start", "--no-wait", "all"]);
    rig.wait_state("web", "running");
    rig.wait_state("plain", "running");
    let before = rig.main_pid("web");
    rig.ctl_ok(&["restart", "db"]);
    rig.wait_for("what requires it to be restarted too", |rig| {
        rig.state("web") == "running" && rig.main_pid("web") != before
    });
}
