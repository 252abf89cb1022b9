//! stub
use jiff::Timestamp;

/// Why a `--since` was not understood; one sentence that says what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinceError(pub String);

/// `10min`, RFC 3339 or local time.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, SinceError> {
    let _ = now;
    Err(SinceError(text.to_owned()))
}
