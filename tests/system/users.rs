//! Ranges of user numbers: each unit its own, kept, and what happens when there is none.

use std::fs;

use crate::rig::{Mode, Rig};

const POOL: &[&str] = &["--user-namespace-pool", "1900000000:131072"];

const UNITS: &str = "[service.a]\ncommand = \"sleep 1000\"\n[service.b]\ncommand = \"sleep 1000\"\n\
                     wanted-by = []\n[service.c]\ncommand = \"sleep 1000\"\nwanted-by = []\n\
                     [service.host]\ncommand = \"sleep 1000\"\n\
                     security = { user-namespace = \"none\" }\n";

/// The user of a unit's main process, as the host sees it.
fn user(rig: &Rig, unit: &str) -> u32 {
    let pid = rig.host_pid(rig.main_pid(unit));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_unit_keeps_its_range_and_status_shows_it() {
    let mut rig = Rig::start(Mode::Boot, UNITS, POOL);
    rig.wait_state("a", "running");
    rig.wait_state("host", "running");
    let shown = |rig: &Rig, unit: &str| rig.status(unit)["user_namespace"].clone();
    assert_eq!(shown(&rig, "a"), "0:1900000000:65536");
    assert!(shown(&rig, "host").is_null() && rig.status("host")["no_user_namespace"].is_null());
    assert_eq!((user(&rig, "a"), user(&rig, "host")), (1_900_000_000, 0));
    rig.ctl_ok(&["start", "b"]);
    assert_eq!(user(&rig, "b"), 1_900_065_536);
    // A third finds nothing, and says so.
    let said = rig.ctl(&["start", "c"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("no range of user numbers is left in the pool"), "{said:?}");
    for unit in ["b", "a"] {
        rig.ctl_ok(&["restart", unit]);
    }
    assert_eq!((user(&rig, "a"), user(&rig, "b")), (1_900_000_000, 1_900_065_536));
    assert_eq!(rig.finish(), 0);
    let text = fs::read_to_string(rig.path("state/user-namespaces")).unwrap();
    assert_eq!(text, "1900000000 a\n1900065536 b\n");
    // The next berth gives the same, in whatever order they start.
    fs::write(rig.path("state/user-namespaces"), "1900065536 a\n1900000000 b\n").unwrap();
    rig.launch(Mode::Boot, POOL);
    rig.wait_control();
    rig.wait_state("a", "running");
    assert_eq!(shown(&rig, "a"), "0:1900065536:65536");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_filesystem_that_cannot_be_mapped_is_named_in_status() {
    let mut rig = Rig::up(
        "[service.a]\ncommand = \"sleep 1000\"\n\
         mounts = [{ type = \"bind\", source = \"/dev\", target = \"/mnt\" }]\n",
    );
    rig.wait_state("a", "running");
    let status = rig.status("a");
    let why = status["no_user_namespace"].as_str().unwrap();
    assert!(why.starts_with("bind-mount /dev on /mnt: its filesystem"), "{why}");
    assert!(status["user_namespace"].is_null());
    assert_eq!(user(&rig, "a"), 0);
    let said = rig.ctl(&["exec", "a", "--", "cat", "/proc/self/uid_map"]);
    assert_eq!(said.out.split_whitespace().nth(1), Some("0"), "{said:?}");
    assert_eq!(rig.finish(), 0);
}
