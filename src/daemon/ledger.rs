//! What the next supervisor has to know if this one is killed: `RUNTIME/ledger`.
//!
//! One line of JSON for each unit that is up, appended when it comes up; the newest line of
//! a name counts. What must always hold: a line is only ever believed together with what the
//! kernel says now (`adopt`), so one that is old, or cut off by the kill, costs a restart
//! and nothing else; writing one is a single write(2) to a file that nobody syncs. One that
//! cannot be written makes the file stale: then all of it is written anew, as things are by
//! then, when that is possible ([`super::writer`]). Process 1 keeps one too, for itself, should
//! it fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::live::Numbers;
use super::network::Attachment;
use super::writer::Writer;
use crate::log::record::Stream;
use crate::supervisor::Timeline;
use crate::sys::state;
use crate::unit::model::{IdMaps, Unit};

/// Most of a ledger that is read; a thousand units take a quarter of a megabyte.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A ledger is written anew when it is longer than this, and than twice what was left of it
/// the last time.
const SMALL: u64 = 1024 * 1024;

/// Somebody who was there at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its number.
    pub pid: i32,
    /// When it was there, on `CLOCK_BOOTTIME`: a process of this number that began later is
    /// another one.
    pub at: Duration,
}

impl Seen {
    /// Is there now.
    pub fn now(pid: i32) -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self { pid, at: Duration::new(seconds, nanoseconds) }
    }
}

/// A unit that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub unit: String,
    /// Which run of it.
    pub run: u64,
    /// What it was made from: see [`fingerprint`].
    pub definition: u64,
    /// Its main process.
    pub main: Seen,
    /// Process 1 of its pid namespace.
    pub init: Option<Seen>,
    /// How often it was restarted.
    pub restarts: u32,
    /// Its streams and their inodes, by which they are found among the logger's descriptors.
    pub streams: Vec<(Stream, u64)>,
    /// The same of its notify socket.
    pub notify: Option<u64>,
    /// Limits that this host cannot enforce.
    pub unenforced: Vec<String>,
    /// Whose numbers its users are.
    pub numbers: Numbers,
    /// Which they are, if its own.
    pub maps: Option<IdMaps>,
    /// What it has of networks.
    pub network: Option<Box<Attachment>>,
    /// Its starts, on the kernel's monotonic clock.
    #[serde(default)]
    pub timeline: Timeline,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// It is up.
    Up(Box<Entry>),
    /// A oneshot that has succeeded, made from this.
    Done {
        /// Its name.
        unit: String,
        /// See [`fingerprint`].
        definition: u64,
        /// Its starts, on the kernel's monotonic clock.
        #[serde(default)]
        timeline: Timeline,
    },
    /// It is not done any more.
    Undone(String),
    /// It has come down in order.
    Down(String),
    /// It is wanted again.
    Wanted(String),
    /// The logger.
    Logger(Seen),
}

/// What a killed supervisor has left word of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Units that were up, by name.
    pub up: BTreeMap<String, Entry>,
    /// Oneshots that were done, by name.
    pub done: BTreeMap<String, (u64, Timeline)>,
    /// Who was down, and not for a failure.
    pub down: BTreeSet<String>,
    /// The logger.
    pub logger: Option<Seen>,
    /// The highest number of a run.
    pub last_run: u64,
}

impl Told {
    fn hear(&mut self, line: Line) {
        match line {
            Line::Up(entry) => {
                self.down.remove(&entry.unit);
                self.last_run = self.last_run.max(entry.run);
                self.up.insert(entry.unit.clone(), *entry);
            }
            Line::Done { unit, definition, timeline } => {
                self.done.insert(unit, (definition, timeline));
            }
            Line::Undone(unit) => {
                self.done.remove(&unit);
            }
            Line::Down(unit) => {
                self.down.insert(unit);
            }
            Line::Wanted(unit) => {
                self.down.remove(&unit);
            }
            Line::Logger(seen) => self.logger = Some(seen),
        }
    }
}

/// Tells definitions apart. The same for the same definition, as long as the program is the
/// same: another one may see a change where there is none, which costs a restart.
pub fn fingerprint(unit: &Unit) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Where it was written is not part of what it is, nor who wants it.
    let plain = Unit { file: String::new(), line: 0, wanted_by: Vec::new(), ..unit.clone() };
    match postcard::to_allocvec(&plain) {
        Ok(bytes) => bytes.hash(&mut hasher),
        // It came to this process in this form, so it has it; else it is like no other.
        Err(_) => return 0,
    }
    hasher.finish()
}

/// Reads what was left. A line that makes no sense is skipped: the kill cut it off.
///
/// # Errors
/// As [`state::read`]; that there is none is no error.
pub fn read(path: &Path) -> io::Result<Told> {
    let text = state::read(path, LARGEST)?;
    let mut told = Told::default();
    for line in text.split(|&byte| byte == b'\n') {
        if let Ok(line) = serde_json::from_slice(line) {
            told.hear(line);
        }
    }
    Ok(told)
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ledger {
    path: PathBuf,
    /// `None`: it could not be opened.
    #[serde(with = "crate::sys::kept")]
    file: Option<File>,
    length: u64,
    /// Length from which on it is written anew.
    limit: u64,
    #[serde(default)]
    logger: Option<Seen>,
    /// Dirty: it is stale, or too long.
    #[serde(default)]
    pub(super) writer: Writer,
}

impl Ledger {
    /// An empty one in place of what was there; or, to go on, the one that is there, to be
    /// added to: what it tells is still true. What is in its place and no file is set aside,
    /// which is a trouble; why it cannot be written otherwise is told by [`Self::renew`].
    pub fn open(path: PathBuf, go_on: bool, troubles: &mut Vec<String>) -> Self {
        let open = || if go_on { to_add(&path) } else { emptied(&path).map(|file| (file, 0)) };
        let opened = open().or_else(|error| {
            if !state::is_damage(&error) {
                return Err(error);
            }
            troubles.push(state::set_aside(&path, &error));
            open()
        });
        let mut writer = Writer::clean();
        if opened.is_err() {
            writer.touch();
        }
        let (file, length) = opened.map_or((None, 0), |(file, length)| (Some(file), length));
        Self { path, file, length, limit: limit(length), logger: None, writer }
    }

    /// Adds a line. One that cannot be added, as anything after it, has to wait until all is
    /// written anew.
    pub fn say(&mut self, line: &Line) {
        if let Line::Logger(seen) = line {
            self.logger = Some(*seen);
        }
        if !self.writer.is_dirty() && self.try_say(line).is_err() {
            // Why is said when writing it anew fails, too.
            self.writer.touch();
        }
    }

    fn try_say(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(&text)?;
        self.length = self.length.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        if self.length > self.limit {
            self.writer.touch();
        }
        Ok(())
    }

    /// Writes only what counts, which is these lines and the logger, and puts it in the place
    /// of the file in one step.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2); then what was there is there.
    pub fn renew(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in self.logger.map(Line::Logger).iter().chain(lines) {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let fresh = self.path.with_extension("new");
        let mut file = emptied(&fresh)?;
        let written = file.write_all(&text).and_then(|()| fs::rename(&fresh, &self.path));
        if let Err(error) = written {
            // Half of it takes room that is short, perhaps.
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        self.file = Some(file);
        self.length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.limit = limit(self.length);
        Ok(())
    }
}

/// Length at which a ledger of this length is written anew.
fn limit(length: u64) -> u64 {
    length.saturating_mul(2).max(SMALL)
}

fn to_add(path: &Path) -> io::Result<(File, u64)> {
    let mut options = File::options();
    let mut file = state::open(path, options.create(true).append(true).mode(0o600))?;
    // Half a line may be the last.
    file.write_all(b"\n")?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn emptied(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = state::open(path, options.create(true).truncate(false).write(true).mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(unit: &str, run: u64) -> Entry {
        Entry {
            unit: unit.to_owned(),
            run,
            definition: 7,
            main: Seen::now(11),
            init: None,
            restarts: 2,
            streams: vec![(Stream::Stdout, 99)],
            notify: None,
            unenforced: Vec::new(),
            numbers: Numbers::Own,
            maps: Some(IdMaps::one(100_000, 65_536)),
            network: None,
            timeline: Timeline::default(),
        }
    }

    fn done(unit: &str, definition: u64) -> Line {
        Line::Done { unit: unit.to_owned(), definition, timeline: Timeline::default() }
    }

    #[test]
    fn the_newest_line_of_a_name_counts_and_half_a_line_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        assert_eq!(read(&path).unwrap(), Told::default());
        let mut ledger = Ledger::open(path.clone(), false, &mut Vec::new());
        let lines = [
            Line::Logger(Seen::now(5)),
            Line::Up(Box::new(entry("a", 1))),
            done("job", 3),
            done("other", 4),
            Line::Up(Box::new(entry("b", 2))),
            Line::Up(Box::new(entry("a", 3))),
            Line::Undone("other".to_owned()),
            Line::Down("a".to_owned()),
            Line::Down("job".to_owned()),
            Line::Down("b".to_owned()),
            Line::Wanted("b".to_owned()),
        ];
        for line in &lines {
            ledger.say(line);
        }
        let half = fs::read(&path).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(&half[..30]).unwrap();
        let told = read(&path).unwrap();
        assert_eq!(told.up.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((told.up["a"].run, told.last_run), (3, 3));
        assert_eq!(told.done, BTreeMap::from([("job".to_owned(), (3, Timeline::default()))]));
        assert_eq!(told.down.iter().collect::<Vec<_>>(), ["a", "job"]);
        assert_eq!(told.logger.unwrap().pid, 5);
        ledger.renew(&lines).unwrap();
        assert_eq!(read(&path).unwrap(), told);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut ledger = Ledger::open(path.clone(), false, &mut Vec::new());
        let up = |run: u64| Line::Up(Box::new(entry(&format!("u{}", run % 10), run)));
        let mut renewed = 0;
        for run in 1..=20_000 {
            ledger.say(&up(run));
            if ledger.writer.is_dirty() {
                ledger.writer = Writer::clean();
                ledger.renew(&(run - 9..=run).map(up).collect::<Vec<_>>()).unwrap();
                renewed += 1;
            }
        }
        assert!(renewed > 1 && fs::metadata(&path).unwrap().len() <= SMALL + 1024);
        let told = read(&path).unwrap();
        assert_eq!((told.up.len(), told.last_run), (10, 20_000));
        assert_eq!(told.up["u9"].run, 19_999);
    }

    #[test]
    fn what_cannot_be_written_waits_until_all_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not-there/ledger");
        let mut ledger = Ledger::open(path.clone(), false, &mut Vec::new());
        let up = |run| Line::Up(Box::new(entry("a", run)));
        ledger.say(&Line::Logger(Seen::now(5)));
        ledger.say(&up(1));
        assert!(ledger.writer.is_dirty() && ledger.renew(&[up(1)]).is_err());
        fs::create_dir(path.parent().unwrap()).unwrap();
        ledger.renew(&[up(2)]).unwrap();
        ledger.writer = Writer::clean();
        ledger.say(&Line::Down("a".to_owned()));
        let told = read(&path).unwrap();
        assert_eq!((told.up["a"].run, told.down.len(), told.logger.unwrap().pid), (2, 1, 5));
    }
}
