//! The kernel's choice of whom to kill when memory is short (`proc_pid_oom_score_adj(5)`):
//! process 1 is never it, and its children do not inherit that.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use super::namespace;

const FILE: &str = "/proc/self/oom_score_adj";

const FILE_C: &CStr = c"/proc/self/oom_score_adj";

/// Never.
const NEVER: &str = "-1000";

/// What children get back; [`NOT_PROTECTED`] where nothing was changed.
static BEFORE: AtomicI32 = AtomicI32::new(NOT_PROTECTED);

const NOT_PROTECTED: i32 = i32::MIN;

/// From now on this process is never chosen; its score before that.
///
/// # Errors
/// As write(2): `EACCES` without `CAP_SYS_RESOURCE`.
pub fn protect() -> io::Result<i32> {
    let before = fs::read_to_string(FILE)?.trim().parse().unwrap_or(0);
    fs::write(FILE, NEVER)?;
    BEFORE.store(before, Ordering::Relaxed);
    Ok(before)
}

/// This program was executed by one that has called [`protect`], and this was the score.
pub fn is_protected_already(before: i32) {
    BEFORE.store(before, Ordering::Relaxed);
}

/// In a child: what counted before [`protect`] counts again. Costs nothing where that was
/// not called.
///
/// # Errors
/// As write(2).
pub fn expose() -> io::Result<()> {
    match BEFORE.load(Ordering::Relaxed) {
        NOT_PROTECTED => Ok(()),
        before => fs::write(FILE, before.to_string()),
    }
}

/// What becomes of the score of a child that shares this process' memory.
#[derive(Debug)]
pub enum Shared {
    /// Nothing has to be done.
    Unchanged,
    /// The child writes this to this file, and is exposed like every other.
    Expose(&'static CStr, CString),
    /// That would expose this process as well.
    Impossible,
}

/// [`expose`] for such a child. The kernel gives a new score to all that share the memory,
/// only never to process 1 of the machine (`__set_oom_adj` of fs/proc/base.c). Who else may
/// share it is another such child, whose score is the same.
pub fn shared() -> Shared {
    let before = match BEFORE.load(Ordering::Relaxed) {
        NOT_PROTECTED => return Shared::Unchanged,
        before => before.to_string(),
    };
    match CString::new(before) {
        Ok(before) if namespace::is_first_process() => Shared::Expose(FILE_C, before),
        _ => Shared::Impossible,
    }
}
