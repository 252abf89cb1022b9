//! Children that share this process' memory until they execute their program.
//!
//! A fork copies the page tables of the supervisor, makes both sides fault on every page
//! they write afterwards, and takes the copy apart again: two thirds of what a plain start
//! costs, and more the more units there are. `CLONE_VM` does without. What must hold, as
//! nothing in the language sees to it:
//!
//! - the child runs [`live`] and what that calls, on a stack of its own: only system calls
//!   prepared by the supervisor; no allocation, no libc, no thread-local, no panic;
//! - what it reads (its [`Script`]) stays as it is until the kernel says that it has left the
//!   memory (`CLONE_CHILD_CLEARTID`) or it has been reaped;
//! - it changes nothing that belongs to the memory and not to it: `PR_SET_DUMPABLE`,
//!   `oom_score_adj`, a user that is not the supervisor's;
//! - it is in no cgroup with a limit of memory: an out-of-memory kill takes everybody who
//!   shares the memory (see [`crate::container`]'s `express`).

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use super::clone::Process;
use super::identity::Strings;
use super::limits::Resource;

/// One thing that a child does before its program.
#[derive(Debug)]
pub enum Call {
    /// Own descriptors instead of the shared ones, and only those below this number.
    Unshare(u32),
    /// One byte into a descriptor.
    Write(RawFd, u8),
    /// The second number refers to what the first does, inherited by programs.
    Place(RawFd, RawFd),
    /// Closes all from the first number to the second.
    Close(u32, u32),
    /// setsid(2).
    Session,
    /// Soft and hard limit.
    Limit(Resource, [u64; 2]),
    /// setpriority(2).
    Nice(i32),
    /// umask(2).
    Umask(u32),
    /// No supplementary groups.
    NoGroups,
    /// chdir(2).
    Directory(CString),
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// No signal is blocked.
    Unblock,
}

/// A child's whole life.
#[derive(Debug)]
pub struct Script {
    /// One after the other, each with what names it in a [`Word::Failed`].
    pub calls: Vec<(Call, [u8; 3])>,
    /// The child's end of a socket to the supervisor.
    pub channel: RawFd,
    /// Where the program may be.
    pub candidates: Vec<CString>,
    /// Its arguments.
    pub argv: Strings,
    /// Its environment.
    pub envp: Strings,
}

/// What such a child says on its channel, in this form: its kind, three bytes, errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// The program is executed next. This one is a single byte.
    Executing = b'X',
    /// A call failed: its name.
    Failed = b'F',
    /// The program cannot be executed: the number of the candidate ([`NOWHERE`]: there is
    /// none), a zero, and behind errno the beginning of the file, when that is there and
    /// errno says that something is not.
    Unusable = b'U',
}

/// No candidate exists.
pub const NOWHERE: u16 = u16::MAX;

/// As much of a file as tells its interpreter.
pub const HEAD: usize = 256;

/// Exit code of a child that could not become its program.
const FAILED: usize = 125;

#[cfg(target_arch = "x86_64")]
pub use here::Nest;
#[cfg(not(target_arch = "x86_64"))]
pub use nowhere::Nest;

/// Where it is not written for: every child is a fork.
#[cfg(not(target_arch = "x86_64"))]
mod nowhere {
    use super::{Process, Script, io};
    use std::os::fd::BorrowedFd;

    /// No places.
    #[derive(Debug)]
    pub struct Nest;

    impl Nest {
        /// Nothing.
        ///
        /// # Errors
        /// None.
        pub fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// There is no place.
        pub fn has_place(&mut self) -> bool {
            false
        }

        /// Makes nothing.
        ///
        /// # Errors
        /// Always.
        pub fn launch(&mut self, _: Script, _: Option<BorrowedFd<'_>>) -> io::Result<Process> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Nothing.
        pub fn ended(&mut self, _: i32) {}

        /// Nothing.
        pub fn slim(&mut self) -> bool {
            false
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod here {
    use std::arch::asm;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use std::ptr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Call, FAILED, HEAD, NOWHERE, Process, Resource, Script, Word, io};
    use crate::sys::clone::Arguments;

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
            super::super::check(unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) })?;
            // SAFETY: all of the new mapping. Forks have no use for it.
            super::super::check(unsafe { libc::madvise(base, length, libc::MADV_DONTFORK) })?;
            let base = base.cast::<u8>().wrapping_add(GUARD);
            let places = (0..PLACES).map(|_| Place::default()).collect();
            Ok(Self { base, places })
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
            // SAFETY: the kernel has stored a new descriptor, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Process { pid: place.pid, pidfd })
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
        let flags = u64::from(flags.unsigned_abs()) | super::super::clone::CLONE_PIDFD;
        if cgroup { flags | super::super::clone::CLONE_INTO_CGROUP } else { flags }
    }

    fn error(result: isize) -> io::Error {
        io::Error::from_raw_os_error(i32::try_from(result.wrapping_neg()).unwrap_or(libc::EIO))
    }

    /// The word of a place, 0 when its child does not use it any more.
    fn word(top: *mut u8) -> &'static AtomicU32 {
        // SAFETY: aligned, in a mapping that stays; only ever used as an atomic, by this
        // process and the kernel.
        unsafe { &*top.cast::<AtomicU32>() }
    }

    /// clone3(2) with a stack: the child goes on in [`live`].
    unsafe fn clone(arguments: &Arguments, script: &Script) -> isize {
        let result: isize;
        // SAFETY: the caller's, for stack and script. The child never comes back here: its
        // stack is another one, and `live` does not return.
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
                live = sym live,
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

    /// A child's life.
    extern "C" fn live(script: &Script) -> ! {
        for (call, name) in &script.calls {
            let result = carry_out(call);
            if result < 0 {
                say(script, Word::Failed, *name, result, &[]);
                leave();
            }
        }
        send(script.channel, &[Word::Executing as u8]);
        execute(script);
        leave()
    }

    fn leave() -> ! {
        loop {
            system_call(libc::SYS_exit_group, [FAILED, 0, 0, 0, 0]);
        }
    }

    fn number(value: i32) -> usize {
        value as isize as usize
    }

    fn carry_out(call: &Call) -> isize {
        match call {
            Call::Unshare(end) => {
                let flags = libc::CLOSE_RANGE_UNSHARE as usize;
                let last = u32::MAX as usize;
                system_call(libc::SYS_close_range, [*end as usize, last, flags, 0, 0])
            }
            Call::Write(fd, byte) => {
                let byte = ptr::from_ref(byte).addr();
                system_call(libc::SYS_write, [number(*fd), byte, 1, 0, 0])
            }
            Call::Place(from, to) => {
                system_call(libc::SYS_dup3, [number(*from), number(*to), 0, 0, 0])
            }
            Call::Close(first, last) => {
                let range = [*first as usize, *last as usize, 0, 0, 0];
                system_call(libc::SYS_close_range, range)
            }
            Call::Session => system_call(libc::SYS_setsid, [0; 5]),
            Call::Limit(resource, values) => {
                let which = resource.number() as usize;
                let values = values.as_ptr().addr();
                system_call(libc::SYS_prlimit64, [0, which, values, 0, 0])
            }
            Call::Nice(value) => {
                let which = libc::PRIO_PROCESS as usize;
                system_call(libc::SYS_setpriority, [which, 0, number(*value), 0, 0])
            }
            Call::Umask(mask) => system_call(libc::SYS_umask, [*mask as usize, 0, 0, 0, 0]),
            Call::NoGroups => system_call(libc::SYS_setgroups, [0; 5]),
            Call::Directory(path) => {
                system_call(libc::SYS_chdir, [path.as_ptr().addr(), 0, 0, 0, 0])
            }
            Call::NoNewPrivileges => {
                let option = number(libc::PR_SET_NO_NEW_PRIVS);
                system_call(libc::SYS_prctl, [option, 1, 0, 0, 0])
            }
            Call::Unblock => {
                let none = 0_u64;
                let (how, set) = (number(libc::SIG_SETMASK), (&raw const none).addr());
                system_call(libc::SYS_rt_sigprocmask, [how, set, 0, size_of::<u64>(), 0])
            }
        }
    }

    /// Tries the candidates; comes back when none was executed.
    fn execute(script: &Script) {
        let (argv, envp) = (script.argv.as_ptr().addr(), script.envp.as_ptr().addr());
        let mut last = (NOWHERE, -(libc::ENOENT as isize));
        for (index, candidate) in script.candidates.iter().enumerate() {
            let index = index as u16;
            let path = candidate.as_ptr().addr();
            let result = system_call(libc::SYS_execve, [path, argv, envp, 0, 0]);
            match i32::try_from(result.wrapping_neg()) {
                Ok(libc::ENOENT) => {
                    let exists = system_call(libc::SYS_access, [path, 0, 0, 0, 0]) == 0;
                    if exists {
                        let mut head = [0; HEAD];
                        let head = read_head(path, &mut head);
                        return unusable(script, index, result, head);
                    }
                }
                Ok(libc::ENOTDIR) => {}
                Ok(libc::EACCES) => last = (index, result),
                _ => return unusable(script, index, result, &[]),
            }
        }
        unusable(script, last.0, last.1, &[]);
    }

    fn unusable(script: &Script, index: u16, result: isize, head: &[u8]) {
        let [low, high] = index.to_le_bytes();
        say(script, Word::Unusable, [low, high, 0], result, head);
    }

    /// The first bytes of a regular file.
    fn read_head(path: usize, head: &mut [u8; HEAD]) -> &[u8] {
        let flags = number(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
        let fd = system_call(libc::SYS_open, [path, flags, 0, 0, 0]);
        if fd < 0 {
            return &[];
        }
        let buffer = head.as_mut_ptr().addr();
        let count = system_call(libc::SYS_read, [fd.unsigned_abs(), buffer, HEAD, 0, 0]);
        head.get(..usize::try_from(count).unwrap_or(0)).unwrap_or(&[])
    }

    /// Sends a word, its name, the errno of a result and some bytes of a file.
    fn say(script: &Script, word: Word, name: [u8; 3], result: isize, head: &[u8]) {
        let mut message = [0; 8 + HEAD];
        let errno = (result.wrapping_neg() as i32).to_le_bytes();
        let [a, b, c] = name;
        let start = [word as u8, a, b, c].into_iter().chain(errno);
        let bytes = start.chain(head.iter().copied());
        for (to, byte) in message.iter_mut().zip(bytes) {
            *to = byte;
        }
        let length = head.len().wrapping_add(8);
        send(script.channel, message.get(..length).unwrap_or(&message));
    }

    /// If this fails, the supervisor sees the end without a word, which it reports.
    fn send(fd: i32, bytes: &[u8]) {
        let (start, flags) = (bytes.as_ptr().addr(), number(libc::MSG_NOSIGNAL));
        system_call(libc::SYS_sendto, [number(fd), start, bytes.len(), flags, 0]);
    }

    impl Resource {
        fn number(self) -> u32 {
            match self {
                Self::AddressSpace => libc::RLIMIT_AS,
                Self::Cpu => libc::RLIMIT_CPU,
                Self::Files => libc::RLIMIT_NOFILE,
                Self::Processes => libc::RLIMIT_NPROC,
                Self::Core => libc::RLIMIT_CORE,
            }
        }
    }

    /// A system call by its own means: libc would store errno in the supervisor's.
    fn system_call(number: libc::c_long, arguments: [usize; 5]) -> isize {
        let [a, b, c, d, e] = arguments;
        let result: isize;
        // SAFETY: only called above, with pointers that live through the call and lengths
        // that are theirs.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") 0,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}
