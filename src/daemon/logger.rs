//! The supervisor's side of the logger: what it was told to own, and a new one if it dies.
//!
//! berth keeps a duplicate of every read end until the logger says that all of it is in
//! the file. So a logger that is killed costs nothing: the next one is handed the same
//! pipes. Orders that the channel has no room for wait here, at most a few per stream.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::poller::{Poller, Source, Watched};
use crate::log::channel::{Channel, FromLogger, Received, SendError, ToLogger};
use crate::log::record::Stream;
use crate::supervisor::{Run, Time, UnitId};
use crate::sys::{fork, signal};
use crate::unit::model;

/// A logger that dies sooner than this after its start is replaced only after this time.
const PAUSE: Duration = Duration::from_secs(1);

type Near = Channel<ToLogger, FromLogger>;

/// One stream the logger owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Whose.
    pub unit: String,
    /// Which run, as the records say.
    pub run: u64,
    /// Which stream.
    pub stream: Stream,
    /// berth's duplicate.
    #[serde(with = "crate::sys::kept")]
    pub fd: OwnedFd,
    /// Where to write.
    pub settings: model::Log,
    /// The expression that makes the unit ready, and whose start waits for it.
    pub watch: Option<Box<(String, UnitId, Run)>>,
}

/// A stream, until the logger has written all of it.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    attached: Attached,
    /// Its run is over. Each logger must be told: one that is killed takes that along.
    over: bool,
}

/// What is still to be said to the logger.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Order {
    Attach { token: u64, again: bool },
    Keep(u64),
    Unwatch(u64),
    Detach(u64),
    Finish,
    Retire,
}

/// What the logger reported, as far as the loop has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// The line that makes this run ready was written.
    Matched(UnitId, Run),
    /// One sentence for the journal.
    Trouble(String),
}

/// Whether it goes on reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more at once.
    More,
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    Over,
}

/// The logger, as the supervisor sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Logger {
    directory: PathBuf,
    channel: Option<Watched<Near>>,
    streams: BTreeMap<u64, Held>,
    /// What the process only holds, for a supervisor after this one.
    #[serde(with = "crate::sys::kept")]
    kept: BTreeMap<u64, OwnedFd>,
    orders: VecDeque<Order>,
    next_token: u64,
    started: Time,
    /// When the next one is to be started, if there is none.
    restart_at: Option<Time>,
    finishing: bool,
}

impl Logger {
    /// No logger yet; [`Logger::start`] makes one.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            channel: None,
            streams: BTreeMap::new(),
            kept: BTreeMap::new(),
            orders: VecDeque::new(),
            next_token: 0,
            started: Time::default(),
            restart_at: None,
            finishing: false,
        }
    }

    /// Forks a logger and hands it every stream there is; returns its pid.
    ///
    /// # Errors
    /// No process or descriptor is left; the caller tries again at [`Logger::deadline`].
    pub fn start(&mut self, poller: &mut Poller, now: Time) -> io::Result<i32> {
        self.restart_at = now.0.checked_add(PAUSE).map(Time);
        let (near, far) = Near::pair()?;
        // Before the fork: once there is a process, nothing may keep its pid from the caller.
        let near = poller.input(near, Source::Logger)?;
        let pid = match self.fork(far) {
            Ok(pid) => pid,
            Err(error) => {
                poller.close(near);
                return Err(error);
            }
        };
        self.channel = Some(near);
        self.started = now;
        self.restart_at = None;
        self.orders.clear();
        for (&token, held) in &self.streams {
            self.orders.push_back(Order::Attach { token, again: true });
            if held.over {
                self.orders.push_back(Order::Detach(token));
            }
        }
        self.orders.extend(self.kept.keys().map(|&token| Order::Keep(token)));
        if self.finishing {
            self.orders.push_back(Order::Finish);
        }
        self.flush(poller);
        Ok(pid)
    }

    /// The process itself.
    fn fork(&self, far: Channel<FromLogger, ToLogger>) -> io::Result<i32> {
        let directory = self.directory.clone();
        let far = OwnedFd::from(far);
        let keep = [far.as_fd()];
        let options = fork::Options { keep: &keep, ..fork::Options::default() };
        let process = fork::child(&options, || {
            // For people who look at `ps`; nothing depends on it.
            let _ = rustix::thread::set_name(c"berth-logger");
            // Signals of the terminal are the supervisor's: the logger ends with its pipes.
            let Ok(socket) = signal::ignore_all().and_then(|()| far.try_clone()) else {
                return 1;
            };
            crate::log::logger::run(socket, &directory)
        })?;
        Ok(process.pid)
    }

    /// The logger has ended: what it had still said, which nobody adds to any more. Called
    /// by the reaper.
    pub fn ended(&mut self, poller: &mut Poller, now: Time) -> Vec<Report> {
        let mut reports = Vec::new();
        while self.receive(&mut reports) == Next::More {}
        if let Some(channel) = self.channel.take() {
            poller.close(channel);
        }
        if self.finishing && self.streams.is_empty() {
            return reports;
        }
        let soon = now.0.saturating_sub(self.started.0) < PAUSE;
        let pause = if soon { PAUSE } else { Duration::ZERO };
        self.restart_at = now.0.checked_add(pause).map(Time);
        reports
    }

    /// When [`Logger::start`] wants to be called again.
    pub fn deadline(&self) -> Option<Time> {
        self.restart_at
    }

    /// Whether everything is written and the process has gone.
    pub fn is_over(&self) -> bool {
        self.finishing && self.channel.is_none() && self.restart_at.is_none()
    }

    /// Hands a stream over; the token names it from now on.
    pub fn attach(&mut self, poller: &Poller, attached: Attached) -> u64 {
        self.attach_stream(poller, attached, false)
    }

    /// The same for a stream that the logger of an earlier supervisor had.
    pub fn attach_again(&mut self, poller: &Poller, attached: Attached) -> u64 {
        self.attach_stream(poller, attached, true)
    }

    fn attach_stream(&mut self, poller: &Poller, attached: Attached, again: bool) -> u64 {
        let token = self.new_token();
        self.streams.insert(token, Held { attached, over: false });
        self.order(poller, Order::Attach { token, again });
        token
    }

    /// Has the process hold a descriptor, so that it outlives this supervisor; until it is
    /// detached.
    pub fn keep(&mut self, poller: &Poller, fd: OwnedFd) -> u64 {
        let token = self.new_token();
        self.kept.insert(token, fd);
        self.order(poller, Order::Keep(token));
        token
    }

    fn new_token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        token
    }

    /// The streams of these tokens, and their descriptors.
    pub fn held(&self, tokens: &[u64]) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let held = tokens.iter().filter_map(|token| self.streams.get(token));
        held.map(|held| (held.attached.stream, held.attached.fd.as_fd()))
    }

    /// Nobody waits for the line any more.
    pub fn unwatch(&mut self, poller: &Poller, token: u64) {
        if let Some(held) = self.streams.get_mut(&token)
            && held.attached.watch.take().is_some()
        {
            self.order(poller, Order::Unwatch(token));
        }
    }

    /// The run is over: its stream is let go once all that is there is written, also one
    /// that does not end by itself. (The unit may have given its output to somebody outside.)
    pub fn detach(&mut self, poller: &Poller, token: u64) {
        if self.kept.remove(&token).is_some() {
            self.order(poller, Order::Detach(token));
        }
        if let Some(held) = self.streams.get_mut(&token) {
            held.over = true;
            self.order(poller, Order::Detach(token));
        }
    }

    /// Another program has taken over: the process is to write what it has taken and end,
    /// so that one of the new program comes in its place.
    pub fn replace(&mut self, poller: &Poller) {
        self.order(poller, Order::Retire);
    }

    /// No more streams will come: the logger ends when it has written all.
    pub fn finish(&mut self, poller: &Poller) {
        if !self.finishing {
            self.finishing = true;
            self.order(poller, Order::Finish);
        }
    }

    fn order(&mut self, poller: &Poller, order: Order) {
        // Without a logger the next one is told everything anyway.
        if self.channel.is_some() {
            self.orders.push_back(order);
            self.flush(poller);
        }
    }

    /// Says what there is room for.
    pub fn flush(&mut self, poller: &Poller) {
        let Some(channel) = &self.channel else { return };
        let was_waiting = self.orders.len() > 1;
        while let Some(&order) = self.orders.front() {
            match self.say(channel.get(), order) {
                Err(SendError::Full) => {
                    // An entry that is in the set can always be changed.
                    let _ = poller.interest(channel, true, true);
                    return;
                }
                // Gone: the reaper hears of it. The others cannot happen to checked units.
                Ok(()) | Err(SendError::Gone | SendError::TooLong | SendError::Io(_)) => {
                    self.orders.pop_front();
                }
            }
        }
        if was_waiting {
            let _ = poller.interest(channel, true, false);
        }
    }

    fn say(&self, channel: &Near, order: Order) -> Result<(), SendError> {
        match order {
            Order::Attach { token, again } => {
                let Some(held) = self.streams.get(&token) else { return Ok(()) };
                let attached = &held.attached;
                let message = ToLogger::Attach {
                    token,
                    unit: attached.unit.clone(),
                    run: attached.run,
                    stream: attached.stream,
                    settings: attached.settings.clone(),
                    watch: attached.watch.as_ref().map(|watch| watch.0.clone()),
                    again,
                };
                channel.send(&message, Some(attached.fd.as_fd()))
            }
            Order::Keep(token) => match self.kept.get(&token) {
                Some(fd) => channel.send(&ToLogger::Keep { token }, Some(fd.as_fd())),
                None => Ok(()),
            },
            Order::Unwatch(token) => channel.send(&ToLogger::Unwatch { token }, None),
            Order::Detach(token) => channel.send(&ToLogger::Detach { token }, None),
            Order::Finish => channel.send(&ToLogger::Finish, None),
            Order::Retire => channel.send(&ToLogger::Retire, None),
        }
    }

    /// Takes at most a hundred reports; the poller says if there are more.
    pub fn reports(&mut self, poller: &Poller) -> Vec<Report> {
        let mut reports = Vec::new();
        for _ in 0..100 {
            match self.receive(&mut reports) {
                Next::More => {}
                Next::Nothing => break,
                Next::Over => {
                    self.hung_up(poller);
                    break;
                }
            }
        }
        reports
    }

    /// Takes one report.
    fn receive(&mut self, reports: &mut Vec<Report>) -> Next {
        let Some(channel) = &self.channel else { return Next::Over };
        match channel.get().receive() {
            Ok(Received::Message(FromLogger::Closed { token }, _)) => {
                self.streams.remove(&token);
            }
            Ok(Received::Message(FromLogger::Matched { token }, _)) => {
                let held = self.streams.get_mut(&token);
                let watch = held.and_then(|held| held.attached.watch.take());
                reports.extend(watch.map(|watch| Report::Matched(watch.1, watch.2)));
            }
            Ok(Received::Message(FromLogger::Trouble { unit, text }, _)) => {
                reports.push(Report::Trouble(format!("log of {unit}: {text}")));
            }
            Ok(Received::Nothing) => return Next::Nothing,
            Ok(Received::Closed) => return Next::Over,
            Err(error) => {
                reports.push(Report::Trouble(format!("the logger talks nonsense: {error}")));
                return Next::Nothing;
            }
        }
        Next::More
    }

    /// After the end of the channel nothing more is read; the reaper brings the rest.
    fn hung_up(&self, poller: &Poller) {
        if let Some(channel) = &self.channel {
            let _ = poller.interest(channel, false, false);
        }
    }
}
