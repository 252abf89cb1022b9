//! Reading one unit's files as one endless run of lines, from any of them on, while the
//! logger writes and rotates.
//!
//! What must always hold: the place in a file only ever moves to the byte after a newline,
//! so a record that is being written, or that is cut off and written again after a logger
//! died, is seen whole or not at all; a file is left only when it has been renamed (nothing
//! is written to it any more) and was read to its end after that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::record::MAX_RECORD;
use super::store::file_name;
use crate::sys::state;

/// Read at once; more only for a line that is longer.
const BLOCK: usize = 16 * 1024;

/// Numbers that may be missing in the row of files: one while the logger rotates.
const MAX_GAP: u32 = 2;

/// A place in a file, and which file it is. Inodes are not used again while a file is open.
#[derive(Debug)]
pub struct Place {
    /// The file.
    pub file: File,
    /// Its inode.
    pub inode: u64,
    /// The byte where the next line begins.
    pub offset: u64,
}

impl Place {
    /// The beginning of a file; `None` if there is no such file.
    ///
    /// # Errors
    /// open(2), fstat(2).
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match state::open(path, File::options().read(true)) {
            // It is none of the logger's.
            Err(error) if state::is_damage(&error) => Ok(None),
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { file, inode, offset: 0 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// All lines of a unit, oldest first.
#[derive(Debug)]
pub struct Chain {
    directory: PathBuf,
    place: Option<Place>,
    /// The file after this one, found when this one turned out to be renamed.
    next: Option<Place>,
    /// What was read from `place.offset` on and not handed out yet.
    buffer: Vec<u8>,
    /// How much of `buffer` was handed out.
    used: usize,
    /// In a line that is too long to be a record.
    skipping: bool,
    /// Where to stop: an inode and an offset in it.
    end: Option<(u64, u64)>,
}

impl Chain {
    /// Begins at `place`, or with the oldest file there is (or will be).
    pub fn new(directory: PathBuf, place: Option<Place>) -> Self {
        let (next, buffer) = (None, Vec::new());
        Self { directory, place, next, buffer, used: 0, skipping: false, end: None }
    }

    /// Ends where the newest file ends now, whatever is written meanwhile.
    ///
    /// # Errors
    /// stat(2).
    pub fn end_here(&mut self) -> io::Result<()> {
        self.end = match fs::metadata(self.directory.join(file_name(0))) {
            Ok(metadata) => Some((metadata.ino(), metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// The next line, without its newline; `None` when there is none yet.
    ///
    /// # Errors
    /// read(2), open(2), stat(2).
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(length) = self.line_in_buffer() {
                let start = self.used;
                let after = start.saturating_add(length).saturating_add(1);
                self.used = after;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(self.buffer.get(start..after.saturating_sub(1)));
            }
            if !self.read_more()? && !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn line_in_buffer(&self) -> Option<usize> {
        self.buffer.get(self.used..)?.iter().position(|byte| *byte == b'\n')
    }

    /// Reads the next block of the file; whether it is worth another try. At the file's end an
    /// incomplete line is forgotten, to be read again when there is more.
    fn read_more(&mut self) -> io::Result<bool> {
        let Some(place) = &mut self.place else { return Ok(false) };
        self.buffer.drain(..self.used.min(self.buffer.len()));
        place.offset = place.offset.saturating_add(wide(self.used));
        self.used = 0;
        if self.skipping || self.buffer.len() > MAX_RECORD {
            // No record is that long: this is damage, up to the next newline.
            place.offset = place.offset.saturating_add(wide(self.buffer.len()));
            self.buffer.clear();
            self.skipping = true;
        }
        if self.end.is_some_and(|(inode, end)| inode == place.inode && place.offset >= end) {
            return Ok(false);
        }
        let known = self.buffer.len();
        let at = place.offset.saturating_add(wide(known));
        self.buffer.resize(known.saturating_add(BLOCK), 0);
        let room = self.buffer.get_mut(known..).unwrap_or_default();
        let read = place.file.read_at(room, at);
        self.buffer.truncate(known.saturating_add(*read.as_ref().unwrap_or(&0)));
        if read? > 0 {
            return Ok(true);
        }
        // A thousand followed units that are silent must not hold a thousand buffers.
        self.buffer = Vec::new();
        if place.file.metadata()?.len() < place.offset {
            // Somebody emptied it.
            place.offset = 0;
            return Ok(true);
        }
        Ok(false)
    }

    /// At the end of the file: goes on to the next one, if there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(place) = &self.place else {
            self.place = oldest(&self.directory)?;
            return Ok(self.place.is_some());
        };
        if self.end.is_some_and(|(inode, _)| inode == place.inode) {
            return Ok(false);
        }
        if let Some(next) = self.next.take() {
            self.place = Some(next);
            self.skipping = false;
            self.buffer.clear();
            return Ok(true);
        }
        // Found or not, this file is read once more to its end before it is left: it may
        // have grown between our last read and its being renamed.
        self.next = after(&self.directory, place.inode)?;
        Ok(self.next.is_some())
    }
}

/// The numbers of a unit's files, newest (0) first.
///
/// # Errors
/// readdir(3); a directory that is not there has no files.
pub fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| match name.strip_prefix("current.") {
            Some(number) => number.parse().ok(),
            None => (name == "current").then_some(0),
        });
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// The beginning of the oldest file.
fn oldest(directory: &Path) -> io::Result<Option<Place>> {
    for number in numbers(directory)?.into_iter().rev() {
        // Renamed since: then it is among the others, or was the oldest and is gone.
        if let Some(place) = Place::open(&directory.join(file_name(number)))? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The beginning of the file after the one with this inode; `None` if that is the newest.
///
/// Files only ever move to higher numbers. So a walk upwards cannot miss one, and if the
/// file is at the same number before and after its neighbour was opened, that is its neighbour.
fn after(directory: &Path, inode: u64) -> io::Result<Option<Place>> {
    let (mut number, mut gap) = (0_u32, 0_u32);
    while gap <= MAX_GAP {
        let path = directory.join(file_name(number));
        match inode_of(&path)? {
            Some(found) if found == inode => {
                let Some(newer) = number.checked_sub(1) else { return Ok(None) };
                let next = Place::open(&directory.join(file_name(newer)))?;
                if inode_of(&path)? == Some(inode) {
                    // None: the logger has not made the new file yet.
                    return Ok(next);
                }
                // It moved meanwhile: it is further up.
            }
            Some(_) => gap = 0,
            None => gap = gap.saturating_add(1),
        }
        number = number.saturating_add(1);
    }
    // It was dropped, with all that was older: go on with the oldest that is left.
    oldest(directory)
}

fn inode_of(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A length as an offset.
fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chain: &mut Chain) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = chain.next_line().unwrap() {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        lines
    }

    #[test]
    fn a_line_written_between_the_last_look_and_the_rotation_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number| directory.path().join(file_name(number));
        fs::write(path(0), "one\n").unwrap();
        let mut chain = Chain::new(directory.path().to_owned(), None);
        assert_eq!(lines(&mut chain), ["one"]);
        // The reader is at the end of the file and is about to ask for the next one.
        assert!(!chain.read_more().unwrap());
        fs::write(path(0), "one\ntwo\n").unwrap();
        fs::rename(path(0), path(1)).unwrap();
        fs::write(path(0), "three\n").unwrap();
        assert!(chain.advance().unwrap());
        assert_eq!(lines(&mut chain), ["two", "three"]);
    }

    #[test]
    fn a_chain_ends_where_it_was_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number| directory.path().join(file_name(number));
        fs::write(path(0), "two\n").unwrap();
        fs::write(path(1), "one\n").unwrap();
        let mut chain = Chain::new(directory.path().to_owned(), None);
        chain.end_here().unwrap();
        fs::rename(path(1), path(2)).unwrap();
        fs::rename(path(0), path(1)).unwrap();
        fs::write(path(0), "later\n").unwrap();
        assert_eq!(lines(&mut chain), ["one", "two"]);
    }

    #[test]
    fn files_that_were_dropped_are_passed_over_and_an_emptied_one_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number| directory.path().join(file_name(number));
        fs::write(path(0), "one\n").unwrap();
        let mut chain = Chain::new(directory.path().to_owned(), None);
        assert_eq!(lines(&mut chain), ["one"]);
        fs::remove_file(path(0)).unwrap();
        assert_eq!(lines(&mut chain), [""; 0]);
        fs::write(path(1), "three\n").unwrap();
        fs::write(path(0), "four\n").unwrap();
        assert_eq!(lines(&mut chain), ["three", "four"]);
        fs::write(path(0), "5\n").unwrap();
        assert_eq!(lines(&mut chain), ["5"]);
    }
}
