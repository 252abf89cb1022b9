//! What the logger does for well-behaved services.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use berth::log::{FromLogger, Query, Stream, ToLogger};
use berth::unit::model::{Log, LogDriver};

use crate::support::{Logger, attach, file, read_all, text, texts, until, watched};

#[test]
fn a_mebibyte_and_an_unterminated_last_line_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut out = logger.pipe(&attach(1, "web", 1, Stream::Stdout, file(10 << 20, 3)));
    let mut output = String::new();
    for number in 0.. {
        if output.len() > 1 << 20 {
            break;
        }
        output.push_str(&format!("line {number} {}\n", "x".repeat(number % 150)));
    }
    output.push_str("the last one");
    out.write_all(output.as_bytes()).unwrap();
    drop(out);
    logger.expect_closed(1);
    assert_eq!(texts(directory.path(), "web").join("\n"), output);
    let file = fs::read_to_string(directory.path().join("web/current")).unwrap();
    assert!(file.ends_with(" stdout F:1 \n"), "the open line is ended");
    logger.finish();
}

#[test]
fn streams_runs_and_units_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let settings = file(1 << 20, 3);
    let mut out = logger.pipe(&attach(1, "web", 7, Stream::Stdout, settings.clone()));
    let mut err = logger.pipe(&attach(2, "web", 7, Stream::Stderr, settings.clone()));
    let mut next = logger.pipe(&attach(3, "web", 8, Stream::Stdout, settings.clone()));
    let mut other = logger.pipe(&attach(4, "db", 9, Stream::Stdout, settings.clone()));
    let mut own = logger.pipe(&attach(5, "berth", 0, Stream::Supervisor, settings));
    // Halves, one after the other: each must be written before the next.
    let log = directory.path().join("web/current");
    let size = || fs::metadata(&log).map_or(0, |metadata| metadata.len());
    for (writer, half) in [(&mut out, "out "), (&mut err, "err "), (&mut next, "next ")] {
        let before = size();
        writer.write_all(half.as_bytes()).unwrap();
        until("half a line is written", || size() > before);
    }
    for writer in [&mut out, &mut err, &mut next, &mut other, &mut own] {
        writer.write_all(b"end\n\xff\0\r\n").unwrap();
    }
    drop((out, err, next, other, own));
    (1..=5).for_each(|token| logger.expect_closed(token));
    let mut found: Vec<_> = read_all(directory.path(), Query::default())
        .into_iter()
        .map(|entry| (entry.unit, entry.stream, entry.run, entry.text))
        .collect();
    found.sort();
    let mut wanted = Vec::new();
    for (unit, stream, run, joined) in [
        ("berth", Stream::Supervisor, 0, "end"),
        ("db", Stream::Stdout, 9, "end"),
        ("web", Stream::Stdout, 7, "out end"),
        ("web", Stream::Stdout, 8, "next end"),
        ("web", Stream::Stderr, 7, "err end"),
    ] {
        for text in [joined.as_bytes(), b"\xff\0\r"] {
            wanted.push((unit.to_owned(), stream, run, text.to_vec()));
        }
    }
    assert_eq!(found, wanted);
    logger.finish();
}

#[test]
fn a_watched_line_is_reported_once_and_not_at_all_after_unwatch() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let nowhere = Log { driver: LogDriver::None, ..Log::default() };
    let ready = "^ready on [0-9]+$";
    let mut one = logger.pipe(&watched(attach(1, "a", 1, Stream::Stdout, nowhere.clone()), ready));
    let mut two = logger.pipe(&watched(attach(2, "b", 1, Stream::Stdout, Log::default()), ready));
    one.write_all(b"ready o").unwrap();
    two.write_all(b"not ready on 80\nready").unwrap();
    let log = directory.path().join("b/current");
    until("the half line was seen", || {
        fs::read_to_string(&log).is_ok_and(|file| file.contains("P:1 ready"))
    });
    logger.send(&ToLogger::Unwatch { token: 2 }, None);
    one.write_all(b"n 80\nready on 81\n").unwrap();
    logger.expect(|report| *report == FromLogger::Matched { token: 1 });
    two.write_all(b" on 80\n").unwrap();
    // The end of the line counts too.
    let mut three = logger.pipe(&watched(attach(3, "c", 1, Stream::Stdout, nowhere), ready));
    three.write_all(b"ready on 1").unwrap();
    drop((one, two, three));
    logger.expect(|report| *report == FromLogger::Matched { token: 3 });
    (1..=3).for_each(|token| logger.expect_closed(token));
    assert_eq!(logger.unexpected(), []);
    assert!(!directory.path().join("a").exists(), "driver none writes nothing");
    logger.finish();
}

#[test]
fn syslog_datagrams_are_lines_until_detached() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    logger.send(&attach(1, "web", 1, Stream::Syslog, Log::default()), Some(theirs.as_fd()));
    for datagram in ["<30>web[1]: one\n", "two", "", "<3>three\nfour\n\0"] {
        ours.send(datagram.as_bytes()).unwrap();
    }
    logger.send(&ToLogger::Detach { token: 1 }, None);
    logger.expect_closed(1);
    assert_eq!(texts(directory.path(), "web"), ["web[1]: one", "two", "three", "four"]);
    // Without a pipe, a datagram socket keeps nobody up, but what is there is written.
    logger.send(&attach(2, "web", 1, Stream::Syslog, Log::default()), Some(theirs.as_fd()));
    ours.send(b"five").unwrap();
    logger.finish();
    assert_eq!(texts(directory.path(), "web").last().unwrap(), "five");
}

#[test]
fn a_detached_pipe_is_let_go_after_all_that_was_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut outside = logger.pipe(&attach(1, "web", 1, Stream::Stdout, file(10 << 20, 3)));
    // Much more than one turn takes away, and a line that is not ended.
    rustix::pipe::fcntl_setpipe_size(&outside, 1 << 20).unwrap();
    let output = format!("{}the end", "0123456789012345678901234567890\n".repeat(20_000));
    // Stopped, it finds all of it in the pipe when it hears of the end.
    let pid = rustix::process::Pid::from_child(&logger.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    outside.write_all(output.as_bytes()).unwrap();
    logger.send(&ToLogger::Detach { token: 1 }, None);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    logger.expect_closed(1);
    assert!(texts(directory.path(), "web").join("\n") == output, "something is lost");
    // Whoever writes for ever is let go, too; it learns it as from any pipe without a reader.
    let mut flood = logger.pipe(&attach(2, "web", 2, Stream::Stdout, file(1 << 20, 2)));
    let writer = std::thread::spawn(move || while flood.write_all(&[b'x'; 4096]).is_ok() {});
    logger.send(&ToLogger::Detach { token: 2 }, None);
    logger.expect_closed(2);
    writer.join().unwrap();
    assert!(outside.write_all(b"too late").is_err());
    logger.finish();
}

#[test]
fn a_console_that_is_full_holds_up_only_who_writes_there() {
    let directory = tempfile::tempdir().unwrap();
    let (mut console, stdout) = std::io::pipe().unwrap();
    let mut logger = Logger::start_with(directory.path(), Stdio::from(stdout), |_| {});
    let to_console = Log { driver: LogDriver::Console, ..Log::default() };
    let mut loud = logger.pipe(&attach(1, "loud", 1, Stream::Stdout, to_console));
    let flood: String = (0..40_000).map(|number| format!("loud {number}\n")).collect();
    let wanted = flood.clone();
    let writer = std::thread::spawn(move || loud.write_all(flood.as_bytes()).unwrap());
    // Nobody reads the console; the others go on.
    let mut quiet = logger.pipe(&attach(2, "quiet", 1, Stream::Stdout, file(1 << 20, 3)));
    for number in 0..2000 {
        writeln!(quiet, "{number}").unwrap();
    }
    drop(quiet);
    logger.expect_closed(2);
    assert_eq!(texts(directory.path(), "quiet").len(), 2000);
    let reader = std::thread::spawn(move || {
        let mut seen = String::new();
        console.read_to_string(&mut seen).unwrap();
        seen
    });
    writer.join().unwrap();
    logger.expect_closed(1);
    logger.finish();
    let seen = reader.join().unwrap();
    assert!(seen.contains(&wanted), "{} of {} bytes", seen.len(), wanted.len());
    assert!(!directory.path().join("loud").exists());
}

#[test]
fn two_thousand_streams_cost_next_to_nothing() {
    const STREAMS: u64 = 2000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let unit = |token| format!("unit-{token}");
    let pipe = |logger: &Logger, token| {
        logger.pipe(&attach(token, &unit(token), 1, Stream::Stdout, Log::default()))
    };
    // Two that have had something to say, so that all that is made lazily is made.
    let mut writers = Vec::new();
    for token in 0..2 {
        let ready = watched(attach(token, &unit(token), 1, Stream::Stdout, Log::default()), "x");
        writers.push(logger.pipe(&ready));
        writers.last_mut().unwrap().write_all(b"x\n").unwrap();
        logger.expect(|report| *report == FromLogger::Matched { token });
    }
    let before = anonymous_kib(&logger);
    writers.extend((2..STREAMS).map(|token| pipe(&logger, token)));
    let last = watched(attach(STREAMS, "last", 1, Stream::Stdout, Log::default()), "x");
    writers.push(logger.pipe(&last));
    writers.last_mut().unwrap().write_all(b"x\n").unwrap();
    logger.expect(|report| *report == FromLogger::Matched { token: STREAMS });
    let after = anonymous_kib(&logger);
    assert!(after <= before + 1024, "{before} KiB, with {STREAMS} streams {after} KiB");
    // More units than files are kept open.
    for writer in &mut writers {
        writer.write_all(b"bye").unwrap();
    }
    drop(writers);
    (0..=STREAMS).for_each(|token| logger.expect_closed(token));
    logger.finish();
    for token in 2..STREAMS {
        let file = fs::read_to_string(directory.path().join(unit(token)).join("current"));
        assert!(file.unwrap().contains(" stdout P:1 bye\n"), "{token}");
    }
    let lines = read_all(directory.path(), Query::default());
    assert_eq!(lines.iter().filter(|entry| text(entry) == "bye").count(), 2001);
}

/// What it has made itself, in KiB: unlike its share of what others map too, this does not
/// change when those end.
fn anonymous_kib(logger: &Logger) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", logger.child.id())).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
