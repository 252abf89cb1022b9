//! One turn of one stream: look, write down, tell who watches, take away.
//!
//! What must always hold: a turn that fails has taken nothing away and told nobody, so it
//! can be tried again at any time, by this logger or by the next.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use jiff::Timestamp;

use super::console::Console;
use super::record::{Header, MAX_RECORD, Stream, Tag};
use super::source::{CHUNK, Intake, Line, Look, Source, syslog_text};
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
    /// Some output was taken; `matched` if a watched line was in it.
    Moved {
        /// Whether the watch matched.
        matched: bool,
    },
    /// The stream has ended and everything is written.
    Ended {
        /// Whether the unterminated last line matched.
        matched: bool,
    },
    /// This console must become writable first.
    Blocked(Output),
}

/// What all turns share.
#[derive(Debug)]
pub struct Pump {
    intake: Intake,
    records: Vec<u8>,
    store: Store,
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

    /// Forgets the open file of a unit without streams.
    pub fn close(&mut self, unit: &str) {
        self.store.close(unit);
    }

    /// Lets a stream have its turn.
    ///
    /// # Errors
    /// The output cannot be written down now; it waits where it is. `InvalidInput`: the
    /// descriptor is of no kind that can be read, now or ever.
    pub fn turn(&mut self, source: &mut Source, settings: &model::Log) -> io::Result<Turn> {
        match self.intake.look(source)? {
            Look::Nothing if !source.detaching => return Ok(Turn::Idle),
            Look::Nothing | Look::End => {
                self.end_line(source, settings)?;
                let matched = source.watch.as_mut().is_some_and(|watch| watch.finish());
                return Ok(Turn::Ended { matched });
            }
            Look::Bytes => {}
        }
        let taken = match settings.driver {
            LogDriver::None => self.intake.bytes().len(),
            LogDriver::Console => match self.write_console(source)? {
                Ok(taken) => taken,
                Err(output) => return Ok(Turn::Blocked(output)),
            },
            LogDriver::File => self.write_file(source, settings)?,
        };
        let text = self.intake.bytes().get(..taken).unwrap_or_default();
        let matched = source.watch.as_mut().is_some_and(|watch| {
            if source.stream == Stream::Syslog {
                watch.feed(syslog_text(text)) | watch.finish()
            } else {
                watch.feed(text)
            }
        });
        self.intake.consume(source, taken)?;
        Ok(Turn::Moved { matched })
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
    /// of output they hold.
    fn write_file(&mut self, source: &mut Source, settings: &model::Log) -> io::Result<usize> {
        let header = Header::new(Timestamp::now(), source.stream, source.run);
        let bytes = self.intake.bytes();
        self.records.clear();
        let result = self.store.open(&source.unit).and_then(|log| {
            if source.line == Line::Unknown && is_cut_off(source, log, bytes)? {
                header.write(&mut self.records, Tag::Full, b"");
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
    fn end_line(&mut self, source: &mut Source, settings: &model::Log) -> io::Result<()> {
        if settings.driver != LogDriver::File || source.is_datagram() {
            return Ok(());
        }
        // Only of what an earlier logger wrote nothing is known here.
        if source.line == Line::Closed || (source.line == Line::Unknown && !source.again) {
            return Ok(());
        }
        let header = Header::new(Timestamp::now(), source.stream, source.run);
        let mut record = Vec::new();
        header.write(&mut record, Tag::Full, b"");
        let result = self.store.open(&source.unit).and_then(|log| {
            let last = || log.last_chunk(source.stream, source.run, MAX_RECORD);
            let open = source.line == Line::Open || last()?.is_some_and(|last| last.open);
            if open { log.append(&record) } else { Ok(()) }
        });
        if result.is_err() {
            self.store.close(&source.unit);
        }
        result
    }
}

/// Whether the file ends with an open line of this stream and run that `output`, the first
/// that this logger sees of it, does not continue.
///
/// It does not when the stream is new: then the line is that of a machine that crashed
/// (runs are counted anew then). Nor does it when the last logger was killed after it
/// had written a chunk and before it had taken that from the pipe: the chunk is here again.
/// Output that merely looks like it only has a line shown in two.
fn is_cut_off(source: &Source, log: &OpenLog, output: &[u8]) -> io::Result<bool> {
    let window = if source.again { MAX_BATCH.saturating_add(MAX_RECORD) } else { MAX_RECORD };
    let last = log.last_chunk(source.stream, source.run, window)?;
    Ok(last.is_some_and(|last| last.open && (!source.again || output.starts_with(&last.output))))
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
