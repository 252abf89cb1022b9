//! Who was killed for lack of memory: counted for each unit, and named where the kernel's log
//! can be read.
//!
//! What must hold: it is only counted and told here; what follows the machine decides by how
//! the main process ends. A kill is counted once, whoever notices it first: the group's own
//! notice, the end of the main process, or the end of the run.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, SeekFrom};
use serde::{Deserialize, Serialize};

use super::Daemon;
use super::poller::{Part, Source};
use crate::supervisor::{Run, UnitId};

/// Most records of the kernel's log that are read at once: more than it holds.
const RECORDS: usize = 65_536;

/// Longest record (`/dev/kmsg` of the kernel's documentation: at most 8 KiB).
const RECORD: usize = 8192;

/// Those that were killed, of all units.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kills {
    of: BTreeMap<UnitId, Killed>,
    /// The kernel's log, from where it was read to.
    #[serde(with = "crate::sys::kept", default)]
    log: Option<OwnedFd>,
}

/// Those of one unit.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Killed {
    /// The run that the group counts for.
    run: u64,
    /// What the group had counted at the last look.
    seen: u64,
    /// In all runs.
    total: u64,
    /// The last one: name and number.
    victim: Option<String>,
}

impl Killed {
    /// The group of this run has counted so many; how many of them are new.
    fn look(&mut self, run: u64, count: u64) -> u64 {
        if self.run != run {
            (self.run, self.seen) = (run, 0);
        }
        let new = count.saturating_sub(self.seen);
        self.seen = self.seen.max(count);
        self.total = self.total.saturating_add(new);
        new
    }
}

impl Kills {
    /// How many of this unit, as long as it is known.
    pub fn count(&self, id: UnitId) -> u64 {
        self.of.get(&id).map_or(0, |killed| killed.total)
    }

    /// The last one of this unit.
    pub fn victim(&self, id: UnitId) -> Option<&str> {
        self.of.get(&id)?.victim.as_deref()
    }

    /// The unit has gone.
    pub fn forget(&mut self, id: UnitId) {
        self.of.remove(&id);
    }

    /// From now on what the kernel says is read when it matters.
    fn listen(&mut self) {
        if self.log.is_none() {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            // In a container there is none: then nobody is named.
            self.log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok();
            if let Some(log) = &self.log {
                // From here; else it is read from its beginning.
                let _ = rustix::fs::seek(log, SeekFrom::End(0));
            }
        }
    }

    /// Reads what the kernel has said since, and remembers who was killed in which group.
    fn read(&mut self, groups: &[(UnitId, std::path::PathBuf)]) {
        let Some(log) = &self.log else { return };
        let mut record = [0; RECORD];
        for _ in 0..RECORDS {
            let text = match rustix::io::read(log, &mut record) {
                Ok(0) => return,
                Ok(length) => String::from_utf8_lossy(record.get(..length).unwrap_or_default()),
                // It was overwritten before it could be read.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            };
            let Some((group, victim)) = told(&text) else { continue };
            let of = groups.iter().find(|(_, path)| Path::new(group).starts_with(path));
            if let Some((id, _)) = of {
                self.of.entry(*id).or_default().victim = Some(victim);
            }
        }
    }
}

/// The group and the process of a record about a kill (`dump_oom_summary` of the kernel).
fn told(record: &str) -> Option<(&str, String)> {
    let line = record.lines().next()?;
    let facts = line.split_once("oom-kill:")?.1;
    // The name comes as it is, commas and all; what is before it has none.
    let group = facts.split_once("task_memcg=")?.1.split_once(',')?.0;
    let (name, rest) = facts.split_once(",task=")?.1.rsplit_once(",pid=")?;
    let pid: u32 = rest.split(',').next()?.parse().ok()?;
    let name: String = name.chars().filter(|character| !character.is_control()).collect();
    Some((group, format!("{name} ({pid})")))
}

impl Daemon {
    /// Watches the group of a run whose memory is limited, as far as this host can.
    pub(super) fn watch_memory(&mut self, id: UnitId, run: Run) {
        let Some(live) = self.lives.get_mut(&id).filter(|live| live.run == run) else { return };
        let limits = live.unit.service().map(|service| &service.limits);
        if limits.is_none_or(|limits| limits.memory.is_none() && limits.oom.is_none()) {
            return;
        }
        // Where the kernel counts nothing there is nothing to watch; what it counts is looked at
        // again at the end of the run.
        let Ok(events) = live.group.memory_events() else { return };
        let source = Source::Run(id, run, Part::Memory);
        live.memory_events = self.poller.priority(events, source).ok();
        self.kills.listen();
    }

    /// Counts what the kernel has killed of this run since the last look, and says so.
    pub(super) fn look_for_kills(&mut self, id: UnitId, run: Run) {
        let Some(live) = self.lives.get(&id).filter(|live| live.run == run) else { return };
        if let Some(events) = &live.memory_events {
            // It says so again until it has been read.
            let _ = rustix::io::pread(events, &mut [0_u8; 512], 0);
        }
        let Some(count) = live.group.oom_kills().filter(|&count| count > 0) else { return };
        let new = self.kills.of.entry(id).or_default().look(run.0, count);
        if new == 0 {
            return;
        }
        let groups = self.lives.iter().filter_map(|(id, live)| Some((*id, live.group.seen_as()?)));
        let groups: Vec<_> = groups.collect();
        self.kills.read(&groups);
        let name = self.machine.unit(id).map_or_else(String::new, |unit| unit.name.clone());
        let who = self.kills.victim(id).unwrap_or("a process of it").to_owned();
        let more =
            if new > 1 { format!(" and {} more", new.saturating_sub(1)) } else { String::new() };
        self.journal.say(&format!("{name}: the kernel killed {who}{more} for lack of memory"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_record_names_group_and_process() {
        let record = "6,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=hungry,\
                      mems_allowed=0,oom_memcg=/berth-1/hungry,task_memcg=/berth-1/hungry/home,task=a,b c,pid=77,\
                      uid=0\n SUBSYSTEM=x\n";
        assert_eq!(told(record), Some(("/berth-1/hungry/home", "a,b c (77)".to_owned())));
        for other in ["", "6,1,2,-;hello", "6,1,2,-;oom-kill:task_memcg=/x,task=y,pid=z,uid=0"] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn each_kill_counts_once_and_runs_add_up() {
        let mut killed = Killed::default();
        assert_eq!((killed.look(1, 2), killed.look(1, 2), killed.look(1, 3)), (2, 0, 1));
        assert_eq!((killed.look(2, 1), killed.total), (1, 4));
    }
}
