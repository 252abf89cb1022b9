//! The supervisor's side of networks: what the keeper was told and has answered, and a new
//! keeper if it dies.
//!
//! There is no keeper before a unit needs one. A unit's orders are sent as it comes to
//! them: addresses before its sandbox is made, devices while that sets itself up, names
//! and ports when it is ready, and all of it taken back before its run counts as cleaned.
//! What must hold: a keeper that is killed costs time and nothing else, because every unit
//! keeps what it was given; what is asked waits here while there is nobody to be asked.

mod shown;
mod wants;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::live::{Live, Progress};
use super::poller::{ReadySource, Role, Source, Watched};
use super::{Daemon, Owner};
use crate::network::keeper::{self, Config};
use crate::network::plan::World;
use crate::network::wire::{self, Order, Received, Report, Stage, Ticket, Wants};
use crate::supervisor::event::Fact;
use crate::supervisor::view::StateName;
use crate::supervisor::{JobId, Run, Time, UnitId};
use crate::sys::{fork, signal};
use crate::unit::model::Unit;

/// A keeper that dies sooner than this after its start is replaced only after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Reports taken in one turn.
const REPORTS_A_TURN: usize = 100;

/// What a live run has of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    wants: Wants,
    /// What it was given, once it was.
    world: Option<World>,
    step: Step,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    /// Asked for addresses.
    Asked,
    /// Has addresses; its process is not there yet.
    Assigned,
    /// Its devices are being made.
    Joining,
    /// They are there.
    Joined,
    /// It is ready: its names and ports are being published.
    Publishing,
    /// They are.
    Published,
    /// All of it is being taken back.
    Leaving,
    /// Nothing is left.
    Left,
}

/// The keeper, as the supervisor sees it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Network {
    channel: Option<Watched>,
    orders: VecDeque<Order>,
    started: Time,
    restart_at: Option<Time>,
    /// Somebody needs it.
    wanted: bool,
    /// Ended jobs that are told of when what was published before them is.
    held: VecDeque<(JobId, Result<(), String>)>,
    /// What the keeper cannot write down.
    #[serde(default)]
    pub unwritten: Option<String>,
}

fn ticket(id: UnitId, run: Run) -> Ticket {
    Ticket { unit: id.0.into(), run: run.0 }
}

impl Network {
    /// When a new keeper is to be started.
    pub fn deadline(&self) -> Option<Time> {
        self.restart_at
    }
}

impl Attachment {
    /// As of a unit that was ready when an earlier supervisor was killed.
    pub fn taken_over(self) -> Self {
        Self { step: Step::Published, ..self }
    }

    /// Its addresses and so on, for the keeper that comes next.
    fn adoption(&self, ticket: Ticket) -> Option<Order> {
        let stage = match self.step {
            Step::Asked | Step::Left => return None,
            Step::Assigned | Step::Joining => Stage::Assigned,
            Step::Joined | Step::Publishing | Step::Leaving => Stage::Joined,
            Step::Published => Stage::Published,
        };
        let (wants, world) = (self.wants.clone(), self.world.clone()?);
        Some(Order::Adopt { ticket, wants, world, stage })
    }

    /// What it still waits for, asked again.
    fn question(&self, ticket: Ticket, avoid: impl Fn(&Wants) -> Vec<IpAddr>) -> Option<Order> {
        match self.step {
            Step::Asked => {
                let (wants, avoid) = (self.wants.clone(), avoid(&self.wants));
                Some(Order::Assign { ticket, wants, avoid })
            }
            Step::Joining => Some(Order::Join { ticket }),
            Step::Publishing => Some(Order::Publish { ticket }),
            Step::Leaving => Some(Order::Leave { ticket }),
            Step::Assigned | Step::Joined | Step::Published | Step::Left => None,
        }
    }
}

impl Daemon {
    fn network_config(&self) -> Config {
        Config { runtime: self.options.runtime_dir.display().to_string() }
    }

    /// If a killed supervisor left something, a keeper removes it.
    pub(super) fn tidy_networks(&mut self) {
        if self.network_config().was_left() {
            self.want_keeper();
        }
    }

    fn want_keeper(&mut self) {
        if !self.network.wanted {
            self.network.wanted = true;
            self.start_keeper();
        }
    }

    /// Starts a keeper and tells it of everything there is.
    pub(super) fn start_keeper(&mut self) {
        let now = self.clock.now();
        self.network.started = now;
        self.network.restart_at = None;
        if let Err(error) = self.try_start_keeper() {
            self.journal.say(&format!("cannot start the keeper of networks: {error}"));
            self.network.restart_at = now.0.checked_add(PAUSE).map(Time);
            return;
        }
        self.network.orders.clear();
        let attached = || {
            let lives = self.lives.iter();
            lives.filter_map(|(id, live)| Some((ticket(*id, live.run), live.network.as_ref()?)))
        };
        let mut orders: VecDeque<Order> =
            attached().filter_map(|(ticket, it)| it.adoption(ticket)).collect();
        orders.push_back(Order::Settled);
        let avoid = |wants: &Wants| self.others_addresses(wants);
        orders.extend(attached().filter_map(|(ticket, it)| it.question(ticket, avoid)));
        self.network.orders = orders;
        self.flush_keeper();
    }

    fn try_start_keeper(&mut self) -> io::Result<()> {
        let (ours, theirs) = wire::pair()?;
        let ours = self.poller.input(ours, Source::Keeper)?;
        let config = self.network_config();
        let keep = [theirs.as_fd()];
        let options =
            fork::Options { keep: &keep, die_with_parent: false, ..fork::Options::default() };
        let process = fork::child(&options, || {
            // For people who look at `ps`; nothing depends on it.
            let _ = rustix::thread::set_name(c"berth-network");
            // Signals of the terminal are the supervisor's: it ends with its channel.
            match signal::ignore_all().and_then(|()| theirs.try_clone()) {
                Ok(socket) => keeper::run(socket, &config),
                Err(_) => 1,
            }
        });
        match process {
            Ok(process) => {
                self.pids.insert(process.pid, Owner::Keeper);
                self.network.channel = Some(ours);
                Ok(())
            }
            Err(error) => {
                self.poller.close(ours);
                Err(error)
            }
        }
    }

    /// It has ended.
    pub(super) fn keeper_ended(&mut self) {
        for _ in 0..REPORTS_A_TURN {
            if !self.hear_keeper() {
                break;
            }
        }
        if let Some(channel) = self.network.channel.take() {
            self.poller.close(channel);
        }
        self.no_more_networks();
        // It takes that along; the next one tells again.
        self.network.unwritten = None;
        let now = self.clock.now();
        let soon = now.0.saturating_sub(self.network.started.0) < PAUSE;
        let pause = if soon { PAUSE } else { Duration::ZERO };
        self.network.restart_at = now.0.checked_add(pause).map(Time);
    }

    /// Another program has taken over: the keeper is to be of it, too.
    pub(super) fn replace_keeper(&mut self) {
        if let Some(channel) = self.network.channel.take() {
            self.poller.close(channel);
        }
    }

    fn order(&mut self, order: Order) {
        // Without a keeper the next one is told everything anyway.
        if self.network.channel.is_some() {
            self.network.orders.push_back(order);
            self.flush_keeper();
        }
    }

    /// Says what there is room for.
    pub(super) fn flush_keeper(&mut self) {
        while let Some(order) = self.network.orders.front() {
            let Some(channel) = &self.network.channel else { return };
            let process = match order {
                Order::Join { ticket } => self.holder_of(*ticket),
                _ => None,
            };
            match wire::send(channel.as_fd(), order, process.as_ref().map(AsFd::as_fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // An entry that is in the set can always be changed.
                    let _ = self.poller.interest(channel, true, true);
                    return;
                }
                // Gone: the reaper hears of it, and the next one is asked again.
                Ok(()) | Err(_) => {
                    self.network.orders.pop_front();
                }
            }
        }
        if let Some(channel) = &self.network.channel {
            let _ = self.poller.interest(channel, true, false);
        }
    }

    fn attached(&mut self, ticket: Ticket) -> Option<(UnitId, Run, &mut Live)> {
        let id = UnitId(u32::try_from(ticket.unit).ok()?);
        let run = Run(ticket.run);
        let live = self.lives.get_mut(&id).filter(|live| live.run == run)?;
        Some((id, run, live))
    }

    fn holder_of(&self, ticket: Ticket) -> Option<OwnedFd> {
        // Without a descriptor the keeper says that there is no process to connect.
        let live = self.lives.get(&UnitId(u32::try_from(ticket.unit).ok()?))?;
        live.holder().filter(|_| live.run.0 == ticket.run)?.try_clone_to_owned().ok()
    }

    pub(super) fn keeper_ready(&mut self, ready: &ReadySource) {
        if ready.writable {
            self.flush_keeper();
        }
        for _ in 0..REPORTS_A_TURN {
            if !self.hear_keeper() {
                return;
            }
        }
    }

    /// Takes one report; false if there was none.
    fn hear_keeper(&mut self) -> bool {
        let Some(channel) = &self.network.channel else { return false };
        match wire::receive::<Report>(channel.as_fd()) {
            Ok(Received::Message(report, _)) => {
                self.take_report(report);
                true
            }
            Ok(Received::Nothing) => false,
            Ok(Received::Closed) => {
                // After its end nothing more is read; the reaper brings the rest.
                let _ = self.poller.interest(channel, false, false);
                false
            }
            Err(error) => {
                self.journal.say(&format!("the keeper of networks talks nonsense: {error}"));
                false
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Assigned { ticket, result } => self.assigned(ticket, result),
            Report::Joined { ticket, result } => self.joined(ticket, result),
            Report::Published { ticket, result } => self.published(ticket, result),
            Report::Left { ticket } => self.left(ticket),
            Report::Shown { client, text } => self.network_shown(client, &text),
            Report::Trouble(text) => self.journal.say(&text),
            Report::Unwritten(trouble) => self.network_is_unwritten(trouble),
        }
    }

    /// The keeper's files cannot be written (any more), or can.
    fn network_is_unwritten(&mut self, trouble: Option<String>) {
        let text = match &trouble {
            Some(why) => format!("{why}; berth tries again"),
            None => format!("{} is written again", self.network_config().directory().display()),
        };
        self.journal.say(&text);
        self.network.unwritten = trouble;
    }

    /// Whether a unit's preparation goes on when it has its addresses.
    pub(super) fn ask_for_networks(&mut self, id: UnitId, run: Run, unit: &Unit) -> bool {
        let Some(wants) = wants::of(unit) else { return false };
        let attachment = Attachment { wants: wants.clone(), world: None, step: Step::Asked };
        if let Some(live) = self.lives.get_mut(&id) {
            live.network = Some(Box::new(attachment));
        }
        if self.network.wanted {
            let avoid = self.others_addresses(&wants);
            self.order(Order::Assign { ticket: ticket(id, run), wants, avoid });
        } else {
            // The first keeper is told of this one with everything else there is: asked
            // twice, it would take back what it has just made.
            self.want_keeper();
        }
        true
    }

    fn assigned(&mut self, ticket: Ticket, result: Result<World, String>) {
        let Some((id, run, live)) = self.attached(ticket) else { return };
        let cleaning = live.cleaning.is_some();
        let Some(attachment) = &mut live.network else { return };
        if attachment.step != Step::Asked {
            return;
        }
        match result {
            Ok(world) => {
                attachment.world = Some(world);
                attachment.step = Step::Assigned;
                if !cleaning {
                    self.prepare_sandbox(id, run);
                }
            }
            Err(text) => {
                attachment.step = Step::Left;
                self.fact(id, run, Fact::SetupFailed(text));
            }
        }
    }

    /// The network namespace that is to be filled is there.
    pub(super) fn connect(&mut self, id: UnitId, run: Run) {
        let live = self.lives.get_mut(&id).filter(|live| live.run == run);
        let attachment = live.and_then(|live| live.network.as_mut());
        if let Some(attachment) = attachment.filter(|it| it.step == Step::Assigned) {
            attachment.step = Step::Joining;
            self.order(Order::Join { ticket: ticket(id, run) });
        }
    }

    /// A process that shares another's network gets that.
    pub(super) fn share_network(&mut self, id: UnitId, run: Run, role: Role) -> Result<(), String> {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else {
            return Ok(());
        };
        let unit = live.unit.clone();
        if let Some(owner) = unit.service().and_then(|service| service.network_owner()) {
            let holder = self.machine.find(owner).and_then(|owner| self.lives.get(&owner));
            let holder = holder.and_then(|live| live.holder());
            let holder =
                holder.ok_or_else(|| format!("{owner}, whose network it shares, does not run"))?;
            let holder = holder
                .try_clone_to_owned()
                .map_err(|error| format!("cannot share the network of {owner}: {error}"))?;
            let live = self.lives.get_mut(&id).ok_or("its run is over")?;
            give_leave(live, role, Some(&holder))?;
        }
        Ok(())
    }

    fn joined(&mut self, ticket: Ticket, result: Result<(), String>) {
        let Some((id, run, live)) = self.attached(ticket) else { return };
        let Some(attachment) = live.network.as_mut().filter(|it| it.step == Step::Joining) else {
            return;
        };
        let role = if live.sandbox.is_some() { Role::Sandbox } else { Role::Main };
        let leave = match result {
            Ok(()) => {
                attachment.step = Step::Joined;
                give_leave(live, role, None)
            }
            Err(text) => Err(text),
        };
        if let Err(text) = leave {
            self.fact(id, run, Fact::SetupFailed(text));
        }
    }

    /// A unit's state has changed: what is published follows.
    pub(super) fn publish_as(&mut self, id: UnitId, state: StateName) {
        let Some(live) = self.lives.get_mut(&id) else { return };
        let run = live.run;
        let Some(attachment) = &mut live.network else { return };
        let up = matches!(state, StateName::Running | StateName::Frozen);
        match attachment.step {
            Step::Joined if up => {
                attachment.step = Step::Publishing;
                self.order(Order::Publish { ticket: ticket(id, run) });
            }
            Step::Publishing | Step::Published if !up => {
                attachment.step = Step::Joined;
                self.order(Order::Withdraw { ticket: ticket(id, run) });
                self.tell_held();
            }
            _ => {}
        }
    }

    fn published(&mut self, ticket: Ticket, result: Result<(), String>) {
        if let Some((id, _, live)) = self.attached(ticket) {
            if let Some(it) = live.network.as_mut().filter(|it| it.step == Step::Publishing) {
                it.step = Step::Published;
            }
            if let Err(text) = result {
                self.complain(id, &format!("its ports are not published: {text}"));
            }
        }
        self.tell_held();
    }

    /// A job has ended; who waits is told once what it published is there.
    pub(super) fn job_ended(&mut self, job: JobId, result: Result<(), String>) {
        self.network.held.push_back((job, result));
        self.tell_held();
    }

    fn tell_held(&mut self) {
        let publishing =
            |live: &Live| live.network.as_ref().is_some_and(|it| it.step == Step::Publishing);
        if self.network.held.is_empty() || self.lives.values().any(|live| publishing(live)) {
            return;
        }
        for (job, result) in std::mem::take(&mut self.network.held) {
            self.job_done(job, result);
        }
    }

    /// What of a run's networks stands in the way of its being cleaned.
    pub(super) fn leave_networks(&mut self, id: UnitId, run: Run) -> Option<String> {
        let live = self.lives.get_mut(&id).filter(|live| live.run == run)?;
        let attachment = live.network.as_mut()?;
        match attachment.step {
            Step::Left => return None,
            Step::Leaving => {}
            _ => {
                attachment.step = Step::Leaving;
                self.order(Order::Leave { ticket: ticket(id, run) });
                self.tell_held();
            }
        }
        Some("its networks have not been taken back yet".to_owned())
    }

    fn left(&mut self, ticket: Ticket) {
        let Some((id, run, live)) = self.attached(ticket) else { return };
        let Some(attachment) = live.network.as_mut() else { return };
        attachment.step = Step::Left;
        self.progress_cleaning(id, run);
    }
}

/// Lets a process that waits for its network go on.
fn give_leave(live: &mut Live, role: Role, with: Option<&OwnedFd>) -> Result<(), String> {
    let Some(process) = live.process(role) else { return Ok(()) };
    let Progress::SettingUp(status) = &process.progress else { return Ok(()) };
    let given = status.get().give_leave(with.map(AsFd::as_fd));
    match given {
        // It has failed before, which its own status tells.
        Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Ok(()),
        other => other.map_err(|error| format!("cannot let it go on: {error}")),
    }
}
