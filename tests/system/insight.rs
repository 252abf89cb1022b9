//! What starts took and what units use, of real units.

use std::fs;

use serde_json::Value;

use crate::rig::{Mode, Rig};

const UNITS: &str = "
    [service.job]
    command = 'true'
    type = 'oneshot'
    [service.db]
    command = ['sh', '-c', 'echo >&3; exec sleep 4401']
    ready = 'fd:3'
    isolation = 'none'
    requires = ['job']
    start-pre = [['sleep', '0.2']]
    [service.web]
    command = ['sh', '-c', 'sleep 0.3; echo >&3; exec sleep 4402']
    ready = 'fd:3'
    isolation = 'none'
    requires = ['db']
    [service.web.limits]
    memory = '64M'
    pids = 50
    [service.boxed]
    command = ['sh', '-c', 'sleep 4403 & sleep 4404 & wait']
    [service.off]
    command = 'sleep 4405'
    wanted-by = []
";

fn json(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&rig.ctl_ok(arguments)).unwrap()
}

fn row<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

/// Microseconds of a phase of a unit's first start.
fn time(rows: &[Value], name: &str, phase: &str) -> i64 {
    row(rows, name)[phase].as_i64().unwrap_or_else(|| panic!("{name} {phase} in {rows:?}"))
}

#[test]
fn starts_are_measured_and_remembered_through_an_upgrade_and_a_kill() {
    let rig = Rig::start(Mode::Revived, UNITS, &[]);
    for unit in ["db", "web", "boxed", "default"] {
        rig.wait_state(unit, "running");
    }
    let blame = json(&rig, &["blame", "--json"]);
    let names: Vec<&str> = blame.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "targets and what was not started take no time: {names:?}");
    assert!(blame.is_sorted_by_key(|row| -row["took"].as_i64().unwrap()), "{blame:?}");
    assert!(time(&blame, "db", "preparing") >= 200_000);
    assert!(time(&blame, "web", "starting") >= 300_000);
    assert!(time(&blame, "web", "waiting") >= time(&blame, "db", "took"));
    assert!(time(&blame, "web", "ready") > time(&blame, "db", "ready"));
    let chain = json(&rig, &["critical-chain", "--json"]);
    let links: Vec<&str> = chain.iter().map(|link| link["name"].as_str().unwrap()).collect();
    assert_eq!(links, ["default", "web", "db", "job"]);
    let plot = rig.ctl_ok(&["plot"]);
    for (unit, lanes) in [("web", 1), ("boxed", 1), ("default", 1), ("off", 0), ("kernel", 0)] {
        assert_eq!(plot.matches(&format!(">{unit}</text>")).count(), lanes, "{unit}");
    }
    let graph = rig.ctl_ok(&["graph"]);
    assert!(graph.contains("\"web\" -> \"db\";") && graph.contains("\"off\""), "{graph}");

    // A later start does not take the place of the first.
    rig.ctl_ok(&["restart", "boxed"]);
    assert_eq!(json(&rig, &["blame", "--json"]).len(), 4);
    let remembered = |name: &str, rows: &[Value]| {
        ["took", "preparing", "starting", "waiting"].map(|phase| time(rows, name, phase))
    };
    rig.ctl_ok(&["upgrade"]);
    let upgraded = json(&rig, &["blame", "--json"]);
    for name in ["job", "db", "web", "boxed"] {
        assert_eq!(remembered(name, &upgraded), remembered(name, &blame), "{name}");
        assert_eq!(time(&upgraded, name, "ready"), time(&blame, name, "ready"));
    }
    rig.kill_berth();
    rig.wait_control();
    rig.wait_state("default", "running");
    let adopted = json(&rig, &["blame", "--json"]);
    for name in ["job", "db", "web", "boxed"] {
        assert_eq!(remembered(name, &adopted), remembered(name, &blame), "{name}");
        assert!(time(&adopted, name, "ready") < 0, "before this supervisor began: {adopted:?}");
    }
    let chain = json(&rig, &["critical-chain", "web", "--json"]);
    assert_eq!(chain.len(), 3, "{chain:?}");
}

#[test]
fn what_units_use_is_counted_with_and_without_controllers() {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    rig.wait_state("default", "running");
    let stats = json(&rig, &["stats", "--json"]);
    let names: Vec<&str> = stats.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["boxed", "db", "web"]);
    for row in &stats {
        assert!(row["cpu_usec"].as_u64().unwrap() > 0, "{row}");
        assert!(row["memory"].as_u64().unwrap() > 50_000, "{row}");
        assert!(row["read"].is_u64() && row["cpu_percent"].is_number(), "{row}");
    }
    assert_eq!(row(&stats, "web")["pids"], 1);
    // sh and its two children; the tiny init is one more.
    assert_eq!(row(&stats, "boxed")["pids"], 4);
    // Limits, where this host can hold them; what nobody counts is added up, and said to be.
    let web = row(&stats, "web");
    let unenforced = rig.status("web")["unenforced"].to_string();
    if !unenforced.contains("memory") {
        assert_eq!(web["memory_limit"], 64 << 20);
        assert_eq!(web["memory"], rig.status("web")["memory"]);
        assert!(!web["summed"].as_array().unwrap().contains(&Value::from("memory")), "{web}");
    }
    if !unenforced.contains("pids") {
        assert_eq!(web["pids_limit"], 50);
    }
    let before = row(&stats, "db")["memory"].as_u64().unwrap();
    assert!(before < 64 << 20, "{before}");
    let only = json(&rig, &["stats", "--json", "db"]);
    assert_eq!(only.len(), 1);
    rig.ctl_ok(&["stop", "web"]);
    let said = rig.ctl(&["stats", "--json", "web"]);
    assert_eq!((said.code, said.out.as_str()), (3, "[]\n"));
    assert_eq!(said.err, "berthctl: web is not running\n");
    assert_eq!(rig.ctl(&["stats", "nobody"]).code, 4);
    let table = rig.ctl_ok(&["top"]);
    assert!(table.starts_with("NAME ") && table.contains("boxed"), "{table}");
}

#[test]
fn a_watcher_costs_one_helper_and_ends_with_its_client() {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    rig.wait_state("default", "running");
    let mut command = rig.ctl_command(&["stats"]);
    // Stopped between two looks: the helper waits.
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    rig.wait_for("a helper", |rig| rig.children("berth-helper").len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.wait_for("the helper to end", |rig| rig.children("berth-helper").is_empty());
    assert!(fs::read_to_string(format!("/proc/{}/stat", rig.berth_pid())).is_ok());
}
