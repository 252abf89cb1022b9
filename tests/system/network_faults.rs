//! Networks when a step fails: every system call of the keeper by which it changes something
//! or hears of it fails once, and the keeper dies at every one of them. A tracer makes them
//! fail, so nothing in the program is there for the test.

use crate::network::start;
use crate::network_leaks::state;
use crate::rig::{Mode, PATIENCE, Rig, pause};
use crate::tracer::Tracer;

/// What the keeper changes the host by, and hears of it. Each is counted by itself.
const CALLS: [&str; 8] =
    ["sendto", "recvfrom", "sendmsg", "write", "setns", "bind", "rename", "socket"];

/// A host with an idle unit in a network of its own, so that there is a keeper; and the unit
/// that is started, which has all there is: two networks, IPv6, ports.
const UNITS: &str = r#"
[network.own]
[network.front]
ipv6 = true
[network.back]
internal = true
[service.idle]
command = ["sleep", "1000"]
networks = ["own"]
[service.web]
command = ["sleep", "1000"]
networks = ["front", "back"]
ports = ["8080:80"]
wanted-by = []
restart = "no"
"#;

/// Does something at the keeper's call number `when` of this name.
fn trace(rig: &Rig, call: &str, what: &str, when: usize) -> Tracer {
    let keeper = rig.descendants("berth-network")[0];
    Tracer::attach(keeper, &[call], &format!("{what}:when={when}"), rig.path("trace"))
}

/// Waits until the host is as it was; says what is not.
fn wait_state(rig: &Rig, before: &str, what: &str) {
    let begun = std::time::Instant::now();
    loop {
        let now = state(rig);
        if now == before {
            return;
        }
        let new: Vec<&str> = now.lines().filter(|line| !before.contains(line)).collect();
        let gone: Vec<&str> = before.lines().filter(|line| !now.contains(line)).collect();
        let late = begun.elapsed() > PATIENCE;
        assert!(!late, "after {what}:\nnew {new:#?}\ngone {gone:#?}\n{}", rig.story());
        pause();
    }
}

fn ready() -> (Rig, String) {
    let rig = start(Mode::Up, UNITS);
    rig.wait_state("default", "running");
    let before = state(&rig);
    (rig, before)
}

#[test]
fn a_step_that_fails_leaves_nothing_and_is_named() {
    let (mut rig, before) = ready();
    let (mut failed, mut endured) = (0, 0);
    for call in CALLS {
        for when in 1.. {
            let tracer = trace(&rig, call, "error=EIO", when);
            let said = rig.ctl(&["start", "web"]);
            let Some(line) = tracer.end().pop() else {
                assert_eq!(said.code, 0, "nothing failed: {said:?}");
                rig.ctl_ok(&["stop", "web"]);
                break;
            };
            if said.code == 0 {
                // It was done in another way, or said again; then all of it is done.
                let rules = state(&rig);
                let published = rules.contains("tcp . 8080");
                assert!(published, "{when}: {line}: not published\n{}", rig.story());
                endured += 1;
            } else {
                failed += 1;
                let words = ["cannot ", "is not", "do not", "does not"];
                let names = words.iter().any(|it| said.err.contains(it));
                assert!(names && said.err.lines().count() <= 2, "{when}: {line}: {said:?}");
            }
            rig.ctl_ok(&["stop", "web"]);
            wait_state(&rig, &before, &format!("{when}: {line}"));
            rig.ctl_ok(&["reset", "web"]);
        }
    }
    assert!(failed >= 60, "{failed} failed, {endured} endured");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_keeper_that_dies_at_any_step_costs_time_and_nothing_else() {
    let (mut rig, before) = ready();
    let mut deaths = 0;
    for (call, step) in [("recvfrom", 5), ("sendto", 4), ("write,setns,bind,rename,socket", 4)] {
        for when in (1..).step_by(step) {
            let keeper = rig.descendants("berth-network");
            let tracer = trace(&rig, call, "signal=KILL", when);
            let said = rig.ctl(&["start", "web"]);
            let died = tracer.end().pop();
            assert_eq!(said.code, 0, "{when}: {died:?}: {said:?}");
            rig.ctl_ok(&["stop", "web"]);
            wait_state(&rig, &before, &format!("{when}: {died:?}"));
            if died.is_none() {
                break;
            }
            deaths += 1;
            rig.wait_for("another keeper", |rig| {
                let now = rig.descendants("berth-network");
                !now.is_empty() && now != keeper
            });
        }
    }
    assert!(deaths > 15, "only {deaths} deaths");
    assert_eq!(rig.finish(), 0);
}
