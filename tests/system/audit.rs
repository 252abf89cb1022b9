//! `berthctl audit` against what the kernel really holds.

use serde_json::Value;

use crate::rig::{BERTHCTL, Mode, Rig, Said};

const UNITS: &str = "[service.web]\ncommand = \"sleep 1000\"\n\
    [service.trusted]\ncommand = \"sleep 1000\"\nsecurity = { privileged = true }\n\
    [service.plain]\ncommand = \"sleep 1000\"\nisolation = \"none\"\n\
    [service.tight]\ncommand = \"sleep 1000\"\nuser = \"65534\"\n\
    security = { capabilities = [], writable-paths = [] }\n";

/// `berthctl` where it sees the same processes as berth.
fn beside(rig: &Rig, arguments: &[&str]) -> Said {
    let berth = rig.berth_pid().to_string();
    let mut command = std::process::Command::new("nsenter");
    command.args(["--target", &berth, "--mount", "--pid", "--", BERTHCTL, "--runtime-dir"]);
    command.arg(rig.path("run")).args(arguments).env("NO_COLOR", "1").output().unwrap().into()
}

fn audits(said: &Said) -> Vec<Value> {
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

fn holds<'a>(audit: &'a Value, name: &str) -> &'a str {
    let all = audit["defences"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap()["holds"].as_str().unwrap()
}

#[test]
fn the_more_is_held_the_higher_the_score() {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    let units = ["plain", "tight", "trusted", "web"];
    for unit in units {
        rig.wait_state(unit, "running");
    }
    let all = audits(&beside(&rig, &["audit", "--json"]));
    let names: Vec<&str> = all.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, units);
    let [plain, tight, trusted, web] = all.as_slice() else { panic!() };
    for audit in &all {
        assert_eq!(audit["verified"], true, "{audit}");
    }
    let score = |audit: &Value| audit["score"].as_u64().unwrap();
    assert!(score(plain) < score(trusted), "{plain} {trusted}");
    assert!(score(trusted) < score(web), "{trusted} {web}");
    assert!(score(web) < score(tight), "{web} {tight}");
    assert_eq!((&plain["word"], &trusted["word"]), (&"exposed".into(), &"exposed".into()));
    assert_ne!(web["word"], "exposed");
    assert_eq!(tight["word"], "ok");
    for (name, of_web, of_trusted) in [
        ("capabilities", "partly", "no"),
        ("kernel files", "yes", "no"),
        ("system calls", "yes", "no"),
        ("devices", "yes", "no"),
        ("mount namespace", "partly", "partly"),
        ("pid namespace", "yes", "yes"),
    ] {
        assert_eq!((holds(web, name), holds(trusted, name)), (of_web, of_trusted), "{name}");
        assert_ne!(holds(web, name), "no", "{name}");
    }
    // From where its processes cannot be seen nothing is said of them.
    let far = audits(&rig.ctl(&["audit", "web", "--json"]));
    assert_eq!(far[0]["verified"], false);
}

#[test]
fn what_the_kernel_does_not_hold_is_a_failure() {
    let units = "[service.good]\ncommand = \"sleep 1000\"\nsecurity = { privileged = true }\n";
    let rig = Rig::start(Mode::Boot, units, &[]);
    rig.wait_state("good", "running");
    let said = beside(&rig, &["audit", "good"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    // The root tree is read-only by promise; whoever has SYS_ADMIN ends that.
    let remount = ["exec", "good", "--", "mount", "-o", "remount,bind,rw", "/"];
    rig.ctl_ok(&remount);
    let said = beside(&rig, &["audit", "good"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("does not hold what was promised: root tree of good"), "{said:?}");
}

/// Somebody has taken the limit away since.
#[test]
fn a_limit_that_has_gone_is_a_failure() {
    let rig = Rig::start(Mode::Boot, "[service.web]\ncommand = \"sleep 1000\"\n", &[]);
    rig.wait_state("web", "running");
    let said = beside(&rig, &["audit", "web"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "the control");
    let pid = rig.host_pid(rig.main_pid("web"));
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |which: &str| groups.lines().find_map(|line| line.split_once(which)).map(|it| it.1);
    let group = match (of(":pids:"), of("0::")) {
        (Some(path), _) => format!("/sys/fs/cgroup/pids{path}"),
        (None, path) => format!("/sys/fs/cgroup{}", path.unwrap()),
    };
    std::fs::write(format!("{group}/pids.max"), "max").unwrap();
    let said = beside(&rig, &["audit", "web"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("does not hold what was promised: pids limit of web"), "{said:?}");
}
