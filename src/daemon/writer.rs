//! What berth writes down, and what it does when that fails: a full disk, a read-only one.
//!
//! What must always hold: nobody waits for it, not a unit and not berth's end; a file is written
//! by one attempt at a time, so that the last wish is what the disk says in the end; one that
//! could not be is tried again every [`RETRY`] as long as berth runs, and is written from what
//! is true then, so that nothing piles up meanwhile. That it cannot be written is said once,
//! and shown to whoever asks, until it can.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ending::Phase;
use super::{Daemon, Owner};
use crate::supervisor::{Exit, Time};
use crate::sys::fork;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(5);

/// Whether a file says what it should.
#[derive(Debug, Serialize, Deserialize)]
pub struct Writer {
    /// An attempt is under way.
    running: bool,
    /// The disk says something else, as far as is known.
    dirty: bool,
    /// The last attempt has failed: when the next one is due.
    retry_at: Option<Time>,
    /// One sentence, from the first attempt that failed to the next that does not.
    trouble: Option<String>,
}

/// What is to be told of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// From now on it fails.
    Begun(String),
    /// It does not any more.
    Over,
}

/// What an earlier program wrote by other rules is written once more.
impl Default for Writer {
    fn default() -> Self {
        Self { dirty: true, ..Self::clean() }
    }
}

impl Writer {
    /// The disk says what it should.
    pub const fn clean() -> Self {
        Self { running: false, dirty: false, retry_at: None, trouble: None }
    }

    /// There is something new to write.
    pub const fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether the disk may say something else.
    pub const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What is wrong.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether somebody who ends should wait: for the first attempt, and no other.
    const fn is_busy(&self) -> bool {
        self.running || self.dirty && self.retry_at.is_none()
    }

    /// The last chance: an attempt at once, whatever became of others.
    const fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// When to look at it again.
    fn deadline(&self) -> Option<Time> {
        self.retry_at.filter(|_| self.dirty && !self.running)
    }

    /// Whether it is to be written now. Then it counts as written, until it has [`Self::ended`].
    fn begins(&mut self, now: Time) -> bool {
        let begins = self.dirty && !self.running && self.retry_at.is_none_or(|at| at <= now);
        if begins {
            (self.running, self.dirty) = (true, false);
        }
        begins
    }

    /// How the attempt went: why it has failed, if it has.
    fn ended(&mut self, result: Result<(), String>, now: Time) -> Option<News> {
        self.running = false;
        let was_wrong = self.trouble.is_some();
        match result {
            Ok(()) => {
                (self.retry_at, self.trouble) = (None, None);
                was_wrong.then_some(News::Over)
            }
            Err(why) => {
                self.dirty = true;
                self.retry_at = Some(Time(now.0.saturating_add(RETRY)));
                self.trouble = Some(why.clone());
                (!was_wrong).then_some(News::Begun(why))
            }
        }
    }
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// Which control groups are this supervisor's.
    Lock,
    /// What runs.
    Ledger,
    /// Which units stay down.
    Stopped,
    /// Which unit has which user numbers.
    Ranges,
    /// The control socket.
    Socket,
}

impl Book {
    const ALL: [Self; 5] = [Self::Lock, Self::Ledger, Self::Stopped, Self::Ranges, Self::Socket];

    /// What those miss who come later.
    const fn says(self) -> &'static str {
        match self {
            Self::Lock => "what a berth after one that was killed has to end",
            Self::Ledger => "what a berth after one that was killed takes over",
            Self::Stopped => "which units stay down over a boot",
            Self::Ranges => "which unit has which user numbers",
            Self::Socket => "where berthctl finds this supervisor",
        }
    }
}

impl Daemon {
    const fn writer(&self, book: Book) -> &Writer {
        match book {
            Book::Lock => &self.claim.writer,
            Book::Ledger => &self.ledger.writer,
            Book::Stopped => &self.stopped.writer,
            Book::Ranges => &self.ranges.writer,
            Book::Socket => &self.control.writer,
        }
    }

    const fn writer_mut(&mut self, book: Book) -> &mut Writer {
        match book {
            Book::Lock => &mut self.claim.writer,
            Book::Ledger => &mut self.ledger.writer,
            Book::Stopped => &mut self.stopped.writer,
            Book::Ranges => &mut self.ranges.writer,
            Book::Socket => &mut self.control.writer,
        }
    }

    fn path_of(&self, book: Book) -> PathBuf {
        match book {
            Book::Lock => self.options.lock_file(),
            Book::Ledger => self.options.ledger(),
            Book::Stopped => self.options.stopped_directory(),
            Book::Ranges => self.options.ranges_file(),
            Book::Socket => self.options.control_socket(),
        }
    }

    /// Once a turn: writes down what is new, and what could not be written before.
    pub(super) fn write_books(&mut self) {
        // Until units are known, the ledger of an earlier supervisor is all there is of it.
        if self.phase == Phase::Booting {
            return;
        }
        let now = self.clock.now();
        for book in Book::ALL {
            if !self.writer_mut(book).begins(now) {
                continue;
            }
            let result = match book {
                // Small, and where sockets are: in memory, on every host that is set up well.
                Book::Lock => self.claim.record(),
                Book::Ledger => {
                    let lines = self.lines();
                    self.ledger.renew(&lines)
                }
                Book::Stopped => match self.fork_writer(Owner::Stopped, |it| it.stopped.write()) {
                    Ok(()) => continue,
                    failed => failed,
                },
                Book::Ranges => match self.fork_writer(Owner::Ranges, |it| it.ranges.write()) {
                    Ok(()) => continue,
                    failed => failed,
                },
                Book::Socket => self.listen(),
            };
            self.tried(book, result);
        }
    }

    /// What waits for a disk is done by a child.
    fn fork_writer(
        &mut self,
        owner: Owner,
        write: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let child = fork::child(&fork::Options::default(), || match write(self) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        })?;
        self.pids.insert(child.pid, owner);
        Ok(())
    }

    /// The child has ended.
    pub(super) fn book_written(&mut self, book: Book, exit: Exit) {
        let result = match exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(errno) => Err(io::Error::from_raw_os_error(errno)),
            Exit::Signal(_) | Exit::Unknown => {
                Err(io::Error::other("the process that writes was killed"))
            }
        };
        self.tried(book, result);
    }

    fn tried(&mut self, book: Book, result: io::Result<()>) {
        let (now, path) = (self.clock.now(), self.path_of(book));
        let path = path.display();
        let sentence =
            |error| format!("{path} cannot be written, which says {}: {error}", book.says());
        match self.writer_mut(book).ended(result.map_err(sentence), now) {
            Some(News::Begun(why)) => self.journal.say(&format!("{why}; berth tries again")),
            Some(News::Over) => self.journal.say(&format!("{path} is written again")),
            None => {}
        }
    }

    /// What cannot be written now, a sentence each.
    pub(super) fn unwritten(&self) -> Vec<String> {
        let books = Book::ALL.into_iter().filter_map(|book| self.writer(book).trouble());
        books.chain(self.network.unwritten.as_deref()).map(str::to_owned).collect()
    }

    /// Whether something that is to outlive this supervisor is on its way to the disk.
    pub(super) const fn is_writing(&self) -> bool {
        self.stopped.writer.is_busy() || self.ranges.writer.is_busy()
    }

    /// It ends: what could not be written is tried once more.
    pub(super) const fn write_at_last(&mut self) {
        self.stopped.writer.hurry();
        self.ranges.writer.hurry();
    }

    /// When something is to be written once more.
    pub(super) fn books_deadline(&self) -> Option<Time> {
        let waiting = self.phase != Phase::Booting;
        let books = Book::ALL.into_iter().filter_map(|book| self.writer(book).deadline());
        books.min().filter(|_| waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Time {
        Time(Duration::from_secs(second))
    }

    #[test]
    fn what_failed_is_said_once_and_tried_again_and_that_it_is_over_is_said_too() {
        let failed = || Err("full".to_owned());
        let mut writer = Writer::clean();
        assert!(!writer.begins(at(0)));
        writer.touch();
        assert!(writer.begins(at(0)) && !writer.begins(at(0)));
        // A change while somebody is at it is written by another attempt.
        writer.touch();
        assert!(writer.is_busy() && writer.deadline().is_none());
        assert_eq!(writer.ended(failed(), at(1)), Some(News::Begun("full".to_owned())));
        assert!(!writer.is_busy(), "the end waits for nothing that fails");
        assert_eq!((writer.deadline(), writer.trouble()), (Some(at(6)), Some("full")));
        assert!(!writer.begins(at(5)) && writer.begins(at(6)));
        assert_eq!(writer.ended(failed(), at(6)), None, "it was said");
        writer.hurry();
        assert!(writer.is_busy() && writer.begins(at(7)), "but for a last attempt");
        assert_eq!(writer.ended(failed(), at(7)), None);
        assert!(writer.begins(at(12)));
        assert_eq!(writer.ended(Ok(()), at(12)), Some(News::Over));
        assert_eq!((writer.deadline(), writer.trouble()), (None, None));
        assert!(!writer.begins(at(100)));
        writer.touch();
        assert!(writer.begins(at(100)));
        assert_eq!(writer.ended(Ok(()), at(100)), None, "nothing was wrong");
        writer.touch();
        assert!(writer.begins(at(101)) && writer.ended(failed(), at(101)).is_some(), "news again");
    }
}
