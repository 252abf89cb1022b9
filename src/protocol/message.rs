//! The envelopes around calls and replies, and lists that are longer than a message.
//!
//! What must always hold: a request that is not a Varlink message is a
//! [`Rejection::CutOff`], anything else gets an answer; no message longer than
//! [`MESSAGE_MAX`] is ever made.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Error;
use super::frame::FrameError;
use super::method::{Call, Method};
use super::{MESSAGE_MAX, PAGE_MAX};

/// How a call wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// By one reply.
    Single,
    /// By as many replies as there are.
    More,
    /// Not at all, not even by an error.
    Oneway,
    /// By one reply, after which the connection speaks something else.
    Upgrade,
}

/// A call as it came over the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is called.
    pub call: Call,
    /// How it is to be answered.
    pub mode: Mode,
}

/// What to do with a message that is no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// It was no Varlink message: close the connection.
    CutOff(FrameError),
    /// It was, but the call cannot be made: send this and go on.
    Answer(Error),
    /// The same for a call that wants no answer.
    Ignore,
}

#[derive(Deserialize)]
struct CallEnvelope {
    method: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    more: Option<bool>,
    #[serde(default)]
    oneway: Option<bool>,
    #[serde(default)]
    upgrade: Option<bool>,
}

#[derive(Serialize)]
struct CallEnvelopeRef<'a, M> {
    method: &'a str,
    parameters: &'a M,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oneway: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<bool>,
}

impl Request {
    /// Reads a message (without its NUL) and checks all that can be checked without
    /// knowing the units.
    ///
    /// # Errors
    /// What to do with whoever sent it.
    pub fn parse(message: &[u8]) -> Result<Self, Rejection> {
        let envelope: CallEnvelope = decode(message).map_err(Rejection::CutOff)?;
        let on = |flag: Option<bool>| flag.unwrap_or(false);
        let mode = match (on(envelope.more), on(envelope.oneway), on(envelope.upgrade)) {
            (false, false, false) => Mode::Single,
            (true, false, false) => Mode::More,
            (false, true, false) => Mode::Oneway,
            (false, false, true) => Mode::Upgrade,
            _ => {
                let reason = "more than one of more, oneway and upgrade".to_owned();
                return Err(Rejection::CutOff(FrameError::NotAMessage(reason)));
            }
        };
        let checked = Call::parse(&envelope.method, envelope.parameters.unwrap_or_default())
            .and_then(|call| check(&call, mode).map(|()| call));
        match checked {
            Ok(call) => Ok(Self { call, mode }),
            Err(_) if mode == Mode::Oneway => Err(Rejection::Ignore),
            Err(error) => Err(Rejection::Answer(error)),
        }
    }

    /// Writes a call, its NUL included.
    ///
    /// # Errors
    /// `TooLong` when it does not fit into a message.
    pub fn encode<M: Method>(parameters: &M, mode: Mode) -> Result<Vec<u8>, FrameError> {
        let flag = |which: Mode| (mode == which).then_some(true);
        encode(&CallEnvelopeRef {
            method: M::NAME,
            parameters,
            more: flag(Mode::More),
            oneway: flag(Mode::Oneway),
            upgrade: flag(Mode::Upgrade),
        })
    }
}

/// Whether the call makes sense and can be answered in this mode.
fn check(call: &Call, mode: Mode) -> Result<(), Error> {
    call.check()?;
    match (matches!(call, Call::Exec(_) | Call::SetSecret(_)), mode) {
        (true, Mode::Upgrade) => Ok(()),
        (true, _) => {
            Err(Error::Refused { reason: format!("{} must be called with `upgrade`", call.name()) })
        }
        (false, Mode::Upgrade) => Err(Error::Refused {
            reason: format!("{} cannot be called with `upgrade`", call.name()),
        }),
        (false, Mode::Single) if call.needs_more() => Err(Error::ExpectedMore {}),
        (false, Mode::Single | Mode::More | Mode::Oneway) => Ok(()),
    }
}

#[derive(Serialize, Deserialize)]
struct ReplyEnvelope<P> {
    parameters: P,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continues: Option<bool>,
}

#[derive(Deserialize)]
struct AnyReply {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    continues: Option<bool>,
}

/// A reply as it came over the socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<P> {
    /// What it carries.
    pub parameters: P,
    /// Whether another one follows.
    pub continues: bool,
}

/// Writes a reply, its NUL included.
///
/// # Errors
/// `TooLong` when it does not fit into a message.
pub fn encode_reply<P: Serialize>(parameters: &P, continues: bool) -> Result<Vec<u8>, FrameError> {
    encode(&ReplyEnvelope { parameters, continues: continues.then_some(true) })
}

/// Writes an error, its NUL included. Overlong texts are cut.
pub fn encode_error(error: Error) -> Vec<u8> {
    // `Unknown` has no form on the wire; a server has no reason to send one.
    encode(&error.bounded())
        .unwrap_or_else(|_| b"{\"error\":\"org.varlink.service.MethodNotImplemented\"}\0".to_vec())
}

/// Why a reply was no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// The server says so.
    Answered(Error),
    /// The server does not speak Varlink, or not this interface.
    Garbage(FrameError),
}

impl<P: serde::de::DeserializeOwned> Reply<P> {
    /// Reads a message (without its NUL).
    ///
    /// # Errors
    /// What the server said, or that it made no sense.
    pub fn parse(message: &[u8]) -> Result<Self, ReplyError> {
        let reply: AnyReply = decode(message).map_err(ReplyError::Garbage)?;
        let parameters = Value::Object(reply.parameters.unwrap_or_default());
        if let Some(name) = reply.error {
            return Err(ReplyError::Answered(read_error(name, &parameters)));
        }
        let parameters = serde_json::from_value(parameters)
            .map_err(|e| ReplyError::Garbage(FrameError::NotAMessage(e.to_string())))?;
        Ok(Self { parameters, continues: reply.continues.unwrap_or(false) })
    }
}

fn read_error(name: String, parameters: &Value) -> Error {
    let whole = serde_json::json!({ "error": name, "parameters": parameters });
    serde_json::from_value(whole)
        .unwrap_or(Error::Unknown { name, parameters: parameters.to_string() })
}

/// An envelope from JSON. It has to be an object: serde alone would take an array, too.
fn decode<T: serde::de::DeserializeOwned>(message: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice::<Map<String, Value>>(message)
        .and_then(|object| serde_json::from_value(Value::Object(object)))
        .map_err(|e| FrameError::NotAMessage(e.to_string()))
}

/// JSON and the NUL; JSON itself never holds one.
fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|e| FrameError::NotAMessage(e.to_string()))?;
    bytes.push(0);
    if bytes.len() > MESSAGE_MAX {
        return Err(FrameError::TooLong { limit: MESSAGE_MAX });
    }
    Ok(bytes)
}

/// One reply of a streamed list, filled element by element.
#[derive(Debug)]
pub struct Page {
    json: Vec<u8>,
    count: usize,
}

impl Page {
    /// A page of the reply whose only field, an array, has this name.
    pub fn new(field: &str) -> Self {
        Self { json: format!("{{\"parameters\":{{\"{field}\":[").into_bytes(), count: 0 }
    }

    /// Adds an element; `false`: the page is full without it, send it and put the
    /// element into the next one. The first element of a page always fits.
    ///
    /// # Errors
    /// `TooLong` for an element that fits into no page.
    pub fn push<T: Serialize>(&mut self, element: &T) -> Result<bool, FrameError> {
        let element =
            serde_json::to_vec(element).map_err(|e| FrameError::NotAMessage(e.to_string()))?;
        let length = self.json.len().saturating_add(element.len());
        if self.count > 0 && length > PAGE_MAX {
            return Ok(false);
        }
        // 32 bytes are more than a comma and what `finish` adds.
        if length.saturating_add(32) > MESSAGE_MAX {
            return Err(FrameError::TooLong { limit: MESSAGE_MAX });
        }
        if self.count > 0 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(&element);
        self.count = self.count.saturating_add(1);
        Ok(true)
    }

    /// The message, its NUL included.
    pub fn finish(mut self, continues: bool) -> Vec<u8> {
        let end: &[u8] = if continues { b"]},\"continues\":true}\0" } else { b"]}}\0" };
        self.json.extend_from_slice(end);
        self.json
    }
}
