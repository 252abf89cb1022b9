//! The resolver as its askers meet it: kinds of records, networks that differ, a way out that
//! is slow or silent, and being killed while thousands ask.

use std::time::{Duration, Instant};

use crate::network::{address, rig, server};
use crate::rig::Rig;

/// `query SERVER NAME TYPE [tcp|udp [SIZE]]` prints the code, then flags and records of the
/// answer; with SIZE it says how much it takes (EDNS).
const QUERY: &str = r#"
import socket, struct, sys, os
server, name, kind = sys.argv[1], sys.argv[2], {"A": 1, "PTR": 12, "TXT": 16, "AAAA": 28, "ANY": 255}[sys.argv[3]]
way, size = (sys.argv + ["udp"])[4] if len(sys.argv) > 4 else "udp", int(sys.argv[5]) if len(sys.argv) > 5 else 0
q = os.urandom(2) + struct.pack(">HHHHH", 0x100, 1, 0, 0, 1 if size else 0)
for label in name.split("."): q += bytes([len(label)]) + label.encode()
q += b"\0" + struct.pack(">HH", kind, 1)
if size: q += b"\0" + struct.pack(">HHIH", 41, size, 0, 0)
s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_STREAM if way == "tcp" else socket.SOCK_DGRAM)
s.settimeout(15); s.connect((server, 53))
try:
    if way == "tcp":
        s.sendall(struct.pack(">H", len(q)) + q)
        n = struct.unpack(">H", s.recv(2, socket.MSG_WAITALL))[0]; a = s.recv(n, socket.MSG_WAITALL)
    else:
        s.send(q); a = s.recv(70000)
except socket.timeout: print("timeout"); sys.exit()
assert a[:2] == q[:2]
flags, _, count, _, more = struct.unpack(">HHHHH", a[2:12])
out = [["ok", "malformed", "failed", "no-name", "not-done", "refused"][flags & 15]]
if flags & 0x200: out.append("cut")
if more: out.append("edns")
at = a.index(b"\0", 12) + 5
def text(at):
    labels = []
    while a[at]:
        if a[at] >= 192: at = (a[at] & 63) << 8 | a[at + 1]; continue
        labels.append(a[at + 1:at + 1 + a[at]].decode()); at += 1 + a[at]
    return ".".join(labels)
for _ in range(count):
    kind, _, _, length = struct.unpack(">HHIH", a[at + 2:at + 12]); data = a[at + 12:at + 12 + length]
    out.append(socket.inet_ntoa(data) if kind == 1 else socket.inet_ntop(socket.AF_INET6, data) if kind == 28 else text(at + 12))
    at += 12 + length
print(" ".join(out))
"#;

fn query(rig: &Rig, from: &str, arguments: &str) -> String {
    std::fs::write(rig.path("share/query"), QUERY).unwrap();
    let mut all = vec!["exec", from, "--", "/usr/bin/python3", "/mnt/query"];
    all.extend(arguments.split(' '));
    rig.ctl_ok(&all).trim().to_owned()
}

fn reversed(address: &str) -> String {
    let mut parts: Vec<&str> = address.split('.').collect();
    parts.reverse();
    format!("{}.in-addr.arpa", parts.join("."))
}

#[test]
fn each_kind_of_question_gets_its_answer() {
    let units = format!(
        "[network.front]\nsubnet = \"10.61.0.0/24\"\nipv6 = \"fd61::/64\"\n\
         [network.back]\nsubnet = \"10.62.0.0/24\"\ninternal = true\n{}{}{}{}",
        server("web", "networks = [\"front\", \"back\"]"),
        server("db", "networks = { back = { ip = \"10.62.0.9\", aliases = [\"store\"] } }"),
        server("cache", "networks = { front = { ip = \"10.61.0.9\", aliases = [\"store\"] } }"),
        server("outer", "networks = [\"front\"]"),
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    let of_web = address(&rig, "front", "web", true).unwrap();
    let six = address(&rig, "front", "web", false).unwrap();
    for way in ["udp", "tcp"] {
        let ask = |from: &str, text: &str| query(&rig, from, &format!("{text} {way}"));
        assert_eq!(ask("outer", "10.61.0.1 web A"), format!("ok {of_web}"));
        assert_eq!(ask("outer", "10.61.0.1 WEB AAAA"), format!("ok {six}"));
        assert_eq!(ask("outer", "fd61::1 web AAAA"), format!("ok {six}"), "asked by IPv6");
        // A name that is there, of a kind that is not: no records, and no "no such name".
        assert_eq!(ask("db", "10.62.0.1 web AAAA"), "ok");
        assert_eq!(ask("db", "10.62.0.1 web TXT"), "ok");
        assert_eq!(ask("db", "10.62.0.1 nobody A"), "no-name");
        assert_eq!(ask("db", "10.62.0.1 nobody AAAA"), "no-name");
        // Names of addresses, of both families; none of another network's.
        let name = |address: &str| reversed(address);
        assert_eq!(ask("outer", &format!("10.61.0.1 {} PTR", name("10.61.0.9"))), "ok cache");
        assert_eq!(ask("outer", &format!("10.61.0.1 {} PTR", name("10.62.0.9"))), "no-name");
        let digits: String = {
            let address: std::net::Ipv6Addr = six.parse().unwrap();
            let hex = format!("{:032x}", u128::from(address));
            hex.chars().rev().map(|digit| format!("{digit}.")).collect()
        };
        assert_eq!(ask("outer", &format!("10.61.0.1 {digits}ip6.arpa PTR")), "ok web");
        // One name, two networks: by the one where it is asked.
        assert_eq!(ask("web", "10.61.0.1 store A"), "ok 10.61.0.9");
        assert_eq!(ask("web", "10.62.0.1 store A"), "ok 10.62.0.9");
        assert_eq!(ask("outer", "10.61.0.1 store A"), "ok 10.61.0.9");
        assert_eq!(ask("db", "10.62.0.1 store A"), "ok 10.62.0.9");
        // The inside hears nothing of the outside.
        assert_eq!(ask("db", "10.62.0.1 example.org A"), "refused");
    }
    // Who says how much it takes is told how much this one takes.
    assert_eq!(query(&rig, "outer", "10.61.0.1 web A udp 4096"), format!("ok edns {of_web}"));
    // A resolver of another network does not answer at all.
    rig.ctl_ok(&["stop", "cache"]);
    assert_eq!(query(&rig, "outer", "10.61.0.1 store A"), "no-name", "it is not ready");
}

/// Servers of names on the host: `silent` takes and never answers, `good` answers one record.
const SERVERS: &str = r#"
import os, socket, struct
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); silent.bind(("127.0.0.7", 53))
good = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); good.bind(("127.0.0.9", 53))
while True:
    q, a = good.recvfrom(2000); end = q.index(b"\0", 12) + 5
    good.sendto(q[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0) + q[12:end] + b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\xc0\0\x02\x07", a)
"#;

#[test]
fn a_server_outside_that_is_silent_is_not_waited_for_for_ever() {
    let units = format!("[network.front]\n{}", server("web", "networks = [\"front\"]"));
    let rig = rig(&units);
    rig.wait_state("default", "running");
    std::fs::write(rig.path("servers"), SERVERS).unwrap();
    std::fs::write(rig.path("resolv"), "").unwrap();
    let (servers, resolv) = (rig.path("servers"), rig.path("resolv"));
    let (done, said) = rig.on_host(&format!(
        "mount --bind {} /etc/resolv.conf && (/usr/bin/python3 {} >/dev/null 2>&1 &)",
        resolv.display(),
        servers.display()
    ));
    assert!(done, "{said}");
    let gateway = rig.ctl_ok(&["exec", "web", "--", "cat", "/etc/resolv.conf"]);
    let gateway = gateway.split_whitespace().nth(1).unwrap().to_owned();
    let with = |list: &[&str]| {
        let text: String = list.iter().map(|it| format!("nameserver {it}\n")).collect();
        std::fs::write(&resolv, text).unwrap();
    };
    let ask = |way: &str| query(&rig, "web", &format!("{gateway} a.example.org A {way}"));
    with(&["127.0.0.9"]);
    // The list is read again within two seconds.
    rig.wait_for("the good one", |_| ask("udp") == "ok 192.0.2.7");
    with(&["127.0.0.7", "127.0.0.9"]);
    rig.wait_for("the second of two", |_| ask("udp") == "ok 192.0.2.7");
    // One that refuses is passed over at once; nobody left to ask is a failure, not silence.
    with(&["127.0.0.8", "127.0.0.9"]);
    rig.wait_for("the one that does not refuse", |_| ask("udp") == "ok 192.0.2.7");
    with(&["127.0.0.7"]);
    rig.wait_for("the end of patience", |_| ask("udp") == "failed");
    assert_eq!(ask("tcp"), "failed");
    with(&[]);
    rig.wait_for("nobody to ask", |_| ask("udp") == "failed");
}

/// `load COUNT NAME PAUSE`: asks the C library's way: again after a second, three times; after
/// so many seconds where nobody listens. Prints how many were not answered.
const LOAD: &str = r#"
import os, socket, struct, sys, time
server = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")][0]
count, name = int(sys.argv[1]), sys.argv[2]
tail = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((server, 53)); s.settimeout(1)
lost = 0
for _ in range(count):
    number = os.urandom(2); q = number + b"\1\0\0\1\0\0\0\0\0\0" + tail
    for attempt in range(3):
        try:
            s.send(q)
            while True:
                a = s.recv(2000)
                if a[:2] == number: break
            break
        except socket.timeout: pass
        except ConnectionRefusedError: time.sleep(int(sys.argv[3]))
    else: lost += 1; continue
    if a[3] & 15 or struct.unpack(">H", a[6:8])[0] != 1: lost += 1
print("lost", lost, flush=True)
"#;

/// Three units ask for thousands of names while a process of berth's is killed again and again,
/// with this pause at least between two deaths; how often it was. `refused`: how many seconds
/// they wait where nobody listens.
fn killed_under_load(victim: &str, refused: u32, pause: Duration) -> u32 {
    let load = |name: &str| {
        format!(
            "[service.{name}]\ntype = \"oneshot\"\nmounts = [@SHARE@]\nnetworks = [\"front\"]\n\
             command = [\"/usr/bin/python3\", \"/mnt/load\", \"3000\", \"web\", \"{refused}\"]\n\
             wanted-by = []\nrestart = \"no\"\nstart-timeout = \"2min\"\n"
        )
    };
    let names = ["l1", "l2", "l3"];
    let units = format!(
        "[network.front]\n{}{}",
        server("web", "networks = [\"front\"]"),
        names.map(load).concat()
    );
    let rig = rig(&units);
    std::fs::write(rig.path("share/load"), LOAD).unwrap();
    rig.wait_state("default", "running");
    for name in names {
        rig.ctl_ok(&["start", "--no-wait", name]);
        // A keeper that dies while it makes a unit's network is another test's.
        rig.wait_for("the load", |rig| ["starting", "done"].contains(&rig.state(name).as_str()));
    }
    let busy = |rig: &Rig| names.iter().any(|name| rig.state(name) != "done");
    let mut killed = 0;
    let mut last: Option<Instant> = None;
    while busy(&rig) {
        for pid in rig.descendants(victim) {
            if last.is_some_and(|last| last.elapsed() < pause) {
                continue;
            }
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may be gone by now.
            killed += u32::from(nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).is_ok());
            last = Some(Instant::now());
        }
        assert!(names.iter().all(|name| rig.state(name) != "failed"), "{}", rig.story());
    }
    for name in names {
        assert_eq!(rig.logs(name).trim(), "lost 0", "{name}, killed {killed} times");
    }
    killed
}

#[test]
fn a_resolver_that_is_killed_under_load_loses_nothing_but_a_retry() {
    let killed = killed_under_load("berth-resolver", 0, Duration::ZERO);
    assert!(killed >= 3, "killed only {killed} times");
}

/// Its sockets end with it, so for a moment nobody listens: a second at most, where it had just
/// been started. Who asks again after that time is answered.
#[test]
fn a_keeper_that_is_killed_under_load_is_missed_for_a_moment() {
    let killed = killed_under_load("berth-network", 1, Duration::from_secs(3));
    assert!(killed >= 1, "it was never killed");
}

/// `hold COUNT`: opens so many connections to the resolver and sends a byte on each now and then;
/// says so when all are taken.
const HOLD: &str = r#"
import socket, sys, time
server = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")][0]
all = [socket.create_connection((server, 53)) for _ in range(int(sys.argv[1]))]
print("holding", flush=True)
while True:
    for s in all:
        try: s.send(b"\0")
        except OSError: pass
    time.sleep(1)
"#;

#[test]
fn nobody_takes_all_connections_of_the_resolver() {
    let greedy = "[service.greedy]\ncommand = [\"/usr/bin/python3\", \"/mnt/hold\", \"100\"]\n\
                  mounts = [@SHARE@]\nnetworks = [\"front\"]\nwanted-by = []\n\
                  ready = \"log:holding\"\n";
    let units = format!(
        "[network.front]\nsubnet = \"10.61.0.0/24\"\n{greedy}{}{}",
        server("web", "networks = [\"front\"]"),
        server("other", "networks = [\"front\"]"),
    );
    let rig = rig(&units);
    rig.wait_state("default", "running");
    std::fs::write(rig.path("share/hold"), HOLD).unwrap();
    rig.ctl_ok(&["start", "greedy"]);
    let address = address(&rig, "front", "web", true).unwrap();
    for _ in 0..20 {
        assert_eq!(query(&rig, "other", "10.61.0.1 web A tcp"), format!("ok {address}"));
    }
}

#[test]
fn who_holds_port_53_on_all_addresses_is_told_of() {
    let units = format!(
        "[network.front]\n[service.idle]\ncommand = [\"sleep\", \"1000\"]\n{}",
        server("web", "networks = [\"front\"]\nwanted-by = []\nrestart = \"no\"")
    );
    let rig = rig(&units);
    rig.wait_state("idle", "running");
    let bind = "import socket,time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                s.bind((\"0.0.0.0\", 53)); time.sleep(1000)";
    rig.on_host(&format!("/usr/bin/python3 -c '{bind}' >/dev/null 2>&1 &"));
    rig.wait_for("somebody at port 53", |rig| {
        rig.on_host("ss -lun sport = :53 | grep -q 0.0.0.0:53").0
    });
    let said = rig.ctl(&["start", "web"]);
    let expected = "port 53 of 10.89.0.1 is taken: a server of names on this host listens on all \
                    addresses";
    assert!(said.code == 1 && said.err.contains(expected), "{said:?}");
}
