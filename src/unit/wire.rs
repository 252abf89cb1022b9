//! What the forked reader sends to the supervisor: one bounded message.

use super::diagnostic::Diagnostic;
use super::limits;
use super::load::Loaded;
use super::shared;

/// Why a message of the reader could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// It is longer than [`limits::MESSAGE`].
    TooLong,
    /// It is cut short or not a message at all.
    Garbled,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the units are too large to be sent to the supervisor",
            Self::Garbled => "the reader of unit files was cut short",
        })
    }
}

impl std::error::Error for WireError {}

/// The message. What does not fit into one is replaced by a diagnostic that says so.
pub fn encode(loaded: &Loaded) -> Vec<u8> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= limits::MESSAGE;
    shared::together(|| postcard::to_stdvec(loaded)).ok().filter(fits).unwrap_or_else(|| {
        let text = WireError::TooLong.to_string();
        let diagnostics = vec![Diagnostic::of_file("berth", text, None)];
        let failed = Loaded { diagnostics, unusable: true, ..Loaded::default() };
        postcard::to_stdvec(&failed).unwrap_or_default()
    })
}

/// Reads a message.
///
/// # Errors
/// [`WireError`] if it is too long or not whole.
pub fn decode(bytes: &[u8]) -> Result<Loaded, WireError> {
    if bytes.len() > limits::MESSAGE {
        return Err(WireError::TooLong);
    }
    match shared::together(|| postcard::take_from_bytes(bytes)) {
        Ok((loaded, [])) => Ok(loaded),
        _ => Err(WireError::Garbled),
    }
}
