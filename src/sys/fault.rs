//! Faults of this very process (SIGSEGV, SIGBUS, SIGILL, SIGFPE, and SIGABRT, in which a panic
//! and a failed allocation end): instead of ending it executes its program again.
//!
//! What must always hold: nothing in the handler touches the heap or anything that the
//! program was at work on, because that is what may be broken; it runs on a stack of its own,
//! because the other may be full; and it does so only in the process that has asked for it,
//! not in a child: what it needs is in a page that forked children find empty
//! (`MADV_WIPEONFORK`). Signals that others send are not faults and mean nothing.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::identity::Strings;

/// The signals, and what the successor is told.
pub const FAULTS: [(i32, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];

/// The handler's stack; the kernel puts the registers there, some kilobytes of them.
const STACK: usize = 64 * 1024;

/// The page before it.
const PAGE: usize = 4096;

/// How often a process tries to execute, once in [`PAUSE`]. Process 1 never gives up, but
/// reaps meanwhile from then on.
const TRIES: u32 = 100;

/// Memory may be short just now.
static PAUSE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What the handler knows. All zero in a child.
#[repr(C)]
struct Prepared {
    /// The process that has asked for it.
    pid: i32,
    /// What the successor reads.
    record: i32,
    /// argv for each of [`FAULTS`]; they live as long as the process.
    arguments: [*const *const libc::c_char; FAULTS.len()],
}

/// The page; null until [`arm`].
static PREPARED: AtomicPtr<Prepared> = AtomicPtr::new(null_mut());

unsafe extern "C" {
    /// The environment of this process, environ(7).
    static environ: *const *const libc::c_char;
}

/// From now on a fault executes this program again as `NAME OPTION RECORD SIGNAL`, RECORD being
/// the number of that descriptor, which has to stay open. Called again it takes the new one.
///
/// # Errors
/// As mmap(2), sigaltstack(2) and sigaction(2).
pub fn arm(name: &str, option: &str, record: BorrowedFd<'_>) -> io::Result<()> {
    let page = match PREPARED.load(Ordering::Relaxed) {
        page if page.is_null() => map()?,
        page => page,
    };
    let mut arguments = [null(); FAULTS.len()];
    for (place, (_, signal)) in arguments.iter_mut().zip(FAULTS) {
        let number = record.as_raw_fd().to_string();
        let words = [name, option, &number, signal].map(CString::new);
        let words = words.into_iter().collect::<Result<Vec<_>, _>>()?;
        // Once in the life of a program, and needed to its end.
        *place = Box::leak(Box::new(Strings::new(words))).as_ptr();
    }
    let prepared =
        Prepared { pid: std::process::id().cast_signed(), record: record.as_raw_fd(), arguments };
    // SAFETY: the page is as large, aligned, writable and never unmapped; no other thread and
    // no handler that is at work reads it now.
    unsafe { page.write(prepared) };
    PREPARED.store(page, Ordering::Relaxed);
    go_on()
}

/// After all signals were blocked or got their default dispositions: those of [`FAULTS`] are
/// handled again, if this is the process that has asked for it.
///
/// # Errors
/// As sigaction(2).
pub(super) fn go_on() -> io::Result<()> {
    if !is_armed() {
        return Ok(());
    }
    FAULTS.iter().try_for_each(|(signal, _)| handle(*signal))?;
    super::signal::unblock(FAULTS.map(|(signal, _)| signal))
}

/// Whether a fault of this process would be answered that way.
pub fn is_armed() -> bool {
    let page = PREPARED.load(Ordering::Relaxed);
    // SAFETY: null, or the page of `arm`, which is readable for ever.
    let pid = unsafe { page.as_ref() }.map_or(0, |prepared| prepared.pid);
    pid == std::process::id().cast_signed()
}

/// The page and the stack, which the kernel is told of.
fn map() -> io::Result<*mut Prepared> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let length = PAGE.saturating_add(STACK);
    // SAFETY: a new mapping, anywhere.
    let start = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the first page of it.
    super::check(unsafe { libc::madvise(start, PAGE, libc::MADV_WIPEONFORK) })?;
    let stack = libc::stack_t { ss_sp: start.wrapping_byte_add(PAGE), ss_flags: 0, ss_size: STACK };
    // SAFETY: the rest of it, which nobody else uses and which is never unmapped.
    super::check(unsafe { libc::sigaltstack(&raw const stack, null_mut()) })?;
    Ok(start.cast())
}

fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = faulted as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: a handler of the kind that SA_SIGINFO asks for, which keeps to what may be
    // called there (signal-safety(7)).
    super::check(unsafe { libc::sigaction(signal, &raw const action, null_mut()) }).map(drop)
}

/// The handler.
extern "C" fn faulted(signal: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
    let page = PREPARED.load(Ordering::Relaxed);
    // SAFETY: no pointers.
    let own = unsafe { libc::getpid() };
    // SAFETY: the kernel hands over a valid structure; who has sent it is filled in when the
    // code says that somebody has.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    let sent_by_another = code <= 0 && sender != own;
    // SAFETY: as in `is_armed`.
    match unsafe { page.as_ref() } {
        Some(prepared) if prepared.pid == own => {
            if !sent_by_another {
                again(prepared, signal);
                end(signal);
            }
        }
        // A child, which has no more to it than the signal says.
        _ => end(signal),
    }
}

/// Executes; comes back when that is not to be.
fn again(prepared: &Prepared, signal: i32) {
    let known = FAULTS.iter().position(|(it, _)| *it == signal);
    let Some(arguments) = known.and_then(|index| prepared.arguments.get(index)) else { return };
    let mut tries = 0_u32;
    while prepared.pid == 1 || tries < TRIES {
        // SAFETY: the path, the arguments, which were leaked, and the environment live on;
        // none of the calls takes a lock or memory.
        unsafe {
            libc::fcntl(prepared.record, libc::F_SETFD, 0);
            libc::execve(c"/proc/self/exe".as_ptr(), *arguments, environ);
            libc::nanosleep(&raw const PAUSE, null_mut());
            // Process 1 has nobody else to do it, however long this takes.
            while tries >= TRIES && libc::waitpid(-1, null_mut(), libc::WNOHANG) > 0 {}
        }
        tries = tries.saturating_add(1);
    }
}

/// Ends this process by that signal once the handler returns.
fn end(signal: i32) {
    // SAFETY: the default disposition; a signal to this thread, which is then blocked or not
    // as it was, and ends it.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
