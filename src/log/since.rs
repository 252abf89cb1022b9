//! What people type after `--since`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Why a `--since` was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinceError {
    /// It is none of the forms.
    Unknown(String),
    /// Before the beginning of time as computers count it.
    TooLongAgo(Duration),
}

impl fmt::Display for SinceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                f,
                "{text:?} is not a time: write how long ago (10min, 2h), a local time \
                 (2026-11-20, 2026-11-20 22:45, 2026-11-20 22:45:48) or RFC 3339 \
                 (2026-11-20T22:45:48Z)"
            ),
            Self::TooLongAgo(ago) => {
                write!(f, "{} ago is too long ago", humantime::format_duration(*ago))
            }
        }
    }
}

impl std::error::Error for SinceError {}

/// `10min` or `1h30min` ago, RFC 3339, or a local `YYYY-MM-DD[ HH:MM[:SS]]`.
///
/// # Errors
/// See [`SinceError`]; its text says what can be written.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, SinceError> {
    parse_in(text, now, &TimeZone::system())
}

fn parse_in(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, SinceError> {
    let text = text.trim();
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago).map_err(|_| SinceError::TooLongAgo(ago));
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let unknown = || SinceError::Unknown(text.to_owned());
    // A civil time is not refused for a zone it carries, but ignores it.
    if text.ends_with(['Z', 'z', ']']) {
        return Err(unknown());
    }
    let local: DateTime = text.parse().map_err(|_| unknown())?;
    // Of an hour that happens twice the first; one that is left out is the one after it.
    Ok(local.to_zoned(zone.clone()).map_err(|_| unknown())?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        let now = "2026-11-20T22:45:48Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        parse_in(text, now, &zone).ok().map(|time| time.to_string())
    }

    #[test]
    fn all_forms() {
        for (text, time) in [
            ("10min", "2026-11-20T22:35:48Z"),
            ("2h", "2026-11-20T20:45:48Z"),
            ("1h30min", "2026-11-20T21:15:48Z"),
            ("500ms", "2026-11-20T22:45:47.5Z"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00.25+01:00", "2026-11-20T09:00:00.25Z"),
            ("2026-11-20 10:00", "2026-11-20T08:00:00Z"),
            ("2026-11-20 10:00:30", "2026-11-20T08:00:30Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(time), "{text}");
        }
    }

    #[test]
    fn all_else_is_refused_with_the_forms() {
        for text in ["", "yesterday-ish", "10", "25:00", "2026-13-01", "10 parsecs", "-5min"] {
            assert_eq!(parse(text), None, "{text}");
        }
        let error = parse_since("soon", Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("\"soon\" is not a time: write how long ago (10min"));
        let error = parse_since("20000years", Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, SinceError::TooLongAgo(_)), "{error}");
    }
}
