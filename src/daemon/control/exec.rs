//! `berthctl exec`: a process beside the service, and a helper that carries its bytes.
//!
//! The process is berth's own child like any other of the unit, so its exit status is
//! never lost. Once its program runs, a forked helper gets the connection and the pipes
//! (or the terminal) and relays; berth tells it through a pipe how the process ended.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::relay::{self, Ends};
use super::{Access, Control};
use crate::container::{self, Channel, Program, SocketKind, Status, Stdio, Where};
use crate::daemon::poller::{Source, Watched};
use crate::daemon::{Daemon, Owner};
use crate::protocol::Error;
use crate::protocol::method::Exec;
use crate::protocol::types::State;
use crate::supervisor::{Exit, UnitId};
use crate::sys::fork;
use crate::sys::pty::Size;
use crate::unit::model::{Unit, User};
use crate::unit::settings::value;

/// One `exec` from its call to its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Session {
    /// In which unit.
    unit: UnitId,
    pid: i32,
    stage: Stage,
}

impl Session {
    /// Whether its program does not run yet.
    pub fn is_setting_up(&self) -> bool {
        matches!(self.stage, Stage::SettingUp(_))
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    /// The process is being set up.
    SettingUp(Box<Setup>),
    /// The helper relays; it hears of the end through this pipe.
    Relaying(#[serde(with = "crate::sys::kept")] OwnedFd),
}

#[derive(Debug, Serialize, Deserialize)]
struct Setup {
    status: Watched<Channel>,
    /// Explains errors.
    definition: Arc<Unit>,
    #[serde(with = "crate::sys::kept")]
    stream: UnixStream,
    rest: Vec<u8>,
    #[serde(with = "crate::sys::kept")]
    pidfd: OwnedFd,
    ends: Ends,
}

impl Control {
    /// What is being set up for a session.
    fn setting_up(&mut self, number: u64) -> Option<&mut Setup> {
        match &mut self.sessions.get_mut(&number)?.stage {
            Stage::SettingUp(setup) => Some(setup),
            Stage::Relaying(_) => None,
        }
    }
}

impl Daemon {
    /// Begins an `exec`.
    pub(super) fn exec_helper(&mut self, number: u64, call: &Exec) -> Result<(), Error> {
        self.control.helper_is_free()?;
        self.afford().map_err(|reason| Error::Failed { unit: None, reason })?;
        let id = self.find(&call.unit)?;
        let state = self.state_of(id);
        let not_running = || Error::NotRunning { unit: call.unit.clone(), state };
        let failed = |what: &str, error: &dyn std::fmt::Display| Error::Failed {
            unit: Some(call.unit.clone()),
            reason: format!("cannot execute in {}: {what}: {error}", call.unit),
        };
        let live = self.lives.get(&id).filter(|live| live.cleaning.is_none());
        let live = live.ok_or_else(not_running)?;
        let plan = self.plan(id).ok_or_else(not_running)?;
        let definition = Arc::clone(&live.unit);
        if live.main.is_none() {
            return Err(not_running());
        }
        if state == State::Frozen {
            let reason = format!("{0} is frozen; `berthctl thaw {0}` first", call.unit);
            return Err(Error::Refused { reason });
        }
        let user = match call.user.as_deref().map(user).transpose() {
            Ok(user) => user,
            Err(problem) => return Err(Error::Refused { reason: format!("--user: {problem}") }),
        };
        if call.directory.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0'))
        {
            let reason = "--workdir: it must be an absolute path".to_owned();
            return Err(Error::Refused { reason });
        }
        let terminal = call
            .tty
            .then(|| Size { rows: call.rows.unwrap_or(24), columns: call.columns.unwrap_or(80) });
        let environment = call.term.iter().map(|term| ("TERM".to_owned(), term.clone())).collect();
        let exec = container::Exec {
            argv: call.command.clone(),
            environment,
            user,
            working_directory: call.directory.clone(),
            terminal,
        };
        let (ends, theirs) = pipes(call).map_err(|error| failed("make pipes", &error))?;
        let standard = theirs.stdio();
        let program = Program::Exec(&exec);
        let inside = live.inside().map_err(|text| failed("join it", &text))?;
        let place = Where { group: &live.group, inside, users: self.ranges.users(id, live) };
        let child = container::process(&self.host, &plan, place, program, &standard)
            .map_err(|error| failed("start it", &error))?;
        let session = self.control.new_session();
        self.pids.insert(child.pid, Owner::Exec(session));
        let channel = self
            .poller
            .input(child.status, Source::Exec(session))
            .map_err(|error| failed("watch it", &error))?;
        let (stream, rest) = self.take_client(number)?;
        let setup = Setup { status: channel, definition, stream, rest, pidfd: child.pidfd, ends };
        let begun = Session { unit: id, pid: child.pid, stage: Stage::SettingUp(Box::new(setup)) };
        self.control.sessions.insert(session, begun);
        Ok(())
    }

    /// The process says how far it is.
    pub(in crate::daemon) fn exec_ready(&mut self, number: u64) {
        loop {
            let Some(setup) = self.control.setting_up(number) else { return };
            let definition = Arc::clone(&setup.definition);
            let Some(plan) = self.compile(&definition, &[]) else { return };
            let Some(setup) = self.control.setting_up(number) else { return };
            match setup.status.get_mut().read(&plan) {
                Status::Pending => return,
                Status::Socket(SocketKind::Terminal, fd) => setup.ends = Ends::Terminal(fd),
                // Only who makes a unit's namespaces can send that.
                Status::Socket(SocketKind::Notify | SocketKind::Syslog, _)
                | Status::HasNetwork
                | Status::WithoutUsers(_)
                | Status::Lacks(_) => {}
                Status::Executed => return self.relay(number),
                Status::Failed(text) => return self.refuse_exec(number, &text),
            }
        }
    }

    /// Tells the client why its command does not run. The process is reaped as it ends.
    fn refuse_exec(&mut self, number: u64, text: &str) {
        let Some(session) = self.control.sessions.remove(&number) else { return };
        let name = self.machine.unit(session.unit).map_or("?", |unit| unit.name.as_str());
        let reason = format!("cannot execute in {name}: {text}");
        if let Stage::SettingUp(setup) = session.stage {
            let error = Error::Failed { unit: Some(name.to_owned()), reason };
            relay::say(&setup.stream, &crate::protocol::message::encode_error(error));
            self.poller.close(setup.status);
        }
    }

    /// Hands connection and pipes to a helper.
    fn relay(&mut self, number: u64) {
        let Some(session) = self.control.sessions.remove(&number) else { return };
        let Session { unit, pid, stage: Stage::SettingUp(setup) } = session else { return };
        let Setup { status, stream, rest, pidfd, ends, .. } = *setup;
        self.poller.close(status);
        let started = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from).and_then(
            |(end, teller)| {
                let mut keep = vec![stream.as_fd(), pidfd.as_fd(), end.as_fd()];
                keep.extend(ends.descriptors());
                let options = fork::Options {
                    keep: &keep,
                    die_with_parent: true,
                    ..fork::Options::default()
                };
                let process = fork::child(&options, || {
                    if super::helper::prepare().is_err() {
                        return 1;
                    }
                    relay::run(&stream, &rest, &pidfd, &ends, &end)
                })?;
                Ok((process.pid, teller))
            },
        );
        match started {
            Ok((helper, teller)) => {
                self.helper_started(helper, Access::Full);
                let stage = Stage::Relaying(teller);
                self.control.sessions.insert(number, Session { unit, pid, stage });
            }
            Err(error) => {
                // The command runs already, but nobody could talk to it.
                let _ = crate::sys::pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
                self.journal.say(&format!("cannot relay for exec: {error}"));
            }
        }
    }

    /// The process has been reaped.
    pub(in crate::daemon) fn exec_ended(&mut self, number: u64, exit: Exit) {
        // What it said last decides whether it ran at all.
        self.exec_ready(number);
        let Some(session) = self.control.sessions.remove(&number) else { return };
        if let Stage::Relaying(teller) = session.stage {
            // A helper whose client has gone is not there to be told.
            let _ = rustix::io::write(&teller, &relay::encode_exit(exit));
        }
    }
}

/// `NAME` or `UID`, and perhaps `:GROUP`.
fn user(text: &str) -> Result<User, &'static str> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Ok(User { user: value::id(user)?, group: group.map(value::id).transpose()? })
}

/// The far ends of the pipes, closed in berth once the process has them.
struct Theirs {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Theirs {
    fn stdio(&self) -> Stdio<'_> {
        Stdio {
            stdin: self.stdin.as_ref().map(AsFd::as_fd),
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
            named: &[],
        }
    }
}

fn pipes(call: &Exec) -> std::io::Result<(Ends, Theirs)> {
    if call.tty {
        let theirs = Theirs { stdin: None, stdout: None, stderr: None };
        return Ok((Ends::Pending, theirs));
    }
    let (stdout, out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, err) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut stdin = None;
    let mut input = None;
    if call.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        stdin = Some(write);
        input = Some(read);
    }
    Ok((
        Ends::Pipes { stdin, stdout, stderr },
        Theirs { stdin: input, stdout: Some(out), stderr: Some(err) },
    ))
}
