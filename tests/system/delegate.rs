//! Units that make control groups of their own, and what is counted of a unit's memory.

use crate::rig::{Mode, Rig};

/// Makes a group below its own, moves there, and says where it is.
const UNITS: &str = "[service.ship]\ncommand = [\"sh\", \"-ec\", \"mkdir /sys/fs/cgroup/mine; \
    echo 0 >/sys/fs/cgroup/mine/cgroup.procs; cat /proc/self/cgroup; echo made; exec sleep 1000\"]\n\
    limits = { delegate = true }\n\
    [service.shore]\ncommand = [\"sh\", \"-c\", \"mkdir /sys/fs/cgroup/mine || echo refused; exec sleep 1000\"]\n";

#[test]
fn a_unit_makes_groups_of_its_own() {
    let rig = Rig::up(UNITS);
    rig.wait_log("ship", "made");
    // What it sees begins at the group that is its own.
    assert!(rig.logs("ship").lines().any(|line| line == "0::/mine"), "{}", rig.logs("ship"));
    // The control: another may not.
    rig.wait_log("shore", "refused");
    // Who joins is beside it, and not in its way.
    let seen = rig.ctl_ok(&["exec", "ship", "--", "cat", "/proc/self/cgroup"]);
    assert!(seen.lines().any(|line| line == "0::/../beside"), "{seen}");
    let group = rig.status("ship")["cgroup"].as_str().unwrap().to_owned();
    assert!(std::path::Path::new(&group).join("home/mine").is_dir());
    rig.ctl_ok(&["restart", "ship"]);
    rig.wait_state("ship", "running");
    rig.ctl_ok(&["stop", "ship"]);
    assert!(!std::path::Path::new(&group).exists());
}

#[test]
fn it_keeps_them_when_berth_is_killed_or_replaced() {
    let rig = Rig::start(Mode::Revived, UNITS, &[]);
    rig.wait_log("ship", "made");
    let pid = rig.main_pid("ship");
    let group = rig.status("ship")["cgroup"].as_str().unwrap().to_owned();
    rig.ctl_ok(&["upgrade"]);
    rig.wait_control();
    let joined = ["exec", "ship", "--", "cat", "/proc/self/cgroup"];
    assert!(rig.ctl_ok(&joined).contains("0::/../beside"));
    rig.kill_berth();
    rig.wait_control();
    assert_eq!(rig.main_pid("ship"), pid);
    assert!(rig.ctl_ok(&joined).contains("0::/../beside"));
    rig.ctl_ok(&["stop", "ship"]);
    assert!(!std::path::Path::new(&group).exists());
}

#[test]
fn kills_for_lack_of_memory_are_counted_over_all_runs() {
    let rig = Rig::up(
        "[service.hungry]\ncommand = [\"sh\", \"-c\", \"x=$(head -c 64M /dev/zero | tr '\\\\0' x)\"]\n\
         restart-delay = \"10ms\"\nrestart-limit = { count = 2, window = \"1min\" }\n\
         limits = { memory = \"16M\" }\n\
         [service.modest]\ncommand = [\"sleep\", \"1000\"]\nlimits = { memory = \"16M\" }\n",
    );
    rig.wait_state("hungry", "failed");
    let status = rig.status("hungry");
    assert!(status["oom_kills"].as_u64().unwrap() >= 2, "{status}");
    rig.wait_state("modest", "running");
    assert_eq!(rig.status("modest")["oom_kills"], 0);
    let shown = rig.ctl(&["status", "hungry"]).out;
    assert!(shown.contains("oom kills: "), "{shown}");
    assert!(!rig.ctl_ok(&["status", "modest"]).contains("oom kills"));
}
