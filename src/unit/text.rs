//! Source text and places in it.
//!
//! A [`Place`] is three numbers, so that every value can carry one; the [`Files`] it
//! points into turn it into a line and a column. Whatever text is shown to people goes
//! through [`escape`] first: a unit file cannot send commands to a terminal.

use std::fmt::Write as _;

/// A range of bytes in one of the [`Files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Index into [`Files`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// One file's text.
#[derive(Debug)]
pub struct SourceFile {
    /// As the user named it.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Byte offset of the first byte of each line.
    lines: Vec<usize>,
}

impl SourceFile {
    /// Remembers where the lines begin.
    pub fn new(name: String, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at.saturating_add(1))).collect();
        Self { name, text, lines }
    }

    /// Line of a byte offset, from 0.
    fn line_index(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.line_index(offset).saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// The line a byte offset is on, without its line break, and where it starts.
    pub fn line_text(&self, offset: usize) -> (usize, &str) {
        let index = self.line_index(offset);
        let start = self.lines.get(index).copied().unwrap_or(0);
        let end = self.lines.get(index.saturating_add(1)).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..end).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(line);
        (start, line.strip_suffix('\r').unwrap_or(line))
    }
}

/// All files that were read, in the order of their [`Place::file`].
#[derive(Debug, Default)]
pub struct Files(Vec<SourceFile>);

impl Files {
    /// Adds a file and returns its number.
    pub fn add(&mut self, file: SourceFile) -> u32 {
        let id = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(file);
        id
    }

    /// The file a place is in.
    pub fn get(&self, file: u32) -> Option<&SourceFile> {
        self.0.get(file as usize)
    }

    /// Name of a file; empty for a number that was never handed out.
    pub fn name(&self, file: u32) -> &str {
        self.get(file).map_or("", |file| file.name.as_str())
    }

    /// Line of a place, from 1; 0 if there is no such file.
    pub fn line(&self, place: Place) -> u32 {
        self.get(place.file).map_or(0, |file| file.line(place.start as usize))
    }
}

/// Whether a character must not reach a terminal as it is: controls, and those that
/// turn the direction of text around or are not seen at all.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Appends one character in a form that is safe to show.
pub fn push_escaped(out: &mut String, c: char) {
    if is_dangerous(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// Text in a form that is safe to show.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

/// Text from a file in backquotes, safe to show and never long.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut out = String::from("`");
    for c in text.chars().take(SHOWN) {
        push_escaped(&mut out, c);
    }
    if text.chars().nth(SHOWN).is_some() {
        let _ = write!(out, "…");
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_at_their_borders() {
        let file = SourceFile::new(String::new(), "ab\r\n\ncd".to_owned());
        assert_eq!(file.line_text(0), (0, "ab"));
        assert_eq!(file.line_text(3), (0, "ab"));
        assert_eq!(file.line_text(4), (4, ""));
        assert_eq!(file.line_text(7), (5, "cd"));
        assert_eq!((file.line(0), file.line(4), file.line(5), file.line(99)), (1, 2, 3, 3));
    }

    #[test]
    fn nothing_dangerous_is_shown() {
        assert_eq!(quote("a\x1b[31mb\u{202e}"), "`a\\u{1b}[31mb\\u{202e}`");
        assert_eq!(quote(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }
}
