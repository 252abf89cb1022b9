//! `[secret.NAME] file = …`: a file of the host that only its owner may read.
//!
//! What must hold: all that is checked is checked of the file that is then read, by its
//! descriptor. A file to which somebody else could have led berth is refused: another user's
//! link, hard or symbolic, must not make a secret of a file that is none.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::{Trouble, too_long, whole};
use crate::sys::guarded::Guarded;
use crate::sys::path;
use crate::unit::limits::SECRET_BYTES;

/// Reading or writing, by group or others.
const OTHERS: u32 = 0o066;

/// Opens it, if it is fit for a secret.
pub(super) fn open(path: &str) -> Result<File, Trouble> {
    let file = path::open_regular_directly(path).map_err(|error| refusal(path, &error))?;
    let status = file.metadata().map_err(|error| Trouble::of(path, &error))?;
    let (mode, own) = (status.mode() & 0o7777, rustix::process::geteuid().as_raw());
    if status.uid() != 0 && status.uid() != own {
        let text = format!("{path} belongs to user {}, who could change it: chown", status.uid());
        return Err(Trouble(format!("{text} it to root")));
    }
    if mode & OTHERS != 0 {
        let text = format!("others than its owner can read or write {path} (mode {mode:04o})");
        return Err(Trouble(format!("{text}: chmod it to 0600")));
    }
    if status.nlink() > 1 {
        let text = format!("{path} has {} names (hard links), and another", status.nlink());
        return Err(Trouble(format!("{text} could be in reach of others: copy it")));
    }
    let longest = u64::try_from(SECRET_BYTES).unwrap_or(u64::MAX);
    if status.size() > longest { Err(too_long(path)) } else { Ok(file) }
}

pub(super) fn read(path: &str) -> Result<Guarded, Trouble> {
    let file = open(path)?;
    whole(&file, SECRET_BYTES).map_err(|error| Trouble::of(path, &error))
}

fn refusal(path: &str, error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EINVAL) => Trouble(format!("{path} is not a regular file")),
        Some(libc::ELOOP) => {
            let text = format!("a part of {path} is a symbolic link: write the path");
            Trouble(format!("{text} that it leads to"))
        }
        _ => Trouble::of(path, error),
    }
}
