//! What networks leave behind: nothing, however they end.

use crate::network::{ask_from_host, server, start};
use crate::rig::{Mode, Rig};

/// Devices, addresses, routes, rules and settings of the rig's host.
fn state(rig: &Rig) -> String {
    let (done, text) = rig.on_host(
        "ip -o addr | sed 's/ valid_lft.*//'; ip route; ip -6 route; nft list ruleset; \
         grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all \
         /proc/sys/net/ipv4/conf/default /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/lo \
         /proc/sys/net/ipv6/conf/default | grep -v stable_secret",
    );
    assert!(done, "{text}");
    text
}

const NETWORKS: &str = "[network.front]\nipv6 = true\n[network.back]\ninternal = true\n";

#[test]
fn nothing_is_left_after_a_stop_or_a_hundred_restarts() {
    let more = "networks = [\"front\", \"back\"]\nports = [\"8080:80\"]\nwanted-by = []";
    let idle = "[service.idle]\ncommand = [\"sleep\", \"1000\"]\n";
    let mut rig = start(Mode::Up, &format!("{NETWORKS}{idle}{}", server("web", more)));
    rig.wait_state("idle", "running");
    let before = state(&rig);
    rig.ctl_ok(&["start", "web"]);
    let during = state(&rig);
    assert_ne!(before, during);
    let descriptors = rig.descriptors();
    for _ in 0..100 {
        rig.ctl_ok(&["restart", "web"]);
    }
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web "));
    assert_eq!(state(&rig).lines().count(), during.lines().count());
    assert!(rig.descriptors() <= descriptors + 2, "{descriptors}, then {}", rig.descriptors());
    rig.ctl_ok(&["stop", "web"]);
    assert_eq!(state(&rig), before);
    assert!(!rig.path("run/network/active").exists());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn nothing_is_left_after_two_hundred_failing_starts() {
    // Each fails at another point: a device that cannot be made, an address that is taken,
    // a hook, a port.
    let fails = [
        "networks = [\"front\", \"lan\"]",
        "networks = { front = {}, fixed = { ip = \"10.77.0.9\" } }",
        "networks = [\"front\"]\nports = [\"8080:80\"]\nstart-pre = [[\"false\"]]",
        "networks = [\"front\", \"back\"]\nports = [\"80:80\"]",
    ];
    let mut units = format!(
        "{NETWORKS}[network.lan]\ndriver = \"macvlan\"\nparent = \"nowhere0\"\nsubnet = \"10.66.0.0/24\"\n\
         [network.fixed]\nsubnet = \"10.77.0.0/24\"\nmtu = 68\nipv6 = false\n\
         [service.holder]\ncommand = [\"/usr/bin/python3\", \"/mnt/server\", \"h\", \"80\"]\n\
         mounts = [@SHARE@]\nnetwork = \"host\"\nsecurity.user-namespace = \"none\"\nready = \"tcp:80\"\n"
    );
    for (number, more) in fails.iter().enumerate() {
        let more = format!("{more}\nwanted-by = []\nrestart = \"no\"");
        let broken = if number == 1 { "rootfs = \"/nowhere/at/all\"\n" } else { "" };
        units.push_str(&server(&format!("f{number}"), &format!("{more}\n{broken}")));
    }
    let mut rig = start(Mode::Up, &units);
    rig.wait_state("holder", "running");
    let before = state(&rig);
    for round in 0..50 {
        for number in 0..fails.len() {
            let name = format!("f{number}");
            assert_eq!(rig.ctl(&["start", &name]).code, 1, "round {round} of {name}");
        }
    }
    assert_eq!(state(&rig), before);
    let said = rig.ctl(&["start", "f0"]).err;
    assert!(said.contains("there is no such device on the host"), "{said}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_new_supervisor_goes_on_with_what_a_killed_one_left_and_removes_the_rest() {
    let more = "networks = [\"front\", \"back\"]\nports = [\"8080:80\"]\nwanted-by = []";
    let idle = "[service.idle]\ncommand = [\"sleep\", \"1000\"]\n";
    let rig = start(Mode::Revived, &format!("{NETWORKS}{idle}{}", server("web", more)));
    rig.wait_state("idle", "running");
    let before = state(&rig);
    rig.ctl_ok(&["start", "web"]);
    let during = state(&rig);
    let pid = rig.main_pid("web");
    rig.kill_berth();
    rig.wait_control();
    rig.wait_for("web by its port", |rig| {
        ask_from_host(rig, "tcp 127.0.0.1 8080").starts_with("web ")
    });
    assert_eq!((rig.main_pid("web"), state(&rig)), (pid, during));
    // What has lost its unit goes.
    rig.write_units(idle);
    rig.kill_berth();
    rig.wait_control();
    rig.wait_state("idle", "running");
    rig.wait_for("the host as it was", |rig| state(rig) == before);
    assert!(!rig.path("run/network/active").exists());
}
