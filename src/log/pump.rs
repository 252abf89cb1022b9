//! One turn of one stream: look, write down, see whether a watched line is in it. What was
//! written is taken away in a second step, after berth was told.
//!
//! What must always hold: a turn that fails has taken nothing away and told nobody, so it
//! can be tried again at any time, by this logger or by the next. That a file cannot be
//! written is no failure of the turn: its output is taken into memory or dropped
//! ([`Outages`]), because who writes must not have to wait.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use jiff::Timestamp;

use super::console::Console;
use super::outage::Outages;
use super::record::{Header, MAX_RECORD, Stream, Tag};
use super::source::{CHUNK, Intake, Line, Look, Parting, Source, syslog_text};
use super::store::{OpenLog, Store};
use crate::unit::model::{self, LogDriver};

/// Most bytes of records written at once. Short lines grow in the file (an empty one is
/// 50 bytes there), and a turn must stay short.
const MAX_BATCH: usize = 2 * CHUNK;

/// Which of the supervisor's own outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Its standard output.
    Out,
    /// Its standard error.
    Err,
}

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There was nothing.
    Idle,
    /// Some output was written and is to be taken away: [`Pump::take`].
    Written {
        /// How many bytes.
        count: usize,
        /// Whether a watched line was in it.
        matched: bool,
    },
    /// The stream has ended and everything is written.
    Ended {
        /// Whether the unterminated last line matched.
        matched: bool,
    },
    /// The descriptor is of no kind that can be read.
    Unreadable,
    /// This console must become writable first.
    Blocked(Output),
}

/// What all turns share.
#[derive(Debug)]
pub struct Pump {
    intake: Intake,
    records: Vec<u8>,
    store: Store,
    outages: Outages,
    out: Option<Console>,
    err: Option<Console>,
}

impl Pump {
    /// # Errors
    /// pipe2(2).
    pub fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            intake: Intake::new()?,
            records: Vec::with_capacity(MAX_BATCH),
            store: Store::new(directory),
            outages: Outages::default(),
            out: Console::new(io::stdout().as_fd()).ok(),
            err: Console::new(io::stderr().as_fd()).ok(),
        })
    }

    /// The console behind an output; `None` if it is closed.
    pub const fn console(&self, output: Output) -> Option<&Console> {
        match output {
            Output::Out => self.out.as_ref(),
            Output::Err => self.err.as_ref(),
        }
    }

    /// What was in the place of units' files, a sentence each.
    pub fn aside(&mut self) -> Vec<(Rc<str>, String)> {
        self.store.aside()
    }

    /// Forgets the open file of a unit without streams.
    pub fn close(&mut self, unit: &str) {
        self.store.close(unit);
    }

    /// Lets a stream have its turn.
    ///
    /// # Errors
    /// The output cannot be read now, or its console has failed; it waits where it is.
    pub fn turn(&mut self, source: &mut Source, settings: &model::Log) -> io::Result<Turn> {
        let look = match source.parting {
            Parting::After(0) => Look::End,
            Parting::After(_) | Parting::Not => self.intake.look(source)?,
        };
        match look {
            Look::Unreadable => return Ok(Turn::Unreadable),
            Look::Nothing if source.parting == Parting::Not => return Ok(Turn::Idle),
            Look::Nothing | Look::End => {
                self.end_line(source, settings);
                let matched = source.watch.as_mut().is_some_and(|watch| watch.finish());
                return Ok(Turn::Ended { matched });
            }
            Look::Bytes => {}
        }
        let mut continued = Vec::new();
        let count = match settings.driver {
            LogDriver::None => self.intake.bytes().len(),
            LogDriver::Console => match self.write_console(source)? {
                Ok(count) => count,
                Err(output) => return Ok(Turn::Blocked(output)),
            },
            LogDriver::File => self.write_down(source, settings, &mut continued),
        };
        let text = self.intake.bytes().get(..count).unwrap_or_default();
        let is_datagram = source.is_datagram();
        let matched = source.watch.as_mut().is_some_and(|watch| {
            if is_datagram {
                watch.feed(syslog_text(text)) || watch.finish()
            } else {
                watch.feed(&continued) || watch.feed(text)
            }
        });
        Ok(Turn::Written { count, matched })
    }

    /// Takes away what the last turn has written.
    ///
    /// # Errors
    /// It could not be taken, and will be written once more.
    pub fn take(&mut self, source: &mut Source, count: usize) -> io::Result<()> {
        self.intake.consume(source, count)?;
        source.took(count);
        Ok(())
    }

    /// What is not written because of the disk.
    pub const fn outages(&mut self) -> &mut Outages {
        &mut self.outages
    }

    /// Tries to end the outage of a unit; whether it has none now.
    pub fn retry(&mut self, unit: &Rc<str>) -> bool {
        let Some((records, settings)) = self.outages.records(unit) else { return true };
        let result = self.store.open(unit).and_then(|log| {
            if log.size() > 0 && room_in(log, &settings) < records.len() {
                log.rotate(settings.max_files)?;
            }
            log.append(&records)
        });
        match &result {
            Ok(()) => self.outages.over(unit),
            Err(error) => {
                self.store.close(unit);
                self.outages.failed(unit, &settings, error);
            }
        }
        result.is_ok()
    }

    /// Nobody will try again. What is lost by that is said where a person may see it.
    pub fn give_up(&mut self) {
        for unit in self.outages.units() {
            self.retry(&unit);
        }
        for text in self.outages.give_up() {
            self.say_aloud(text.as_bytes());
        }
    }

    /// Writes output to its file, if that is possible; how much may be taken away.
    fn write_down(
        &mut self,
        source: &mut Source,
        settings: &model::Log,
        continued: &mut Vec<u8>,
    ) -> usize {
        let unit = Rc::clone(&source.unit);
        if !self.outages.has(&unit) || self.outages.is_due(&unit) && self.retry(&unit) {
            match self.write_file(source, settings, continued) {
                Ok(count) => return count,
                Err(error) => self.outages.failed(&unit, settings, &error),
            }
        }
        self.outages.keep(source, self.intake.bytes());
        if source.stream == Stream::Supervisor {
            // Nobody can read it in the log.
            let text = self.intake.bytes().to_vec();
            self.say_aloud(&text);
        }
        self.intake.bytes().len()
    }

    /// Lines of berth's own to its standard error, as far as that takes them.
    fn say_aloud(&mut self, text: &[u8]) {
        let Some(console) = &mut self.err else { return };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = [b"berth: ", line, b"\n"].concat();
            // There is nobody to tell that nobody can be told.
            let _ = console.write(&line);
        }
    }

    /// Copies raw output to where berth's own goes; how much, or which output is full.
    fn write_console(&mut self, source: &Source) -> io::Result<Result<usize, Output>> {
        let (output, console) = match source.stream {
            Stream::Stderr => (Output::Err, &mut self.err),
            _ => (Output::Out, &mut self.out),
        };
        let bytes = self.intake.bytes();
        let Some(console) = console else {
            return Ok(Ok(bytes.len()));
        };
        let written = if source.is_datagram() {
            // Taken whole, so what a full terminal does not take of it is lost.
            let mut line = syslog_text(bytes).to_vec();
            line.push(b'\n');
            console.write(&line).map(|_| bytes.len())
        } else {
            console.write(bytes)
        };
        match written {
            Ok(count) => Ok(Ok(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Err(output)),
            Err(error) => Err(error),
        }
    }

    /// Writes the records of what was looked at, as far as the file has room; how many bytes
    /// of output they hold. `continued` is what an earlier logger has written of the line
    /// that they go on with.
    fn write_file(
        &mut self,
        source: &mut Source,
        settings: &model::Log,
        continued: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let header = Header::new(Timestamp::now(), source.stream, source.run);
        let bytes = self.intake.bytes();
        self.records.clear();
        let result = self.store.open(&source.unit).and_then(|log| {
            if source.line == Line::Unknown {
                match before(source, log, bytes)? {
                    Before::Nothing => {}
                    Before::CutOff => header.write(&mut self.records, Tag::Full, b""),
                    Before::Begun(text) => *continued = text,
                }
            }
            let taken = if source.is_datagram() {
                for text in syslog_text(bytes).split(|byte| *byte == b'\n') {
                    if !text.is_empty() {
                        header.write(&mut self.records, Tag::Full, text);
                    }
                }
                if log.size() > 0 && room_in(log, settings) < self.records.len() {
                    log.rotate(settings.max_files)?;
                }
                (bytes.len(), Line::Closed)
            } else {
                let bytes = without_cut_line(bytes);
                let room = room_in(log, settings).saturating_sub(self.records.len());
                let mut taken = header.write_lines(bytes, room, log.size() == 0, &mut self.records);
                if taken.bytes == 0 {
                    log.rotate(settings.max_files)?;
                    let room = room_in(log, settings);
                    taken = header.write_lines(bytes, room, true, &mut self.records);
                }
                (taken.bytes, if taken.open { Line::Open } else { Line::Closed })
            };
            log.append(&self.records)?;
            Ok(taken)
        });
        // A datagram full of newlines made it large.
        self.records.clear();
        self.records.shrink_to(MAX_BATCH);
        match result {
            Ok((taken, line)) => {
                source.line = line;
                Ok(taken)
            }
            Err(error) => {
                self.store.close(&source.unit);
                Err(error)
            }
        }
    }

    /// Ends the line of a stream that ended in the middle of one.
    fn end_line(&mut self, source: &Source, settings: &model::Log) {
        if settings.driver != LogDriver::File || source.is_datagram() {
            return;
        }
        // Only of what an earlier logger wrote nothing is known here.
        if source.line == Line::Closed || (source.line == Line::Unknown && !source.again) {
            return;
        }
        if !self.outages.has(&source.unit) {
            let header = Header::new(Timestamp::now(), source.stream, source.run);
            let mut record = Vec::new();
            header.write(&mut record, Tag::Full, b"");
            let result = self.store.open(&source.unit).and_then(|log| {
                let last = || log.last_chunk(source.stream, source.run, MAX_RECORD);
                let open = source.line == Line::Open || last()?.is_some_and(|last| last.open);
                if open { log.append(&record) } else { Ok(()) }
            });
            let Err(error) = result else { return };
            self.store.close(&source.unit);
            self.outages.failed(&source.unit, settings, &error);
        }
        self.outages.end_line(source);
    }
}

/// What the file's end has to do with the first output that this logger sees of a stream.
enum Before {
    /// Nothing: there is no open line.
    Nothing,
    /// There is an open line, and the output does not go on with it.
    CutOff,
    /// The output goes on with a line that begins like this.
    Begun(Vec<u8>),
}

/// An open line is not gone on with when the stream is new: then the line is that of a
/// machine that crashed (runs are counted anew then). Nor is it when the last logger was
/// killed after it had written a chunk and before it had taken that from the pipe: the
/// chunk is here again. Output that merely looks like it only has a line shown in two.
fn before(source: &Source, log: &OpenLog, output: &[u8]) -> io::Result<Before> {
    let window = if source.again { MAX_BATCH.saturating_add(MAX_RECORD) } else { MAX_RECORD };
    let last = log.last_chunk(source.stream, source.run, window)?;
    Ok(match last.filter(|last| last.open) {
        None => Before::Nothing,
        Some(last) if !source.again || output.starts_with(&last.output) => Before::CutOff,
        Some(last) => {
            let line = last.output.rsplit(|byte| *byte == b'\n').next();
            Before::Begun(line.unwrap_or_default().to_vec())
        }
    })
}

/// Bytes that may be appended now.
fn room_in(log: &OpenLog, settings: &model::Log) -> usize {
    let left = settings.max_size.saturating_sub(log.size());
    usize::try_from(left).unwrap_or(usize::MAX).min(MAX_BATCH)
}

/// A full chunk is cut wherever the pipe was full. More is coming then, so the line that
/// was cut waits for its rest instead of becoming two records.
fn without_cut_line(bytes: &[u8]) -> &[u8] {
    let newline = bytes.iter().rposition(|byte| *byte == b'\n');
    match newline.and_then(|at| bytes.get(..=at)) {
        Some(lines) if bytes.len() == CHUNK => lines,
        _ => bytes,
    }
}
