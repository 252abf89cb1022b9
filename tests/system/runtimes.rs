//! Process 1 of containers as other programs make them: a container runtime's, with the
//! rights and the masks that are usual; a terminal; and beside the small inits that people
//! put there otherwise.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{BERTH, Said};

/// What Docker and Podman leave a container.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A bundle of a container of the host's tree, read-only, with these mounts besides `/proc`
/// and `/dev`.
fn bundle(directory: &Path, arguments: &[&str], further: &[serde_json::Value]) {
    let mount = |kind: &str, at: &str, options: &[&str]| json!({ "type": kind, "source": kind, "destination": at, "options": options });
    let mut mounts = vec![
        mount("proc", "/proc", &[]),
        mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755"]),
        mount("devpts", "/dev/pts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "nodev", "mode=1777"]),
        mount("tmpfs", "/tmp", &["nosuid", "mode=1777"]),
        json!({ "type": "bind", "source": directory.join("units"), "destination": "/mnt", "options": ["bind", "ro"] }),
    ];
    fs::create_dir(directory.join("rootfs")).unwrap();
    fs::copy(BERTH, directory.join("units/berth")).unwrap();
    mounts.extend(further.iter().cloned());
    let namespaces = ["pid", "mount", "ipc", "uts", "network"];
    let sets = ["bounding", "effective", "permitted"];
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "terminal": false,
            "cwd": "/",
            "args": arguments,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
            "user": { "uid": 0, "gid": 0 },
            "capabilities": sets.iter().map(|set| ((*set).to_owned(), json!(CAPABILITIES)))
                .collect::<serde_json::Map<_, _>>(),
            "noNewPrivileges": true,
        },
        "hostname": "boxed",
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces.map(|kind| json!({ "type": kind })),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// A unit that waits to be told to end, and one that wants more than there is.
fn units(directory: &Path) {
    let text = "[service.hello]\nisolation = \"none\"\n\
                command = [\"sh\", \"-c\", \"trap 'echo ended; exit 0' TERM; echo here; \
                while :; do sleep 0.1; done\"]\n\
                [service.boxed]\ncommand = \"true\"\nrestart = \"no\"\nlimits = { pids = 7 }\n";
    fs::create_dir(directory.join("units")).unwrap();
    fs::write(directory.join("units/hello.toml"), text).unwrap();
}

/// Boots the units in a container of crun's and ends it by SIGTERM: what it said.
fn in_a_container(further: &[serde_json::Value]) -> String {
    // Not in /tmp, which is another one in there.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let name = format!("berth-test-{}-{}", std::process::id(), further.len());
    units(directory.path());
    bundle(directory.path(), &["/mnt/berth", "--config", "/mnt"], further);
    let state = directory.path().join("state");
    let crun = |words: &[&str]| {
        let mut command = Command::new("timeout");
        // It takes no host that has control groups of both versions.
        let script = "mount --make-rprivate /; mount -t cgroup2 own /sys/fs/cgroup; \
                      mount --bind / rootfs; exec \"$@\"";
        command.args(["--signal=KILL", "120", "unshare", "--mount", "sh", "-ec", script, "sh"]);
        command.args(["crun", "--cgroup-manager=disabled", "--root"]);
        command.arg(&state).args(words).current_dir(directory.path()).stdin(Stdio::null());
        command
    };
    let mut run = crun(&["run", &name]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !(text.contains("| here") && text.contains("boxed: failed")) {
        if output.read_line(&mut text).unwrap() == 0 {
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("it ended: {text}\n{errors}");
        }
    }
    assert!(crun(&["kill", &name, "TERM"]).status().unwrap().success());
    output.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    text
}

#[test]
fn a_container_with_the_usual_rights() {
    let text = in_a_container(&[]);
    assert!(text.contains("hello   | here") && text.contains("hello   | ended"), "{text}");
    // What it cannot do there it says, each thing once.
    for once in
        ["no control groups here, limits are not enforced", "logs and volumes are in memory"]
    {
        assert_eq!(text.matches(once).count(), 1, "{once}: {text}");
    }
    // Without CAP_SYS_ADMIN there are no containers in it.
    assert!(text.contains("boxed: failed: ") && text.contains("Operation not permitted"), "{text}");
}

#[test]
fn a_container_with_a_read_only_tree_of_control_groups() {
    let tree = json!({ "type": "cgroup", "source": "cgroup", "destination": "/sys/fs/cgroup",
                       "options": ["nosuid", "noexec", "nodev", "ro"] });
    let sys = json!({ "type": "sysfs", "source": "sysfs", "destination": "/sys",
                      "options": ["nosuid", "noexec", "nodev", "ro"] });
    let text = in_a_container(&[sys, tree]);
    assert!(text.contains("hello   | here") && text.contains("hello   | ended"), "{text}");
    let once = "no control groups here, limits are not enforced";
    assert_eq!(text.matches(once).count(), 1, "{text}");
}

/// Process 1 of new namespaces, and its number.
#[expect(clippy::zombie_processes, reason = "who asks for it waits for it")]
fn process_1(arguments: &[&str]) -> (Child, Pid) {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc"]);
    command.args([
        "sh",
        "-ec",
        "mount --make-rprivate /; mount -t tmpfs run /run; \
                   mount -t tmpfs lib /var/lib; exec \"$@\"",
        "sh",
    ]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let child = command.spawn().unwrap();
    let list = format!("/proc/{0}/task/{0}/children", child.id());
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        let text = fs::read_to_string(&list).unwrap();
        if let Ok(pid) = text.trim().parse() {
            return (child, Pid::from_raw(pid));
        }
        assert!(std::time::Instant::now() < deadline, "no process 1");
        crate::rig::pause();
    }
}

fn await_line(output: &mut impl BufRead, text: &str) {
    let mut all = String::new();
    while !all.contains(text) {
        assert_ne!(output.read_line(&mut all).unwrap(), 0, "it ended without {text:?}: {all}");
    }
}

/// What reboot(2) does in a pid namespace tells whoever made the container what was wanted.
#[test]
fn the_signals_of_a_machine_end_a_container() {
    let directory = tempfile::tempdir().unwrap();
    units(directory.path());
    let config = directory.path().join("units");
    // SIGPWR, SIGRTMIN+3, +4 and +5.
    for (signal, last) in [(30, libc_sigint()), (37, libc_sigint()), (38, libc_sigint()), (39, 1)] {
        let words = [BERTH, "--config", config.to_str().unwrap()];
        let (mut child, pid) = process_1(&words);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        await_line(&mut output, "| here");
        // These it has no use for.
        for other in [3, 4, 6, 13, 14, 21, 34, 36, 40, 64] {
            send(pid, other);
        }
        send(pid, signal);
        await_line(&mut output, "| ended");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let status = child.wait().unwrap();
        let how = status.signal().or(status.code().map(|code| code - 128));
        assert_eq!(how, Some(last), "after {signal}: {status} {rest}");
    }
}

fn libc_sigint() -> i32 {
    Signal::SIGINT as i32
}

/// Also real-time signals, which have no name.
fn send(pid: Pid, signal: i32) {
    let words = [format!("-{signal}"), pid.to_string()];
    assert!(Command::new("kill").args(words).status().unwrap().success());
}

/// A command with a terminal: it reads from it, Ctrl-C reaches it, and it is its only job.
#[test]
fn a_command_with_a_terminal() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    // It stays until it is told to go: with the end of a session its terminal is hung up, and
    // what has not reached the other side by then is gone.
    let script = "test -t 0 && read line && echo \"<$line>\" && \
                  trap 'echo broken; read line; exit 5' INT && \
                  echo ready && while :; do sleep 0.1; done";
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        BERTH,
        "--",
        "sh",
        "-c",
        script,
    ]);
    command.stdin(slave()).stdout(slave()).stderr(slave());
    // The leader of a session that has it.
    let mut leader = Command::new("setsid");
    leader.args(["--ctty", "--wait", "unshare"]).args(command.get_args());
    leader.stdin(slave()).stdout(slave()).stderr(slave()).process_group(0);
    let mut child = leader.spawn().unwrap();
    drop(leader);
    drop(command);
    let nix::pty::OpenptyResult { master, slave } = terminal;
    drop(slave);
    let mut master = fs::File::from(master);
    master.write_all(b"hello\n").unwrap();
    let mut shown = String::new();
    shows(&mut master, &mut shown, "<hello>");
    shows(&mut master, &mut shown, "ready");
    master.write_all(b"\x03").unwrap();
    shows(&mut master, &mut shown, "broken");
    master.write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

/// Reads on until the terminal has shown this.
fn shows(master: &mut fs::File, shown: &mut String, text: &str) {
    while !shown.contains(text) {
        let mut bytes = [0; 256];
        let count = master.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

/// The same commands below `tini --`: what it ends with, and what signals it hands on.
#[test]
fn a_drop_in_for_tini() {
    for command in [
        &["true"][..],
        &["sh", "-c", "exit 7"],
        &["sh", "-c", "kill -9 $$"],
        &["sh", "-c", "kill -TERM $$; sleep 9"],
        &["/nonexistent/command"],
        &["no-such-command"],
    ] {
        let of = |init: &str| {
            let mut words = vec!["--pid", "--fork", "--kill-child", "--mount-proc", init, "--"];
            words.extend(command);
            Said::from(Command::new("unshare").args(words).output().unwrap()).code
        };
        assert_eq!(of(BERTH), of("tini"), "{command:?}");
    }
    // No signal is blocked when it begins: some never change that, and could not be ended.
    let blocked = |init: &str| {
        let words = ["--pid", "--fork", "--kill-child", "--mount-proc", init, "--"];
        let mut command = Command::new("unshare");
        command.args(words).args(["grep", "^SigBlk", "/proc/self/status"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(blocked(BERTH), "SigBlk:\t0000000000000000\n");
    assert_eq!(blocked(BERTH), blocked("tini"));
    for signal in [Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGTERM] {
        let of = |init: &str| {
            let script =
                format!("trap 'exit 3' {}; echo up; while :; do sleep 0.05; done", signal as i32);
            let (mut child, pid) = process_1(&[init, "--", "sh", "-c", &script]);
            await_line(&mut BufReader::new(child.stdout.take().unwrap()), "up");
            kill(pid, signal).unwrap();
            child.wait().unwrap().code()
        };
        assert_eq!((of(BERTH), of("tini")), (Some(3), Some(3)), "{signal}");
    }
}
