//! A world for the machine: it carries out its actions, badly. What it does to a run is
//! drawn from the seed; whether what the machine orders is right is judged by [`Judge`]
//! (`judge.rs`), which sees every action and every fact that is delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use crate::supervisor::event::{Fact, Notify};
use crate::supervisor::{Event, Exit, Hook, Run, Time, UnitId};
use crate::unit::model::{Ready, Service, Unit};

const SIGKILL: i32 = 9;
/// The longest that `Cleaned` is late.
pub const SLOWEST_CLEAN: Duration = Duration::from_secs(120);
/// The longest that anything takes that does take an end.
pub const SLOWEST: Duration = Duration::from_secs(20);

/// One run as it really is.
pub struct Life {
    service: Service,
    /// The command: not there, there, gone.
    main: Main,
    /// Hooks that run; the number tells two starts of one hook apart.
    hooks: BTreeMap<Hook, u64>,
    frozen: bool,
    cleaning: bool,
    ignores_signals: bool,
    silent: bool,
}

#[derive(PartialEq)]
enum Main {
    None,
    Launching,
    Alive,
    Gone,
}

/// Something that will happen.
enum Coming {
    /// To be reported as it is, whether or not it is still true.
    Fact(Fact),
    Executed,
    Exit {
        exit: Exit,
        left_behind: bool,
    },
    HookEnd {
        hook: Hook,
        start: u64,
        result: Result<Exit, String>,
    },
    Ping,
    Cleaned,
}

/// The world.
pub struct World {
    pub now: Time,
    pub rng: Rng,
    /// Whether things go wrong.
    pub faults: bool,
    pub lives: HashMap<Run, Life>,
    queue: BTreeMap<(Time, u64), (UnitId, Run, Coming)>,
    sequence: u64,
    /// Runs that are over, for late facts.
    past: Vec<(UnitId, Run)>,
    /// All extensions that were asked for.
    pub extended: Duration,
}

impl World {
    pub fn new(rng: Rng) -> Self {
        Self {
            now: Time::default(),
            rng,
            faults: true,
            lives: HashMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            past: Vec::new(),
            extended: Duration::ZERO,
        }
    }

    fn fault(&mut self, percent: u64) -> bool {
        self.faults && self.rng.percent(percent)
    }

    fn soon(&mut self, unit: UnitId, run: Run, within: u64, what: Coming) {
        // In calm weather nothing is so slow that a timeout could strike.
        let after = self.rng.millis(if self.faults { within } else { within.min(20) });
        self.after(unit, run, after, what);
    }

    fn after(&mut self, unit: UnitId, run: Run, after: Duration, what: Coming) {
        self.sequence += 1;
        self.queue.insert((Time(self.now.0 + after), self.sequence), (unit, run, what));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((time, _), _)| *time)
    }

    /// Lets the next thing happen; a fact to report, if it is one.
    pub fn happen(&mut self) -> Option<Event> {
        let ((time, _), (unit, run, what)) = self.queue.pop_first()?;
        self.now = self.now.max(time);
        let fact = self.fact(unit, run, what)?;
        Some(Event { unit, run, fact })
    }

    fn fact(&mut self, unit: UnitId, run: Run, what: Coming) -> Option<Fact> {
        let Some(life) = self.lives.get_mut(&run) else {
            // Too late. Some get through all the same, to be dropped by the machine.
            return match what {
                Coming::Fact(fact) => Some(fact),
                Coming::Exit { exit, left_behind } => Some(Fact::MainExited { exit, left_behind }),
                Coming::HookEnd { hook, result, .. } => Some(Fact::HookEnded { hook, result }),
                Coming::Executed | Coming::Ping | Coming::Cleaned => None,
            };
        };
        match what {
            Coming::Fact(_) if life.frozen => None,
            Coming::Fact(fact) => Some(fact),
            Coming::Executed => {
                if life.main != Main::Launching {
                    return None;
                }
                life.main = Main::Alive;
                self.live(unit, run);
                Some(Fact::MainExecuted)
            }
            Coming::Exit { exit, left_behind } => {
                let killed = exit == Exit::Signal(SIGKILL);
                if life.main != Main::Alive || (life.frozen && !killed) {
                    return None;
                }
                life.main = Main::Gone;
                Some(Fact::MainExited { exit, left_behind })
            }
            Coming::HookEnd { hook, start, result } => {
                if life.hooks.get(&hook) != Some(&start) {
                    return None;
                }
                life.hooks.remove(&hook);
                Some(Fact::HookEnded { hook, result })
            }
            Coming::Ping => {
                if life.main != Main::Alive || life.silent {
                    return None;
                }
                let pause = life.service.watchdog? / 2;
                let frozen = life.frozen;
                self.after(unit, run, pause, Coming::Ping);
                (!frozen).then_some(Fact::Notify(Notify::Watchdog))
            }
            Coming::Cleaned => {
                self.lives.remove(&run);
                self.past.push((unit, run));
                Some(Fact::Cleaned)
            }
        }
    }

    pub fn prepare(&mut self, unit: UnitId, run: Run, definition: &Arc<Unit>) {
        let Some(service) = definition.service() else { return };
        let life = Life {
            service: service.clone(),
            main: Main::None,
            hooks: BTreeMap::new(),
            frozen: false,
            cleaning: false,
            ignores_signals: service.stop_timeout.is_some() && self.fault(15),
            silent: self.fault(20),
        };
        let bounded = service.start_timeout.is_some();
        self.lives.insert(run, life);
        if self.fault(8) {
            let text = "cannot mount /proc: EPERM (sim.toml:7)".to_owned();
            self.soon(unit, run, 500, Coming::Fact(Fact::SetupFailed(text)));
        } else if !(bounded && self.fault(3)) {
            self.soon(unit, run, 500, Coming::Fact(Fact::Prepared));
        }
    }

    pub fn run_main(&mut self, unit: UnitId, run: Run) {
        let bounded = self.lives.get(&run).is_some_and(|it| it.service.start_timeout.is_some());
        if self.fault(8) {
            let text = "cannot execute /bin/x: ENOENT (sim.toml:3)".to_owned();
            self.soon(unit, run, 500, Coming::Fact(Fact::SetupFailed(text)));
            return;
        }
        if let Some(life) = self.lives.get_mut(&run) {
            life.main = Main::Launching;
        }
        if !(bounded && self.fault(3)) {
            self.soon(unit, run, 500, Coming::Executed);
        }
    }

    /// The command begins its life.
    fn live(&mut self, unit: UnitId, run: Run) {
        let Some(life) = self.lives.get(&run) else { return };
        let service = life.service.clone();
        let bounded = service.start_timeout.is_some();
        if service.oneshot {
            let exit = if self.fault(25) { Exit::Code(1) } else { Exit::Code(0) };
            if !(bounded && self.fault(5)) {
                self.soon(unit, run, 20_000, Coming::Exit { exit, left_behind: false });
            }
            return;
        }
        if self.fault(10) {
            self.soon(unit, run, 5, Coming::Exit { exit: Exit::Code(1), left_behind: false });
        } else if self.fault(5) {
            self.soon(unit, run, 50, Coming::Exit { exit: Exit::Code(0), left_behind: true });
        } else if self.fault(25) {
            let exit = *self.rng.pick(&[
                Exit::Code(0),
                Exit::Code(7),
                Exit::Code(3),
                Exit::Signal(11),
                Exit::Signal(SIGKILL),
                Exit::Unknown,
            ]);
            self.soon(unit, run, 60_000, Coming::Exit { exit, left_behind: false });
        }
        let probed = !matches!(service.ready, Ready::Exec | Ready::Health);
        if probed && !(bounded && self.fault(10)) {
            let within = if self.fault(20) { 70_000 } else { 500 };
            self.soon(unit, run, within, Coming::Fact(Fact::Ready));
        }
        if service.watchdog.is_some() {
            self.after(unit, run, Duration::from_millis(1), Coming::Ping);
        }
        for _ in 0..self.rng.index(3) {
            self.chatter(unit, run);
        }
    }

    /// Something the service says, or the kernel of it.
    fn chatter(&mut self, unit: UnitId, run: Run) {
        if !self.faults {
            return;
        }
        let by = Duration::from_secs(self.rng.below(100));
        let fact = match self.rng.below(8) {
            0 => Fact::Notify(Notify::Status("x".repeat(self.rng.index(2_000)))),
            1 => Fact::Notify(Notify::Reloading),
            2 => Fact::Notify(Notify::Stopping),
            3 if self.rng.percent(10) => Fact::Notify(Notify::WatchdogTrigger),
            4 => Fact::OutOfMemory,
            5 => Fact::Prepared,
            6 => Fact::MainExecuted,
            _ => {
                self.extended += by;
                Fact::Notify(Notify::ExtendTimeout(by))
            }
        };
        self.soon(unit, run, 30_000, Coming::Fact(fact));
    }

    pub fn run_hook(&mut self, unit: UnitId, run: Run, hook: Hook) {
        self.sequence += 1;
        let start = self.sequence;
        let Some(life) = self.lives.get_mut(&run) else { return };
        life.hooks.insert(hook, start);
        let bounded = life.service.start_timeout.is_some();
        let of_start = matches!(hook, Hook::StartPre(_) | Hook::StartPost(_));
        if (bounded || !of_start) && self.fault(8) {
            return;
        }
        let result = if self.fault(5) {
            Err("cannot execute /bin/hook: ENOENT".to_owned())
        } else if self.fault(10) {
            Ok(Exit::Code(1))
        } else {
            Ok(Exit::Code(0))
        };
        self.soon(unit, run, 800, Coming::HookEnd { hook, start, result });
    }

    pub fn kill_hook(&mut self, unit: UnitId, run: Run, hook: Hook) {
        // A check may wait for a disk, and then even that does not end it (for long).
        let longest = if hook == Hook::Health && self.fault(4) { 200_000 } else { 20 };
        let Some(life) = self.lives.get(&run) else { return };
        if let Some(&start) = life.hooks.get(&hook) {
            let result = Ok(Exit::Signal(SIGKILL));
            self.soon(unit, run, longest, Coming::HookEnd { hook, start, result });
        }
    }

    pub fn signal(&mut self, unit: UnitId, run: Run, signal: i32) {
        let Some(life) = self.lives.get(&run) else { return };
        let Main::Alive = life.main else { return };
        let reload = life.service.reload_signal == Some(signal);
        if signal == SIGKILL {
            let exit = Exit::Signal(SIGKILL);
            self.soon(unit, run, 20, Coming::Exit { exit, left_behind: false });
        } else if !life.ignores_signals && !reload {
            let exit = if self.rng.percent(50) { Exit::Signal(signal) } else { Exit::Code(0) };
            let within = life_time(&self.lives[&run].service);
            self.soon(unit, run, within, Coming::Exit { exit, left_behind: false });
        }
    }

    pub fn freeze(&mut self, run: Run, on: bool) {
        if let Some(life) = self.lives.get_mut(&run) {
            life.frozen = on;
        }
    }

    pub fn clean(&mut self, unit: UnitId, run: Run) {
        let report = self.rng.percent(50);
        let Some(life) = self.lives.get_mut(&run) else { return };
        life.cleaning = true;
        life.frozen = false;
        life.hooks.clear();
        let alive = std::mem::replace(&mut life.main, Main::Gone) == Main::Alive;
        let at_once = Duration::ZERO;
        if alive && report {
            let fact = Fact::MainExited { exit: Exit::Signal(SIGKILL), left_behind: false };
            self.after(unit, run, at_once, Coming::Fact(fact));
        }
        if self.fault(4) {
            let text = "process 4711 survives SIGKILL (state D)".to_owned();
            self.soon(unit, run, 30_000, Coming::Fact(Fact::CleanStuck(text)));
            self.after(unit, run, SLOWEST_CLEAN, Coming::Cleaned);
        } else {
            self.soon(unit, run, 100, Coming::Cleaned);
        }
    }

    /// A fact of a run that is over, or of a unit that never was.
    pub fn stale(&mut self) -> Option<Event> {
        let last = *self.past.last()?;
        let (unit, run) = match self.rng.below(4) {
            0 => (UnitId(999), Run(1)),
            1 => (last.0, Run(u64::MAX)),
            2 => last,
            _ => *self.rng.pick(&self.past),
        };
        let exit = Exit::Code(9);
        let fact = match self.rng.below(6) {
            0 => Fact::Prepared,
            1 => Fact::MainExited { exit, left_behind: false },
            2 => Fact::Ready,
            3 => Fact::HookEnded { hook: Hook::Health, result: Ok(exit) },
            4 => Fact::SetupFailed("late".to_owned()),
            _ => Fact::Cleaned,
        };
        Some(Event { unit, run, fact })
    }
}

/// How long, in milliseconds, a service takes to end at most.
fn life_time(service: &Service) -> u64 {
    match service.stop_timeout {
        Some(timeout) => u64::try_from(timeout.as_millis()).unwrap_or(20_000).min(20_000) * 3 / 2,
        None => 20_000,
    }
}
