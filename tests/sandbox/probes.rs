//! Probes try from inside the unit's namespaces.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use berth::container::probe::{self, Patience, Target};
use berth::sys::clone::{Process, namespace as flag};
use berth::sys::reap::Ended;
use berth::sys::{fd, fork, namespace, pidfd};

use super::rig::{Rig, Running, Test, unit};

pub const TESTS: &[Test] = &[
    ("paths_are_those_inside", paths_are_those_inside),
    ("patience_waits_for_the_path", patience_waits_for_the_path),
    ("connections_are_made_inside", connections_are_made_inside),
    ("http_has_a_verdict", http_has_a_verdict),
];

fn inside<'a>(running: &'a Running<'_>) -> std::os::fd::BorrowedFd<'a> {
    running.sandbox.as_ref().unwrap().pidfd.as_fd()
}

fn verdict(process: &Process) -> Ended {
    assert!(
        fd::readable_within(process.pidfd.as_fd(), super::machine::patience(20_000)).unwrap(),
        "no verdict"
    );
    super::rig::wait_pidfd(process.pidfd.as_fd()).unwrap().unwrap().ended
}

fn once(running: &Running<'_>, target: &Target) -> Ended {
    verdict(&probe::start(&running.plan, inside(running), target, Patience::Once).unwrap())
}

fn paths_are_those_inside() {
    let rig = Rig::new();
    let mut running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    running.shell("touch /run/there").good();
    assert_eq!(once(&running, &Target::Path("/run/there".into())), Ended::Code(0));
    let hidden = rig.file("runtime/only-outside", "");
    assert_eq!(once(&running, &Target::Path(hidden)), Ended::Code(1));
    running.down();
}

fn patience_waits_for_the_path() {
    let rig = Rig::new();
    let mut running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let target = Target::Path("/run/later".into());
    let probe = probe::start(&running.plan, inside(&running), &target, Patience::Forever).unwrap();
    assert!(!pidfd::has_ended(probe.pidfd.as_fd()).unwrap());
    running.shell("touch /run/later").good();
    assert_eq!(verdict(&probe), Ended::Code(0));
    running.down();
}

/// A server in the unit's network and mounts that gives one answer to each of three
/// connections.
fn server(running: &Running<'_>, answer: &'static str) -> Process {
    use std::io::{Read, Write};
    let inside = inside(running);
    let (mut read, write) = std::io::pipe().unwrap();
    let keep = [inside, write.as_fd()];
    let options = fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
    let flags = flag::USER | flag::NETWORK | flag::MOUNT;
    let server = fork::child(&options, || {
        namespace::enter(inside, flags).unwrap();
        berth::sys::identity::become_user(0, 0, &[]).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
        let _unix = std::os::unix::net::UnixListener::bind("/run/x.sock").unwrap();
        rustix::io::write(&write, b"x").unwrap();
        loop {
            let (mut stream, _) = tcp.accept().unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap_or(0);
            if count > 0 {
                assert!(
                    request.starts_with(b"GET /healthz?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    })
    .unwrap();
    drop(write);
    read.read_exact(&mut [0]).unwrap();
    server
}

fn end(server: &Process) {
    pidfd::send_signal(server.pidfd.as_fd(), libc::SIGKILL).unwrap();
    super::rig::wait_pidfd(server.pidfd.as_fd()).unwrap();
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn connections_are_made_inside() {
    let rig = Rig::new();
    let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let (tcp, unix) = (Target::Tcp(address(8080)), Target::Unix("/run/x.sock".into()));
    assert_eq!(once(&running, &tcp), Ended::Code(1));
    assert_eq!(once(&running, &unix), Ended::Code(1));
    let server = server(&running, "");
    assert_eq!(once(&running, &tcp), Ended::Code(0));
    assert_eq!(once(&running, &unix), Ended::Code(0));
    // The control: it is not the host's.
    assert!(std::net::TcpStream::connect(address(8080)).is_err());
    end(&server);
    running.down();
}

fn http_has_a_verdict() {
    let rig = Rig::new();
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", 0),
        ("HTTP/1.0 399 x\r\n", 0),
        ("HTTP/1.1 400 Bad\r\n\r\n", 1),
        ("HTTP/1.1 503 No\r\n\r\n", 1),
        ("nonsense\r\n", 1),
        ("", 1),
    ] {
        let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
        let server = server(&running, answer);
        let target = Target::Http { address: address(8080), path: "/healthz?x=1".into() };
        assert_eq!(once(&running, &target), Ended::Code(expected), "{answer:?}");
        end(&server);
        running.down();
    }
}
