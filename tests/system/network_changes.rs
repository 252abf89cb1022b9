//! Networks whose units come, go and change: who has an address or a port by then, where
//! datagrams go, and what `apply` does to networks that are in use.

use crate::network::{address, ask, ask_from_host, rig, server};
use crate::rig::{Mode, Rig};

/// Sends a datagram every now and then from one and the same port, and writes down each change
/// of what comes of it.
const STEADY: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2]))); s.settimeout(0.1)
last, out = None, open(sys.argv[3], "w")
while True:
    try: s.send(b"?"); now = s.recv(100).decode().split()[0]
    except OSError: now = "nothing"
    if now != last: print(now, file=out, flush=True); last = now
"#;

/// Somebody who does not stop to send, from the host or from the neighbour of [`neighbour`].
fn steady(rig: &Rig, from: &str, to: &str, name: &str) -> std::path::PathBuf {
    std::fs::write(rig.path("steady"), STEADY).unwrap();
    let out = rig.path(name);
    let (script, file) = (rig.path("steady"), out.display().to_string());
    let run = format!("{from} /usr/bin/python3 {} {to} {file}", script.display());
    assert!(rig.on_host(&format!("{run} >/dev/null 2>&1 &")).0);
    out
}

/// A host beside the rig's, 198.51.100.2 to its 198.51.100.1; how commands are run there.
fn neighbour(rig: &Rig) -> String {
    let (done, pid) = rig.on_host(
        "unshare -n sleep 1719 >/dev/null 2>&1 & until P=$(pgrep -n -f '^sleep 1719$') && \
         [ \"$(readlink /proc/$P/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done; \
         ip link add lan type veth peer name eth0 netns $P; ip addr add 198.51.100.1/24 dev lan; \
         ip addr add 2001:db8::1/64 dev lan nodad; ip link set lan up; nsenter -t $P -n sh -c \
         'ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad; \
         ip link set eth0 up'; echo $P",
    );
    assert!(done, "{pid}");
    format!("nsenter -n -t {}", pid.trim())
}

#[test]
fn datagrams_find_a_unit_that_came_back_and_one_that_took_its_place() {
    let more = "networks = [\"front\"]\nports = [\"5300:80/udp\"]\nwanted-by = []";
    let rig = rig(&format!(
        "[network.front]\nipv6 = true\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n\
         networks = [\"front\"]\n{}",
        server("web@", more).replace("service.web@", "service.\"web@\""),
    ));
    rig.wait_state("idle", "running");
    let there = neighbour(&rig);
    let clients = [
        steady(&rig, "", "127.0.0.1 5300", "heard-1"),
        steady(&rig, "", "::1 5300", "heard-2"),
        steady(&rig, &there, "198.51.100.1 5300", "heard-3"),
        steady(&rig, &there, "2001:db8::1 5300", "heard-4"),
    ];
    let all_hear = |what: &str| {
        rig.wait_for(&format!("all to hear {what}"), |_| {
            let last = |path| std::fs::read_to_string(path).unwrap_or_default();
            clients.iter().all(|path| last(path).lines().last() == Some(what))
        });
    };
    all_hear("nothing");
    rig.ctl_ok(&["start", "web@1"]);
    all_hear("web@");
    // The unit comes back, at the same address; nobody is to stop asking for that.
    rig.ctl_ok(&["restart", "web@1"]);
    all_hear("web@");
    rig.ctl_ok(&["stop", "web@1"]);
    all_hear("nothing");
    // Another takes its place, at another address.
    let before = address(&rig, "front", "idle", true);
    rig.ctl_ok(&["start", "web@2"]);
    all_hear("web@");
    assert_ne!(address(&rig, "front", "web@2", true), before);
    // And comes back by itself.
    rig.ctl_ok(&["kill", "-s", "KILL", "web@2"]);
    rig.wait_state("web@2", "running");
    all_hear("web@");
}

#[test]
fn a_port_that_another_unit_has_names_that_and_one_whose_server_has_ended_is_free() {
    let more = "networks = [\"front\"]\nports = [\"8080-8082:80-82\"]\nwanted-by = []\n\
                restart = \"no\"";
    let rig = rig(&format!(
        "[network.front]\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}",
        server("web@", more).replace("service.web@", "service.\"web@\""),
    ));
    rig.wait_state("idle", "running");
    // A server of the host that ended a connection, and itself.
    let ended = "import socket; s = socket.socket(); s.setsockopt(1, 2, 1); \
                 s.bind((\"0.0.0.0\", 8080)); s.listen(1); c = socket.create_connection((\"127.0.0.1\", \
                 8080)); s.accept()[0].close(); c.recv(1)";
    assert!(rig.on_host(&format!("/usr/bin/python3 -c '{ended}'")).0);
    assert!(rig.on_host("ss -tan state time-wait | grep -q :8080").0, "it lingers");
    rig.ctl_ok(&["start", "web@1"]);
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web@ "));
    let said = rig.ctl(&["start", "web@2"]);
    let wanted = "port 8080/tcp cannot be published: web@1 holds it";
    assert!(said.code == 1 && said.err.contains(wanted), "{said:?}");
    rig.ctl_ok(&["stop", "web@1"]);
    rig.ctl_ok(&["reset", "web@2"]);
    rig.ctl_ok(&["start", "web@2"]);
}

#[test]
fn an_address_that_one_unit_asks_for_is_kept_for_it() {
    let fixed = "networks = { front = { ip = \"10.61.0.2\", ip6 = \"fd61::2\" } }";
    let rig = rig(&format!(
        "[network.front]\nsubnet = \"10.61.0.0/24\"\nipv6 = \"fd61::/64\"\n{}{}",
        server("early", "networks = [\"front\"]"),
        server("late", &format!("{fixed}\nwanted-by = []\nrestart = \"no\"")),
    ));
    rig.wait_state("default", "running");
    assert_eq!(address(&rig, "front", "early", true).unwrap(), "10.61.0.3");
    assert_eq!(address(&rig, "front", "early", false).unwrap(), "fd61::3");
    rig.ctl_ok(&["start", "late"]);
    assert_eq!(address(&rig, "front", "late", true).unwrap(), "10.61.0.2");
}

/// A server of names of the world outside, which knows none and writes down who was asked for.
const OUTSIDE: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.9", 53))
out = open("OUT", "w")
while True:
    q, a = s.recvfrom(2000); name, at = [], 12
    while q[at]: name.append(q[at + 1:at + 1 + q[at]].decode()); at += 1 + q[at]
    print(".".join(name), file=out, flush=True)
    s.sendto(q[:2] + b"\x81\x83" + q[4:], a)
"#;

#[test]
fn instances_are_found_by_their_host_names_and_so_is_everybody_by_them() {
    let rig = rig(&format!(
        "[network.front]\n[target.all]\nrequires = [\"web@1.a\", \"web@2.a\", \"db\"]\n\
         wanted-by = [\"default\"]\n{}{}",
        server("web@", "networks = [\"front\"]").replace("service.web@", "service.\"web@\""),
        server("db", "networks = [\"front\"]\nhostname = \"store_1\""),
    ));
    rig.wait_state("all", "running");
    let (outside, resolv) = (rig.path("outside"), rig.path("resolv"));
    std::fs::write(&outside, OUTSIDE.replace("OUT", &rig.path("asked").display().to_string()))
        .unwrap();
    std::fs::write(&resolv, "nameserver 127.0.0.9\n").unwrap();
    let (done, said) = rig.on_host(&format!(
        "mount --bind {} /etc/resolv.conf && (/usr/bin/python3 {} >/dev/null 2>&1 &)",
        resolv.display(),
        outside.display()
    ));
    assert!(done, "{said}");
    let asked = || std::fs::read_to_string(rig.path("asked")).unwrap_or_default();
    // Its list of servers is read again within two seconds.
    rig.wait_for("somebody to be asked", |rig| {
        let _ = ask(rig, "db", "tcp elsewhere.a 80");
        asked().contains("elsewhere.a")
    });
    let inside = |unit: &str, command: &[&str]| {
        rig.ctl_ok(&[&["exec", unit, "--"], command].concat()).trim().to_owned()
    };
    // One's own name, from the file; a neighbour's, which the C library takes for no name if it
    // has an `@`.
    assert_eq!(inside("web@1.a", &["hostname"]), "web-1.a");
    assert_eq!(inside("web@1.a", &["cat", "/etc/hostname"]), "web-1.a");
    let own = address(&rig, "front", "web@1.a", true).unwrap();
    assert!(inside("web@1.a", &["getent", "hosts", "web-1.a"]).starts_with(&own));
    assert!(ask(&rig, "db", "tcp web-2.a 80").starts_with("web@ "));
    assert_eq!(inside("db", &["hostname"]), "store_1", "as it was written");
    assert!(ask(&rig, "web@1.a", "tcp store_1 80").starts_with("db "));
    // The part behind the dot is no domain: nobody is asked for `db.a`.
    assert!(ask(&rig, "web@1.a", "tcp db 80").starts_with("db "));
    rig.wait_for("the control", |rig| {
        let _ = ask(rig, "web@1.a", "tcp elsewhere.b 80");
        asked().contains("elsewhere.b")
    });
    assert!(!asked().contains("db.a"), "{}", asked());
}

/// As `berthctl network show` has it.
fn subnets(rig: &Rig, network: &str) -> String {
    let text = rig.ctl_ok(&["network", "show", network, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    shown["subnets"].to_string()
}

#[test]
fn networks_and_ports_change_under_the_units_that_use_them() {
    let units = |front: &str, back: &str, port: &str| {
        format!(
            "[network.front]\n{front}\n[network.{back}]\ninternal = true\n{}{}{}\
             [service.side]\ncommand = [\"sleep\", \"1000\"]\nmounts = [@SHARE@]\n\
             network = \"service:web\"\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n",
            server("web", &format!("networks = [\"front\"]\nports = [\"{port}:80\"]")),
            server("db", &format!("networks = [\"front\", \"{back}\"]")),
            server("inner", &format!("networks = [\"{back}\"]")),
        )
    };
    let first = units("subnet = \"10.71.0.0/24\"", "back", "8080");
    let rig = crate::network::start(Mode::Boot, &first);
    rig.wait_state("default", "running");
    let pid = |unit: &str| rig.main_pid(unit);
    let (idle, inner) = (pid("idle"), pid("inner"));
    let apply = |units: &str| {
        rig.write_units(units);
        rig.ctl_ok(&["apply"]);
        for unit in ["web", "db", "inner", "side"] {
            rig.wait_state(unit, "running");
        }
    };
    let works = |port: &str| {
        rig.wait_for("web by its port", |rig| {
            ask_from_host(rig, &format!("tcp 127.0.0.1 {port}")).starts_with("web ")
        });
        assert!(ask(&rig, "db", "tcp web 80").starts_with("web "));
        assert!(ask(&rig, "db", "tcp inner 80").starts_with("inner "));
        assert!(ask(&rig, "side", "tcp 127.0.0.1 80").starts_with("web "), "and its follower");
    };
    works("8080");
    // Another subnet, and IPv6: its units go there; nobody else is touched.
    apply(&units("subnet = \"10.72.0.0/24\"\nipv6 = \"fd72::/64\"", "back", "8080"));
    works("8080");
    assert_eq!(subnets(&rig, "front"), "[\"10.72.0.0/24\",\"fd72::/64\"]");
    assert!(ask(&rig, "db", "tcp web 80 6").starts_with("web "));
    assert_eq!((pid("idle"), pid("inner")), (idle, inner));
    // Another port: the old one is nobody's.
    let db = pid("db");
    apply(&units("subnet = \"10.72.0.0/24\"", "back", "8081"));
    let db_moved = pid("db");
    works("8081");
    assert_ne!(db, db_moved, "its network has no IPv6 any more");
    assert_eq!(ask_from_host(&rig, "tcp 127.0.0.1 8080"), "refused");
    apply(&units("subnet = \"10.72.0.0/24\"", "back", "8080"));
    works("8080");
    assert_eq!(pid("db"), db_moved);
    // Another name: another network, and nothing of the old one.
    apply(&units("subnet = \"10.72.0.0/24\"", "rear", "8080"));
    works("8080");
    assert_ne!(rig.ctl(&["network", "show", "back"]).code, 0);
    let bridges = rig.on_host("ip -o link show type bridge | wc -l").1;
    assert_eq!(bridges.trim(), "2");
}

#[test]
fn a_network_stays_as_it_was_while_a_unit_with_a_mistake_does() {
    let units = |subnet: &str, more: &str| {
        format!(
            "[network.front]\nsubnet = \"{subnet}\"\n{}{}",
            server("web", "networks = [\"front\"]\nports = [\"8080:80\"]"),
            server("db", &format!("networks = [\"front\"]\n{more}")),
        )
    };
    let rig = crate::network::start(Mode::Boot, &units("10.71.0.0/24", ""));
    rig.wait_state("default", "running");
    let before = (rig.main_pid("web"), rig.main_pid("db"));
    // `db` stays, so it stays where it is, and `web` is not to wait for it for ever.
    rig.write_units(&units("10.72.0.0/24", "requires = [\"nobody\"]"));
    assert_eq!(rig.ctl(&["apply"]).code, 1);
    rig.ctl_ok(&["restart", "web"]);
    assert_eq!(subnets(&rig, "front"), "[\"10.71.0.0/24\"]");
    assert_eq!(rig.main_pid("db"), before.1);
    assert!(ask(&rig, "web", "tcp db 80").starts_with("db "));
    // Put right, both move.
    rig.write_units(&units("10.72.0.0/24", ""));
    rig.ctl_ok(&["apply"]);
    rig.wait_for("both in the new network", |rig| {
        ["web", "db"].iter().all(|unit| {
            rig.state(unit) == "running"
                && address(rig, "front", unit, true).is_some_and(|it| it.starts_with("10.72."))
        })
    });
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web "));
}
