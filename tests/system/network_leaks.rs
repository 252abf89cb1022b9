//! What networks leave behind: nothing, however they end.

use crate::network::{ask_from_host, server, start};
use crate::rig::{Mode, Rig};

/// Devices, addresses, routes, rules and settings of the rig's host.
pub fn state(rig: &Rig) -> String {
    let (done, text) = rig.on_host(
        "ip -o addr | sed 's/ valid_lft.*//'; ip route; ip -6 route; \
         nft list ruleset | sed 's/: ::1 [.] [0-9]*/: ::1 . PORT/'; \
         grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all \
         /proc/sys/net/ipv4/conf/default /proc/sys/net/ipv6/conf/all /proc/sys/net/ipv6/conf/lo \
         /proc/sys/net/ipv6/conf/default | grep -v stable_secret",
    );
    assert!(done, "{text}");
    text
}

const NETWORKS: &str = "[network.front]\nipv6 = true\n[network.back]\ninternal = true\n";

/// `BERTH_RESTARTS=1000` for as many.
fn restarts() -> u32 {
    std::env::var("BERTH_RESTARTS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

/// Descriptors, and files of the runtime directory, of the keeper.
fn keepers(rig: &Rig) -> (usize, Vec<String>) {
    let pid = rig.descendants("berth-network")[0];
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let files = std::fs::read_dir(rig.path("run/network")).unwrap().flatten();
    let mut files: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    (open, files)
}

#[test]
fn nothing_is_left_after_a_stop_or_hundreds_of_restarts() {
    let more = "networks = [\"front\", \"back\"]\nports = [\"8080:80\"]\nwanted-by = []";
    let idle = "[service.idle]\ncommand = [\"sleep\", \"1000\"]\n\
                [service.flap]\ncommand = [\"sleep\", \"1000\"]\nwanted-by = []\n\
                networks = [\"front\", \"back\"]\nports = [\"9000:80\", \"[::1]:53:53/udp\"]\n";
    let mut rig = start(Mode::Up, &format!("{NETWORKS}{idle}{}", server("web", more)));
    rig.wait_state("idle", "running");
    let before = state(&rig);
    rig.ctl_ok(&["start", "web"]);
    let during = state(&rig);
    assert_ne!(before, during);
    rig.ctl_ok(&["start", "flap"]);
    let (both, keeper) = (state(&rig), keepers(&rig));
    let descriptors = rig.descriptors();
    // Alone in its networks, which come and go with it, and beside another.
    for _ in 0..10 {
        rig.ctl_ok(&["restart", "web"]);
    }
    let own = crate::network::address(&rig, "front", "flap", true);
    for _ in 0..restarts() {
        rig.ctl_ok(&["restart", "flap"]);
    }
    assert_eq!(crate::network::address(&rig, "front", "flap", true), own, "always the same");
    assert_eq!((state(&rig).lines().count(), keepers(&rig)), (both.lines().count(), keeper));
    rig.ctl_ok(&["stop", "flap"]);
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

#[test]
fn the_first_unit_makes_its_network_once() {
    let rig =
        Rig::up("[network.n]\n[service.a]\ncommand = \"sleep infinity\"\nnetworks = [\"n\"]\n");
    rig.wait_state("a", "running");
    // The kernel numbers devices as they come: what is made, removed and made again has a
    // higher number.
    let (_, text) = rig.on_host("ip -o link");
    let devices = text.lines().map(|line| {
        let (number, rest) = line.split_once(": ").unwrap();
        (number.parse::<u32>().unwrap(), rest)
    });
    let (bridges, others): (Vec<_>, Vec<_>) = devices.partition(|(_, rest)| rest.starts_with("bb"));
    assert_eq!(bridges.len(), 1, "{text}");
    let before = others.iter().filter(|(_, rest)| !rest.starts_with("bp")).map(|it| it.0).max();
    assert_eq!(bridges[0].0, before.unwrap() + 1, "{text}");
}
