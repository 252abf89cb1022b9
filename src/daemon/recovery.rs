//! A berth that has failed begins again: after a panic, a failed allocation or a fault of
//! memory it executes itself ([`crate::sys::fault`]) and takes over what runs, by the ledger,
//! as after a kill (`adopt`).
//!
//! The state in memory is not handed over, as an upgrade would: somebody was at work on it
//! and has just shown that something in it is wrong. The ledger and what the kernel says
//! are not. What must always hold: the process goes on, for process 1 is the machine or the
//! container; one that fails again and again rests, and reaps, before it tries again; a
//! berth on its way down does not come up again.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::startup::{self, Fatal};
use super::{Daemon, Options, boot, ending::Phase, first};
use crate::pid1::{End, say};
use crate::sys::{environment, fault, kept, limits, oom, reap, signal};
use crate::unit::model::UnitSet;
use crate::unit::{self, Loaded};

/// What the arguments of the successor begin with.
pub const OPTION: &str = "--recover";

/// Failures in [`WINDOW`] after which it rests.
const MOST: usize = 5;

/// What counts as again and again, and how long it rests then.
const WINDOW: Duration = Duration::from_secs(60);

/// Most of a record that is read: what was panicked about may be long, too.
const LARGEST: u64 = 32 * 1024 * 1024;

/// The descriptor of the record, once there is one.
static RECORD: AtomicI32 = AtomicI32::new(NONE);

const NONE: i32 = -1;

/// How this supervisor came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Beginning {
    /// Somebody has started it.
    #[default]
    Started,
    /// It has failed: what runs is its own.
    Again,
    /// It has failed on its way down: nothing is to go on.
    Down,
}

/// What the successor has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Facts {
    options: Options,
    /// It goes on, so that starts of before are still at their times.
    clock: Clock,
    /// It is on its way there.
    end: Option<End>,
    /// The soft limit of descriptors that children get.
    soft_files: Option<u64>,
    /// When it has failed, on `CLOCK_BOOTTIME`, within [`WINDOW`].
    failures: Vec<Duration>,
    /// Bytes of the units, which follow.
    length: usize,
}

/// The facts, in a file in memory that is kept up to date.
#[derive(Debug)]
pub struct Record {
    file: File,
    facts: Facts,
    /// What is in force: a unit whose file has been broken since stays as it was.
    pub units: Arc<UnitSet>,
}

/// What asks the language's runtime for a backtrace. That wants much memory and a lock, where
/// there may be none left, and says nothing of a program without symbols.
const BACKTRACES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

impl Record {
    /// From now on a failure of this process is answered with another beginning.
    ///
    /// # Errors
    /// No memory or no descriptor is left.
    fn begin(facts: Facts, units: Arc<UnitSet>) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("berth-record", MemfdFlags::CLOEXEC)?;
        let mut record = Self { file: file.into(), facts, units };
        record.write()?;
        environment::remove(&BACKTRACES);
        fault::arm("berth", OPTION, record.file.as_fd())?;
        report_panics(record.file.as_raw_fd());
        Ok(record)
    }

    fn write(&mut self) -> io::Result<()> {
        let set = UnitSet::clone(&self.units);
        let units = unit::encode(&Loaded { set, ..Loaded::default() });
        self.facts.length = units.len();
        let mut text = serde_json::to_vec(&self.facts)?;
        text.push(b'\n');
        text.extend(units);
        self.file.rewind()?;
        // In one call: a failure finds the facts from before or from after it.
        self.file.write_all(&text)?;
        self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// The facts, the units, and what was panicked about.
    fn read(file: &mut File) -> io::Result<(Facts, UnitSet, String)> {
        let mut text = Vec::new();
        file.rewind()?;
        Read::by_ref(file).take(LARGEST).read_to_end(&mut text)?;
        let end = text.iter().position(|byte| *byte == b'\n');
        let (line, rest) = text.split_at_checked(end.unwrap_or(0)).unwrap_or_default();
        let facts: Facts = serde_json::from_slice(line)?;
        let rest = rest.get(1..).and_then(|rest| rest.split_at_checked(facts.length));
        let (units, rest) = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        let units = unit::decode(units).map_err(io::Error::other)?.set;
        Ok((facts, units, String::from_utf8_lossy(rest).trim().to_owned()))
    }
}

/// A panic says what it is about where the successor finds it; and it ends in SIGABRT also
/// in a program that was built to unwind.
fn report_panics(record: i32) {
    if RECORD.swap(record, Ordering::Relaxed) != NONE {
        return;
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        // A child has no record, but perhaps another file of that number.
        if fault::is_armed() {
            // There is nobody left to tell that this did not work.
            let _ = kept::append(RECORD.load(Ordering::Relaxed), panic.to_string().as_bytes());
            std::process::abort();
        }
    }));
}

/// Time since the machine was booted, of whatever program.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

impl Daemon {
    /// Failures end nothing from now on.
    pub(super) fn keep_record(&mut self) {
        let failures = self.record.take().map(|it| it.facts.failures).unwrap_or_default();
        let options = self.options.clone();
        let soft_files = self.host.soft_files();
        let facts =
            Facts { options, clock: self.clock, end: None, soft_files, failures, length: 0 };
        match Record::begin(facts, self.units.clone()) {
            Ok(record) => self.record = Some(record),
            Err(error) => {
                self.journal.say(&format!("a failure of berth would end it: {error}"));
            }
        }
    }

    /// At the end of a turn: what a successor would have to know is other than it was.
    pub(super) fn renew_record(&mut self) {
        let end = match self.phase {
            Phase::Booting | Phase::Up => None,
            _ => Some(self.end),
        };
        let Some(record) = &mut self.record else { return };
        let known = &record.facts;
        let is_same = Arc::ptr_eq(&record.units, &self.units)
            && known.options.sources == self.options.sources
            && known.options.target == self.options.target;
        // On its way down nothing comes up again.
        if known.end == end && (is_same || end.is_some()) {
            return;
        }
        record.facts.end = end;
        record.facts.options = self.options.clone();
        record.units = if end.is_none() { self.units.clone() } else { Arc::default() };
        if let Err(error) = record.write() {
            self.record = None;
            self.journal.say(&format!("what a next berth has to know is not kept: {error}"));
        }
    }
}

/// `--recover RECORD SIGNAL`: goes on after a failure.
pub fn recover(record: &str, signal: &str) -> ExitCode {
    // The name of the file that was executed is another.
    let _ = rustix::thread::set_name(c"berth");
    boot::keep_program();
    let read = record.parse().map_err(|_| io::ErrorKind::InvalidInput.into());
    let read = read.and_then(kept::inherited).and_then(|fd| Record::read(&mut fd.into()));
    let (mut facts, units, panic) = match read {
        Ok(read) => read,
        Err(error) => {
            say(&format!("cannot go on after {signal}: {error}"));
            return if std::process::id() == 1 {
                boot::run(Options::default())
            } else {
                ExitCode::FAILURE
            };
        }
    };
    let failed = now();
    facts.failures.retain(|then| failed.saturating_sub(*then) < WINDOW);
    facts.failures.push(failed);
    let about = if panic.is_empty() { String::new() } else { format!(": {panic}") };
    let trouble = format!("berth has failed ({signal}{about}) and begins again");
    if facts.end.is_some() {
        // It may be over before the console shows anything.
        say(&format!("{trouble}, to end"));
    }
    if let Some(before) = facts.options.oom_score {
        oom::is_protected_already(before);
    }
    let armed = Record::begin(facts.clone(), Arc::new(units));
    if facts.failures.len() > MOST
        && let Some(end) = rest(&trouble)
    {
        facts.end = Some(end);
    }
    begin(facts, armed, trouble)
}

fn begin(facts: Facts, armed: io::Result<Record>, trouble: String) -> ExitCode {
    let Facts { mut options, clock, end, soft_files, .. } = facts;
    let place = options.place;
    options.beginning = if end.is_some() { Beginning::Down } else { Beginning::Again };
    // As whoever started berth had it: it is asked for again and given to children. Where that
    // fails they have what this program has.
    let _ = limits::set_soft_files(soft_files);
    // One that could not be made is tried again there, which tells why not.
    match boot::start(options, clock, vec![trouble], armed.ok()) {
        Ok(mut daemon) => {
            if let Some(end) = end {
                daemon.begin_end("it was on its way down", end);
            }
            boot::finish(daemon)
        }
        Err(Fatal(text)) => {
            let Some(end) = end else { fail_again(&text) };
            first::cannot_begin(place, &text);
            first::finish(place, end);
            ExitCode::FAILURE
        }
    }
}

/// It cannot take over what runs: that is a failure like the first, and not the end.
pub fn fail_again(why: &str) -> ! {
    say(&format!("cannot take over: {why}"));
    // It is said above.
    let _ = kept::append(RECORD.load(Ordering::Relaxed), why.as_bytes());
    std::process::abort()
}

/// It has failed too often: for a while it does nothing but reap, and everything else runs
/// without it. How it is to end, if somebody asks for that meanwhile.
fn rest(trouble: &str) -> Option<End> {
    let text = "too often: it rests for a minute; services go on without it";
    say(&format!("{trouble}, {text}"));
    let begun = Instant::now();
    if signal::ignore_all().is_err() {
        return None;
    }
    let rt = |offset: i32| libc::SIGRTMIN().saturating_add(offset);
    let machine = startup::is_last();
    loop {
        while let Ok(Some(dead)) = reap::peek() {
            if !matches!(reap::reap(dead.pid), Ok(Some(_))) {
                break;
            }
        }
        let left = WINDOW.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return None;
        }
        match signal::wait(left) {
            Ok(Some(libc::SIGTERM | libc::SIGPWR)) => {
                return Some(if machine { End::Poweroff } else { End::Exit });
            }
            Ok(Some(libc::SIGINT)) => {
                return Some(if machine { End::Reboot } else { End::Exit });
            }
            Ok(Some(number)) if number == rt(3) => return Some(End::Halt),
            Ok(Some(number)) if number == rt(4) => return Some(End::Poweroff),
            Ok(Some(number)) if number == rt(5) => return Some(End::Reboot),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_with_what_was_panicked_about() {
        let facts = Facts {
            options: Options::default(),
            clock: Clock::start(),
            end: Some(End::Reboot),
            soft_files: Some(1024),
            failures: vec![Duration::from_secs(3)],
            length: 0,
        };
        let units = UnitSet { volumes: vec!["data".to_owned()], ..UnitSet::default() };
        let file = tempfile::tempfile().unwrap();
        let mut record = Record { file, facts, units: Arc::new(units.clone()) };
        record.write().unwrap();
        let length = record.file.metadata().unwrap().len();
        record.facts.failures.clear();
        record.write().unwrap();
        assert!(record.file.metadata().unwrap().len() < length);
        let (facts, read, panic) = Record::read(&mut record.file).unwrap();
        assert_eq!(read, units);
        assert_eq!(
            (facts.end, facts.soft_files, panic.as_str()),
            (Some(End::Reboot), Some(1024), "")
        );
        kept::append(record.file.as_raw_fd(), b"index out of bounds\n").unwrap();
        let (facts, read, panic) = Record::read(&mut record.file).unwrap();
        assert_eq!(read, units);
        assert!(facts.failures.is_empty());
        assert_eq!(panic, "index out of bounds");
        record.file.set_len(20).unwrap();
        assert!(Record::read(&mut record.file).is_err());
    }
}
