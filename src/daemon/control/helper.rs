//! Forked helpers that own a client's connection for work that can block: here, logs.
//!
//! The supervisor forks, closes its side and forgets: the helper ends with its work or
//! when the client hangs up, and is reaped like every child.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use jiff::Timestamp;

use crate::daemon::{Daemon, Owner};
use crate::log::read::{self, Entry, Query};
use crate::log::record::Stream;
use crate::protocol::message::encode_error;
use crate::protocol::method::Logs;
use crate::protocol::types::{LogEntry, LogStream};
use crate::protocol::{Error, Page};
use crate::sys::{fork, signal};

/// Most helpers at once.
pub const MOST: usize = 64;

impl Daemon {
    /// Takes a client out of the loop for a helper.
    pub(super) fn take_client(&mut self, number: u64) -> Result<(UnixStream, Vec<u8>), Error> {
        if self.control.helpers >= MOST {
            let reason = format!("{MOST} clients are reading logs or running commands already");
            return Err(Error::Busy { reason });
        }
        let gone = || Error::Failed { unit: None, reason: "the client has gone".to_owned() };
        let client = self.control.clients.remove(&number).ok_or_else(gone)?;
        let (stream, rest) = client.hand_over(&mut self.poller);
        Ok((stream, rest))
    }

    /// A helper was forked.
    pub(super) fn helper_started(&mut self, pid: i32) {
        self.control.helpers = self.control.helpers.saturating_add(1);
        self.pids.insert(pid, Owner::Helper);
    }

    /// Reads logs for a client.
    pub(super) fn logs_helper(&mut self, number: u64, call: Logs) -> Result<(), Error> {
        let invalid = || Error::InvalidParameter { parameter: "since".to_owned() };
        let since: Option<Timestamp> =
            call.since.as_deref().map(str::parse).transpose().map_err(|_| invalid())?;
        let directory = self.options.log_directory();
        for unit in &call.units {
            // Logs outlive their unit; a name that never was is a mistake.
            if unit != super::super::OWN_LOG && !directory.join(unit).is_dir() {
                self.find(unit)?;
            }
        }
        let (stream, _) = self.take_client(number)?;
        let keep = [stream.as_fd()];
        let options = fork::Options { keep: &keep, ..fork::Options::default() };
        let process = fork::child(&options, || {
            // A client that hangs up is an error of write(2), not a signal.
            let _signals = signal::block_all();
            serve_logs(&stream, &directory, call, since)
        });
        match process {
            Ok(process) => self.helper_started(process.pid),
            Err(error) => self.journal.say(&format!("cannot fork for logs: {error}")),
        }
        Ok(())
    }
}

/// In the helper: every entry, then the end.
fn serve_logs(stream: &UnixStream, directory: &Path, call: Logs, since: Option<Timestamp>) -> i32 {
    let mut writer = stream;
    if stream.set_nonblocking(false).is_err() {
        return 1;
    }
    let until_fd = match stream.as_fd().try_clone_to_owned() {
        Ok(fd) => call.follow.then_some(fd),
        Err(_) => return 1,
    };
    let follow = call.follow;
    let query = Query { units: call.units, lines: call.lines, since, follow, until_fd };
    let mut page = Page::new("entries");
    let mut sink = |entry: Entry| {
        for piece in wire_entry(entry).pieces() {
            let sent = match page.push(&piece) {
                Ok(true) if !follow => Ok(()),
                Ok(true) => send_page(writer, &mut page, true),
                Ok(false) => send_page(writer, &mut page, true).map(|()| {
                    // An empty page takes any piece.
                    let _ = page.push(&piece);
                }),
                Err(_) => Ok(()),
            };
            if sent.is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let result = read::read(directory, query, &mut sink);
    let last = match result {
        Ok(()) => page.finish(false),
        Err(error) => {
            let reason = format!("cannot read logs: {error}");
            encode_error(Error::Failed { unit: None, reason })
        }
    };
    i32::from(writer.write_all(&last).is_err())
}

fn send_page(mut writer: &UnixStream, page: &mut Page, continues: bool) -> std::io::Result<()> {
    let full = std::mem::replace(page, Page::new("entries"));
    writer.write_all(&full.finish(continues))
}

fn wire_entry(entry: Entry) -> LogEntry {
    LogEntry {
        time: entry.time.to_string(),
        unit: entry.unit,
        run: Some(entry.run),
        stream: match entry.stream {
            Stream::Stdout | Stream::Syslog => LogStream::Stdout,
            Stream::Stderr | Stream::Supervisor => LogStream::Stderr,
        },
        partial: entry.partial,
        text: String::from_utf8_lossy(&entry.text).into_owned(),
    }
}
