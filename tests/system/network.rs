//! Networks of units: who reaches whom, names, published ports.

use crate::rig::{Mode, PATIENCE, Rig};

/// Answers on a port, by streams and by datagrams, both families: its name and the asker.
const SERVER: &str = r#"
import os, socket, sys
name, port = sys.argv[1], int(sys.argv[2])
if os.fork():
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", port)); s.listen(64)
    while True:
        c, a = s.accept()
        c.sendall(f"{name} {a[0].replace('::ffff:', '')}\n".encode()); c.close()
else:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    while True:
        d, a = s.recvfrom(100)
        s.sendto(f"{name} {a[0].replace('::ffff:', '')}\n".encode(), a)
"#;

/// Asks it: `ask tcp|udp HOST PORT [4|6]`; a word for every way to fail.
const ASK: &str = r#"
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
family = {"4": socket.AF_INET, "6": socket.AF_INET6}.get((sys.argv + ["", ""])[4], 0)
try:
    f, k, p, _, a = socket.getaddrinfo(sys.argv[2], int(sys.argv[3]), family, kind)[0]
    s = socket.socket(f, k, p); s.settimeout(float((sys.argv + [""] * 3)[5] or 2)); s.connect(a)
    if kind == socket.SOCK_DGRAM: s.send(b"?")
    print(s.recv(100).decode().strip())
except socket.gaierror as e: print("no-name")
except socket.timeout: print("timeout")
except OSError as e: print("refused" if e.errno == 111 else "unreachable")
"#;

/// Asks many at once: `ask-all KIND/ADDRESS/PORT...`, and prints a line for each, in this order.
/// A datagram is sent again for as long as there is no answer.
const ASK_ALL: &str = r#"
import socket, sys, threading
said = {}
def one(way):
    kind, address, port = way.split("/")
    kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    for attempt in range(3):
        try:
            s.settimeout(0.4)
            if kind == socket.SOCK_DGRAM or not attempt: s.connect((address, int(port)))
            if kind == socket.SOCK_DGRAM: s.send(b"?")
            said[way] = s.recv(100).decode().strip(); return
        except OSError as e: said[way] = type(e).__name__
threads = [threading.Thread(target=one, args=(way,)) for way in sys.argv[1:]]
for t in threads: t.start()
for t in threads: t.join()
for way in sys.argv[1:]: print(said[way])
"#;

/// A rig whose units see the scripts in `/mnt`.
pub fn rig(units: &str) -> Rig {
    start(Mode::Up, units)
}

/// The same, run in another way.
pub fn start(mode: Mode, units: &str) -> Rig {
    let mut rig = Rig::prepare(units);
    std::fs::write(rig.path("share/server"), SERVER).unwrap();
    std::fs::write(rig.path("share/ask"), ASK).unwrap();
    std::fs::write(rig.path("share/ask-all"), ASK_ALL).unwrap();
    rig.launch(mode, &[]);
    rig.wait_control();
    rig
}

/// A unit that answers on port 80.
pub fn server(name: &str, more: &str) -> String {
    format!(
        "[service.{name}]\ncommand = [\"/usr/bin/python3\", \"/mnt/server\", \"{name}\", \"80\"]\n\
         mounts = [@SHARE@]\nready = \"tcp:80\"\n{more}\n"
    )
}

/// Asks from inside a unit.
pub fn ask(rig: &Rig, from: &str, arguments: &str) -> String {
    let mut all = vec!["exec", from, "--", "/usr/bin/python3", "/mnt/ask"];
    all.extend(arguments.split(' '));
    rig.ctl_ok(&all).trim().to_owned()
}

/// Asks from the rig's host.
pub fn ask_from_host(rig: &Rig, arguments: &str) -> String {
    let script = rig.path("share/ask");
    rig.on_host(&format!("/usr/bin/python3 {} {arguments}", script.display())).1.trim().to_owned()
}

/// The address of a family that a unit has in a network.
pub fn address(rig: &Rig, network: &str, unit: &str, four: bool) -> Option<String> {
    let text = rig.ctl_ok(&["network", "show", network, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let units = shown["units"].as_array().unwrap();
    let unit = units.iter().find(|it| it["unit"] == unit)?;
    let addresses = unit["addresses"].as_array().unwrap().iter();
    addresses.map(|it| it.as_str().unwrap().to_owned()).find(|it| it.contains('.') == four)
}

#[test]
fn units_reach_those_of_their_own_networks_and_nobody_else() {
    let places = [
        ("a1", vec!["a"]),
        ("a2", vec!["a"]),
        ("b1", vec!["b"]),
        ("ab", vec!["a", "b"]),
        ("c1", vec!["c"]),
        ("c2", vec!["c", "b"]),
    ];
    let mut units = "[network.a]\nipv6 = true\n[network.b]\nipv6 = true\n\
                     [network.c]\nipv6 = true\ninternal = true\n"
        .to_owned();
    for (name, networks) in &places {
        units.push_str(&server(name, &format!("networks = {networks:?}")));
    }
    let rig = rig(&units);
    rig.wait_state("default", "running");
    let mut reached = 0;
    for (from, own) in &places {
        let others = places.iter().filter(|(to, _)| to != from);
        let pairs = others.flat_map(|(to, theirs)| theirs.iter().map(move |it| (*to, *it)));
        let mut ways = Vec::new();
        for (to, network) in pairs {
            for four in [true, false] {
                let address = address(&rig, network, to, four).unwrap();
                for kind in ["tcp", "udp"] {
                    ways.push((to, own.contains(&network), format!("{kind}/{address}/80")));
                }
            }
        }
        let command = ["exec", from, "--", "/usr/bin/python3", "/mnt/ask-all"];
        let arguments: Vec<&str> =
            command.into_iter().chain(ways.iter().map(|(.., way)| way.as_str())).collect();
        let answers = rig.ctl_ok(&arguments);
        assert_eq!(answers.lines().count(), ways.len());
        for ((to, expected, way), said) in ways.iter().zip(answers.lines()) {
            let got = said.starts_with(&format!("{to} "));
            assert_eq!(got, *expected, "{from} to {to} by {way}: {said}");
            reached += u32::from(got);
        }
    }
    assert_eq!(reached, 14 * 4, "pairs in one network, by both kinds and families");
    // The host reaches all of them; the inside of a network does not reach the host.
    let c1 = address(&rig, "c", "c1", true).unwrap();
    assert!(ask_from_host(&rig, &format!("tcp {c1} 80")).starts_with("c1 "));
    let gateway = |unit: &str| rig.ctl_ok(&["exec", unit, "--", "cat", "/etc/resolv.conf"]);
    let first = |text: String| text.split_whitespace().nth(1).unwrap().to_owned();
    let server = rig.path("share/server");
    rig.on_host(&format!("/usr/bin/python3 {} host 99 >/dev/null 2>&1 &", server.display()));
    rig.wait_for("a server on the host", |rig| {
        ask_from_host(rig, "tcp 127.0.0.1 99").starts_with("host ")
    });
    let (a, c) = (first(gateway("a1")), first(gateway("c1")));
    assert!(ask(&rig, "a1", &format!("tcp {a} 99")).starts_with("host "), "control");
    assert_eq!(ask(&rig, "c1", &format!("tcp {c} 99 4 0.3")), "timeout");
}

#[test]
fn names_are_found_by_those_who_can_reach_them() {
    let units = format!(
        "[network.front]\nipv6 = true\n[network.back]\ninternal = true\n{}{}{}{}",
        server("db", "networks = { back = { aliases = [\"mysql\"] } }"),
        server(
            "web",
            "networks = [\"front\", \"back\"]\nrequires = [\"db\"]\n\
                       start-pre = [[\"getent\", \"hosts\", \"db\"]]"
        ),
        server("other", "networks = [\"front\"]"),
        "[service.late]\ncommand = [\"sleep\", \"1000\"]\nready = \"path:/nowhere\"\n\
         networks = [\"back\"]\nwanted-by = []\n",
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    assert!(ask(&rig, "web", "tcp mysql 80").starts_with("db "));
    assert!(ask(&rig, "db", "tcp WEB 80").starts_with("web "));
    assert!(ask(&rig, "other", "tcp web 80 6").starts_with("web "));
    assert_eq!(ask(&rig, "other", "tcp db 80"), "no-name");
    assert_eq!(ask(&rig, "db", "tcp other 80"), "no-name");
    assert_eq!(ask(&rig, "db", "tcp nobody 80"), "no-name");
    let own = address(&rig, "back", "db", true).unwrap();
    let found = rig.ctl_ok(&["exec", "web", "--", "getent", "hosts", &own]);
    assert!(found.contains("db"), "{found}");
    // Not before it is ready, and no longer when it is not.
    rig.ctl_ok(&["start", "--no-wait", "late"]);
    rig.wait_state("late", "starting");
    assert_eq!(ask(&rig, "web", "tcp late 80"), "no-name");
    rig.ctl_ok(&["stop", "other"]);
    assert_eq!(ask(&rig, "web", "tcp other 80"), "no-name");
    // A name is found again after its unit came back, at the same address.
    rig.ctl_ok(&["restart", "db"]);
    rig.wait_state("web", "running");
    assert_eq!(address(&rig, "back", "db", true).unwrap(), own);
    assert!(ask(&rig, "web", "tcp db 80").starts_with("db "));
    assert_eq!(rig.ctl_ok(&["exec", "db", "--", "cat", "/etc/hostname"]), "db\n");
}

/// A server of names of the world outside: one long answer, cut for who asks by datagram.
const OUTSIDE: &str = r#"
import os, socket, struct
def answer(q, cut):
    end = q.index(b"\0", 12) + 5
    n = 0 if cut else 40
    flags = 0x8380 if cut else 0x8180
    head = q[:2] + struct.pack(">HHHHH", flags, 1, n, 0, 0) + q[12:end]
    return head + b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04" + bytes([192, 0, 2, i + 1]) for i in range(n))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.9", 53))
t = socket.socket(); t.bind(("127.0.0.9", 53)); t.listen(8)
if os.fork():
    while True:
        q, a = u.recvfrom(2000); u.sendto(answer(q, True), a)
while True:
    c, a = t.accept(); n = struct.unpack(">H", c.recv(2))[0]; r = answer(c.recv(n), False)
    c.sendall(struct.pack(">H", len(r)) + r); c.close()
"#;

#[test]
fn other_names_are_asked_for_outside_also_when_the_answer_is_long() {
    let units = format!(
        "[network.front]\n[network.back]\ninternal = true\n{}{}",
        server("web", "networks = [\"front\"]"),
        server("inner", "networks = [\"back\"]")
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    std::fs::write(rig.path("outside"), OUTSIDE).unwrap();
    std::fs::write(rig.path("resolv"), "nameserver 127.0.0.9\n").unwrap();
    let (outside, resolv) = (rig.path("outside"), rig.path("resolv"));
    let (done, said) = rig.on_host(&format!(
        "mount --bind {} /etc/resolv.conf && (/usr/bin/python3 {} >/dev/null 2>&1 &)",
        resolv.display(),
        outside.display()
    ));
    assert!(done, "{said}");
    let found = |unit: &str| {
        let said = rig.ctl(&["exec", unit, "--", "getent", "ahostsv4", "many.example.org"]);
        said.out.lines().filter(|line| line.contains("STREAM")).count()
    };
    rig.wait_for("an answer from outside", |_| found("web") == 40);
    assert_eq!(found("inner"), 0, "an internal network leads nowhere, not even by names");
}

#[test]
fn published_ports_lead_to_their_units_while_they_are_ready() {
    let ports =
        "ports = [\"8080:80\", \"127.0.0.1:8081:80\", \"5300:80/udp\", \"9000-9002:80-82\"]";
    let units = format!(
        "[network.front]\nipv6 = true\n{}{}",
        server("web", &format!("networks = [\"front\"]\n{ports}")),
        server("other", "networks = [\"front\"]")
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    let (done, _) = rig.on_host(
        "unshare -n sleep 1717 >/dev/null 2>&1 & sleep 0.3; ip link add lan type veth peer name eth0 netns $!; \
         ip addr add 198.51.100.1/24 dev lan; ip addr add 2001:db8::1/64 dev lan nodad; ip link set lan up; \
         nsenter -t $! -n sh -c 'ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad; \
         ip link set eth0 up; ip link set lo up'",
    );
    assert!(done);
    let outside = |arguments: &str| {
        let script = rig.path("share/ask");
        let pid = "$(pgrep -n -f '^sleep 1717$')";
        let (_, text) = rig.on_host(&format!(
            "nsenter -t {pid} -n /usr/bin/python3 {} {arguments}",
            script.display()
        ));
        text.trim().to_owned()
    };
    for here in ["127.0.0.1 8080", "127.0.0.1 8081", "198.51.100.1 8080", "127.0.0.1 9000"] {
        assert!(ask_from_host(&rig, &format!("tcp {here}")).starts_with("web "), "{here}");
    }
    assert!(ask_from_host(&rig, "udp 127.0.0.1 5300").starts_with("web "));
    // From outside, with the address it came from, in both families.
    assert_eq!(outside("tcp 198.51.100.1 8080"), "web 198.51.100.2");
    assert_eq!(outside("udp 198.51.100.1 5300"), "web 198.51.100.2");
    assert_eq!(outside("tcp 2001:db8::1 8080"), "web 2001:db8::2");
    assert_eq!(outside("tcp 198.51.100.1 8081"), "refused", "only for the host itself");
    // By the host's address from its own network, also to itself.
    assert!(ask(&rig, "other", "tcp 198.51.100.1 8080").starts_with("web "));
    assert!(ask(&rig, "web", "tcp 198.51.100.1 8080").starts_with("web "));
    // The same where bridges are not filtered as routers.
    rig.on_host("f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 0 > $f");
    assert!(ask(&rig, "other", "tcp 198.51.100.1 8080").starts_with("web "));
    assert!(ask(&rig, "web", "tcp 198.51.100.1 8080").starts_with("web "));
    let listed = rig.status("web")["ports"].as_array().unwrap().len();
    assert_eq!(listed, 4);
    rig.ctl_ok(&["stop", "web"]);
    assert_eq!(ask_from_host(&rig, "tcp 127.0.0.1 8080"), "refused");
    assert!(rig.status("web")["ports"].is_null());
    let (free, _) =
        rig.on_host("/usr/bin/python3 -c 'import socket; socket.socket().bind((\"\", 8080))'");
    assert!(free, "the port is free again");
}

#[test]
fn a_taken_port_is_an_error_that_names_who_has_it() {
    let units = format!(
        "[network.front]\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}{}",
        server(
            "holder",
            "network = \"host\"\nsecurity = { user-namespace = \"none\" }\nready = \"tcp:80\"",
        )
        .replacen("ready = \"tcp:80\"\n", "", 1),
        server(
            "web",
            "networks = [\"front\"]\nports = [\"80:80\"]\nwanted-by = []\nrestart = \"no\""
        )
    );
    let rig = rig(&units);
    rig.wait_state("holder", "running");
    let said = rig.ctl(&["start", "web"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("port 80/tcp cannot be published: python3 (process "), "{said:?}");
    rig.ctl_ok(&["stop", "holder"]);
    rig.ctl_ok(&["start", "web"]);
    assert!(ask_from_host(&rig, "tcp 127.0.0.1 80").starts_with("web "));
}

#[test]
fn a_service_shares_the_network_of_another_and_comes_back_with_it() {
    let units = format!(
        "[network.front]\n{}[service.side]\ncommand = [\"sleep\", \"1000\"]\nmounts = [@SHARE@]\n\
         network = \"service:web\"\n{}",
        server("web", "networks = [\"front\"]\nrestart-delay = \"0s\""),
        server("plain", "init = false\nnetworks = [\"front\"]")
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    assert!(ask(&rig, "side", "tcp 127.0.0.1 80").starts_with("web "));
    assert!(ask(&rig, "plain", "tcp web 80").starts_with("web "), "without an init");
    assert!(ask(&rig, "side", "tcp plain 80").starts_with("plain "));
    let before = rig.main_pid("side");
    rig.ctl_ok(&["kill", "-s", "KILL", "web"]);
    rig.wait_for("both again", |rig| {
        let (web, side) = (rig.status("web"), rig.status("side"));
        web["restarts"] == 1 && side["state"] == "running" && side["main_pid"] != before
    });
    assert!(ask(&rig, "side", "tcp 127.0.0.1 80").starts_with("web "));
}

#[test]
fn who_is_killed_is_replaced_and_nothing_is_lost() {
    let units = format!(
        "[network.front]\n{}{}",
        server("web", "networks = [\"front\"]\nports = [\"8080:80\"]"),
        server("other", "networks = [\"front\"]")
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    let pid = rig.main_pid("web");
    for name in ["berth-resolver", "berth-network", "berth-resolver", "berth-network"] {
        // One that was just killed may still be there, and its successor not yet.
        rig.wait_for(name, |rig| rig.descendants(name).len() == 1);
        let victim = rig.descendants(name)[0];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), nix::sys::signal::SIGKILL)
            .unwrap();
        // A question that is on its way then is asked again by the C library.
        let begun = std::time::Instant::now();
        while !ask(&rig, "other", "tcp web 80").starts_with("web ") {
            assert!(begun.elapsed() < PATIENCE, "{name} does not come back\n{}", rig.story());
        }
        assert!(ask_from_host(&rig, "tcp 127.0.0.1 8080").starts_with("web "), "{name}");
    }
    assert_eq!(rig.main_pid("web"), pid, "no service was touched");
    rig.ctl_ok(&["restart", "other"]);
    assert!(ask(&rig, "other", "tcp web 80").starts_with("web "));
}
