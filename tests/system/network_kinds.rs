//! Networks of each kind: on a device of the host, wider and narrower packets, open to each
//! other; and hosts that lack what networks need.

use crate::network::{address, ask, ask_from_host, rig, server, start};
use crate::rig::{Mode, Rig};

#[test]
fn macvlan_makes_units_part_of_the_network_of_a_device() {
    let units = format!(
        "[network.lan]\ndriver = \"macvlan\"\nparent = \"lan0\"\nsubnet = \"192.0.2.0/24\"\n\
         gateway = \"192.0.2.1\"\nmtu = 1400\n\
         [service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}{}",
        server("a", "networks = { lan = { ip = \"192.0.2.10\" } }\nwanted-by = []"),
        server("b", "networks = [\"lan\"]\nwanted-by = []"),
    );
    let rig = rig(&units);
    rig.wait_state("idle", "running");
    let said = rig.ctl(&["start", "a"]);
    assert!(said.err.contains("there is no such device on the host"), "{said:?}");
    let server = rig.path("share/server");
    let (done, said) = rig.on_host(&format!(
        "unshare -n sleep 1718 >/dev/null 2>&1 & until P=$(pgrep -n -f '^sleep 1718$') && \
         [ \"$(readlink /proc/$P/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done; \
         ip link add lan0 type veth peer name eth0 netns $P && ip link set lan0 up && \
         nsenter -t $P -n sh -c 'ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; \
         /usr/bin/python3 {} gate 80 >/dev/null 2>&1 &'",
        server.display()
    ));
    assert!(done, "{said}");
    let before = rig.on_host("ip -o link").1.lines().count();
    rig.ctl_ok(&["reset", "a"]);
    rig.ctl_ok(&["start", "a", "b"]);
    let b = address(&rig, "lan", "b", true).unwrap();
    assert!(ask(&rig, "a", &format!("tcp {b} 80")).starts_with("b 192.0.2.10"));
    assert!(ask(&rig, "b", "tcp 192.0.2.10 80").starts_with("a "));
    assert_eq!(ask(&rig, "a", "udp 192.0.2.1 80"), "gate 192.0.2.10", "of the network outside");
    let inside = |command: &[&str]| rig.ctl_ok(&[&["exec", "a", "--"], command].concat());
    assert_eq!(inside(&["cat", "/sys/class/net/eth0/mtu"]).trim(), "1400");
    assert!(inside(&["ip", "route"]).contains("default via 192.0.2.1"));
    // The host has no part in it, and neither device nor address is left.
    assert!(!ask_from_host(&rig, "tcp 192.0.2.10 80 4 0.5").starts_with("a "));
    rig.ctl_ok(&["stop", "a", "b"]);
    assert_eq!(rig.on_host("ip -o link").1.lines().count(), before);
}

#[test]
fn ipvlan_works_or_says_that_the_kernel_has_none() {
    let units = format!(
        "[network.lan]\ndriver = \"ipvlan\"\nparent = \"lan0\"\nsubnet = \"192.0.2.0/24\"\n\
         [service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}",
        server("a", "networks = [\"lan\"]\nwanted-by = []\nrestart = \"no\""),
    );
    let rig = rig(&units);
    rig.wait_state("idle", "running");
    let (done, _) = rig.on_host("ip link add lan0 type veth peer name lan1; ip link set lan0 up");
    assert!(done);
    let (there, _) = rig.on_host("ip link add link lan0 iv0 type ipvlan && ip link del iv0");
    let said = rig.ctl(&["start", "a"]);
    if there {
        assert_eq!(said.code, 0, "{said:?}");
    } else {
        assert!(said.code == 1 && said.err.contains("this kernel has no ipvlan"), "{said:?}");
    }
}

#[test]
fn networks_that_are_not_isolated_reach_each_other_and_packets_are_as_long_as_said() {
    let units = format!(
        "[network.one]\nisolate = false\nipv6 = true\nmtu = 1300\n[network.two]\nisolate = false\n\
         ipv6 = true\n[network.shut]\nipv6 = true\n{}{}{}",
        server("a", "networks = [\"one\"]"),
        server("b", "networks = [\"two\"]"),
        server("c", "networks = [\"shut\"]"),
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    let of = |unit: &str, network: &str, four| address(&rig, network, unit, four).unwrap();
    for four in [true, false] {
        let (a, b, c) = (of("a", "one", four), of("b", "two", four), of("c", "shut", four));
        for kind in ["tcp", "udp"] {
            // With its own address: nobody within the host is masked.
            assert_eq!(ask(&rig, "a", &format!("{kind} {b} 80")), format!("b {a}"));
            assert_eq!(ask(&rig, "b", &format!("{kind} {a} 80")), format!("a {b}"));
            for (from, to) in [("a", &c), ("c", &a), ("b", &c), ("c", &b)] {
                let said = ask(&rig, from, &format!("{kind} {to} 80 0 0.3"));
                assert_eq!(said, "timeout", "{from} to {to} by {kind}");
            }
        }
    }
    let mtu = |unit: &str| rig.ctl_ok(&["exec", unit, "--", "cat", "/sys/class/net/eth0/mtu"]);
    assert_eq!((mtu("a").trim(), mtu("b").trim()), ("1300", "1500"));
    assert_eq!(rig.on_host("ip -o link show type bridge | grep -c 'mtu 1300'").1.trim(), "1");
}

#[test]
fn a_subnet_has_nothing_in_common_with_a_route_of_the_host() {
    let units = format!(
        "[network.any]\n[network.fixed]\nsubnet = \"10.91.4.0/24\"\n\
         [service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}{}",
        server("web", "networks = [\"any\"]\nwanted-by = []"),
        server("sad", "networks = [\"fixed\"]\nwanted-by = []\nrestart = \"no\""),
    );
    let rig = rig(&units);
    rig.wait_state("idle", "running");
    let (done, _) = rig.on_host(
        "ip route add 10.89.0.0/16 dev lo; ip route add 10.90.0.0/23 dev lo; \
         ip route add 10.91.4.128/25 dev lo",
    );
    assert!(done);
    rig.ctl_ok(&["start", "web"]);
    let first = address(&rig, "any", "web", true).unwrap();
    assert_eq!(first, "10.90.2.2", "the first that is free");
    let said = rig.ctl(&["start", "sad"]);
    let wanted = "10.91.4.0/24 meets 10.91.4.128/25, to which the host has a route";
    assert!(said.code == 1 && said.err.contains(wanted), "{said:?}");
    // The same again, although others would be free by now.
    rig.ctl_ok(&["stop", "web"]);
    rig.on_host("ip route del 10.89.0.0/16 dev lo");
    rig.ctl_ok(&["start", "web"]);
    assert_eq!(address(&rig, "any", "web", true).unwrap(), first);
}

/// The user's rules, as nft prints them, counters and all.
fn of_the_user(rig: &Rig) -> String {
    rig.on_host("nft list table inet mine; nft list table ip6 theirs").1
}

#[test]
fn a_firewall_of_the_user_is_never_changed_and_one_that_is_flushed_is_made_again() {
    let units = format!(
        "[network.front]\nipv6 = true\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}{}",
        server("web", "networks = [\"front\"]\nports = [\"8080:80\"]\nwanted-by = []"),
        server("other", "networks = [\"front\"]\nwanted-by = []"),
    );
    let rig = rig(&units);
    rig.wait_state("idle", "running");
    let (done, _) = rig.on_host(
        "nft 'add table inet mine; add chain inet mine in { type filter hook input priority 0; \
         policy accept; }; add rule inet mine in tcp dport 9999 drop; add set inet mine s { type \
         ipv4_addr; elements = { 192.0.2.1 }; }; add table ip6 theirs'",
    );
    assert!(done);
    let before = of_the_user(&rig);
    assert!(before.contains("9999"));
    rig.ctl_ok(&["start", "web"]);
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web "));
    assert_eq!(of_the_user(&rig), before);
    // Somebody flushes everything: what comes next makes berth's own rules again.
    rig.on_host("nft flush ruleset");
    rig.ctl_ok(&["start", "other"]);
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web "));
    assert!(ask(&rig, "other", "tcp web 80").starts_with("web "));
    assert_eq!(of_the_user(&rig), "", "it is not brought back");
    rig.ctl_ok(&["stop", "web", "other"]);
    assert_eq!(rig.on_host("nft list ruleset").1, "");
}

/// Units that need a network of berth's, and others.
fn needy() -> String {
    format!(
        "[network.front]\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.none]\ncommand = [\"sleep\", \"1000\"]\nnetwork = \"none\"\nwanted-by = []\n\
         [service.host]\ncommand = [\"sleep\", \"1000\"]\nnetwork = \"host\"\nwanted-by = []\n\
         [service.private]\ncommand = [\"sleep\", \"1000\"]\nwanted-by = []\n{}",
        server("web", "networks = [\"front\"]\nwanted-by = []\nrestart = \"no\"")
    )
}

#[test]
fn a_host_without_nftables_says_what_works() {
    let rig = rig(&needy());
    rig.wait_state("idle", "running");
    rig.on_host("mount -t tmpfs none /usr/sbin; mount -t tmpfs none /usr/local/sbin");
    let said = rig.ctl(&["start", "web"]);
    let wanted = "networks need the program nft, which is not installed (package nftables); \
                  network = \"none\" and \"host\" work without it";
    assert!(said.code == 1 && said.err.contains(wanted), "{said:?}");
    rig.ctl_ok(&["start", "none", "host", "private"]);
}

#[test]
fn a_supervisor_without_the_right_to_networks_says_what_works() {
    let rig = start(Mode::UpWithoutNetworkRights, &needy());
    rig.wait_state("idle", "running");
    let said = rig.ctl(&["start", "web"]);
    let wanted = "CAP_NET_ADMIN is missing; network = \"none\" and \"host\" work without it";
    assert!(said.code == 1 && said.err.contains(wanted), "{said:?}");
    rig.ctl_ok(&["start", "none", "host"]);
}
