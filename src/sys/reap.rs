//! Waiting for children, by one reaper: look first, reap by number after.
//!
//! `peek` leaves the process a zombie, so its number cannot be given to another while
//! whoever owns it looks it up; `reap` then takes it away.

use std::io;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// An ended child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// Its number.
    pub pid: i32,
    /// How.
    pub ended: Ended,
}

/// One child that has ended and is not reaped; `None`: there is none now (also when there
/// are no children at all). Never waits. Asked twice it may name the same one twice.
///
/// # Errors
/// As waitid(2).
pub fn peek() -> io::Result<Option<Dead>> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Reaps the child with this number if it has ended.
///
/// # Errors
/// As waitid(2); no such child is `Ok(None)`.
pub fn reap(pid: i32) -> io::Result<Option<Dead>> {
    wait(libc::P_PID, pid.unsigned_abs(), libc::WEXITED | libc::WNOHANG)
}

/// Whether there is a child at all, ended or not.
///
/// # Errors
/// As waitid(2).
pub fn any() -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the structure lives through the call.
    match super::check(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(false),
        Err(error) => Err(error),
    }
}

fn wait(kind: libc::idtype_t, id: u32, options: i32) -> io::Result<Option<Dead>> {
    loop {
        // SAFETY: all-zero bytes are a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the structure lives through the call.
        match super::check(unsafe { libc::waitid(kind, id, &raw mut info, options) }) {
            Ok(_) => return Ok(read(&info)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ECHILD) => return Ok(None),
                Some(libc::EINTR) => {}
                _ => return Err(error),
            },
        }
    }
}

fn read(info: &libc::siginfo_t) -> Option<Dead> {
    // SAFETY: waitid(2) fills in pid and status, or leaves both zero when there is nothing.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return None;
    }
    let ended =
        if info.si_code == libc::CLD_EXITED { Ended::Code(status) } else { Ended::Signal(status) };
    Some(Dead { pid, ended })
}

/// Makes this process the one that orphans of its descendants are given to, where it is
/// not process 1.
///
/// # Errors
/// As prctl(2).
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: no pointers.
    super::check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}
