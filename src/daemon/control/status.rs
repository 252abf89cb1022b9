//! Units as clients see them: the machine's view and the loop's facts put together.

use std::collections::{HashSet, VecDeque};

use crate::daemon::Daemon;
use crate::daemon::live::Numbers;
use crate::protocol::Error;
use crate::protocol::insight::{Phases, UnitTimes};
use crate::protocol::method::ShowReply;
use crate::protocol::types::{
    Dependency, DependencyKind, Desired, Event, Exit, Health, Kind, State, Unit, UnitStatus,
};
use crate::supervisor::action::Notice;
use crate::supervisor::view::{HealthName, StateName};
use crate::supervisor::{self, Link, UnitId, timeline};
use crate::unit::model;

impl Daemon {
    /// Its state on the wire.
    pub(super) fn state_of(&self, id: UnitId) -> State {
        self.machine.view(id).map_or(State::Inactive, |view| state(view.state))
    }

    /// An element of `List`; none for a unit that has been removed meanwhile.
    pub(super) fn unit_name(&self, id: UnitId) -> Option<Unit> {
        let unit = self.machine.unit(id)?;
        Some(Unit { name: unit.name.clone(), kind: kind(unit), state: self.state_of(id) })
    }

    /// An element of `Status`; none for a unit that has been removed meanwhile.
    pub(super) fn unit_status(&self, id: UnitId) -> Option<UnitStatus> {
        let unit = self.machine.unit(id)?;
        let view = self.machine.view(id)?;
        let live = self.lives.get(&id);
        let main_pid = live.and_then(|live| live.main.as_ref()).map(|main| main.pid);
        Some(UnitStatus {
            name: unit.name.clone(),
            description: unit.description.clone(),
            kind: kind(unit),
            state: state(view.state),
            desired: if view.wanted { Desired::Up } else { Desired::Down },
            main_pid: main_pid.and_then(|pid| u32::try_from(pid).ok()),
            exit: view.exit.and_then(exit),
            restarts: view.restarts,
            since: Some(self.clock.wall(view.since).to_string()),
            ready: view.ready,
            health: view.health.map(health),
            result: view.result.map(|result| result.word().to_owned()),
            cgroup: live.and_then(|live| live.group.path().map(|path| path.display().to_string())),
            memory: live.and_then(|live| live.group.memory()),
            oom_kills: self.kills.count(id),
            oom_victim: self.kills.victim(id).map(str::to_owned),
            ports: self.ports_of(id),
            why: view.why,
            status_text: view.status_text,
            run: view.run.map(|run| run.0),
            unenforced: live.map(|live| live.unenforced()).unwrap_or_default(),
            user_namespace: live.and_then(|live| self.ranges.text(id, live)),
            no_user_namespace: match live.map(|live| &live.numbers) {
                Some(Numbers::HostBecause(why)) => Some(why.to_string()),
                Some(Numbers::Host | Numbers::Own) => None,
                // In backoff, or stopped: as it was.
                None => self.ranges.why_without(id).map(str::to_owned),
            },
            privileged: unit.service().map(|service| service.security.privileged),
        })
    }

    /// The whole definition.
    pub(super) fn show(&self, name: &str) -> Result<ShowReply, Error> {
        let id = self.find(name)?;
        let nothing = || Error::NoSuchUnit { unit: name.to_owned(), nearest: None };
        let unit = self.machine.unit(id).ok_or_else(nothing)?;
        let status = self.unit_status(id).ok_or_else(nothing)?;
        Ok(ShowReply {
            definition: crate::unit::definition(unit),
            status,
            file: (!unit.file.is_empty()).then(|| unit.file.clone()),
            line: (unit.line > 0).then_some(unit.line),
        })
    }

    /// An element of `Timeline`; none for a unit that has been removed meanwhile.
    pub(super) fn unit_times(&self, id: UnitId) -> Option<UnitTimes> {
        let unit = self.machine.unit(id)?;
        let timeline = self.machine.timeline(id)?;
        Some(UnitTimes {
            name: unit.name.clone(),
            kind: kind(unit),
            state: self.state_of(id),
            first: timeline.first.as_deref().map(phases),
            latest: timeline.latest.as_deref().map(phases),
        })
    }

    /// Direct dependencies and those through others, each unit visited once; without a name,
    /// those of all units.
    pub(super) fn dependencies(
        &self,
        name: Option<&str>,
        reverse: bool,
    ) -> Result<VecDeque<Dependency>, Error> {
        let mut todo: VecDeque<UnitId> = match name {
            Some(name) => VecDeque::from([self.find(name)?]),
            None => self.machine.ids().collect(),
        };
        let mut seen: HashSet<UnitId> = todo.iter().copied().collect();
        let mut dependencies = VecDeque::new();
        while let Some(id) = todo.pop_front() {
            let edges =
                if reverse { self.machine.dependents(id) } else { self.machine.dependencies(id) };
            let Some(this) = self.machine.unit(id) else { continue };
            for edge in edges {
                let Some(that) = self.machine.unit(edge.unit) else { continue };
                let (unit, on) = if reverse { (that, this) } else { (this, that) };
                dependencies.push_back(Dependency {
                    unit: unit.name.clone(),
                    kind: dependency_kind(edge.link),
                    on: on.name.clone(),
                    state: self.state_of(edge.unit),
                });
                if seen.insert(edge.unit) {
                    todo.push_back(edge.unit);
                }
            }
        }
        Ok(dependencies)
    }

    /// A notice of the machine's as an event for clients.
    pub(in crate::daemon) fn event(name: &str, notice: &Notice) -> Event {
        Event {
            time: jiff::Timestamp::now().to_string(),
            unit: name.to_owned(),
            state: state(notice.state),
            why: notice.why.clone(),
            exit: notice.exit.and_then(exit),
            grave: notice.grave,
        }
    }
}

fn phases(phases: &timeline::Phases) -> Phases {
    let timeline::Phases { waiting, preparing, starting, ready, ended } = *phases;
    Phases { waiting, preparing, starting, ready, ended }
}

fn kind(unit: &model::Unit) -> Kind {
    match unit.kind {
        model::Kind::Service(_) => Kind::Service,
        model::Kind::Target => Kind::Target,
    }
}

fn state(state: StateName) -> State {
    match state {
        StateName::Inactive => State::Inactive,
        StateName::Waiting => State::Waiting,
        StateName::Preparing => State::Preparing,
        StateName::Starting => State::Starting,
        StateName::Running => State::Running,
        StateName::Stopping => State::Stopping,
        StateName::Backoff => State::Backoff,
        StateName::Failed => State::Failed,
        StateName::Done => State::Done,
        StateName::Frozen => State::Frozen,
    }
}

fn health(health: HealthName) -> Health {
    match health {
        HealthName::Starting => Health::Starting,
        HealthName::Healthy => Health::Healthy,
        HealthName::Unhealthy => Health::Unhealthy,
    }
}

fn exit(exit: supervisor::Exit) -> Option<Exit> {
    match exit {
        supervisor::Exit::Code(code) => Some(Exit::Code(code)),
        supervisor::Exit::Signal(signal) => Some(Exit::Signal(signal)),
        supervisor::Exit::Unknown => None,
    }
}

fn dependency_kind(link: Link) -> DependencyKind {
    match link {
        Link::Requires => DependencyKind::Requires,
        Link::Wants => DependencyKind::Wants,
        Link::After => DependencyKind::After,
        Link::Conflicts => DependencyKind::Conflicts,
    }
}
