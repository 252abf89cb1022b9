//! Times that people type and read.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// `--since`: how long ago (`5min`, `1h30min ago`), a point in time (RFC 3339), or a local
/// date, date and time, or time of today.
///
/// # Errors
/// What to write instead.
pub fn parse_since(text: &str) -> Result<Timestamp, String> {
    since(text, &Zoned::now()).ok_or_else(|| {
        format!("{text} is no time: write 5min, 14:30, 2026-01-31 or 2026-01-31T14:30:00Z")
    })
}

fn since(text: &str, now: &Zoned) -> Option<Timestamp> {
    let ago = text.strip_suffix(" ago").unwrap_or(text);
    if let Ok(duration) = humantime::parse_duration(ago) {
        return now.timestamp().checked_sub(SignedDuration::try_from(duration).ok()?).ok();
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let local = match text {
        "today" => now.date().to_datetime(Time::midnight()),
        "yesterday" => now.date().yesterday().ok()?.to_datetime(Time::midnight()),
        _ => text
            .parse::<DateTime>()
            .or_else(|_| text.parse::<Date>().map(|date| date.to_datetime(Time::midnight())))
            .or_else(|_| text.parse::<Time>().map(|time| now.date().to_datetime(time)))
            .ok()?,
    };
    local.to_zoned(now.time_zone().clone()).ok().map(|zoned| zoned.timestamp())
}

/// A length of time: `500ms`, `2s`, `1min 30s`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text} is no length of time: write 500ms, 2s or 1min"))
}

/// The same, for how often something is looked at: 100ms to 1h.
///
/// # Errors
/// What to write instead.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err(format!("{text} is too short or too long: write 100ms to 1h"))
    }
}

/// A length of time in microseconds.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A time of the wire as local time: `2026-01-31 14:30:00.123`. What is no time is
/// returned as it is.
pub fn local(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(
        |_| text.to_owned(),
        |at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    )
}

/// How long ago, in at most two units: `1h 5m`. `None` for what is no time.
pub fn ago(text: &str, now: Timestamp) -> Option<String> {
    let at = text.parse::<Timestamp>().ok()?;
    Some(short(Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)))
}

/// A duration in at most two units, to the second.
fn short(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let now: Zoned = "2026-01-31T14:30:00+01:00[+01:00]".parse().unwrap();
        for (text, expected) in [
            ("5min", "2026-01-31T13:25:00Z"),
            ("1h30min ago", "2026-01-31T12:00:00Z"),
            ("2026-01-30T10:00:00+02:00", "2026-01-30T08:00:00Z"),
            ("2026-01-30 10:00", "2026-01-30T09:00:00Z"),
            ("2026-01-30", "2026-01-29T23:00:00Z"),
            ("10:15", "2026-01-31T09:15:00Z"),
            ("today", "2026-01-30T23:00:00Z"),
            ("yesterday", "2026-01-29T23:00:00Z"),
        ] {
            let found = since(text, &now).map(|at| at.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        for text in ["", "soon", "2026-13-01", "25:00", "5 parsecs"] {
            assert_eq!(since(text, &now), None, "{text}");
        }
    }

    #[test]
    fn shortens() {
        assert_eq!(short(Duration::from_millis(900)), "0s");
        assert_eq!(short(Duration::from_secs(3905)), "1h 5m");
        assert_eq!(short(Duration::from_secs(90_061)), "1day 1h");
    }
}
