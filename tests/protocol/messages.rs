//! Calls and replies: what is accepted, what is refused and how, what is never too long.

use berth::protocol::message::{ReplyError, encode_error, encode_reply};
use berth::protocol::method::{ApplyReply, Call, Empty, LogsReply, Start, Version};
use berth::protocol::types::{LogEntry, LogStream};
use berth::protocol::{Error, FrameError, MESSAGE_MAX, Mode, Page, Rejection, Reply, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(call: &Value) -> Result<Request, Rejection> {
    Request::parse(&serde_json::to_vec(call).unwrap())
}

fn call(method: &str, parameters: Value, mode: &str) -> Value {
    let mut call = json!({"method": format!("org.berth.Control.{method}")});
    if !parameters.is_null() {
        call["parameters"] = parameters;
    }
    if !mode.is_empty() {
        call[mode] = json!(true);
    }
    call
}

fn answer(method: &str, parameters: Value, mode: &str) -> Error {
    match parse(&call(method, parameters, mode)) {
        Err(Rejection::Answer(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_read_as_written() {
    let start = Start { units: vec!["a".to_owned(), "b".to_owned()], wait: true };
    for (mode, expected) in [
        (Mode::More, Ok(Request { call: Call::Start(start.clone()), mode: Mode::More })),
        (Mode::Single, Err(Rejection::Answer(Error::ExpectedMore {}))),
        (Mode::Oneway, Ok(Request { call: Call::Start(start.clone()), mode: Mode::Oneway })),
    ] {
        let mut message = Request::encode(&start, mode).unwrap();
        assert_eq!(message.pop(), Some(0));
        assert_eq!(Request::parse(&message), expected);
    }
    // Parameters may be missing or null where there are none; flags may be null.
    for parameters in [Value::Null, json!({})] {
        let version = call("Version", parameters, "");
        let expected = Request { call: Call::Version(Version {}), mode: Mode::Single };
        assert_eq!(parse(&version), Ok(expected));
    }
    let odd = json!({"method": "org.berth.Control.Version", "parameters": null, "more": null});
    assert!(parse(&odd).is_ok());
}

#[test]
fn wrong_parameters_are_named() {
    let invalid = |parameter: &str| Error::InvalidParameter { parameter: parameter.to_owned() };
    for (method, parameters, parameter) in [
        ("Start", json!({"units": ["a"]}), "wait"),
        ("Start", json!({"wait": true}), "units"),
        ("Start", Value::Null, "units"),
        ("Start", json!({"units": ["a"], "wait": 3}), "wait"),
        ("Start", json!({"units": "a", "wait": true}), "units"),
        ("Start", json!({"units": ["a", 3], "wait": true}), "units"),
        ("Start", json!({"units": ["a"], "wait": true, "now": true}), "now"),
        ("Start", json!({"units": ["a"], "wait": true, "a`b": true}), "a`b"),
        ("Start", json!({"units": [], "wait": true}), "units"),
        ("Start", json!({"units": ["a", "a"], "wait": true}), "units"),
        ("Version", json!({"x": 1}), "x"),
        ("Kill", json!({"units": ["a"], "signal": 0}), "signal"),
        ("Kill", json!({"units": ["a"], "signal": 65}), "signal"),
        ("Kill", json!({"units": ["a"], "signal": "TERM"}), "signal"),
        ("Logs", json!({"units": [], "lines": -1, "follow": false}), "lines"),
        ("Shutdown", json!({"how": "sideways"}), "how"),
        ("Freeze", json!({"units": []}), "units"),
    ] {
        assert_eq!(answer(method, parameters.clone(), ""), invalid(parameter), "{parameters}");
    }
    let exec =
        |command: Value| json!({"unit": "a", "command": command, "tty": false, "stdin": true});
    assert_eq!(answer("Exec", exec(json!([])), "upgrade"), invalid("command"));
    assert!(matches!(answer("Exec", exec(json!(["ls"])), ""), Error::Refused { .. }));
    assert!(matches!(answer("Version", Value::Null, "upgrade"), Error::Refused { .. }));
    assert!(parse(&call("Exec", exec(json!(["ls"])), "upgrade")).is_ok());
}

#[test]
fn streams_need_more() {
    let follow = json!({"units": [], "follow": true});
    assert_eq!(answer("Logs", follow.clone(), ""), Error::ExpectedMore {});
    assert_eq!(answer("Events", json!({}), ""), Error::ExpectedMore {});
    assert!(parse(&call("Logs", follow, "more")).is_ok());
    assert!(parse(&call("Events", json!({}), "more")).is_ok());
    assert!(parse(&call("List", json!({}), "")).is_ok(), "it may fit");
}

#[test]
fn unknown_methods_and_interfaces_are_answered() {
    let missing = Error::MethodNotFound { method: "org.berth.Control.Dance".to_owned() };
    assert_eq!(answer("Dance", Value::Null, ""), missing);
    for (method, error) in [
        ("org.example.Dance", Error::InterfaceNotFound { interface: "org.example".to_owned() }),
        ("Dance", Error::MethodNotFound { method: "Dance".to_owned() }),
        ("", Error::MethodNotFound { method: String::new() }),
    ] {
        assert_eq!(parse(&json!({ "method": method })), Err(Rejection::Answer(error)));
    }
    assert_eq!(parse(&call("Dance", Value::Null, "oneway")), Err(Rejection::Ignore));
}

#[test]
fn what_is_no_call_cuts_off() {
    for message in [
        &b"hello"[..],
        b"",
        b"{",
        b"[]",
        b"[\"org.berth.Control.List\"]",
        b"3",
        b"null",
        b"{}",
        b"{\"method\":3}",
        b"{\"method\":\"org.berth.Control.List\"} trailing",
        b"{\"method\":\"org.berth.Control.List\",\"parameters\":[]}",
        b"{\"method\":\"org.berth.Control.List\",\"more\":true,\"upgrade\":true}",
        b"{\"method\":\"\xff\"}",
    ] {
        let rejection = Request::parse(message).unwrap_err();
        assert!(
            matches!(rejection, Rejection::CutOff(FrameError::NotAMessage(_))),
            "{} {rejection:?}",
            String::from_utf8_lossy(message)
        );
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused_and_do_not_overflow_the_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for message in [
            deep.clone(),
            format!("{{\"method\":\"org.berth.Control.List\",\"parameters\":{{\"x\":{deep}}}}}"),
        ] {
            let Err(Rejection::CutOff(FrameError::NotAMessage(reason))) =
                Request::parse(message.as_bytes())
            else {
                panic!("accepted");
            };
            assert!(reason.contains("recursion limit") || reason.contains("expected"), "{reason}");
            assert!(Reply::<Empty>::parse(message.as_bytes()).is_err());
        }
    }
}

#[test]
fn errors_fit_into_a_message_whatever_was_asked_for() {
    let unit = "\u{1}".repeat(MESSAGE_MAX);
    let error = Error::NoSuchUnit { unit: unit.clone(), nearest: Some(unit) };
    let mut message = encode_error(error);
    assert!(message.len() <= MESSAGE_MAX);
    assert_eq!(message.pop(), Some(0));
    let Err(ReplyError::Answered(Error::NoSuchUnit { unit, .. })) = Reply::<Empty>::parse(&message)
    else {
        panic!();
    };
    assert!(unit.starts_with("\u{1}\u{1}") && unit.ends_with('…'));
    let unknown = Error::Unknown { name: "a.b.C".to_owned(), parameters: "{}".to_owned() };
    assert!(encode_error(unknown).ends_with(b"}\0"), "still a message");
}

/// The replies, each within the limit, all but the last saying that another follows.
fn replies<P: serde::de::DeserializeOwned>(messages: Vec<Vec<u8>>) -> Vec<P> {
    let last = messages.len() - 1;
    let parse = |(index, mut message): (usize, Vec<u8>)| {
        assert!(message.len() <= MESSAGE_MAX, "{} bytes", message.len());
        assert_eq!(message.pop(), Some(0));
        let reply = Reply::<P>::parse(&message).unwrap();
        assert_eq!(reply.continues, index != last);
        reply.parameters
    };
    messages.into_iter().enumerate().map(parse).collect()
}

fn entry(text: String) -> LogEntry {
    LogEntry {
        time: "2026-01-31T14:30:00Z".to_owned(),
        unit: "web".to_owned(),
        run: Some(1),
        stream: LogStream::Stdout,
        partial: false,
        text,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_makes_the_parsers_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
        let _ = Reply::<LogsReply>::parse(&bytes);
    }

    #[test]
    fn a_long_list_arrives_whole_in_pages(
        texts in vec(prop_oneof![any::<String>(), "x{0,9000}", "\u{1}{0,8000}"], 0..40),
    ) {
        let entries: Vec<LogEntry> = texts.into_iter().map(entry).collect();
        let pages = pages(&entries).collect::<Result<Vec<_>, _>>().unwrap();
        let joined: Vec<LogEntry> =
            replies::<LogsReply>(pages).into_iter().flat_map(|page| page.entries).collect();
        prop_assert_eq!(joined, entries);
    }

    #[test]
    fn a_log_line_of_any_length_arrives_in_parts(
        text in prop_oneof!["[a-zü]{0,20000}", "\u{1}{0,60000}", any::<String>()],
    ) {
        let parts = entry(text.clone()).pieces();
        for (index, part) in parts.iter().enumerate() {
            prop_assert_eq!(part.partial, index + 1 < parts.len());
            let page = LogsReply { entries: vec![part.clone()] };
            prop_assert!(encode_reply(&page, true).is_ok());
        }
        prop_assert_eq!(parts.into_iter().map(|part| part.text).collect::<String>(), text);
    }

    #[test]
    fn a_plan_of_any_size_arrives_whole(
        counts in vec(0..3000_usize, 4),
        diagnostics in prop_oneof!["[a-zü\n\u{1}]{0,40000}", Just(String::new())],
        mistakes in 0..9_u32,
    ) {
        let names = |list: usize| (0..counts[list]).map(|n| format!("{n:-<64}")).collect();
        let whole = ApplyReply {
            diagnostics, mistakes,
            add: names(0), change: names(1), restart: names(2), remove: names(3),
        };
        let parts = whole.clone().pieces();
        let last = parts.len() - 1;
        let encode =
            |(index, part): (usize, &ApplyReply)| encode_reply(part, index != last).unwrap();
        let messages = parts.iter().enumerate().map(encode).collect();
        let mut joined = ApplyReply::default();
        for part in replies::<ApplyReply>(messages) {
            joined.join(part);
        }
        prop_assert_eq!(joined, whole);
    }
}

#[test]
fn an_element_that_fits_nowhere_is_an_error_and_not_cut() {
    let entries = [entry("ok".to_owned()), entry("x".repeat(MESSAGE_MAX))];
    let mut pages = pages(&entries);
    assert!(pages.next().unwrap().is_ok());
    assert_eq!(pages.next(), Some(Err(FrameError::TooLong { limit: MESSAGE_MAX })));
    assert_eq!(pages.next(), None);
    let page = LogsReply { entries: entries.to_vec() };
    assert_eq!(encode_reply(&page, false), Err(FrameError::TooLong { limit: MESSAGE_MAX }));
}

#[test]
fn an_empty_list_is_one_empty_reply() {
    let pages: Vec<_> = pages(&[]).map(Result::unwrap).collect();
    assert_eq!(pages, [b"{\"parameters\":{\"entries\":[]}}\0".to_vec()]);
}

/// A list as a row of replies, the way the supervisor makes them.
fn pages(entries: &[LogEntry]) -> impl Iterator<Item = Result<Vec<u8>, FrameError>> + '_ {
    let mut entries = Some(entries.iter().peekable());
    std::iter::from_fn(move || {
        let left = entries.as_mut()?;
        let mut page = Page::new("entries");
        while let Some(entry) = left.peek() {
            match page.push(entry) {
                Ok(true) => drop(left.next()),
                Ok(false) => return Some(Ok(page.finish(true))),
                Err(error) => {
                    entries = None;
                    return Some(Err(error));
                }
            }
        }
        entries = None;
        Some(Ok(page.finish(false)))
    })
}
