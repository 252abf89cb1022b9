//! Mistakes, and how they are shown.
//!
//! A [`Mistake`] is what the checks produce: a place and a sentence. A [`Diagnostic`] is
//! what people see: it holds the piece of source it shows, so that it can leave the
//! process that read the file. Nothing in it can send commands to a terminal.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthChar;

use super::text::{Files, Place, escape, push_escaped};

/// Something wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// One sentence, lower case.
    pub message: String,
    /// What to do, if there is something to say.
    pub help: Option<String>,
    /// Other places that matter.
    pub notes: Vec<(Place, String)>,
    /// The name of a unit that is not there: a near one is looked for once all are known,
    /// and only for mistakes that are shown, because it takes time.
    pub missing: Option<Missing>,
}

/// The name of a unit that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// As it was written.
    pub name: String,
    /// Whether only a target will do.
    pub target: bool,
}

impl Mistake {
    /// A mistake without further advice.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, notes: Vec::new(), missing: None }
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place that matters.
    #[must_use]
    pub fn note(mut self, place: Place, message: impl Into<String>) -> Self {
        self.notes.push((place, message.into()));
        self
    }

    /// What people see of it.
    pub fn resolve(&self, files: &Files) -> Diagnostic {
        let notes = self.notes.iter().map(|(place, text)| Note {
            spot: Spot::resolve(*place, files),
            message: text.clone(),
        });
        Diagnostic {
            spot: Spot::resolve(self.place, files),
            message: self.message.clone(),
            notes: notes.collect(),
            help: self.help.clone(),
        }
    }
}

/// A mistake as people see it; its `Display` is the whole text, ended by a newline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Where.
    pub spot: Spot,
    /// One sentence, lower case.
    pub message: String,
    /// Other places that matter.
    pub notes: Vec<Note>,
    /// What to do.
    pub help: Option<String>,
}

/// Another place that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where.
    pub spot: Spot,
    /// What is there.
    pub message: String,
}

/// A place with the piece of source that is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// As the user named it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The source line; none where the file could not be read.
    pub excerpt: Option<Excerpt>,
}

/// A piece of a source line, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Excerpt {
    /// Escaped, tabs expanded, cut to a window if the line is long.
    pub text: String,
    /// Terminal columns before the caret.
    pub indent: usize,
    /// Terminal columns of the caret, at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// A mistake of a whole file that cannot be shown, because it could not be read.
    pub fn of_file(file: &str, message: impl Into<String>, help: Option<&str>) -> Self {
        let spot = Spot { file: file.to_owned(), line: 1, column: 1, excerpt: None };
        let help = help.map(str::to_owned);
        Self { spot, message: message.into(), notes: Vec::new(), help }
    }
}

impl Spot {
    fn resolve(place: Place, files: &Files) -> Self {
        let Some(file) = files.get(place.file) else {
            return Self { file: String::new(), line: 1, column: 1, excerpt: None };
        };
        let start = (place.start as usize).min(file.text.len());
        let (line_start, line) = file.line_text(start);
        let from = start.saturating_sub(line_start);
        let to = (place.end as usize).saturating_sub(line_start);
        let before = line.char_indices().take_while(|(at, _)| *at < from).count();
        Self {
            file: file.name.clone(),
            line: file.line(start),
            column: u32::try_from(before.saturating_add(1)).unwrap_or(u32::MAX),
            excerpt: Some(Excerpt::new(line, from, to)),
        }
    }
}

impl Excerpt {
    /// Longest line that is shown whole, in terminal columns.
    const WHOLE: usize = 160;
    /// Columns shown left of the caret of a longer one.
    const LEFT: usize = 40;
    /// Columns shown in all of a longer one.
    const WINDOW: usize = 120;
    /// Bytes left of the caret that are looked at.
    const NEAR: usize = 1024;
    /// Columns of a tab stop.
    const TAB: usize = 4;

    /// Shows bytes `from..to` of a line.
    fn new(line: &str, from: usize, to: usize) -> Self {
        // Of a line of a million characters only the neighbourhood is walked.
        let skip = (0..4)
            .map(|back| from.saturating_sub(Self::NEAR).saturating_sub(back))
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0);
        let line = line.get(skip..).unwrap_or_default();
        let (from, to) = (from.saturating_sub(skip), to.saturating_sub(skip));
        // Each character as it is shown, with the column it starts in.
        let mut cells: Vec<(usize, String)> = Vec::new();
        let (mut column, mut start, mut end) = (0_usize, None, None);
        for (at, c) in line.char_indices() {
            if at >= from {
                start.get_or_insert(column);
            }
            if at >= to {
                end.get_or_insert(column);
            }
            if start.is_some_and(|s: usize| column > s.saturating_add(Self::WHOLE)) {
                break;
            }
            let shown = Self::cell(c, column);
            let width = shown.chars().filter_map(UnicodeWidthChar::width).sum();
            cells.push((column, shown));
            column = column.saturating_add(width);
        }
        let start = start.unwrap_or(column);
        let end = end.unwrap_or(column).max(start.saturating_add(1));
        let total = if skip > 0 { column.max(Self::WHOLE.saturating_add(1)) } else { column };
        Self::window(&cells, total, start, end)
    }

    /// One character as it is shown in a column.
    fn cell(c: char, column: usize) -> String {
        if c == '\t' {
            let used = column.checked_rem(Self::TAB).unwrap_or(0);
            return " ".repeat(Self::TAB.saturating_sub(used));
        }
        let mut shown = String::new();
        push_escaped(&mut shown, c);
        shown
    }

    /// Cuts a long line around the caret.
    fn window(cells: &[(usize, String)], total: usize, start: usize, end: usize) -> Self {
        let whole = total <= Self::WHOLE;
        let left = if whole { 0 } else { start.saturating_sub(Self::LEFT) };
        let right = if whole { usize::MAX } else { left.saturating_add(Self::WINDOW) };
        let mut text = String::from(if left > 0 { "…" } else { "" });
        let mut origin = None;
        for (column, cell) in cells.iter().filter(|(at, _)| (left..right).contains(at)) {
            origin.get_or_insert(*column);
            text.push_str(cell);
        }
        if total > right {
            text.push('…');
        }
        let origin = origin.unwrap_or(left);
        let indent = start.saturating_sub(origin).saturating_add(usize::from(left > 0));
        let width = end.min(right).saturating_sub(start).max(1);
        Self { text: text.trim_end().to_owned(), indent, width }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spot.show(f, "error", &self.message)?;
        for note in &self.notes {
            note.spot.show(f, "note", &note.message)?;
        }
        match &self.help {
            Some(help) => writeln!(f, "help: {}", escape(help)),
            None => Ok(()),
        }
    }
}

impl Spot {
    fn show(&self, f: &mut fmt::Formatter<'_>, level: &str, message: &str) -> fmt::Result {
        let (file, message) = (escape(&self.file), escape(message));
        writeln!(f, "{file}:{}:{}: {level}: {message}", self.line, self.column)?;
        let Some(Excerpt { text, indent, width }) = &self.excerpt else { return Ok(()) };
        let line = self.line.to_string();
        let gutter = " ".repeat(line.len());
        writeln!(f, "{}", format!(" {line} | {text}").trim_end())?;
        writeln!(f, " {gutter} | {}{}", " ".repeat(*indent), "^".repeat(*width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::text::SourceFile;

    fn shown(text: &str, span: std::ops::Range<u32>) -> String {
        let mut files = Files::default();
        let file = files.add(SourceFile::new("f".to_owned(), text.to_owned()));
        let place = Place { file, start: span.start, end: span.end };
        Mistake::new(place, "wrong").resolve(&files).to_string()
    }

    #[test]
    fn carets_stand_under_wide_characters_and_tabs() {
        assert_eq!(
            shown("a\n\tö漢x = 1\n", 8..9),
            "f:2:4: error: wrong\n 2 |     ö漢x = 1\n   |        ^\n"
        );
    }

    #[test]
    fn controls_are_escaped_and_widen_the_caret() {
        assert_eq!(shown("a\x1bb", 1..2), "f:1:2: error: wrong\n 1 | a\\u{1b}b\n   |  ^^^^^^\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}BAD{}", "x".repeat(500), "y".repeat(50_000));
        let out = shown(&text, 500..503);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "f:1:501: error: wrong");
        assert!(lines[1].chars().count() < 140, "{out}");
        let at = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(at).take(3).collect::<String>(), "BAD");
    }

    #[test]
    fn a_place_past_the_end_is_shown_at_the_end() {
        assert_eq!(shown("ab", 7..9), "f:1:3: error: wrong\n 1 | ab\n   |   ^\n");
        assert_eq!(shown("", 0..0), "f:1:1: error: wrong\n 1 |\n   | ^\n");
    }
}
