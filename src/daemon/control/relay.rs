//! The helper of `exec`: bytes between a client and a process, in frames.
//!
//! A forked child with nothing but the connection, the process' pipes or terminal, its
//! pidfd, and a pipe on which berth says how it ended. It may block as it likes; one
//! poll(2) loop, bounded buffers: while the client does not read, the process is not read.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::protocol::exec::{Frame, Frames, FromCommand, ToCommand};
use crate::protocol::message::encode_reply;
use crate::protocol::method::Empty;
use crate::protocol::types::Exit as WireExit;
use crate::supervisor::Exit;
use crate::sys::pty::Size;
use crate::sys::{fd, pidfd, pty};

/// Bytes taken from a pipe at a time.
const PIECE: usize = 32 * 1024;

/// What a pipe holds (pipe(7)).
const REST: usize = 64 * 1024;

/// Input that waits for the process; while there is more, the client is not read.
const INPUT_MAX: usize = 256 * 1024;

/// The process' side.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ends {
    /// A terminal that has not come yet.
    Pending,
    /// The master side of its terminal.
    Terminal(#[serde(with = "crate::sys::kept")] OwnedFd),
    /// Its standard three.
    Pipes {
        /// Write end, if input was asked for.
        #[serde(with = "crate::sys::kept")]
        stdin: Option<OwnedFd>,
        /// Read end.
        #[serde(with = "crate::sys::kept")]
        stdout: OwnedFd,
        /// Read end.
        #[serde(with = "crate::sys::kept")]
        stderr: OwnedFd,
    },
}

impl Ends {
    /// All of them, to be kept over a fork.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Pending => Vec::new(),
            Self::Terminal(fd) => vec![fd.as_fd()],
            Self::Pipes { stdin, stdout, stderr } => {
                stdin.iter().chain([stdout, stderr]).map(AsFd::as_fd).collect()
            }
        }
    }
}

/// How berth tells the helper that the process has ended.
pub fn encode_exit(exit: Exit) -> [u8; 5] {
    let (kind, number) = match exit {
        Exit::Code(code) => (0, code),
        Exit::Signal(signal) => (1, signal),
        Exit::Unknown => (0, 255),
    };
    let [a, b, c, d] = number.to_le_bytes();
    [kind, a, b, c, d]
}

fn decode_exit(bytes: [u8; 5]) -> WireExit {
    let [kind, a, b, c, d] = bytes;
    let number = i32::from_le_bytes([a, b, c, d]);
    if kind == 0 { WireExit::Code(number) } else { WireExit::Signal(number) }
}

/// Says something over a connection that is about to be closed.
pub fn say(stream: &UnixStream, message: &[u8]) {
    let mut writer = stream;
    // A short message into an empty socket buffer: it fits, or the client has gone.
    let _ = writer.write_all(message);
}

/// The helper's whole life; its exit code.
pub fn run(stream: &UnixStream, rest: &[u8], process: &OwnedFd, ends: &Ends, end: &OwnedFd) -> i32 {
    // From here on only the relay's own duplicates are open.
    let Ok(mut relay) = Relay::new(stream, rest, process, ends, end) else {
        return hang_up(process);
    };
    if relay.go().is_ok() { 0 } else { hang_up(&relay.process) }
}

/// The client has gone: as when a terminal is closed, the process and its group hear of it.
fn hang_up(process: &OwnedFd) -> i32 {
    // It may have ended by itself.
    let _ = pidfd::send_signal_to_group(process.as_fd(), libc::SIGHUP);
    1
}

struct Relay {
    stream: UnixStream,
    frames: Frames<ToCommand>,
    process: OwnedFd,
    end: OwnedFd,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    /// What the client sent and the process has not taken.
    input: Vec<u8>,
    input_over: bool,
    outputs: Vec<Output>,
    exit: Option<WireExit>,
}

struct Output {
    fd: OwnedFd,
    wrap: fn(Vec<u8>) -> FromCommand,
    /// Bytes that are still taken once the process has ended: as many as were waiting in a
    /// pipe. What those write that it left behind is nobody's.
    rest: usize,
}

impl Relay {
    /// Takes duplicates of its own and closes what it was lent: only then does closing one
    /// of them mean its end for the process.
    fn new(
        stream: &UnixStream,
        rest: &[u8],
        process: &OwnedFd,
        ends: &Ends,
        end: &OwnedFd,
    ) -> std::io::Result<Self> {
        let mut relay = Self {
            stream: stream.try_clone()?,
            frames: Frames::default(),
            process: process.try_clone()?,
            end: end.try_clone()?,
            terminal: None,
            stdin: None,
            input: Vec::new(),
            input_over: false,
            outputs: Vec::new(),
            exit: None,
        };
        match ends {
            Ends::Pending => {}
            Ends::Terminal(master) => {
                fd::set_nonblocking(master.as_fd(), true)?;
                relay.terminal = Some(master.try_clone()?);
                relay.stdin = Some(master.try_clone()?);
                relay.add(master, FromCommand::Stdout)?;
            }
            Ends::Pipes { stdin, stdout, stderr } => {
                if let Some(stdin) = stdin {
                    fd::set_nonblocking(stdin.as_fd(), true)?;
                    relay.stdin = Some(stdin.try_clone()?);
                }
                relay.add(stdout, FromCommand::Stdout)?;
                relay.add(stderr, FromCommand::Stderr)?;
            }
        }
        fd::close_all_but(&relay.descriptors())?;
        relay.frames.feed(rest);
        Ok(relay)
    }

    fn add(&mut self, fd: &OwnedFd, wrap: fn(Vec<u8>) -> FromCommand) -> std::io::Result<()> {
        self.outputs.push(Output { fd: fd.try_clone()?, wrap, rest: REST });
        Ok(())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![self.stream.as_fd(), self.process.as_fd(), self.end.as_fd()];
        all.extend(self.terminal.iter().chain(&self.stdin).map(AsFd::as_fd));
        all.extend(self.outputs.iter().map(|output| output.fd.as_fd()));
        all
    }

    fn go(&mut self) -> std::io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.write_all(&encode_reply(&Empty {}, false).unwrap_or_default())?;
        self.take_frames()?;
        loop {
            if let (Some(exit), true) = (self.exit, self.outputs.is_empty()) {
                return self.send(&FromCommand::Exit(exit));
            }
            let ready = self.wait()?;
            for index in (0..self.outputs.len()).rev() {
                if ready.outputs.get(index) == Some(&true) {
                    self.copy_output(index)?;
                }
            }
            if ready.stdin {
                self.write_input();
            }
            if ready.client {
                self.read_client()?;
            }
            if ready.end {
                self.read_end()?;
            }
        }
    }

    fn wait(&self) -> std::io::Result<Ready> {
        let mut fds: Vec<PollFd<'_>> = self
            .outputs
            .iter()
            .map(|it| PollFd::from_borrowed_fd(it.fd.as_fd(), PollFlags::IN))
            .collect();
        let outputs = fds.len();
        let want = if self.input.len() < INPUT_MAX { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::from_borrowed_fd(self.stream.as_fd(), want));
        let ending = if self.exit.is_none() { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::from_borrowed_fd(self.end.as_fd(), ending));
        let waits = !self.input.is_empty();
        if let Some(stdin) = self.stdin.as_ref().filter(|_| waits) {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT));
        }
        // After the end of the process its pipes may be held open by those it left behind:
        // what is there is sent, the rest is nobody's.
        let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = self.exit.is_some().then_some(&patience);
        match poll(&mut fds, timeout) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            other => other?,
        };
        let is_ready = |index: usize| fds.get(index).is_some_and(|it| !it.revents().is_empty());
        let mut ready = Ready {
            outputs: (0..outputs).map(is_ready).collect(),
            client: is_ready(outputs),
            end: self.exit.is_none() && is_ready(outputs.saturating_add(1)),
            stdin: is_ready(outputs.saturating_add(2)),
        };
        if self.exit.is_some() && !ready.outputs.contains(&true) {
            ready.outputs = vec![true; outputs];
        }
        Ok(ready)
    }

    fn copy_output(&mut self, index: usize) -> std::io::Result<()> {
        let Some(Output { fd, wrap, rest }) = self.outputs.get_mut(index) else { return Ok(()) };
        let mut size = PIECE;
        if self.exit.is_some() {
            fd::set_nonblocking(fd.as_fd(), true)?;
            size = size.min(*rest);
            *rest = rest.saturating_sub(size);
        }
        let wrap = *wrap;
        let mut buffer = vec![0_u8; size];
        match rustix::io::read(&*fd, buffer.as_mut_slice()) {
            Ok(count) if count > 0 => {
                buffer.truncate(count);
                self.send(&wrap(buffer))
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(rustix::io::Errno::AGAIN) if self.exit.is_none() => Ok(()),
            // The end of a pipe, the last close of a terminal (EIO), or nothing more after
            // the end of the process.
            Ok(_) | Err(_) => {
                self.outputs.remove(index);
                Ok(())
            }
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        match rustix::io::write(stdin, &self.input) {
            Ok(count) => drop(self.input.drain(..count.min(self.input.len()))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // It does not read any more.
            Err(_) => {
                self.input.clear();
                self.stdin = None;
            }
        }
        self.finish_input();
    }

    fn finish_input(&mut self) {
        if self.input_over && self.input.is_empty() && self.terminal.is_none() {
            self.stdin = None;
        }
    }

    fn read_client(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0_u8; PIECE];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.frames.feed(buffer.get(..count).unwrap_or_default());
        self.take_frames()
    }

    fn take_frames(&mut self) -> std::io::Result<()> {
        let nonsense = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        while let Some(frame) = self.frames.next_frame().map_err(nonsense)? {
            match frame {
                ToCommand::Stdin(bytes) if self.stdin.is_some() => self.input.extend(bytes),
                ToCommand::Stdin(_) => {}
                ToCommand::StdinEof => {
                    self.input_over = true;
                    self.finish_input();
                }
                ToCommand::Resize { rows, columns } => {
                    if let Some(terminal) = &self.terminal {
                        pty::set_size(terminal.as_fd(), Size { rows, columns })?;
                    }
                }
                ToCommand::Signal(signal) => {
                    // It may have ended by itself.
                    let _ = pidfd::send_signal(self.process.as_fd(), signal.into());
                }
            }
        }
        Ok(())
    }

    fn read_end(&mut self) -> std::io::Result<()> {
        let mut bytes = [0_u8; 5];
        let count = rustix::io::read(&self.end, &mut bytes)?;
        // berth has gone without a word: the process ends with it, as far as we know.
        self.exit =
            Some(if count == bytes.len() { decode_exit(bytes) } else { WireExit::Code(255) });
        Ok(())
    }

    fn send(&self, frame: &FromCommand) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut writer = &self.stream;
        writer.write_all(&bytes)
    }
}

#[derive(Debug, Default)]
struct Ready {
    outputs: Vec<bool>,
    client: bool,
    end: bool,
    stdin: bool,
}
