//! What every test must leave as it was: the mounts, links, addresses, routes and rules of the
//! network, and of the process that stands for the supervisor its descriptors and children,
//! dead ones too. (Its control groups are known by their names, see `rig`.)

use std::collections::BTreeSet;
use std::process::Command;

use super::rig::{Test, host_mount, private_mounts, wait_for};

pub const TESTS: &[Test] = &[("what_is_left_behind_is_seen", what_is_left_behind_is_seen)];

/// From now on the mounts and the network that are compared are this run's alone: others may
/// change those of the machine meanwhile.
pub fn own_world() {
    private_mounts();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    berth::sys::net::loopback_up().unwrap();
}

/// All of it, a line each.
pub fn host_state() -> BTreeSet<String> {
    let mut state: BTreeSet<String> = BTreeSet::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    state.extend(mounts.lines().map(|line| format!("mount {line}")));
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        // The directory that is being read has gone.
        if let Ok(target) = std::fs::read_link(&path)
            && !target.ends_with("fd")
        {
            state.insert(format!("{} is {}", path.display(), target.display()));
        }
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for child in children.split_whitespace() {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let kind = stat.rsplit(") ").next().unwrap_or_default().get(..1).unwrap_or_default();
        state.insert(format!("child {child} in state {kind}"));
    }
    state.extend(network().lines().map(|line| format!("network {line}")));
    state
}

fn network() -> String {
    // Few processes: this is done for each test, also on emulated machines.
    let script = "set -e; for family in -4 -6; do ip $family -o -batch - <<END
link
address
route show table all
rule
END
done; nft list ruleset";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn what_is_left_behind_is_seen() {
    own_world();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let point = directory.path().to_str().unwrap();
    let before = host_state();
    assert_eq!(host_state(), before, "the control");
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    host_mount(None, point, Some("tmpfs"), nix::mount::MsFlags::empty());
    let script = "ip link add left type veth peer name behind && ip link set left up && \
                  ip address add 10.9.8.7/24 dev left && ip rule add from 10.9.8.7 table 7 && \
                  nft add table inet left";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    let dead = format!("child {} in state Z", child.id());
    wait_for("the child is dead", || host_state().contains(&dead));
    let after = host_state();
    let new: Vec<&String> = after.difference(&before).collect();
    for part in [
        "is /dev/zero",
        point,
        "left@behind",
        "10.9.8.0/24 dev left",
        "from 10.9.8.7 lookup 7",
        "table inet left",
        &dead,
    ] {
        assert!(new.iter().any(|line| line.contains(part)), "{part}: {new:#?}");
    }
    drop(file);
    child.wait().unwrap();
    nix::mount::umount(point).unwrap();
}
