//! The wire between berth and its logger: a `SOCK_SEQPACKET` pair, one message a packet.
//!
//! Both ends are non-blocking and close-on-exec. A message is postcard-encoded, at most
//! [`MAX_MESSAGE`] bytes, and carries at most one descriptor. Because packets keep their
//! borders there is no framing and no half message: a packet that does not decode is an
//! error of the other side, never something to wait for.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::Stream;
use crate::sys::kept::Kept;
use crate::unit::model;

/// Longest message in bytes. A unit's name has 64, so a watched expression may have
/// nearly all of it.
pub const MAX_MESSAGE: usize = 4096;

/// Orders to the logger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLogger {
    /// Own this stream from now on; the descriptor comes with the message: the read end
    /// of a pipe, or for [`Stream::Syslog`] a datagram socket.
    Attach {
        /// Names the stream in both directions; never used twice on one channel, and
        /// below [`super::logger::FIRST_RESERVED_TOKEN`].
        token: u64,
        /// Whose output it is; names the directory of the files.
        unit: String,
        /// Which run of it.
        run: u64,
        /// Which of its streams.
        stream: Stream,
        /// Where to write, and how much to keep. The newest settings of a unit count
        /// for all its streams.
        settings: model::Log,
        /// Report the first line that matches (regex-lite syntax).
        watch: Option<String>,
        /// Whether an earlier logger had this stream (and died): a line that it left
        /// open is then continued instead of closed.
        again: bool,
    },
    /// Nobody waits for the match any more.
    Unwatch {
        /// Which stream.
        token: u64,
    },
    /// The run is over, so nothing more is coming on this stream, though it may not end by
    /// itself: a datagram socket never does, and a pipe does not while somebody outside
    /// holds the writing end. Write what is there, then answer `Closed`.
    Detach {
        /// Which stream.
        token: u64,
    },
    /// Hold this descriptor until it is detached, and do nothing with it: berth may be
    /// killed, and the next one asks for it.
    Keep {
        /// Names it, as a stream.
        token: u64,
    },
    /// berth lets go: exit when every pipe has ended. The end of the channel means the
    /// same.
    Finish,
    /// Exit at once, with every chunk that was taken written: another logger has the same
    /// streams and goes on with the next.
    Retire,
}

/// Reports of the logger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromLogger {
    /// The stream has ended and everything is written; berth drops its duplicate.
    Closed {
        /// Which stream.
        token: u64,
    },
    /// A line matched `watch`; said once.
    Matched {
        /// Which stream.
        token: u64,
    },
    /// Something keeps a unit's output from being written; said once until it works
    /// again. One sentence.
    Trouble {
        /// Whose output.
        unit: String,
        /// Why.
        text: String,
    },
}

/// Why a message was not sent.
#[derive(Debug)]
pub enum SendError {
    /// The other side does not read fast enough; keep the message and try again when
    /// the channel is writable.
    Full,
    /// The other side is gone.
    Gone,
    /// More than [`MAX_MESSAGE`] bytes: the watched expression is too long.
    TooLong,
    /// The kernel refused.
    Io(io::Error),
}

/// What `receive` found.
#[derive(Debug)]
pub enum Received<M> {
    /// A message, with the descriptor that came along.
    Message(M, Option<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// Nothing ever again: the other side is gone.
    Closed,
}

/// One end: sends `Out`, receives `In`.
#[derive(Debug)]
pub struct Channel<Out, In> {
    socket: OwnedFd,
    types: PhantomData<fn(Out) -> In>,
}

impl<Out, In> Kept for Channel<Out, In> {
    fn keep<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.socket.keep(serializer)
    }

    fn resume<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { socket: OwnedFd::resume(deserializer)?, types: PhantomData })
    }
}

impl<Out, In> Channel<Out, In> {
    /// A connected pair; both ends non-blocking and close-on-exec.
    ///
    /// # Errors
    /// socketpair(2): too many open files.
    pub fn pair() -> io::Result<(Channel<Out, In>, Channel<In, Out>)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Channel::from(ours), Channel::from(theirs)))
    }
}

impl<Out, In> From<OwnedFd> for Channel<Out, In> {
    /// An end that was made by [`Channel::pair`] and handed on as a descriptor.
    fn from(socket: OwnedFd) -> Self {
        Self { socket, types: PhantomData }
    }
}

impl<Out, In> From<Channel<Out, In>> for OwnedFd {
    fn from(channel: Channel<Out, In>) -> Self {
        channel.socket
    }
}

impl<Out, In> AsFd for Channel<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    /// Sends a message and, with it, a duplicate of `descriptor`. Never blocks.
    ///
    /// # Errors
    /// See [`SendError`]; after any of them nothing was sent.
    pub fn send(&self, message: &Out, descriptor: Option<BorrowedFd<'_>>) -> Result<(), SendError> {
        let mut bytes = [0_u8; MAX_MESSAGE];
        let encoded = postcard::to_slice(message, &mut bytes).map_err(|_| SendError::TooLong)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            // The space is made for exactly one, so it always fits.
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let parts = [IoSlice::new(encoded)];
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &parts, &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => {
                    return Err(SendError::Full);
                }
                Err(
                    rustix::io::Errno::PIPE
                    | rustix::io::Errno::CONNRESET
                    | rustix::io::Errno::CONNREFUSED
                    | rustix::io::Errno::NOTCONN,
                ) => return Err(SendError::Gone),
                Err(errno) => return Err(SendError::Io(errno.into())),
            }
        }
    }

    /// Takes the next message, if there is one. Never blocks.
    ///
    /// # Errors
    /// `InvalidData` for a packet that is too long or does not decode, `Other` when this
    /// process has no descriptor left to take the one that came along; else recvmsg(2).
    pub fn receive(&self) -> io::Result<Received<In>> {
        let mut bytes = [0_u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut reset = false;
        let result = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
                // Told once, when the other side has gone without reading all it was sent,
                // and before what it has said itself: that is still there.
                Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
                Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Closed),
                Err(errno) => return Err(errno.into()),
                Ok(result) => break result,
            }
        };
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last();
            }
        }
        if result.bytes == 0 {
            return Ok(Received::Closed);
        }
        if result.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        if result.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a descriptor was lost: too many open files"));
        }
        let message = bytes
            .get(..result.bytes)
            .and_then(|bytes| postcard::from_bytes(bytes).ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "message not understood"))?;
        Ok(Received::Message(message, descriptor))
    }
}
