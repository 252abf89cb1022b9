//! Whatever the bytes and however they are split: the same messages, the same error.

use berth::protocol::exec::{Frame, Frames, FromCommand, ToCommand};
use berth::protocol::types::Exit;
use berth::protocol::{FRAME_MAX, FrameError, Inbox, Outbox};
use proptest::collection::vec;
use proptest::prelude::*;

/// Small, so that random bytes reach it.
const LIMIT: usize = 24;

/// Bytes cut at these places (taken modulo their length).
fn split(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// All messages of these pieces, and how it ended.
fn messages(pieces: &[Vec<u8>]) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut inbox = Inbox::new(LIMIT);
    let mut found = Vec::new();
    for piece in pieces {
        inbox.feed(piece);
        loop {
            match inbox.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(inbox.next_message(), Err(error.clone()), "it stays broken");
                    break;
                }
            }
        }
    }
    (found, inbox.end())
}

fn frames<F: Frame>(pieces: &[Vec<u8>]) -> (Vec<F>, Result<(), FrameError>) {
    let mut inbox = Frames::default();
    let mut found = Vec::new();
    for piece in pieces {
        inbox.feed(piece);
        while let Ok(Some(frame)) = inbox.next_frame() {
            found.push(frame);
        }
    }
    (found, inbox.end())
}

/// What the rules say, written down once more without any buffer.
fn by_the_rules(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        let nul = rest.iter().position(|byte| *byte == 0);
        match nul {
            Some(0) => return (found, Err(FrameError::Empty)),
            Some(at) if at < LIMIT => {
                found.push(rest[..at].to_vec());
                rest = &rest[at + 1..];
            }
            None if rest.is_empty() => return (found, Ok(())),
            None if rest.len() < LIMIT => return (found, Err(FrameError::HalfSent)),
            _ => return (found, Err(FrameError::TooLong { limit: LIMIT })),
        }
    }
}

/// Bytes with enough NULs among them.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1 => Just(0_u8), 12 => any::<u8>()], 0..200)
}

fn to_command() -> impl Strategy<Value = ToCommand> {
    prop_oneof![
        vec(any::<u8>(), 1..300).prop_map(ToCommand::Stdin),
        Just(ToCommand::StdinEof),
        (any::<u16>(), any::<u16>())
            .prop_map(|(rows, columns)| ToCommand::Resize { rows, columns }),
        (1..=64_u8).prop_map(ToCommand::Signal),
    ]
}

fn from_command() -> impl Strategy<Value = FromCommand> {
    prop_oneof![
        vec(any::<u8>(), 1..300).prop_map(FromCommand::Stdout),
        vec(any::<u8>(), 1..300).prop_map(FromCommand::Stderr),
        any::<i32>().prop_map(|code| FromCommand::Exit(Exit::Code(code))),
        any::<i32>().prop_map(|number| FromCommand::Exit(Exit::Signal(number))),
    ]
}

fn encoded<F: Frame>(frames: &[F]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    bytes
}

proptest! {
    #[test]
    fn any_split_of_any_bytes_gives_the_same(bytes in noise(), cuts in vec(any::<usize>(), 0..20)) {
        prop_assert_eq!(messages(&split(&bytes, &cuts)), by_the_rules(&bytes));
    }

    #[test]
    fn messages_arrive_as_sent(
        sent in vec(vec(1..=255_u8, 1..LIMIT), 0..20),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|m| [m.as_slice(), &[0]].concat()).collect();
        prop_assert_eq!(messages(&split(&bytes, &cuts)), (sent, Ok(())));
    }

    #[test]
    fn the_rest_after_an_upgrade_is_kept(rest in vec(any::<u8>(), 0..50)) {
        let mut inbox = Inbox::default();
        inbox.feed(b"{}\0");
        inbox.feed(&rest);
        prop_assert_eq!(inbox.next_message(), Ok(Some(b"{}".to_vec())));
        prop_assert_eq!(inbox.into_rest(), rest);
    }

    #[test]
    fn frames_arrive_as_sent(
        to in vec(to_command(), 0..10),
        from in vec(from_command(), 0..10),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(frames(&split(&encoded(&to), &cuts)), (to, Ok(())));
        prop_assert_eq!(frames(&split(&encoded(&from), &cuts)), (from, Ok(())));
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_frames(
        start in vec(to_command(), 0..3),
        noise in vec(any::<u8>(), 0..40),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let bytes = [encoded(&start), noise].concat();
        let whole = frames::<ToCommand>(std::slice::from_ref(&bytes));
        prop_assert_eq!(frames(&split(&bytes, &cuts)), whole);
    }

    #[test]
    fn an_outbox_gives_back_what_it_took_and_no_more_than_its_limit(
        steps in vec((vec(any::<u8>(), 0..40), 0..60_usize), 0..60),
    ) {
        let mut outbox = Outbox::new(100);
        let (mut taken, mut sent) = (Vec::<u8>::new(), Vec::<u8>::new());
        for (message, count) in steps {
            let waiting = outbox.len();
            match outbox.push(&message) {
                Ok(()) => taken.extend(message),
                Err(error) => {
                    prop_assert_eq!(error, FrameError::Overflow { limit: 100 });
                    prop_assert!(waiting + message.len() > 100);
                    prop_assert_eq!(outbox.len(), waiting);
                }
            }
            prop_assert!(outbox.len() <= 100);
            let count = count.min(outbox.len());
            sent.extend(&outbox.pending()[..count]);
            outbox.advance(count);
        }
        sent.extend(outbox.pending());
        prop_assert_eq!(sent, taken);
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let longest = vec![b'x'; LIMIT - 1];
    assert_eq!(messages(&[longest.clone(), vec![0]]), (vec![longest.clone()], Ok(())));
    let over = Err(FrameError::TooLong { limit: LIMIT });
    assert_eq!(messages(&[longest.clone(), b"x".to_vec()]), (vec![], over.clone()));
    assert_eq!(messages(&[longest, b"x\0".to_vec()]), (vec![], over));
    assert_eq!(messages(&[b"ok\0\0ok\0".to_vec()]), (vec![b"ok".to_vec()], Err(FrameError::Empty)));
    assert_eq!(messages(&[b"half".to_vec()]), (vec![], Err(FrameError::HalfSent)));
}

#[test]
fn long_data_becomes_several_frames() {
    let data = vec![7; FRAME_MAX * 2 + 1];
    let bytes = encoded(&[FromCommand::Stdout(data.clone())]);
    let (found, end) = frames::<FromCommand>(&[bytes]);
    let parts: Vec<Vec<u8>> = found
        .into_iter()
        .map(|frame| match frame {
            FromCommand::Stdout(part) => part,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [FRAME_MAX, FRAME_MAX, 1]);
    assert_eq!((parts.concat(), end), (data, Ok(())));
}

#[test]
fn malformed_frames_have_names() {
    for (bytes, error) in [
        (&[0, 1, 0, 1, 0][..], FrameError::TooLong { limit: FRAME_MAX }),
        (&[0, 255, 255, 255, 255], FrameError::TooLong { limit: FRAME_MAX }),
        (&[4, 0, 0, 0, 0], FrameError::UnknownKind(4)),
        (&[16, 0, 0, 0, 0], FrameError::UnknownKind(16)),
        (&[1, 1, 0, 0, 0, 9], FrameError::BadPayload(1)),
        (&[2, 3, 0, 0, 0, 1, 2, 3], FrameError::BadPayload(2)),
        (&[3, 1, 0, 0, 0, 0], FrameError::BadPayload(3)),
        (&[3, 1, 0, 0, 0, 65], FrameError::BadPayload(3)),
        (&[3, 0, 0, 0, 0], FrameError::BadPayload(3)),
        (&[0, 2, 0, 0, 0, 1], FrameError::HalfSent),
        (&[0, 2], FrameError::HalfSent),
    ] {
        assert_eq!(frames::<ToCommand>(&[bytes.to_vec()]), (vec![], Err(error)), "{bytes:?}");
    }
    for (bytes, error) in [
        (&[0, 0, 0, 0, 0][..], FrameError::UnknownKind(0)),
        (&[18, 5, 0, 0, 0, 2, 0, 0, 0, 0], FrameError::BadPayload(18)),
        (&[18, 4, 0, 0, 0, 0, 0, 0, 0], FrameError::BadPayload(18)),
        (&[19, 1, 0, 0, 0, 255], FrameError::UnknownKind(19)),
    ] {
        assert_eq!(frames::<FromCommand>(&[bytes.to_vec()]), (vec![], Err(error)), "{bytes:?}");
    }
}
