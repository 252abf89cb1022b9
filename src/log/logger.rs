//! The logger process: one thread, one epoll loop, thousands of streams.
//!
//! What must always hold: a stream that is ready gets one chunk a turn, so a flood slows
//! its own writer only; a stream that cannot be read now, or whose console is full, is left
//! alone and tried again, while all others go on; one whose file cannot be written is read all
//! the same (`outage`); berth never waits for
//! the logger nor the logger for berth. It exits when berth has let go (or died) and
//! the last pipe has ended.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::channel::{FromLogger, Received, ToLogger};
use super::outbox::{Interest, Outbox};
use super::pump::{Output, Pump, Turn};
use super::source::{Line, Parting, Source};
use super::watch::Watch;
use crate::sys::fd::set_nonblocking;
use crate::sys::memory;
use crate::unit::model;

/// Tokens from here on are the logger's own.
pub const FIRST_RESERVED_TOKEN: u64 = u64::MAX - 15;

const BERTH: u64 = FIRST_RESERVED_TOKEN;
const CONSOLE_OUT: u64 = FIRST_RESERVED_TOKEN + 1;
const CONSOLE_ERR: u64 = FIRST_RESERVED_TOKEN + 2;

/// How long a stream that could not be read is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Most messages of berth's taken before the streams have their turn again.
const MESSAGES_A_TURN: usize = 64;

/// Most units whose files are tried again before the streams have their turn.
const ATTEMPTS_A_TURN: usize = 64;

/// Events asked of the kernel at once; it hands the rest out next time, in turn.
const EVENTS_A_TURN: usize = 128;

/// The logger process: owns the read ends of all output pipes until they have ended.
/// Called in a forked child of berth that holds, apart from `socket` (an end of
/// [`super::Channel::pair`]) and the standard three, no descriptor; leaves berth's session, so
/// that Ctrl-C does not reach it. Returns the exit code of the process: 0 when
/// everything is written, 1 when it could not begin (the reason is on standard error).
pub fn run(socket: OwnedFd, directory: &Path) -> i32 {
    // It fails for the leader of a process group, which a forked child is not.
    let _ = setsid();
    let _ = rustix::thread::set_name(c"berth-logger");
    // A descriptor a stream: as many as we may have.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    match Logger::new(socket, directory).and_then(|mut logger| logger.work()) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "berth: the logger cannot go on: {error}");
            1
        }
    }
}

/// What the streams of one unit share.
#[derive(Debug)]
struct Unit {
    settings: model::Log,
    streams: usize,
    /// Trouble was told and it does not work again yet.
    troubled: bool,
}

struct Logger {
    epoll: OwnedFd,
    outbox: Outbox,
    pump: Pump,
    /// Trees, because a table that has grown leaves its smaller selves behind: with 2,000
    /// streams that is more than all else together.
    sources: BTreeMap<u64, Source>,
    units: BTreeMap<Rc<str>, Unit>,
    /// Streams left alone, the next to be tried first.
    retries: VecDeque<(Instant, u64)>,
    /// Streams that wait for the consoles to become writable.
    blocked_out: Vec<u64>,
    blocked_err: Vec<u64>,
    /// What is only held for berth.
    kept: BTreeMap<u64, OwnedFd>,
    /// berth lets go.
    finishing: bool,
    /// Another logger goes on.
    retiring: bool,
}

impl Logger {
    fn new(socket: OwnedFd, directory: &Path) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let token = epoll::EventData::new_u64(BERTH);
        epoll::add(&epoll, &socket, token, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            outbox: Outbox::new(socket),
            pump: Pump::new(directory)?,
            sources: BTreeMap::new(),
            units: BTreeMap::new(),
            retries: VecDeque::new(),
            blocked_out: Vec::new(),
            blocked_err: Vec::new(),
            kept: BTreeMap::new(),
            finishing: false,
            retiring: false,
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_A_TURN);
        loop {
            self.finish_datagrams();
            self.tell_outages();
            self.report();
            if self.is_done() {
                self.pump.give_up();
                return Ok(());
            }
            events.clear();
            self.wait(&mut events)?;
            for event in &events {
                match event.data.u64() {
                    BERTH => self.hear(),
                    CONSOLE_OUT => self.unblock(Output::Out),
                    CONSOLE_ERR => self.unblock(Output::Err),
                    token => self.serve(token),
                }
            }
            self.retry_due();
            for unit in self.pump.outages().due(ATTEMPTS_A_TURN) {
                self.pump.retry(&unit);
            }
        }
    }

    /// Tells of files that cannot be written, and of what was in the place of others.
    fn tell_outages(&mut self) {
        for (unit, text) in self.pump.aside() {
            self.outbox.push(FromLogger::Trouble { unit: unit.to_string(), text });
        }
        for (unit, why) in self.pump.outages().begun() {
            let unit = unit.to_string();
            let text = format!("its output cannot be written, and what comes is lost: {why}");
            self.outbox.push(FromLogger::Trouble { unit, text });
        }
    }

    /// Waits for something to do; when there is nothing for a while, with less memory.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let rest = Timespec::try_from(memory::REST).unwrap_or_default();
        let retry = self.until_retry();
        let first = retry.filter(|retry| *retry < rest).unwrap_or(rest);
        for timeout in [Some(first), retry] {
            let room = rustix::buffer::spare_capacity(events);
            match epoll::wait(&self.epoll, room, timeout.as_ref()) {
                Ok(0) if timeout == Some(rest) => memory::trim(),
                Ok(_) | Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Once no pipe is left, nobody is left who could say something on a datagram socket
    /// either: what is there is written and that is all.
    fn finish_datagrams(&mut self) {
        if self.finishing && self.sources.values().all(Source::is_datagram) {
            let open: Vec<u64> = self.sources.keys().copied().collect();
            for token in open {
                self.detach(token);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.retiring || self.finishing && self.sources.is_empty() && self.outbox.is_empty()
    }

    /// Takes berth's orders.
    fn hear(&mut self) {
        for _ in 0..MESSAGES_A_TURN {
            match self.outbox.receive() {
                Received::Message(message, descriptor) => self.obey(message, descriptor),
                Received::Nothing => return,
                Received::Closed => {
                    if let Some(socket) = self.outbox.socket() {
                        let _ = epoll::delete(&self.epoll, socket);
                    }
                    self.outbox.close();
                    self.finishing = true;
                    return;
                }
            }
        }
    }

    fn obey(&mut self, message: ToLogger, descriptor: Option<OwnedFd>) {
        match message {
            ToLogger::Attach { token, unit, run, stream, settings, watch, again } => {
                let refusal = if token >= FIRST_RESERVED_TOKEN || self.sources.contains_key(&token)
                {
                    "its number is taken"
                } else if !super::is_unit_name(&unit) {
                    "that is not the name of a unit"
                } else if let Some(fd) = descriptor {
                    let watch = self.watch(&unit, watch);
                    let source = Source {
                        fd,
                        unit: unit.into(),
                        run,
                        stream,
                        line: Line::Unknown,
                        again,
                        armed: false,
                        parting: Parting::Not,
                        watch,
                    };
                    return self.attach(token, source, settings);
                } else {
                    "no descriptor came with it"
                };
                let text = format!("a stream of {unit:?} was refused by the logger: {refusal}");
                self.outbox.push(FromLogger::Trouble { unit, text });
            }
            ToLogger::Unwatch { token } => {
                if let Some(source) = self.sources.get_mut(&token) {
                    source.watch = None;
                }
            }
            ToLogger::Keep { token } => self.kept.extend(descriptor.map(|fd| (token, fd))),
            ToLogger::Detach { token } => {
                self.kept.remove(&token);
                self.detach(token);
            }
            ToLogger::Finish => self.finishing = true,
            ToLogger::Retire => self.retiring = true,
        }
    }

    fn watch(&mut self, unit: &str, expression: Option<String>) -> Option<Box<Watch>> {
        match Watch::new(&expression?) {
            Ok(watch) => Some(Box::new(watch)),
            Err(error) => {
                let text = format!("its output cannot be watched for a line: {error}");
                self.outbox.push(FromLogger::Trouble { unit: unit.to_owned(), text });
                None
            }
        }
    }

    fn attach(&mut self, token: u64, source: Source, settings: model::Log) {
        // The unit can read from its own output too, so what was there may be gone when it
        // is to be taken. A read end has its own open file: nobody else notices.
        if let Err(error) = set_nonblocking(source.fd.as_fd(), true) {
            let unit = source.unit.to_string();
            let text = format!("its output cannot be read: {error}");
            self.outbox.push(FromLogger::Trouble { unit, text });
            return self.outbox.push(FromLogger::Closed { token });
        }
        let unit = self.units.entry(Rc::clone(&source.unit)).or_insert_with(|| Unit {
            settings: model::Log::default(),
            streams: 0,
            troubled: false,
        });
        unit.settings = settings;
        unit.streams = unit.streams.saturating_add(1);
        self.sources.insert(token, source);
        self.arm(token);
    }

    fn detach(&mut self, token: u64) {
        let Some(source) = self.sources.get_mut(&token) else { return };
        // One that is left alone for now learns it when its time comes.
        if source.parting == Parting::Not {
            source.part();
            if source.armed {
                self.serve(token);
            }
        }
    }

    /// Waits for the stream to have something.
    fn arm(&mut self, token: u64) {
        let Some(source) = self.sources.get_mut(&token) else { return };
        let data = epoll::EventData::new_u64(token);
        match epoll::add(&self.epoll, &source.fd, data, epoll::EventFlags::IN) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => source.armed = true,
            Err(errno) => self.put_off(token, &errno.into()),
        }
    }

    /// Leaves the stream alone. A descriptor that is not armed must not be in the
    /// set at all: the end of a pipe is reported whatever one asks for.
    fn disarm(&mut self, token: u64) {
        if let Some(source) = self.sources.get_mut(&token) {
            source.armed = false;
            let _ = epoll::delete(&self.epoll, &source.fd);
        }
    }

    /// One turn of one stream.
    fn serve(&mut self, token: u64) {
        let Some(source) = self.sources.get_mut(&token) else { return };
        let Some(unit) = self.units.get_mut(&source.unit) else { return };
        match self.pump.turn(source, &unit.settings) {
            Ok(Turn::Idle) => {}
            Ok(Turn::Written { count, matched }) => {
                unit.troubled = false;
                self.written(token, count, matched);
            }
            Ok(Turn::Ended { matched }) => {
                self.matched(token, matched);
                self.close(token);
            }
            Ok(Turn::Blocked(output)) => self.block(token, output),
            Ok(Turn::Unreadable) => {
                let text = "its output cannot be read: it is neither a pipe nor a datagram socket";
                self.trouble(token, text.to_owned());
                self.close(token);
            }
            Err(error) => self.put_off(token, &error),
        }
    }

    /// Takes away what was written. berth hears of a match before that: a logger that is
    /// killed in between leaves the line in the pipe for the next one to find.
    fn written(&mut self, token: u64, count: usize, matched: bool) {
        self.matched(token, matched);
        if matched {
            self.report();
        }
        let Some(source) = self.sources.get_mut(&token) else { return };
        if let Err(error) = self.pump.take(source, count) {
            self.put_off(token, &error);
        } else if source.parting != Parting::Not {
            // It may have nothing more to say, and then no event tells.
            self.retry_now(token);
        }
    }

    fn matched(&mut self, token: u64, matched: bool) {
        if let (true, Some(source)) = (matched, self.sources.get_mut(&token)) {
            source.watch = None;
            self.outbox.push(FromLogger::Matched { token });
        }
    }

    fn close(&mut self, token: u64) {
        self.disarm(token);
        let Some(source) = self.sources.remove(&token) else { return };
        self.outbox.push(FromLogger::Closed { token });
        let Some(unit) = self.units.get_mut(&source.unit) else { return };
        unit.streams = unit.streams.saturating_sub(1);
        if unit.streams == 0 {
            self.units.remove(&source.unit);
            self.pump.close(&source.unit);
        }
    }

    /// Tells of a unit's trouble, once until it works again.
    fn trouble(&mut self, token: u64, text: String) {
        let Some(source) = self.sources.get(&token) else { return };
        let Some(unit) = self.units.get_mut(&source.unit) else { return };
        if !unit.troubled {
            unit.troubled = true;
            self.outbox.push(FromLogger::Trouble { unit: source.unit.to_string(), text });
        }
    }

    /// The stream could not be read: its data stays where it is for a while.
    fn put_off(&mut self, token: u64, error: &io::Error) {
        self.trouble(token, format!("its output cannot be read and waits: {error}"));
        self.disarm(token);
        let now = Instant::now();
        self.retries.push_back((now.checked_add(RETRY).unwrap_or(now), token));
    }

    fn retry_now(&mut self, token: u64) {
        self.disarm(token);
        self.retries.push_front((Instant::now(), token));
    }

    /// Lets the streams whose time has come have a turn.
    fn retry_due(&mut self) {
        let now = Instant::now();
        let due = self.retries.iter().take_while(|(at, _)| *at <= now).count();
        let tokens: Vec<u64> = self.retries.drain(..due).map(|(_, token)| token).collect();
        for token in tokens {
            self.arm(token);
            self.serve(token);
        }
    }

    fn until_retry(&mut self) -> Option<Timespec> {
        let stream = self.retries.front().map(|(at, _)| *at);
        let at = stream.into_iter().chain(self.pump.outages().deadline()).min()?;
        // Rounded up, so that it is really due then.
        let left = at.saturating_duration_since(Instant::now());
        let slack = if left.is_zero() { Duration::ZERO } else { Duration::from_millis(1) };
        Timespec::try_from(left.saturating_add(slack)).ok()
    }

    /// The stream waits until this output has room.
    fn block(&mut self, token: u64, output: Output) {
        self.disarm(token);
        let (waiting, data) = match output {
            Output::Out => (&mut self.blocked_out, CONSOLE_OUT),
            Output::Err => (&mut self.blocked_err, CONSOLE_ERR),
        };
        waiting.push(token);
        let Some(console) = self.pump.console(output) else { return };
        let data = epoll::EventData::new_u64(data);
        match epoll::add(&self.epoll, console, data, epoll::EventFlags::OUT) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => {
                waiting.pop();
                self.put_off(token, &errno.into());
            }
        }
    }

    fn unblock(&mut self, output: Output) {
        if let Some(console) = self.pump.console(output) {
            let _ = epoll::delete(&self.epoll, console);
        }
        let waiting = match output {
            Output::Out => &mut self.blocked_out,
            Output::Err => &mut self.blocked_err,
        };
        for token in std::mem::take(waiting) {
            self.arm(token);
            self.serve(token);
        }
    }

    /// Tells berth what there is to tell, as far as it has room.
    fn report(&mut self) {
        let flags = match self.outbox.flush() {
            None => return,
            Some(Interest::Orders) => epoll::EventFlags::IN,
            Some(Interest::OrdersAndRoom) => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        };
        if let Some(socket) = self.outbox.socket() {
            let _ = epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(BERTH), flags);
        }
    }
}
