//! Lines for people and for programs.
//!
//! What must always hold: what a service writes cannot do anything to the terminal of
//! the person who reads it but colour its own text. All other control characters are
//! shown, not sent.

use std::fmt::Write as _;

use serde::Serialize;

use super::read::Entry;
use super::record::Stream;

/// Readable on dark and on light ground; red is for errors.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "96"];

/// Longest colour sequence that is passed on.
const MAX_SGR: usize = 64;

/// `web      | text`, with a newline at its end. Standard error is told apart by `!` in place of
/// `|` (red, with `colour`). The name is padded to `width` columns. Without `colour` the
/// text's own colours are left out too.
pub fn render_line(entry: &Entry, colour: bool, width: usize) -> Vec<u8> {
    let mut out = String::with_capacity(entry.text.len().saturating_add(48));
    let name = &entry.unit;
    let mark = if entry.stream == Stream::Stderr { '!' } else { '|' };
    // Writing into a String cannot fail.
    let _ = if colour {
        let own = colour_of(name);
        let mark_colour = if mark == '!' { "31" } else { own };
        write!(out, "\x1b[{own}m{name:<width$} \x1b[{mark_colour}m{mark}\x1b[0m ")
    } else {
        write!(out, "{name:<width$} {mark} ")
    };
    let text = entry.text.strip_suffix(b"\r").unwrap_or(&entry.text);
    if write_safe(&mut out, text, colour) {
        out.push_str("\x1b[0m");
    }
    out.push('\n');
    out.into_bytes()
}

/// The text of a line alone, without any colour: what a terminal can be sent.
pub fn render_text(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    write_safe(&mut out, text, false);
    out
}

/// Always the same colour for the same name.
fn colour_of(name: &str) -> &'static str {
    // FNV-1a: small, and not the same for web.1 and web.2.
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let index = usize::try_from(hash >> 8).unwrap_or(0).checked_rem(COLOURS.len());
    index.and_then(|index| COLOURS.get(index)).copied().unwrap_or("0")
}

/// Appends text that a terminal can be sent; whether a colour is in it.
fn write_safe(out: &mut String, text: &[u8], colour: bool) -> bool {
    let mut coloured = false;
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(character) = rest.chars().next() {
            if let Some((sequence, after)) = split_sgr(rest) {
                if colour {
                    out.push_str(sequence);
                    coloured = true;
                }
                rest = after;
                continue;
            }
            if character.is_control() && character != '\t' {
                let _ = write!(out, "\\x{:02x}", u32::from(character));
            } else {
                out.push(character);
            }
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    coloured
}

/// A sequence that selects graphic rendition (`ESC [ 1;31 m`) at the beginning, and what follows.
fn split_sgr(text: &str) -> Option<(&str, &str)> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    let rest = parameters.get(length..)?.strip_prefix('m')?;
    (length <= MAX_SGR).then_some(())?;
    Some((text.get(..text.len().saturating_sub(rest.len()))?, rest))
}

/// One JSON object, without a newline: `{"time","unit","stream","run","message"}`, and
/// `"partial":true` where the line goes on. Bytes that are not UTF-8 are replaced.
pub fn render_json(entry: &Entry) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        unit: &'a str,
        stream: &'a str,
        run: u64,
        message: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    }
    let line = Line {
        time: format!("{:.9}", entry.time),
        unit: &entry.unit,
        stream: entry.stream.name(),
        run: entry.run,
        message: &String::from_utf8_lossy(&entry.text),
        partial: entry.partial,
    };
    // Strings, a number and a bool are always JSON.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(stream: Stream, text: &[u8]) -> Entry {
        let time = "2026-11-20T22:45:48.5Z".parse().unwrap();
        Entry { time, unit: "web".to_owned(), stream, run: 7, text: text.to_vec(), partial: false }
    }

    fn line(stream: Stream, text: &[u8], colour: bool) -> String {
        String::from_utf8(render_line(&entry(stream, text), colour, 6)).unwrap()
    }

    #[test]
    fn prefixes() {
        assert_eq!(line(Stream::Stdout, b"hi\r", false), "web    | hi\n");
        assert_eq!(line(Stream::Stderr, b"", false), "web    ! \n");
        let own = colour_of("web");
        let wanted = format!("\x1b[{own}mweb    \x1b[31m!\x1b[0m hi\n");
        assert_eq!(line(Stream::Stderr, b"hi", true), wanted);
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(
            line(Stream::Stdout, b"a\tb\x07c\x1b[2Jd\0\x7f\xff\xc2\x9b1m", false),
            "web    | a\tb\\x07c\\x1b[2Jd\\x00\\x7f\\xff\\x9b1m\n"
        );
        assert_eq!(render_text(b"a\tb\x1b[2J\x1b[31mc\xff\r"), "a\tb\\x1b[2Jc\\xff\\x0d");
    }

    #[test]
    fn colours_are_kept_and_ended_or_left_out() {
        let text = b"\x1b[1;31mred\x1b[m \x1b[38:5:1mx\x1b[31";
        assert!(
            line(Stream::Stdout, text, true)
                .ends_with(" \x1b[1;31mred\x1b[m \x1b[38:5:1mx\\x1b[31\x1b[0m\n")
        );
        assert_eq!(line(Stream::Stdout, text, false), "web    | red x\\x1b[31\n");
    }

    #[test]
    fn json_has_the_promised_fields() {
        let mut entry = entry(Stream::Stderr, b"say \"hi\"\xff\n");
        assert_eq!(
            render_json(&entry),
            "{\"time\":\"2026-11-20T22:45:48.500000000Z\",\"unit\":\"web\",\"stream\":\"stderr\",\
             \"run\":7,\"message\":\"say \\\"hi\\\"\u{fffd}\\n\"}"
        );
        entry.partial = true;
        assert!(render_json(&entry).ends_with(",\"partial\":true}"));
    }

    proptest! {
        #[test]
        fn nothing_but_colours_reaches_the_terminal(text: Vec<u8>, colour: bool) {
            let mut rest = line(Stream::Stdout, &text, colour);
            prop_assert_eq!(rest.pop(), Some('\n'));
            let mut rest = rest.as_str();
            while let Some(character) = rest.chars().next() {
                if let Some((_, after)) = split_sgr(rest) {
                    prop_assert!(colour);
                    rest = after;
                } else {
                    prop_assert!(character == '\t' || !character.is_control());
                    rest = rest.strip_prefix(character).unwrap();
                }
            }
        }
    }
}
