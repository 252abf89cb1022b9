//! What berthctl makes of everything that goes wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use berth::ctl::client::{Client, Patience};
use berth::ctl::failure::Failure;
use berth::protocol::method::Version;

use crate::fake::{Fake, command, error, more, reply, run_in, send};

/// Exit code and first line of stderr.
fn outcome(fake: &Fake, args: &[&str]) -> (i32, String) {
    let done = fake.run(args);
    (done.code, done.err.lines().next().unwrap_or_default().to_owned())
}

fn expect(fake: &Fake, args: &[&str], code: i32, line: &str) {
    assert_eq!(outcome(fake, args), (code, line.to_owned()), "{args:?}");
}

#[test]
fn nobody_there_is_5_and_says_what_to_do() {
    let nobody = tempfile::tempdir().unwrap();
    let socket = nobody.path().join("control.sock");
    let at = socket.display();
    for args in [&["status"][..], &["start", "web"], &["exec", "web", "--", "true"], &["apply"]] {
        let done = run_in(nobody.path(), args);
        assert_eq!((done.code, done.out.as_str()), (5, ""), "{args:?}");
        assert!(done.err.starts_with("berthctl: cannot "), "{}", done.err);
        assert!(done.err.contains(&format!(
            ": no supervisor answers at {at}: there is no such socket\nstart one with `berth up"
        )));
    }
    drop(UnixListener::bind(&socket).unwrap());
    let done = run_in(nobody.path(), &["list"]);
    assert_eq!(done.code, 5);
    assert!(done.err.contains("the one that made this socket has ended\n"), "{}", done.err);
    let long = nobody.path().join("x".repeat(200));
    assert_eq!(run_in(&long, &["list"]).code, 5);
}

#[test]
fn a_silent_supervisor_is_5() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let mut client = Client::connect(dir.path()).unwrap();
    let failure =
        client.call(&Version {}, &Patience::at_most(Duration::from_millis(50))).unwrap_err();
    assert!(matches!(failure, Failure::Silence(_)), "{failure:?}");
    assert_eq!(failure.exit_code(), 5);
    assert_eq!(failure.to_string(), "the supervisor has not answered for 50ms");
}

#[test]
fn an_unknown_unit_is_4_and_names_the_nearest() {
    let missing = |nearest: Option<&str>| {
        vec![error("NoSuchUnit", json!({"unit": "wbe", "nearest": nearest}))]
    };
    let methods = ["Status", "Start", "Stop", "Kill", "Logs", "Show", "Deps", "Exec"];
    let near = Fake::canned(methods.iter().map(|name| (*name, missing(Some("web")))).collect());
    let hint = "no unit is called wbe; did you mean web?";
    for (args, what) in [
        (&["status", "wbe"][..], "show the status of wbe"),
        (&["start", "wbe"], "start wbe"),
        (&["stop", "--no-wait", "wbe"], "stop wbe"),
        (&["kill", "wbe"], "send a signal to wbe"),
        (&["logs", "-f", "wbe"], "show the output of wbe"),
        (&["show", "wbe"], "show wbe"),
        (&["deps", "wbe"], "show the dependencies of wbe"),
        (&["exec", "wbe", "--", "ls", "-l"], "run ls in wbe"),
    ] {
        expect(&near, args, 4, &format!("berthctl: cannot {what}: {hint}"));
    }
    let far = Fake::canned(vec![("Start", missing(None))]);
    expect(
        &far,
        &["start", "wbe"],
        4,
        "berthctl: cannot start wbe: no unit is called wbe; `berthctl list` shows all",
    );
}

#[test]
fn each_failed_job_has_its_line() {
    let fake = Fake::canned(vec![(
        "Start",
        vec![
            more(json!({"unit": "a", "error": "cannot start a: php failed: exit code 1"})),
            more(json!({"unit": "b", "error": null})),
            reply(json!({"unit": "c", "error": "it is frozen"})),
        ],
    )]);
    let done = fake.run(&["start", "a", "b", "c"]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.err,
        "berthctl: cannot start a: php failed: exit code 1\n\
         berthctl: cannot start c: it is frozen\n"
    );
}

#[test]
fn the_supervisors_errors_are_1() {
    for (answer, line) in [
        (
            error("Failed", json!({"unit": "web", "reason": "no space"})),
            "cannot show web: no space",
        ),
        (error("Failed", json!({"unit": null, "reason": "cannot do it"})), "cannot do it"),
        (error("Busy", json!({"reason": "an apply runs"})), "cannot show web: an apply runs"),
        (
            error("Refused", json!({"reason": "not\u{1b}[2J now"})),
            "cannot show web: not\\u{1b}[2J now",
        ),
        (
            error("NotRunning", json!({"unit": "web", "state": "failed"})),
            "cannot show web: web is not running but failed",
        ),
        (
            json!({"error": "org.varlink.service.MethodNotFound", "parameters": {"method": "X"}}),
            "cannot show web: the supervisor does not know the method X",
        ),
        (
            error("Brandnew", json!({"x": 1})),
            "cannot show web: the supervisor answers org.berth.Control.Brandnew {\"x\":1}",
        ),
        (
            json!({"error": "org.varlink.service.PermissionDenied"}),
            "cannot show web: the supervisor does not permit it: it obeys its own user, outside of \
             containers",
        ),
    ] {
        let fake = Fake::canned(vec![("Show", vec![answer])]);
        expect(&fake, &["show", "web"], 1, &format!("berthctl: {line}"));
    }
}

#[test]
fn garbage_from_the_supervisor_is_1_and_no_crash() {
    let deep = [b"{\"parameters\":".to_vec(), vec![b'['; 60_000], vec![0]].concat();
    let huge = vec![b'x'; 100_000];
    for (bytes, complaint) in [
        (&b"hello\0"[..], "the supervisor sent not a message: "),
        (b"\0", "the supervisor sent an empty message"),
        (b"{\"parameters\":{\"units\":[3]}}\0", "the supervisor sent not a message: "),
        (b"{\"parameters\":{}}\0", "the supervisor sent not a message: "),
        (b"[]\0", "the supervisor sent not a message: "),
        (b"\xff\xfe\0", "the supervisor sent not a message: "),
        (b"{\"parameters\":", "the supervisor sent a message that ends in the middle"),
        (b"", "the connection was closed before the answer was complete"),
        (&deep, "the supervisor sent not a message: recursion limit exceeded"),
        (&huge, "the supervisor sent a message of more than 65536 bytes"),
    ] {
        let bytes = bytes.to_vec();
        let fake = Fake::new(move |_, stream| {
            let _ = stream.write_all(&bytes);
            false
        });
        for args in [&["list"][..], &["status", "--json"], &["start", "web"]] {
            let (code, line) = outcome(&fake, args);
            assert!(code == 1 && line.contains(complaint), "{args:?} {code} {line}");
        }
    }
}

#[test]
fn mistakes_in_units_are_1_with_the_plan_on_stdout() {
    let plan = json!({"diagnostics": "web.toml:3:1: error: unknown key\n", "mistakes": 1,
                      "add": ["b"], "change": [], "restart": [], "remove": []});
    let fake = Fake::canned(vec![("Apply", vec![reply(plan)])]);
    let done = fake.run(&["apply"]);
    assert_eq!((done.code, done.out.as_str()), (1, "+ add b\n"));
    assert_eq!(
        done.err,
        "web.toml:3:1: error: unknown key\n\
         berthctl: cannot apply: 1 mistake; what it concerns stays as it was\n"
    );
}

#[test]
fn wrong_arguments_are_2() {
    let nobody = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["dance"],
        &["start"],
        &["start", "--now", "web"],
        &["kill", "-s", "NOPE", "web"],
        &["logs", "--since", "soon"],
        &["logs", "-n", "-1"],
        &["exec", "web"],
        &["shutdown", "sideways"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(run_in(nobody.path(), args).code, 2, "{args:?}");
    }
    let long = "x".repeat(70_000);
    let fake = Fake::canned(vec![]);
    expect(
        &fake,
        &["show", &long],
        1,
        &format!("berthctl: cannot show {long}: too many or too long arguments for one request"),
    );
    assert_eq!(fake.calls(), []);
}

/// A supervisor that tells when it has been called and never answers.
fn deaf() -> (Fake, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let fake = Fake::new(move |_, _| {
        tell.send(()).unwrap();
        true
    });
    (fake, told)
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_job() {
    let (fake, told) = deaf();
    let child = command(fake.dir(), &["start", "web"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    told.recv_timeout(Duration::from_secs(20)).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "berthctl: not waiting any longer; the supervisor goes on to start web, \
         `berthctl status web` shows how far it is\n"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let fake = Fake::new(|_, stream| {
        let event = json!({"time": "2026-01-31T14:30:02Z", "unit": "db", "state": "running",
                           "why": "", "exit": null, "grave": false});
        while send(stream, &more(json!({"event": event}))) {}
        false
    });
    let mut child = command(fake.dir(), &["events"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "2026-01-31 14:30:02.000 db running\n");
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_follower_whose_supervisor_ends_is_1() {
    let entry: Value = json!({"time": "2026-01-31T14:30:01Z", "unit": "web", "run": 1,
                              "stream": "stdout", "partial": false, "text": "last words"});
    let fake = Fake::new(move |_, stream| {
        send(stream, &more(json!({"entries": [entry]})));
        false
    });
    let done = fake.run(&["logs", "-f", "web"]);
    assert_eq!(done.out, "2026-01-31 14:30:01.000 | last words\n");
    assert_eq!(done.code, 1);
    assert_eq!(
        done.err,
        "berthctl: cannot show the output of web: the connection was closed before the answer was complete\n"
    );
}
