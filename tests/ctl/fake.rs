//! A supervisor that answers from a script, and berthctl run against it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use berth::protocol::{Inbox, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Answers one call; the connection is closed when it returns false.
type Answer = dyn Fn(&Value, &mut UnixStream) -> bool + Send + Sync;

/// The played supervisor. Its thread ends with the test process.
pub struct Fake {
    dir: TempDir,
    calls: Arc<Mutex<Vec<Value>>>,
}

/// What berthctl did.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Fake {
    /// Answers every call by what `answer` does.
    pub fn new(answer: impl Fn(&Value, &mut UnixStream) -> bool + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let kept = Arc::clone(&calls);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (answer, calls) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &*answer, &calls));
            }
        });
        Self { dir, calls }
    }

    /// Answers the calls of these methods by these messages, others by `MethodNotFound`.
    pub fn canned(script: Vec<(&'static str, Vec<Value>)>) -> Self {
        Self::new(move |call, stream| {
            let method = call["method"].as_str().unwrap();
            let name = method.rsplit_once('.').unwrap().1;
            match script.iter().find(|(scripted, _)| *scripted == name) {
                Some((_, replies)) => replies.iter().all(|reply| send(stream, reply)),
                None => send(
                    stream,
                    &json!({"error": "org.varlink.service.MethodNotFound",
                            "parameters": {"method": method}}),
                ),
            }
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs berthctl against it.
    pub fn run(&self, args: &[&str]) -> Done {
        run_in(self.dir(), args)
    }

    /// The calls so far: method (without the interface) and parameters.
    pub fn calls(&self) -> Vec<(String, Value)> {
        let short = |call: &Value| {
            let method = call["method"].as_str().unwrap();
            let name = method.strip_prefix("org.berth.Control.").unwrap_or(method);
            (name.to_owned(), call["parameters"].clone())
        };
        self.calls.lock().unwrap().iter().map(short).collect()
    }
}

fn serve(mut stream: UnixStream, answer: &Answer, calls: &Mutex<Vec<Value>>) {
    let mut inbox = Inbox::default();
    let mut chunk = [0; 4096];
    loop {
        while let Some(message) = inbox.next_message().unwrap() {
            // What the client sends is what the real server accepts.
            Request::parse(&message).unwrap();
            let call: Value = serde_json::from_slice(&message).unwrap();
            calls.lock().unwrap().push(call.clone());
            if !answer(&call, &mut stream) {
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => inbox.feed(&chunk[..count]),
            _ => return,
        }
    }
}

/// Sends one message; false when nobody listens any more.
pub fn send(stream: &mut UnixStream, message: &Value) -> bool {
    let mut bytes = serde_json::to_vec(message).unwrap();
    bytes.push(0);
    stream.write_all(&bytes).is_ok()
}

/// berthctl with this runtime directory and nothing of the developer's environment.
pub fn command(runtime_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
    command.env_clear().env("TZ", "UTC").arg("--runtime-dir").arg(runtime_dir).args(args);
    command
}

/// Runs berthctl to its end.
pub fn run_in(runtime_dir: &Path, args: &[&str]) -> Done {
    let output = command(runtime_dir, args).stdin(Stdio::null()).output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// One reply, the last one.
pub fn reply(parameters: Value) -> Value {
    json!({ "parameters": parameters })
}

/// One reply, another one follows.
pub fn more(parameters: Value) -> Value {
    json!({ "parameters": parameters, "continues": true })
}

/// An error of the control interface.
pub fn error(name: &str, parameters: Value) -> Value {
    json!({ "error": format!("org.berth.Control.{name}"), "parameters": parameters })
}

/// A running service called web, with these fields different.
pub fn status(changes: Value) -> Value {
    let mut status = json!({
        "name": "web", "description": "the front door", "kind": "service",
        "state": "running", "desired": "up", "main_pid": 4711, "exit": null,
        "restarts": 2, "since": "2026-01-31T14:30:00.5Z", "ready": true, "health": "healthy",
        "result": null, "cgroup": "/berth/web", "memory": 13_107_200, "oom_kills": 0, "oom_victim": null, "ports": ["8080:80"],
        "why": "ready after 1.2s", "status_text": "serving", "run": 9, "unenforced": [],
        "user_namespace": null, "no_user_namespace": null, "privileged": false
    });
    for (key, value) in changes.as_object().unwrap() {
        status[key] = value.clone();
    }
    status
}

/// A time this many seconds ago, as the supervisor writes it.
pub fn seconds_ago(seconds: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
}
