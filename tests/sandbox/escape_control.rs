//! What a unit tries to reach the supervisor's own sockets. The supervisor here is the test:
//! it listens where the real one does and judges peers as the real one does.

use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use berth::container::step::Op;
use berth::sys::peer::{self, Home, Place};
use berth::unit::model::{Namespaces, Service};

use super::rig::{Rig, Test, bind, first_user, service, unit};

pub const TESTS: &[Test] = &[
    ("the_runtime_directory_is_hidden", the_runtime_directory_is_hidden),
    ("a_directory_above_the_runtime_directory_shows_no_socket", a_directory_above),
    ("a_container_with_the_socket_is_known_as_one", a_container_with_the_socket),
    ("root_of_a_user_namespace_is_known_as_such", root_of_a_user_namespace),
    ("abstract_sockets_are_out_of_reach", abstract_sockets),
    ("the_notify_socket_of_another_unit_is_out_of_reach", notify_of_another),
    ("the_sockets_are_not_found_through_proc", through_proc),
];

/// Perl that connects to a stream socket and says how that went.
const CONNECT: &str = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
    print connect($s, pack_sockaddr_un($ARGV[0])) ? 'connected' : 'no'; \
    $| = 1; print qq(\\n); <STDIN>; sleep 1000 if $ARGV[1]";

fn listen(rig: &Rig) -> UnixListener {
    UnixListener::bind(rig.path("runtime/control.sock")).unwrap()
}

fn plain(service: &mut Service) {
    service.namespaces.value = Namespaces::NONE;
}

/// Whether a unit on the host's tree finds a socket, with what hides it and without.
fn is_hidden(rig: &Rig, path: &str) {
    let look =
        || rig.run(&unit("web", &["perl", "-e", "print -S $ARGV[0] ? 'seen' : 'no'", path])).output;
    assert_eq!(look(), "no");
    rig.without.set(|op| matches!(op, Op::HideOwn));
    assert_eq!(look(), "seen");
    rig.without.set(|_| false);
}

fn the_runtime_directory_is_hidden() {
    let rig = Rig::new();
    let _listener = listen(&rig);
    is_hidden(&rig, &rig.path("runtime/control.sock"));
}

/// A unit that is shown a directory of the host for another reason: what is below for berth's
/// own use is not for it, and what was bound by its own path is.
fn a_directory_above() {
    let rig = Rig::new();
    let _listener = listen(&rig);
    let runtime = rig.path("runtime");
    let above = runtime.strip_suffix("/runtime").unwrap();
    let look = |source: &str, path: &str| {
        let mut unit = unit("web", &["perl", "-e", "print -S $ARGV[0] ? 'seen' : 'no'", path]);
        service(&mut unit).mounts.push(bind(source, "/host"));
        rig.run(&unit).output
    };
    assert_eq!(look(above, "/host/runtime/control.sock"), "no");
    assert_eq!(look(&runtime, "/host/control.sock"), "seen");
    rig.without.set(|op| matches!(op, Op::HideOwn));
    assert_eq!(look(above, "/host/runtime/control.sock"), "seen");
    rig.without.set(|_| false);
}

/// Where the supervisor sees a peer that connects from a unit.
fn place_of(rig: &Rig, argv: &[&str], change: impl FnOnce(&mut Service)) -> Place {
    let _ = std::fs::remove_file(rig.path("runtime/control.sock"));
    let listener = listen(rig);
    let mut unit = unit("web", argv);
    change(service(&mut unit));
    let mut running = rig.up(&unit).unwrap();
    assert_eq!(running.line(), "connected");
    let (socket, _) = listener.accept().unwrap();
    let who = peer::credentials(socket.as_fd()).unwrap();
    assert_eq!(who.uid, if running.users().is_some() { first_user(rig.runs()) } else { 0 });
    let place = Home::own().unwrap().place(socket.as_fd(), who).unwrap();
    running.down();
    place
}

fn a_container_with_the_socket() {
    let rig = Rig::new();
    // Its pid namespace alone is enough.
    rig.host_users.set(true);
    let (runtime, argv) =
        (rig.path("runtime"), ["perl", "-e", CONNECT, "/mnt/control.sock", "stay"]);
    let place = place_of(&rig, &argv, |s| s.mounts.push(bind(&runtime, "/mnt")));
    assert_eq!(place, Place::Below);
    let seen = place_of(&rig, &argv, |s| {
        s.mounts.push(bind(&runtime, "/mnt"));
        s.namespaces.value.pid = false;
        s.init = false;
    });
    assert_eq!(seen, Place::Here);
}

fn root_of_a_user_namespace() {
    let rig = Rig::new();
    let path = rig.path("runtime/control.sock");
    let argv = ["perl", "-e", CONNECT, &path, "stay"];
    let nested = [&["unshare", "--user", "--map-root-user"][..], &argv].concat();
    assert_eq!(place_of(&rig, &nested, plain), Place::OtherUsers);
    assert_eq!(place_of(&rig, &argv, plain), Place::Here);
}

fn abstract_sockets() {
    let rig = Rig::new();
    let name = format!("berth-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let perl = format!(
        "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
         print connect($s, pack('S a*', AF_UNIX, qq(\\0{name}))) ? 'connected' : 'no'"
    );
    let connect = |own: bool| {
        let mut unit = unit("web", &["perl", "-e", &perl]);
        service(&mut unit).namespaces.value.network = own;
        rig.run(&unit).output
    };
    assert_eq!(connect(true), "no");
    assert_eq!(connect(false), "connected");
}

/// A plain process, which no namespace holds, reaches it: there it is the sender's process
/// that the supervisor looks at.
fn notify_of_another() {
    let rig = Rig::new();
    std::fs::create_dir(rig.path("runtime/notify")).unwrap();
    let path = rig.path("runtime/notify/other");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    is_hidden(&rig, &path);
    let perl = "use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; \
        print send($s, 'READY=1', 0, pack_sockaddr_un($ARGV[0])) ? 'sent' : 'no'";
    let send = |change: fn(&mut Service)| {
        let mut unit = unit("web", &["perl", "-e", perl, &path]);
        change(service(&mut unit));
        rig.run(&unit).output
    };
    assert_eq!(send(|_| {}), "no");
    assert!(socket.recv(&mut [0; 16]).is_err());
    assert_eq!(send(plain), "sent");
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 7);
}

/// `/proc/PID/root` of a process of the host leads to all of it.
fn through_proc() {
    let rig = Rig::new();
    let _listener = listen(&rig);
    let path = rig.path("runtime/control.sock");
    let pid = std::process::id();
    let script =
        format!("for p in 1 {pid}; do test -S /proc/$p/root{path} && echo found; done; true");
    let look = |own: bool| {
        let mut unit = unit("web", &["sh", "-c", &script]);
        let service = service(&mut unit);
        service.namespaces.value.pid = own;
        service.init = own;
        // Without a pid namespace it takes a capability to look.
        service.security.privileged = !own;
        rig.run(&unit).output
    };
    assert_eq!(look(true), "");
    assert!(look(false).contains("found"));
}
