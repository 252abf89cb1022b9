//! What the supervisor itself has to say.
//!
//! Never blocks: the messages go through a pipe to the logger (unit `berth`), from whose
//! files the console shows them. If the pipe is full, messages are counted and the count
//! is said when there is room again. Only before there is a pipe, which is before the loop
//! runs, they go to stderr.

use std::io::Write;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// Longest message, so that a write to the pipe is whole or not at all (`PIPE_BUF`).
const LONGEST: usize = 4000;

/// Where messages go.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    #[serde(with = "crate::sys::kept")]
    pipe: Option<OwnedFd>,
    dropped: u64,
}

impl Journal {
    /// The non-blocking write end of the logger's pipe.
    pub fn connect(&mut self, pipe: OwnedFd) {
        self.pipe = Some(pipe);
    }

    /// Closes the pipe, so that the logger sees its end.
    pub fn disconnect(&mut self) {
        self.pipe = None;
    }

    /// Says one line.
    pub fn say(&mut self, text: &str) {
        if self.pipe.is_none() {
            // There is nobody to tell that stderr is gone.
            let _ = writeln!(std::io::stderr(), "berth: {text}");
        }
        if self.dropped > 0 {
            let lost = format!("{} messages of berth were lost: the log was full", self.dropped);
            if self.write(&lost) {
                self.dropped = 0;
            }
        }
        if !self.write(text) {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// True if there is no pipe or the line went into it.
    fn write(&self, text: &str) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        let mut line: Vec<u8> = text.bytes().take(LONGEST).collect();
        for byte in &mut line {
            if *byte == b'\n' {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        rustix::io::write(pipe, &line).is_ok()
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
        assert!(journal.dropped > 0);
        let lost = journal.dropped;
        let mut buffer = vec![0; 1 << 20];
        while rustix::io::read(&read, buffer.as_mut_slice()).is_ok_and(|count| count > 0) {}
        journal.say("two\nlines");
        let count = rustix::io::read(&read, buffer.as_mut_slice()).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert_eq!(
            text,
            format!("{lost} messages of berth were lost: the log was full\ntwo lines\n")
        );
        assert_eq!(journal.dropped, 0);
    }
}
