//! Elements of the rules, by nfnetlink: what comes and goes with units, in one transaction.
//!
//! The tables themselves are made by nft(8) ([`super::nft`]), which knows their language; it
//! takes milliseconds to start, so it is not asked for what is only data.

use std::io;

use crate::network::plan::element::{Element, Field, Place};
use crate::network::plan::names::Tag;
use crate::sys::netlink::{MAKE, Message, Socket};

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ITEM: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const KEY_END: u16 = 10;
const VALUE: u16 = 1;

/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// Elements in one message: an attribute has 64 KiB at most.
const AT_ONCE: usize = 256;

/// What happens to elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They are there afterwards.
    Add,
    /// They are not; they must have been.
    Delete,
}

/// Changes elements, all of them or none.
///
/// # Errors
/// `ENOENT`: a table or a set is not there, or an element that is to go; `EPERM`.
pub fn apply(
    socket: &mut Socket,
    tag: &Tag,
    change: Change,
    elements: &[Element],
) -> io::Result<()> {
    let mut places: Vec<Place> = elements.iter().flat_map(Element::places).collect();
    places.sort_by_key(|place| (place.family.word(), place.set));
    let groups = places.chunk_by(|a, b| (a.family, a.set) == (b.family, b.set));
    let messages: Vec<Message> = groups
        .flat_map(|group| group.chunks(AT_ONCE))
        .filter_map(|group| message(tag, change, group))
        .collect();
    if messages.is_empty() { Ok(()) } else { socket.transaction(NFTABLES, &messages) }
}

/// A message about elements of one set.
fn message(tag: &Tag, change: Change, places: &[Place]) -> Option<Message> {
    let first = places.first()?;
    let (kind, flags) = match change {
        Change::Add => (12, MAKE),
        Change::Delete => (14, 0),
    };
    let header = [first.family.number(), 0, 0, 0];
    let message = Message::new(NFTABLES << 8 | kind, flags, &header)
        .with_text(LIST_TABLE, &tag.table())
        .with_text(LIST_SET, first.set);
    let items = places.iter().flat_map(items);
    Some(message.with_nested(LIST_ELEMENTS, |list| {
        items.fold(list, |list, item| list.with_nested(LIST_ITEM, |_| item))
    }))
}

fn bytes(fields: &[Field], part: impl Fn(&Field) -> Vec<u8>) -> Vec<u8> {
    fields.iter().flat_map(part).collect()
}

/// An element, as the kernel has it: of one field that is a subnet two, where it begins and
/// behind where it ends.
fn items(place: &Place) -> Vec<Message> {
    let item = |kind: u16, bytes: &[u8]| {
        Message::new(0, 0, &[]).with_nested(kind, |key| key.with(VALUE, bytes))
    };
    let first = bytes(&place.key, Field::first);
    let last = bytes(&place.key, Field::last);
    let begin = item(KEY, &first);
    if !place.value.is_empty() {
        let value = bytes(&place.value, Field::first);
        return vec![begin.with_nested(DATA, |data| data.with(VALUE, &value))];
    }
    if first == last {
        return vec![begin];
    }
    if place.key.len() > 1 {
        return vec![begin.with_nested(KEY_END, |key| key.with(VALUE, &last))];
    }
    let behind = next(&last).map(|next| item(KEY, &next).with(FLAGS, &INTERVAL_END.to_be_bytes()));
    std::iter::once(begin).chain(behind).collect()
}

/// The number that follows, if there is one.
fn next(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    let last = next.iter_mut().rev().find_map(|byte| {
        *byte = byte.wrapping_add(1);
        (*byte != 0).then_some(())
    });
    last.map(|()| next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_address() {
        assert_eq!(next(&[10, 1, 0, 255]), Some(vec![10, 1, 1, 0]));
        assert_eq!(next(&[10, 1, 0, 7]), Some(vec![10, 1, 0, 8]));
        assert_eq!(next(&[255; 4]), None);
    }
}
