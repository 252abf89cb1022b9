//! What the keeper and its helpers may do: no more than they need.
//!
//! The helpers, which read what strangers send, are nobody's user, have no capability at all
//! and a filter that ends them at any system call that they have no use for. The keeper has
//! the capabilities that networks take, and a filter as a container has it, because it also
//! starts nft(8). What must hold: none of it is ever given back.

use std::io;

use crate::seccomp::{self, Action, Comparison, Condition, Facts, Kernel, Profile, Rule, When};
use crate::sys::seccomp::{self as kernel, Instruction};
use crate::sys::{capability, identity};

/// Nobody, in every distribution.
const NOBODY: u32 = 65_534;

/// Whether a helper reads files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// It has no use for any.
    None,
    /// Those that everybody may read.
    Read,
}

/// What helpers call from their confinement to their end.
const HELPERS: &[&str] = &[
    "accept4",
    "bind",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "connect",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getpeername",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "read",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socket",
    "statx",
    "write",
    "writev",
];

/// `CAP_…` of the keeper: `NET_ADMIN` for links and rules; `SYS_ADMIN` to enter units'
/// networks; `NET_BIND_SERVICE` for published ports; `SYS_PTRACE` and `DAC_READ_SEARCH` to say
/// who holds one; `SETUID`, `SETGID`, `SETPCAP` and `KILL` for its helpers; `DAC_OVERRIDE` for
/// a runtime directory that is another user's.
const KEEPER: [u32; 10] = [12, 21, 10, 19, 2, 7, 6, 8, 5, 1];

fn allow(calls: &[&str], conditions: Vec<Condition>) -> Rule {
    let calls = calls.iter().filter_map(|name| seccomp::calls::number(name)).collect();
    Rule { calls, conditions, action: Action::Allow, when: When::default() }
}

fn is(argument: u8, mask: u64, value: u64) -> Condition {
    Condition { argument, mask, comparison: Comparison::Equal, value }
}

/// The profile of a helper.
pub fn helpers(files: Files) -> Profile {
    /// `CLONE_THREAD`.
    const THREAD: u64 = 0x1_0000;
    /// `O_ACCMODE | O_CREAT | O_TRUNC`, of which reading has none.
    const WRITES: u64 = 0o1103;
    let mut rules = vec![
        allow(HELPERS, Vec::new()),
        // Threads, and no other processes.
        allow(&["clone"], vec![is(0, THREAD, THREAD)]),
        Rule { action: Action::ABSENT, ..allow(&["clone3"], Vec::new()) },
    ];
    if files == Files::Read {
        rules.push(allow(&["openat"], vec![is(2, WRITES, 0)]));
    }
    Profile { rules, otherwise: Action::KillProcess, newer: None, flags: 0 }
}

/// The profile of the keeper: what a container without privileges may call, and entering a
/// network.
pub fn keeper_profile() -> Profile {
    let mut profile = seccomp::default();
    let network = crate::sys::clone::namespace::NETWORK;
    profile.rules.insert(0, allow(&["setns"], vec![is(1, u64::MAX, network)]));
    profile
}

fn install(profile: &Profile) -> io::Result<()> {
    let release = Kernel::parse(&kernel::kernel_release()).unwrap_or(Kernel(0, 0));
    let facts = Facts { capabilities: 0, kernel: release };
    let long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let program = seccomp::compile(profile, &facts).map_err(long)?;
    let program: Vec<Instruction> = program
        .iter()
        .map(|it| Instruction { code: it.code, jt: it.jt, jf: it.jf, k: it.k })
        .collect();
    kernel::install(&program, profile.flags)
}

/// What nothing that is executed can ever have. Without `CAP_SETPCAP` that cannot be said;
/// nothing gains anything by being executed then, either.
fn leave_out(set: u64) -> io::Result<()> {
    const SETPCAP: u64 = 1 << 8;
    let held = capability::held()?;
    if held.permitted & SETPCAP == 0 {
        return Ok(());
    }
    capability::leave_out(held.bounding & set)
}

/// Confines a helper, which has one thread.
///
/// # Errors
/// The kernel's.
pub fn helper(files: Files) -> io::Result<()> {
    leave_out(u64::MAX)?;
    identity::become_user(NOBODY, NOBODY, &[])?;
    capability::set(0, 0)?;
    identity::no_new_privileges()?;
    identity::hide_memory()?;
    install(&helpers(files))
}

/// Confines the keeper, which has one thread.
///
/// # Errors
/// The kernel's.
pub fn keeper() -> io::Result<()> {
    let needed = KEEPER.iter().fold(0_u64, |set, number| set | 1_u64.wrapping_shl(*number));
    leave_out(!needed)?;
    capability::set(capability::held()?.permitted & needed, 0)?;
    identity::no_new_privileges()?;
    install(&keeper_profile())
}
