//! The files' format: one record a line, as CRI's but for the run in the tag.
//!
//! `2026-11-20T22:45:48.123456789Z stdout F:17 text`. The tag is `F` (the line is
//! complete) or `P` (more of the same line follows), a colon and the run. The text is kept
//! byte by byte; it cannot hold a newline, because a newline is what ends a record. A
//! line of output is the text of all `P` records of one stream and run up to and with the
//! next `F` record of the same.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest text of one record in bytes; a longer line is several records.
pub const MAX_TEXT: usize = 64 * 1024;

/// No valid record is longer, its newline included: the text, and a header whose fields
/// are all bounded.
pub const MAX_RECORD: usize = MAX_TEXT.saturating_add(128);

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// `/dev/log`.
    Syslog,
    /// What the supervisor itself has to say.
    Supervisor,
}

impl Stream {
    /// As it is written in the files and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Syslog => "syslog",
            Self::Supervisor => "supervisor",
        }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Syslog, Self::Supervisor]
            .into_iter()
            .find(|stream| stream.name().as_bytes() == name)
    }
}

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `F`.
    Full,
    /// `P`.
    Partial,
}

/// One record, its text borrowed from the file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was written.
    pub time: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// Whether it ends its line.
    pub tag: Tag,
    /// Which run of the unit.
    pub run: u64,
    /// Without a newline.
    pub text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record from a line without its newline; `None` if it is not one.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = Stream::parse(fields.next()?)?;
        let tag = std::str::from_utf8(fields.next()?).ok()?;
        let text = fields.next().unwrap_or_default();
        let (tag, run) = tag.split_once(':')?;
        let tag = match tag {
            "F" => Tag::Full,
            "P" => Tag::Partial,
            _ => return None,
        };
        Some(Self { time, stream, tag, run: run.parse().ok()?, text })
    }
}

/// What every record of one chunk has in common, formatted once.
#[derive(Debug)]
pub struct Header {
    before_tag: String,
    after_tag: String,
}

impl Header {
    /// The fields around the tag.
    pub fn new(time: Timestamp, stream: Stream, run: u64) -> Self {
        Self { before_tag: format!("{time:.9} {} ", stream.name()), after_tag: format!(":{run} ") }
    }

    /// Bytes a record with this much text takes in the file.
    pub fn size_of(&self, text: usize) -> usize {
        // The tag and the newline are one byte each.
        self.before_tag
            .len()
            .saturating_add(self.after_tag.len())
            .saturating_add(text)
            .saturating_add(2)
    }

    /// Appends a record. `text` holds no newline.
    pub fn write(&self, out: &mut Vec<u8>, tag: Tag, text: &[u8]) {
        out.extend_from_slice(self.before_tag.as_bytes());
        out.push(match tag {
            Tag::Full => b'F',
            Tag::Partial => b'P',
        });
        out.extend_from_slice(self.after_tag.as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

/// How far [`Header::write_lines`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of output that are in records now.
    pub bytes: usize,
    /// Whether the last of them left its line open.
    pub open: bool,
}

impl Header {
    /// Appends the records of raw output, up to `room` bytes of them. With `at_least_one` the
    /// first is appended even if it is larger.
    pub fn write_lines(
        &self,
        output: &[u8],
        room: usize,
        at_least_one: bool,
        out: &mut Vec<u8>,
    ) -> Taken {
        let mut taken = Taken { bytes: 0, open: false };
        let mut left = room;
        for piece in output.split_inclusive(|byte| *byte == b'\n') {
            let (tag, text) = match piece.strip_suffix(b"\n") {
                Some(text) => (Tag::Full, text),
                None => (Tag::Partial, piece),
            };
            let size = self.size_of(text.len());
            if size > left && !(at_least_one && taken.bytes == 0) {
                break;
            }
            left = left.saturating_sub(size);
            self.write(out, tag, text);
            taken.bytes = taken.bytes.saturating_add(piece.len());
            taken.open = tag == Tag::Partial;
        }
        taken
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streams() -> impl Strategy<Value = Stream> {
        prop::sample::select(vec![
            Stream::Stdout,
            Stream::Stderr,
            Stream::Syslog,
            Stream::Supervisor,
        ])
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        // From 1970 to 9999: clocks that were never set are real.
        (0_i64..253_402_000_000, 0_i32..1_000_000_000)
            .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
    }

    /// What the records in `file` say was written.
    fn output_of(file: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record = Record::parse(line).unwrap();
            output.extend_from_slice(record.text);
            if record.tag == Tag::Full {
                output.push(b'\n');
            }
        }
        output
    }

    proptest! {
        #[test]
        fn a_record_comes_back(
            time in times(),
            stream in streams(),
            run: u64,
            full: bool,
            text in prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..200),
        ) {
            let tag = if full { Tag::Full } else { Tag::Partial };
            let header = Header::new(time, stream, run);
            let mut file = Vec::new();
            header.write(&mut file, tag, &text);
            prop_assert_eq!(file.len(), header.size_of(text.len()));
            prop_assert!(file.len() - text.len() <= MAX_RECORD - MAX_TEXT);
            prop_assert_eq!(file.pop(), Some(b'\n'));
            prop_assert_eq!(Record::parse(&file), Some(Record { time, stream, tag, run, text: &text }));
        }

        #[test]
        fn output_comes_back_whatever_room_there_is(
            output in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..600),
            room in 0_usize..2000,
        ) {
            let header = Header::new(Timestamp::UNIX_EPOCH, Stream::Stdout, 1);
            let (mut rest, mut file) = (output.as_slice(), Vec::new());
            while !rest.is_empty() {
                let before = file.len();
                let taken = header.write_lines(rest, room, true, &mut file);
                prop_assert!(taken.bytes > 0);
                prop_assert_eq!(taken.open, rest[taken.bytes - 1] != b'\n');
                let lines = file[before..].split(|byte| *byte == b'\n').count() - 1;
                prop_assert!(file.len() - before <= room || lines == 1);
                rest = &rest[taken.bytes..];
            }
            prop_assert_eq!(output_of(&file), output);
        }

        #[test]
        fn rubbish_is_no_record(line: Vec<u8>) {
            prop_assert_eq!(Record::parse(&line), None);
        }
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let time = "2026-11-20T22:45:48.123456789Z".parse().unwrap();
        let mut file = Vec::new();
        Header::new(time, Stream::Stdout, 17).write(&mut file, Tag::Full, b"a text");
        assert_eq!(file, b"2026-11-20T22:45:48.123456789Z stdout F:17 a text\n");
        Header::new(Timestamp::UNIX_EPOCH, Stream::Syslog, 0).write(&mut file, Tag::Partial, b"");
        assert!(file.ends_with(b"\n1970-01-01T00:00:00.000000000Z syslog P:0 \n"));
        // An editor that strips blanks at the ends of lines does no damage.
        assert!(Record::parse(b"1970-01-01T00:00:00Z syslog P:0").is_some());
        for damaged in [
            "1970-01-01T00:00:00Z syslog X:0 a",
            "1970-01-01T00:00:00Z syslog F:-1 a",
            "1970-01-01T00:00:00Z std F:1 a",
            "01-01T00:00:00Z syslog F:1 a",
            "F:1 a",
            "",
        ] {
            assert_eq!(Record::parse(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
