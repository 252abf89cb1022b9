//! Cutting a stream of bytes into messages, and holding those that wait to be sent.
//!
//! What must always hold: whichever way the bytes are split on their journey, the same
//! messages come out and the same error ends them; an [`Inbox`] keeps at most one
//! unfinished message of bounded size beside what it was fed last, an [`Outbox`] at most
//! its limit. After an error nothing more comes out: the peer is to be cut off.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a peer is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameError {
    /// A message of more than this many bytes.
    TooLong {
        /// The limit it broke.
        limit: usize,
    },
    /// A NUL with nothing before it.
    Empty,
    /// The peer hung up in the middle of a message.
    HalfSent,
    /// Not a Varlink message: the reason.
    NotAMessage(String),
    /// A frame of a kind nobody has heard of (after an upgrade).
    UnknownKind(u8),
    /// A frame whose payload does not have the length or the values of its kind.
    BadPayload(u8),
    /// The peer does not read: so many bytes would wait for it.
    Overflow {
        /// The limit it broke.
        limit: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "a message of more than {limit} bytes"),
            Self::Empty => f.write_str("an empty message"),
            Self::HalfSent => f.write_str("a message that ends in the middle"),
            Self::NotAMessage(reason) => write!(f, "not a message: {reason}"),
            Self::UnknownKind(kind) => write!(f, "a frame of the unknown kind {kind}"),
            Self::BadPayload(kind) => write!(f, "a malformed frame of kind {kind}"),
            Self::Overflow { limit } => {
                write!(f, "more than {limit} bytes wait and nobody reads them")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Bytes in, messages out. Feed it what was read, then take messages until there is none.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inbox {
    buffer: Vec<u8>,
    /// Start of what was not yet handed out.
    start: usize,
    /// Up to here there is known to be no NUL.
    scanned: usize,
    limit: usize,
    broken: Option<FrameError>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new(super::MESSAGE_MAX)
    }
}

impl Inbox {
    /// For messages of at most `limit` bytes, the NUL included.
    pub const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, limit, broken: None }
    }

    /// Takes what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete message, without its NUL; `None`: more bytes are needed.
    ///
    /// # Errors
    /// `TooLong` or `Empty`, and then the same for ever.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let nul =
            fresh.iter().position(|byte| *byte == 0).map(|at| self.scanned.saturating_add(at));
        let end = nul.unwrap_or(self.buffer.len());
        // A message of the full length is one byte shorter without its NUL.
        if end.saturating_sub(self.start) >= self.limit {
            return Err(self.break_down(FrameError::TooLong { limit: self.limit }));
        }
        let Some(end) = nul else {
            self.scanned = self.buffer.len();
            return Ok(None);
        };
        let message = self.buffer.get(self.start..end).unwrap_or_default().to_vec();
        if message.is_empty() {
            return Err(self.break_down(FrameError::Empty));
        }
        self.start = end.saturating_add(1);
        self.scanned = self.start;
        Ok(Some(message))
    }

    /// The peer has hung up.
    ///
    /// # Errors
    /// `HalfSent` when a message was not finished, or the error before it.
    pub fn end(&self) -> Result<(), FrameError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None if self.start < self.buffer.len() => Err(FrameError::HalfSent),
            None => Ok(()),
        }
    }

    /// What was fed after the last message: after an upgrade, the first frames.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    fn break_down(&mut self, error: FrameError) -> FrameError {
        self.buffer = Vec::new();
        self.start = 0;
        self.scanned = 0;
        self.broken = Some(error.clone());
        error
    }
}

/// Messages that wait until the peer reads. Bounded: who does not read is cut off.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outbox {
    buffer: Vec<u8>,
    sent: usize,
    limit: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(super::OUTBOX_MAX)
    }
}

impl Outbox {
    /// For at most `limit` bytes at a time.
    pub const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), sent: 0, limit }
    }

    /// Adds a message, whole or not at all.
    ///
    /// # Errors
    /// `Overflow` when it does not fit: cut the client off.
    pub fn push(&mut self, message: &[u8]) -> Result<(), FrameError> {
        if self.len().saturating_add(message.len()) > self.limit {
            return Err(FrameError::Overflow { limit: self.limit });
        }
        self.buffer.drain(..self.sent);
        self.sent = 0;
        self.buffer.extend_from_slice(message);
        Ok(())
    }

    /// What is to be written next; empty when there is nothing.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of [`Self::pending`] were written.
    pub fn advance(&mut self, written: usize) {
        self.sent = self.sent.saturating_add(written).min(self.buffer.len());
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(self.sent)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one more message of any size is sure to fit: make the next page of a
    /// streamed reply only then, and a client that reads slowly is not cut off for it.
    pub fn has_room(&self) -> bool {
        self.limit.saturating_sub(self.len()) >= super::MESSAGE_MAX
    }
}
