//! The simulation: a random set of units, a world that goes wrong in every way we could
//! think of, people who ask for everything at the worst moment, and a judge.
//!
//! A run of one seed has four acts. *Trouble*: faults and requests. *Calm*: no more of
//! either; everything that is wanted must come up or have a good reason. *Proof*: one
//! start is asked for, and must end. *Shutdown*: must end within its bound, and nothing
//! may be left.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must stop, and says where"
)]

pub mod judge;
pub mod rng;
mod trace;
pub mod units;
pub mod world;

use std::fmt::Write as _;
use std::time::Duration;

use crate::supervisor::request::Wish;
use crate::supervisor::view::StateName;
use crate::supervisor::{Action, Input, JobId, Machine, Request, Time, UnitId};
use crate::unit::model::{Kind, UnitSet};
use judge::{Judge, Verdict};
use rng::Rng;
use trace::{describe, describe_action, describe_unit};
use world::World;

/// What one seed has done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub runs: u64,
    pub requests: u64,
    /// Virtual time.
    pub time: Duration,
}

/// How a seed has ended.
pub struct Outcome {
    pub verdict: Verdict,
    pub tally: Tally,
    #[allow(dead_code, reason = "the tests of sabotage do not show it")]
    pub trace: String,
}

/// Runs one seed against a machine.
pub fn run(seed: u64, machine: Machine, traced: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let set = units::random_set(&mut rng);
    let world = World::new(Rng::new(rng.next()));
    let mut sim = Sim {
        machine,
        world,
        judge: Judge::default(),
        rng,
        set,
        next_job: 1,
        tally: Tally::default(),
        trace: traced.then(String::new),
        shown: Vec::new(),
    };
    let verdict = sim.play();
    if verdict.is_err() {
        sim.note_units();
    }
    sim.tally.time = sim.world.now.0;
    Outcome { verdict, tally: sim.tally, trace: sim.trace.unwrap_or_default() }
}

struct Sim {
    machine: Machine,
    world: World,
    judge: Judge,
    rng: Rng,
    set: UnitSet,
    next_job: u64,
    tally: Tally,
    trace: Option<String>,
    /// The states last shown in the trace.
    shown: Vec<(String, StateName)>,
}

/// Most steps of one act; more means that the machine spins.
const MOST_STEPS: u64 = 200_000;
/// Virtual time in which calm must have come.
const CALM_BOUND: Duration = Duration::from_secs(24 * 3_600);

impl Sim {
    fn play(&mut self) -> Verdict {
        self.apply(self.set.clone())?;
        let target = self.set.units.last().map(|unit| unit.name.clone()).unwrap_or_default();
        self.ask_for(&target, Wish::Start)?;
        self.trouble()?;
        if !self.judge.closing {
            // Until what was doomed before has had its end.
            self.calm(Duration::from_secs(130))?;
            self.proof()?;
        }
        self.shutdown()
    }

    fn trouble(&mut self) -> Verdict {
        let steps = 20 + self.rng.below(400);
        let shutdowns = self.rng.percent(15);
        for _ in 0..steps {
            if self.rng.percent(8) {
                self.request(shutdowns)?;
            }
            if self.rng.percent(2)
                && let Some(event) = self.world.stale()
            {
                self.handle(Input::Event(event))?;
            }
            if self.rng.percent(1) {
                let jump = Duration::from_secs(self.rng.below(7_200));
                self.world.now = Time(self.world.now.0 + jump);
                self.judge.jumped += jump;
                self.note(|| format!("the clock jumps by {jump:?}"));
            }
            if !self.step()? {
                let pause = self.rng.millis(60_000);
                self.world.now = Time(self.world.now.0 + pause);
                self.judge.jumped += pause;
            }
        }
        Ok(())
    }

    /// No faults, no requests: rest must come, after this much time at the earliest.
    fn calm(&mut self, least: Duration) -> Verdict {
        self.note(|| "calm: no more faults".to_owned());
        self.world.faults = false;
        let begin = self.world.now.0;
        for step in 0..MOST_STEPS {
            let passed = self.world.now.0.saturating_sub(begin);
            if step.is_multiple_of(8) && passed >= least && self.at_rest().is_ok() {
                return self.check_rest();
            }
            if passed > CALM_BOUND || !self.step()? {
                break;
            }
        }
        self.at_rest().map_err(|why| format!("no rest after faults have ended: {why}"))
    }

    /// What else must hold at rest.
    fn check_rest(&mut self) -> Verdict {
        self.machine.audit()?;
        self.judge.nothing_hangs_in_the_air()?;
        for name in self.judge.intended() {
            let view = self.machine.find(name).and_then(|id| self.machine.view(id));
            if view.is_some_and(|view| !view.wanted) {
                return Err(format!("{name} was asked for, and is no longer wanted"));
            }
        }
        Ok(())
    }

    /// Whether every goal is reached, or cannot be for a reason that is documented.
    fn at_rest(&self) -> Verdict {
        for id in self.machine.ids() {
            let (Some(view), Some(unit)) = (self.machine.view(id), self.machine.unit(id)) else {
                return Err("an id without a unit".to_owned());
            };
            let name = &unit.name;
            if !view.wanted {
                if !matches!(view.state, StateName::Inactive | StateName::Failed) {
                    return Err(format!("{name} is not wanted, but {:?}", view.state));
                }
                if self.judge.has_run(id) {
                    return Err(format!("{name} is {:?}, but has a run", view.state));
                }
                continue;
            }
            if view.ready || view.state == StateName::Failed {
                continue;
            }
            let ready = |name: &String| {
                let other = self.machine.find(name).and_then(|id| self.machine.view(id));
                other.is_some_and(|view| view.ready)
            };
            let waits = view.state == StateName::Waiting;
            if !waits || unit.requires.iter().all(ready) {
                return Err(format!("{name} is wanted, but {:?}: {}", view.state, view.why));
            }
        }
        match self.judge.waiting_jobs().first() {
            Some(job) => Err(format!("everything is at rest, but job {} still waits", job.0)),
            None => Ok(()),
        }
    }

    /// A start in calm weather ends, and with success unless there is a conflict.
    fn proof(&mut self) -> Verdict {
        let names: Vec<String> = self.set.units.iter().map(|unit| unit.name.clone()).collect();
        let name = self.rng.pick(&names).clone();
        let wish = if self.rng.percent(50) { Wish::Start } else { Wish::Restart };
        self.note(|| format!("proof: {name} must come up"));
        self.ask_for(&name, wish)?;
        self.calm(Duration::ZERO)?;
        let known = |name: &String| names.contains(name);
        let simple = self
            .set
            .units
            .iter()
            .all(|unit| unit.conflicts.is_empty() && unit.requires.iter().all(known));
        let view = self.machine.find(&name).and_then(|id| self.machine.view(id));
        match view {
            Some(view) if simple && !view.ready => {
                Err(format!("{name} was asked for in calm weather and is {:?}", view.state))
            }
            _ => Ok(()),
        }
    }

    fn shutdown(&mut self) -> Verdict {
        if !self.judge.closing {
            self.ask(Wish::Shutdown)?;
        }
        for _ in 0..MOST_STEPS {
            if self.judge.closed || !self.step()? {
                break;
            }
        }
        if !self.judge.closed {
            return Err("shutdown does not end".to_owned());
        }
        // Those that were stuck may still go, and nothing else happens.
        while self.judge.live() > 0 && self.step()? {}
        if self.judge.live() > 0 {
            return Err("a run is left after shutdown".to_owned());
        }
        match self.judge.waiting_jobs().first() {
            Some(job) => Err(format!("shutdown is complete, but job {} still waits", job.0)),
            None => self.machine.audit(),
        }
    }

    /// The next thing that happens, in the world or because a deadline has come. False if
    /// nothing ever will.
    fn step(&mut self) -> Result<bool, String> {
        let deadline = self.machine.deadline();
        let next = self.world.next();
        let ticks = match (deadline, next) {
            (None, None) => return Ok(false),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(deadline), Some(next)) if deadline == next => self.rng.percent(50),
            (Some(deadline), Some(next)) => deadline < next,
        };
        if ticks {
            self.world.now = self.world.now.max(deadline.unwrap_or_default());
            self.handle(Input::Tick)?;
            let now = self.world.now;
            if self.machine.deadline().is_some_and(|deadline| deadline <= now) {
                return Err(format!("the deadline does not move: it is {now:?} or earlier"));
            }
        } else if let Some(event) = self.world.happen() {
            self.handle(Input::Event(event))?;
        }
        self.judge.overdue(self.world.now)?;
        Ok(true)
    }

    /// A random wish.
    fn request(&mut self, shutdowns: bool) -> Verdict {
        let names: Vec<String> = self.set.units.iter().map(|unit| unit.name.clone()).collect();
        let name = self.rng.pick(&names).clone();
        match self.rng.below(24) {
            0..=5 => self.ask_for(&name, Wish::Start),
            6..=9 => self.ask_for(&name, Wish::Stop),
            10..=12 => self.ask_for(&name, Wish::Restart),
            13 | 14 => self.ask_for(&name, Wish::Reload),
            15 => self.ask_for(&name, Wish::Reset),
            16 | 17 => {
                let on = self.rng.percent(50);
                self.ask_for(&name, |id| Wish::Freeze(id, on))
            }
            18 => {
                let jobs = self.judge.waiting_jobs();
                match jobs.get(self.rng.index(jobs.len())).copied() {
                    Some(job) => {
                        self.judge.forget(job);
                        self.ask(Wish::Forget(job))
                    }
                    None => Ok(()),
                }
            }
            19..=22 => {
                let set = units::mutated(&mut self.rng, &self.set);
                self.apply(set)
            }
            _ if shutdowns => self.ask(Wish::Shutdown),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, set: UnitSet) -> Verdict {
        if self.judge.closing {
            return self.ask(Wish::Apply(std::sync::Arc::new(set)));
        }
        let plan = self.machine.plan_apply(&set);
        self.note(|| format!("plan: {plan:?}"));
        for unit in &set.units {
            self.note(|| describe_unit(unit));
        }
        self.set = set.clone();
        // The judge knows the links before the machine acts on them.
        self.judge.applied(&set, |name| self.machine.find(name));
        self.ask(Wish::Apply(std::sync::Arc::new(set)))
    }

    fn ask_for(&mut self, name: &str, wish: impl Fn(UnitId) -> Wish) -> Verdict {
        let Some(id) = self.machine.find(name) else { return Ok(()) };
        let wish = wish(id);
        if !self.judge.closing {
            match &wish {
                Wish::Start(_) | Wish::Restart(_) => self.judge.wanted(name),
                Wish::Stop(_) => self.judge.unwanted(name),
                Wish::Reset(_) => self.judge.reset(name),
                _ => {}
            }
        }
        self.ask(wish)
    }

    fn ask(&mut self, wish: Wish) -> Verdict {
        self.tally.requests += 1;
        let job = self.rng.percent(85).then(|| {
            self.next_job += 1;
            JobId(self.next_job)
        });
        if let Some(job) = job {
            let bound = matches!(wish, Wish::Stop(_) | Wish::Shutdown).then(|| self.bound());
            self.judge.job(job, bound);
        }
        if matches!(wish, Wish::Shutdown) {
            self.judge.closing = true;
        }
        self.handle(Input::Request(Request { job, wish }))
    }

    /// When a stop that is asked for now must have ended, however its units behave. Jumps
    /// of the clock are left out: nobody could do anything in them.
    fn bound(&self) -> Time {
        let mut bound = self.world.now.0.saturating_sub(self.judge.jumped) + self.world.extended;
        for id in self.machine.ids() {
            let Some(unit) = self.machine.unit(id) else { continue };
            if let Kind::Service(service) = &unit.kind {
                let step = service.stop_timeout.unwrap_or(Duration::from_secs(90));
                let steps = u32::try_from(4 + service.stop_post.len()).unwrap_or(u32::MAX);
                bound += step * steps + world::SLOWEST_CLEAN + world::SLOWEST;
            }
        }
        Time(bound)
    }

    fn handle(&mut self, input: Input) -> Verdict {
        self.tally.steps += 1;
        if self.tally.steps > MOST_STEPS {
            return Err("too many steps".to_owned());
        }
        if let Input::Event(event) = &input {
            self.judge.fact(event);
        }
        let now = self.world.now;
        let text = self.trace.is_some().then(|| describe(&self.machine, &input));
        let mut out = Vec::new();
        let applied = matches!(&input, Input::Request(Request { wish: Wish::Apply(_), .. }));
        self.machine.handle(now, input, &mut out);
        if applied && !self.judge.closing {
            // Now the new ones have ids.
            let set = self.set.clone();
            self.judge.applied(&set, |name| self.machine.find(name));
        }
        if let Some(text) = text {
            self.show(&text, &out);
        }
        for action in out {
            let definition = self.definition(&action).cloned();
            self.judge.action(now, &action, definition.as_ref())?;
            self.carry_out(&action);
        }
        if self.tally.steps.is_multiple_of(8) || self.trace.is_some() {
            self.machine.audit()?;
        }
        Ok(())
    }

    fn definition(&self, action: &Action) -> Option<&std::sync::Arc<crate::unit::model::Unit>> {
        match action {
            Action::Prepare { unit, .. } => self.machine.unit(*unit),
            _ => None,
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match *action {
            Action::Prepare { unit, run } => {
                self.tally.runs += 1;
                if let Some(definition) = self.machine.unit(unit) {
                    self.world.prepare(unit, run, definition);
                }
            }
            Action::RunMain { unit, run } => self.world.run_main(unit, run),
            Action::RunHook { unit, run, hook } => self.world.run_hook(unit, run, hook),
            Action::KillHook { unit, run, hook } => self.world.kill_hook(unit, run, hook),
            Action::Signal { unit, run, signal } => self.world.signal(unit, run, signal),
            Action::Clean { unit, run } => self.world.clean(unit, run),
            Action::Freeze { run, on, .. } => self.world.freeze(run, on),
            Action::StopWatching { .. }
            | Action::Announce(_)
            | Action::JobDone { .. }
            | Action::Removed { .. }
            | Action::ShutdownDone => {}
        }
    }

    /// Where everybody is, for the end of a trace.
    fn note_units(&mut self) {
        let ids: Vec<UnitId> = self.machine.ids().collect();
        for id in ids {
            let view = self.machine.view(id);
            let name = self.machine.unit(id).map(|unit| unit.name.clone());
            self.note(|| format!("  {}: {view:?}", name.unwrap_or_default()));
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let now = self.world.now;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>12.3}  ---- {}", now.0.as_secs_f64(), text());
        }
    }

    /// One step for people: when, what came in, what came out, who changed.
    fn show(&mut self, input: &str, out: &[Action]) {
        let name = |id: &UnitId| {
            self.machine.unit(*id).map_or_else(|| format!("#{}", id.0), |unit| unit.name.clone())
        };
        let actions: Vec<String> = out.iter().filter_map(|it| describe_action(it, &name)).collect();
        let states: Vec<(String, StateName)> = self
            .machine
            .ids()
            .filter_map(|id| Some((name(&id), self.machine.view(id)?.state)))
            .collect();
        let changed: Vec<String> = states
            .iter()
            .filter(|state| !self.shown.contains(state))
            .map(|(name, state)| format!("{name}={state:?}"))
            .collect();
        let now = self.world.now.0.as_secs_f64();
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(
                trace,
                "{now:>12.3}  {input:<44} -> [{}] {}",
                actions.join(", "),
                changed.join(" ")
            );
        }
        self.shown = states;
    }
}
