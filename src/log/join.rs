//! From records to lines: partial records of one stream and run are joined until the one
//! that ends the line.
//!
//! Bounded: a line longer than [`MAX_TEXT`] is handed on in pieces, and of the lines
//! that are open at the same time only [`MAX_OPEN`] are kept.

use jiff::Timestamp;

use super::read::Entry;
use super::record::{MAX_TEXT, Record, Stream, Tag};

/// Lines of one unit that may be open at once: its streams, in the few runs that a crash
/// may have left unfinished.
const MAX_OPEN: usize = 32;

/// A line that is not complete yet.
#[derive(Debug)]
struct Open {
    stream: Stream,
    run: u64,
    time: Timestamp,
    text: Vec<u8>,
}

/// Joins the records of one unit.
#[derive(Debug)]
pub struct Joiner {
    unit: String,
    /// Oldest first.
    open: Vec<Open>,
}

impl Joiner {
    /// For the records of this unit.
    pub fn new(unit: String) -> Self {
        Self { unit, open: Vec::new() }
    }

    /// Takes the next record; what it completes, if anything: a line, or a piece of one.
    pub fn push(&mut self, record: Record<'_>) -> Option<Entry> {
        let Record { time, stream, run, text, .. } = record;
        let known = self.open.iter().position(|open| (open.stream, open.run) == (stream, run));
        let mut line = match known.map(|index| self.open.remove(index)) {
            Some(line) => line,
            None => Open { stream, run, time, text: Vec::new() },
        };
        line.time = time;
        if record.tag == Tag::Full {
            line.text.extend_from_slice(text);
            return Some(self.entry(line, false));
        }
        let too_long = line.text.len().saturating_add(text.len()) > MAX_TEXT;
        let piece = too_long.then(|| Open { text: std::mem::take(&mut line.text), ..line });
        line.text.extend_from_slice(text);
        self.open.push(line);
        let evict = piece.is_none() && self.open.len() > MAX_OPEN;
        let piece = if evict { Some(self.open.remove(0)) } else { piece };
        piece.map(|piece| self.entry(piece, true))
    }

    /// The lines that are still open, as far as they go.
    pub fn flush(&mut self) -> Option<Entry> {
        let open = (!self.open.is_empty()).then(|| self.open.remove(0))?;
        Some(self.entry(open, true))
    }

    fn entry(&self, line: Open, partial: bool) -> Entry {
        let Open { stream, run, time, text } = line;
        Entry { time, unit: self.unit.clone(), stream, run, text, partial }
    }
}
