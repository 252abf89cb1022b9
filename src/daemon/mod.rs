//! The loop: sources of events in, actions out. It decides nothing.
//!
//! One thread, one [`Poller`]. A turn waits for descriptors and the nearest deadline, turns
//! what happened into inputs of the [`Machine`], and carries out the orders it answers
//! with (`effects`). What must always hold: no call in here can wait for a disk, a
//! network, a lock or another process; every turn does a bounded amount of work; every
//! error is handled where it is and said once.

mod adopt;
pub mod boot;
mod clean;
pub mod clock;
mod console;
mod control;
mod effects;
mod ending;
mod first;
mod guard;
mod hooks;
pub mod journal;
mod ledger;
mod live;
mod logger;
mod messages;
mod network;
mod notify;
mod objections;
mod options;
mod output;
pub mod poller;
mod pool;
mod processes;
mod ranges;
mod reader;
mod recovery;
mod short;
mod shortage;
mod stage;
mod startup;
mod stopped;
mod upgrade;
mod writer;

pub use boot::{check, run};
pub use options::{First, Options, Sources};
pub use pool::Pool;
pub use recovery::{OPTION as RECOVER, recover};
pub use upgrade::{rehearse, resume};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use adopt::Estate;
use clock::Clock;
use console::Console;
use control::Control;
use ending::Phase;
use journal::Journal;
use ledger::Ledger;
use live::Live;
use logger::Logger;
use network::Network;
use poller::{Poller, ReadySource, Role, Source, Watched};
use ranges::Ranges;
use reader::Reader;
use recovery::Record;
use serde::{Deserialize, Serialize};
use stage::Stage;
use startup::Claim;
use stopped::Stopped;
use upgrade::Upgrade;

use crate::container::Host;
use crate::pid1::End;
use crate::supervisor::request::Request;
use crate::supervisor::{Action, Input, Machine, Run, Time, UnitId};
use crate::sys::{memory, signal};
use crate::unit::model::UnitSet;

/// The name under which the supervisor's own messages are logged.
pub use crate::unit::names::OWN as OWN_LOG;

/// Inputs the machine gets in one turn; a unit that restarts without a delay and fails
/// at once must not keep the loop from its other work.
const INPUTS_A_TURN: usize = 4096;

/// Room for inputs that is kept: more than one turn of a quiet supervisor brings.
const FEW: usize = 256;

/// Signals taken in one turn.
const SIGNALS_A_TURN: usize = 64;

/// Whose a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Owner {
    /// A run's.
    Run(UnitId, Run, Role),
    /// The logger.
    Logger,
    /// The keeper of networks.
    Keeper,
    /// A unit reader.
    Reader,
    /// What shows output in `berth up`.
    Console,
    /// A command of `exec`, by session.
    Exec(u64),
    /// Owns a client's connection.
    Helper,
    /// The same for a client that is not root.
    OtherHelper,
    /// Writes down which units stay down.
    Stopped,
    /// Writes down which unit has which user numbers.
    Ranges,
    /// A new program that reads what it would be handed.
    Rehearsal,
}

/// The supervisor. All of it is written down for a successor (`upgrade`).
#[derive(Debug, Serialize, Deserialize)]
struct Daemon {
    options: Options,
    clock: Clock,
    machine: Machine,
    poller: Poller,
    signals: Watched,
    journal: Journal,
    logger: Logger,
    network: Network,
    control: Control,
    console: Option<Console>,
    host: Host,
    claim: Claim,
    phase: Phase,
    /// How it is to end.
    #[serde(default)]
    end: End,
    /// When Ctrl-Alt-Del was pressed last.
    #[serde(default)]
    pressed: VecDeque<Time>,
    /// Where a machine is on its way up.
    #[serde(default)]
    stage: Stage,
    /// Live runs, one a unit at most.
    lives: BTreeMap<UnitId, Box<Live>>,
    /// Those of them that are being cleaned.
    cleaning: BTreeSet<UnitId>,
    /// Children that have not been reaped.
    pids: HashMap<i32, Owner>,
    reader: Option<Reader>,
    next_reader: u64,
    /// SIGHUP came while units were being read.
    read_again: bool,
    inputs: VecDeque<Input>,
    /// What is in force; the units themselves are shared with the machine.
    units: Arc<UnitSet>,
    /// Instances of templates that somebody started by name.
    instances: Vec<String>,
    stopped: Stopped,
    ranges: Ranges,
    #[serde(default)]
    kills: short::Kills,
    /// Whether a child may be waiting to be reaped.
    children: bool,
    /// When memory is given back, unless something happens before: see [`memory::REST`].
    rest: Option<Time>,
    /// This program's file, as it was called when it began.
    program: PathBuf,
    upgrade: Option<Upgrade>,
    ledger: Ledger,
    /// Until the units are known.
    #[serde(skip)]
    estate: Estate,
    /// For a berth after this one, should it fail.
    #[serde(skip)]
    record: Option<Record>,
}

impl Daemon {
    /// Turns until everything is over; the exit code.
    fn turn_until_over(&mut self) -> u8 {
        let mut ready = Vec::new();
        let mut actions = Vec::new();
        loop {
            self.journal.flush();
            if let Phase::Over { code } = self.phase {
                return code;
            }
            ready.clear();
            let timeout = self.timeout();
            if let Err(error) = self.poller.wait(timeout, &mut ready) {
                self.journal.say(&format!("cannot wait for events: {error}"));
            }
            if !ready.is_empty() {
                self.rest = self.clock.now().0.checked_add(memory::REST).map(Time);
            }
            for one in &ready {
                if self.poller.still_there(one) {
                    self.dispatch(one);
                }
            }
            if self.children {
                self.children = self.reap();
            }
            // Almost always nothing to do: see `Host::recover`.
            if let Err(error) = self.host.recover() {
                self.journal.say(&error.to_string());
            }
            self.on_time();
            self.think(&mut actions);
            self.write_books();
            self.serve_next();
            self.look_for_an_end();
            self.slim(&mut actions);
            self.renew_record();
            self.exchange_if_due();
        }
    }

    /// After a wave of starts or stops: gives back the room that only the wave needed. The
    /// smaller the supervisor, the less every fork of it costs.
    fn slim(&mut self, actions: &mut Vec<Action>) {
        let wave = self.host.slim() || self.inputs.capacity() > FEW;
        if self.inputs.is_empty() && wave {
            self.inputs.shrink_to(FEW);
            actions.shrink_to(FEW);
            self.poller.slim();
            memory::trim();
        }
    }

    /// How long the next turn may wait; `None`: for ever.
    fn timeout(&self) -> Option<std::time::Duration> {
        // An answer may be due before anything has happened: the first one of a successor is.
        if self.children || !self.inputs.is_empty() || self.control.owes_answers() {
            return Some(std::time::Duration::ZERO);
        }
        let deadlines = [
            self.machine.deadline(),
            self.cleaning_deadline(),
            self.logger.deadline(),
            self.network.deadline(),
            self.control.deadline(),
            self.reader.as_ref().and_then(Reader::deadline),
            self.phase.deadline(),
            self.upgrade_deadline(),
            self.books_deadline(),
            self.rest,
        ];
        let nearest = deadlines.into_iter().flatten().min()?;
        Some(nearest.0.saturating_sub(self.clock.now().0))
    }

    fn dispatch(&mut self, ready: &ReadySource) {
        match ready.source {
            Source::Signals => self.take_signals(),
            Source::Logger => self.logger_ready(ready),
            Source::Keeper => self.keeper_ready(ready),
            Source::Listener => self.accept(),
            Source::Client(number) => self.client_ready(number, ready),
            Source::Reader(number) => self.reader_ready(number),
            Source::Exec(number) => self.exec_ready(number),
            Source::Run(unit, run, part) => self.run_ready(unit, run, part),
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self) {
        let now = self.clock.now();
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.machine.deadline()) {
            self.inputs.push_back(Input::Tick);
        }
        if due(self.cleaning_deadline()) {
            self.retry_cleaning();
        }
        if due(self.logger.deadline()) {
            self.start_logger();
        }
        if due(self.network.deadline()) {
            self.start_keeper();
        }
        if due(self.control.deadline()) {
            self.drop_overdue_clients();
            self.control.accept_when_due(&self.poller, now);
        }
        if let Some(reader) = self.reader.as_mut().filter(|reader| due(reader.deadline())) {
            reader.give_up();
        }
        if due(self.rest) {
            self.rest = None;
            memory::trim();
        }
        if due(self.upgrade_deadline()) {
            self.upgrade_is_late();
        }
        if due(self.phase.deadline()) {
            self.phase_is_due();
        }
    }

    /// Lets the machine think about what happened, and carries out what it orders.
    fn think(&mut self, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        for _ in 0..INPUTS_A_TURN {
            let Some(input) = self.inputs.pop_front() else { return };
            self.machine.handle(now, input, actions);
            for action in actions.drain(..) {
                self.carry_out(action);
            }
        }
    }

    /// A wish for the machine.
    fn wish(&mut self, request: Request) {
        self.inputs.push_back(Input::Request(request));
    }

    fn take_signals(&mut self) {
        for _ in 0..SIGNALS_A_TURN {
            match signal::take(self.signals.as_fd()) {
                Ok(Some(libc::SIGCHLD)) => self.children = true,
                Ok(Some(signal)) => self.signalled(signal),
                Ok(None) => return,
                Err(error) => {
                    return self.journal.say(&format!("cannot read signals: {error}"));
                }
            }
        }
    }

    fn logger_ready(&mut self, ready: &ReadySource) {
        if ready.writable {
            self.logger.flush(&self.poller);
        }
        if !ready.readable {
            return;
        }
        let reports = self.logger.reports(&self.poller);
        self.hear_logger(reports);
    }

    fn hear_logger(&mut self, reports: Vec<logger::Report>) {
        for report in reports {
            match report {
                logger::Report::Matched(unit, run) => self.line_matched(unit, run),
                logger::Report::Trouble(text) => self.journal.say(&text),
            }
        }
    }

    fn start_logger(&mut self) {
        match self.logger.start(&mut self.poller, self.clock.now()) {
            Ok(pid) => {
                self.pids.insert(pid, Owner::Logger);
                self.note_logger(pid);
            }
            Err(error) => self.journal.say(&format!("cannot start the logger: {error}")),
        }
    }

    fn logger_ended(&mut self) {
        let reports = self.logger.ended(&mut self.poller, self.clock.now());
        self.hear_logger(reports);
    }
}
