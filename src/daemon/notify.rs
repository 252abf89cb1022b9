//! `sd_notify(3)`: one datagram, lines of `NAME=value`.
//!
//! Parsing only; who sent it is checked by `messages`. Unknown names are skipped, as
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
    /// In the order written; `READY=1` is `Fact::Ready`. At most one of each kind, the last:
    /// a datagram cannot say more than there is to know.
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
        if name == "MAINPID" {
            message.main_pid = value.parse().ok().filter(|&pid| pid > 0);
        } else if let Some(fact) = fact(name, value) {
            let kind = |fact: &Fact| match fact {
                Fact::Notify(notify) => Some(std::mem::discriminant(notify)),
                _ => None,
            };
            message.facts.retain(|known| kind(known) != kind(&fact));
            message.facts.push(fact);
        }
    }
    message
}

/// What one assignment means.
fn fact(name: &str, value: &str) -> Option<Fact> {
    let notify = match (name, value) {
        ("READY", "1") => return Some(Fact::Ready),
        ("RELOADING", "1") => Notify::Reloading,
        ("STOPPING", "1") => Notify::Stopping,
        ("WATCHDOG", "1") => Notify::Watchdog,
        ("WATCHDOG", "trigger") => Notify::WatchdogTrigger,
        ("STATUS", text) => Notify::Status(cut(text, MAX_STATUS)),
        ("EXTEND_TIMEOUT_USEC", number) => {
            Notify::ExtendTimeout(Duration::from_micros(number.parse().ok()?))
        }
        _ => return None,
    };
    Some(Fact::Notify(notify))
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
    fn of_each_kind_only_the_last_counts() {
        let message = parse("WATCHDOG=1\nREADY=1\nSTATUS=a\n".repeat(200).as_bytes());
        assert_eq!(message.facts.len(), 3);
        let message = parse(b"STATUS=a\nREADY=1\nSTATUS=b");
        let last = Fact::Notify(Notify::Status("b".to_owned()));
        assert_eq!(message.facts, [Fact::Ready, last]);
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
