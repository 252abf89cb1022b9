//! The reading side of the logger: one stream of one run, and taking output from it in two
//! steps, so that nothing is taken away before it is written down.
//!
//! A pipe is looked at with tee(2), which copies what is in it into a private pipe and
//! takes nothing away; a datagram with `MSG_PEEK`. Only once the bytes are in the file
//! are exactly they consumed. A logger that is killed in between has its last chunk
//! written once more by the next one: never less than once.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

use super::record::Stream;
use super::watch::Watch;

/// Most bytes a stream may have written in one turn: what a pipe holds. A flood gets no
/// more than one such chunk while every other stream that is ready gets one too.
pub const CHUNK: usize = 64 * 1024;

/// What is known of the line that a stream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing was written yet; only the file knows what is there of this run.
    Unknown,
    /// The last record ended its line.
    Closed,
    /// The last record was partial.
    Open,
}

/// How a stream comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// By itself.
    Not,
    /// When nothing is there any more, or after so many bytes: what was there when the run
    /// was over. Somebody outside who holds the writing end must not keep it for ever.
    After(usize),
}

/// One attached stream. There may be thousands, so it has no buffer.
#[derive(Debug)]
pub struct Source {
    /// Read end of the pipe, or the datagram socket; never blocks.
    pub fd: OwnedFd,
    /// Whose output.
    pub unit: Rc<str>,
    /// Which run.
    pub run: u64,
    /// Which stream.
    pub stream: Stream,
    /// The line it is in.
    pub line: Line,
    /// Whether a logger before this one has written some of it.
    pub again: bool,
    /// Whether the loop is told when it has something.
    pub armed: bool,
    /// Whether it ends when it has nothing to say, not only at its end.
    pub parting: Parting,
    /// Somebody waits for a line.
    pub watch: Option<Box<Watch>>,
}

impl Source {
    /// From now on the stream ends once what is there now is written.
    pub fn part(&mut self) {
        if self.parting == Parting::Not {
            // Of a datagram socket it tells the first one only; nobody outside has one.
            let there = if self.is_datagram() { None } else { ioctl_fionread(&self.fd).ok() };
            let there = there.and_then(|there| usize::try_from(there).ok());
            self.parting = Parting::After(there.unwrap_or(usize::MAX));
        }
    }

    /// So much less is to be written before it is over.
    pub const fn took(&mut self, count: usize) {
        if let Parting::After(left) = self.parting {
            self.parting = Parting::After(left.saturating_sub(count));
        }
    }

    /// Whether it never ends by itself.
    pub const fn is_datagram(&self) -> bool {
        matches!(self.stream, Stream::Syslog)
    }
}

/// What a look at a stream found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// [`Intake::bytes`] has something.
    Bytes,
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    End,
    /// The descriptor is of no kind that can be read.
    Unreadable,
}

/// The one buffer and the private pipe that all streams share.
#[derive(Debug)]
pub struct Intake {
    pipe: (OwnedFd, OwnedFd),
    buffer: Vec<u8>,
    filled: usize,
}

impl Intake {
    /// # Errors
    /// pipe2(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { pipe: private_pipe()?, buffer: vec![0; CHUNK], filled: 0 })
    }

    /// What the last look found.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Reads up to [`CHUNK`] bytes and leaves them where they are.
    ///
    /// # Errors
    /// The kernel is out of something.
    pub fn look(&mut self, source: &Source) -> io::Result<Look> {
        self.filled = 0;
        if source.is_datagram() {
            return self.look_at_datagram(source);
        }
        let copied = loop {
            match tee(&source.fd, &self.pipe.1, CHUNK, SpliceFlags::NONBLOCK) {
                Ok(0) => return Ok(Look::End),
                // To one that is being let go, "nothing" is the end.
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Look::Nothing),
                Err(Errno::INVAL | Errno::BADF) => return Ok(Look::Unreadable),
                other => break other?,
            }
        };
        while self.filled < copied {
            let room = self.buffer.get_mut(self.filled..copied).unwrap_or_default();
            match rustix::io::read(&self.pipe.0, room) {
                Err(Errno::INTR) => {}
                Ok(read) if read > 0 => self.filled = self.filled.saturating_add(read),
                // It must be empty before the next look, or streams would be mixed up.
                _ => {
                    self.pipe = private_pipe()?;
                    return Err(io::Error::other("the private pipe does not give back"));
                }
            }
        }
        Ok(Look::Bytes)
    }

    fn look_at_datagram(&mut self, source: &Source) -> io::Result<Look> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&source.fd, self.buffer.as_mut_slice(), flags) {
            Ok((_, length)) => {
                self.filled = length.min(self.buffer.len());
                Ok(Look::Bytes)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Look::Nothing),
            Err(Errno::NOTSOCK | Errno::NOTCONN | Errno::INVAL | Errno::BADF) => {
                Ok(Look::Unreadable)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the first `count` bytes of the last look away: they are written. A datagram is
    /// taken whole.
    ///
    /// # Errors
    /// read(2) or recv(2); then what was written is written once more.
    pub fn consume(&mut self, source: &Source, count: usize) -> io::Result<()> {
        if source.is_datagram() {
            return match recv(&source.fd, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::AGAIN) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
        }
        let mut left = count.min(self.filled);
        while left > 0 {
            let room = self.buffer.get_mut(..left).unwrap_or_default();
            match rustix::io::read(&source.fd, room) {
                Err(Errno::INTR) => {}
                // tee has just seen these bytes, but a unit can open its own output for
                // reading (`/proc/self/fd/1`) and be quicker.
                Ok(0) | Err(Errno::AGAIN) => break,
                read => left = left.saturating_sub(read?),
            }
        }
        Ok(())
    }
}

fn private_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// A syslog(3) datagram without its `<PRI>` and without what ends it.
pub fn syslog_text(datagram: &[u8]) -> &[u8] {
    let mut text = datagram;
    if let Some(rest) = text.strip_prefix(b"<") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = rest.split_at_checked(digits).unwrap_or_default();
        if let (1..=3, Some(rest)) = (number.len(), rest.strip_prefix(b">")) {
            text = rest;
        }
    }
    while let Some(rest) = text.strip_suffix(b"\n").or_else(|| text.strip_suffix(b"\0")) {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_priorities_are_stripped_and_nothing_else() {
        assert_eq!(syslog_text(b"<30>Nov 20 22:45:48 x[1]: hi\n"), b"Nov 20 22:45:48 x[1]: hi");
        assert_eq!(syslog_text(b"<30>a\0"), b"a");
        assert_eq!(syslog_text(b"<>a"), b"<>a");
        assert_eq!(syslog_text(b"<1234>a"), b"<1234>a");
        assert_eq!(syslog_text(b"<3"), b"<3");
        assert_eq!(syslog_text(b"<3>"), b"");
        assert_eq!(syslog_text(b"<b>bold"), b"<b>bold");
    }
}
