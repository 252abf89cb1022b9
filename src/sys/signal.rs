//! Signals: the supervisor takes all of them from a descriptor, its children start clean.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Highest signal number of the kernel.
pub const HIGHEST: i32 = 64;

/// A set of signals as the kernel has it, one bit each. libc's own sets leave out the two
/// signals that it uses for threads (32 and 33): somebody who sends us one would end us.
type Set = u64;

/// Every signal. SIGKILL and SIGSTOP in it mean nothing.
const FULL: Set = Set::MAX;

/// None.
const EMPTY: Set = 0;

/// Whether [`block_all`] was called: nothing in this program sets a disposition, before or
/// after, but the runtime of the language before `main`.
static ALL_DEFAULT: AtomicBool = AtomicBool::new(false);

/// Sets every disposition to the default (so that no child inherits an ignored signal, and
/// children do not vanish unreaped), blocks every signal in this thread and returns a descriptor (non-blocking,
/// close-on-exec) from which they are read. SIGKILL and SIGSTOP cannot be blocked;
/// faults of this process itself (SIGSEGV and its like) still end it, unless [`super::fault`]
/// is armed.
///
/// # Errors
/// As signalfd(2) and sigaction(2).
pub fn block_all() -> io::Result<OwnedFd> {
    mask(FULL)?;
    reset_dispositions();
    ALL_DEFAULT.store(true, Ordering::Relaxed);
    super::fault::go_on()?;
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    let set = FULL;
    // SAFETY: the set has the size that is said, and lives through the call.
    let fd = super::check_long(unsafe {
        libc::syscall(libc::SYS_signalfd4, -1, &raw const set, size_of::<Set>(), flags)
    })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// These are delivered from now on: for [`super::fault`], which handles them.
///
/// # Errors
/// As sigprocmask(2).
pub(super) fn unblock<const N: usize>(signals: [i32; N]) -> io::Result<()> {
    let bit = |signal: i32| 1_u64.checked_shl(signal.unsigned_abs().wrapping_sub(1)).unwrap_or(0);
    change(libc::SIG_UNBLOCK, signals.map(bit).iter().fold(EMPTY, |set, bit| set | bit))
}

/// For a helper process that ends by itself: blocks every signal that can be blocked, so
/// that a terminal's Ctrl-C is the supervisor's alone and a broken pipe is an error.
///
/// Only faults of this process are still handled where [`super::fault`] is armed for it.
///
/// # Errors
/// As sigprocmask(2).
pub fn ignore_all() -> io::Result<()> {
    block()?;
    super::fault::go_on()
}

/// Blocks every signal in the calling thread.
pub(super) fn block() -> io::Result<()> {
    mask(FULL)
}

/// Whether [`block_all`] was called: no signal reaches this process but by its descriptor.
pub fn are_blocked() -> bool {
    ALL_DEFAULT.load(Ordering::Relaxed)
}

/// The number of the next signal of a descriptor of [`block_all`]; `None`: there is none now.
///
/// # Errors
/// As read(2).
pub fn take(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has `size` bytes.
    let count = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    let Ok(count) = usize::try_from(count) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    if count != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the kernel has filled in the whole structure.
    let info = unsafe { info.assume_init() };
    Ok(Some(info.ssi_signo.cast_signed()))
}

/// In a child: every disposition back to the default, nothing blocked.
///
/// # Errors
/// As sigprocmask(2).
pub fn reset() -> io::Result<()> {
    // A child of a supervisor that takes all of them from a descriptor has nothing to
    // reset, which saves it 62 system calls.
    if !ALL_DEFAULT.load(Ordering::Relaxed) {
        reset_dispositions();
    }
    mask(EMPTY)
}

/// Every disposition back to the default. By the kernel's own call, because libc refuses
/// the two signals that it uses for threads, and those can be inherited as ignored too.
fn reset_dispositions() {
    for signal in 1..=HIGHEST {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            // An error (a number that does not exist) leaves nothing to reset.
            let _ = dispose(signal, libc::SIG_DFL);
        }
    }
}

/// Children of the calling process that end from now on leave nothing to be reaped, nor do
/// those of the program that it executes: signal(7), wait(2).
///
/// # Errors
/// As sigaction(2).
pub fn leave_children() -> io::Result<()> {
    dispose(libc::SIGCHLD, libc::SIG_IGN)
}

/// From now on a signal is ignored, or does what it does by default.
fn dispose(signal: i32, to: libc::sighandler_t) -> io::Result<()> {
    // `struct sigaction` of the kernel: a handler, no flags, no mask.
    let action = [to as u64, 0, 0, 0];
    // SAFETY: the structure lives through the call and names no function.
    super::check_long(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            std::ptr::null::<u64>(),
            size_of::<u64>(),
        )
    })
    .map(drop)
}

/// The calling process gets SIGKILL when the thread that made it ends. `parent` is its
/// number, to notice that it has ended already.
///
/// # Errors
/// `ESRCH` when the parent is gone; as prctl(2).
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    super::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Sends a signal to a process group or process by number: only where the number is
/// known to be ours (an unreaped child, or the group it leads).
///
/// # Errors
/// As kill(2).
pub fn send_to_group(group: i32, signal: i32) -> io::Result<()> {
    if group <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no pointers.
    super::check(unsafe { libc::kill(group.saturating_neg(), signal) }).map(drop)
}

/// Sends a signal to every process this one may signal but itself: for process 1 at its end.
///
/// # Errors
/// As kill(2); that there is nobody left is none.
pub fn send_to_all(signal: i32) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: no pointers.
    match super::check(unsafe { libc::kill(-1, signal) }) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// Takes the next of the signals that are blocked, waiting at most so long for it; `None`:
/// none has come.
///
/// # Errors
/// As sigtimedwait(2).
pub fn wait(patience: Duration) -> io::Result<Option<i32>> {
    let set = FULL;
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(patience.subsec_nanos().cast_signed()),
    };
    // SAFETY: the set has the size that is said; both live through the call; no information
    // about the signal is asked for.
    let result = super::check_long(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set,
            std::ptr::null_mut::<libc::siginfo_t>(),
            &raw const time,
            size_of::<Set>(),
        )
    });
    match result {
        Ok(signal) => Ok(i32::try_from(signal).ok()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(None),
            _ => Err(error),
        },
    }
}

fn mask(set: Set) -> io::Result<()> {
    change(libc::SIG_SETMASK, set)
}

fn change(how: i32, set: Set) -> io::Result<()> {
    // SAFETY: the set has the size that is said, and lives through the call; no old one is
    // asked for.
    super::check_long(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const set,
            std::ptr::null_mut::<Set>(),
            size_of::<Set>(),
        )
    })
    .map(drop)
}
