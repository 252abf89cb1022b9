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

use super::{Access, Control, relay};
use crate::daemon::{Daemon, Owner};
use crate::log::read::{self, Entry, Query};
use crate::log::record::Stream;
use crate::protocol::message::encode_error;
use crate::protocol::method::Logs;
use crate::protocol::types::{LogEntry, LogStream};
use crate::protocol::{Error, Mode, Page};
use crate::sys::{fork, signal};
use crate::unit::names;

/// Most helpers at once.
pub const MOST: usize = 64;

/// Most of them that are not for root: those who may look cannot keep root from its logs.
const MOST_OTHERS: usize = 16;

impl Control {
    /// The same for a client that may do that much.
    pub(super) fn helper_is_free_for(&self, access: Access) -> Result<(), Error> {
        if access != Access::Full && self.other_helpers >= MOST_OTHERS {
            let reason = format!("{MOST_OTHERS} clients are looking at what units use already");
            return Err(Error::Busy { reason });
        }
        self.helper_is_free()
    }

    /// A helper has been reaped.
    pub fn helper_ended(&mut self, pid: i32) {
        self.helpers = self.helpers.saturating_sub(1);
        self.doomed_volumes.remove(&pid);
    }

    /// Whether one more helper may be started; each `exec` that is being set up will have one.
    pub(super) fn helper_is_free(&self) -> Result<(), Error> {
        let coming = self.sessions.values().filter(|session| session.is_setting_up()).count();
        if self.helpers.saturating_add(coming) < MOST {
            return Ok(());
        }
        let reason = format!("{MOST} clients are reading logs or running commands already");
        Err(Error::Busy { reason })
    }
}

impl Daemon {
    /// Takes a client out of the loop for a helper.
    pub(super) fn take_client(&mut self, number: u64) -> Result<(UnixStream, Vec<u8>), Error> {
        let gone = || Error::Failed { unit: None, reason: "the client has gone".to_owned() };
        let client = self.control.clients.remove(&number).ok_or_else(gone)?;
        let (stream, rest) = client.hand_over(&mut self.poller);
        // There is room for another one in the loop.
        self.control.set_accepting(&self.poller, true);
        Ok((stream, rest))
    }

    /// A helper was forked for a client that may do that much.
    pub(super) fn helper_started(&mut self, pid: i32, access: Access) {
        let control = &mut self.control;
        control.helpers = control.helpers.saturating_add(1);
        let owner = if access == Access::Full {
            Owner::Helper
        } else {
            control.other_helpers = control.other_helpers.saturating_add(1);
            Owner::OtherHelper
        };
        self.pids.insert(pid, owner);
    }

    /// Reads logs for a client.
    pub(super) fn logs_helper(&mut self, number: u64, call: Logs, mode: Mode) -> Result<(), Error> {
        let invalid = || Error::InvalidParameter { parameter: "since".to_owned() };
        let since: Option<Timestamp> =
            call.since.as_deref().map(str::parse).transpose().map_err(|_| invalid())?;
        let directory = self.options.log_directory();
        // Logs outlive their unit; a name that never was is a mistake. Which of the two it is
        // the helper sees on the disk.
        let mut unknown = Vec::new();
        for unit in call.units.iter().filter(|unit| *unit != crate::daemon::OWN_LOG) {
            match self.find(unit) {
                Ok(_) => {}
                // What is no name is not to become part of a path.
                Err(error) if names::problem(unit).is_some() => return Err(error),
                Err(error) => unknown.push((unit.clone(), error)),
            }
        }
        self.control.helper_is_free()?;
        let (stream, _) = self.take_client(number)?;
        let keep = [stream.as_fd()];
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let process = fork::child(&options, || {
            if prepare().is_err() {
                return 1;
            }
            let never_was = |(unit, _): &&(String, Error)| !directory.join(unit).is_dir();
            if let Some((_, error)) = unknown.iter().find(never_was) {
                relay::say(&stream, &encode_error(error.clone()));
                return 0;
            }
            serve_logs(&stream, mode, &directory, call, since)
        });
        match process {
            Ok(process) => self.helper_started(process.pid, Access::Full),
            Err(error) => {
                let reason = format!("cannot read logs: no process can be made: {error}");
                relay::say(&stream, &encode_error(Error::Failed { unit: None, reason }));
            }
        }
        Ok(())
    }
}

/// In every helper, first of all.
pub(super) fn prepare() -> std::io::Result<()> {
    // For people who look at `ps`; nothing depends on it.
    let _ = rustix::thread::set_name(c"berth-helper");
    // A client that hangs up is an error of write(2), not a signal.
    signal::ignore_all()
}

/// In the helper: every entry, then the end.
fn serve_logs(
    stream: &UnixStream,
    mode: Mode,
    directory: &Path,
    call: Logs,
    since: Option<Timestamp>,
) -> i32 {
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
    let mut refusal = None;
    let mut sink = |entry: Entry| {
        for piece in wire_entry(entry).pieces() {
            let pushed = page.push(&piece);
            if mode == Mode::Single && pushed == Ok(false) {
                refusal = Some(Error::ExpectedMore {});
                return ControlFlow::Break(());
            }
            let sent = match pushed {
                Ok(true) if !follow => Ok(()),
                Ok(true) => send_page(writer, &mut page, true),
                // An empty page takes any piece, if there is one that does.
                Ok(false) => send_page(writer, &mut page, true)
                    .and_then(|()| page.push(&piece).map(drop).map_err(std::io::Error::other)),
                Err(error) => Err(std::io::Error::other(error)),
            };
            if let Err(error) = sent {
                let reason = format!("cannot send the logs of {}: {error}", piece.unit);
                refusal = Some(Error::Failed { unit: Some(piece.unit), reason });
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let result = read::read(directory, query, &mut sink);
    let last = match (result, refusal) {
        (Ok(()), None) => page.finish(false),
        (Ok(()), Some(error)) => encode_error(error),
        (Err(error), _) => {
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
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
            Stream::Syslog => LogStream::Syslog,
            Stream::Supervisor => LogStream::Supervisor,
        },
        partial: entry.partial,
        text: String::from_utf8_lossy(&entry.text).into_owned(),
    }
}
