//! Output of services: the logger process, the files' format, reading and following them.
//!
//! What must always hold: no byte leaves a service's pipe before it is in the file, unless
//! that cannot be written: then it is held or counted as lost (`outage`), for no service waits
//! for a full disk; the files of a unit never grow past `max-size` times `max-files`; a reader is never
//! stopped by a damaged file, and never misses a line because of rotation unless it is
//! slower than everything that is kept.
//!
//! Who talks to whom: berth forks the logger ([`logger::run`]) and hands it the read end
//! of every pipe over a [`channel::Channel`]. The logger writes [`record`]s into
//! `DIRECTORY/UNIT/current` by way of `store`. Readers ([`read::read`]) know only the
//! files; they never talk to the logger.

mod chain;
pub mod channel;
mod console;
mod follow;
mod join;
pub mod logger;
mod merge;
mod outage;
mod outbox;
mod pump;
pub mod read;
pub mod record;
pub mod render;
pub mod since;
mod source;
mod store;
mod tail;
mod watch;

pub use channel::{Channel, FromLogger, Received, ToLogger};
pub use read::{Entry, LogError, Query, read};
pub use record::Stream;
pub use since::parse_since;

/// Whether a name can be a directory below the logs. The reader of unit files has already
/// refused all others; this is what keeps a mistake there from writing elsewhere.
fn is_unit_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.starts_with('.') && !name.contains(['/', '\0'])
}
