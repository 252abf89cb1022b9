//! What the logger does when it is flooded, killed, left alone, or out of space.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{PipeReader, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth::log::{FromLogger, Query, Stream, ToLogger, read};
use berth::unit::model::Log;

use crate::support::{
    Logger, attach, file, files, once_more, read_all, record, text, texts, until, watched,
};

/// A small generator: moments that differ from run to run would fail for nobody else.
fn moments() -> impl Iterator<Item = Duration> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(state % 20_000)
    })
}

#[test]
fn a_logger_killed_at_any_moment_loses_no_line() {
    const LINES: u32 = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let order = attach(1, "web", 1, Stream::Stdout, file(64 << 20, 3));
    let done = AtomicBool::new(false);
    let mut kills = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..LINES {
                // In halves, so that the logger meets open lines.
                let line = format!("number {number} of many\n");
                let (one, two) = line.split_at(line.len() / 2);
                writer.write_all(one.as_bytes()).unwrap();
                writer.write_all(two.as_bytes()).unwrap();
            }
            drop(writer);
            done.store(true, Ordering::Release);
        });
        let mut logger = Logger::start(directory.path());
        logger.send(&order, Some(reader.as_fd()));
        for moment in moments() {
            if done.load(Ordering::Acquire) {
                break;
            }
            // Not a wait for something: the moment of the kill is what varies.
            std::thread::park_timeout(moment);
            logger.kill();
            kills += 1;
            logger = Logger::start(directory.path());
            logger.send(&once_more(order.clone()), Some(reader.as_fd()));
        }
        logger.expect_closed(1);
        logger.finish();
    });
    assert!(kills > 5, "only {kills} kills");
    let lines = texts(directory.path(), "web");
    let seen: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    for number in 0..LINES {
        let line = format!("number {number} of many");
        assert!(seen.contains(line.as_str()), "{line} is lost after {kills} kills");
    }
    // A repeated chunk is all that may be there besides.
    let most = usize::try_from(LINES).unwrap() + kills * (64 * 1024 / 16);
    assert!(lines.len() <= most, "{} lines after {kills} kills", lines.len());
}

#[test]
fn a_new_logger_cuts_off_half_a_record_and_ends_open_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let order = attach(1, "web", 1, Stream::Stdout, file(1 << 20, 3));
    let logger = Logger::start(directory.path());
    logger.send(&order, Some(reader.as_fd()));
    writer.write_all(b"one\ntw").unwrap();
    let log = directory.path().join("web/current");
    let written = |end: &str| {
        // And taken from the pipe, or it would rightly come twice.
        fs::read_to_string(&log).is_ok_and(|file| file.ends_with(end))
            && rustix::io::ioctl_fionread(&reader).unwrap() == 0
    };
    until("the output is written", || written(" stdout P:1 tw\n"));
    logger.kill();
    let mut torn = fs::OpenOptions::new().append(true).open(&log).unwrap();
    torn.write_all(b"2026-11-20T10:00:00.000000000Z stdout F:1 half a rec").unwrap();

    // The same stream goes on with its line.
    let logger = Logger::start(directory.path());
    logger.send(&once_more(order.clone()), Some(reader.as_fd()));
    writer.write_all(b"o\nthr").unwrap();
    until("the output is written", || written(" stdout P:1 thr\n"));
    assert_eq!(texts(directory.path(), "web"), ["one", "two", "thr"]);
    logger.kill();

    // It ends while nobody is there: its line is ended by the next logger.
    drop(writer);
    let mut logger = Logger::start(directory.path());
    logger.send(&once_more(order.clone()), Some(reader.as_fd()));
    logger.expect_closed(1);
    assert!(fs::read_to_string(&log).unwrap().ends_with(" stdout F:1 \n"));

    // After a crash runs are counted anew: the old line is not continued.
    let mut broken = fs::OpenOptions::new().append(true).open(&log).unwrap();
    broken.write_all(b"2026-11-20T10:00:00.000000000Z stdout P:1 before the crash\n").unwrap();
    let mut writer = logger.pipe(&attach(2, "web", 1, Stream::Stdout, file(1 << 20, 3)));
    writer.write_all(b"after it\n").unwrap();
    drop(writer);
    logger.expect_closed(2);
    logger.finish();
    let wanted = ["one", "two", "thr", "before the crash", "after it"];
    assert_eq!(texts(directory.path(), "web"), wanted);
}

#[test]
fn a_chunk_that_was_written_but_not_taken_comes_twice_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As a logger leaves it that is killed right after it has written a chunk.
    let earlier = record(1, "stdout P:1 one, ");
    let chunk = record(2, "stdout F:1 two") + &record(2, "stdout P:1 thr");
    files(directory.path(), "web", &[&(earlier + &chunk)]);
    writer.write_all(b"two\nthree\nfour\n").unwrap();
    drop(writer);
    let mut logger = Logger::start(directory.path());
    let order = once_more(attach(1, "web", 1, Stream::Stdout, file(1 << 20, 3)));
    logger.send(&order, Some(reader.as_fd()));
    logger.expect_closed(1);
    logger.finish();
    assert_eq!(texts(directory.path(), "web"), ["one, two", "thr", "two", "three", "four"]);
}

#[test]
fn a_watched_line_is_found_although_two_loggers_had_it() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let order = watched(attach(1, "web", 1, Stream::Stdout, Log::default()), "^ready on 80$");
    let logger = Logger::start(directory.path());
    logger.send(&order, Some(reader.as_fd()));
    writer.write_all(b"not yet\nready").unwrap();
    until("half the line is taken", || {
        directory.path().join("web/current").exists()
            && rustix::io::ioctl_fionread(&reader).unwrap() == 0
    });
    logger.kill();
    writer.write_all(b" on 80\n").unwrap();
    let mut logger = Logger::start(directory.path());
    logger.send(&once_more(order), Some(reader.as_fd()));
    logger.expect(|report| *report == FromLogger::Matched { token: 1 });
    drop(writer);
    logger.expect_closed(1);
    logger.finish();
    assert_eq!(texts(directory.path(), "web"), ["not yet", "ready on 80"]);
}

#[test]
fn a_logger_whose_berth_has_died_stays_until_the_last_pipe_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut out = logger.pipe(&watched(attach(1, "a", 1, Stream::Stdout, Log::default()), "x"));
    out.write_all(b"x\n").unwrap();
    logger.expect(|report| *report == FromLogger::Matched { token: 1 });
    logger.channel = None;
    out.write_all(b"still heard\n").unwrap();
    until("the line is written", || texts(directory.path(), "a") == ["x", "still heard"]);
    assert!(logger.child.try_wait().unwrap().is_none());
    drop(out);
    logger.expect_exit();
}

#[test]
fn a_follower_sees_every_line_of_a_flood_over_many_rotations() {
    const LINES: usize = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut out = logger.pipe(&attach(1, "web", 1, Stream::Stdout, file(64 << 10, 200)));
    let (end, until_fd) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(directory.path(), end));
        for number in 0..LINES {
            writeln!(out, "{number}").unwrap();
        }
        write!(out, "end").unwrap();
        drop(out);
        logger.expect_closed(1);
        drop(until_fd);
        let seen = follower.join().unwrap();
        assert_eq!(seen.len(), LINES + 1);
        for (number, line) in seen.iter().take(LINES).enumerate() {
            assert_eq!(*line, number.to_string());
        }
        assert_eq!(seen.last().unwrap(), "end");
    });
    let rotated = fs::read_dir(directory.path().join("web")).unwrap().count();
    assert!(rotated > 50, "{rotated}");
    logger.finish();
}

fn follow(directory: &std::path::Path, end: PipeReader) -> Vec<String> {
    let until_fd = Some(OwnedFd::from(end));
    read_all(directory, Query { follow: true, until_fd, ..Query::default() })
        .iter()
        .map(text)
        .collect()
}

#[test]
fn files_stay_within_their_bounds_and_keep_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut write = |token, settings| {
        let mut out = logger.pipe(&attach(token, "web", token, Stream::Stdout, settings));
        for number in 0..20_000 {
            writeln!(out, "{token} {number}").unwrap();
        }
        drop(out);
        logger.expect_closed(token);
    };
    let sizes = || {
        let mut sizes = Vec::new();
        for entry in fs::read_dir(directory.path().join("web")).unwrap() {
            let entry = entry.unwrap();
            sizes.push((entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()));
        }
        sizes.sort();
        sizes
    };
    for (token, max_files) in [(1, 4), (2, 2), (3, 1)] {
        write(token, file(5000, max_files));
        let sizes = sizes();
        assert_eq!(sizes.len(), usize::try_from(max_files).unwrap(), "{sizes:?}");
        assert!(sizes.iter().all(|(_, size)| *size <= 5000), "{sizes:?}");
        assert!(sizes.iter().skip(1).all(|(_, size)| *size > 4900), "{sizes:?}");
        assert_eq!(texts(directory.path(), "web").last().unwrap(), &format!("{token} 19999"));
    }
    // A line that is larger than a file is allowed to be still is written.
    let mut out = logger.pipe(&attach(4, "web", 4, Stream::Stdout, file(5000, 3)));
    let long = "x".repeat(200_000);
    writeln!(out, "{long}").unwrap();
    drop(out);
    logger.expect_closed(4);
    let lines = read_all(directory.path(), Query::default());
    let joined: String = lines.iter().filter(|entry| entry.run == 4).map(text).collect();
    assert!(long.ends_with(&joined) && joined.len() >= 64 * 1024, "{}", joined.len());
    logger.finish();
}

#[test]
fn a_flood_slows_only_its_writer() {
    const FLOODS: u64 = 8;
    const CAPACITY: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    // Everything is there before the logger begins, so that its order is its own choice.
    let logger = Logger::start_with(directory.path(), Stdio::null(), |channel| {
        for token in 0..=FLOODS {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let unit = if token == FLOODS { "quiet".to_owned() } else { format!("flood-{token}") };
            if token == FLOODS {
                writer.write_all(b"hello\n").unwrap();
            } else {
                rustix::pipe::fcntl_setpipe_size(&writer, CAPACITY).unwrap();
                let line = [b"x".repeat(99), b"\n".to_vec()].concat();
                writer.write_all(&line.repeat(CAPACITY / 100)).unwrap();
            }
            let order = attach(token, &unit, 1, Stream::Stdout, file(16 << 20, 3));
            channel.send(&order, Some(reader.as_fd())).unwrap();
        }
        channel.send(&ToLogger::Finish, None).unwrap();
    });
    let mut logger = logger;
    (0..=FLOODS).for_each(|token| logger.expect_closed(token));
    logger.expect_exit();
    let lines = read_all(directory.path(), Query::default());
    let before = lines.iter().take_while(|entry| entry.unit != "quiet").count();
    let chunk = 64 * 1024 / 100 + 1;
    let most = chunk * usize::try_from(FLOODS).unwrap();
    assert!(before <= most, "{before} lines of the floods came first");
    assert_eq!(lines.len(), usize::try_from(FLOODS).unwrap() * (CAPACITY / 100) + 1);
}

/// A service that says so many lines while the disk is full; its log once there is room.
fn said_to_a_full_disk(count: usize) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = berth::log::Channel::pair().unwrap();
    // The file system is the logger's own and goes with it.
    let script = "mount -t tmpfs -o size=256k tmpfs \"$BERTH_TEST_LOGS\" &&
        head -c 240k /dev/zero > \"$BERTH_TEST_LOGS/filler\" &&
        exec \"$0\" --ignored --exact logger_process --nocapture";
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("BERTH_TEST_LOGS", directory.path())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut logger = Logger::of(child, ours);
    let mut out = logger.pipe(&attach(1, "web", 1, Stream::Stdout, file(1 << 20, 3)));
    let none = Log { driver: berth::unit::model::LogDriver::None, ..Log::default() };
    let mut other = logger.pipe(&watched(attach(2, "other", 1, Stream::Stdout, none), "hello"));
    let writer = std::thread::spawn(move || {
        for number in 0..count {
            writeln!(out, "number {number} {}", "x".repeat(30)).unwrap();
        }
    });
    let trouble = logger.expect(|report| matches!(report, FromLogger::Trouble { .. }));
    let FromLogger::Trouble { unit, text } = trouble else { unreachable!() };
    assert_eq!(unit, "web");
    assert!(text.contains("No space left on device"), "{text}");
    // Others go on, and half a record is nowhere to be seen.
    other.write_all(b"hello\n").unwrap();
    logger.expect(|report| *report == FromLogger::Matched { token: 2 });
    let logs = format!("/proc/{}/root{}", logger.child.id(), directory.path().display());
    let log = fs::read(format!("{logs}/web/current")).unwrap();
    assert!(log.is_empty() || log.ends_with(b"\n"));
    // Who writes does not wait for room, and its end not either.
    writer.join().unwrap();
    logger.expect_closed(1);
    fs::remove_file(format!("{logs}/filler")).unwrap();
    assert!(logger.unexpected().is_empty(), "told once: {:?}", logger.unexpected());
    drop(other);
    // The logger's last act is another attempt; the file system is seen as long as a file is.
    let open = fs::File::open(&logs).unwrap();
    let seen = format!("/proc/self/fd/{}", open.as_raw_fd());
    logger.finish();
    texts(seen.as_ref(), "web")
}

#[test]
fn a_full_disk_delays_and_loses_nothing_of_little() {
    let lines = said_to_a_full_disk(600);
    assert_eq!(lines.len(), 600);
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("number {number} x")), "{line}");
    }
}

#[test]
fn what_a_full_disk_has_cost_is_counted() {
    let lines = said_to_a_full_disk(20_000);
    let (last, kept) = lines.split_last().unwrap();
    for (number, line) in kept.iter().enumerate() {
        assert!(line.starts_with(&format!("number {number} x")), "{line}");
    }
    let missing = 20_000 - kept.len();
    assert!(last.starts_with(&format!("{missing} lines (")), "{last}, {} kept", kept.len());
    assert!(last.contains("of output were lost: No space left on device"), "{last}");
}

#[test]
fn orders_that_make_no_sense_are_refused_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(&directory.path().join("logs"));
    let log = Log::default;
    for name in ["../etc", ".hidden", "", "a/b", "..", "nul\0"] {
        drop(logger.pipe(&attach(1, name, 1, Stream::Stdout, log())));
        let told = |report: &FromLogger| {
            matches!(report, FromLogger::Trouble { unit, text }
                if unit == name && text.contains("not the name of a unit"))
        };
        logger.expect(told);
    }
    logger.send(&attach(1, "web", 1, Stream::Stdout, log()), None);
    logger.expect(|report| matches!(report, FromLogger::Trouble { text, .. } if text.contains("no descriptor")));
    let file = fs::File::open("/dev/null").unwrap();
    logger.send(&attach(2, "null", 1, Stream::Stdout, log()), Some(file.as_fd()));
    logger.expect(|report| matches!(report, FromLogger::Trouble { unit, .. } if unit == "null"));
    logger.expect_closed(2);
    drop(logger.pipe(&watched(attach(3, "web", 1, Stream::Stdout, log()), "(")));
    logger.expect(
        |report| matches!(report, FromLogger::Trouble { text, .. } if text.contains("watched")),
    );
    logger.expect_closed(3);
    let mut out = logger.pipe(&attach(4, "web", 1, Stream::Stdout, log()));
    drop(logger.pipe(&attach(4, "web", 2, Stream::Stdout, log())));
    logger.expect(
        |report| matches!(report, FromLogger::Trouble { text, .. } if text.contains("taken")),
    );
    out.write_all(b"fine\n").unwrap();
    drop(out);
    logger.expect_closed(4);
    logger.finish();
    assert_eq!(texts(&directory.path().join("logs"), "web"), ["fine"]);
    let entries = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is written elsewhere");
}

#[test]
fn a_sink_that_breaks_ends_the_following() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut out = logger.pipe(&attach(1, "web", 1, Stream::Stdout, Log::default()));
    out.write_all(b"one\ntwo\nthree\n").unwrap();
    let mut seen = Vec::new();
    let query = Query { units: vec!["web".to_owned()], follow: true, ..Query::default() };
    read(directory.path(), query, &mut |entry| {
        seen.push(text(&entry));
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, ["one", "two"]);
    drop(out);
    logger.expect_closed(1);
    logger.finish();
}

#[test]
fn a_unit_that_reads_its_own_output_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(directory.path());
    let mut out = logger.pipe(&attach(1, "thief", 1, Stream::Stdout, file(1 << 20, 1)));
    let own = format!("/proc/self/fd/{}", out.as_raw_fd());
    let mut back = File::open(own).unwrap();
    let thief = std::thread::spawn(move || std::io::copy(&mut back, &mut std::io::sink()).unwrap());
    let mut quiet = logger.pipe(&attach(2, "quiet", 1, Stream::Stdout, file(1 << 20, 1)));
    let log = directory.path().join("quiet/current");
    // Each line is a race between the two readers; the logger has to lose some of them.
    for number in 1..=1000 {
        out.write_all(b"a line\n").unwrap();
        quiet.write_all(format!("here {number}\n").as_bytes()).unwrap();
        let wanted = format!(" here {number}\n");
        until("the other unit's line is there", || {
            fs::read_to_string(&log).is_ok_and(|file| file.ends_with(&wanted))
        });
    }
    drop((out, quiet));
    logger.expect_closed(1);
    logger.expect_closed(2);
    assert!(thief.join().unwrap() > 0, "nothing was stolen");
    logger.finish();
}
