//! What the supervisor itself has to say.
//!
//! Never blocks: the messages go through a pipe to the logger (unit `berth`), from whose
//! files the console shows them. If the pipe is full, messages are counted and the count
//! is said when there is room again. Only before there is a pipe, which is before the loop
//! runs, they go to stderr.
//!
//! What is said in one turn of the loop goes there at its end, in one write: a boot and a
//! shutdown say a lot at once, and each write wakes two processes.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::pid1::say;

/// Most bytes of a write, which is then whole or not at all (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Longest message.
const LONGEST: usize = 4000;

/// Where messages go.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    #[serde(with = "crate::sys::kept")]
    pipe: Option<OwnedFd>,
    dropped: u64,
    /// Lines that are not in the pipe yet.
    #[serde(default)]
    pending: String,
}

impl Journal {
    /// The non-blocking write end of the logger's pipe.
    pub fn connect(&mut self, pipe: OwnedFd) {
        self.pipe = Some(pipe);
    }

    /// Closes the pipe, so that the logger sees its end.
    pub fn disconnect(&mut self) {
        self.flush();
        self.pipe = None;
    }

    /// Says one line, at the end of this turn.
    pub fn say(&mut self, text: &str) {
        if self.pipe.is_none() {
            say(text);
            return;
        }
        if self.pending.len().saturating_add(text.len().min(LONGEST)) >= AT_ONCE {
            self.flush();
        }
        let short =
            text.char_indices().take_while(|(at, it)| at.saturating_add(it.len_utf8()) <= LONGEST);
        self.pending.extend(short.map(|(_, it)| if it == '\n' { ' ' } else { it }));
        self.pending.push('\n');
    }

    /// Hands on what has been said since the last time.
    pub fn flush(&mut self) {
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.pending.is_empty()) else { return };
        if self.dropped > 0 {
            let lost = format!("{} messages of berth were lost: the log was full\n", self.dropped);
            if rustix::io::write(pipe, lost.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        if rustix::io::write(pipe, self.pending.as_bytes()).is_err() {
            let lines = u64::try_from(self.pending.lines().count()).unwrap_or(u64::MAX);
            self.dropped = self.dropped.saturating_add(lines);
        }
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_full_pipe_costs_messages_and_says_so_later() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let mut journal = Journal::default();
        journal.connect(write);
        for _ in 0..64 {
            journal.say(&"x".repeat(LONGEST));
        }
        journal.flush();
        assert!(journal.dropped > 0);
        let lost = journal.dropped;
        let mut buffer = vec![0; 1 << 20];
        while rustix::io::read(&read, buffer.as_mut_slice()).is_ok_and(|count| count > 0) {}
        journal.say("two\nlines");
        journal.say("and a third");
        // Not before the end of the turn.
        assert!(rustix::io::read(&read, buffer.as_mut_slice()).is_err());
        journal.flush();
        let count = rustix::io::read(&read, buffer.as_mut_slice()).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert_eq!(
            text,
            format!(
                "{lost} messages of berth were lost: the log was full\ntwo lines\nand a third\n"
            )
        );
        assert_eq!(journal.dropped, 0);
    }
}
