//! The keeper: a child of the supervisor that owns everything of networks on this host.
//!
//! One process, one order after the other; each may wait for the kernel or for nft(8). It
//! keeps nothing that could not be told anew: when it is killed, the next one is told of
//! every unit (`Adopt`), removes what belongs to none (`Settled`) and goes on. What must
//! hold: whatever a unit was given is in its [`Member`], and [`Keeper::let_go`] gives all of
//! it back from any point.

mod doors;
mod elements;
mod flows;
mod helper;
mod host;
mod links;
mod members;
mod names;
mod networks;
mod nft;
mod papers;
mod ports;
mod settings;
mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::confine;
use super::plan::element::Element;
use super::plan::leases::Leases;
use super::plan::names::Tag;
use super::wire::{self, Order, Received, Report, Ticket, Wants};
use doors::Doors;
use helper::Watch;
use host::Host;
use members::Member;
use names::Names;
use networks::Network;

use crate::sys::limits;

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The supervisor's runtime directory.
    pub runtime: String,
}

impl Config {
    /// Where leases and settings are written down.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(&self.runtime).join("network")
    }

    /// Whether an earlier supervisor has left something that is to be put right.
    pub fn was_left(&self) -> bool {
        self.directory().join(ACTIVE).exists()
    }
}

/// There while something is made on the host.
const ACTIVE: &str = "active";

/// A helper that ends as soon as it begins is not started without a pause.
const PAUSE: Duration = Duration::from_millis(200);

/// The keeper's books.
struct Keeper {
    tag: Tag,
    socket: OwnedFd,
    host: Host,
    names: Names,
    doors: Doors,
    networks: BTreeMap<String, Network>,
    leases: BTreeMap<String, Leases>,
    members: BTreeMap<Ticket, Member>,
    /// Something could not be undone.
    untidy: bool,
    /// Units that wait for a network to be made anew, as it is defined now.
    waiting: VecDeque<(Ticket, Wants, Vec<IpAddr>)>,
}

/// The whole life of the keeper; its exit code.
pub fn run(socket: OwnedFd, config: &Config) -> i32 {
    // Each published port takes two descriptors. With fewer it fails as any other.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let _ = limits::set_soft_files(most);
    let mut keeper = match Keeper::new(socket, config) {
        Ok(keeper) => keeper,
        Err((socket, text)) => {
            // Without an answer the supervisor tells of its end.
            let _ = wire::send(socket.as_fd(), &Report::Trouble(text), None);
            return 1;
        }
    };
    if let Err(error) = confine::keeper() {
        keeper
            .complain(format!("networks cannot be used: their keeper cannot be confined: {error}"));
        return 1;
    }
    match keeper.serve() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

impl Keeper {
    fn new(socket: OwnedFd, config: &Config) -> Result<Self, (OwnedFd, String)> {
        let tag = Tag::of(&config.runtime);
        match Host::new(tag.clone(), config.directory()) {
            Ok(host) => Ok(Self {
                tag,
                socket,
                host,
                names: Names::default(),
                doors: Doors::default(),
                networks: BTreeMap::new(),
                leases: BTreeMap::new(),
                members: BTreeMap::new(),
                untidy: false,
                waiting: VecDeque::new(),
            }),
            Err(error) => Err((socket, format!("networks cannot be used: {error}"))),
        }
    }

    /// Until the supervisor has gone or lets go.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            match wire::receive::<Order>(self.socket.as_fd()) {
                Ok(Received::Message(order, descriptor)) => self.obey(order, descriptor)?,
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => {
                    // The last attempt; nobody is left to be told how it went.
                    self.host.papers.write();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.tell_of_papers()?;
        }
    }

    /// What cannot be written down, and what was read and makes no sense.
    fn tell_of_papers(&mut self) -> io::Result<()> {
        if self.host.papers.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.host.papers.write();
        }
        for text in self.host.papers.damage() {
            self.complain(text);
        }
        match self.host.papers.news() {
            Some(news) => self.report(&Report::Unwritten(news.err())),
            None => Ok(()),
        }
    }

    /// Waits for an order; a helper that ends meanwhile is replaced.
    fn wait(&mut self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        let retry = self.host.papers.deadline();
        let mut timeout = retry.map(|at| at.saturating_duration_since(Instant::now()));
        for watch in [self.names.watch(), self.doors.watch()] {
            match watch {
                Watch::Soon => timeout = Some(timeout.map_or(PAUSE, |other| other.min(PAUSE))),
                Watch::End(end) => fds.push(PollFd::from_borrowed_fd(end, PollFlags::IN)),
                Watch::Nothing => {}
            }
        }
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for revived in [self.names.revive(), self.doors.revive()] {
            if let Err(text) = revived {
                self.complain(text);
            }
        }
        Ok(())
    }

    fn report(&self, report: &Report) -> io::Result<()> {
        wire::send(self.socket.as_fd(), report, None)
    }

    /// Says what went wrong where nothing can be done about it.
    fn complain(&self, text: String) {
        // Without the supervisor nobody is there to hear it.
        let _ = self.report(&Report::Trouble(text));
    }

    fn obey(&mut self, order: Order, descriptor: Option<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Adopt { ticket, wants, world, stage } => {
                self.adopt(ticket, wants, world, stage);
                Ok(())
            }
            Order::Settled => {
                self.settle();
                Ok(())
            }
            Order::Assign { ticket, wants, avoid } => {
                if let Some((unit, network)) = self.in_the_way(&wants) {
                    let text = format!(
                        "{} waits until {unit} has left the network {network}, which has changed",
                        wants.name
                    );
                    self.complain(text);
                }
                self.assign(ticket, wants, avoid)
            }
            Order::Join { ticket } => {
                let result = self.join(ticket, descriptor);
                self.report(&Report::Joined { ticket, result })
            }
            Order::Publish { ticket } => {
                let result = self.publish(ticket);
                self.report(&Report::Published { ticket, result })
            }
            Order::Withdraw { ticket } => {
                self.withdraw(ticket);
                Ok(())
            }
            Order::Leave { ticket } => {
                self.waiting.retain(|(other, ..)| *other != ticket);
                self.let_go(ticket);
                self.report(&Report::Left { ticket })?;
                self.wake()
            }
            Order::Show { client } => self.show(client),
        }
    }

    /// Reserves what a unit wants, or has it wait for others to leave.
    fn assign(&mut self, ticket: Ticket, wants: Wants, avoid: Vec<IpAddr>) -> io::Result<()> {
        if self.in_the_way(&wants).is_some() {
            self.waiting.push_back((ticket, wants, avoid));
            return Ok(());
        }
        let result = self.admit(ticket, &wants, &avoid);
        self.report(&Report::Assigned { ticket, result })
    }

    /// Those who may go on now that somebody has left.
    fn wake(&mut self) -> io::Result<()> {
        for (ticket, wants, avoid) in std::mem::take(&mut self.waiting) {
            self.assign(ticket, wants, avoid)?;
        }
        Ok(())
    }

    /// Puts right what could not be undone when it was to be.
    fn tidy(&mut self) {
        if std::mem::take(&mut self.untidy) {
            self.settle();
        }
    }

    /// Makes the rules and devices what they should be.
    ///
    /// # Errors
    /// One sentence.
    fn try_to_settle(&mut self) -> Result<(), String> {
        let mut elements: BTreeSet<Element> = BTreeSet::new();
        let mut devices: BTreeSet<String> = BTreeSet::new();
        for network in self.networks.values() {
            network.leaves(&self.tag, &mut elements, &mut devices);
        }
        for member in self.members.values() {
            member.leaves(&self.tag, &mut elements, &mut devices);
        }
        self.host.settle(elements, &devices)
    }

    /// Everything that was there has been told.
    fn settle(&mut self) {
        if let Err(text) = self.try_to_settle() {
            self.complain(text);
        }
        self.names.complete();
        for confirmed in [self.names.confirm(), self.doors.confirm()] {
            if let Err(text) = confirmed {
                self.complain(text);
            }
        }
        self.mark();
    }

    /// Leaves a mark while there is something that a later supervisor would have to remove.
    fn mark(&mut self) {
        let nothing = self.networks.is_empty() && self.members.is_empty();
        self.host.papers.put(ACTIVE, (!nothing).then_some(""));
    }
}
