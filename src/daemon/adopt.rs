//! After a kill: what of the earlier supervisor's units still runs is this one's from now
//! on, without a second copy of anything ever being started.
//!
//! What must always hold: a process is believed to be a unit's main process only if it was
//! there when the ledger was written (a process of its number that began later is another
//! one), has not ended, and is in that unit's control group now; all of it is asked of a
//! process that is held open. Whatever else is in those groups is ended before the first
//! unit starts. A unit whose output has lost its reader is not taken over: its next line
//! would kill it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Daemon;
use super::ending::Phase;
use super::ledger::{Entry, Line, Seen, Told, fingerprint};
use super::live::Live;
use super::recovery::Beginning;
use crate::log::record::Stream;
use crate::supervisor::request::{Found, Request, Wish};
use crate::supervisor::view::StateName;
use crate::supervisor::{Run, Timeline, UnitId};
use crate::sys::cgroup::{self, Root, Tree};
use crate::sys::{fd, pidfd};
use crate::unit::names;

/// What the kernel rounds the beginning of a process to.
const TICK: Duration = Duration::from_millis(10);

/// How long the killed supervisor's logger may take to end.
const LOGGER_WAIT: i32 = 2000;

/// One run that is still there.
#[derive(Debug)]
pub struct Survivor {
    entry: Entry,
    main: OwnedFd,
    init: Option<OwnedFd>,
    streams: Vec<(Stream, OwnedFd)>,
    notify: Option<OwnedFd>,
}

/// All that a killed supervisor has left.
#[derive(Debug, Default)]
pub struct Estate {
    survivors: Vec<Survivor>,
    done: BTreeMap<String, (u64, Timeline)>,
    /// Who was down, and stays so if this is still the same process.
    pub down: BTreeSet<String>,
    last_run: u64,
}

impl Estate {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.survivors.is_empty() && self.done.is_empty() && self.down.is_empty()
    }

    /// Those that are made from a template, which nobody else may ask for.
    pub fn instances(&self) -> Vec<String> {
        let is_instance = |name: &&str| names::split_instance(name).is_some();
        let done = self.done.keys().map(String::as_str);
        self.names().into_iter().chain(done).filter(is_instance).map(str::to_owned).collect()
    }

    /// Names of the units that still run.
    pub fn names(&self) -> Vec<&str> {
        self.survivors.iter().map(|it| it.entry.unit.as_str()).collect()
    }
}

/// Looks what is left of the units that a ledger names, whose control groups are in the
/// recorded directories. Takes over from the logger what it holds, and ends that. `None`:
/// nothing can be taken over.
pub fn inspect(
    told: Told,
    recorded: &[PathBuf],
    tree: &Tree,
    beginning: Beginning,
    troubles: &mut Vec<String>,
) -> Option<(Root, Estate)> {
    let nothing = told.up.is_empty() && told.done.is_empty();
    // One that has failed may be in these groups itself.
    if nothing && beginning == Beginning::Started {
        return None;
    }
    let root = reopen(recorded, tree).unwrap_or_else(|error| {
        troubles.push(format!("nothing of what still runs can be taken over: {error}"));
        None
    })?;
    let held = told.logger.map_or(Ok(None), Held::of).unwrap_or_else(|error| {
        troubles.push(format!("the output of what still runs cannot be taken over: {error}"));
        None
    });
    let find = |entry: Entry| {
        let unit = entry.unit.clone();
        survivor(&root, entry, held.as_ref()).unwrap_or_else(|why| {
            troubles.push(format!("{unit}: ended, not taken over: {why}"));
            None
        })
    };
    let survivors: Vec<Survivor> = told.up.into_values().filter_map(find).collect();
    if let Some(held) = held {
        held.end();
    }
    let down = if beginning == Beginning::Again { told.down } else { BTreeSet::new() };
    Some((root, Estate { survivors, done: told.done, down, last_run: told.last_run }))
}

/// The groups of the earlier supervisor, if this one would make its own at the same place.
fn reopen(recorded: &[PathBuf], tree: &Tree) -> Result<Option<Root>, cgroup::Error> {
    let Some(first) = recorded.first().filter(|first| first.is_dir()) else { return Ok(None) };
    let name = first.file_name().and_then(|name| name.to_str()?.strip_prefix("berth-"));
    let Some(name) = name else { return Ok(None) };
    let root = tree.open(name)?;
    let same = root.missing().is_none() && root.paths().first() == Some(first);
    Ok(same.then_some(root))
}

/// What is left of a unit, if it is still up. The error is one sentence.
fn survivor(root: &Root, entry: Entry, held: Option<&Held>) -> Result<Option<Survivor>, String> {
    let unseen = |error| format!("its processes cannot be looked at: {error}");
    let Some(main) = still_there(entry.main).map_err(unseen)? else { return Ok(None) };
    let group = root.adopt(&entry.unit, Vec::new()).map_err(|error| error.to_string())?;
    let is_ours = |seen: Seen| group.holds(seen.pid).map_err(unseen);
    if !is_ours(entry.main)? {
        return Ok(None);
    }
    let init = match entry.init {
        Some(seen) => match still_there(seen).map_err(unseen)? {
            Some(init) if is_ours(seen)? => Some(init),
            _ => return Ok(None),
        },
        None => None,
    };
    let take = |inode: u64| {
        let taken = held.map_or(Ok(None), |held| held.take(inode));
        let taken = taken.map_err(|error| format!("its output cannot be taken over: {error}"))?;
        taken.ok_or_else(|| "nobody reads its output any more".to_owned())
    };
    let streams = entry.streams.iter().map(|(stream, inode)| Ok((*stream, take(*inode)?)));
    let streams = streams.collect::<Result<_, String>>()?;
    let notify = entry.notify.map(take).transpose()?;
    Ok(Some(Survivor { entry, main, init, streams, notify }))
}

/// Opens a process that was seen, if it is still the one that was.
fn still_there(seen: Seen) -> io::Result<Option<OwnedFd>> {
    let look = || {
        let handle = pidfd::open(seen.pid)?;
        let began = pidfd::began(seen.pid)?;
        let same = began <= seen.at.saturating_add(TICK) && !pidfd::has_ended(handle.as_fd())?;
        Ok(same.then_some(handle))
    };
    match look() {
        Err(error) if is_gone(&error) => Ok(None),
        other => other,
    }
}

/// Whether there is no such process.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

/// The earlier supervisor's logger, and its descriptors by inode.
struct Held {
    handle: OwnedFd,
    numbers: BTreeMap<u64, i32>,
}

impl Held {
    /// `None`: it has ended.
    fn of(seen: Seen) -> io::Result<Option<Self>> {
        let Some(handle) = still_there(seen)? else { return Ok(None) };
        let mut numbers = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", seen.pid))? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // It closes some meanwhile.
            let target = fs::read_link(entry.path()).ok();
            let inode = target.as_deref().and_then(Path::to_str).and_then(inode_of);
            numbers.extend(inode.zip(number));
        }
        Ok(Some(Self { handle, numbers }))
    }

    /// `None`: it has none of this inode (any more).
    fn take(&self, inode: u64) -> io::Result<Option<OwnedFd>> {
        let Some(number) = self.numbers.get(&inode) else { return Ok(None) };
        let fd = pidfd::take_descriptor(self.handle.as_fd(), *number)?;
        Ok((inode_number(fd.as_fd())? == inode).then_some(fd))
    }

    /// Two loggers must not read one pipe.
    fn end(self) {
        // It may have ended by itself.
        let _ = pidfd::send_signal(self.handle.as_fd(), libc::SIGKILL);
        // A process that does not even end then keeps nobody from starting.
        let _ = fd::readable_within(self.handle.as_fd(), LOGGER_WAIT);
    }
}

/// The number in `pipe:[123]` and `socket:[123]`.
fn inode_of(link: &str) -> Option<u64> {
    let (kind, rest) = link.split_once(":[")?;
    let number = rest.strip_suffix(']')?;
    matches!(kind, "pipe" | "socket").then(|| number.parse().ok())?
}

fn inode_number(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

impl Daemon {
    /// A unit has a new state: what the next supervisor has to know of it.
    pub(super) fn note(&mut self, id: UnitId, state: StateName) {
        let line = self.line(id, state);
        let Some(unit) = self.machine.unit(id) else { return };
        let name = unit.name.clone();
        let told = match state {
            // On its way down nobody comes after this one to whom it matters.
            StateName::Inactive if matches!(self.phase, Phase::Up) => {
                self.stopped.went_down(&name).then_some(Line::Down(name))
            }
            StateName::Waiting | StateName::Preparing | StateName::Running => {
                self.stopped.comes_up(&name).then_some(Line::Wanted(name))
            }
            _ => None,
        };
        for line in line.into_iter().chain(told) {
            self.ledger.say(&line);
        }
    }

    /// What there is to tell of a unit in a state.
    fn line(&self, id: UnitId, state: StateName) -> Option<Line> {
        let unit = self.machine.unit(id)?;
        let oneshot = unit.service().is_some_and(|service| service.oneshot);
        match state {
            StateName::Running => self.entry(id).map(|entry| Line::Up(Box::new(entry))),
            StateName::Done if oneshot => {
                let definition = fingerprint(unit);
                let timeline = self.absolute_timeline(id);
                Some(Line::Done { unit: unit.name.clone(), definition, timeline })
            }
            StateName::Inactive | StateName::Stopping | StateName::Failed if oneshot => {
                Some(Line::Undone(unit.name.clone()))
            }
            _ => None,
        }
    }

    /// All that the next supervisor has to know, as it is now.
    pub(super) fn lines(&self) -> Vec<Line> {
        let state = |id| match self.machine.view(id)?.state {
            StateName::Frozen => Some(StateName::Running),
            other => Some(other),
        };
        let units = self.machine.ids().filter_map(|id| self.line(id, state(id)?));
        let units = units.filter(|line| !matches!(line, Line::Undone(_)));
        let down = self.stopped.down().map(|name| Line::Down(name.clone()));
        units.chain(down).collect()
    }

    /// A new logger.
    pub(super) fn note_logger(&mut self, pid: i32) {
        self.ledger.say(&Line::Logger(Seen::now(pid)));
    }

    fn entry(&self, id: UnitId) -> Option<Entry> {
        let live = self.lives.get(&id)?;
        let main = live.main.as_ref()?;
        let init = match (&live.sandbox, &live.inherited_init) {
            (Some(init), _) => Some(Seen::now(init.pid)),
            (None, Some(init)) => Some(Seen::now(pidfd::number(init.as_fd())?)),
            (None, None) => None,
        };
        let streams = self.logger.held(&live.streams);
        // What is open has an inode.
        let streams = streams.map(|(stream, fd)| Some((stream, inode_number(fd).ok()?)));
        Some(Entry {
            unit: live.unit.name.clone(),
            run: live.run.0,
            definition: fingerprint(&live.unit),
            main: Seen::now(main.pid),
            init,
            restarts: self.machine.restarts(id),
            streams: streams.collect::<Option<_>>()?,
            notify: match &live.notify {
                Some(socket) => Some(inode_number(socket).ok()?),
                None => None,
            },
            unenforced: live.group.unenforced().to_vec(),
            numbers: live.numbers.clone(),
            maps: self.ranges.maps(id, live),
            network: live.network.clone(),
            timeline: self.absolute_timeline(id),
        })
    }

    /// A unit's starts on a clock that does not end with this supervisor.
    fn absolute_timeline(&self, id: UnitId) -> Timeline {
        let timeline = self.machine.timeline(id).cloned().unwrap_or_default();
        timeline.moved(self.clock.origin())
    }

    /// What the killed supervisor has seen of a unit's starts, on this one's clock. Taking it
    /// over is none of them.
    fn recall(&mut self, id: UnitId, timeline: Timeline) {
        self.machine.recall(id, timeline.moved(self.clock.origin().saturating_neg()));
    }

    /// The units are known: those that an earlier supervisor has left up are this one's.
    pub(super) fn take_over(&mut self) {
        let Estate { survivors, done, last_run, .. } = std::mem::take(&mut self.estate);
        self.machine.skip_runs(Run(last_run));
        let mut found = Vec::new();
        for (name, (definition, timeline)) in done {
            let id = self.machine.find(&name);
            let same = |id: &UnitId| {
                let unit = self.machine.unit(*id);
                unit.is_some_and(|unit| {
                    unit.service().is_some_and(|it| it.oneshot) && fingerprint(unit) == definition
                })
            };
            if let Some(unit) = id.filter(same) {
                found.push((unit, Found::Done));
                self.recall(unit, timeline);
            }
        }
        let mut again = Vec::new();
        for survivor in survivors {
            let name = survivor.entry.unit.clone();
            let definition = survivor.entry.definition;
            match self.adopt(survivor) {
                Ok((id, up)) => {
                    found.push((id, up));
                    let unit = self.machine.unit(id);
                    if unit.is_none_or(|unit| fingerprint(unit) != definition) {
                        again.push(id);
                    }
                }
                Err(why) => {
                    self.journal.say(&format!("{name}: ended, not taken over: {why}"));
                    let left: Vec<PathBuf> =
                        self.claim.root.paths().iter().map(|path| path.join(&name)).collect();
                    if let Err(error) = cgroup::tree::end_all(&left) {
                        self.journal.say(&format!("{name}: cannot be ended: {error}"));
                    }
                }
            }
        }
        self.wish(Request { job: None, wish: Wish::Adopt(found) });
        // With what those have that were taken over; the rest is removed.
        self.tidy_networks();
        self.think(&mut Vec::new());
        again.extend(self.without_their_own());
        for id in again {
            self.wish(Request { job: None, wish: Wish::Restart(id) });
        }
    }

    /// Those that were taken over while something that they require was not.
    fn without_their_own(&self) -> Vec<UnitId> {
        let requires = |id: &UnitId| {
            let edges = self.machine.dependencies(*id).iter();
            let mut needed = edges.filter(|it| it.link == crate::supervisor::Link::Requires);
            needed.any(|edge| {
                let service = self.machine.unit(edge.unit).is_some_and(|it| it.service().is_some());
                service && self.machine.view(edge.unit).is_some_and(|view| !view.ready)
            })
        };
        self.lives.keys().copied().filter(requires).collect()
    }

    fn adopt(&mut self, survivor: Survivor) -> Result<(UnitId, Found), String> {
        let Survivor { entry, main, init, streams, notify } = survivor;
        let id = self.machine.find(&entry.unit).ok_or("no such unit any more")?;
        let unit = self.machine.unit(id).cloned().ok_or("no such unit any more")?;
        let service = unit.service().ok_or("it is a target now")?;
        if service.oneshot || service.has_init() != init.is_some() {
            return Err("it is another kind of service now".to_owned());
        }
        let group = self.claim.root.adopt(&entry.unit, entry.unenforced);
        let group = group.map_err(|error| error.to_string())?;
        // One that was frozen is not known to be: whoever froze it has gone.
        group.freeze(false).map_err(|error| format!("it cannot be thawed: {error}"))?;
        let run = Run(entry.run);
        let mut live = Live::new(run, unit.clone(), group);
        live.inherited_init = init;
        live.numbers = entry.numbers;
        if let Some(maps) = entry.maps {
            self.ranges.adopt(id, &unit, maps).map_err(|error| {
                format!("a user namespace for its further processes cannot be made: {error}")
            })?;
        }
        live.network = entry.network.map(|network| Box::new(network.taken_over()));
        self.adopt_output(&mut live, service, streams)?;
        self.lives.insert(id, Box::new(live));
        if let Some(socket) = notify {
            self.watch_notify(id, run, socket)
                .map_err(|error| format!("its notify socket cannot be watched: {error}"))?;
        }
        self.follow_main(id, run, entry.main.pid, main)
            .map_err(|error| format!("its main process cannot be watched: {error}"))?;
        self.recall(id, entry.timeline);
        self.complain(id, &format!("taken over, process {} still runs", entry.main.pid));
        Ok((id, Found::Up { run, restarts: entry.restarts }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_began_later_is_another_one() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(still_there(Seen::now(pid)).unwrap().is_some());
        let earlier = Seen { pid, at: Duration::from_millis(1) };
        assert!(still_there(earlier).unwrap().is_none());
    }

    #[test]
    fn pipes_and_sockets_are_known_by_their_inodes() {
        assert_eq!(inode_of("pipe:[123]"), Some(123));
        assert_eq!(inode_of("socket:[7]"), Some(7));
        for other in ["anon_inode:[eventpoll]", "/dev/null", "pipe:[x]", "pipe:[1", ""] {
            assert_eq!(inode_of(other), None, "{other}");
        }
    }
}
