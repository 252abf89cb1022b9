//! Published ports, in what they have of their own: `::1`, ranges, many at once, who may
//! reach them, and who holds one already.

use crate::network::{ask, ask_from_host, rig, server};
use crate::rig::{PATIENCE, Rig};

/// Sends back all it gets once that has ended, and its own name first.
const ECHO: &str = r#"
import socket, threading
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 81)); s.listen(64)
def serve(c):
    parts = []
    while True:
        d = c.recv(65536)
        if not d: break
        parts.append(d)
    c.sendall(b"".join(parts)); c.close()
while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()
"#;

/// `echo HOST PORT CONNECTIONS BYTES`: as many at once, each of which must get back what it
/// sent, after it has said that nothing more comes.
const CLIENT: &str = r#"
import hashlib, os, socket, sys, threading
host, port, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
good = []
def one():
    data = os.urandom(size)
    s = socket.create_connection((host, port), 20); s.settimeout(20)
    def send(): s.sendall(data); s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send); t.start()
    back = b""
    while True:
        d = s.recv(65536)
        if not d: break
        back += d
    t.join()
    if back == data: good.append(1)
threads = [threading.Thread(target=one) for _ in range(count)]
for t in threads: t.start()
for t in threads: t.join()
print(len(good))
"#;

fn python(rig: &Rig, script: &str, arguments: &str) -> String {
    let path = rig.path("script");
    std::fs::write(&path, script).unwrap();
    rig.on_host(&format!("/usr/bin/python3 {} {arguments}", path.display())).1.trim().to_owned()
}

#[test]
fn ports_of_the_ipv6_loopback_lead_to_their_units() {
    let ports = "ports = [\"[::1]:53:80/udp\", \"[::1]:8080:80\", \"9000-9002:79-81\", \
                 \"5300:80/udp\", \"127.0.0.1:7000:80\"]";
    let units = format!(
        "[service.idle]\ncommand = [\"sleep\", \"1000\"]\n\
         [network.front]\nipv6 = true\n[network.four]\n{}{}[service.echo]\n\
         command = [\"/usr/bin/python3\", \"-c\", '''{ECHO}''']\nnetworks = [\"front\"]\n\
         ports = [\"[::1]:9081:81\"]\nready = \"tcp:81\"\n",
        server("web", &format!("networks = [\"front\"]\n{ports}")),
        server("other", "networks = [\"four\"]\nports = [\"[::1]:8081:80\"]")
    );
    let mut rig = rig(&units);
    rig.wait_state("default", "running");
    for way in ["udp ::1 53", "tcp ::1 8080", "tcp ::1 9001", "udp ::1 5300", "tcp 127.0.0.1 9001"]
    {
        assert!(ask_from_host(&rig, way).starts_with("web "), "{way}");
    }
    // A unit without IPv6 is reached as well; what is only for 127.0.0.1 is not.
    assert!(ask_from_host(&rig, "tcp ::1 8081").starts_with("other "));
    assert_eq!(ask_from_host(&rig, "tcp ::1 7000"), "refused");
    assert_eq!(ask_from_host(&rig, "tcp 127.0.0.1 8080"), "refused", "only for ::1");
    // Of a port of the range where nobody listens nothing comes back.
    assert_eq!(ask_from_host(&rig, "tcp ::1 9000"), "");
    // Many at once, with much in both directions, and the end of one direction alone.
    assert_eq!(python(&rig, CLIENT, "::1 9081 40 1000000"), "40");
    // Killed, it is replaced; who asks meanwhile waits.
    let victim = rig.descendants("berth-forward")[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), nix::sys::signal::SIGKILL).unwrap();
    assert!(ask_from_host(&rig, "tcp ::1 8080 6 20").starts_with("web "));
    assert!(ask_from_host(&rig, "udp ::1 53 6 20").starts_with("web "));
    // A keeper that is killed makes all of it anew.
    let victim = rig.descendants("berth-network")[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), nix::sys::signal::SIGKILL).unwrap();
    let begun = std::time::Instant::now();
    while !ask_from_host(&rig, "tcp ::1 8080 6 1").starts_with("web ") {
        assert!(begun.elapsed() < PATIENCE, "the keeper does not come back\n{}", rig.story());
    }
    // The unit's own loopback is its own.
    assert_eq!(ask(&rig, "other", "tcp ::1 8080"), "refused");
    rig.ctl_ok(&["stop", "web"]);
    assert_eq!(ask_from_host(&rig, "tcp ::1 8080"), "refused");
    rig.ctl_ok(&["stop", "other", "echo"]);
    assert!(rig.descendants("berth-forward").is_empty(), "nobody needs it");
    assert_eq!(rig.finish(), 0);
}
