//! `sd_notify(3)`: one datagram, lines of `NAME=value`.
//!
//! Parsing only; who sent it is checked by [`super::runs`]. Unknown names are skipped, as
//! the man page asks; a datagram is at most 4 KiB, of which the kernel cut the rest.

use std::time::Duration;

use crate::supervisor::event::{Fact, Notify};

/// Longest datagram that is read; longer ones are cut by the kernel.
pub const MAX_DATAGRAM: usize = 4096;

/// Longest `STATUS=` that is kept, in bytes.
const MAX_STATUS: usize = 256;

/// What one datagram says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// In the order written; `READY=1` is `Fact::Ready`.
    pub facts: Vec<Fact>,
    /// `MAINPID=`, in the numbers of the sender's pid namespace.
    pub main_pid: Option<i32>,
}

/// Reads a datagram.
pub fn parse(datagram: &[u8]) -> Message {
    let mut message = Message::default();
    for line in datagram.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((name, value)) = line.split_once('=') else { continue };
        match (name, value) {
            ("READY", "1") => message.facts.push(Fact::Ready),
            ("RELOADING", "1") => message.facts.push(Fact::Notify(Notify::Reloading)),
            ("STOPPING", "1") => message.facts.push(Fact::Notify(Notify::Stopping)),
            ("WATCHDOG", "1") => message.facts.push(Fact::Notify(Notify::Watchdog)),
            ("WATCHDOG", "trigger") => message.facts.push(Fact::Notify(Notify::WatchdogTrigger)),
            ("STATUS", text) => {
                message.facts.push(Fact::Notify(Notify::Status(cut(text, MAX_STATUS))));
            }
            ("MAINPID", number) => message.main_pid = number.parse().ok().filter(|&pid| pid > 0),
            ("EXTEND_TIMEOUT_USEC", number) => {
                if let Ok(micros) = number.parse() {
                    let longer = Notify::ExtendTimeout(Duration::from_micros(micros));
                    message.facts.push(Fact::Notify(longer));
                }
            }
            _ => {}
        }
    }
    message
}

/// The longest prefix of at most `limit` bytes, without control characters.
fn cut(text: &str, limit: usize) -> String {
    let mut short = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if short.len().saturating_add(character.len_utf8()) > limit {
            break;
        }
        short.push(character);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_assignment_in_order() {
        let message = parse(
            b"STATUS=loading\nEXTEND_TIMEOUT_USEC=1500000\nX=y\nnoise\nREADY=1\nMAINPID=7\nWATCHDOG=1",
        );
        assert_eq!(
            message.facts,
            [
                Fact::Notify(Notify::Status("loading".to_owned())),
                Fact::Notify(Notify::ExtendTimeout(Duration::from_millis(1500))),
                Fact::Ready,
                Fact::Notify(Notify::Watchdog),
            ]
        );
        assert_eq!(message.main_pid, Some(7));
    }

    #[test]
    fn nonsense_says_nothing() {
        for nonsense in
            [&b"READY=0"[..], b"READY", b"=1", b"\xff\xfe=1", b"MAINPID=-1", b"MAINPID=x", b""]
        {
            assert_eq!(parse(nonsense), Message::default(), "{nonsense:?}");
        }
    }

    #[test]
    fn a_long_status_is_cut_and_cannot_send_escapes() {
        let long = format!("STATUS=\u{1b}[2J{}", "é".repeat(400));
        let message = parse(long.as_bytes());
        let Some(Fact::Notify(Notify::Status(text))) = message.facts.first() else {
            panic!("no status: {message:?}")
        };
        assert!(text.len() <= MAX_STATUS && text.len() > MAX_STATUS - 2);
        assert!(!text.contains('\u{1b}'));
    }
}
