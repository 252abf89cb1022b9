//! The check that every test ends with: what berth has left of itself in the kernel is seen.

use std::fs;

use crate::rig::{Mode, Rig};

/// A leftover of each kind.
const LEFT: [(&str, &str); 7] = [
    ("mount -t tmpfs left /mnt", " /mnt "),
    ("ip link add left type veth peer name behind && ip link set left up", "left@behind"),
    ("ip address add 10.9.8.7/24 dev left", "10.9.8.7/24"),
    ("ip route add 10.9.7.0/24 via 10.9.8.1 dev left onlink", "10.9.7.0/24"),
    ("ip rule add from 10.9.8.7 table 7", "lookup 7"),
    ("nft add table inet left", "table inet left"),
    ("setsid sleep 1000 >/dev/null 2>&1 </dev/null &", "process sleep in state S"),
];

/// A process that never asks how its child has ended.
const ZOMBIE: &str = "setsid perl -e 'exit if !fork; sleep 1000' >/dev/null 2>&1 </dev/null &";

#[test]
fn what_is_left_behind_is_seen() {
    let mut rig = Rig::start(Mode::Boot, "[service.a]\ncommand = 'sleep 1000'\n", &[]);
    rig.wait_state("a", "running");
    for (command, _) in LEFT {
        let (good, said) = rig.on_host(command);
        assert!(good, "{command}: {said}");
    }
    assert!(rig.on_host(ZOMBIE).0);
    rig.wait_for("a dead process", |rig| {
        rig.on_host("grep -h ^State: /proc/[0-9]*/status").1.contains("(zombie)")
    });
    rig.ctl_ok(&["shutdown", "exit"]);
    assert_eq!(rig.wait_end(), 0);
    let changes = rig.changes();
    for part in LEFT.iter().map(|(_, part)| *part).chain(["process perl in state Z"]) {
        assert!(changes.iter().any(|line| line.contains(part)), "no {part:?} in {changes:#?}");
    }
    // The control: nothing of that, nothing seen.
    fs::remove_file(rig.path("host-before")).unwrap();
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    rig.wait_state("a", "running");
    assert_eq!(rig.finish(), 0);
    assert!(rig.path("host-before").exists());
}
