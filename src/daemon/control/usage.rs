//! `Usage`: what units use, read by a helper that owns the client's connection. Reading the
//! files of a thousand groups takes the kernel some time, which process 1 does not have.
//!
//! The helper knows no units: it looks which groups there are in each round, so those that
//! start and stop meanwhile come and go.

use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Access, helper, relay};
use crate::daemon::Daemon;
use crate::protocol::insight::UnitUsage;
use crate::protocol::message::{encode_error, encode_reply};
use crate::protocol::method::{Usage, UsageReply};
use crate::protocol::{Error, Mode};
use crate::supervisor::Time;
use crate::sys::cgroup::{Root, usage};
use crate::sys::fork;
use crate::unit::names;

/// Units in one reply: each takes less than a kilobyte.
const UNITS_A_REPLY: usize = 48;

/// How long a client may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);

impl Daemon {
    /// Has a helper read what units use.
    pub(super) fn usage_helper(
        &mut self,
        number: u64,
        call: &Usage,
        mode: Mode,
    ) -> Result<(), Error> {
        for name in &call.units {
            self.find(name)?;
        }
        if let Some(why) = self.claim.root.missing() {
            let reason = format!("without control groups nothing counts what units use: {why}");
            return Err(Error::Failed { unit: None, reason });
        }
        let access = self.control.clients.get(&number).map_or(Access::Nothing, |it| it.access);
        self.control.helper_is_free_for(access)?;
        let (stream, _) = self.take_client(number)?;
        let keep = [stream.as_fd()];
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let process = fork::child(&options, || {
            let result = helper::prepare().and_then(|()| {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(PATIENCE))
            });
            let result = result.and_then(|()| self.tell_usage(&stream, call, mode));
            // That the client has gone is how it ends.
            i32::from(result.is_err())
        });
        match process {
            Ok(process) => self.helper_started(process.pid, access),
            Err(error) => {
                let reason = format!("cannot read what units use: no process can be made: {error}");
                relay::say(&stream, &encode_error(Error::Failed { unit: None, reason }));
            }
        }
        Ok(())
    }

    /// In the helper: rounds until one is enough or the client has gone.
    fn tell_usage(&self, stream: &UnixStream, call: &Usage, mode: Mode) -> io::Result<()> {
        loop {
            let units = round(&self.claim.root, &call.units, || self.clock.now());
            tell(stream, &units, call.interval.is_some(), mode)?;
            match call.interval {
                Some(pause) if !hung_up_within(stream, Duration::from_millis(pause))? => {}
                Some(_) | None => return Ok(()),
            }
        }
    }
}

/// What is used now.
fn round(root: &Root, units: &[String], now: impl Fn() -> Time) -> Vec<UnitUsage> {
    let mut all = usage::names(root);
    all.retain(|name| names::problem(name).is_none() && (units.is_empty() || units.contains(name)));
    let read = |name: String| {
        let it = usage::of(root, &name)?;
        let counts =
            [("memory", it.memory), ("pids", it.pids), ("read", it.read), ("written", it.written)];
        let summed =
            counts.iter().filter(|(_, count)| matches!(count, Some(usage::Count::Summed(_))));
        let value = |count: Option<usage::Count>| count.map(usage::Count::value);
        Some(UnitUsage {
            unit: name,
            time: u64::try_from(now().0.as_micros()).unwrap_or(u64::MAX),
            cpu: value(it.cpu),
            memory: value(it.memory),
            memory_limit: it.memory_limit,
            pids: value(it.pids),
            pids_limit: it.pids_limit,
            read: value(it.read),
            written: value(it.written),
            summed: summed.map(|(name, _)| (*name).to_owned()).collect(),
        })
    };
    all.into_iter().filter_map(read).collect()
}

/// One round in as many replies as it takes.
fn tell(stream: &UnixStream, units: &[UnitUsage], again: bool, mode: Mode) -> io::Result<()> {
    let mut writer = stream;
    let mut chunks = units.chunks(UNITS_A_REPLY).peekable();
    loop {
        let part = chunks.next().unwrap_or_default();
        let complete = chunks.peek().is_none();
        if mode == Mode::Single && !complete {
            return writer.write_all(&encode_error(Error::ExpectedMore {}));
        }
        let reply = UsageReply { units: part.to_vec(), complete };
        let message = encode_reply(&reply, again || !complete).unwrap_or_else(|error| {
            let reason = format!("the answer cannot be sent: {error}");
            encode_error(Error::Failed { unit: None, reason })
        });
        writer.write_all(&message)?;
        if complete {
            return Ok(());
        }
    }
}

/// Waits that long; true at once when the client goes.
fn hung_up_within(stream: &UnixStream, pause: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let timeout = Timespec::try_from(pause).map_err(|_| io::ErrorKind::InvalidInput)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
