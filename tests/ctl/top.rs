//! `top` and `stats`: numbers of a supervisor that says what it likes, keys and the terminal.

use std::io::Write as _;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fake::{Fake, error, more, send};
use crate::terminal::{Terminal, end_of, signal};

fn usage(unit: &str, seconds: u64, cpu: u64, memory: u64) -> Value {
    json!({"unit": unit, "time": seconds * 1_000_000, "cpu": cpu, "memory": memory,
           "memory_limit": 134_217_728, "pids": 3, "pids_limit": null, "read": 4096,
           "written": 0, "summed": ["read", "written"]})
}

/// Two rounds, the second in two replies; then it says nothing until the client has gone.
fn fake() -> Fake {
    Fake::new(|_, stream| {
        let first = [usage("web", 10, 0, 1 << 20), usage("db", 10, 0, 1 << 25)];
        let rounds = [
            json!({"units": first, "complete": true}),
            json!({"units": [usage("web", 11, 250_000, 1 << 20)], "complete": false}),
            json!({"units": [usage("db", 11, 10_000, 1 << 25)], "complete": true}),
        ];
        rounds.into_iter().all(|round| send(stream, &more(round)))
    })
}

#[test]
fn stats_are_a_table_and_stable_json() {
    let done = fake().run(&["stats"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        "NAME    CPU  CPU TIME  MEMORY   LIMIT  PIDS  LIMIT   READ  WRITTEN\n\
         db     1.0%      10ms   32.0M  128.0M     3      -  ~4.0K      ~0B\n\
         web   25.0%     250ms    1.0M  128.0M     3      -  ~4.0K      ~0B\n\
         ~ no controller counts it on this host: the sum of the processes that are there\n"
    );
    let done = fake().run(&["stats", "--json", "web"]);
    let rows: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        rows[1],
        json!({"name": "web", "cpu_percent": 25.0, "cpu_usec": 250_000, "memory": 1_048_576,
               "memory_limit": 134_217_728, "pids": 3, "pids_limit": null, "read": 4096,
               "written": 0, "read_rate": 0.0, "write_rate": 0.0, "summed": ["read", "written"]})
    );
    // Without a terminal, top is the same.
    assert_eq!(fake().run(&["top"]).out, fake().run(&["stats"]).out);
    let reason = "without control groups nothing counts what units use: there are none";
    let fake = Fake::new(move |_, stream| {
        send(stream, &error("Failed", json!({"unit": null, "reason": reason})))
    });
    let done = fake.run(&["stats"]);
    assert_eq!(
        (done.code, done.err),
        (1, format!("berthctl: cannot show what units use: {reason}\n"))
    );
    let done = fake.run(&["top", "--interval", "1ms"]);
    assert_eq!(done.code, 2);
    assert!(done.err.starts_with("berthctl: invalid value '1ms' for '--interval"), "{done:?}");
    assert!(done.err.contains("write 100ms to 1h"), "{done:?}");
}

/// Reads until the text has come.
fn wait_for(user: &mut impl std::io::Read, text: &str) -> String {
    let mut seen = String::new();
    let mut byte = [0];
    while !seen.contains(text) {
        user.read_exact(&mut byte).unwrap();
        seen.push(char::from(byte[0]));
    }
    seen
}

#[test]
fn top_obeys_keys_at_once_and_leaves_the_terminal_as_it_was() {
    let fake = fake();
    let terminal = Terminal::new();
    let mut child = terminal.run(fake.dir(), &["top", "-i", "1h"], &[]);
    let mut user = terminal.user();
    wait_for(&mut user, "2 units, 26.0% cpu, 33.0M memory; by cpu");
    let screen = wait_for(&mut user, "\x1b[J");
    assert!(screen.find("web").unwrap() < screen.find("db").unwrap(), "{screen:?}");
    assert!(!terminal.is_sane());
    user.write_all(b"m").unwrap();
    wait_for(&mut user, "by memory");
    let screen = wait_for(&mut user, "\x1b[J");
    assert!(screen.find("db ").unwrap() < screen.find("web").unwrap(), "{screen:?}");
    // A smaller window: nothing is wider, nothing is lower.
    terminal.resize(3, 20);
    signal(&child, Signal::SIGWINCH);
    let screen = wait_for(&mut user, "\x1b[J");
    assert_eq!(screen.matches("\r\n").count(), 2, "{screen:?}");
    user.write_all(b"q").unwrap();
    wait_for(&mut user, "\x1b[?1049l");
    assert_eq!(end_of(&mut child), 0);
    assert!(terminal.is_sane());
    let call = &fake.calls()[0].1;
    assert_eq!(call["interval"], 3_600_000);
}

#[test]
fn whatever_ends_top_the_terminal_is_restored() {
    for (deadly, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let fake = fake();
        let terminal = Terminal::new();
        let mut child = terminal.run(fake.dir(), &["top"], &[]);
        wait_for(&mut terminal.user(), "\x1b[J");
        signal(&child, deadly);
        wait_for(&mut terminal.user(), "\x1b[?1049l");
        assert_eq!(end_of(&mut child), code);
        assert!(terminal.is_sane(), "{deadly}");
    }
    // The supervisor ends.
    let fake = Fake::new(|_, stream| {
        send(stream, &more(json!({"units": [usage("web", 1, 1, 1)], "complete": true})));
        false
    });
    let terminal = Terminal::new();
    let mut child = terminal.run(fake.dir(), &["top"], &[]);
    assert_eq!(end_of(&mut child), 1);
    assert!(terminal.is_sane());
}
