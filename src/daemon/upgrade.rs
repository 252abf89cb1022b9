//! Upgrade in place: berth executes another program file, and no service notices.
//!
//! All that berth knows is written to a file in memory, descriptors as their numbers
//! ([`crate::sys::kept`]); its successor has the same process number, so children, pending
//! signals, locks and even the set of watched descriptors stay what they are. What must
//! always hold: before the switch a child of the new program has shown that it understands
//! what is written ([`rehearse`]); until execve(2) has succeeded nothing has changed, and
//! after it the old program is still at hand, should the new one not be able to go on.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::ending::Phase;
use super::startup::Fatal;
use super::{Daemon, Owner, boot};
use crate::pid1::say;
use crate::protocol::Error;
use crate::protocol::method::UpgradeReply;
use crate::supervisor::{Exit, Time};
use crate::sys::identity::{self, Strings};
use crate::sys::{fd, fork, kept, memory, oom, pidfd};
use crate::unit::{limits, together};

/// Which form the state is written in. One that is not understood is refused before the
/// switch; this number says so in words, where otherwise a missing field would.
const FORMAT: u32 = 1;

/// How long a new program may take to show that it understands.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it may say when it does not.
const LONGEST_ANSWER: usize = 2048;

/// Most bytes of state: a hundred times what a thousand services take.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Where an upgrade is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// Who waits for it.
    client: u64,
    /// What will be executed.
    program: PathBuf,
    stage: Stage,
}

#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    /// The new program reads what is written.
    Rehearsing {
        #[serde(with = "crate::sys::kept")]
        pidfd: OwnedFd,
        #[serde(with = "crate::sys::kept")]
        answer: OwnedFd,
        /// What it says when it has understood.
        expected: String,
        until: Option<Time>,
    },
    /// At the end of this turn.
    Due,
    /// By whoever reads this.
    Done { from: String },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    daemon: &'a Daemon,
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[derive(Deserialize)]
struct Remembered {
    daemon: Daemon,
}

impl Daemon {
    /// `berthctl upgrade`: has the new program read what would be handed over.
    pub(super) fn begin_upgrade(
        &mut self,
        client: u64,
        program: Option<&str>,
    ) -> Result<(), Error> {
        let refused = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
        if self.upgrade.is_some() {
            let reason = "an upgrade is going on already".to_owned();
            return Err(Error::Busy { reason });
        }
        if self.phase != Phase::Up {
            return refused("berth is on its way down");
        }
        let program = match program {
            Some(path) if !path.starts_with('/') => {
                return refused("the path of the new program must be absolute");
            }
            Some(path) => PathBuf::from(path),
            None => self.program.clone(),
        };
        let started = self.start_rehearsal(&program);
        let stage = started.map_err(|error| Error::Failed {
            unit: None,
            reason: format!("the state cannot be handed over: {error}"),
        })?;
        self.upgrade = Some(Upgrade { client, program, stage });
        Ok(())
    }

    fn start_rehearsal(&mut self, program: &Path) -> io::Result<Stage> {
        let (state, _, bytes) = self.write_down()?;
        let (answer, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let keep = [state.as_fd(), theirs.as_fd()];
        let options = fork::Options {
            keep: &keep,
            die_with_parent: true,
            memory: Some(limits::READER_ADDRESS_SPACE.saturating_mul(4)),
            cpu_seconds: Some(limits::READER_CPU_SECONDS),
            ..fork::Options::default()
        };
        let process = fork::child(&options, || {
            let placed = fd::place(theirs.as_fd(), 1)
                .and_then(|()| fd::place(theirs.as_fd(), 2))
                .and_then(|()| fd::set_close_on_exec(state.as_fd(), false));
            let error = match placed {
                Ok(()) => execute(program, &["--rehearse", &state.as_raw_fd().to_string()]),
                Err(error) => error,
            };
            eprintln!("{}: {error}", program.display());
            1
        })?;
        self.pids.insert(process.pid, Owner::Rehearsal);
        fd::set_nonblocking(answer.as_fd(), true)?;
        let until = self.clock.now().0.checked_add(PATIENCE).map(Time);
        Ok(Stage::Rehearsing { pidfd: process.pidfd, answer, expected: understood(bytes), until })
    }

    /// All there is to know, in a file in memory; its descriptors, and its length.
    fn write_down(&self) -> io::Result<(File, std::collections::BTreeSet<RawFd>, u64)> {
        let file = rustix::fs::memfd_create("berth-state", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        let all = Written { format: FORMAT, daemon: self };
        let (text, numbers) = kept::written(|| together(|| serde_json::to_vec(&all)));
        let text = text?;
        file.write_all(&text)?;
        file.rewind()?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok((file, numbers, length))
    }

    /// When the new program has taken too long.
    pub(super) fn upgrade_deadline(&self) -> Option<Time> {
        match &self.upgrade.as_ref()?.stage {
            Stage::Rehearsing { until, .. } => *until,
            Stage::Due => Some(Time::default()),
            Stage::Done { .. } => None,
        }
    }

    /// It has: it is ended, which the reaper tells.
    pub(super) fn upgrade_is_late(&mut self) {
        if let Some(Upgrade { stage: Stage::Rehearsing { pidfd, until, .. }, .. }) =
            &mut self.upgrade
        {
            *until = None;
            // It may have ended by itself.
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// The child of the new program has ended.
    pub(super) fn rehearsal_ended(&mut self, exit: Exit) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let Stage::Rehearsing { answer, expected, .. } = &upgrade.stage else { return };
        let mut buffer = [0; LONGEST_ANSWER];
        // That it has said nothing is its verdict, too.
        let count = rustix::io::read(answer, &mut buffer).unwrap_or_default();
        let said = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
        let said = said.trim();
        if exit == Exit::Code(0) && said == expected {
            upgrade.stage = Stage::Due;
            return;
        }
        let program = upgrade.program.display();
        let why = match exit {
            Exit::Code(0) => format!("{program} is not a berth that can take over"),
            Exit::Code(_) if !said.is_empty() => said.to_owned(),
            Exit::Code(code) => format!("{program} cannot take over: exit code {code}"),
            Exit::Signal(_) | Exit::Unknown => {
                format!("{program} was killed while it read the state")
            }
        };
        self.upgrade_failed(&why);
    }

    fn upgrade_failed(&mut self, why: &str) {
        let Some(Upgrade { client, .. }) = self.upgrade.take() else { return };
        self.journal.say(&format!("no upgrade: {why}"));
        let reason = why.to_owned();
        self.upgrade_done(client, Err(Error::Failed { unit: None, reason }));
    }

    /// At the end of a turn: becomes the new program, if that is due.
    pub(super) fn exchange_if_due(&mut self) {
        let Some(upgrade) = self.upgrade.as_mut() else { return };
        if !matches!(upgrade.stage, Stage::Due) || !self.inputs.is_empty() {
            return;
        }
        if self.phase != Phase::Up {
            return self.upgrade_failed("berth is on its way down");
        }
        upgrade.stage = Stage::Done { from: env!("CARGO_PKG_VERSION").to_owned() };
        let program = upgrade.program.clone();
        let error = self.exchange(&program);
        self.upgrade_failed(&format!("{}: {error}", program.display()));
    }

    /// Comes back only with an error, and with everything as it was.
    fn exchange(&mut self, program: &Path) -> io::Error {
        let attempt = || -> io::Result<_> {
            let (state, mut numbers, _) = self.write_down()?;
            let old = File::open("/proc/self/exe")?;
            numbers.extend([state.as_raw_fd(), old.as_raw_fd()]);
            Ok((state, old, numbers))
        };
        let (state, old, numbers) = match attempt() {
            Ok(all) => all,
            Err(error) => return error,
        };
        let arguments = ["--resume", &state.as_raw_fd().to_string(), &old.as_raw_fd().to_string()];
        let error = match kept::pass(&numbers, true) {
            Ok(()) => execute(program, &arguments),
            Err(error) => error,
        };
        // All of them are open, so this cannot fail.
        let _ = kept::pass(&numbers, false);
        error
    }

    /// The first thing a successor does.
    fn begin_again(&mut self, old: &File) {
        if let Some(before) = self.options.oom_score {
            oom::is_protected_already(before);
        }
        self.share_again();
        self.keep_record();
        memory::trim();
        let same = match (old.metadata(), std::fs::metadata("/proc/self/exe")) {
            (Ok(old), Ok(new)) => (old.dev(), old.ino()) == (new.dev(), new.ino()),
            _ => false,
        };
        if !same {
            // The one that runs is of the old program and may speak another language.
            self.logger.replace(&self.poller);
            self.replace_keeper();
        }
        let Some(upgrade) = self.upgrade.take() else { return };
        let Stage::Done { from } = upgrade.stage else { return };
        self.program = upgrade.program;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.journal.say(&format!("upgraded from {from} to {version}"));
        self.upgrade_done(upgrade.client, Ok(&UpgradeReply { from, version }));
    }

    /// What was shared was written several times.
    fn share_again(&mut self) {
        for live in self.lives.values_mut() {
            live.group.share(&self.claim.root);
        }
        let ids: Vec<_> = self.lives.keys().copied().collect();
        for id in ids {
            if let (Some(live), Some(unit)) = (self.lives.get_mut(&id), self.machine.unit(id))
                && live.unit == *unit
            {
                live.unit = unit.clone();
            }
        }
        self.machine.share(&self.units);
    }
}

/// What the rehearsal of so many bytes says.
fn understood(bytes: u64) -> String {
    format!("berth understands {bytes} bytes of state")
}

fn again(program: &Path, arguments: &[&str]) -> io::Result<(Strings, Strings)> {
    identity::again(program, arguments.iter().map(OsString::from))
}

/// Executes a program file with these arguments; comes back only with an error.
fn execute(program: &Path, arguments: &[&str]) -> io::Error {
    match (again(program, arguments), CString::new(program.as_os_str().as_bytes())) {
        (Ok((argv, envp)), Ok(path)) => identity::execute(&path, &argv, &envp),
        (Err(error), _) => error,
        (_, Err(error)) => error.into(),
    }
}

fn read_all(state: &mut File) -> Result<Vec<u8>, Fatal> {
    let mut text = Vec::new();
    state
        .rewind()
        .and_then(|()| Read::by_ref(state).take(LARGEST).read_to_end(&mut text))
        .map_err(|error| Fatal::new("read the state", &error))?;
    let header: Header = serde_json::from_slice(&text)
        .map_err(|error| Fatal(format!("this is not the state of a berth: {error}")))?;
    if header.format != FORMAT {
        return Err(Fatal(format!(
            "the state has format {}; berth {} understands {FORMAT}",
            header.format,
            env!("CARGO_PKG_VERSION")
        )));
    }
    Ok(text)
}

/// Reads the state without touching any descriptor of it.
fn try_out(text: &[u8]) -> Result<(), Fatal> {
    let stand_in = File::open("/dev/null").map_err(|error| Fatal::new("open /dev/null", &error))?;
    let read = || together(|| serde_json::from_slice::<Remembered>(text));
    kept::rehearsed(stand_in.into(), read).map(drop).map_err(|error| {
        let version = env!("CARGO_PKG_VERSION");
        Fatal(format!("berth {version} does not understand the state: {error}"))
    })
}

/// A descriptor that was handed over by its number.
fn inherited(number: &str) -> Result<File, Fatal> {
    let wrong = || Fatal("this is only for berth itself".to_owned());
    let number: RawFd = number.parse().map_err(|_| wrong())?;
    kept::inherited(number).map(File::from).map_err(|_| wrong())
}

/// `--rehearse FD`: says whether this program could go on with that state, and changes
/// nothing.
pub fn rehearse(state: &str) -> ExitCode {
    let checked = inherited(state).and_then(|mut state| {
        let text = read_all(&mut state)?;
        try_out(&text)?;
        Ok(text.len())
    });
    let said = match &checked {
        Ok(bytes) => {
            let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
            writeln!(io::stdout(), "{}", understood(bytes))
        }
        Err(Fatal(text)) => writeln!(io::stderr(), "{text}"),
    };
    if checked.is_ok() && said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `--resume STATE OLD`: goes on where the program OLD was.
pub fn resume(state: &str, old: &str) -> ExitCode {
    boot::keep_program();
    let (mut state, old) = match (inherited(state), inherited(old)) {
        (Ok(state), Ok(old)) => (state, old),
        (Err(Fatal(text)), _) | (_, Err(Fatal(text))) => {
            say(&text);
            return ExitCode::from(2);
        }
    };
    let text = read_all(&mut state).and_then(|text| try_out(&text).map(|()| text));
    let text = match text {
        Ok(text) => text,
        Err(Fatal(why)) => return go_back(&state, &old, &why),
    };
    drop(state);
    match kept::taken(|| together(|| serde_json::from_slice::<Remembered>(&text))) {
        Ok(Remembered { mut daemon }) => {
            drop(text);
            daemon.begin_again(&old);
            drop(old);
            boot::finish(daemon)
        }
        Err(error) => {
            // It was understood a moment ago, so a descriptor is not what it was: there is
            // nothing left that could be gone back to.
            say(&format!("the state cannot be taken over: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Nothing was touched yet: the old program takes it back.
fn go_back(state: &File, old: &File, why: &str) -> ExitCode {
    say(&format!("{why}; the old program goes on"));
    let [state_number, old_number] = [state, old].map(|it| it.as_raw_fd().to_string());
    let arguments = ["--resume", &state_number, &old_number];
    let passed = fd::set_close_on_exec(state.as_fd(), false)
        .and_then(|()| fd::set_close_on_exec(old.as_fd(), false))
        .and_then(|()| again(Path::new("berth"), &arguments));
    let error = match passed {
        Ok((argv, envp)) => identity::execute_fd(old.as_fd(), &argv, &envp),
        Err(error) => error,
    };
    say(&format!("the old program cannot be executed: {error}"));
    ExitCode::FAILURE
}
