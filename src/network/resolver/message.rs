//! Messages of the domain name system (RFC 1035, RFC 6891): as much as is needed to answer
//! for a handful of names and to pass all others on.
//!
//! Whatever arrives may be forged: every length is checked, a name has at most 255 bytes,
//! and of a question no name is followed by a pointer.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Types of records.
pub const A: u16 = 1;
/// A name for an address.
pub const PTR: u16 = 12;
/// An IPv6 address.
pub const AAAA: u16 = 28;
/// Everything there is.
const ANY: u16 = 255;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

const HEADER: usize = 12;
/// Longest answer by datagram to who does not say what it can take.
const PLAIN: usize = 512;
/// Longest that is sent, and said to be taken: no fragments.
pub const LARGEST: usize = 1232;
/// Longest name.
const NAME: usize = 255;
/// Seconds for which an answer may be remembered: units come and go.
const LIFE: u32 = 1;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As the asker numbers it.
    pub id: u16,
    /// In lower case, without a dot at the end; labels divided by dots.
    pub name: String,
    /// Type of record.
    pub kind: u16,
    /// Longest answer by datagram.
    pub limit: usize,
    /// The same as the asker says it, for answers of others.
    pub takes: usize,
    /// The question as it came, to be repeated in the answer.
    raw: Vec<u8>,
    recursive: bool,
    extended: bool,
}

/// How an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// There may be records.
    Fine = 0,
    /// The question makes no sense.
    Malformed = 1,
    /// Those who should know do not answer.
    Failed = 2,
    /// There is no such name.
    NoName = 3,
    /// Of a kind that is not done here.
    NotDone = 4,
    /// Not for this asker.
    Refused = 5,
}

/// One record of an answer; its name is the question's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|pair| u16::from_be_bytes(*pair))
}

/// The number of a message, whatever else it is.
pub fn id(bytes: &[u8]) -> Option<u16> {
    number(bytes, 0)
}

/// Reads a question.
///
/// # Errors
/// What to answer; nothing at all to what is not even a question.
pub fn parse(bytes: &[u8]) -> Result<Question, Option<Code>> {
    let id = number(bytes, 0).ok_or(None)?;
    let flags = number(bytes, 2).ok_or(None)?;
    if flags & 0x8000 != 0 || bytes.len() < HEADER {
        return Err(None);
    }
    if flags & 0x7800 != 0 {
        return Err(Some(Code::NotDone));
    }
    let malformed = || Some(Code::Malformed);
    if number(bytes, 4) != Some(1) {
        return Err(malformed());
    }
    let (name, after) = name(bytes, HEADER).ok_or_else(malformed)?;
    let kind = number(bytes, after).ok_or_else(malformed)?;
    let class = number(bytes, after.saturating_add(2)).ok_or_else(malformed)?;
    let end = after.saturating_add(4);
    if class != INTERNET {
        return Err(Some(Code::NotDone));
    }
    let raw = bytes.get(HEADER..end).ok_or_else(malformed)?.to_vec();
    let extended = extension(bytes, end);
    let limit = extended.map_or(PLAIN, |size| usize::from(size).clamp(PLAIN, LARGEST));
    let takes = extended.map_or(PLAIN, |size| usize::from(size).max(PLAIN));
    let (recursive, extended) = (flags & 0x0100 != 0, extended.is_some());
    Ok(Question { id, name, kind, limit, takes, raw, recursive, extended })
}

/// A name at a place, and what is behind it.
fn name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at = at.checked_add(1)?;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 {
            return None;
        }
        let end = at.checked_add(length)?;
        let label = bytes.get(at..end)?;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            // What is no sign of a name cannot be one of ours, and does not look like one.
            match byte {
                b'.' | b'\\' | 0..=b' ' | 127.. => {
                    let _ = write!(name, "\\{byte:03}");
                }
                byte => name.push(char::from(byte.to_ascii_lowercase())),
            }
        }
        if end.checked_sub(HEADER)? > NAME {
            return None;
        }
        at = end;
    }
}

/// How long an answer may be, if the asker says so: the first record behind the question.
fn extension(bytes: &[u8], at: usize) -> Option<u16> {
    let none_before = number(bytes, 6) == Some(0) && number(bytes, 8) == Some(0);
    let one = number(bytes, 10)? > 0;
    let is_root = bytes.get(at) == Some(&0);
    let kind = number(bytes, at.checked_add(1)?)?;
    let size = number(bytes, at.checked_add(3)?)?;
    (none_before && one && is_root && kind == OPT).then_some(size)
}

/// Whether a kind of record is asked for.
pub fn wants(question: &Question, kind: u16) -> bool {
    question.kind == kind || question.kind == ANY
}

/// The address that a question for a name of an address is about.
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> =
            rest.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [d, c, b, a] = parts.try_into().ok()?;
        return Some(Ipv4Addr::new(a, b, c, d).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0_u32;
    for digit in rest.split('.').rev() {
        let value = digit.chars().next().filter(|_| digit.len() == 1)?.to_digit(16)?;
        bits = bits.checked_shl(4)? | u128::from(value);
        count = count.checked_add(1)?;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

/// An answer of at most `limit` bytes; records that do not fit are left out, and that is
/// said.
pub fn answer(question: &Question, code: Code, records: &[Record], limit: usize) -> Vec<u8> {
    let mut body = question.raw.clone();
    let room = limit.saturating_sub(HEADER).saturating_sub(11);
    let mut count = 0_u16;
    let mut cut = false;
    for record in records {
        let before = body.len();
        put(record, &mut body);
        if body.len() > room {
            body.truncate(before);
            cut = true;
            break;
        }
        count = count.saturating_add(1);
    }
    let mut flags = 0x8080_u16 | (code as u16);
    for (on, bit) in [(question.recursive, 0x0100), (cut, 0x0200), (code != Code::Refused, 0x0400)]
    {
        flags |= if on { bit } else { 0 };
    }
    let extra = u16::from(question.extended);
    let mut bytes = Vec::with_capacity(limit.min(LARGEST));
    for number in [question.id, flags, 1, count, 0, extra] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&body);
    if question.extended {
        bytes.push(0);
        let size = u16::try_from(LARGEST).unwrap_or(u16::MAX);
        for number in [OPT, size, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
    bytes
}

fn put(record: &Record, body: &mut Vec<u8>) {
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
        Record::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
        Record::Name(name) => (PTR, labels(name)),
    };
    // A pointer to the question's name.
    body.extend_from_slice(&[0xc0, 12]);
    body.extend_from_slice(&kind.to_be_bytes());
    body.extend_from_slice(&INTERNET.to_be_bytes());
    body.extend_from_slice(&LIFE.to_be_bytes());
    body.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    body.extend_from_slice(&data);
}

/// A name in the form of the wire; labels are cut to what one may have.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes();
        let label = label.get(..63).unwrap_or(label);
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

/// An answer without records to what could not be read as a question.
pub fn bare(bytes: &[u8], code: Code) -> Option<Vec<u8>> {
    let mut answer = number(bytes, 0)?.to_be_bytes().to_vec();
    answer.extend_from_slice(&(0x8080_u16 | (code as u16)).to_be_bytes());
    answer.extend_from_slice(&[0; 8]);
    Some(answer)
}

/// Whether an answer is one to this question, with this number.
pub fn answers(bytes: &[u8], question: &Question, id: u16) -> bool {
    let repeated = bytes.get(HEADER..).and_then(|rest| rest.get(..question.raw.len()));
    let same = |repeated: &[u8]| repeated.eq_ignore_ascii_case(&question.raw);
    number(bytes, 0) == Some(id)
        && number(bytes, 2).is_some_and(|flags| flags & 0x8000 != 0)
        && repeated.is_some_and(same)
}

/// An answer of another server as the asker can take it: one that is too long is cut to its
/// question, and says so.
pub fn fitted(bytes: &[u8], question: &Question) -> Vec<u8> {
    let mut copy = renumbered(bytes, question.id);
    if copy.len() > question.takes {
        copy.truncate(HEADER.saturating_add(question.raw.len()));
        if let Some(flags) = copy.get_mut(2) {
            *flags |= 0x02;
        }
        for count in copy.iter_mut().take(HEADER).skip(6) {
            *count = 0;
        }
    }
    copy
}

/// The same message with another number.
pub fn renumbered(bytes: &[u8], id: u16) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    for (to, from) in copy.iter_mut().zip(id.to_be_bytes()) {
        *to = from;
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(size.is_some())];
        bytes.extend(labels(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        if let Some(size) = size {
            bytes.extend([0, 0, 41]);
            bytes.extend(size.to_be_bytes());
            bytes.extend([0; 6]);
        }
        bytes
    }

    #[test]
    fn questions_are_read() {
        let question = parse(&ask("WEB.example", A, None)).unwrap();
        assert_eq!(
            (question.name.as_str(), question.kind, question.limit),
            ("web.example", A, 512)
        );
        assert_eq!(parse(&ask("a", A, Some(4096))).unwrap().limit, LARGEST);
        assert_eq!(parse(&ask("a", A, Some(1))).unwrap().limit, PLAIN);
    }

    #[test]
    fn nonsense_is_refused_and_answers_are_not_answered() {
        let whole = ask("web", A, None);
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end}");
        }
        let mut answer = whole.clone();
        answer[2] |= 0x80;
        assert_eq!(parse(&answer), Err(None));
        let mut pointer = whole.clone();
        pointer[HEADER] = 0xc0;
        assert_eq!(parse(&pointer), Err(Some(Code::Malformed)));
        let long = ask(&vec!["a".repeat(63); 5].join("."), A, None);
        assert_eq!(parse(&long), Err(Some(Code::Malformed)));
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let question = parse(&ask("web", A, None)).unwrap();
        let record = |host: u8| Record::Address(IpAddr::from([10, 0, 0, host]));
        let few = answer(&question, Code::Fine, &[record(1), record(2)], PLAIN);
        assert_eq!((few[7], few[2] & 2), (2, 0));
        assert!(answers(&few, &question, 0x1234) && !answers(&few, &question, 1));
        let records: Vec<Record> = (0..100).map(record).collect();
        let many = answer(&question, Code::Fine, &records, PLAIN);
        assert!(many.len() <= PLAIN && many[2] & 2 == 2);
    }

    #[test]
    fn another_servers_answer_is_not_longer_than_the_asker_takes() {
        let records: Vec<Record> =
            (0..100).map(|host| Record::Address(IpAddr::from([10, 0, 0, host]))).collect();
        let plain = parse(&ask("web", A, None)).unwrap();
        let long = answer(&plain, Code::Fine, &records, 4000);
        assert!(long.len() > 1500);
        let cut = fitted(&long, &plain);
        assert!(cut.len() < 50 && cut[2] & 2 == 2 && cut[6..12] == [0; 6], "{cut:?}");
        assert!(answers(&cut, &plain, plain.id) && cut[3] == long[3]);
        let wide = parse(&ask("web", A, Some(4096))).unwrap();
        assert_eq!(fitted(&long, &wide), long);
    }

    #[test]
    fn addresses_are_read_backwards() {
        assert_eq!(reversed("2.0.89.10.in-addr.arpa"), Some(IpAddr::from([10, 89, 0, 2])));
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reversed(six), Some("fd00::2".parse().unwrap()));
        for bad in ["1.2.3.in-addr.arpa", "x.ip6.arpa", "web", "1.1.1.1.1.in-addr.arpa"] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
    }
}
