//! Judges the machine: it sees every input and every action, keeps its own simple idea
//! of what is true, and says so when the machine breaks a rule. It never asks the
//! machine what it thinks, but for the state it shows at the very end.

mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::supervisor::action::Notice;
use crate::supervisor::event::Fact;
use crate::supervisor::{Action, Event, Exit, Hook, JobId, Run, Time, UnitId};
use crate::unit::model::{ExitMatch, Kind, Ready, RestartPolicy, Service, Unit, UnitSet};

/// A broken rule.
pub type Verdict = Result<(), String>;

/// What is known of one run from the facts that were delivered and the orders given.
struct Watched {
    unit: UnitId,
    definition: Arc<Unit>,
    /// What it required when it began.
    needs: Vec<String>,
    prepared: bool,
    pre_done: usize,
    ordered: bool,
    executed: bool,
    said_ready: bool,
    post_done: usize,
    exit: Option<Exit>,
    ending: bool,
    cleaning: bool,
    /// Somebody asked for it to be down.
    told: bool,
    /// Something of it survives SIGKILL; a shutdown does not wait for that.
    stuck: bool,
    hooks: HashSet<Hook>,
}

impl Watched {
    fn service(&self) -> Option<&Service> {
        self.definition.service()
    }

    fn is_ready(&self) -> bool {
        let Some(service) = self.service() else { return false };
        let said = matches!(service.ready, Ready::Exec) || self.said_ready;
        !self.ending
            && self.exit.is_none()
            && self.executed
            && said
            && self.post_done >= service.start_post.len()
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Judge {
    live: HashMap<Run, Watched>,
    of_unit: HashMap<UnitId, Run>,
    used: HashSet<Run>,
    /// Oneshots whose last run succeeded and is cleaned up.
    done: HashSet<UnitId>,
    /// Targets that are up.
    reached: HashSet<UnitId>,
    /// Definitions last applied, and the ids of their names.
    pub units: BTreeMap<String, Arc<Unit>>,
    pub ids: HashMap<String, UnitId>,
    names: HashMap<UnitId, String>,
    jobs: HashMap<JobId, Option<Time>>,
    /// Time in which nobody could act.
    pub jumped: Duration,
    pub closing: bool,
    pub closed: bool,
    /// Names that were last asked to be up, and by nothing since to be down.
    intended: BTreeSet<String>,
}

impl Judge {
    /// New definitions are in force; `find` knows their ids.
    pub fn applied(&mut self, set: &UnitSet, find: impl Fn(&str) -> Option<UnitId>) {
        self.units.clear();
        for unit in &set.units {
            self.units.insert(unit.name.clone(), Arc::clone(unit));
            if let Some(id) = find(&unit.name) {
                self.ids.insert(unit.name.clone(), id);
                self.names.insert(id, unit.name.clone());
            }
        }
        self.intended.clear();
        // A link that was taken away does not bind again when it comes back.
        for run in self.live.values_mut() {
            if let Some(newest) = self.units.get(&run.definition.name) {
                run.needs.retain(|name| newest.requires.contains(name));
            }
        }
    }

    pub fn job(&mut self, job: JobId, bound: Option<Time>) {
        self.jobs.insert(job, bound);
    }

    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    pub fn waiting_jobs(&self) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        jobs.sort();
        jobs
    }

    /// Everything that has a run.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    pub fn has_run(&self, unit: UnitId) -> bool {
        self.of_unit.contains_key(&unit)
    }

    pub fn intended(&self) -> impl Iterator<Item = &String> {
        self.intended.iter()
    }

    fn requirers(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([name.to_owned()]);
        loop {
            let more: Vec<String> = self
                .units
                .values()
                .filter(|unit| unit.requires.iter().any(|other| found.contains(other)))
                .map(|unit| unit.name.clone())
                .filter(|name| !found.contains(name))
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Somebody asked for a start or a restart.
    pub fn wanted(&mut self, name: &str) {
        self.intended.insert(name.to_owned());
        // What it pulls in may push out what conflicts with it; that is not modelled.
        if self.units.values().any(|unit| !unit.conflicts.is_empty()) {
            self.intended.clear();
        }
    }

    /// Somebody asked for a stop.
    pub fn unwanted(&mut self, name: &str) {
        for name in self.requirers(name) {
            self.intended.remove(&name);
            for run in self.live.values_mut().filter(|run| run.definition.name == name) {
                run.told = true;
            }
        }
    }

    /// A reset may take a failed unit's goal away.
    pub fn reset(&mut self, name: &str) {
        self.intended.remove(name);
    }

    /// A fact is about to be delivered.
    pub fn fact(&mut self, event: &Event) {
        let Some(run) = self.live.get_mut(&event.run) else { return };
        if run.unit != event.unit {
            return;
        }
        match &event.fact {
            Fact::Prepared => run.prepared = true,
            Fact::SetupFailed(_) => run.ending = true,
            Fact::MainExecuted => run.executed = true,
            Fact::MainExited { exit, .. } => {
                let first = run.exit.is_none();
                run.exit = Some(*exit);
                let name = run.definition.name.clone();
                // The policy may have been changed in place.
                let newest = self.units.get(&name).and_then(|unit| unit.service());
                let gives_up = gives_up(run.service(), *exit) || gives_up(newest, *exit);
                if first && !run.ending && gives_up {
                    self.intended.remove(&name);
                }
            }
            Fact::Ready => run.said_ready |= run.executed,
            Fact::HookEnded { hook, result } => {
                run.hooks.remove(hook);
                let succeeded = *result == Ok(Exit::Code(0));
                match hook {
                    Hook::StartPre(_) if succeeded => run.pre_done += 1,
                    Hook::StartPost(_) if succeeded => run.post_done += 1,
                    Hook::Health => {
                        let by_health = run.service().is_some_and(|it| it.ready == Ready::Health);
                        run.said_ready |= succeeded && by_health;
                    }
                    _ => {}
                }
            }
            Fact::Cleaned => {
                if let Some(run) = self.live.remove(&event.run) {
                    self.of_unit.remove(&event.unit);
                    let service = run.service();
                    let success = run.exit.is_some_and(|exit| is_success(service, exit));
                    if success && service.is_some_and(|service| service.oneshot) {
                        self.done.insert(event.unit);
                    }
                }
            }
            Fact::CleanStuck(_) => run.stuck |= run.cleaning,
            Fact::Notify(_) | Fact::OutOfMemory => {}
        }
    }

    /// Whether a unit could be ready, going by facts alone.
    fn may_be_ready(&self, name: &str) -> bool {
        let (Some(unit), Some(id)) = (self.units.get(name), self.ids.get(name)) else {
            return false;
        };
        match &unit.kind {
            Kind::Target => self.reached.contains(id),
            Kind::Service(_) => {
                let run = self.of_unit.get(id).and_then(|run| self.live.get(run));
                // A run may still be one of an older definition.
                self.done.contains(id) || run.is_some_and(Watched::is_ready)
            }
        }
    }

    /// An action of the machine, in answer to an input at `now`.
    pub fn action(&mut self, now: Time, action: &Action, unit: Option<&Arc<Unit>>) -> Verdict {
        match action {
            Action::Prepare { unit: id, run } => self.prepare(*id, *run, unit),
            Action::RunMain { run, .. } => self.run_main(*run),
            Action::RunHook { run, hook, .. } => self.run_hook(*run, *hook),
            Action::Signal { run, signal, .. } => {
                let watched = self.running(*run)?;
                let reload = watched.service().and_then(|service| service.reload_signal);
                if reload == Some(*signal) {
                    return Ok(());
                }
                self.ends(*run)
            }
            Action::Clean { run, .. } => {
                let watched = self.running(*run)?;
                watched.ending = true;
                watched.cleaning = true;
                Ok(())
            }
            Action::KillHook { run, .. }
            | Action::StopWatching { run, .. }
            | Action::Freeze { run, .. } => self.running(*run).map(drop),
            Action::JobDone { job, .. } => match self.jobs.remove(job) {
                None => Err(format!("job {} has ended twice, or never was", job.0)),
                Some(Some(bound)) if now.0.saturating_sub(self.jumped) > bound.0 => {
                    Err(format!("job {} has ended after its bound {bound:?}", job.0))
                }
                Some(_) => Ok(()),
            },
            Action::Removed { unit, name } => {
                if self.of_unit.contains_key(unit) {
                    return Err(format!("{name} was forgotten while it has a run"));
                }
                self.done.remove(unit);
                self.reached.remove(unit);
                self.names.remove(unit);
                if self.ids.get(name) == Some(unit) {
                    self.ids.remove(name);
                }
                Ok(())
            }
            Action::ShutdownDone if self.closed => Err("shutdown was complete twice".to_owned()),
            Action::ShutdownDone if !self.closing => Err("nobody asked for a shutdown".to_owned()),
            Action::ShutdownDone if self.live.values().any(|run| !run.stuck) => {
                Err("shutdown was complete while something was still there".to_owned())
            }
            Action::ShutdownDone => {
                self.closed = true;
                Ok(())
            }
            Action::Announce(notice) => self.announced(notice),
        }
    }

    /// A run that may still be ordered about.
    fn running(&mut self, run: Run) -> Result<&mut Watched, String> {
        match self.live.get_mut(&run) {
            None => Err(format!("an order for run {}, which is not there", run.0)),
            Some(watched) if watched.cleaning => {
                Err(format!("an order for run {} after its Clean", run.0))
            }
            Some(watched) => Ok(watched),
        }
    }

    fn prepare(&mut self, id: UnitId, run: Run, unit: Option<&Arc<Unit>>) -> Verdict {
        let Some(definition) = unit.cloned() else { return Err("who is prepared?".to_owned()) };
        let name = definition.name.clone();
        if self.closing {
            return Err(format!("{name} starts after shutdown began"));
        }
        if !self.used.insert(run) {
            return Err(format!("run {} is used twice", run.0));
        }
        if self.of_unit.contains_key(&id) {
            return Err(format!("{name} has two live runs"));
        }
        // Links are those of the newest definitions.
        let newest = self.units.get(&name).cloned().unwrap_or_else(|| definition.clone());
        for other in &newest.requires {
            if !self.may_be_ready(other) {
                return Err(format!("{name} starts, but {other}, which it requires, is not ready"));
            }
        }
        self.check_order(&name, &newest)?;
        self.check_conflicts(&name, &newest)?;
        self.done.remove(&id);
        self.of_unit.insert(id, run);
        let watched = Watched {
            unit: id,
            definition,
            needs: newest.requires.clone(),
            prepared: false,
            pre_done: 0,
            ordered: false,
            executed: false,
            said_ready: false,
            post_done: 0,
            exit: None,
            ending: false,
            cleaning: false,
            told: false,
            stuck: false,
            hooks: HashSet::new(),
        };
        self.live.insert(run, watched);
        Ok(())
    }

    fn run_main(&mut self, run: Run) -> Verdict {
        let closing = self.closing;
        let watched = self.running(run)?;
        let hooks = watched.service().map_or(0, |service| service.start_pre.len());
        if closing {
            return Err("a command is started after shutdown began".to_owned());
        }
        if watched.ordered {
            return Err("a command is started twice in one run".to_owned());
        }
        if !watched.prepared || watched.pre_done < hooks {
            return Err("a command is started before its preparation is done".to_owned());
        }
        watched.ordered = true;
        Ok(())
    }

    fn run_hook(&mut self, run: Run, hook: Hook) -> Verdict {
        let closing = self.closing;
        let watched = self.running(run)?;
        if !watched.hooks.insert(hook) {
            return Err(format!("{hook:?} runs twice at the same time"));
        }
        let starts = matches!(hook, Hook::StartPre(_) | Hook::StartPost(_));
        if starts && closing {
            return Err(format!("{hook:?} begins after shutdown began"));
        }
        match hook {
            Hook::Stop => self.ends(run),
            Hook::StopPost(_) => {
                watched.ending = true;
                Ok(())
            }
            Hook::StartPre(_) | Hook::StartPost(_) | Hook::Reload | Hook::Health => Ok(()),
        }
    }

    /// Jobs that should have ended by now.
    pub fn overdue(&self, now: Time) -> Verdict {
        let felt = Time(now.0.saturating_sub(self.jumped));
        let late = self.jobs.iter().find(|(_, bound)| bound.is_some_and(|bound| felt > bound));
        match late {
            Some((job, bound)) => Err(format!("job {} has not ended by {bound:?}", job.0)),
            None => Ok(()),
        }
    }
}

fn is_success(service: Option<&Service>, exit: Exit) -> bool {
    let listed = |wanted| service.is_some_and(|it| it.success_exit_status.contains(&wanted));
    match exit {
        Exit::Code(0) => true,
        Exit::Code(code) => u8::try_from(code).is_ok_and(|code| listed(ExitMatch::Code(code))),
        Exit::Signal(signal) => listed(ExitMatch::Signal(signal)),
        Exit::Unknown => false,
    }
}

/// Whether such an end leaves a service down for good.
fn gives_up(service: Option<&Service>, exit: Exit) -> bool {
    let stays = |policy| matches!(policy, RestartPolicy::No | RestartPolicy::OnFailure);
    service.is_some_and(|it| !it.oneshot && stays(it.restart.policy)) && is_success(service, exit)
}
