//! The writing side of the files: `DIRECTORY/UNIT/current`, `current.1`, `current.2`, …
//!
//! What must always hold: a file ends with a whole record (what a dead logger left half
//! written is cut off before the first new record, and an append that fails takes back what
//! it wrote); only `current` is ever written to; at most [`MAX_OPEN`] files are open.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::record::{MAX_RECORD, Record, Stream, Tag};
use crate::sys::state;

/// Open files at most, however many units write.
const MAX_OPEN: usize = 256;

/// Where the files of one unit are: number 0 is the one being written.
pub fn file_name(number: u32) -> String {
    if number == 0 { "current".to_owned() } else { format!("current.{number}") }
}

/// All units' files.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Most recently used last.
    open: Vec<OpenLog>,
    /// See [`Store::aside`].
    aside: Vec<(Rc<str>, String)>,
}

/// The file a unit's output goes to now.
#[derive(Debug)]
pub struct OpenLog {
    unit: Rc<str>,
    directory: PathBuf,
    file: File,
    size: u64,
    /// What was in its place and is out of the way, a sentence that was not told yet.
    aside: Option<String>,
}

/// The records of one stream that were written at once.
#[derive(Debug)]
pub struct LastChunk {
    /// Whether the last of them left its line open.
    pub open: bool,
    /// The output they hold.
    pub output: Vec<u8>,
}

impl Store {
    /// Nothing is opened or made before something is to be written.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: Vec::new(), aside: Vec::new() }
    }

    /// The unit's current file, opened (and made) if need be.
    ///
    /// # Errors
    /// mkdir(2), open(2), or the repair of its end.
    pub fn open(&mut self, unit: &Rc<str>) -> io::Result<&mut OpenLog> {
        let known = self.open.iter().position(|log| log.unit == *unit);
        let mut log = match known.map(|index| self.open.remove(index)) {
            // Somebody may have removed the file under us: then begin a new one.
            Some(log) if log.file.metadata()?.nlink() > 0 => log,
            _ => OpenLog::open(unit, self.directory.join(&**unit))?,
        };
        self.aside.extend(log.aside.take().map(|text| (Rc::clone(unit), text)));
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(log);
        self.open.last_mut().ok_or_else(|| io::Error::other("no log is open"))
    }

    /// What was in the place of units' files and is out of the way since this was asked last.
    pub fn aside(&mut self) -> Vec<(Rc<str>, String)> {
        std::mem::take(&mut self.aside)
    }

    /// Forgets the unit's file: it is opened anew, and its end checked, for the next record.
    pub fn close(&mut self, unit: &str) {
        self.open.retain(|log| *log.unit != *unit);
    }
}

impl OpenLog {
    fn open(unit: &Rc<str>, directory: PathBuf) -> io::Result<Self> {
        let (file, size, aside) = open_current(&directory)?;
        Ok(Self { unit: Rc::clone(unit), directory, file, size, aside })
    }

    /// Bytes in the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends whole records: all of them, or none.
    ///
    /// # Errors
    /// write(2). The caller closes the log then, so that its end is checked again in
    /// case taking back has failed too.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        match (&self.file).write_all(records) {
            Ok(()) => {
                let written = u64::try_from(records.len()).unwrap_or(u64::MAX);
                self.size = self.size.saturating_add(written);
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    /// What was last written of this stream and run, as far as the last `window` bytes of
    /// the file tell; `None` if nothing was.
    ///
    /// # Errors
    /// pread(2).
    pub fn last_chunk(
        &self,
        stream: Stream,
        run: u64,
        window: usize,
    ) -> io::Result<Option<LastChunk>> {
        let (_, tail) = read_tail(&self.file, self.size, window)?;
        let mut records = tail
            .rsplit(|byte| *byte == b'\n')
            .filter_map(Record::parse)
            .filter(|record| record.stream == stream && record.run == run)
            .peekable();
        let Some(Record { time, tag, .. }) = records.peek().copied() else { return Ok(None) };
        // What was written at once has one time.
        let records: Vec<Record<'_>> = records.take_while(|record| record.time == time).collect();
        let mut output = Vec::new();
        for record in records.iter().rev() {
            output.extend_from_slice(record.text);
            if record.tag == Tag::Full {
                output.push(b'\n');
            }
        }
        Ok(Some(LastChunk { open: tag == Tag::Partial, output }))
    }

    /// Begins a new file; the oldest one beyond `max_files` is dropped. A follower
    /// that has the old file open can rely on it being complete once it is renamed.
    ///
    /// # Errors
    /// rename(2), unlink(2), open(2).
    pub fn rotate(&mut self, max_files: u32) -> io::Result<()> {
        let path = |number: u32| self.directory.join(file_name(number));
        let kept = max_files.max(1).saturating_sub(1);
        let mut top = 0_u32;
        // One more than there are, unless that is one too many.
        while top < kept {
            top = top.saturating_add(1);
            if !path(top).try_exists()? {
                break;
            }
        }
        // From the top down, so that a kill in the middle leaves a gap and no loss.
        for number in (1..=top).rev() {
            ignore_missing(fs::rename(path(number.saturating_sub(1)), path(number)))?;
        }
        if kept == 0 {
            ignore_missing(fs::remove_file(path(0)))?;
        }
        // Fewer files are wanted than before.
        let mut extra = kept.saturating_add(1);
        while path(extra).try_exists()? {
            fs::remove_file(path(extra))?;
            extra = extra.saturating_add(1);
        }
        (self.file, self.size, self.aside) = open_current(&self.directory)?;
        Ok(())
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens `current` for appending, with a whole record (or nothing) at its end. A sentence if
/// something else was there.
fn open_current(directory: &Path) -> io::Result<(File, u64, Option<String>)> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let path = directory.join(file_name(0));
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640);
    let mut aside = None;
    let file = match state::open(&path, &mut options) {
        Err(error) if state::is_damage(&error) => {
            aside = Some(state::set_aside(&path, &error));
            state::open(&path, &mut options)?
        }
        other => other?,
    };
    let metadata = file.metadata()?;
    let size = repair_end(&file, metadata.len())?;
    Ok((file, size, aside))
}

/// Cuts off half a record at the end; returns the size then.
///
/// A half record is one a logger was killed over: its bytes are still in the pipe
/// and come again, so that keeping the half would show a line that never was.
fn repair_end(file: &File, size: u64) -> io::Result<u64> {
    let Some(last) = size.checked_sub(1) else {
        return Ok(0);
    };
    let mut byte = [0_u8];
    file.read_exact_at(&mut byte, last)?;
    if byte == [b'\n'] {
        return Ok(size);
    }
    let (start, tail) = read_tail(file, size, MAX_RECORD)?;
    let newline = tail.iter().rposition(|byte| *byte == b'\n');
    let end = match newline.and_then(|at| u64::try_from(at).ok()) {
        Some(at) => start.saturating_add(at).saturating_add(1),
        None if start == 0 => 0,
        None => {
            // Not ours, so not ours to cut: end the line and go on.
            let mut writer = file;
            writer.write_all(b"\n")?;
            return Ok(size.saturating_add(1));
        }
    };
    file.set_len(end)?;
    Ok(end)
}

/// The last `window` bytes and where they begin.
fn read_tail(file: &File, size: u64, window: usize) -> io::Result<(u64, Vec<u8>)> {
    let length = size.min(u64::try_from(window).unwrap_or(u64::MAX));
    let start = size.saturating_sub(length);
    let mut tail = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut tail, start)?;
    Ok((start, tail))
}
