//! What output has in common: colours, tables, log lines, harmless text.
//!
//! What must always hold: nothing that a service wrote reaches a terminal as a control
//! character; without a terminal, or with `NO_COLOR`, there is no escape sequence at all.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};

use unicode_width::UnicodeWidthStr as _;

use crate::protocol::types::{Exit, LogEntry, LogStream, State};

/// How to write to standard output.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// It is a terminal.
    pub terminal: bool,
    /// It may have colours.
    pub color: bool,
}

impl Style {
    /// For the standard output of this process.
    pub fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { terminal, color: terminal && !no_color }
    }

    /// The text in a colour, where there are colours.
    pub fn paint(self, color: Color, text: &str) -> String {
        if self.color && color != Color::Plain {
            format!("\x1b[{}m{text}\x1b[0m", color.code())
        } else {
            text.to_owned()
        }
    }
}

/// What is painted how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// As it is.
    Plain,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
    /// Good.
    Green,
    /// On its way.
    Yellow,
    /// Bad.
    Red,
    /// One of six for telling units apart.
    Unit(u8),
}

impl Color {
    fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Unit(number) => number.checked_rem(6).map_or(36, |n| n.saturating_add(91)),
        }
    }

    /// A state's colour.
    pub fn of_state(state: State) -> Self {
        match state {
            State::Running | State::Done => Self::Green,
            State::Failed => Self::Red,
            State::Inactive => Self::Dim,
            State::Waiting
            | State::Preparing
            | State::Starting
            | State::Stopping
            | State::Backoff
            | State::Frozen => Self::Yellow,
        }
    }

    /// The colour of a unit's name: always the same for the same name.
    fn of_unit(name: &str) -> Self {
        Self::Unit(name.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte)))
    }
}

/// Text for one line: control characters, newlines too, are escaped.
pub fn line(text: &str) -> String {
    escape(text, |_| false)
}

/// Text of several lines: other control characters are escaped.
pub fn lines(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: fn(char) -> bool) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        // Besides control characters: what changes the direction of writing.
        let hidden = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() || hidden) && !keep(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// `exit code 3` or `killed by SIGKILL`.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => format!("killed by {}", super::signal::name(number)),
    }
}

/// Bytes for people: `12.5M`, as unit files write sizes.
pub fn size(bytes: u64) -> String {
    let mut shift = 0_u32;
    let mut unit = "B";
    for (name, bits) in [("K", 10), ("M", 20), ("G", 30), ("T", 40)] {
        if bytes.checked_shr(bits).unwrap_or(0) > 0 {
            (unit, shift) = (name, bits);
        }
    }
    if shift == 0 {
        return format!("{bytes}{unit}");
    }
    let whole = bytes.checked_shr(shift).unwrap_or(0);
    let rest = bytes.saturating_sub(whole.checked_shl(shift).unwrap_or(0));
    let tenths = rest.saturating_mul(10).checked_shr(shift).unwrap_or(0);
    format!("{whole}.{tenths}{unit}")
}

/// Columns as wide as they must be; the last one as long as it is.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Color)>>,
}

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        let row = headings.iter().map(|text| ((*text).to_owned(), Color::Bold)).collect();
        Self { rows: vec![row] }
    }

    /// Adds a row. The texts are made harmless here.
    pub fn row(&mut self, cells: Vec<(String, Color)>) {
        self.rows.push(cells.into_iter().map(|(text, color)| (line(&text), color)).collect());
    }

    /// Writes it.
    ///
    /// # Errors
    /// The output is broken.
    pub fn write(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.width());
            }
        }
        for row in &self.rows {
            // Nothing is padded after the last cell that has a text.
            let last = row.iter().rposition(|(text, _)| !text.is_empty()).unwrap_or(0);
            for (index, ((text, color), width)) in row.iter().zip(&widths).enumerate() {
                if index > last {
                    break;
                }
                out.write_all(style.paint(*color, text).as_bytes())?;
                if index < last {
                    let gap = width.saturating_sub(text.width()).saturating_add(2);
                    write!(out, "{:gap$}", "")?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Longest line that is put together from its parts.
const LINE_MAX: usize = 1024 * 1024;

/// Log entries as lines: `TIME | text`, or with several units `TIME NAME | text`. A `!`
/// instead of the `|` marks standard error.
#[derive(Debug)]
pub struct LogLines {
    style: Style,
    names: bool,
    /// Widest name so far.
    width: usize,
    /// Beginnings of lines whose end has not come yet.
    parts: HashMap<(String, LogStream), LogEntry>,
}

impl LogLines {
    /// With names or without.
    pub fn new(style: Style, names: bool) -> Self {
        Self { style, names, width: 0, parts: HashMap::new() }
    }

    /// Writes an entry, or keeps it until the rest of its line has come.
    ///
    /// # Errors
    /// The output is broken.
    pub fn write(&mut self, out: &mut dyn Write, entry: LogEntry) -> io::Result<()> {
        let key = (entry.unit.clone(), entry.stream);
        let partial = entry.partial;
        let whole = match self.parts.remove(&key) {
            Some(mut begun) if begun.run == entry.run => {
                begun.text.push_str(&entry.text);
                begun
            }
            // A new run does not finish what the old one left unfinished.
            Some(begun) => {
                self.write_line(out, &begun)?;
                entry
            }
            None => entry,
        };
        if partial && whole.text.len() < LINE_MAX {
            self.parts.insert(key, whole);
            return Ok(());
        }
        self.write_line(out, &whole)
    }

    /// Writes what is left of unfinished lines.
    ///
    /// # Errors
    /// The output is broken.
    pub fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut parts: Vec<_> = std::mem::take(&mut self.parts).into_values().collect();
        parts.sort_by(|a, b| a.time.cmp(&b.time));
        parts.iter().try_for_each(|entry| self.write_line(out, entry))
    }

    fn write_line(&mut self, out: &mut dyn Write, entry: &LogEntry) -> io::Result<()> {
        let time = self.style.paint(Color::Dim, &super::time::local(&line(&entry.time)));
        write!(out, "{time} ")?;
        if self.names {
            let name = line(&entry.unit);
            self.width = self.width.max(name.width());
            let gap = self.width.saturating_sub(name.width());
            write!(out, "{}{:gap$} ", self.style.paint(Color::of_unit(&name), &name), "")?;
        }
        let bar = match entry.stream {
            LogStream::Stderr => self.style.paint(Color::Red, "!"),
            LogStream::Stdout | LogStream::Syslog | LogStream::Supervisor => {
                self.style.paint(Color::Dim, "|")
            }
        };
        if self.style.terminal {
            writeln!(out, "{bar} {}", escape(&entry.text, |c| c == '\t'))
        } else {
            writeln!(out, "{bar} {}", entry.text)
        }
    }
}
