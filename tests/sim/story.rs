//! A small language for examples: what is asked, what happens, what the machine orders.
//!
//! ```text
//! let mut it = Story::of([service("db"), service("web").requires("db")]);
//! it.start("web");
//! it.orders(&["prepare db"]);
//! it.comes_up("db");
//! it.orders(&["run db", "prepare web"]);
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::sim::units;
use crate::supervisor::action::Notice;
use crate::supervisor::event::{Fact, Notify};
use crate::supervisor::request::Wish;
use crate::supervisor::view::{StateName, UnitView};
use crate::supervisor::{
    Action, Event, Exit, Hook, Input, JobId, Machine, Request, Run, Time, UnitId,
};
use crate::unit::model::{At, Health, HealthCheck, Kind, Restart, Service, Unit, UnitSet};

/// A unit in the making.
#[derive(Clone)]
pub struct Draft(pub Unit);

pub fn service(name: &str) -> Draft {
    Draft(units::unit(name, Kind::Service(Box::new(units::plain_service()))))
}

pub fn oneshot(name: &str) -> Draft {
    service(name).with(|it| it.oneshot = true)
}

pub fn target(name: &str) -> Draft {
    Draft(units::unit(name, Kind::Target))
}

impl Draft {
    pub fn requires(mut self, name: &str) -> Self {
        self.0.requires.push(name.to_owned());
        self
    }

    pub fn wants(mut self, name: &str) -> Self {
        self.0.wants.push(name.to_owned());
        self
    }

    pub fn after(mut self, name: &str) -> Self {
        self.0.after.push(name.to_owned());
        self
    }

    pub fn before(mut self, name: &str) -> Self {
        self.0.before.push(name.to_owned());
        self
    }

    pub fn conflicts(mut self, name: &str) -> Self {
        self.0.conflicts.push(name.to_owned());
        self
    }

    pub fn wanted_by(mut self, name: &str) -> Self {
        self.0.wanted_by.push(name.to_owned());
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Service)) -> Self {
        if let Kind::Service(service) = &mut self.0.kind {
            change(service);
        }
        self
    }

    pub fn restart(self, change: impl FnOnce(&mut Restart)) -> Self {
        self.with(|it| change(&mut it.restart))
    }

    /// Checked every 10 s, for at most 5 s, three failures make it unhealthy.
    pub fn checked(self, change: impl FnOnce(&mut Health)) -> Self {
        let mut health = Health {
            check: At::default_value(HealthCheck::Command(vec!["/bin/check".to_owned()])),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
            restart: true,
        };
        change(&mut health);
        self.with(|it| it.health = Some(health))
    }
}

/// One command, for hooks.
pub fn command() -> At<Vec<String>> {
    At::default_value(vec!["/bin/hook".to_owned()])
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub const OK: Result<Exit, String> = Ok(Exit::Code(0));
pub const FAILED: Result<Exit, String> = Ok(Exit::Code(1));

/// Brings up so many services that a target wants, kills each, and shuts down. Returns how
/// many inputs that took, and how long the machine thought about them.
pub fn boot_and_shut_down(count: u32) -> (u32, Duration) {
    let wanted = |index| service(&format!("s{index:05}")).wanted_by("default").0;
    let mut units: Vec<Unit> = (0..count).map(wanted).collect();
    units.insert(0, target("default").0);
    let mut machine = Machine::new(1);
    let mut now = Time::default();
    let units = units.into_iter().map(Arc::new).collect();
    let set = Arc::new(UnitSet { units, ..UnitSet::default() });
    let mut inputs =
        VecDeque::from([Input::Request(Request { job: None, wish: Wish::Apply(set) })]);
    let (mut handled, mut time) = (0, Duration::ZERO);
    let mut killed = HashSet::new();
    let mut out = Vec::new();
    loop {
        while let Some(input) = inputs.pop_front() {
            let begin = std::time::Instant::now();
            machine.handle(now, input, &mut out);
            time += begin.elapsed();
            handled += 1;
            for action in out.drain(..) {
                let exit = Exit::Signal(15);
                let exited = Fact::MainExited { exit, left_behind: false };
                let (unit, run, fact) = match action {
                    Action::Prepare { unit, run } => (unit, run, Fact::Prepared),
                    Action::RunMain { unit, run } if killed.insert(unit) => {
                        inputs.push_back(Input::Event(Event {
                            unit,
                            run,
                            fact: Fact::MainExecuted,
                        }));
                        (unit, run, exited)
                    }
                    Action::RunMain { unit, run } => (unit, run, Fact::MainExecuted),
                    Action::Signal { unit, run, .. } => (unit, run, exited),
                    Action::Clean { unit, run } => (unit, run, Fact::Cleaned),
                    Action::ShutdownDone => return (handled, time),
                    _ => continue,
                };
                inputs.push_back(Input::Event(Event { unit, run, fact }));
            }
        }
        let wish = match machine.deadline() {
            Some(deadline) => {
                now = deadline;
                inputs.push_back(Input::Tick);
                continue;
            }
            None if killed.is_empty() => Wish::Start(machine.find("default").unwrap()),
            None => Wish::Shutdown,
        };
        inputs.push_back(Input::Request(Request { job: None, wish }));
    }
}

pub struct Story {
    machine: Machine,
    pub now: Time,
    orders: Vec<String>,
    pub notices: Vec<Notice>,
    results: HashMap<JobId, Result<(), String>>,
    next_job: u64,
}

impl Story {
    pub fn of<const N: usize>(units: [Draft; N]) -> Self {
        let mut story = Self {
            machine: Machine::new(1),
            now: Time::default(),
            orders: Vec::new(),
            notices: Vec::new(),
            results: HashMap::new(),
            next_job: 0,
        };
        story.apply(units);
        story
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.machine.audit().unwrap();
        for action in out {
            self.take(action);
        }
    }

    fn take(&mut self, action: Action) {
        let order = match action {
            Action::Announce(notice) => return self.notices.push(notice),
            Action::JobDone { job, result } => {
                let before = self.results.insert(job, result);
                assert!(before.is_none(), "job {} has ended twice", job.0);
                return;
            }
            Action::StopWatching { .. } => return,
            Action::Prepare { unit, .. } => format!("prepare {}", self.name(unit)),
            Action::RunMain { unit, .. } => format!("run {}", self.name(unit)),
            Action::RunHook { unit, hook, .. } => format!("hook {} {hook:?}", self.name(unit)),
            Action::KillHook { unit, hook, .. } => format!("kill {} {hook:?}", self.name(unit)),
            Action::Signal { unit, signal, .. } => format!("signal {} {signal}", self.name(unit)),
            Action::Clean { unit, .. } => format!("clean {}", self.name(unit)),
            Action::Freeze { unit, on: true, .. } => format!("freeze {}", self.name(unit)),
            Action::Freeze { unit, on: false, .. } => format!("thaw {}", self.name(unit)),
            Action::Removed { name, .. } => format!("removed {name}"),
            Action::ShutdownDone => "shutdown done".to_owned(),
        };
        self.orders.push(order);
    }

    pub fn id(&self, name: &str) -> UnitId {
        self.machine.find(name).unwrap_or_else(|| panic!("{name} is not there"))
    }

    fn name(&self, id: UnitId) -> String {
        self.machine.unit(id).map(|unit| unit.name.clone()).unwrap_or_default()
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    // What is asked.

    pub fn wish(&mut self, wish: Wish) -> JobId {
        self.next_job += 1;
        let job = JobId(self.next_job);
        self.handle(Input::Request(Request { job: Some(job), wish }));
        job
    }

    pub fn start(&mut self, name: &str) -> JobId {
        self.wish(Wish::Start(self.id(name)))
    }

    pub fn stop(&mut self, name: &str) -> JobId {
        self.wish(Wish::Stop(self.id(name)))
    }

    pub fn restart(&mut self, name: &str) -> JobId {
        self.wish(Wish::Restart(self.id(name)))
    }

    pub fn reload(&mut self, name: &str) -> JobId {
        self.wish(Wish::Reload(self.id(name)))
    }

    pub fn reset(&mut self, name: &str) -> JobId {
        self.wish(Wish::Reset(self.id(name)))
    }

    pub fn freeze(&mut self, name: &str, on: bool) -> JobId {
        self.wish(Wish::Freeze(self.id(name), on))
    }

    pub fn shutdown(&mut self) -> JobId {
        self.wish(Wish::Shutdown)
    }

    pub fn apply<const N: usize>(&mut self, units: [Draft; N]) {
        let mut units: Vec<Unit> = units.into_iter().map(|draft| draft.0).collect();
        units.sort_by(|a, b| a.name.cmp(&b.name));
        let units = units.into_iter().map(Arc::new).collect();
        let set = UnitSet { units, ..UnitSet::default() };
        self.wish(Wish::Apply(Arc::new(set)));
    }

    // What happens.

    pub fn fact(&mut self, name: &str, fact: Fact) {
        let unit = self.id(name);
        let run = self.machine.latest_run(unit).unwrap_or_else(|| panic!("{name} never ran"));
        self.event(unit, run, fact);
    }

    pub fn event(&mut self, unit: UnitId, run: Run, fact: Fact) {
        self.handle(Input::Event(Event { unit, run, fact }));
    }

    pub fn prepared(&mut self, name: &str) {
        self.fact(name, Fact::Prepared);
    }

    pub fn executed(&mut self, name: &str) {
        self.fact(name, Fact::MainExecuted);
    }

    pub fn ready(&mut self, name: &str) {
        self.fact(name, Fact::Ready);
    }

    pub fn says(&mut self, name: &str, word: Notify) {
        self.fact(name, Fact::Notify(word));
    }

    pub fn exits(&mut self, name: &str, exit: Exit) {
        self.fact(name, Fact::MainExited { exit, left_behind: false });
    }

    pub fn cleaned(&mut self, name: &str) {
        self.fact(name, Fact::Cleaned);
    }

    pub fn hook_ends(&mut self, name: &str, hook: Hook, result: Result<Exit, String>) {
        self.fact(name, Fact::HookEnded { hook, result });
    }

    /// From the order to prepare until the command runs.
    pub fn comes_up(&mut self, name: &str) {
        self.prepared(name);
        self.executed(name);
    }

    /// The command ends, and nothing is left.
    pub fn dies(&mut self, name: &str, code: i32) {
        self.exits(name, Exit::Code(code));
        self.cleaned(name);
    }

    /// Time passes; every deadline is met.
    pub fn wait(&mut self, time: Duration) {
        let end = Time(self.now.0 + time);
        while let Some(deadline) = self.machine.deadline().filter(|&time| time <= end) {
            self.now = deadline;
            self.handle(Input::Tick);
        }
        self.now = end;
    }

    // What must be so.

    /// Exactly these orders since the last look, in this order.
    #[track_caller]
    pub fn orders(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.orders), expected);
    }

    /// Does not look at the orders so far.
    pub fn skip(&mut self) {
        self.orders.clear();
    }

    pub fn view(&self, name: &str) -> UnitView {
        self.machine.view(self.id(name)).unwrap()
    }

    pub fn state(&self, name: &str) -> StateName {
        self.view(name).state
    }

    pub fn why(&self, name: &str) -> String {
        self.view(name).why
    }

    #[track_caller]
    pub fn states(&self, expected: &[(&str, StateName)]) {
        for (name, state) in expected {
            assert_eq!(self.state(name), *state, "{name}: {}", self.why(name));
        }
    }

    pub fn waits(&self, job: JobId) -> bool {
        !self.results.contains_key(&job)
    }

    #[track_caller]
    pub fn succeeded(&self, job: JobId) {
        assert_eq!(self.results.get(&job), Some(&Ok(())));
    }

    #[track_caller]
    pub fn refused(&self, job: JobId, why: &str) {
        assert_eq!(self.results.get(&job), Some(&Err(why.to_owned())));
    }
}
