//! With a real terminal: colours, harmless text, raw mode and window sizes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use berth::protocol::exec::{FromCommand, ToCommand};
use berth::protocol::types::Exit;

use crate::exec::{frames, write};
use crate::fake::{Fake, command, reply, send, status};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal: the user's end and the program's end.
pub struct Terminal {
    user: OwnedFd,
    program: OwnedFd,
}

impl Terminal {
    pub fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        let terminal = Self { user: pty.master, program: pty.slave };
        terminal.resize(24, 80);
        terminal
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.user, size).unwrap();
    }

    pub fn run(&self, dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Child {
        let end = || Stdio::from(self.program.as_fd().try_clone_to_owned().unwrap());
        let mut command = command(dir, args);
        command.envs(env.iter().copied()).stdin(end()).stdout(end()).stderr(end());
        command.spawn().unwrap()
    }

    /// Echo, line editing and signals: on in a sane terminal, off in a raw one.
    pub fn is_sane(&self) -> bool {
        let modes = tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// What the program wrote; call when it has ended.
    pub fn output(self) -> String {
        drop(self.program);
        let mut bytes = Vec::new();
        // At its end, a terminal whose other end is closed says EIO.
        let _ = File::from(self.user).read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
    }

    pub fn user(&self) -> File {
        File::from(self.user.try_clone().unwrap())
    }
}

pub fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// The exit code, within a deadline.
pub fn end_of(child: &mut Child) -> i32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
}

#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let unit = status(json!({"since": null, "why": "bad \u{1b}[2J\nthing", "memory": null}));
    let version = json!({"version": "1", "pid": 1, "since": ""});
    let fake = Fake::canned(vec![
        ("Status", vec![reply(json!({"units": [unit]}))]),
        ("Version", vec![reply(version)]),
    ]);
    let shown = |env: &[(&str, &str)]| {
        let terminal = Terminal::new();
        let mut child = terminal.run(fake.dir(), &["status"], env);
        assert_eq!(end_of(&mut child), 0);
        terminal.output()
    };
    let coloured = shown(&[]);
    assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"), "{coloured:?}");
    assert!(coloured.contains("bad \\u{1b}[2J\\nthing\n"), "{coloured:?}");
    let plain = shown(&[("NO_COLOR", "1")]);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(!fake.run(&["status"]).out.contains('\u{1b}'));
}

#[test]
fn what_a_service_wrote_cannot_drive_the_terminal() {
    let entry = |unit: &str| {
        json!({"time": "2026-01-31T14:30:01Z", "unit": unit, "run": 1, "stream": "stdout",
               "partial": false, "text": "a\u{1b}]0;title\u{7}\tb\u{202e}"})
    };
    let fake =
        Fake::canned(vec![("Logs", vec![reply(json!({"entries": [entry("web"), entry("db")]}))])]);
    let terminal = Terminal::new();
    assert_eq!(end_of(&mut terminal.run(fake.dir(), &["logs"], &[("NO_COLOR", "1")])), 0);
    let text = "a\\u{1b}]0;title\\u{7}\tb\\u{202e}";
    assert_eq!(
        terminal.output(),
        format!("2026-01-31 14:30:01.000 web | {text}\n2026-01-31 14:30:01.000 db  | {text}\n")
    );
}

/// What the client's frames say, as they come; `end` ends the command.
fn exec_fake() -> (Fake, mpsc::Receiver<ToCommand>) {
    let (tell, told) = mpsc::channel();
    let fake = Fake::new(move |_, stream| {
        send(stream, &reply(json!({})));
        write(stream, &FromCommand::Stdout(b"$ ".to_vec()));
        for frame in frames(stream) {
            let end = frame == ToCommand::Stdin(b"q".to_vec());
            tell.send(frame).unwrap();
            if end {
                write(stream, &FromCommand::Exit(Exit::Code(7)));
                break;
            }
        }
        false
    });
    (fake, told)
}

/// Waits until the prompt is there: the terminal is raw by then.
fn wait_for_prompt(user: &mut File) {
    let mut prompt = [0; 2];
    user.read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"$ ");
}

#[test]
fn exec_makes_the_terminal_raw_and_restores_it() {
    let (fake, told) = exec_fake();
    let terminal = Terminal::new();
    terminal.resize(50, 132);
    assert!(terminal.is_sane());
    let args = ["exec", "-it", "web", "--", "sh"];
    let mut child = terminal.run(fake.dir(), &args, &[("TERM", "vt220")]);
    let mut user = terminal.user();
    wait_for_prompt(&mut user);
    assert!(!terminal.is_sane(), "it is raw");
    let call = fake.calls().remove(0).1;
    assert_eq!(
        (&call["tty"], &call["rows"], &call["columns"], &call["term"]),
        (&json!(true), &json!(50), &json!(132), &json!("vt220"))
    );

    terminal.resize(60, 100);
    signal(&child, Signal::SIGWINCH);
    let resized = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(resized, ToCommand::Resize { rows: 60, columns: 100 });

    // Ctrl-C is a byte like any other.
    user.write_all(b"\x03").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ToCommand::Stdin(b"\x03".to_vec()));
    user.write_all(b"q").unwrap();
    assert_eq!(end_of(&mut child), 7);
    assert!(terminal.is_sane(), "it is as before");
}

#[test]
fn the_terminal_is_restored_when_a_signal_or_the_supervisor_ends_it() {
    for (deadly, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let (fake, _told) = exec_fake();
        let terminal = Terminal::new();
        let mut child = terminal.run(fake.dir(), &["exec", "-i", "-t", "web", "sh"], &[]);
        wait_for_prompt(&mut terminal.user());
        assert!(!terminal.is_sane());
        signal(&child, deadly);
        assert_eq!(end_of(&mut child), code);
        assert!(terminal.is_sane(), "{deadly}");
    }
    let fake = Fake::new(|_, stream| {
        send(stream, &reply(json!({})));
        write(stream, &FromCommand::Stdout(b"$ ".to_vec()));
        let mut byte = [0];
        let _ = stream.read(&mut byte);
        false
    });
    let terminal = Terminal::new();
    let mut child = terminal.run(fake.dir(), &["exec", "-it", "web", "sh"], &[]);
    let mut user = terminal.user();
    wait_for_prompt(&mut user);
    user.write_all(b"x").unwrap();
    assert_eq!(end_of(&mut child), 1);
    assert!(terminal.is_sane());
    assert!(
        terminal.output().ends_with("the connection was closed before the answer was complete\n")
    );
}
