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
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::merge::{Lines, Merge};
use super::read::{Entry, LogError, Query, names};
use crate::sys::memory;

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
    /// Which unit a watch belongs to. The kernel gives a directory the same number each time
    /// it is asked to watch it, and never that of another: it tells whether one is new.
    watches: HashMap<i32, usize>,
    /// Which unit a name belongs to, also while its directory is gone.
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
        (self.lines, self.since) = (None, None);
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
        let more = self.merge.has_more();
        let patience = if more { Duration::ZERO } else { memory::REST };
        let patience = Timespec::try_from(patience).unwrap_or_default();
        let mut found = poll(&mut polled, Some(&patience));
        if found == Ok(0) && !more {
            memory::trim();
            found = poll(&mut polled, None);
        }
        match found {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(self.failed(errno)),
        }
        Ok(polled.get(1).is_some_and(|until| !until.revents().is_empty()))
    }

    fn read_events(&mut self) -> Result<(), LogError> {
        let (mut appeared, mut changed, mut lost) = (Vec::new(), Vec::new(), false);
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut events = inotify::Reader::new(&self.inotify, &mut space);
        // One buffer full at most: the rest is there next time.
        loop {
            match events.next() {
                Ok(event) => {
                    lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    if event.wd() == self.top {
                        let name = event.file_name().and_then(|name| name.to_str().ok());
                        appeared.extend(name.map(str::to_owned));
                    } else if event.events().contains(ReadFlags::IGNORED) {
                        // The directory was removed.
                        self.watches.remove(&event.wd());
                    } else {
                        changed.extend(self.watches.get(&event.wd()).copied());
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        for name in appeared {
            let wanted = match &self.wanted {
                Some(wanted) => wanted.contains(&name),
                None => super::is_unit_name(&name),
            };
            if wanted {
                self.add(name)?;
            }
        }
        if lost {
            self.discover()?;
            changed.extend(self.watches.values());
        }
        changed.sort_unstable();
        changed.dedup();
        changed.into_iter().try_for_each(|unit| self.merge.refill(unit))
    }

    /// Adds all units that are there and not known yet.
    fn discover(&mut self) -> Result<(), LogError> {
        let names = match &self.wanted {
            Some(wanted) => wanted.clone(),
            None => names(&self.directory)?,
        };
        names.into_iter().try_for_each(|name| self.add(name))
    }

    /// Watches a unit's directory and looks into it, unless it is known or not there (yet).
    fn add(&mut self, name: String) -> Result<(), LogError> {
        let changes =
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let directory = self.directory.join(&name);
        let watch = match inotify::add_watch(&self.inotify, &directory, changes) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(LogError::Watch(errno.into())),
            Ok(watch) => watch,
        };
        if self.watches.contains_key(&watch) {
            return Ok(());
        }
        let unit = if let Some(unit) = self.known.get(&name) {
            *unit
        } else {
            let lines = Lines::new(&self.directory, name.clone(), self.lines, self.since)?;
            let unit = self.merge.add(lines);
            self.known.insert(name, unit);
            unit
        };
        self.watches.insert(watch, unit);
        self.merge.refill(unit)
    }

    fn failed(&self, errno: Errno) -> LogError {
        LogError::Io(self.directory.clone(), io::Error::from(errno))
    }
}
