//! Netlink: requests to the kernel's networking, answered before the call returns.
//!
//! A [`Message`] is bytes in the kernel's layout (netlink(7)): a header of the family and
//! attributes, which may hold attributes. A [`Socket`] belongs to the network namespace it
//! was made in, wherever its owner goes. Several requests go together and cost one system
//! call. What must hold: every request is answered once (`NLM_F_ACK`), and the answers are
//! awaited.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
};

/// `NLM_F_CREATE | NLM_F_EXCL`: make it, it must not be there.
pub const CREATE: u16 = 0x600;
/// `NLM_F_ROOT | NLM_F_MATCH`: all there are.
const DUMP: u16 = 0x300;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 0x5;
/// `NLM_F_REQUEST`.
const BARE: u16 = 0x1;
/// `NLM_F_CREATE`: make it if it is not there.
pub const MAKE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// Room for one datagram of answers; the kernel makes none larger for a dump.
const ANSWER: usize = 64 * 1024;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// A request.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// A request of this kind; `header` is what its family begins with.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self { kind, flags, body: header.to_vec() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds an attribute that is a string, ended by a zero.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }

    /// Adds an attribute that is a number.
    #[must_use]
    pub fn with_number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_ne_bytes())
    }

    /// Adds an attribute whose value is what `fill` adds.
    #[must_use]
    pub fn with_nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Self::new(0, 0, &[]));
        self.put(kind | NESTED, &inner.body);
        self
    }

    /// Adds bytes as they are, such as a header within an attribute.
    #[must_use]
    pub fn with_bytes(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// What follows the netlink header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        let whole = self.body.len().next_multiple_of(4);
        self.body.resize(whole, 0);
    }

    fn encode(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.body.len().saturating_add(HEADER)).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(self.flags | flags).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A piece of an answer: what follows the netlink header.
pub type Piece = Vec<u8>;

/// A socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket for links, addresses and routes, in the caller's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn route() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        Self::open(None)
    }

    /// A socket for the packet filter, in the caller's network namespace.
    ///
    /// # Errors
    /// As socket(2): `EPROTONOSUPPORT` without it in the kernel.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = rustix::net::socket_with(family, kind, flags, protocol)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn request(&mut self, message: &Message) -> io::Result<()> {
        self.exchange(std::slice::from_ref(message), REQUEST, |_| true).map(drop)
    }

    /// Carries out requests, one after the other, in one go: also those that come after one
    /// that fails. What the kernel says besides that they are done.
    ///
    /// # Errors
    /// The kernel's errno for the first that failed.
    pub fn requests(&mut self, messages: &[Message]) -> io::Result<Vec<Piece>> {
        self.exchange(messages, REQUEST, |_| true)
    }

    /// Carries out requests to a part of the packet filter, all of them or none.
    ///
    /// # Errors
    /// The kernel's errno for the first that failed.
    pub fn transaction(&mut self, subsystem: u16, messages: &[Message]) -> io::Result<()> {
        const BEGIN: u16 = 0x10;
        const END: u16 = 0x11;
        // `struct nfgenmsg`: no family, version 0, the subsystem.
        let mut header = [0; 4];
        for (to, from) in header.iter_mut().skip(2).zip(subsystem.to_be_bytes()) {
            *to = from;
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut add = |message: &Message, flags| {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message.encode(flags, self.sequence));
        };
        add(&Message::new(BEGIN, 0, &header), BARE);
        for message in messages {
            add(message, REQUEST);
        }
        add(&Message::new(END, 0, &header), BARE);
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        // What fails as a whole is said of the beginning.
        self.answers(first, messages.len(), true, |_| true).map(drop)
    }

    /// Asks about one thing.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn ask(&mut self, message: &Message) -> io::Result<Option<Piece>> {
        Ok(self.exchange(std::slice::from_ref(message), REQUEST, |_| true)?.into_iter().next())
    }

    /// Asks for a list; at most a few thousand pieces are kept.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn dump(&mut self, message: &Message) -> io::Result<Vec<Piece>> {
        self.dump_those(message, |_| true)
    }

    /// The same, of a list that may be much longer: those pieces that are wanted.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn dump_those(
        &mut self,
        message: &Message,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<Piece>> {
        self.exchange(std::slice::from_ref(message), REQUEST | DUMP, wanted)
    }

    fn exchange(
        &mut self,
        messages: &[Message],
        flags: u16,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<Piece>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message.encode(flags, self.sequence));
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        self.answers(first, messages.len(), false, wanted)
    }

    /// Reads to its end what nobody waits for any more: while a list is not read the kernel
    /// begins no other.
    fn forget(&self) {
        const MOST: usize = 16 * 1024;
        let mut buffer = vec![0; ANSWER];
        for _ in 0..MOST {
            if rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::DONTWAIT).is_err() {
                return;
            }
        }
    }

    /// Waits for the answers to `count` messages, of which the first has the number `first`.
    /// In a transaction that message is the beginning, which is answered only if all fails.
    fn answers(
        &self,
        first: u32,
        count: usize,
        transaction: bool,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<Piece>> {
        const MOST: usize = 16 * 1024;
        let mut buffer = vec![0; ANSWER];
        let mut pieces = Vec::new();
        let mut left = count;
        let mut failed = None;
        while left > 0 {
            let count = match rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty())
            {
                Ok((count, _)) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    self.forget();
                    return Err(error.into());
                }
            };
            let mut rest = buffer.get(..count).unwrap_or_default();
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                match kind {
                    // The answer to something that was given up.
                    _ if sequence.wrapping_sub(first) > self.sequence.wrapping_sub(first) => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        let errno = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        if errno < 0 && failed.is_none() {
                            failed = Some(io::Error::from_raw_os_error(errno.saturating_neg()));
                        }
                        let whole = transaction && sequence == first;
                        left = if whole { 0 } else { left.saturating_sub(1) };
                    }
                    _ if pieces.len() < MOST && wanted(body) => pieces.push(body.to_vec()),
                    _ => {}
                }
            }
        }
        failed.map_or(Ok(pieces), Err)
    }
}

/// Kind, sequence and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..6)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..12)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body, after))
}

/// The attributes of a piece, behind a header of this many bytes: kind and value.
pub fn attributes(piece: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = piece.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..4)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NESTED, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new(16, CREATE, &[0; 4])
            .with_text(3, "b0")
            .with_nested(18, |it| it.with_number(1, 7));
        let bytes = message.encode(REQUEST, 1);
        assert_eq!(bytes.len(), HEADER + 4 + 8 + 12);
        assert_eq!(u32::from_ne_bytes(*bytes.first_chunk().unwrap()) as usize, bytes.len());
        let (_, _, body, rest) = split(&bytes).unwrap();
        assert!(rest.is_empty());
        let found: Vec<_> = attributes(body, 4).collect();
        assert_eq!(found[0], (3, &b"b0\0"[..]));
        assert_eq!(found[1].0, 18);
        assert_eq!(attributes(found[1].1, 0).next(), Some((1, &7_u32.to_ne_bytes()[..])));
    }

    #[test]
    fn a_cut_answer_is_the_end_of_it() {
        assert!(split(&[0; 15]).is_none());
        assert_eq!(attributes(&[9, 0, 1, 0, 1], 0).count(), 0);
        // A length of nothing would never end.
        assert_eq!(attributes(&[0, 0, 1, 0, 0, 0, 0, 0], 0).count(), 0);
    }

    #[test]
    fn the_kernel_lists_its_links() {
        let links = Socket::route().unwrap().dump(&Message::new(18, 0, &[0; 16])).unwrap();
        assert!(links.iter().any(|link| attributes(link, 16).any(|it| it == (3, b"lo\0"))));
    }
}
