//! Output while its file cannot be written: a full disk, one that is read-only, one that fails.
//!
//! What must always hold: nobody who writes waits for the disk. The first records of an outage
//! are held in memory, as many as [`HELD_BY_UNIT`] and [`HELD_BY_ALL`] allow; what comes after
//! the first that has no room is counted and dropped, so that what is written down in the end
//! is in order: what was held, how much was lost and why, and what comes then. A unit is tried
//! again every [`RETRY`], whether it has something to say or not.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::record::{Header, Stream, Tag};
use super::source::{Line, Source, syslog_text};
use crate::unit::model;

/// How long a unit's file is left alone after an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Most bytes of records held of one unit (besides ends of lines: one a stream).
const HELD_BY_UNIT: usize = 64 * 1024;

/// Most bytes of records held of all units.
const HELD_BY_ALL: usize = 4 * 1024 * 1024;

/// One unit, from the first write that failed to the next that did not.
#[derive(Debug)]
struct Outage {
    /// How much is kept in files: the unit may have no stream any more.
    settings: model::Log,
    /// Why the last attempt failed.
    why: String,
    held: Vec<u8>,
    lost_lines: u64,
    lost_bytes: u64,
    retry_at: Instant,
}

/// All units whose files cannot be written now.
#[derive(Debug, Default)]
pub struct Outages {
    units: BTreeMap<Rc<str>, Outage>,
    /// Those that have begun and were not told of.
    begun: Vec<(Rc<str>, String)>,
}

impl Outages {
    /// Whether a unit has one.
    pub fn has(&self, unit: &str) -> bool {
        self.units.contains_key(unit)
    }

    /// Whether it is time for another attempt.
    pub fn is_due(&self, unit: &str) -> bool {
        self.units.get(unit).is_some_and(|outage| outage.retry_at <= Instant::now())
    }

    /// At most so many of the units whose time has come.
    pub fn due(&self, most: usize) -> Vec<Rc<str>> {
        let now = Instant::now();
        let due = self.units.iter().filter(|(_, outage)| outage.retry_at <= now);
        due.map(|(unit, _)| Rc::clone(unit)).take(most).collect()
    }

    /// All that have one.
    pub fn units(&self) -> Vec<Rc<str>> {
        self.units.keys().map(Rc::clone).collect()
    }

    /// When the next attempt is to be made.
    pub fn deadline(&self) -> Option<Instant> {
        self.units.values().map(|outage| outage.retry_at).min()
    }

    /// An attempt to write has failed: the next one is made in [`RETRY`].
    pub fn failed(&mut self, unit: &Rc<str>, settings: &model::Log, error: &io::Error) {
        let now = Instant::now();
        let retry_at = now.checked_add(RETRY).unwrap_or(now);
        if let Some(outage) = self.units.get_mut(unit) {
            (outage.why, outage.retry_at) = (error.to_string(), retry_at);
            return;
        }
        let (settings, why) = (settings.clone(), error.to_string());
        self.begun.push((Rc::clone(unit), why.clone()));
        let (held, lost_lines, lost_bytes) = (Vec::new(), 0, 0);
        let outage = Outage { settings, why, held, lost_lines, lost_bytes, retry_at };
        self.units.insert(Rc::clone(unit), outage);
    }

    /// Those that have begun since this was asked last, and why.
    pub fn begun(&mut self) -> Vec<(Rc<str>, String)> {
        std::mem::take(&mut self.begun)
    }

    /// Takes output of a unit that has an outage, be it into memory or nowhere.
    pub fn keep(&mut self, source: &mut Source, output: &[u8]) {
        let by_all: usize = self.units.values().map(|outage| outage.held.len()).sum();
        let Some(outage) = self.units.get_mut(&source.unit) else { return };
        let header = Header::new(Timestamp::now(), source.stream, source.run);
        let room = outage.room().min(HELD_BY_ALL.saturating_sub(by_all));
        let text = if source.is_datagram() { syslog_text(output) } else { output };
        let taken = header.write_lines(text, room, false, &mut outage.held);
        if taken.bytes > 0 {
            source.line = if taken.open { Line::Open } else { Line::Closed };
        }
        // A datagram is a line, whatever it ends with.
        let rest = text.get(taken.bytes..).unwrap_or_default();
        if source.line == Line::Open && (source.is_datagram() || !rest.is_empty()) {
            header.write(&mut outage.held, Tag::Full, b"");
            source.line = Line::Closed;
        }
        if !rest.is_empty() {
            outage.lose(rest, source.is_datagram());
        }
    }

    /// The end of a stream in the middle of a line.
    pub fn end_line(&mut self, source: &Source) {
        if let (Some(outage), Line::Open) = (self.units.get_mut(&source.unit), source.line) {
            let header = Header::new(Timestamp::now(), source.stream, source.run);
            header.write(&mut outage.held, Tag::Full, b"");
        }
    }

    /// What is to be written down to end an outage, and by which settings.
    pub fn records(&self, unit: &str) -> Option<(Vec<u8>, model::Log)> {
        let outage = self.units.get(unit)?;
        let mut records = outage.held.clone();
        if let Some(text) = outage.loss() {
            let header = Header::new(Timestamp::now(), Stream::Supervisor, 0);
            header.write(&mut records, Tag::Full, text.as_bytes());
        }
        Some((records, outage.settings.clone()))
    }

    /// All of that is written.
    pub fn over(&mut self, unit: &str) {
        self.units.remove(unit);
    }

    /// Nobody is left to try again: what is lost now, a sentence a unit.
    pub fn give_up(&mut self) -> Vec<String> {
        let mut lost = Vec::new();
        for (unit, mut outage) in std::mem::take(&mut self.units) {
            let held = std::mem::take(&mut outage.held);
            outage.lose(&held, false);
            lost.extend(outage.loss().map(|text| format!("log of {unit}: {text}")));
        }
        lost
    }
}

impl Outage {
    /// Bytes of records that may be added.
    fn room(&self) -> usize {
        if self.lost_bytes > 0 {
            return 0;
        }
        let most = usize::try_from(self.settings.max_size).unwrap_or(usize::MAX);
        HELD_BY_UNIT.min(most).saturating_sub(self.held.len())
    }

    fn lose(&mut self, output: &[u8], is_line: bool) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let ends = output.split(|byte| *byte == b'\n').count().saturating_sub(1);
        let lines = if is_line { ends.saturating_add(1) } else { ends };
        self.lost_lines = self.lost_lines.saturating_add(wide(lines));
        self.lost_bytes = self.lost_bytes.saturating_add(wide(output.len()));
    }

    /// One sentence, if anything is lost.
    fn loss(&self) -> Option<String> {
        let Self { lost_lines: lines, lost_bytes: bytes, why, .. } = self;
        (*bytes > 0).then(|| format!("{lines} lines ({bytes} bytes) of output were lost: {why}"))
    }
}
