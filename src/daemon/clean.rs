//! The end of a run: everything that belongs to it goes, and only then is it `Cleaned`.
//!
//! What must always hold: `Cleaned` means that no process is left in the cgroup (or, on a
//! host without cgroups, none that berth knows), that berth's own children of the run are
//! reaped, and that the directories are gone; but for those of a machine that ends.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Daemon;
use super::ending::Phase;
use super::live::{Cleaning, Live, Progress};
use super::poller::{Part, Source};
use crate::pid1::Place;
use crate::supervisor::event::Fact;
use crate::supervisor::{Run, Time, UnitId};
use crate::sys::pidfd;

/// How long a kill may take before the unit is called stuck.
const STUCK: Duration = Duration::from_secs(5);

/// Pause between two looks when nothing tells us that something changed.
const RETRY: Duration = Duration::from_millis(20);

/// The same once it is stuck.
const RETRY_STUCK: Duration = Duration::from_secs(1);

impl Daemon {
    /// Begins to clean a run.
    pub(super) fn clean(&mut self, id: UnitId, run: Run) {
        let now = self.clock.now();
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else {
            // It never got as far as having anything.
            return self.fact(id, run, Fact::Cleaned);
        };
        if live.cleaning.is_some() {
            return;
        }
        self.look_for_kills(id, run);
        let Some(live) = self.lives.get_mut(&id) else { return };
        live.cleaning = Some(Cleaning { since: now, retry: now, complained: false, events: None });
        live.output = None;
        // Probes are not in the cgroup.
        for process in live.probe.iter().chain(live.hooks.iter().map(|(_, process)| process)) {
            // It may have ended by itself; it is reaped either way.
            let _ = pidfd::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
        }
        self.cleaning.insert(id);
        self.progress_cleaning(id, run);
    }

    /// `cgroup.events` has something new. It has to be read: until then it says so again.
    pub(super) fn cgroup_changed(&mut self, id: UnitId, run: Run) {
        let live = self.lives.get(&id).filter(|live| live.run == run);
        let cleaning = live.and_then(|live| live.cleaning.as_ref());
        if let Some(events) = cleaning.and_then(|cleaning| cleaning.events.as_ref()) {
            let mut text = [0_u8; 256];
            // What it says is read again by the look that follows.
            let _ = rustix::io::pread(events, &mut text, 0);
        }
        self.progress_cleaning(id, run);
    }

    /// Looks whether the run is over, if it is being cleaned.
    pub(super) fn progress_cleaning(&mut self, id: UnitId, run: Run) {
        let stays = self.leaves_groups();
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        if live.cleaning.is_none() {
            return;
        }
        let obstacle = kill_all(live).or_else(|| {
            let reaped = live.processes().next().is_none();
            if !reaped {
                return Some("a process has not ended yet".to_owned());
            }
            if stays {
                return None;
            }
            live.group.remove().err().map(|error| error.to_string())
        });
        let obstacle = obstacle.or_else(|| self.leave_networks(id, run));
        match obstacle {
            None => self.cleaned(id, run),
            Some(obstacle) => self.wait_for_empty(id, run, &obstacle),
        }
    }

    /// Whether empty groups may stay: a machine that ends takes them along, and to remove one
    /// costs the kernel more than all else that is done for the end of a unit.
    fn leaves_groups(&self) -> bool {
        self.options.place == Place::Machine && matches!(self.phase, Phase::Down { .. })
    }

    fn cleaned(&mut self, id: UnitId, run: Run) {
        self.cleaning.remove(&id);
        let Some(live) = self.lives.remove(&id) else { return };
        let Live {
            cleaning,
            memory_events,
            notify,
            ready_pipe,
            foreign_main,
            streams,
            hooks,
            unit,
            ..
        } = *live;
        let events = cleaning.and_then(|cleaning| cleaning.events);
        let foreign_main = foreign_main.map(|foreign| foreign.watched);
        for watched in
            [events, memory_events, notify, ready_pipe, foreign_main].into_iter().flatten()
        {
            self.poller.close(watched);
        }
        for (_, process) in hooks {
            if let Progress::SettingUp(status) = process.progress {
                self.poller.close(status);
            }
        }
        for token in streams {
            self.logger.detach(&self.poller, token);
        }
        let path = self.options.notify_directory().join(&unit.name);
        if unit.service().is_some_and(|it| it.wants_notify() && !it.namespaces.value.mount)
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.journal.say(&format!("cannot remove {}: {error}", path.display()));
        }
        self.fact(id, run, Fact::Cleaned);
    }

    /// Not over yet: watch the cgroup and look again later in any case.
    fn wait_for_empty(&mut self, id: UnitId, run: Run, obstacle: &str) {
        let now = self.clock.now();
        let Some(live) = self.lives.get_mut(&id) else { return };
        let Some(cleaning) = &mut live.cleaning else { return };
        if cleaning.events.is_none()
            && let Ok(events) = live.group.events()
        {
            let source = Source::Run(id, run, Part::Empty);
            // Without it the next look is the retry's.
            cleaning.events = self.poller.priority(events, source).ok();
        }
        let late = now.0.saturating_sub(cleaning.since.0) >= STUCK;
        let pause = if late { RETRY_STUCK } else { RETRY };
        cleaning.retry = Time(now.0.saturating_add(pause));
        if late && !cleaning.complained {
            cleaning.complained = true;
            self.fact(id, run, Fact::CleanStuck(format!("SIGKILL does not end it: {obstacle}")));
        }
    }

    /// When to look again.
    pub(super) fn cleaning_deadline(&self) -> Option<Time> {
        self.cleaning.iter().filter_map(|&id| self.retry_of(id)).min()
    }

    fn retry_of(&self, id: UnitId) -> Option<Time> {
        self.lives.get(&id)?.cleaning.as_ref().map(|cleaning| cleaning.retry)
    }

    /// Looks again at those whose time has come.
    pub(super) fn retry_cleaning(&mut self) {
        let now = self.clock.now();
        let due = |id: &UnitId| self.retry_of(*id).is_some_and(|retry| retry <= now);
        let due: Vec<UnitId> = self.cleaning.iter().copied().filter(due).collect();
        for id in due {
            if let Some(run) = self.lives.get(&id).map(|live| live.run) {
                self.progress_cleaning(id, run);
            }
        }
    }
}

/// SIGKILL for the processes that berth has started itself.
fn kill_known(live: &Live) {
    for process in live.processes() {
        // It may have ended by itself; one that does not end is told of as such.
        let _ = pidfd::send_signal(process.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// SIGKILL for all of it; what still stands in the way, if anything does.
fn kill_all(live: &mut Live) -> Option<String> {
    if live.group.path().is_none() {
        // No cgroup: the processes berth knows, of which an init takes all others along.
        kill_known(live);
        return None;
    }
    match live.group.populated() {
        Ok(false) => {
            // One that has moved to another group is out of reach of this one.
            kill_known(live);
            None
        }
        Ok(true) => {
            let killed = live.group.kill();
            // A look right after the kill finds what ended at once.
            match (killed, live.group.populated()) {
                (Ok(()), Ok(false)) => None,
                (Ok(()), _) => Some("processes are left in its cgroup".to_owned()),
                (Err(error), _) => Some(format!("cannot kill its cgroup: {error}")),
            }
        }
        Err(error) => Some(format!("cannot read its cgroup: {error}")),
    }
}
