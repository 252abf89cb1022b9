//! The supervisor's side: places on which children live until they execute.

use std::arch::asm;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Script, child};
use crate::sys::clone::{Arguments, Process};

/// Children that may be on their way at once.
const PLACES: usize = 64;

/// Places whose memory is kept: a restart now and then takes the first.
const FEW: usize = 4;

/// Bytes of one place: the stack, of which a child uses a few hundred bytes, and above it
/// the word that the kernel clears.
const SIZE: usize = 8192;

/// Bytes at the top of a place that are not stack.
const TOP: usize = 64;

/// Below the lowest place: touched, it ends the child.
const GUARD: usize = 4096;

/// The supervisor's memory that such children use.
#[derive(Debug)]
pub struct Nest {
    /// Of the lowest place. The mapping stays as long as the process.
    base: *mut u8,
    places: Vec<Place>,
    launched: u64,
}

#[derive(Debug, Default)]
struct Place {
    /// What the child reads.
    script: Option<Box<Script>>,
    pid: i32,
}

impl Nest {
    /// Reserves addresses; memory is taken when it is used.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new() -> io::Result<Self> {
        let length = PLACES.wrapping_mul(SIZE).wrapping_add(GUARD);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the lowest part of the new mapping.
        crate::sys::check(unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) })?;
        // SAFETY: all of the new mapping. Forks have no use for it.
        crate::sys::check(unsafe { libc::madvise(base, length, libc::MADV_DONTFORK) })?;
        let base = base.cast::<u8>().wrapping_add(GUARD);
        let places = (0..PLACES).map(|_| Place::default()).collect();
        Ok(Self { base, places, launched: 0 })
    }

    /// Whether one can be made now.
    pub fn has_place(&mut self) -> bool {
        self.free().is_some()
    }

    /// Makes a child of a script, in a cgroup if there is one.
    ///
    /// # Errors
    /// As clone3(2); `EAGAIN` without a place.
    pub fn launch(
        &mut self,
        script: Script,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<Process> {
        let index = self.free().ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
        let start = self.start(index);
        let Some(place) = self.places.get_mut(index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let script: &Script = place.script.insert(Box::new(script));
        let top = start.wrapping_add(SIZE - TOP);
        word(top).store(1, Ordering::Release);
        let mut pidfd: libc::c_int = -1;
        let arguments = Arguments {
            flags: flags(cgroup.is_some()),
            pidfd: (&raw mut pidfd) as u64,
            child_tid: top as u64,
            exit_signal: libc::SIGCHLD.unsigned_abs().into(),
            stack: start as u64,
            stack_size: (SIZE - TOP) as u64,
            cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd().unsigned_abs().into()),
            ..Arguments::default()
        };
        // SAFETY: the stack is a place that nobody uses: its word was 0, or its child has
        // been reaped. The script stays in the place until that is so again. All signals
        // are blocked, so nothing else runs on that stack.
        let result = unsafe { clone(&arguments, script) };
        if result < 0 {
            word(top).store(0, Ordering::Release);
            place.script = None;
            return Err(error(result));
        }
        place.pid = i32::try_from(result).unwrap_or_default();
        self.launched = self.launched.saturating_add(1);
        // SAFETY: the kernel has stored a new descriptor, owned by nobody else.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Process { pid: place.pid, pidfd })
    }

    /// How many children were made.
    pub fn launched(&self) -> u64 {
        self.launched
    }

    /// This child is about to be reaped: it runs no more.
    pub fn ended(&mut self, pid: i32) {
        let index = self.places.iter().position(|place| place.pid == pid);
        if let Some(index) = index {
            // The kernel has cleared it, unless it was busy writing a core file.
            word(self.start(index).wrapping_add(SIZE - TOP)).store(0, Ordering::Release);
        }
    }

    /// After many at once, and with nobody on the way: gives the memory back. Whether
    /// there was such.
    pub fn slim(&mut self) -> bool {
        // The lowest places are used first.
        if self.places.get(FEW).is_none_or(|place| place.pid == 0) {
            return false;
        }
        let busy = |index| word(self.start(index).wrapping_add(SIZE - TOP));
        if (0..PLACES).any(|index| busy(index).load(Ordering::Acquire) != 0) {
            return false;
        }
        self.places.iter_mut().for_each(|place| *place = Place::default());
        let length = PLACES.wrapping_mul(SIZE);
        // SAFETY: no child runs on it, and what it holds is not read again. Zeroes, as
        // come back, are words that say so.
        unsafe { libc::madvise(self.base.cast(), length, libc::MADV_DONTNEED) };
        true
    }

    /// A place whose child is through.
    fn free(&mut self) -> Option<usize> {
        let index = (0..PLACES).find(|&index| {
            let top = self.start(index).wrapping_add(SIZE - TOP);
            word(top).load(Ordering::Acquire) == 0
        })?;
        *self.places.get_mut(index)? = Place::default();
        Some(index)
    }

    fn start(&self, index: usize) -> *mut u8 {
        self.base.wrapping_add(index.wrapping_mul(SIZE))
    }
}

fn flags(cgroup: bool) -> u64 {
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID;
    let flags = u64::from(flags.unsigned_abs()) | crate::sys::clone::CLONE_PIDFD;
    if cgroup { flags | crate::sys::clone::CLONE_INTO_CGROUP } else { flags }
}

fn error(result: isize) -> io::Error {
    io::Error::from_raw_os_error(i32::try_from(result.wrapping_neg()).unwrap_or(libc::EIO))
}

/// The word of a place, 0 when its child does not use it any more.
fn word(top: *mut u8) -> &'static AtomicU32 {
    #[expect(clippy::cast_ptr_alignment, reason = "places begin at pages, TOP is a multiple of 4")]
    let word = top.cast::<AtomicU32>();
    // SAFETY: aligned, in a mapping that stays; only ever used as an atomic, by this
    // process and the kernel.
    unsafe { &*word }
}

/// clone3(2) with a stack: the child goes on in [`child::live`].
///
/// # Safety
/// The stack is used by nobody, and stays so, and the script as it is, until the child has
/// executed or ended.
unsafe fn clone(arguments: &Arguments, script: &Script) -> isize {
    let result: isize;
    // SAFETY: the caller's, for stack and script. The child never comes back here: its
    // stack is another one, and `child::live` does not return.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call {live}",
            "ud2",
            "2:",
            live = sym child::live,
            in("r12") ptr::from_ref(script),
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(arguments),
            in("rsi") size_of::<Arguments>(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}
