//! Reading and following files, whoever wrote them.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;

use berth::log::{LogError, Query, Stream, read};
use jiff::Timestamp;

use crate::support::{files, read_all, record, text, texts};

fn query(units: &[&str], lines: Option<u64>, since: Option<u32>) -> Query {
    Query {
        units: units.iter().map(|&unit| unit.to_owned()).collect(),
        lines,
        since: since.map(time),
        ..Query::default()
    }
}

fn time(second: u32) -> Timestamp {
    record(second, "").split(' ').next().unwrap().parse().unwrap()
}

fn found(directory: &Path, query: Query) -> Vec<String> {
    read_all(directory, query).iter().map(text).collect()
}

#[test]
fn units_are_merged_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let line = |second, unit: &str| record(second, &format!("stdout F:1 {unit}{second}"));
    files(directory.path(), "a", &[&[line(5, "a"), line(7, "a")].concat(), &line(1, "a")]);
    files(directory.path(), "b", &[&line(6, "b"), &line(3, "b"), &line(2, "b")]);
    fs::write(directory.path().join("no unit"), "rubbish").unwrap();
    fs::create_dir(directory.path().join("silent")).unwrap();
    let wanted = ["a1", "b2", "b3", "a5", "b6", "a7"];
    assert_eq!(found(directory.path(), Query::default()), wanted);
    assert_eq!(found(directory.path(), query(&["b"], None, None)), ["b2", "b3", "b6"]);
    assert_eq!(found(directory.path(), query(&["silent", "nobody"], None, None)), [""; 0]);
    assert_eq!(found(directory.path(), query(&[], Some(1), None)), ["b6", "a7"]);
    assert_eq!(found(directory.path(), query(&[], None, Some(5))), ["a5", "b6", "a7"]);
    assert_eq!(found(directory.path(), query(&[], Some(2), Some(6))), ["b6", "a7"]);
    assert_eq!(found(&directory.path().join("not there"), Query::default()), [""; 0]);
}

#[test]
fn the_last_lines_are_right_for_every_number() {
    let directory = tempfile::tempdir().unwrap();
    // Lines of one and of three records, of two streams in turn, of all lengths up to more
    // than a block, over three files.
    let (mut contents, mut lines) = (Vec::new(), Vec::new());
    for file in 0..3_u32 {
        let mut content = String::new();
        for number in 0..40 {
            let second = file * 60 + number;
            let long = "x".repeat(usize::try_from(number * number * number % 9973).unwrap());
            content.push_str(&record(second, &format!("stderr P:2 e{second} ")));
            content.push_str(&record(second, &format!("stdout F:2 o{second}")));
            content.push_str(&record(second, &format!("stderr P:2 {long}")));
            content.push_str(&record(second, "stderr F:2  end"));
            lines.push(format!("o{second}"));
            lines.push(format!("e{second} {long} end"));
        }
        contents.push(content);
    }
    let newest_first: Vec<&str> = contents.iter().rev().map(String::as_str).collect();
    files(directory.path(), "web", &newest_first);
    for count in (0..=lines.len()).chain([1000]) {
        let wanted = &lines[lines.len().saturating_sub(count)..];
        let asked = query(&["web"], Some(u64::try_from(count).unwrap()), None);
        assert_eq!(found(directory.path(), asked), wanted, "-n {count}");
    }
    for second in [0, 1, 59, 60, 90, 159, 160, 1000] {
        let wanted: Vec<_> = lines
            .iter()
            .filter(|line| {
                let number = line[1..].split(' ').next().unwrap();
                number.parse::<u32>().unwrap() >= second
            })
            .cloned()
            .collect();
        assert_eq!(found(directory.path(), query(&["web"], None, Some(second))), wanted);
    }
}

#[test]
fn damage_hides_nothing_but_itself() {
    let directory = tempfile::tempdir().unwrap();
    let fine = |second| record(second, &format!("stdout F:1 {second}"));
    let hole = "\0".repeat(300_000);
    let endless = "x".repeat(200_000);
    let content = [
        "st of a record\n",
        &fine(1),
        "2026-11-20T10:00:0\n",
        &fine(2),
        &hole,
        "\n",
        &fine(3),
        &endless,
        "\n\n",
        &fine(4),
        "2026-11-20T10:00:00.000000000Z stdout F:1 half",
    ]
    .concat();
    files(directory.path(), "web", &[&fine(5), &content]);
    assert_eq!(texts(directory.path(), "web"), ["1", "2", "3", "4", "5"]);
    for count in 1..=5 {
        let wanted: Vec<_> = (6 - count..6).map(|line| line.to_string()).collect();
        assert_eq!(found(directory.path(), query(&[], Some(count), None)), wanted);
    }
}

#[test]
fn an_open_line_is_handed_out_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let content =
        record(1, "stdout F:1 a") + &record(2, "stdout P:1 b") + &record(3, "stdout P:1 c");
    files(directory.path(), "web", &[&content]);
    let lines = read_all(directory.path(), Query::default());
    let seen: Vec<_> = lines.iter().map(|line| (text(line), line.partial)).collect();
    assert_eq!(seen, [("a".to_owned(), false), ("bc".to_owned(), true)]);
    // Longer than is joined: pieces, and nothing is missing or doubled.
    let piece = "y".repeat(60_000);
    let long = record(1, &format!("stdout P:1 {piece}")).repeat(3) + &record(1, "stdout F:1 .");
    files(directory.path(), "web", &[&long]);
    let lines = read_all(directory.path(), Query::default());
    assert!(lines.iter().rev().skip(1).all(|line| line.partial && line.text.len() <= 65536));
    assert!(!lines.last().unwrap().partial);
    let joined: String = lines.iter().map(text).collect();
    assert_eq!(joined, piece.repeat(3) + ".");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../web", "", ".", "a/b"] {
        let result =
            read(directory.path(), query(&[name], None, None), &mut |_| ControlFlow::Continue(()));
        assert!(matches!(result, Err(LogError::BadName(bad)) if bad == name));
    }
}

/// Follows, and sends each text to the test.
fn follower(
    directory: &Path,
    mut asked: Query,
) -> (mpsc::Receiver<String>, std::io::PipeWriter, std::thread::JoinHandle<()>) {
    let (end, until) = std::io::pipe().unwrap();
    let (sender, receiver) = mpsc::channel();
    asked.follow = true;
    asked.until_fd = Some(OwnedFd::from(end));
    let directory = directory.to_owned();
    let thread = std::thread::spawn(move || {
        read(&directory, asked, &mut |entry| {
            sender.send(text(&entry)).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    });
    (receiver, until, thread)
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn a_follower_sees_units_that_appear_later_and_rotation_and_the_rest_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let (lines, until, thread) = follower(&logs, Query::default());
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    crate::support::until("the follower has made the directory", || logs.exists());
    files(&logs, "early", &[&record(1, "stdout F:1 one")]);
    assert_eq!(next(), "one");
    let append = |unit: &str, content: &str| {
        let path = logs.join(unit).join("current");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    };
    fs::create_dir(logs.join("late")).unwrap();
    append("late", &record(2, "stderr F:1 two"));
    assert_eq!(next(), "two");
    // Half a record is nothing yet; cut off and written again, it is a line.
    let whole = record(3, "stdout F:1 three");
    append("late", &whole[..whole.len() - 3]);
    append("early", &record(3, "stdout F:1 meanwhile"));
    assert_eq!(next(), "meanwhile");
    let late = fs::OpenOptions::new().write(true).open(logs.join("late/current")).unwrap();
    late.set_len(u64::try_from(record(2, "stderr F:1 two").len()).unwrap()).unwrap();
    append("late", &record(3, "stdout F:1 four"));
    assert_eq!(next(), "four");
    // Two rotations at once, with a line right before each.
    append("early", &record(4, "stdout F:1 five"));
    fs::rename(logs.join("early/current"), logs.join("early/current.1")).unwrap();
    append("early", &record(5, "stdout F:1 six"));
    fs::rename(logs.join("early/current.1"), logs.join("early/current.2")).unwrap();
    fs::rename(logs.join("early/current"), logs.join("early/current.1")).unwrap();
    append("early", &record(6, "stdout F:1 seven"));
    assert_eq!([next(), next(), next()], ["five", "six", "seven"]);
    // A directory that is removed and comes again.
    fs::remove_dir_all(logs.join("late")).unwrap();
    fs::create_dir(logs.join("late")).unwrap();
    append("late", &record(7, "stdout F:1 eight"));
    assert_eq!(next(), "eight");
    append("late", &record(8, "stdout P:1 nin"));
    drop(until);
    assert_eq!(next(), "nin");
    thread.join().unwrap();
    assert!(lines.recv().is_err(), "nothing comes twice");
}

#[test]
fn following_begins_with_the_last_lines_of_the_units_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let old: String =
        (0..50).map(|second| record(second, &format!("stdout F:1 {second}"))).collect();
    files(directory.path(), "web", &[&old]);
    files(directory.path(), "db", &[&record(1, "stdout F:1 not asked for")]);
    let (lines, until, thread) =
        follower(directory.path(), query(&["web", "later"], Some(2), None));
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!([next(), next()], ["48", "49"]);
    files(directory.path(), "later", &[&record(60, "stdout F:1 now")]);
    assert_eq!(next(), "now");
    drop(until);
    thread.join().unwrap();
    assert!(lines.recv().is_err());
}

#[test]
fn what_is_read_says_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    files(directory.path(), "web", &[&record(1, "syslog F:12 text")]);
    let lines = read_all(directory.path(), Query::default());
    let line = &lines[0];
    assert_eq!((line.unit.as_str(), line.stream, line.run), ("web", Stream::Syslog, 12));
    assert_eq!((line.time, line.text.as_slice(), line.partial), (time(1), &b"text"[..], false));
}
