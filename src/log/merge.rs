//! Lines of several units, merged by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::chain::Chain;
use super::join::Joiner;
use super::read::{Entry, LogError};
use super::record::Record;
use super::tail::{self, Start};

/// The lines of one unit that were asked for.
#[derive(Debug)]
pub struct Lines {
    directory: PathBuf,
    chain: Chain,
    joiner: Joiner,
    /// Lines that are still before the last ones that were asked for.
    skip: u64,
    since: Option<Timestamp>,
    /// The next one, found already.
    head: Option<Entry>,
}

impl Lines {
    /// Begins with the last `lines`, if given, of those not older than `since`, if given.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn new(
        directory: &Path,
        unit: String,
        lines: Option<u64>,
        since: Option<Timestamp>,
    ) -> Result<Self, LogError> {
        let directory = directory.join(&unit);
        let start = match (lines, since) {
            (Some(lines), _) => tail::last_lines(&directory, lines),
            (None, Some(since)) => tail::since(&directory, since),
            (None, None) => Ok(Start::default()),
        };
        let Start { place, skip } = start.map_err(|e| LogError::Io(directory.clone(), e))?;
        let chain = Chain::new(directory.clone(), place);
        Ok(Self { directory, chain, joiner: Joiner::new(unit), skip, since, head: None })
    }

    /// The next line; `None` when there is none yet. With `last` there will be none, and
    /// what is open is handed out.
    fn next(&mut self, last: bool) -> Result<Option<Entry>, LogError> {
        loop {
            let entry = match self.chain.next_line() {
                // A line that is no record is damage: the next one is fine again.
                Ok(Some(line)) => match Record::parse(line) {
                    Some(record) => self.joiner.push(record),
                    None => None,
                },
                Ok(None) if last => match self.joiner.flush() {
                    None => return Ok(None),
                    open => open,
                },
                Ok(None) => return Ok(None),
                Err(error) => return Err(LogError::Io(self.directory.clone(), error)),
            };
            let Some(entry) = entry else { continue };
            if self.skip > 0 {
                if !entry.partial {
                    self.skip = self.skip.saturating_sub(1);
                }
                continue;
            }
            if self.since.is_none_or(|since| entry.time >= since) {
                return Ok(Some(entry));
            }
        }
    }
}

/// Several units' lines.
#[derive(Debug, Default)]
pub struct Merge {
    units: Vec<Lines>,
    /// The time of each unit's head, if it has one.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// What is open is handed out at the end.
    last: bool,
}

impl Merge {
    /// Adds a unit; its number. Its lines come after it was [refilled](Self::refill).
    pub fn add(&mut self, lines: Lines) -> usize {
        self.units.push(lines);
        self.units.len().saturating_sub(1)
    }

    /// Looks whether a unit has something (new).
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn refill(&mut self, unit: usize) -> Result<(), LogError> {
        let Some(lines) = self.units.get_mut(unit) else { return Ok(()) };
        if lines.head.is_none() {
            lines.head = lines.next(self.last)?;
            self.heads.extend(lines.head.as_ref().map(|entry| Reverse((entry.time, unit))));
        }
        Ok(())
    }

    /// Whether there is something to hand out.
    pub fn has_more(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Hands out up to `most` lines, the oldest first.
    ///
    /// # Errors
    /// A unit's files cannot be read.
    pub fn pour(
        &mut self,
        most: usize,
        sink: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        for _ in 0..most {
            let Some(Reverse((_, unit))) = self.heads.pop() else { break };
            let head = self.units.get_mut(unit).and_then(|lines| lines.head.take());
            if head.is_some_and(|entry| sink(entry).is_break()) {
                return Ok(ControlFlow::Break(()));
            }
            self.refill(unit)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hands out everything that is written by now, and what is open.
    ///
    /// # Errors
    /// A unit's files cannot be read.
    pub fn finish(
        &mut self,
        sink: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        self.last = true;
        for lines in &mut self.units {
            let ended = lines.chain.end_here();
            ended.map_err(|error| LogError::Io(lines.directory.clone(), error))?;
        }
        for unit in 0..self.units.len() {
            self.refill(unit)?;
        }
        self.pour(usize::MAX, sink).map(|_| ())
    }
}
