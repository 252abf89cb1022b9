//! Signals by name and number.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// First and last of the signals programs are free to use.
const REAL_TIME: (i32, i32) = (34, 64);

/// A number from 1 to 64, or a name: `TERM`, `SIGTERM`, `term`, `RTMIN+3`.
///
/// # Errors
/// What to write instead.
pub fn parse(text: &str) -> Result<i32, String> {
    let unknown = || format!("{text} is no signal: write a name such as TERM, or 1 to 64");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Ok(signal) = Signal::from_str(&format!("SIG{name}")) {
        return Ok(signal as i32);
    }
    real_time(name).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let (first, last) = REAL_TIME;
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => first,
        (_, Some("")) => last,
        (Some(more), _) => first.checked_add(more.strip_prefix('+')?.parse().ok()?)?,
        (_, Some(less)) => last.checked_sub(less.strip_prefix('-')?.parse().ok()?)?,
        (None, None) => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

/// `SIGTERM`, or `signal 35` for one without a name.
pub fn name(number: i32) -> String {
    Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("sigterm", 15), ("9", 9), ("Usr1", 10), ("RTMIN+3", 37), ("RTMAX", 64)]
        {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "TERMINATE", "SIG", "RTMIN+31", "RTMAX-31", "RTMIN-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(name(15), "SIGTERM");
        assert_eq!(name(40), "signal 40");
    }
}
