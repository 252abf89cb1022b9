//! Binary frames of `Exec` after its reply: kind, length, payload.
//!
//! What must always hold: a frame is at most [`FRAME_MAX`] bytes of payload; longer data
//! is written as several frames; a peer that breaks a rule gets a [`FrameError`] and
//! nothing it sent after that is looked at.

use std::marker::PhantomData;

use super::FRAME_MAX;
use super::frame::FrameError;
use super::types::Exit;

/// Kind and length.
const HEADER: usize = 5;

/// From the client to the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToCommand {
    /// Input.
    Stdin(Vec<u8>),
    /// No more input.
    StdinEof,
    /// The terminal has a new size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters a line.
        columns: u16,
    },
    /// Send this signal.
    Signal(u8),
}

/// From the command to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromCommand {
    /// Output (with a terminal: all of it).
    Stdout(Vec<u8>),
    /// Error output.
    Stderr(Vec<u8>),
    /// It has ended; the last frame.
    Exit(Exit),
}

/// One direction's frames.
pub trait Frame: Sized {
    /// Appends the frame; more than one for data that does not fit.
    fn encode(&self, into: &mut Vec<u8>);

    /// Reads a payload.
    ///
    /// # Errors
    /// `UnknownKind` or `BadPayload`.
    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError>;
}

impl Frame for ToCommand {
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Stdin(data) => put_data(into, 0, data),
            Self::StdinEof => put(into, 1, &[]),
            Self::Resize { rows, columns } => {
                let [a, b] = rows.to_le_bytes();
                let [c, d] = columns.to_le_bytes();
                put(into, 2, &[a, b, c, d]);
            }
            Self::Signal(number) => put(into, 3, &[*number]),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        match (kind, payload) {
            (0, data) => Ok(Self::Stdin(data.to_vec())),
            (1, []) => Ok(Self::StdinEof),
            (2, [a, b, c, d]) => Ok(Self::Resize {
                rows: u16::from_le_bytes([*a, *b]),
                columns: u16::from_le_bytes([*c, *d]),
            }),
            (3, [number @ 1..=64]) => Ok(Self::Signal(*number)),
            (1..=3, _) => Err(FrameError::BadPayload(kind)),
            _ => Err(FrameError::UnknownKind(kind)),
        }
    }
}

impl Frame for FromCommand {
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Stdout(data) => put_data(into, 16, data),
            Self::Stderr(data) => put_data(into, 17, data),
            Self::Exit(exit) => {
                let (tag, number) = match exit {
                    Exit::Code(code) => (0, code),
                    Exit::Signal(signal) => (1, signal),
                };
                let [a, b, c, d] = number.to_le_bytes();
                put(into, 18, &[tag, a, b, c, d]);
            }
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        match (kind, payload) {
            (16, data) => Ok(Self::Stdout(data.to_vec())),
            (17, data) => Ok(Self::Stderr(data.to_vec())),
            (18, [tag @ (0 | 1), number @ ..]) => {
                let number = number.try_into().map_err(|_| FrameError::BadPayload(kind))?;
                let number = i32::from_le_bytes(number);
                Ok(Self::Exit(if *tag == 0 { Exit::Code(number) } else { Exit::Signal(number) }))
            }
            (18, _) => Err(FrameError::BadPayload(kind)),
            _ => Err(FrameError::UnknownKind(kind)),
        }
    }
}

fn put(into: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    into.push(kind);
    // Every caller hands over at most FRAME_MAX bytes.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(payload);
}

/// Data of any length: no frame at all for none.
fn put_data(into: &mut Vec<u8>, kind: u8, data: &[u8]) {
    for chunk in data.chunks(FRAME_MAX) {
        put(into, kind, chunk);
    }
}

/// Bytes in, frames of one direction out. Feed it what was read, then take frames until
/// there is none.
#[derive(Debug)]
pub struct Frames<F> {
    buffer: Vec<u8>,
    start: usize,
    broken: Option<FrameError>,
    direction: PhantomData<F>,
}

impl<F> Default for Frames<F> {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, broken: None, direction: PhantomData }
    }
}

impl<F: Frame> Frames<F> {
    /// Takes what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete frame; `None`: more bytes are needed.
    ///
    /// # Errors
    /// `TooLong`, `UnknownKind` or `BadPayload`, and then the same for ever.
    pub fn next_frame(&mut self) -> Result<Option<F>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.take().inspect_err(|error| {
            self.broken = Some(error.clone());
            self.buffer = Vec::new();
            self.start = 0;
        })
    }

    fn take(&mut self) -> Result<Option<F>, FrameError> {
        let bytes = self.buffer.get(self.start..).unwrap_or_default();
        let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(FrameError::TooLong { limit: FRAME_MAX });
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = F::decode(kind, payload)?;
        self.start = self.start.saturating_add(HEADER).saturating_add(length);
        Ok(Some(frame))
    }

    /// The peer has hung up.
    ///
    /// # Errors
    /// `HalfSent` when a frame was not finished, or the error before it.
    pub fn end(&self) -> Result<(), FrameError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None if self.start < self.buffer.len() => Err(FrameError::HalfSent),
            None => Ok(()),
        }
    }
}
