//! Every example is run, as a person would run it, and does what its comments promise.
//!
//! Each in namespaces of its own, with the network of a machine of its own; the rig sees
//! to it that nothing is left. The root file system of the quickstart is unpacked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    dead_code,
    reason = "a test that panics has failed, as it should; the rig has more than is used here"
)]

#[path = "system/rig.rs"]
mod rig;
#[path = "examples/wordpress.rs"]
mod wordpress;

use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{Mode, Rig};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every example that is one file, as it is called; [`each_example_has_a_test`] compares.
const TESTED: [&str; 7] =
    ["hello", "isolation-none", "networks", "oneshots", "quickstart", "restart", "secrets"];

fn file(name: &str) -> PathBuf {
    Path::new(ROOT).join("examples").join(name).with_extension("toml")
}

fn run(name: &str) -> Rig {
    Rig::start(Mode::Up, "", &[file(name).to_str().unwrap()])
}

#[test]
fn each_example_has_a_test() {
    let entries = std::fs::read_dir(Path::new(ROOT).join("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, TESTED);
}

/// Made twice from nothing but the archives: the same files, owners, modes, times and contents.
#[test]
fn a_root_file_system_is_reproducible() {
    let make = || {
        let mut script = Command::new(Path::new(ROOT).join("scripts/rootfs"));
        script.env("SOURCE_DATE_EPOCH", "1600000000");
        script.args(["--fresh", "--user", "someone:812:/srv", "reproducible", "busybox-static"]);
        let made = script.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let tree = String::from_utf8(made.stdout).unwrap();
        let archive =
            format!("tar --sort=name --numeric-owner -C {} -cf - . | sha256sum", tree.trim());
        let archive = Command::new("sh").args(["-c", &archive]).output().unwrap();
        assert!(archive.status.success());
        // Not while another test copies from there.
        let forget = "flock .cache/rootfs.lock rm -rf .cache/rootfs/.packages/busybox-static_* ";
        let forget = format!("{forget}{}", tree.trim());
        let forgotten = Command::new("sh").args(["-c", &forget]).current_dir(ROOT).status();
        assert!(forgotten.unwrap().success());
        archive.stdout
    };
    assert_eq!(make(), make());
}

#[test]
fn hello_sees_a_world_of_its_own() {
    let mut rig = run("hello");
    rig.wait_log("hello", "hello, it is ");
    assert_eq!(rig.state("where"), "done");
    let said = rig.logs("where");
    for line in [
        "my host name is where",
        "processes I see: 1 2 ",
        "network devices: lo",
        "files in /tmp: 0, in /run: 0",
        "/usr is read-only for me",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn isolation_none_is_a_plain_process_with_limits() {
    let mut rig = run("isolation-none");
    rig.wait_log("clock", "good day from nobody in /tmp");
    rig.wait_log("patient", "at work");
    let limits =
        std::fs::read_to_string(format!("/proc/{}/limits", rig.host_pid(rig.main_pid("clock"))));
    let limits = limits.unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("256"), "{files}");
    rig.ctl_ok(&["stop", "patient"]);
    assert_eq!(rig.state("patient"), "inactive");
    rig.wait_log("patient", "saving my work");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn networks_connect_who_belongs_together() {
    let mut rig = run("networks");
    rig.wait_state("guest", "done");
    let said = rig.logs("guest");
    assert!(said.contains("web") && said.contains("no store here"), "{said}");
    let (_, page) = rig.on_host("curl -s http://127.0.0.1:8089/");
    assert_eq!(page, "the store says treasure\n");
    let listed = rig.ctl_ok(&["network", "ls"]);
    assert!(listed.contains("front") && listed.contains("back"), "{listed}");
    let shown = rig.ctl_ok(&["network", "show", "back"]);
    assert!(shown.contains("vault") && shown.contains("store"), "{shown}");
    assert_eq!(rig.ctl(&["network", "show", "bakc"]).code, 1);
    assert_eq!(rig.status("web")["ports"][0], "127.0.0.1:8089:80");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn oneshots_hand_their_work_on() {
    let mut rig = run("oneshots");
    rig.wait_log("report", "the report says 5050");
    for (unit, state) in [("fetch", "done"), ("sum", "done"), ("report", "running")] {
        assert_eq!(rig.state(unit), state, "{unit}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn restart_does_what_each_service_asks_for() {
    let mut rig = run("restart");
    rig.wait_state("phoenix", "running");
    let before = rig.main_pid("phoenix");
    rig.ctl_ok(&["kill", "-s", "KILL", "phoenix"]);
    rig.wait_for("another phoenix", |rig| {
        let status = rig.status("phoenix");
        status["state"] == "running" && status["restarts"] == 1
    });
    assert_ne!(rig.main_pid("phoenix"), before);
    rig.wait_log("shaky", "run 4");
    rig.wait_state("shaky", "running");
    assert_eq!(rig.status("shaky")["restarts"], 3);
    rig.wait_state("hopeless", "failed");
    assert_eq!(rig.logs("hopeless").matches("no luck").count(), 4);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn secrets_are_seen_by_who_lists_them() {
    let mut rig = Rig::prepare("");
    rig.variables.push(("API_TOKEN", "xyzzy".to_owned()));
    rig.launch(Mode::Up, &[file("secrets").to_str().unwrap()]);
    rig.wait_control();
    rig.wait_log("client", "my token has 5 bytes; variables with it: 0");
    assert!(rig.ctl(&["start", "database"]).err.contains("`berthctl secret set db-password`"));
    let mut set = rig.ctl_command(&["secret", "set", "db-password"]);
    let value = rig.path("value");
    std::fs::write(&value, "hunter2").unwrap();
    assert!(set.stdin(std::fs::File::open(value).unwrap()).status().unwrap().success());
    rig.ctl_ok(&["start", "database"]);
    rig.wait_log("database", "ready with -r--r----- nobody");
    rig.wait_log("database", "I have no token");
    let shown = rig.ctl_ok(&["exec", "database", "--", "cat", "/run/secrets/password"]);
    assert_eq!(shown, "hunter2");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn quickstart_serves_a_page_that_redis_counts_for() {
    let made = Command::new(Path::new(ROOT).join("scripts/rootfs")).arg("quickstart").output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut rig = run("quickstart");
    rig.wait_state("default", "running");
    let page =
        |rig: &Rig| rig.ctl_ok(&["exec", "web", "--", "wget", "-qO-", "http://127.0.0.1:8088/"]);
    rig.wait_for("the worker's page", |rig| page(rig).contains("<p>Tick "));
    assert!(page(&rig).contains("on worker."), "its own host name");
    rig.wait_for("a healthy web", |rig| rig.status("web")["health"] == "healthy");

    // Who depends on redis comes back with it; the page outlives both.
    let (web, worker) = (rig.main_pid("web"), rig.main_pid("worker"));
    rig.ctl_ok(&["kill", "-s", "KILL", "redis"]);
    rig.wait_for("redis and its worker again", |rig| {
        let (redis, worker_now) = (rig.status("redis"), rig.status("worker"));
        redis["state"] == "running"
            && redis["restarts"] == 1
            && worker_now["state"] == "running"
            && worker_now["main_pid"] != worker
    });
    assert_eq!(rig.main_pid("web"), web);
    rig.ctl_ok(&["stop", "worker"]);
    assert!(page(&rig).contains("<p>Tick "), "the last page is still served");
    assert_eq!(rig.ctl_ok(&["exec", "web", "--", "hostname"]), "web\n");
    assert_eq!(rig.finish(), 0);
}
