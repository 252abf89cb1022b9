//! `berthctl exec`: a command inside a running unit, with this terminal.
//!
//! What must always hold: one poll loop moves input, output, window sizes and signals;
//! input is read only as fast as the supervisor takes it; the terminal is restored before
//! anything is said.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Context;
use super::client::io_failure;
use super::failure::Failure;
use super::terminal::{self, Raw};
use crate::protocol::exec::{Frame as _, Frames, FromCommand, ToCommand};
use crate::protocol::method::Exec;
use crate::protocol::types::Exit;
use crate::protocol::{FRAME_MAX, OUTBOX_MAX, Outbox};

/// Signals handed on to the command (the last one as a new window size).
const SIGNALS: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// What is to be run.
#[derive(Debug)]
pub struct Wish {
    /// Where.
    pub unit: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// As whom.
    pub user: Option<String>,
    /// Where in its tree.
    pub directory: Option<String>,
    /// With a terminal.
    pub tty: bool,
    /// With our input.
    pub interactive: bool,
}

/// Runs the command; its exit code is ours, 128 and the number for a signal.
///
/// # Errors
/// See [`Failure`]; an exit code that is not 0 is [`Failure::Said`].
pub fn run(context: &mut Context, wish: Wish) -> Result<(), Failure> {
    let size = if wish.tty { terminal::size() } else { None };
    let call = Exec {
        unit: wish.unit,
        command: wish.command,
        user: wish.user,
        directory: wish.directory,
        tty: wish.tty,
        stdin: wish.interactive,
        rows: size.map(|(rows, _)| rows),
        columns: size.map(|(_, columns)| columns),
        term: if wish.tty { std::env::var("TERM").ok() } else { None },
    };
    // Before the call: a window that changes meanwhile is not missed.
    let signals = signals()?;
    let (stream, first) = context.connect()?.upgrade(&call)?;
    let raw = if call.tty && call.stdin { Raw::enter().map_err(Failure::Io)? } else { None };
    let mut session = Session::new(context, stream, signals, &call)?;
    let end = session.run(&first);
    drop(raw);
    match end? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(Failure::Said(u8::try_from(code & 0xff).unwrap_or(1))),
        Exit::Signal(number) => Err(Failure::Said(by_signal(number))),
    }
}

/// What a shell makes of a process that was killed.
fn by_signal(number: i32) -> u8 {
    u8::try_from(number).map_or(u8::MAX, |number| number.saturating_add(128))
}

fn signals() -> Result<SignalFd, Failure> {
    let mask: SigSet = SIGNALS.into_iter().collect();
    mask.thread_block().map_err(io_failure)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&mask, flags).map_err(io_failure)
}

/// The connection after the upgrade.
struct Session<'a, 'b> {
    context: &'a mut Context<'b>,
    stream: UnixStream,
    signals: SignalFd,
    inbox: Frames<FromCommand>,
    outbox: Outbox,
    tty: bool,
    /// Input is still to be read.
    input: bool,
    /// A signal to end that was passed on; a second one is for us.
    asked_to_end: bool,
}

impl<'a, 'b> Session<'a, 'b> {
    fn new(
        context: &'a mut Context<'b>,
        stream: UnixStream,
        signals: SignalFd,
        call: &Exec,
    ) -> Result<Self, Failure> {
        stream.set_nonblocking(true).map_err(Failure::Io)?;
        Ok(Self {
            context,
            stream,
            signals,
            inbox: Frames::default(),
            outbox: Outbox::new(OUTBOX_MAX),
            tty: call.tty,
            input: call.stdin,
            asked_to_end: false,
        })
    }

    fn run(&mut self, first: &[u8]) -> Result<Exit, Failure> {
        self.inbox.feed(first);
        loop {
            if let Some(exit) = self.take_frames()? {
                return Ok(exit);
            }
            let ready = self.wait()?;
            if ready.signal {
                self.pass_signals()?;
            }
            if ready.input {
                self.read_input()?;
            }
            if ready.writable {
                self.send()?;
            }
            if ready.readable {
                self.receive()?;
            }
        }
    }

    fn wait(&self) -> Result<Ready, Failure> {
        // Room for the largest frame: only then is input read.
        let may_read = self.input && self.outbox.len() < FRAME_MAX;
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        let stdin = std::io::stdin();
        let mut fds = vec![
            PollFd::new(self.stream.as_fd(), events),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if may_read {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(io_failure(errno)),
        }
        let found = |index: usize| {
            fds.get(index).and_then(PollFd::revents).unwrap_or_else(PollFlags::empty)
        };
        let socket = found(0);
        Ok(Ready {
            readable: socket
                .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            writable: socket.contains(PollFlags::POLLOUT),
            signal: !found(1).is_empty(),
            input: !found(2).is_empty(),
        })
    }

    /// Writes the command's output where it belongs; the end, if it has come.
    fn take_frames(&mut self) -> Result<Option<Exit>, Failure> {
        while let Some(frame) = self.inbox.next_frame().map_err(Failure::Garbage)? {
            match frame {
                FromCommand::Stdout(data) => {
                    self.context.out.write_all(&data).map_err(Failure::Output)?;
                }
                FromCommand::Stderr(data) => {
                    // In the order in which they came, should both be one terminal.
                    self.context.flush()?;
                    std::io::stderr().write_all(&data).map_err(Failure::Output)?;
                }
                FromCommand::Exit(exit) => return self.context.flush().map(|()| Some(exit)),
            }
        }
        self.context.flush().map(|()| None)
    }

    fn pass_signals(&mut self) -> Result<(), Failure> {
        while let Some(info) = self.signals.read_signal().map_err(io_failure)? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let frame = if number == Signal::SIGWINCH as i32 {
                let size = if self.tty { terminal::size() } else { None };
                size.map(|(rows, columns)| ToCommand::Resize { rows, columns })
            } else if self.tty {
                // Typed signals travel as bytes; this one was meant for us: end. The
                // supervisor hangs up the command's terminal when we are gone.
                return Err(Failure::Said(by_signal(number)));
            } else {
                let ends = [Signal::SIGINT, Signal::SIGTERM].map(|it| it as i32).contains(&number);
                if ends && std::mem::replace(&mut self.asked_to_end, true) {
                    return Err(Failure::Said(by_signal(number)));
                }
                u8::try_from(number).ok().map(ToCommand::Signal)
            };
            if let Some(frame) = frame {
                self.queue(&frame)?;
            }
        }
        Ok(())
    }

    fn read_input(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 16 * 1024];
        match nix::unistd::read(std::io::stdin(), &mut chunk) {
            // A terminal that has been hung up says EIO.
            Ok(0) | Err(Errno::EIO) => {
                self.input = false;
                self.queue(&ToCommand::StdinEof)
            }
            Ok(count) => {
                self.queue(&ToCommand::Stdin(chunk.get(..count).unwrap_or_default().to_vec()))
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(io_failure(errno)),
        }
    }

    fn queue(&mut self, frame: &ToCommand) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.outbox
            .push(&bytes)
            .map_err(|_| Failure::Other("the supervisor does not take what it is sent".to_owned()))
    }

    fn send(&mut self) -> Result<(), Failure> {
        match nix::unistd::write(self.fd(), self.outbox.pending()) {
            Ok(count) => {
                self.outbox.advance(count);
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            // Its end may be read yet: nothing more is sent, the rest is received.
            Err(Errno::EPIPE | Errno::ECONNRESET) => {
                self.input = false;
                self.outbox = Outbox::new(OUTBOX_MAX);
                Ok(())
            }
            Err(errno) => Err(io_failure(errno)),
        }
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut chunk = vec![0; FRAME_MAX];
        match nix::unistd::read(self.fd(), &mut chunk) {
            Ok(0) => Err(self.inbox.end().map_or_else(Failure::Garbage, |()| Failure::HungUp)),
            Ok(count) => {
                self.inbox.feed(chunk.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(Errno::ECONNRESET) => Err(Failure::HungUp),
            Err(errno) => Err(io_failure(errno)),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What poll found.
#[derive(Debug, Default)]
struct Ready {
    readable: bool,
    writable: bool,
    signal: bool,
    input: bool,
}
