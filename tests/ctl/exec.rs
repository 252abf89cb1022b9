//! `berthctl exec` without a terminal: bytes, signals, exit codes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use berth::protocol::exec::{Frame as _, Frames, FromCommand, ToCommand};
use berth::protocol::types::Exit;

use crate::fake::{Done, Fake, command, reply, send};

pub fn write(stream: &mut UnixStream, frame: &FromCommand) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let _ = stream.write_all(&bytes);
}

/// Frames of the client, one after the other, until it hangs up.
pub fn frames(stream: &UnixStream) -> impl Iterator<Item = ToCommand> + use<> {
    let mut stream = stream.try_clone().unwrap();
    let mut inbox = Frames::<ToCommand>::default();
    std::iter::from_fn(move || {
        loop {
            if let Some(frame) = inbox.next_frame().unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk) {
                Ok(count) if count > 0 => inbox.feed(&chunk[..count]),
                _ => return None,
            }
        }
    })
}

/// A supervisor whose command does what `play` says.
fn running(play: impl Fn(&mut UnixStream) + Send + Sync + 'static) -> Fake {
    Fake::new(move |call, stream| {
        assert_eq!(call["upgrade"], true);
        send(stream, &reply(json!({})));
        play(stream);
        false
    })
}

fn ending(exit: Exit) -> Fake {
    running(move |stream| write(stream, &FromCommand::Exit(exit)))
}

#[test]
fn the_commands_end_is_ours() {
    for (exit, code) in [
        (Exit::Code(0), 0),
        (Exit::Code(1), 1),
        (Exit::Code(42), 42),
        (Exit::Code(255), 255),
        (Exit::Signal(9), 137),
        (Exit::Signal(15), 143),
    ] {
        let done = ending(exit).run(&["exec", "web", "--", "ls", "-l"]);
        assert_eq!(done, Done { code, out: String::new(), err: String::new() }, "{exit:?}");
    }
}

#[test]
fn the_call_says_what_was_asked_for() {
    let fake = ending(Exit::Code(0));
    fake.run(&["exec", "web", "--", "ls", "-l", "--json"]);
    fake.run(&["exec", "-i", "-u", "www:33", "-w", "/srv", "web", "cat", "-n"]);
    assert_eq!(
        fake.calls()[0].1,
        json!({"unit": "web", "command": ["ls", "-l", "--json"], "user": null, "directory": null, "tty": false,
               "stdin": false, "rows": null, "columns": null, "term": null})
    );
    assert_eq!(fake.calls()[1].1["command"], json!(["cat", "-n"]));
    assert_eq!(fake.calls()[1].1["user"], "www:33");
    assert_eq!(fake.calls()[1].1["directory"], "/srv");
    assert_eq!(fake.calls()[1].1["stdin"], true);
}

#[test]
fn both_outputs_go_where_they_belong() {
    let fake = running(|stream| {
        write(stream, &FromCommand::Stdout(vec![b'x'; 200_000]));
        write(stream, &FromCommand::Stderr(b"oh\n".to_vec()));
        write(stream, &FromCommand::Stdout(b"\nend\n".to_vec()));
        write(stream, &FromCommand::Exit(Exit::Code(3)));
    });
    let done = fake.run(&["exec", "web", "--", "build"]);
    let out = format!("{}\nend\n", "x".repeat(200_000));
    assert_eq!(done, Done { code: 3, out, err: "oh\n".to_owned() });
}

#[test]
fn input_arrives_whole_and_its_end_too() {
    let (tell, told) = mpsc::channel();
    let fake = running(move |stream| {
        let mut input = Vec::new();
        for frame in frames(stream) {
            match frame {
                ToCommand::Stdin(data) => input.extend(data),
                ToCommand::StdinEof => break,
                other => panic!("{other:?}"),
            }
        }
        tell.send(input).unwrap();
        write(stream, &FromCommand::Exit(Exit::Code(0)));
    });
    let mut child = command(fake.dir(), &["exec", "-i", "web", "--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // More than all buffers on the way together.
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(told.recv_timeout(Duration::from_secs(20)).unwrap() == input);
}

#[test]
fn signals_are_handed_on() {
    let (tell, told) = mpsc::channel();
    let fake = running(move |stream| {
        tell.send(()).unwrap();
        let Some(ToCommand::Signal(number)) = frames(stream).next() else { panic!("no signal") };
        write(stream, &FromCommand::Exit(Exit::Signal(i32::from(number))));
    });
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGUSR1, 138)] {
        let mut child = command(fake.dir(), &["exec", "web", "--", "sleep"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
    }
}

#[test]
fn nonsense_after_the_upgrade_is_1() {
    for (bytes, complaint) in [
        (&b"\x63\0\0\0\0"[..], "the supervisor sent a frame of the unknown kind 99"),
        (b"\x10\xff\xff\xff\xff", "the supervisor sent a message of more than 65536 bytes"),
        (b"\x12\x01\0\0\0\0", "the supervisor sent a malformed frame of kind 18"),
        (b"\x10\x05\0\0\0ab", "the supervisor sent a message that ends in the middle"),
        (b"", "the connection was closed before the answer was complete"),
    ] {
        let fake = running(move |stream| {
            let _ = stream.write_all(bytes);
        });
        let done = fake.run(&["exec", "web", "--", "ls"]);
        let expected = format!("berthctl: cannot run ls in web: {complaint}\n");
        assert_eq!((done.code, done.err), (1, expected));
    }
}
