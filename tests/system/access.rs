//! Whom the control socket is for. Each who is refused has somebody beside them who differs
//! in nothing else and is not.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{BERTHCTL, Rig, Said};

const SLEEPER: &str = "[service.a]\ncommand = \"sleep 1000\"\nisolation = \"none\"\n\
    environment = { PASSWORD = \"swordfish\" }\n";

/// Whose group may look: `nogroup` of Debian.
const GROUP: &str = "65534";

const NOT_PERMITTED: &str = "the supervisor does not permit it: it obeys its own user, outside \
    of containers";

/// `berthctl` run by another program.
fn through(rig: &Rig, program: &[&str], arguments: &[&str]) -> Said {
    // Where anybody may execute it.
    if !rig.path("berthctl").exists() {
        fs::copy(BERTHCTL, rig.path("berthctl")).unwrap();
        fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60"]).args(program).arg(rig.path("berthctl"));
    command.arg("--runtime-dir").arg(rig.path("run")).args(arguments).stdin(Stdio::null());
    command.env("NO_COLOR", "1").output().unwrap().into()
}

#[test]
fn root_of_another_user_namespace_is_nobody() {
    let rig = Rig::up(SLEEPER);
    rig.wait_state("a", "running");
    let other = ["unshare", "--user", "--map-root-user"];
    for arguments in [&["status"][..], &["stop", "a"], &["shutdown", "exit"]] {
        let said = through(&rig, &other, arguments);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(NOT_PERMITTED), "{said:?}");
    }
    assert_eq!(rig.state("a"), "running");
    // With every other namespace of its own it is still root of this host.
    let same = ["unshare", "--mount", "--ipc", "--uts", "--net", "--pid", "--fork"];
    assert_eq!(through(&rig, &same, &["stop", "a"]).code, 0);
}

#[test]
fn a_container_that_was_given_the_socket_is_nobody() {
    // Also the program: it may stand where a unit has something of its own, as /tmp is.
    let programs = Path::new(BERTHCTL).parent().unwrap().display();
    let mount = format!(
        "mounts = [{{ type = \"bind\", source = \"@DIR@/run\", target = \"/mnt\" }}, \
         {{ type = \"bind\", source = \"{programs}\", target = \"/media\", read-only = true }}]"
    );
    let rig = Rig::up(&format!(
        "{SLEEPER}[service.box]\ncommand = \"sleep 1000\"\n{mount}\n\
         [service.seen]\ncommand = \"sleep 1000\"\n{mount}\n\
         isolation = [\"mount\", \"ipc\", \"uts\", \"network\"]\n\
         security = {{ user-namespace = \"none\" }}\n"
    ));
    for unit in ["a", "box", "seen"] {
        rig.wait_state(unit, "running");
    }
    let ask = |unit: &str| {
        rig.ctl(&["exec", unit, "--", "/media/berthctl", "--runtime-dir", "/mnt", "stop", "a"])
    };
    let said = ask("box");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(NOT_PERMITTED), "{said:?}");
    assert_eq!(rig.state("a"), "running");
    // The same mount in a unit whose processes are the host's.
    let said = ask("seen");
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(rig.state("a"), "inactive");
}

#[test]
fn members_of_the_control_group_may_look_and_no_more() {
    let rig = Rig::start(crate::rig::Mode::Boot, SLEEPER, &["--control-group", GROUP]);
    rig.wait_state("a", "running");
    let socket = fs::metadata(rig.path("run/control.sock")).unwrap();
    assert_eq!((socket.mode() & 0o7777, socket.uid(), socket.gid()), (0o660, 0, 65534));
    let as_user = |group: &'static str, more: &'static str| {
        vec!["setpriv", "--reuid=1", "--regid", group, more]
    };
    let member = as_user("65534", "--clear-groups");
    let supplementary = as_user("1", "--groups=2,65534");
    for user in [&member, &supplementary] {
        for look in [
            &["status"][..],
            &["list"],
            &["show", "a"],
            &["deps", "default"],
            &["version"],
            &["status", "--json", "a"],
            &["blame"],
            &["critical-chain"],
            &["plot"],
            &["graph"],
            &["stats"],
        ] {
            let said = through(&rig, user, look);
            assert_eq!(said.code, 0, "{look:?}: {said:?}");
        }
        for touch in [
            &["stop", "a"][..],
            &["start", "a"],
            &["restart", "a"],
            &["reload", "a"],
            &["reset", "a"],
            &["kill", "a"],
            &["freeze", "a"],
            &["thaw", "a"],
            &["logs", "a"],
            &["apply", "--dry-run"],
            &["exec", "a", "--", "id"],
            &["shutdown", "exit"],
        ] {
            let said = through(&rig, user, touch);
            let verb = touch[0];
            assert_eq!(said.code, 1, "{verb}: {said:?}");
            let text = "is for root: members of the control group may only look";
            assert!(said.err.contains(&format!("{verb} {text}")), "{verb}: {said:?}");
            // The control: root is not refused for this reason.
            let said = if verb == "shutdown" { continue } else { rig.ctl(touch) };
            assert!(!said.err.contains(text), "{verb}: {said:?}");
            rig.ctl_ok(&["start", "a"]);
        }
    }
    assert!(rig.ctl_ok(&["show", "a"]).contains("swordfish"));
    let shown = through(&rig, &member, &["show", "a"]).out;
    assert!(shown.contains("PASSWORD") && !shown.contains("swordfish"), "{shown}");
    // Who is in no such group, and who is but is root only of another user namespace.
    let said = through(&rig, &as_user("1", "--groups=2"), &["status"]);
    assert_eq!(said.code, 5, "{said:?}");
    let inside = "setpriv --reuid=1 --regid=65534 --clear-groups unshare --user";
    let said = through(&rig, &inside.split(' ').collect::<Vec<_>>(), &["status"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(NOT_PERMITTED), "{said:?}");
}

#[test]
fn members_of_the_control_group_cannot_keep_root_out() {
    let rig = Rig::start(crate::rig::Mode::Boot, SLEEPER, &["--control-group", GROUP]);
    rig.wait_state("a", "running");
    let before = rig.descriptors();
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "use Socket; $| = 1; my @all; for (1 .. 1100) { \
        socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die qq(socket: $!); \
        connect($s, pack_sockaddr_un($ARGV[0])) or die qq(connect: $!); push @all, $s } \
        print qq(connected\\n); <STDIN>";
    let mut crowd = Command::new("prlimit")
        .args(["--nofile=4096", "setpriv", "--reuid=1", "--regid", GROUP, "--clear-groups"])
        .args(["perl", "-e", script])
        .arg(rig.path("run/control.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(crowd.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "connected\n");
    rig.ctl_ok(&["restart", "a"]);
    let more = rig.descriptors() - before;
    assert!((200..=260).contains(&more), "{more} connections");
    drop(crowd.stdin.take());
    crowd.wait().unwrap();
    rig.wait_for("the crowd to go", |rig| rig.descriptors() <= before);
}

#[test]
fn members_of_the_control_group_cannot_use_up_the_helpers() {
    let rig = Rig::start(crate::rig::Mode::Boot, SLEEPER, &["--control-group", GROUP]);
    rig.wait_state("a", "running");
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let call = r#"{"method": "org.berth.Control.Usage", "more": true,
        "parameters": {"units": [], "interval": 100}}"#;
    let script = "use Socket; use IO::Handle; $| = 1; my @all; my $busy = 0; $/ = chr 0; \
        for (1 .. 70) { socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die qq(socket: $!); \
        connect($s, pack_sockaddr_un($ARGV[0])) or die qq(connect: $!); push @all, $s; \
        $s->autoflush; print $s $ARGV[1], chr 0; my $reply = <$s>; $busy++ if $reply =~ /Busy/ } \
        print $busy, chr 10; <STDIN>";
    let mut crowd = Command::new("setpriv")
        .args(["--reuid=1", "--regid", GROUP, "--clear-groups", "perl", "-e", script])
        .arg(rig.path("run/control.sock"))
        .arg(call)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(crowd.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "54\n", "16 of 70 are served");
    assert_eq!(rig.children("berth-helper").len(), 16);
    // Root is served beside them, and more than 16 times.
    rig.ctl_ok(&["logs", "a"]);
    rig.ctl_ok(&["stats"]);
    drop(crowd.stdin.take());
    crowd.kill().unwrap();
    crowd.wait().unwrap();
    rig.wait_for("the helpers to go", |rig| rig.children("berth-helper").is_empty());
    let said =
        through(&rig, &["setpriv", "--reuid=1", "--regid", GROUP, "--clear-groups"], &["stats"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_control_group_that_is_none_ends_the_start() {
    let mut rig = Rig::prepare(SLEEPER);
    rig.launch(crate::rig::Mode::Boot, &["--control-group", "weel"]);
    assert_eq!(rig.wait_end(), 1);
    let err = rig.err();
    assert!(err.contains("--control-group: no group is called weel in /etc/group"), "{err}");
    assert!(!rig.path("run/control.sock").exists());
}
