//! Process 1 of a container that somebody else has made, with more or less taken away:
//! as `berth` with units, and as `berth -- COMMAND`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{BERTH, Said};

/// Runs words as process 1 of new pid, mount and other namespaces, after a shell in them
/// has prepared the place. `exec` at the end is what the container runs.
fn container(preparation: &str, run: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc", "--uts"]);
    command.args(["sh", "-ec", &format!("{preparation}\nexec {run}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a container says that ends by itself.
fn said(preparation: &str, run: &str) -> Said {
    container(preparation, run).output().unwrap().into()
}

/// Waits for a line of the container's standard output.
fn await_line(output: &mut impl BufRead, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended without {text:?}: {all}");
        all.push_str(&line);
    }
    all
}

/// Process 1 of the container: the only child of `unshare`.
fn process_1(child: &Child) -> Pid {
    let list = format!("/proc/{0}/task/{0}/children", child.id());
    let text = fs::read_to_string(list).unwrap();
    Pid::from_raw(text.trim().parse().unwrap())
}

/// A unit file for a service that waits to be told to end.
fn units(directory: &Path) -> String {
    let text = "[service.hello]\nisolation = \"none\"\n\
                command = [\"sh\", \"-c\", \"trap 'echo ended; exit 0' TERM; echo here; \
                while :; do sleep 0.1; done\"]\n";
    fs::write(directory.join("hello.toml"), text).unwrap();
    directory.display().to_string()
}

/// Boots units in a container and has it ended by SIGTERM: what it printed and how it ended.
fn boots_and_ends(preparation: &str, wrapper: &str) -> (String, i32) {
    let directory = tempfile::tempdir().unwrap();
    // Somebody who is not root has to be able to read it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    let run = format!("{wrapper} {BERTH} --config {}", units(directory.path()));
    let mut child = container(preparation, &run).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = await_line(&mut output, "| here");
    kill(process_1(&child), Signal::SIGTERM).unwrap();
    std::io::Read::read_to_string(&mut output, &mut text).unwrap();
    (text, child.wait().unwrap().code().unwrap())
}

/// What containers usually have: memory in these places, and the rest read-only.
const READ_ONLY: &str = "mount --make-rprivate /; mount -t tmpfs shm /dev/shm; \
                         mount -o remount,bind,ro /; mount -o bind,ro /run /run; \
                         mount -o remount,bind,ro /run; \
                         mkdir /dev/shm/tmp; mount --bind /dev/shm/tmp /var/lib; \
                         mount -o remount,bind,ro /var/lib";

/// Only what a process without it may do is left.
const NO_ADMIN: &str = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";

#[test]
fn a_read_only_root_ends_nobody() {
    let (text, code) = boots_and_ends(READ_ONLY, "");
    assert!(text.contains("logs and volumes are in memory"), "{text}");
    assert!(text.contains("hello   | here") && text.contains("hello   | ended"), "{text}");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn without_the_right_to_mount() {
    let tmpfs = "mount --make-rprivate /; mount -t tmpfs run /run; mkdir /run/state; \
                 mount --bind /run/state /var/lib";
    let (text, code) = boots_and_ends(tmpfs, NO_ADMIN);
    assert!(text.contains("hello   | here") && text.contains("hello   | ended"), "{text}");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn as_nobody() {
    let own = "mount --make-rprivate /; mount -t tmpfs -o mode=1777 shm /dev/shm";
    let wrapper = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all";
    let (text, code) = boots_and_ends(own, wrapper);
    assert!(text.contains("so the control socket is in /dev/shm/berth"), "{text}");
    assert!(text.contains("hello   | here") && text.contains("hello   | ended"), "{text}");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_critical_failure_is_the_containers() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[service.main]\nisolation = \"none\"\ncritical = true\nrestart = \"no\"\n\
                command = [\"sh\", \"-c\", \"echo going; exit 9\"]\n";
    fs::write(directory.path().join("main.toml"), text).unwrap();
    let run = format!("{BERTH} --config {}", directory.path().display());
    let said =
        said("mount --make-rprivate /; mount -t tmpfs run /run; mount -t tmpfs lib /var/lib", &run);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("going"), "{said:?}");
}

#[test]
fn a_command_instead_of_units_ends_with_its_code() {
    for (command, code) in [
        ("sh -c 'exit 0'", 0),
        ("sh -c 'exit 7'", 7),
        ("sh -c 'kill -9 $$'", 137),
        ("/nonexistent/command", 127),
        ("/etc/passwd", 126),
    ] {
        let said = said(":", &format!("{BERTH} -- {command}"));
        assert_eq!(said.code, code, "{command}: {said:?}");
        // Also where it is not process 1.
        let plain = Command::new("sh").args(["-c", &format!("exec {BERTH} -- {command}")]).output();
        assert_eq!(Said::from(plain.unwrap()).code, code, "{command}");
    }
}

#[test]
fn a_command_instead_of_units_gets_signals_and_a_reaper() {
    let script = "trap 'echo told; exit 4' TERM; trap 'echo again' HUP; \
                  for i in 1 2 3 4 5 6 7 8; do (sleep 0.05 & exec sleep 0.01) & done; \
                  sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; echo ready; \
                  while :; do sleep 0.05; done";
    let mut child = container(":", &format!("{BERTH} -- sh -c \"{script}\"")).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let text = await_line(&mut output, "ready");
    assert!(text.starts_with("0\n"), "zombies: {text}");
    kill(process_1(&child), Signal::SIGHUP).unwrap();
    await_line(&mut output, "again");
    kill(process_1(&child), Signal::SIGTERM).unwrap();
    await_line(&mut output, "told");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}
