//! A connection to the supervisor: calls out, replies in.
//!
//! What must always hold: nothing that comes over the socket can do more than end in a
//! [`Failure`]; every read has a deadline unless waiting is the point of the call.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, setsockopt, socket};
use nix::sys::time::TimeVal;

use super::failure::Failure;
use crate::protocol::message::ReplyError;
use crate::protocol::{Inbox, MESSAGE_MAX, Method, Mode, Reply, Request, SOCKET_NAME};

/// How long the supervisor may take for an answer it need not wait for. It never blocks,
/// so this is generous also on a machine that swaps.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long it may take for what a helper child has to do first (reading unit files).
pub const HELPER_ANSWER: Duration = Duration::from_secs(60);

/// How long to wait for replies.
#[derive(Debug)]
pub struct Patience {
    /// For the first one; for ever if there is no limit.
    first: Option<Duration>,
    /// For each one after it.
    next: Option<Duration>,
    /// Ctrl-C gives [`Failure::Interrupted`] with this text, instead of ending the process.
    interrupt: Option<(SignalFd, String)>,
}

impl Patience {
    /// So long, for each reply.
    pub const fn at_most(limit: Duration) -> Self {
        Self { first: Some(limit), next: Some(limit), interrupt: None }
    }

    /// As long as it takes.
    pub const fn forever() -> Self {
        Self { first: None, next: None, interrupt: None }
    }

    /// As long as it takes, but Ctrl-C is caught, to say `text`.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn until_interrupt(text: String) -> Result<Self, Failure> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGINT);
        mask.thread_block().map_err(io_failure)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(io_failure)?;
        Ok(Self { interrupt: Some((signals, text)), ..Self::forever() })
    }

    /// The same, but the first reply must come within this time.
    #[must_use]
    pub fn first_within(self, limit: Duration) -> Self {
        Self { first: Some(limit), ..self }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    inbox: Inbox,
}

impl Client {
    /// Connects to the supervisor whose runtime directory this is.
    ///
    /// # Errors
    /// [`Failure::NoSupervisor`].
    pub fn connect(runtime_dir: &Path) -> Result<Self, Failure> {
        let path = runtime_dir.join(SOCKET_NAME);
        match open(&path) {
            Ok(stream) => Ok(Self { stream, inbox: Inbox::default() }),
            Err(errno) => Err(Failure::NoSupervisor { socket: path, reason: errno.into() }),
        }
    }

    /// One call, one reply.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call<M: Method>(
        &mut self,
        parameters: &M,
        patience: &Patience,
    ) -> Result<M::Reply, Failure> {
        self.send(parameters, Mode::Single)?;
        self.reply::<M>(patience, patience.first).map(|reply| reply.parameters)
    }

    /// One call, as many replies as there are, each handed to `each`.
    ///
    /// # Errors
    /// See [`Failure`], and what `each` returns.
    pub fn stream<M: Method>(
        &mut self,
        parameters: &M,
        patience: &Patience,
        mut each: impl FnMut(M::Reply) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.send(parameters, Mode::More)?;
        let mut limit = patience.first;
        loop {
            let reply = self.reply::<M>(patience, limit)?;
            each(reply.parameters)?;
            if !reply.continues {
                return Ok(());
            }
            limit = patience.next;
        }
    }

    /// A call that has replies until the connection is closed: see [`Self::next_reply`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn begin<M: Method>(&mut self, parameters: &M) -> Result<(), Failure> {
        self.send(parameters, Mode::More)
    }

    /// The next reply of the call that was begun, which comes within this time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn next_reply<M: Method>(&mut self, limit: Duration) -> Result<M::Reply, Failure> {
        let patience = Patience::at_most(limit);
        self.reply::<M>(&patience, Some(limit)).map(|reply| reply.parameters)
    }

    /// Whether more was read than was looked at.
    pub fn has_more(&self) -> bool {
        self.inbox.end().is_err()
    }

    /// To wait for a reply beside other things.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// A call after which the connection speaks something else: returns it, and what was
    /// already read of that.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn upgrade<M: Method>(mut self, parameters: &M) -> Result<(UnixStream, Vec<u8>), Failure> {
        self.send(parameters, Mode::Upgrade)?;
        self.reply::<M>(&Patience::at_most(ANSWER), Some(ANSWER))?;
        Ok((self.stream, self.inbox.into_rest()))
    }

    /// A call whose parameters are followed by bytes once they are asked for.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn hand_over<M: Method>(
        &mut self,
        parameters: &M,
        bytes: &[u8],
    ) -> Result<M::Reply, Failure> {
        let patience = Patience::at_most(HELPER_ANSWER);
        self.send(parameters, Mode::Upgrade)?;
        self.reply::<M>(&patience, Some(HELPER_ANSWER))?;
        match self.stream.write_all(bytes) {
            // It has hung up, perhaps after it said why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            result => result.map_err(Failure::Io)?,
        }
        // One that is gone has no other direction to end.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        self.reply::<M>(&patience, Some(HELPER_ANSWER)).map(|reply| reply.parameters)
    }

    fn send<M: Method>(&mut self, parameters: &M, mode: Mode) -> Result<(), Failure> {
        let message = Request::encode(parameters, mode).map_err(|_| Failure::RequestTooLong)?;
        // A server that has hung up may have said why before: the reply tells.
        match self.stream.write_all(&message) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(Failure::Silence(ANSWER))
            }
            result => result.map_err(Failure::Io),
        }
    }

    fn reply<M: Method>(
        &mut self,
        patience: &Patience,
        limit: Option<Duration>,
    ) -> Result<Reply<M::Reply>, Failure> {
        let message = self.receive(patience, limit)?;
        Reply::parse(&message).map_err(|error| match error {
            ReplyError::Answered(error) => Failure::Answered(error),
            ReplyError::Garbage(error) => Failure::Garbage(error),
        })
    }

    fn receive(
        &mut self,
        patience: &Patience,
        limit: Option<Duration>,
    ) -> Result<Vec<u8>, Failure> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut chunk = vec![0; MESSAGE_MAX];
        loop {
            if let Some(message) = self.inbox.next_message().map_err(Failure::Garbage)? {
                return Ok(message);
            }
            if !self.wait(patience, deadline)? {
                return Err(Failure::Silence(limit.unwrap_or_default()));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.inbox.end().map_or_else(Failure::Garbage, hung_up)),
                Ok(count) => self.inbox.feed(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // The kernel says so when the peer closed with our request unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(Failure::HungUp);
                }
                Err(error) => return Err(Failure::Io(error)),
            }
        }
    }

    /// Waits until there is something to read; false: it has become too late.
    fn wait(&self, patience: &Patience, deadline: Option<Instant>) -> Result<bool, Failure> {
        loop {
            let mut fds = vec![PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            if let Some((signals, _)) = &patience.interrupt {
                fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, timeout(deadline)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(io_failure(errno)),
            }
            let ready = |fd: Option<&PollFd>| fd.and_then(PollFd::any).unwrap_or(false);
            if ready(fds.first()) {
                return Ok(true);
            }
            match &patience.interrupt {
                Some((_, text)) if ready(fds.get(1)) => {
                    return Err(Failure::Interrupted(text.clone()));
                }
                _ if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(false),
                _ => {}
            }
        }
    }
}

fn hung_up((): ()) -> Failure {
    Failure::HungUp
}

/// What `poll` wants to hear of a deadline; rounded up, so that it does not spin.
fn timeout(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |at| {
        let left = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    })
}

/// Connects, also with a deadline: a listener whose queue is full makes connect(2) wait.
fn open(path: &PathBuf) -> Result<UnixStream, Errno> {
    let address = UnixAddr::new(path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(ANSWER.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&fd, SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(UnixStream::from(fd))
}

/// An errno as a failure.
pub(super) fn io_failure(errno: Errno) -> Failure {
    Failure::Io(errno.into())
}
