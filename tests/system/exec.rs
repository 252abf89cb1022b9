//! Commands inside units: their bytes, their ends, their terminals, and clients that go.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::rig::{PATIENCE, Rig, pause};

const UNITS: &str = "
    [service.plain]
    command = 'sleep 1000'
    isolation = 'none'
    environment = { COLOUR = 'red' }
    [service.boxed]
    command = 'sleep 1000'
    hostname = 'box'
    environment = { COLOUR = 'blue' }
    [service.own]
    command = 'sleep 1000'
    user = 'nobody'
    [service.over]
    command = 'true'
    type = 'oneshot'
";

fn rig() -> Rig {
    let rig = Rig::up(UNITS);
    for unit in ["plain", "boxed", "own"] {
        rig.wait_state(unit, "running");
    }
    rig.wait_state("over", "done");
    rig
}

/// The exit code, within a deadline.
fn end_of(child: &mut Child, rig: &Rig) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().expect("berthctl was killed");
        }
        assert!(begun.elapsed() < PATIENCE, "berthctl does not end\n{}", rig.story());
        pause();
    }
}

/// Command lines of all processes in the unit's cgroup.
fn processes(rig: &Rig, unit: &str) -> Vec<String> {
    let group = rig.status(unit)["cgroup"].as_str().unwrap().to_owned();
    let pids = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap();
    pids.lines()
        .map(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .unwrap_or_default()
                .replace('\0', " ")
        })
        .collect()
}

#[test]
fn output_and_exit_codes_come_through() {
    let rig = rig();
    for unit in ["plain", "boxed"] {
        let said = rig.ctl(&["exec", unit, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((said.code, &*said.out, &*said.err), (7, "out\n", "err\n"), "{unit}");
        assert_eq!(rig.ctl(&["exec", unit, "--", "true"]).code, 0);
        assert_eq!(rig.ctl(&["exec", unit, "--", "sh", "-c", "kill -9 $$"]).code, 137);
        assert_eq!(rig.ctl(&["exec", unit, "--", "sh", "-c", "kill -TERM $$"]).code, 143);
        let said = rig.ctl(&["exec", unit, "--", "no-such-program"]);
        assert!([1, 126, 127].contains(&said.code), "{said:?}");
        assert!(said.err.contains("no-such-program"), "{said:?}");
        // It does not wait for what the command leaves behind in the background.
        let said = rig.ctl(&["exec", unit, "--", "sh", "-c", "sleep 1000 & echo $COLOUR"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert_eq!(
        rig.ctl_ok(&["exec", "boxed", "--", "sh", "-c", "echo $COLOUR; hostname"]),
        "blue\nbox\n"
    );
    assert_eq!(rig.ctl_ok(&["exec", "plain", "--", "sh", "-c", "echo $COLOUR"]), "red\n");
    // Without -i its input is empty.
    assert_eq!(rig.ctl_ok(&["exec", "boxed", "--", "cat"]), "");
    let said = rig.ctl(&["exec", "over", "--", "true"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("not running"), "{said:?}");
    assert_eq!(rig.ctl(&["exec", "nobody", "--", "true"]).code, 4);
    assert_eq!(rig.ctl(&["exec", "boxed"]).code, 2);
}

#[test]
fn it_runs_as_whom_it_is_told() {
    let rig = rig();
    let id = |arguments: &[&str], unit| {
        let said =
            [&["exec"], arguments, &[unit, "--", "sh", "-c", "echo $(id -u):$(id -g)"]].concat();
        rig.ctl_ok(&said)
    };
    assert_eq!(id(&[], "boxed"), "0:0\n");
    assert_eq!(id(&[], "own"), "65534:65534\n");
    assert_eq!(id(&["-u", "root"], "own"), "0:0\n");
    assert_eq!(id(&["-u", "nobody"], "boxed"), "65534:65534\n");
    assert_eq!(id(&["-u", "12:34"], "plain"), "12:34\n");
    let said = rig.ctl(&["exec", "-u", "whoever", "boxed", "--", "id"]);
    assert_eq!(said.code, 1);
    let step = "become the user that was asked for: no user \"whoever\"";
    assert!(said.err.contains(step), "{said:?}");
}

#[test]
fn a_mebibyte_goes_in_and_comes_out() {
    let rig = rig();
    let input: Vec<u8> =
        (0..1_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for unit in ["plain", "boxed"] {
        let mut command = rig.ctl_command(&["exec", "-i", unit, "--", "cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let sent = input.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        let mut back = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
        writer.join().unwrap();
        assert_eq!(end_of(&mut child, &rig), 0);
        assert!(back == input, "{} of {} bytes came back", back.len(), input.len());
    }
    // A command that reads nothing of it does not hold anybody up.
    let mut command = rig.ctl_command(&["exec", "-i", "boxed", "--", "true"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    assert_eq!(end_of(&mut child, &rig), 0);
    writer.join().unwrap();
}

/// A terminal in which berthctl runs.
struct Terminal {
    user: OwnedFd,
    child: Child,
    shown: String,
}

impl Terminal {
    fn run(rig: &Rig, arguments: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        resize(&pty.master, 33, 77);
        let end = || Stdio::from(pty.slave.as_fd().try_clone_to_owned().unwrap());
        let mut command = rig.ctl_command(arguments);
        command.env("TERM", "vt100").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        Self { user: pty.master, child, shown: String::new() }
    }

    fn type_in(&self, text: &str) {
        File::from(self.user.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the screen shows this.
    fn see(&mut self, text: &str) {
        let begun = Instant::now();
        rustix::io::ioctl_fionbio(&self.user, true).unwrap();
        while !self.shown.contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{text:?} is not shown: {:?}", self.shown);
            let mut buffer = [0; 4096];
            match rustix::io::read(&self.user, &mut buffer) {
                Ok(count) => self.shown.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(_) => pause(),
            }
        }
        rustix::io::ioctl_fionbio(&self.user, false).unwrap();
    }
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_terminal_has_its_size_its_signals_and_its_name() {
    let rig = rig();
    for unit in ["plain", "boxed", "own"] {
        let script = "tty; stty size; echo $TERM; trap 'echo resized; stty size' WINCH; \
                      trap 'echo interrupted' INT; echo ready; read x; echo got $x; \
                      while :; do sleep 0.05; done";
        let mut terminal = Terminal::run(&rig, &["exec", "-it", unit, "--", "bash", "-c", script]);
        terminal.see("ready");
        assert!(terminal.shown.contains("/dev/pts/"), "{unit}: {}", terminal.shown);
        assert!(
            terminal.shown.contains("33 77") && terminal.shown.contains("vt100"),
            "{}",
            terminal.shown
        );
        terminal.type_in("hello\r");
        terminal.see("got hello");
        resize(&terminal.user, 44, 99);
        kill(Pid::from_raw(terminal.child.id().try_into().unwrap()), Signal::SIGWINCH).unwrap();
        terminal.see("resized");
        terminal.see("44 99");
        terminal.type_in("\x03");
        terminal.see("interrupted");
        // Closing the terminal ends it.
        let Terminal { user, mut child, .. } = terminal;
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        drop(user);
        rig.wait_for("the command to end", |rig| {
            processes(rig, unit).iter().all(|it| !it.contains("trap"))
        });
    }
}

#[test]
fn a_client_that_is_killed_takes_its_command_along() {
    let rig = rig();
    let before = rig.descriptors();
    for unit in ["plain", "boxed"] {
        for flags in [&["exec"][..], &["exec", "-i"]] {
            let script = "sleep 4321; sleep 4322";
            let mut command = rig.ctl_command(&[flags, &[unit, "--", "sh", "-c", script]].concat());
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            rig.wait_for("the command", |rig| {
                processes(rig, unit).iter().any(|it| it == "sleep 4321 ")
            });
            child.kill().unwrap();
            child.wait().unwrap();
            rig.wait_for("its end", |rig| {
                processes(rig, unit).iter().all(|it| !it.contains("432"))
            });
        }
    }
    rig.wait_for("helpers to end", |rig| rig.children("berth-helper").is_empty());
    rig.wait_for("descriptors to be closed", |rig| rig.descriptors() <= before);
}

#[test]
fn a_unit_that_stops_ends_what_was_executed_in_it() {
    let rig = rig();
    let before = rig.descriptors();
    for unit in ["plain", "boxed"] {
        let mut command = rig.ctl_command(&["exec", unit, "--", "sleep", "4323"]);
        let mut child = command.spawn().unwrap();
        rig.wait_for("the command", |rig| {
            processes(rig, unit).iter().any(|it| it == "sleep 4323 ")
        });
        rig.ctl_ok(&["restart", unit]);
        assert_eq!(end_of(&mut child, &rig), 137);
        // In a new run it is as before.
        assert_eq!(rig.ctl(&["exec", unit, "--", "true"]).code, 0);
    }
    rig.wait_for("descriptors to be closed", |rig| rig.descriptors() <= before);
}

#[test]
fn many_at_once_are_refused_in_words() {
    let rig = rig();
    let mut children: Vec<Child> = (0..64)
        .map(|_| {
            let mut command = rig.ctl_command(&["exec", "-i", "plain", "--", "cat"]);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    rig.wait_for("all of them", |rig| {
        processes(rig, "plain").iter().filter(|it| *it == "cat ").count() == 64
    });
    rig.wait_for("all helpers", |rig| rig.children("berth-helper").len() == 64);
    let said = rig.ctl(&["exec", "plain", "--", "touch", rig.path("made").to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("64 clients"), "{said:?}");
    assert_eq!(rig.ctl(&["logs", "plain"]).code, 1);
    assert_eq!(rig.state("plain"), "running");
    for child in &mut children {
        drop(child.stdin.take());
    }
    for child in &mut children {
        assert_eq!(end_of(child, &rig), 0);
    }
    assert!(!rig.path("made").exists(), "what was refused has run");
    assert_eq!(rig.ctl(&["exec", "plain", "--", "true"]).code, 0);
}

#[test]
fn what_a_command_leaves_behind_does_not_keep_the_client() {
    let mut rig = rig();
    for script in ["sleep 1000 & echo hi", "yes & echo hi"] {
        let said = rig.ctl(&["exec", "plain", "--", "sh", "-c", script]);
        assert_eq!(said.code, 0, "{script}: {:.200}", said.err);
        assert!(said.out.contains("hi"), "{script}");
        // How much of a flood comes through until then is the machine's business.
        assert!(said.out.len() < 1 << 30, "{script}: {} bytes", said.out.len());
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn nothing_is_executed_in_a_frozen_unit() {
    let mut rig = rig();
    rig.ctl_ok(&["freeze", "plain"]);
    let said = rig.ctl(&["exec", "plain", "--", "true"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("frozen") && said.err.contains("thaw"), "{said:?}");
    rig.ctl_ok(&["thaw", "plain"]);
    assert_eq!(rig.ctl(&["exec", "plain", "--", "true"]).code, 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_command_begins_where_it_is_told_to() {
    let mut rig = rig();
    for (unit, arguments, code, text) in [
        ("plain", &["-w", "/usr/share"][..], 0, "/usr/share"),
        ("boxed", &["--workdir", "/usr/../etc"], 0, "/etc"),
        ("own", &["-w", "/proc/1/cwd"], 1, "/proc/1/cwd"),
        ("boxed", &["-w", "/not/there"], 1, "No such file or directory (ENOENT)"),
        ("boxed", &["-w", "etc"], 1, "must be an absolute path"),
        ("boxed", &[], 0, "/"),
    ] {
        let line = [&["exec"], arguments, &[unit, "--", "pwd"]].concat();
        let said = rig.ctl(&line);
        assert_eq!(said.code, code, "{line:?}: {said:?}");
        let found = if code == 0 { said.out.trim() } else { &said.err };
        assert!(found == text || code != 0 && found.contains(text), "{line:?}: {said:?}");
    }
    assert_eq!(rig.finish(), 0);
}
