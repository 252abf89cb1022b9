//! The resolver and forged messages: properties of reading questions and writing answers, for
//! bytes that nobody would send.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::format_collect,
    reason = "a test that panics has failed, as it should"
)]

use std::net::IpAddr;

use berth::network::resolver::message::{self, A, AAAA, Code, PTR, Record};
use berth::network::resolver::zone::{Known, Place, Verdict, Zone};
use berth::network::wire::Ticket;
use proptest::prelude::*;

/// A question as a resolver's library asks it.
fn ask(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(size.is_some())];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    if let Some(size) = size {
        bytes.extend([0, 0, 41]);
        bytes.extend(size.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    for (unit, last) in (0_u64..40).zip(2_u8..) {
        let address = IpAddr::from([10, 0, 0, last]);
        let names = vec![format!("u{unit}"), "all".to_owned()];
        let place = Place { network: 0, names, addresses: vec![address], open: true };
        let known = Known { places: vec![place], ready: unit != 39 };
        zone.units.insert(Ticket { unit, run: 1 }, known);
    }
    zone
}

/// Everything that must hold of what is done with a datagram, whatever it is.
fn check(bytes: &[u8]) {
    let asker = IpAddr::from([10, 0, 0, 2]);
    match message::parse(bytes) {
        Ok(question) => {
            assert!(question.name.len() <= 4 * 255, "each byte is written by four at most");
            assert!((512..=message::LARGEST).contains(&question.limit));
            let Verdict::Answer(code, records) = zone().judge(asker, 0, &question) else { return };
            for limit in [question.limit, usize::from(u16::MAX)] {
                let answer = message::answer(&question, code, &records, limit);
                assert!(answer.len() <= limit);
                assert_eq!(answer[..2], bytes[..2], "the asker's number");
                assert!(answer[2] & 0x80 != 0 && message::parse(&answer) == Err(None));
                assert!(message::answers(&answer, &question, question.id));
                let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
                let whole = count == records.len();
                assert_eq!(answer[2] & 2 == 0, whole, "what is cut says so");
            }
        }
        Err(Some(code)) => {
            let answer = message::bare(bytes, code).unwrap();
            assert_eq!((answer.len(), &answer[..2]), (12, &bytes[..2]));
        }
        Err(None) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes);
        let question = message::parse(&ask("web", A, None)).unwrap();
        let _ = message::answers(&bytes, &question, 7);
        let _ = message::renumbered(&bytes, 7);
    }

    #[test]
    fn questions_that_were_damaged_are_survived(
        name in "(all|u[0-9]{1,2}|[a-z]{1,60})(\\.[a-z]{1,20}){0,3}",
        kind in prop::sample::select(vec![A, AAAA, PTR, 16, 255]),
        size in prop::option::of(any::<u16>()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = ask(&name, kind, size);
        check(&bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            check(&bytes);
        }
        bytes.truncate(cut.index(bytes.len()));
        check(&bytes);
    }

    #[test]
    fn a_question_is_read_as_it_was_asked(
        name in "[a-z][a-z0-9-]{0,62}(\\.[a-z0-9-]{1,30}){0,4}",
        kind in any::<u16>(),
        size in any::<u16>(),
    ) {
        let question = message::parse(&ask(&name.to_uppercase(), kind, Some(size))).unwrap();
        prop_assert_eq!(&question.name, &name);
        prop_assert_eq!(question.kind, kind);
        prop_assert_eq!(question.limit, usize::from(size).clamp(512, message::LARGEST));
    }

    #[test]
    fn names_of_addresses_are_found_both_ways(bits in any::<u128>(), small in any::<u32>()) {
        let six = std::net::Ipv6Addr::from(bits);
        let digits: String =
            format!("{bits:032x}").chars().rev().map(|digit| format!("{digit}.")).collect();
        prop_assert_eq!(message::reversed(&format!("{digits}ip6.arpa")), Some(six.into()));
        let [a, b, c, d] = small.to_be_bytes();
        let name = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
        prop_assert_eq!(message::reversed(&name), Some(IpAddr::from([a, b, c, d])));
    }
}

#[test]
fn what_does_not_fit_is_cut_and_whole_by_connection() {
    let question = message::parse(&ask("all", A, None)).unwrap();
    let records: Vec<Record> =
        (0..100).map(|last| Record::Address(IpAddr::from([10, 0, 0, last]))).collect();
    let cut = message::answer(&question, Code::Fine, &records, question.limit);
    assert!(cut.len() <= 512 && cut[2] & 2 == 2 && cut[7] > 20);
    let more = message::parse(&ask("all", A, Some(4096))).unwrap();
    let more = message::answer(&more, Code::Fine, &records, more.limit);
    assert!(more.len() > 1000 && more.len() <= message::LARGEST && more[7] > cut[7]);
    let whole = message::answer(&question, Code::Fine, &records, usize::from(u16::MAX));
    assert!(whole[7] == 100 && whole[2] & 2 == 0);
}
