//! The reply of `Apply` in parts: a thousand names and the diagnostics of many files do
//! not fit into one message.
//!
//! What must always hold: every part fits; joining all of them gives the whole.

use super::method::ApplyReply;
use super::{MESSAGE_MAX, PAGE_MAX, char_boundary};

impl ApplyReply {
    /// The same in replies short enough for a message each.
    pub fn pieces(self) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut text = self.diagnostics.as_str();
        while !text.is_empty() {
            // Each byte may take six when it has to be written as `\u00XX`.
            let at = char_boundary(text, MESSAGE_MAX / 8);
            let (head, rest) = text.split_at_checked(at).unwrap_or((text, ""));
            pieces.push(Self { diagnostics: head.to_owned(), ..Self::default() });
            text = rest;
        }
        // A name is at most 64 bytes and 3 for quotes and comma.
        let per_piece = PAGE_MAX / 67;
        let mut names = |list: &[String], put: fn(&mut Self, Vec<String>)| {
            for chunk in list.chunks(per_piece) {
                let mut piece = Self::default();
                put(&mut piece, chunk.to_vec());
                pieces.push(piece);
            }
        };
        names(&self.add, |piece, names| piece.add = names);
        names(&self.change, |piece, names| piece.change = names);
        names(&self.restart, |piece, names| piece.restart = names);
        names(&self.remove, |piece, names| piece.remove = names);
        let mut joined: Vec<Self> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last) if last.weight().saturating_add(piece.weight()) <= PAGE_MAX => {
                    last.join(piece);
                }
                _ => joined.push(piece),
            }
        }
        let mut last = joined.pop().unwrap_or_default();
        last.mistakes = self.mistakes;
        joined.push(last);
        joined
    }

    /// Adds what another reply of the same call says.
    pub fn join(&mut self, other: Self) {
        self.diagnostics.push_str(&other.diagnostics);
        self.mistakes = self.mistakes.saturating_add(other.mistakes);
        self.add.extend(other.add);
        self.change.extend(other.change);
        self.restart.extend(other.restart);
        self.remove.extend(other.remove);
    }

    /// At least as many bytes as it takes on the wire.
    fn weight(&self) -> usize {
        let names = [&self.add, &self.change, &self.restart, &self.remove];
        let names = names.iter().map(|list| list.len().saturating_mul(67)).sum::<usize>();
        names.saturating_add(self.diagnostics.len().saturating_mul(6))
    }
}
