//! Following: inotify says which unit has something new; its chain of files says what.
//!
//! What must always hold: a watch is in place before what it watches is read for the first
//! time, so nothing falls in between; an event only ever means "look again", so events
//! that are merged, lost or late do no harm.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::merge::{Lines, Merge};
use super::read::{Entry, LogError, Query, names};

/// Lines handed out before the kernel is asked for news again, so that a flood of one
/// unit does not keep the others from being merged in.
const LINES_A_TURN: usize = 4096;

/// Following some units, or all.
pub struct Follow {
    directory: PathBuf,
    /// What was asked for; `None`: all.
    wanted: Option<Vec<String>>,
    lines: Option<u64>,
    since: Option<Timestamp>,
    until: Option<OwnedFd>,
    inotify: OwnedFd,
    /// Of the directory of all logs, where units appear.
    top: i32,
    /// Which unit a watch belongs to.
    watches: HashMap<i32, usize>,
    known: HashMap<String, usize>,
    merge: Merge,
}

impl Follow {
    /// Watches the directory, which is made if it is not there yet.
    ///
    /// # Errors
    /// It cannot be made or watched.
    pub fn new(directory: &Path, query: Query) -> Result<Self, LogError> {
        let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
        made.map_err(|error| LogError::Io(directory.to_owned(), error))?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| LogError::Watch(errno.into()))?;
        let appear = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let top = inotify::add_watch(&inotify, directory, appear)
            .map_err(|errno| LogError::Watch(errno.into()))?;
        Ok(Self {
            directory: directory.to_owned(),
            wanted: (!query.units.is_empty()).then_some(query.units),
            lines: query.lines,
            since: query.since,
            until: query.until_fd,
            inotify,
            top,
            watches: HashMap::new(),
            known: HashMap::new(),
            merge: Merge::default(),
        })
    }

    /// Hands out what is there and what comes, until the sink breaks or `until_fd` says so.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn run(mut self, sink: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), LogError> {
        self.discover()?;
        // The selection is for what is there; of a unit that appears later all is new.
        self.lines = None;
        loop {
            if self.merge.pour(LINES_A_TURN, sink)?.is_break() {
                return Ok(());
            }
            if self.wait()? {
                self.discover()?;
                return self.merge.finish(sink);
            }
            self.read_events()?;
        }
    }

    /// Waits for news, but not while there is something to hand out; whether to end.
    fn wait(&self) -> Result<bool, LogError> {
        let mut polled = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        polled.extend(self.until.as_ref().map(|until| PollFd::new(until, PollFlags::IN)));
        let at_once = Timespec::default();
        let timeout = self.merge.has_more().then_some(&at_once);
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(self.failed(errno)),
        }
        Ok(polled.get(1).is_some_and(|until| !until.revents().is_empty()))
    }

    fn read_events(&mut self) -> Result<(), LogError> {
        let (mut appeared, mut lost) = (false, false);
        let mut changed = Vec::new();
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut events = inotify::Reader::new(&self.inotify, &mut space);
        // One buffer full at most: the rest is there next time.
        loop {
            match events.next() {
                Ok(event) => {
                    lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    appeared |= event.wd() == self.top;
                    if event.events().contains(ReadFlags::IGNORED) {
                        // The directory was removed; it may come again.
                        if let Some(unit) = self.watches.remove(&event.wd()) {
                            self.known.retain(|_, known| *known != unit);
                        }
                    }
                    changed.extend(self.watches.get(&event.wd()).copied());
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        if appeared || lost {
            self.discover()?;
        }
        if lost {
            changed.extend(self.watches.values());
        }
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().try_for_each(|unit| self.merge.refill(unit))
    }

    /// Watches the units that have appeared, and looks into them for the first time.
    fn discover(&mut self) -> Result<(), LogError> {
        let names = match &self.wanted {
            Some(wanted) => wanted.clone(),
            None => names(&self.directory)?,
        };
        for name in names {
            if self.known.contains_key(&name) {
                continue;
            }
            let directory = self.directory.join(&name);
            let changes = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::ONLYDIR;
            let watch = match inotify::add_watch(&self.inotify, &directory, changes) {
                // Not there yet, or gone again.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(errno) => return Err(LogError::Watch(errno.into())),
                Ok(watch) => watch,
            };
            let lines = Lines::new(&self.directory, name.clone(), self.lines, self.since)?;
            let unit = self.merge.add(lines);
            self.watches.insert(watch, unit);
            self.known.insert(name, unit);
            self.merge.refill(unit)?;
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> LogError {
        LogError::Io(self.directory.clone(), io::Error::from(errno))
    }
}
