//! Starting up, and what is done with units that were read: booting, applying, checking.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::console::Show;
use super::control::Phase as Owed;
use super::ledger::Ledger;
use super::poller::{Poller, Source};
use super::reader::{self, Purpose, Turn};
use super::recovery::{self, Beginning};
use super::startup::{self, Fatal};
use super::{
    BTreeMap, BTreeSet, Clock, Control, Daemon, First, HashMap, Journal, Logger, OWN_LOG, Options,
    Owner, Phase, Ranges, Record, Sources, Stage, Stopped, VecDeque, console, first,
};
use crate::container::Host;
use crate::log::record::Stream;
use crate::pid1::filesystems;
use crate::pid1::{End, Place, say};
use crate::protocol::Error;
use crate::protocol::method::ApplyReply;
use crate::supervisor::Machine;
use crate::supervisor::request::{ApplyPlan, Request, Wish};
use crate::sys::limits::{self, Resource};
use crate::sys::{memory, mount, program, reap, signal};
use crate::unit::model::{self, Unit, UnitSet};
use crate::unit::{self, Loaded, Previous, limits as bounds};

/// Usage or unit files are wrong.
const BAD_USAGE: u8 = 2;

/// `berth check`: every mistake, and 1 if there is one.
pub fn check(paths: &[PathBuf]) -> ExitCode {
    // What a file does to its reader it does to this process alone.
    let bound = limits::set(Resource::AddressSpace, bounds::READER_ADDRESS_SPACE)
        .and_then(|()| limits::set(Resource::Cpu, bounds::READER_CPU_SECONDS));
    if let Err(error) = bound {
        say(&format!("cannot limit the unit reader: {error}"));
        return ExitCode::from(1);
    }
    let loaded = unit::read(&[unit::Source::Given(paths.to_vec())], &Previous::default());
    // There is nobody to tell that stderr is closed; the exit code still says it.
    let _ = std::io::stderr().write_all(loaded.report().as_bytes());
    if loaded.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Runs the supervisor until it is over.
pub fn run(mut options: Options) -> ExitCode {
    keep_program();
    let clock = Clock::start();
    let troubles = first::begin(&mut options);
    let place = options.place;
    match start(options, clock, troubles, None) {
        Ok(daemon) => finish(daemon),
        Err(Fatal(text)) => {
            first::cannot_begin(place, &text);
            first::finish(place, End::Reboot);
            ExitCode::from(1)
        }
    }
}

/// No unit can write to the program file of berth, whatever it gets hold of.
pub(super) fn keep_program() {
    if std::process::id() == 1 {
        filesystems::mount_proc();
    }
    match program::keep_from_writers() {
        Ok(()) => {}
        // What lacks that right cannot make containers either, and will say so.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        Err(error) => {
            let why = "the program file of berth is not kept from units that are root";
            say(&format!("{why}: {error}"));
        }
    }
}

/// Turns until everything is over, and leaves; from a machine nobody comes back.
pub(super) fn finish(mut daemon: Daemon) -> ExitCode {
    let code = daemon.turn_until_over();
    let Daemon { options, claim, end, .. } = daemon;
    if let Err(Fatal(text)) = startup::leave(&options, claim) {
        say(&text);
    }
    if let Some(why) = &options.last_words {
        first::cannot_begin(options.place, why);
    }
    first::finish(options.place, end);
    ExitCode::from(code)
}

/// Everything up to the first turn.
pub(super) fn start(
    mut options: Options,
    clock: Clock,
    troubles: Vec<String>,
    record: Option<Record>,
) -> Result<Daemon, Fatal> {
    let begun = clock.now();
    // What is said when it cannot be executed: the name is only needed for an upgrade.
    let named = std::env::args_os().next().map(PathBuf::from).filter(|name| name.is_absolute());
    let own_path = named.or_else(|| std::env::current_exe().ok()).unwrap_or_default();
    if std::process::id() == 1 {
        mount::leave_initial_root()
            .map_err(|error| Fatal::new("leave the initial root", &error))?;
    }
    let fatal = |what: &'static str| move |error: std::io::Error| Fatal::new(what, &error);
    let host = Host::new().map_err(|error| Fatal::new("prepare for containers", &error))?;
    startup::raise_limits().map_err(fatal("raise the limit of descriptors"))?;
    let group = startup::control_group(&options)?;
    let mut troubles = [troubles, startup::directories(&mut options)?].concat();
    let (claim, estate) = startup::claim(&options, &mut troubles)?;
    let ledger = Ledger::open(options.ledger(), !estate.is_empty(), &mut troubles);
    let directory = options.stopped_directory();
    let stopped = Stopped::read(directory, estate.down.clone(), &mut troubles);
    let ranges = Ranges::read(options.ranges_file(), options.pool, &mut troubles);
    reap::become_subreaper().map_err(fatal("become the reaper of orphans"))?;
    let mut poller = Poller::new().map_err(fatal("make the poller"))?;
    let signals = signal::block_all()
        .and_then(|fd| poller.input(fd, Source::Signals))
        .map_err(fatal("take signals"))?;
    let mut daemon = Daemon {
        journal: Journal::default(),
        logger: Logger::new(options.log_directory()),
        machine: Machine::new(startup::seed()),
        options,
        clock,
        poller,
        signals,
        network: super::network::Network::default(),
        control: Control::new(group),
        console: None,
        host,
        claim,
        phase: Phase::Booting,
        end: End::Exit,
        pressed: VecDeque::new(),
        stage: Stage::Settled,
        lives: BTreeMap::new(),
        cleaning: BTreeSet::new(),
        pids: HashMap::new(),
        reader: None,
        next_reader: 0,
        read_again: false,
        inputs: VecDeque::new(),
        units: record.as_ref().map(|record| record.units.clone()).unwrap_or_default(),
        stopped,
        ranges,
        kills: super::short::Kills::default(),
        children: false,
        rest: None,
        program: own_path,
        upgrade: None,
        ledger,
        instances: estate.instances(),
        estate,
        record,
    };
    daemon.keep_record();
    // What is free now is not copied into the two children that stay.
    memory::trim();
    daemon.start_logger();
    daemon.connect_journal().map_err(fatal("make the log of berth itself"))?;
    for trouble in &troubles {
        daemon.journal.say(trouble);
    }
    if let Some(why) = daemon.claim.root.missing().map(str::to_owned) {
        daemon.journal.say(&format!("no control groups here, limits are not enforced: {why}"));
    }
    daemon.start_console(begun);
    let sources = daemon.options.sources.clone();
    daemon.start_reader(sources, Purpose::Boot).map_err(Fatal)?;
    Ok(daemon)
}

impl Daemon {
    /// The supervisor's own messages go to the logger like a service's.
    fn connect_journal(&mut self) -> std::io::Result<()> {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let attached = super::logger::Attached {
            unit: OWN_LOG.to_owned(),
            run: 0,
            stream: Stream::Supervisor,
            fd: read,
            settings: model::Log::default(),
            watch: None,
        };
        self.logger.attach(&self.poller, attached);
        self.journal.connect(write);
        Ok(())
    }

    /// Starts to read units; the error is a sentence. One reading at a time: an older
    /// answer must not come after a newer one.
    pub(super) fn start_reader(
        &mut self,
        sources: Sources,
        purpose: Purpose,
    ) -> Result<(), String> {
        if self.reader.is_some() {
            return Err("units are being read already; try again in a moment".to_owned());
        }
        let number = self.next_reader;
        self.next_reader = self.next_reader.wrapping_add(1);
        let now = self.clock.now();
        let previous =
            Previous { set: UnitSet::clone(&self.units), instances: self.instances.clone() };
        let reader = reader::start(&mut self.poller, number, sources, &previous, purpose, now)
            .map_err(|error| format!("cannot start the unit reader: {error}"))?;
        self.pids.insert(reader.pid, Owner::Reader);
        self.reader = Some(reader);
        Ok(())
    }

    /// SIGHUP: read the units again, once those that are being read are there.
    pub(super) fn hang_up(&mut self) {
        if self.reader.is_some() {
            self.read_again = true;
            return;
        }
        let sources = self.options.sources.clone();
        if let Err(text) = self.start_reader(sources, Purpose::Hangup) {
            self.journal.say(&text);
        }
    }

    pub(super) fn reader_ready(&mut self, number: u64) {
        let Some(reader) = self.reader.as_mut().filter(|it| it.number == number) else { return };
        let Turn::Done(answer) = reader.turn() else { return };
        let Some(reader) = self.reader.take() else { return };
        let purpose = reader.purpose;
        let sources = reader.close(&mut self.poller);
        if purpose == Purpose::Boot && self.phase != Phase::Booting {
            // Asked to end before there was anything to begin with.
            return;
        }
        let usable = answer.and_then(|loaded| {
            if loaded.unusable { Err(loaded.report().trim_end().to_owned()) } else { Ok(*loaded) }
        });
        match (purpose, usable) {
            (Purpose::Boot, Ok(loaded)) => self.boot(loaded),
            (Purpose::Boot, Err(text)) => self.boot_failed(&text),
            (Purpose::Hangup, Ok(loaded)) => self.apply_now(loaded),
            (Purpose::Hangup, Err(text)) => self.journal.say(&text),
            (Purpose::Apply { client, dry_run }, Ok(loaded)) => {
                if !dry_run {
                    self.options.sources = sources.in_use(&loaded.set);
                }
                self.apply_for(client, loaded, dry_run);
            }
            (Purpose::Apply { client, .. }, Err(reason)) => {
                self.finish_apply(client, Err(Error::Failed { unit: None, reason }));
            }
        }
        if std::mem::take(&mut self.read_again) {
            self.hang_up();
        }
    }

    /// The units are there for the first time.
    fn boot(&mut self, loaded: Loaded) {
        // Mistakes that were made while services ran end none of them.
        let first = self.options.beginning != Beginning::Again;
        if first && self.options.is_up() && !loaded.is_clean() {
            // Nothing runs yet that a slow terminal could hold up.
            let _ = std::io::stderr().write_all(loaded.report().as_bytes());
            return self.boot_refused();
        }
        let names = loaded.set.units.iter().map(|unit| unit.name.len());
        if let Some(console) = &self.console {
            console.begin(names.max().unwrap_or(0).max(OWN_LOG.len()));
        }
        self.say_mistakes(&loaded);
        let known = |unit: &&Arc<Unit>| unit.name == self.options.target;
        let target = loaded.set.units.iter().find(known).map(|unit| unit.name.clone());
        if target.is_none() {
            let target = &self.options.target;
            return self
                .boot_failed(&format!("no unit is called {target}, so there is nothing to start"));
        }
        if let Some(text) = self.nothing_to_boot(&loaded) {
            return self.boot_failed(&text);
        }
        if let Some(text) = self.objection(&loaded.set) {
            return self.boot_failed(&text);
        }
        self.say_what_is_missing(&loaded.set);
        self.phase = Phase::Up;
        let units = self.bring_into_force(loaded.set);
        self.wish(Request { job: None, wish: Wish::Apply(units) });
        // The names are known to the machine only after it has thought about them.
        self.think(&mut Vec::new());
        self.take_over();
        memory::trim();
        // Whoever finds the socket finds the units.
        match self.listen() {
            Ok(()) => {}
            // Nobody started it just now who could be told, and units run or have to.
            Err(_) if self.options.place != Place::Plain || !first => self.control.writer.touch(),
            Err(error) => {
                return self.boot_failed(&format!("cannot make the control socket: {error}"));
            }
        }
        self.first_stage();
    }

    /// Why a machine cannot boot with these units: somebody would miss what is not read.
    fn nothing_to_boot(&self, loaded: &Loaded) -> Option<String> {
        if self.options.place != Place::Machine || self.options.target == first::RESCUE {
            return None;
        }
        let is_directory =
            |path: &&String| Path::new(path).extension().is_none_or(|it| it != "toml");
        if let Some(path) = loaded.broken_files.iter().find(is_directory) {
            return Some(format!("the units in {path} cannot be read"));
        }
        let services = loaded.set.units.iter().any(|unit| unit.service().is_some());
        (!services).then(|| "there is no service in the unit directories".to_owned())
    }

    fn start_console(&mut self, begun: crate::supervisor::Time) {
        let since = self.clock.wall(begun);
        let Options { place, debug, silent, quiet, .. } = self.options;
        let what = match place {
            _ if debug || (self.options.is_up() && !quiet) => Show::All,
            Place::Container if !self.options.is_up() => Show::All,
            Place::Machine if silent => Show::Trouble,
            Place::Machine | Place::Container | Place::Plain => Show::Own,
        };
        match console::start(&self.options.log_directory(), since, what) {
            Ok((console, pid)) => {
                self.console = Some(console);
                self.pids.insert(pid, Owner::Console);
            }
            Err(error) => self.journal.say(&format!("cannot show output: {error}")),
        }
    }

    fn boot_failed(&mut self, text: &str) {
        if self.options.beginning == Beginning::Again {
            recovery::fail_again(text);
        }
        if self.options.place == Place::Machine && self.options.sources.first != First::Rescue {
            return self.rescue(text);
        }
        say(text);
        self.boot_refused();
    }

    /// Nothing can be started. Process 1 of a container stays out of the way by ending, too:
    /// its runtime says why.
    fn boot_refused(&mut self) {
        self.begin_shutdown("there is nothing to start", BAD_USAGE);
    }

    fn apply_now(&mut self, loaded: Loaded) {
        self.say_mistakes(&loaded);
        let units = self.bring_into_force(loaded.set);
        self.wish(Request { job: None, wish: Wish::Apply(units) });
    }

    /// `berthctl apply`.
    fn apply_for(&mut self, client: u64, mut loaded: Loaded, dry_run: bool) {
        self.keep_instances(&mut loaded.set);
        let mistakes = u32::try_from(loaded.diagnostics.len().saturating_add(loaded.suppressed))
            .unwrap_or(u32::MAX);
        let diagnostics = loaded.report();
        let set = Arc::new(loaded.set);
        let ApplyPlan { add, change, restart, remove } =
            self.machine.plan_apply(&self.without_stopped(&set));
        let reply = ApplyReply { diagnostics, mistakes, add, change, restart, remove };
        if dry_run {
            return self.finish_apply(client, Ok(reply));
        }
        let mut pieces = reply.pieces();
        let mut last = ApplyReply::default();
        if self.wants_one_reply(client) {
            // All of it at the end, if it fits; otherwise nothing is done.
            last = pieces.pop().unwrap_or_default();
            if !pieces.is_empty() {
                return self.finish_apply(client, Err(Error::ExpectedMore {}));
            }
        }
        for piece in pieces {
            self.reply(client, &piece, true);
        }
        self.set_phase(client, Owed::Apply(Box::new(last)));
        self.flush_client(client);
        let units = self.bring_into_force(UnitSet::clone(&set));
        let job = self.control.new_job(client, "");
        self.wish(Request { job: Some(job), wish: Wish::Apply(units) });
    }

    /// These units from now on; what the machine is to know of them.
    fn bring_into_force(&mut self, mut set: UnitSet) -> Arc<UnitSet> {
        self.keep_instances(&mut set);
        // Those whose template has gone are forgotten.
        self.instances.retain(|name| set.units.iter().any(|unit| unit.name == *name));
        self.units = Arc::new(set);
        self.take_variables();
        self.without_stopped(&self.units)
    }

    /// Instances that somebody started while the units were being read.
    fn keep_instances(&self, set: &mut UnitSet) {
        let mut missing = Vec::new();
        for name in &self.instances {
            let is_new = self.units.units.iter().any(|unit| unit.name == *name)
                && !set.units.iter().any(|unit| unit.name == *name);
            if is_new && let Some(Ok(unit)) = instance(set, name) {
                missing.push(Arc::new(unit));
            }
        }
        if !missing.is_empty() {
            set.units.append(&mut missing);
            set.units.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }

    fn finish_apply(&mut self, client: u64, result: Result<ApplyReply, Error>) {
        if let Some(client) = self.control.clients.get_mut(&client) {
            client.phase = Owed::Idle;
        }
        match result {
            Ok(reply) => {
                let pieces = reply.pieces();
                if pieces.len() > 1 && self.wants_one_reply(client) {
                    self.refuse(client, Error::ExpectedMore {});
                    return self.serve(client);
                }
                let last = pieces.len().saturating_sub(1);
                for (index, piece) in pieces.iter().enumerate() {
                    self.reply(client, piece, index < last);
                }
            }
            Err(error) => self.refuse(client, error),
        }
        self.serve(client);
    }

    /// Whether there is a unit of this name, or a template for it.
    pub(super) fn can_be_made(&self, name: &str) -> bool {
        self.machine.find(name).is_some() || instance(&self.units, name).is_some()
    }

    /// Makes `worker@1` of `worker@` and the like, those that are not there yet and that there
    /// is a template for.
    ///
    /// # Errors
    /// Which cannot be made, and why: one sentence.
    pub(super) fn make_instances(&mut self, names: &[String]) -> Result<(), (String, String)> {
        let mut made = Vec::new();
        for name in names.iter().filter(|name| self.machine.find(name).is_none()) {
            let Some(unit) = instance(&self.units, name) else { continue };
            let refused = |reason| (name.clone(), format!("cannot start {name}: {reason}"));
            made.push(Arc::new(unit.map_err(refused)?));
            let count = self.units.units.len().saturating_add(made.len());
            if count > unit::limits::UNITS {
                return Err(refused(format!("there are {} units already", unit::limits::UNITS)));
            }
        }
        if made.is_empty() {
            return Ok(());
        }
        let mut set = UnitSet::clone(&self.units);
        self.instances.extend(made.iter().map(|unit| unit.name.clone()));
        set.units.append(&mut made);
        set.units.sort_by(|a, b| a.name.cmp(&b.name));
        let units = self.bring_into_force(set);
        self.wish(Request { job: None, wish: Wish::Apply(units) });
        self.think(&mut Vec::new());
        Ok(())
    }
}

/// The instance of this name, if there is a template for it.
fn instance(set: &UnitSet, name: &str) -> Option<Result<Unit, String>> {
    let (base, instance) = unit::names::split_instance(name)?;
    let template = set.templates.iter().find(|unit| unit.name == base)?;
    Some(unit::instantiate(template, instance))
}
