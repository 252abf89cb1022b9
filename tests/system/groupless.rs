//! A host without control groups: everything but limits and freezing still works, and what
//! does not work is said.

use serde_json::json;

use crate::rig::{Mode, Rig};

#[test]
fn containers_come_and_go_without_control_groups() {
    let mut rig = Rig::start(
        Mode::UpWithoutGroups,
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.inside]
        command = ["sh", "-c", "(setsid sleep 901 &) ; echo up; exec sleep 902"]
        limits = { memory = "64M" }
        [service.plain]
        isolation = "none"
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); exec "sleep", "903"''']
        ready = "notify"
        [service.strict]
        command = "sleep 904"
        limits = { memory = "64M", strict = true }
        restart = "no"
        "#,
        &[],
    );
    rig.wait_for("its complaint", |rig| rig.out().contains("no control groups here"));
    rig.wait_log("inside", "up");
    rig.wait_state("plain", "running");
    assert!(rig.status("inside")["cgroup"].is_null());
    assert!(rig.status("inside")["unenforced"].to_string().contains("memory"));
    rig.wait_state("strict", "failed");
    let (result, why, _) = rig.verdict("strict");
    assert_eq!(result, "resources");
    assert!(why.contains("memory") && why.contains("test.toml:13"), "{why}");
    let said = rig.ctl(&["freeze", "keep"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("control groups"), "{said:?}");
    assert_eq!(rig.state("keep"), "running");
    for unit in ["inside", "plain"] {
        rig.ctl_ok(&["stop", unit]);
        assert_eq!(rig.verdict(unit).2, json!({"signal": 15}));
    }
    // All but the one of keep, also the orphan inside.
    assert_eq!(rig.descendants("sleep").len(), 1);
    rig.ctl_ok(&["kill", "-s", "KILL", "keep"]);
    rig.wait_for("its restart", |rig| rig.restarts("keep") == 1 && rig.state("keep") == "running");
    assert_eq!(rig.finish(), 0);
}
