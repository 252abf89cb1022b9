//! Starting loggers, feeding them, and reading back.

use std::fs;
use std::io::PipeWriter;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::log::channel::SendError;
use berth::log::{Channel, Entry, FromLogger, Query, Received, Stream, ToLogger, read};
use berth::unit::model::{Log, LogDriver};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Nothing here takes a tenth of it unless it is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// A logger, killed when dropped.
pub struct Logger {
    pub child: Child,
    pub channel: Option<Channel<ToLogger, FromLogger>>,
    heard: Vec<FromLogger>,
}

impl Drop for Logger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The settings most tests use.
pub fn file(max_size: u64, max_files: u32) -> Log {
    Log { max_size, max_files, driver: LogDriver::File }
}

/// One `Attach`.
pub fn attach(token: u64, unit: &str, run: u64, stream: Stream, settings: Log) -> ToLogger {
    let unit = unit.to_owned();
    ToLogger::Attach { token, unit, run, stream, settings, watch: None, again: false }
}

/// The same with an expression to watch for.
pub fn watched(mut message: ToLogger, expression: &str) -> ToLogger {
    if let ToLogger::Attach { watch, .. } = &mut message {
        *watch = Some(expression.to_owned());
    }
    message
}

/// The same after another logger had it.
pub fn once_more(mut message: ToLogger) -> ToLogger {
    if let ToLogger::Attach { again, .. } = &mut message {
        *again = true;
    }
    message
}

impl Logger {
    /// A logger that writes below `directory`.
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, Stdio::null(), |_| {})
    }

    /// A logger that has had some orders before it began.
    pub fn start_with(
        directory: &Path,
        stdout: Stdio,
        orders: impl FnOnce(&Channel<ToLogger, FromLogger>),
    ) -> Self {
        let (ours, theirs) = Channel::<ToLogger, FromLogger>::pair().unwrap();
        orders(&ours);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "logger_process", "--nocapture"])
            .env("BERTH_TEST_LOGS", directory)
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout)
            .spawn()
            .unwrap();
        Self::of(child, ours)
    }

    /// A logger that was started otherwise.
    pub fn of(child: Child, channel: Channel<ToLogger, FromLogger>) -> Self {
        Self { child, channel: Some(channel), heard: Vec::new() }
    }

    /// Sends an order, waiting for room if need be.
    pub fn send(&self, message: &ToLogger, descriptor: Option<BorrowedFd<'_>>) {
        let channel = self.channel.as_ref().unwrap();
        loop {
            match channel.send(message, descriptor) {
                Ok(()) => return,
                Err(SendError::Full) => wait_until(channel, PollFlags::OUT),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// A new pipe, attached; its writing end.
    pub fn pipe(&self, message: &ToLogger) -> PipeWriter {
        let (reader, writer) = std::io::pipe().unwrap();
        self.send(message, Some(reader.as_fd()));
        writer
    }

    /// Waits for a report; others are kept.
    pub fn expect(&mut self, wanted: impl Fn(&FromLogger) -> bool) -> FromLogger {
        loop {
            if let Some(index) = self.heard.iter().position(&wanted) {
                return self.heard.remove(index);
            }
            let channel = self.channel.as_ref().unwrap();
            match channel.receive().unwrap() {
                Received::Message(message, None) => self.heard.push(message),
                Received::Message(..) => panic!("a descriptor came with a report"),
                Received::Nothing => wait_until(channel, PollFlags::IN),
                Received::Closed => panic!("the logger has gone; heard: {:?}", self.heard),
            }
        }
    }

    pub fn expect_closed(&mut self, token: u64) {
        self.expect(|report| *report == FromLogger::Closed { token });
    }

    /// What was reported and not expected so far.
    pub fn unexpected(&self) -> &[FromLogger] {
        &self.heard
    }

    /// Lets go and waits for its successful end.
    pub fn finish(mut self) {
        self.send(&ToLogger::Finish, None);
        self.expect_exit();
    }

    pub fn expect_exit(&mut self) {
        let mut status = None;
        until("the logger exits", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn wait_until(fd: impl AsFd, flags: PollFlags) {
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    let ready = poll(&mut [PollFd::new(&fd, flags)], Some(&timeout)).unwrap();
    assert!(ready > 0, "nothing happened");
}

/// Waits for a condition that no descriptor tells of.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Everything a query finds.
pub fn read_all(directory: &Path, query: Query) -> Vec<Entry> {
    let mut entries = Vec::new();
    read(directory, query, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })
    .unwrap();
    entries
}

/// The texts of all lines of one unit.
pub fn texts(directory: &Path, unit: &str) -> Vec<String> {
    let query = Query { units: vec![unit.to_owned()], ..Query::default() };
    read_all(directory, query).iter().map(text).collect()
}

pub fn text(entry: &Entry) -> String {
    String::from_utf8(entry.text.clone()).unwrap()
}

/// Makes files of a unit from their records, the newest first.
pub fn files(directory: &Path, unit: &str, newest_first: &[&str]) {
    let directory = directory.join(unit);
    fs::create_dir_all(&directory).unwrap();
    for (number, content) in newest_first.iter().enumerate() {
        let name = if number == 0 { "current".to_owned() } else { format!("current.{number}") };
        fs::write(directory.join(name), content).unwrap();
    }
}

/// A record at a second of a day.
pub fn record(second: u32, rest: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!("2026-11-20T10:{minute:02}:{second:02}.000000000Z {rest}\n")
}
