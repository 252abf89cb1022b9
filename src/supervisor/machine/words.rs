//! The machine's sentences: how a process ended, how long something took. One place, so
//! that the same thing is always said in the same words, and none grows without bound.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::Exit;

/// Longest text the machine keeps or hands out, in bytes.
pub(super) const LONGEST: usize = 512;

/// Cuts a text from outside to [`LONGEST`] bytes, at a character.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// How a process ended.
pub(super) fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => format!("killed by {}", signal(number)),
        Exit::Unknown => "ended, the kernel does not tell how".to_owned(),
    }
}

/// signal(7) by name, or by number where it has none.
pub(super) fn signal(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

/// A duration as people write it: `215ms`, `1.2s`, `2min`, `1h30min`.
pub(super) fn span(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return if time.as_millis() == 0 && !time.is_zero() {
            format!("{}us", time.as_micros())
        } else {
            format!("{}ms", time.as_millis())
        };
    }
    if time < Duration::from_secs(60) {
        let tenths = time.subsec_millis().checked_div(100).unwrap_or(0);
        return match tenths {
            0 => format!("{}s", time.as_secs()),
            tenths => format!("{}.{tenths}s", time.as_secs()),
        };
    }
    let mut rest = time.as_secs();
    let mut text = String::new();
    for (size, unit) in [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")] {
        let count = rest.checked_div(size).unwrap_or(0);
        rest = rest.checked_rem(size).unwrap_or(0);
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            (Duration::ZERO, "0ms"),
            (Duration::from_micros(250), "250us"),
            (Duration::from_millis(215), "215ms"),
            (Duration::from_millis(1_234), "1.2s"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(60), "1min"),
            (Duration::from_secs(5_400), "1h30min"),
            (Duration::from_secs(90_061), "1d1h1min1s"),
        ];
        for (time, text) in cases {
            assert_eq!(span(time), text);
        }
    }

    #[test]
    fn ends_are_named() {
        assert_eq!(exit(Exit::Code(3)), "exit code 3");
        assert_eq!(exit(Exit::Signal(9)), "killed by SIGKILL");
        assert_eq!(exit(Exit::Signal(35)), "killed by signal 35");
        assert_eq!(exit(Exit::Signal(-1)), "killed by signal -1");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = cut("é".repeat(LONGEST));
        assert_eq!(text.len(), LONGEST);
        assert!(text.chars().all(|c| c == 'é'));
    }
}
