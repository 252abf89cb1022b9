//! Waiting for a line of output: `ready = "log:REGEX"`.
//!
//! Lines are matched when they are complete, whatever the borders of the chunks they came
//! in; of a longer line the first [`MAX_LINE`] bytes count. Only a watched stream has
//! this buffer, and only until it has matched.

use regex_lite::Regex;

/// As much of a line as is looked at.
const MAX_LINE: usize = 8 * 1024;

/// One expression and the line it waits on.
#[derive(Debug)]
pub struct Watch {
    regex: Regex,
    /// What there is of the line that is not complete yet.
    pending: Vec<u8>,
}

impl Watch {
    /// # Errors
    /// The expression is not one (the checker of unit files has refused it before).
    pub fn new(expression: &str) -> Result<Self, regex_lite::Error> {
        Ok(Self { regex: Regex::new(expression)?, pending: Vec::new() })
    }

    /// Takes the next bytes; whether a line that they complete matches.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let room = MAX_LINE.saturating_sub(self.pending.len());
            self.pending.extend(text.unwrap_or(piece).iter().take(room));
            if text.is_some() && self.finish() {
                return true;
            }
        }
        false
    }

    /// The line is over, by a newline or the end of the stream: whether it matches.
    pub fn finish(&mut self) -> bool {
        let line = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        let matches =
            !self.pending.is_empty() && self.regex.is_match(&String::from_utf8_lossy(line));
        self.pending.clear();
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_may_span_chunks() {
        let mut watch = Watch::new("^listening on [0-9]+$").unwrap();
        assert!(!watch.feed(b"starting\nlisten"));
        assert!(!watch.feed(b"ing on "));
        assert!(!watch.feed(b"80"));
        assert!(!watch.feed(b"80"), "the line is not complete");
        assert!(watch.feed(b"\nmore"));
    }

    #[test]
    fn lines_are_matched_one_by_one() {
        let mut watch = Watch::new("a.*b").unwrap();
        assert!(!watch.feed(b"a\nb\n"));
        assert!(watch.feed(b"b\nxa b\r\n"));
    }

    #[test]
    fn of_a_long_line_only_the_beginning_counts() {
        let mut watch = Watch::new("needle").unwrap();
        let mut line = vec![b'x'; MAX_LINE - 3];
        line.extend_from_slice(b"needle\n");
        assert!(!watch.feed(&line));
        assert_eq!(watch.pending.len(), 0);
        line.drain(..6);
        assert!(watch.feed(&line));
    }

    #[test]
    fn an_unterminated_last_line_counts_at_the_end() {
        let mut watch = Watch::new("done").unwrap();
        assert!(!watch.feed(b"all done"));
        assert!(watch.finish());
        assert!(!watch.finish());
    }

    #[test]
    fn bytes_that_are_no_text_do_not_disturb() {
        let mut watch = Watch::new("ready$").unwrap();
        assert!(watch.feed(b"\xff\xfe\0 ready\n"));
    }
}
