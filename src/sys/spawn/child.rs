//! The child's side. Nothing here allocates, calls libc, or could panic; the supervisor
//! runs on the same memory at the same time.

use std::arch::asm;
use std::ffi::CStr;
use std::ptr;

use libc::c_long;

use super::{Call, HEAD, NOWHERE, Script, Word};

/// Exit code of a child that could not become its program.
const FAILED: usize = 125;

/// A child's life.
pub(super) extern "C" fn live(script: &Script) -> ! {
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
    (value as isize).cast_unsigned()
}

fn carry_out(call: &Call) -> c_long {
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
        Call::Text(path, text) => write_text(path.as_ptr().addr(), text),
        Call::Place(from, to) => system_call(libc::SYS_dup3, [number(*from), number(*to), 0, 0, 0]),
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
        Call::Directory(path) => system_call(libc::SYS_chdir, [path.as_ptr().addr(), 0, 0, 0, 0]),
        Call::Keyring => {
            // KEYCTL_JOIN_SESSION_KEYRING, without a name.
            let joined = system_call(libc::SYS_keyctl, [1, 0, 0, 0, 0]);
            match i32::try_from(joined.wrapping_neg()) {
                Ok(libc::ENOSYS | libc::EPERM) => 0,
                _ => joined,
            }
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

fn write_text(path: usize, text: &CStr) -> c_long {
    let flags = number(libc::O_WRONLY | libc::O_NOCTTY | libc::O_CLOEXEC);
    let file = system_call(libc::SYS_open, [path, flags, 0, 0, 0]);
    let Ok(fd) = usize::try_from(file) else { return file };
    let (start, length) = (text.as_ptr().addr(), text.count_bytes());
    let written = system_call(libc::SYS_write, [fd, start, length, 0, 0]);
    system_call(libc::SYS_close, [fd, 0, 0, 0, 0]);
    written
}

/// Tries the candidates; comes back when none was executed.
fn execute(script: &Script) {
    let (argv, envp) = (script.argv.as_ptr().addr(), script.envp.as_ptr().addr());
    let mut last = (NOWHERE, c_long::from(libc::ENOENT).wrapping_neg());
    for (index, candidate) in script.candidates.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or(NOWHERE);
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

fn unusable(script: &Script, index: u16, result: c_long, head: &[u8]) {
    let [low, high] = index.to_le_bytes();
    say(script, Word::Unusable, [low, high, 0], result, head);
}

/// The first bytes of a regular file.
fn read_head(path: usize, head: &mut [u8; HEAD]) -> &[u8] {
    let flags = number(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
    let fd = system_call(libc::SYS_open, [path, flags, 0, 0, 0]);
    let Ok(fd) = usize::try_from(fd) else { return &[] };
    let buffer = head.as_mut_ptr().addr();
    let count = system_call(libc::SYS_read, [fd, buffer, HEAD, 0, 0]);
    head.get(..usize::try_from(count).unwrap_or(0)).unwrap_or(&[])
}

/// Sends a word, its name, the errno of a result and some bytes of a file.
fn say(script: &Script, word: Word, name: [u8; 3], result: c_long, head: &[u8]) {
    let mut message = [0; 8 + HEAD];
    let errno = i32::try_from(result.wrapping_neg()).unwrap_or(libc::EIO).to_le_bytes();
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

/// A system call by its own means: libc would store errno in the supervisor's.
fn system_call(number: c_long, arguments: [usize; 5]) -> c_long {
    let [first, second, third, fourth, fifth] = arguments;
    let result: c_long;
    // SAFETY: only called above, with pointers that live through the call and lengths
    // that are theirs.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth,
            in("r8") fifth, in("r9") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
