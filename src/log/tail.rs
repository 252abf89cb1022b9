//! Where to begin: the last so many lines of a unit, or all since some time, found without
//! reading what lies before.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use super::chain::{Place, numbers};
use super::record::{MAX_RECORD, Record, Stream, Tag};
use super::store::file_name;

/// Read backwards at once.
const BLOCK: usize = 64 * 1024;

/// How far before the last wanted line the beginnings of lines in several records are
/// looked for. They are next to each other but for what other streams said in between.
const MAX_EXTRA: u64 = 256 * 1024;

/// Where to begin, and how many lines from there on are still not wanted.
#[derive(Debug, Default)]
pub struct Start {
    /// `None`: with the oldest file.
    pub place: Option<Place>,
    /// Lines to leave out.
    pub skip: u64,
}

/// The newest file that holds nothing before `since` but perhaps in its beginning.
///
/// # Errors
/// open(2), read(2).
pub fn since(directory: &Path, since: Timestamp) -> io::Result<Start> {
    for number in numbers(directory)? {
        let path = directory.join(file_name(number));
        let Some(place) = Place::open(&path)? else { continue };
        let mut head = vec![0; MAX_RECORD];
        let length = place.file.read_at(&mut head, 0)?;
        let head = head.get(..length).unwrap_or_default();
        let first = head.split(|byte| *byte == b'\n').find_map(Record::parse);
        if first.is_some_and(|record| record.time < since) {
            return Ok(Start { place: Some(place), skip: 0 });
        }
    }
    Ok(Start::default())
}

/// The place from which `lines` lines are left, or a little before it. A line that is not
/// complete yet does not count.
///
/// # Errors
/// open(2), read(2).
pub fn last_lines(directory: &Path, lines: u64) -> io::Result<Start> {
    let mut count = Count { wanted: lines, ..Count::default() };
    let mut found: Option<Place> = None;
    for number in numbers(directory)? {
        let Some(mut place) = Place::open(&directory.join(file_name(number)))? else { continue };
        if found.as_ref().is_some_and(|newer| newer.inode == place.inode) {
            // Renamed since we opened it under its lower number.
            continue;
        }
        let enough = count.walk_back(&mut place)?;
        found = Some(place);
        if enough {
            break;
        }
    }
    Ok(Start { place: found, skip: count.lines.saturating_sub(lines) })
}

/// Lines counted from the end.
#[derive(Debug, Default)]
struct Count {
    wanted: u64,
    lines: u64,
    /// Bytes walked since there were enough lines.
    extra: u64,
    /// Of each stream and run met so far: whether a line that is wanted may begin
    /// further back.
    unfinished: Vec<(Stream, u64, bool)>,
}

impl Count {
    /// Walks through a file backwards and sets its place to where reading is to begin;
    /// whether that is far enough.
    fn walk_back(&mut self, place: &mut Place) -> io::Result<bool> {
        let mut end = place.file.metadata()?.len();
        place.offset = end;
        // The beginning of a line whose end was in the block after this one.
        let mut rest: VecDeque<u8> = VecDeque::new();
        while end > 0 {
            let length = end.min(u64::try_from(BLOCK).unwrap_or(end));
            end = end.saturating_sub(length);
            let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
            place.file.read_exact_at(&mut block, end)?;
            block.extend(rest.drain(..));
            // What comes before the first newline may begin in the block before.
            let first = if end == 0 {
                0
            } else {
                block
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(block.len(), |at| at.saturating_add(1))
            };
            let (before, lines) = block.split_at_checked(first).unwrap_or((&block, &[]));
            let mut at = end.saturating_add(u64::try_from(block.len()).unwrap_or(0));
            for line in lines.split_inclusive(|byte| *byte == b'\n').rev() {
                let whole = line.strip_suffix(b"\n");
                if whole.is_some() && self.is_enough() {
                    return Ok(true);
                }
                let length = u64::try_from(line.len()).unwrap_or(0);
                at = at.saturating_sub(length);
                // Before a record that is being written, in any case.
                place.offset = at;
                if let Some(line) = whole {
                    self.take(Record::parse(line), length);
                }
            }
            // Damage longer than a record is not carried along; reading skips it too.
            if before.len() <= MAX_RECORD {
                rest.extend(before);
            }
        }
        Ok(self.is_enough())
    }

    fn take(&mut self, record: Option<Record<'_>>, length: u64) {
        let enough_before = self.lines >= self.wanted;
        if enough_before {
            self.extra = self.extra.saturating_add(length);
        }
        let Some(record) = record else { return };
        let key = (record.stream, record.run);
        let known = self.unfinished.iter().position(|(stream, run, _)| (*stream, *run) == key);
        let full = record.tag == Tag::Full;
        if full {
            self.lines = self.lines.saturating_add(1);
        }
        match known.and_then(|index| self.unfinished.get_mut(index)) {
            // The end of a line that is not wanted: what comes after it has begun here.
            Some((_, _, unfinished)) if full => *unfinished = !enough_before,
            Some(_) => {}
            None => self.unfinished.push((record.stream, record.run, !(full && enough_before))),
        }
    }

    fn is_enough(&self) -> bool {
        self.lines >= self.wanted
            && (self.extra >= MAX_EXTRA || self.unfinished.iter().all(|(_, _, open)| !open))
    }
}
