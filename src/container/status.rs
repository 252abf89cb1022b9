//! The status channel between a child and the supervisor: one message on failure, one
//! before the program is executed, and sockets on their way. Close-on-exec does the rest:
//! the end after "about to execute" is success.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::express;
use super::pad::Pad;
use super::plan::Plan;
use super::step::{Datagram, Op};
use crate::sys::kept::Kept;
use crate::sys::socket;
use crate::unit::model::Filter;

/// Longest text that comes with a failure, in bytes.
pub const DETAIL_MAX: usize = 512;

const HEADER: usize = 8;

/// Where in a plan a child was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the first step: descriptors, signals.
    Begin,
    /// `Plan::outside`.
    Outside(u16),
    /// Entering the namespaces of the sandbox.
    Enter,
    /// `Plan::sandbox`.
    Sandbox(u16),
    /// `Plan::process`.
    Process(u16),
    /// The unit's own `/dev/null`.
    Null,
    /// One of `Plan::process`, with what `berthctl exec` asked for instead.
    Asked(u16),
    /// The tiny init.
    Init,
    /// `Plan::filter`, or the init's.
    Filter,
    /// The program, with the line that named it (0: none did).
    Execute(u16),
}

impl Place {
    pub(super) fn encode(self) -> (u8, u16) {
        match self {
            Self::Begin => (0, 0),
            Self::Outside(index) => (1, index),
            Self::Enter => (2, 0),
            Self::Sandbox(index) => (3, index),
            Self::Process(index) => (4, index),
            Self::Null => (7, 0),
            Self::Init => (5, 0),
            Self::Filter => (8, 0),
            Self::Execute(line) => (6, line),
            Self::Asked(index) => (9, index),
        }
    }

    fn decode(kind: u8, index: u16) -> Option<Self> {
        Some(match kind {
            0 => Self::Begin,
            1 => Self::Outside(index),
            2 => Self::Enter,
            3 => Self::Sandbox(index),
            4 => Self::Process(index),
            7 => Self::Null,
            5 => Self::Init,
            8 => Self::Filter,
            6 => Self::Execute(index),
            9 => Self::Asked(index),
            _ => return None,
        })
    }
}

/// Why a step failed.
#[derive(Debug)]
pub struct Failure {
    /// errno; 0 when the text says it all.
    pub errno: i32,
    /// For people; may be empty.
    pub detail: String,
}

impl Failure {
    /// One that is not an answer of the kernel.
    pub fn text(detail: impl Into<String>) -> Self {
        Self { errno: 0, detail: detail.into() }
    }

    /// The same, with the place where it happened.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        let detail = if self.detail.is_empty() {
            place.to_owned()
        } else {
            format!("{place}: {}", self.detail)
        };
        Self { detail, ..self }
    }

    /// An error with a hint.
    pub fn with(error: &io::Error, detail: impl Into<String>) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(libc::EIO), detail: detail.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { errno, detail: String::new() },
            None => Self::text(error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What a socket that came by the channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// Bound at `/dev/berth-notify` inside.
    Notify,
    /// Bound at `/dev/log` inside.
    Syslog,
    /// The master side of the terminal of `exec -t`.
    Terminal,
}

impl From<Datagram> for SocketKind {
    fn from(datagram: Datagram) -> Self {
        match datagram {
            Datagram::Notify => Self::Notify,
            Datagram::Syslog => Self::Syslog,
        }
    }
}

impl SocketKind {
    fn letter(self) -> u8 {
        match self {
            Self::Notify => b'N',
            Self::Syslog => b'L',
            Self::Terminal => b'T',
        }
    }
}

/// Child: this step failed.
pub fn send_failure(channel: BorrowedFd<'_>, place: Place, failure: &Failure) {
    let (kind, index) = place.encode();
    let mut message = Vec::with_capacity(HEADER);
    message.extend([b'F', kind]);
    message.extend(index.to_le_bytes());
    message.extend(failure.errno.to_le_bytes());
    let text = failure.detail.as_bytes();
    message.extend(text.get(..DETAIL_MAX).unwrap_or(text));
    // If even this fails the supervisor sees the end without a word, which it reports.
    let _ = socket::send(channel, &message, &[]);
}

/// Child: executes its program next.
///
/// # Errors
/// As sendmsg(2).
pub fn send_executing(channel: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(channel, b"X", &[]).map(drop)
}

/// Child: hands over a socket.
///
/// # Errors
/// As sendmsg(2).
pub fn send_socket(
    channel: BorrowedFd<'_>,
    kind: SocketKind,
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    socket::send(channel, &[kind.letter()], &[fd]).map(drop)
}

/// Child: there will be no user namespace in this run, and why.
///
/// # Errors
/// As sendmsg(2).
pub fn send_without_users(channel: BorrowedFd<'_>, why: &str) -> io::Result<()> {
    let mut message = vec![b'H'];
    message.extend(why.as_bytes().iter().take(DETAIL_MAX));
    socket::send(channel, &message, &[]).map(drop)
}

/// Child: this the unit does not get on this host, a text as those of limits.
///
/// # Errors
/// As sendmsg(2).
pub fn send_lack(channel: BorrowedFd<'_>, what: &str) -> io::Result<()> {
    let mut message = vec![b'O'];
    message.extend(what.as_bytes().iter().take(DETAIL_MAX));
    socket::send(channel, &message, &[]).map(drop)
}

/// Child: its network namespace is there.
///
/// # Errors
/// As sendmsg(2).
pub fn send_has_network(channel: BorrowedFd<'_>) -> io::Result<()> {
    socket::send(channel, b"W", &[]).map(drop)
}

/// Child: waits for the supervisor's leave to go on, and takes what comes with it.
///
/// # Errors
/// As recvmsg(2); `UnexpectedEof` when the supervisor has gone.
pub fn await_leave(channel: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        crate::sys::fd::readable_within(channel, -1)?;
        let Some(mut message) = socket::receive(channel, &mut [0; 1])? else { continue };
        if message.length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(message.fds.pop());
    }
}

/// What the supervisor reads from the channel.
#[derive(Debug)]
pub enum Status {
    /// Nothing now; ask again when the channel is readable.
    Pending,
    /// The program (or the tiny init) has been executed. Final.
    Executed,
    /// It was not, and the child has ended or is about to. One phrase with the step, the
    /// errno and the line, to follow "cannot start web: ". Final.
    Failed(String),
    /// Its network namespace is there to be filled; ask again.
    HasNetwork,
    /// The unit goes on without a user namespace, and why; ask again.
    WithoutUsers(String),
    /// Something that the unit does not get on this host; ask again.
    Lacks(String),
    /// A socket came; ask again.
    Socket(SocketKind, OwnedFd),
}

/// The supervisor's end of a status channel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Channel {
    #[serde(with = "crate::sys::kept")]
    fd: OwnedFd,
    executing: bool,
    /// Where its child may still have to take the other end from. `None` once the
    /// supervisor has executed another program: that does not hold it.
    #[serde(skip)]
    pad: Option<Rc<RefCell<Pad>>>,
}

impl Kept for Channel {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Channel {
    pub(super) fn new(fd: OwnedFd, pad: Rc<RefCell<Pad>>) -> Self {
        Self { fd, executing: false, pad: Some(pad) }
    }

    /// Whether it has said that it executes its program next. One that has ended after that,
    /// and sent no failure, has executed it: that the channel was closed may be hidden for
    /// a moment by a child that was made meanwhile and holds a copy of its other end.
    pub fn is_executing(&self) -> bool {
        self.executing
    }

    /// Gives the child leave to go on after [`await_leave`].
    ///
    /// # Errors
    /// As sendmsg(2): it has ended.
    pub fn give_leave(&self, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let with: Vec<BorrowedFd<'_>> = with.into_iter().collect();
        socket::send(self.fd.as_fd(), b"G", &with).map(drop)
    }

    /// Reads the next message, without waiting.
    pub fn read(&mut self, plan: &Plan) -> Status {
        // The supervisor's own hold on the child's end would hide that it was closed.
        if let Some(pad) = &self.pad {
            pad.borrow_mut().collect();
        }
        let mut buffer = [0; HEADER + DETAIL_MAX];
        let mut message = match socket::receive(self.fd.as_fd(), &mut buffer) {
            Ok(Some(message)) => message,
            Ok(None) => return Status::Pending,
            Err(error) => return Status::Failed(format!("the status channel failed: {error}")),
        };
        let bytes = buffer.get(..message.length).unwrap_or_default();
        match (bytes.first(), message.fds.pop()) {
            (None, _) if self.executing => Status::Executed,
            (None, _) => Status::Failed("killed before its program was executed".to_owned()),
            (Some(b'X'), _) if !self.executing => {
                self.executing = true;
                self.read(plan)
            }
            (Some(b'N'), Some(fd)) => Status::Socket(SocketKind::Notify, fd),
            (Some(b'L'), Some(fd)) => Status::Socket(SocketKind::Syslog, fd),
            (Some(b'T'), Some(fd)) => Status::Socket(SocketKind::Terminal, fd),
            (Some(b'W'), _) => Status::HasNetwork,
            (Some(b'H'), _) => {
                let why = bytes.get(1..).unwrap_or_default();
                Status::WithoutUsers(String::from_utf8_lossy(why).into_owned())
            }
            (Some(b'O'), _) => {
                let what = bytes.get(1..).unwrap_or_default();
                Status::Lacks(String::from_utf8_lossy(what).into_owned())
            }
            (Some(b'F'), _) => Status::Failed(explain(bytes, plan)),
            (Some(b'U'), _) => Status::Failed(explain_unusable(bytes, plan)),
            _ => Status::Failed("the status channel brought nonsense".to_owned()),
        }
    }
}

fn explain(bytes: &[u8], plan: &Plan) -> String {
    let Some((&[_, kind, low, high, a, b, c, d], detail)) = bytes.split_first_chunk::<HEADER>()
    else {
        return "the status channel brought half a message".to_owned();
    };
    let errno = i32::from_le_bytes([a, b, c, d]);
    let place = Place::decode(kind, u16::from_le_bytes([low, high]));
    let (what, line) = place.map_or_else(|| ("set it up".to_owned(), 0), |p| describe(p, plan));
    sentence(plan, &what, line, errno, &String::from_utf8_lossy(detail))
}

/// The same for what [`express`] has made.
fn explain_unusable(bytes: &[u8], plan: &Plan) -> String {
    let Some((&[_, low, high, _, a, b, c, d], head)) = bytes.split_first_chunk::<HEADER>() else {
        return "the status channel brought half a message".to_owned();
    };
    let errno = i32::from_le_bytes([a, b, c, d]);
    let failure = express::unusable(plan, u16::from_le_bytes([low, high]), errno, head);
    sentence(plan, "cannot execute", plan.command.line, failure.errno, &failure.detail)
}

fn describe(place: Place, plan: &Plan) -> (String, u32) {
    let nothing = || ("set it up".to_owned(), 0);
    let step = |steps: &[super::step::Step], index: u16| {
        let step = steps.get(usize::from(index));
        step.map_or_else(nothing, |s| (s.op.to_string(), s.line))
    };
    match place {
        Place::Begin => ("prepare the process".to_owned(), 0),
        Place::Outside(index) => step(&plan.outside, index),
        Place::Enter => ("enter the unit's namespaces".to_owned(), 0),
        Place::Sandbox(index) => step(&plan.sandbox, index),
        Place::Process(index) => step(&plan.process, index),
        Place::Asked(index) => {
            let op = plan.process.get(usize::from(index)).map(|step| &step.op);
            let what = match op {
                Some(Op::User(_)) => "become the user that was asked for",
                _ => "enter the working directory that was asked for",
            };
            (what.to_owned(), 0)
        }
        Place::Null => ("open /dev/null".to_owned(), 0),
        Place::Init => ("execute the init".to_owned(), 0),
        Place::Filter => plan.filter.as_ref().map_or_else(nothing, |at| {
            let text = match &at.value {
                Filter::Default => "filter its system calls by the default profile".to_owned(),
                Filter::Profile { path, .. } => format!("filter its system calls by {path}"),
            };
            (text, at.line)
        }),
        Place::Execute(line) => ("cannot execute".to_owned(), u32::from(line)),
    }
}

/// `No such file or directory (ENOENT)`.
pub fn errno_text(errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    format!("{} ({errno:?})", errno.desc())
}

/// `mount volume db on /var/lib/mysql: No such file or directory (ENOENT) at web.toml:12`.
pub fn sentence(plan: &Plan, what: &str, line: u32, errno: i32, detail: &str) -> String {
    let mut text = what.to_owned();
    if errno != 0 {
        text = format!("{text}: {}", errno_text(errno));
    }
    if !detail.is_empty() {
        // What cannot be executed is named by the child: it looked for it.
        text.push_str(if what.starts_with("cannot") { " " } else { ": " });
        text.push_str(detail);
    }
    if line != 0 {
        text = format!("{text} at {}:{line}", plan.file);
    }
    text
}
