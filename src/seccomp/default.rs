//! The profile of a container that names none: what an ordinary daemon needs.
//!
//! As strict as Moby's and, in these, stricter: no 32-bit and no x32 entry (see the room's
//! page); the family of a socket and the request of an ioctl(2) are compared as the `int`s
//! that they are, so that a set upper half is no way round; requests that put characters
//! into a terminal (`TIOCSTI`, `TIOCLINUX`) are refused without `SYS_ADMIN`.

use super::calls::{self, CALLS};
use super::{Action, Comparison, Condition, Kernel, Profile, Rule, When};

/// To whom a call is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To everybody.
    Open,
    /// To nobody.
    Closed,
    /// To nobody, who hears that it is not there: too new to have been looked at.
    Absent,
    /// To those who have one of these capabilities.
    Needs(u64),
    /// socket(2): not of the families that reach deep into the kernel (`AF_ALG`) or out of
    /// the machine past every network namespace (`AF_VSOCK`).
    Family,
    /// ioctl(2): not what puts characters into a terminal.
    Request,
    /// clone(2): without `SYS_ADMIN` no new namespaces.
    Clone,
    /// clone3(2): without `SYS_ADMIN` it is not there, because a filter cannot see its
    /// flags; libc then uses clone(2).
    Clone3,
    /// personality(2): the harmless ones.
    Persona,
    /// ptrace(2) and its kin: to those who have `SYS_PTRACE`, and since Linux 4.8, where a
    /// tracer can no longer lead its child round the filter, to everybody.
    Trace,
}

/// The capabilities that conditions are about, as the kernel numbers them.
pub mod capability {
    /// `CAP_DAC_READ_SEARCH`
    pub const DAC_READ_SEARCH: u64 = 1 << 2;
    /// `CAP_SYS_MODULE`
    pub const SYS_MODULE: u64 = 1 << 16;
    /// `CAP_SYS_RAWIO`
    pub const SYS_RAWIO: u64 = 1 << 17;
    /// `CAP_SYS_CHROOT`
    pub const SYS_CHROOT: u64 = 1 << 18;
    /// `CAP_SYS_PTRACE`
    pub const SYS_PTRACE: u64 = 1 << 19;
    /// `CAP_SYS_PACCT`
    pub const SYS_PACCT: u64 = 1 << 20;
    /// `CAP_SYS_ADMIN`
    pub const SYS_ADMIN: u64 = 1 << 21;
    /// `CAP_SYS_BOOT`
    pub const SYS_BOOT: u64 = 1 << 22;
    /// `CAP_SYS_NICE`
    pub const SYS_NICE: u64 = 1 << 23;
    /// `CAP_SYS_TIME`
    pub const SYS_TIME: u64 = 1 << 25;
    /// `CAP_SYS_TTY_CONFIG`
    pub const SYS_TTY_CONFIG: u64 = 1 << 26;
    /// `CAP_SYSLOG`
    pub const SYSLOG: u64 = 1 << 34;
    /// `CAP_PERFMON`
    pub const PERFMON: u64 = 1 << 38;
    /// `CAP_BPF`
    pub const BPF: u64 = 1 << 39;
}

use capability::{SYS_ADMIN, SYS_PTRACE};

/// `AF_ALG` and `AF_VSOCK`.
const FAMILIES: [u64; 2] = [38, 40];
/// `TIOCSTI` and `TIOCLINUX`.
const REQUESTS: [u64; 2] = [0x5412, 0x541c];
/// `CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET`. A time namespace cannot be
/// asked for here: its bit is one of the signal's.
const NAMESPACES: u64 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, `UNAME26` with either, and the question which it is.
const PERSONAS: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// What the kernel reads of an argument that it takes for an `int`.
const INT: u64 = 0xffff_ffff;

/// The default profile.
pub fn default() -> Profile {
    let rules = CALLS.iter().fold(Rules::default(), |rules, call| rules.with(*call)).rules;
    let newer = Some((calls::highest(), Action::ABSENT));
    Profile { rules, otherwise: Action::REFUSED, newer, flags: 0 }
}

/// Rules, as the table of calls is walked; those of many calls are one.
#[derive(Default)]
struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    fn with(mut self, (number, _, access): (u16, &str, Access)) -> Self {
        let mut allow = |conditions: &[Condition], when: When| {
            self.add(number, conditions, Action::Allow, when);
        };
        let privileged = |with| When { with, ..When::default() };
        match access {
            Access::Closed => {}
            Access::Open => allow(&[], When::default()),
            Access::Absent => self.add(number, &[], Action::ABSENT, When::default()),
            Access::Needs(any) => {
                for bit in (0..u64::BITS).filter(|bit| any >> bit & 1 == 1) {
                    allow(&[], privileged(1 << bit));
                }
            }
            Access::Family => allow(&none_of(0, FAMILIES), When::default()),
            Access::Request => {
                allow(&[], privileged(SYS_ADMIN));
                allow(&none_of(1, REQUESTS), When::default());
            }
            Access::Clone => {
                allow(&[], privileged(SYS_ADMIN));
                allow(&[int(0, NAMESPACES, Comparison::Equal, 0)], When::default());
            }
            Access::Clone3 => {
                allow(&[], privileged(SYS_ADMIN));
                let when = When { without: SYS_ADMIN, ..When::default() };
                self.add(number, &[], Action::ABSENT, when);
            }
            Access::Persona => {
                for persona in PERSONAS {
                    allow(&[int(0, INT, Comparison::Equal, persona)], When::default());
                }
            }
            Access::Trace => {
                allow(&[], privileged(SYS_PTRACE));
                allow(&[], When { since: Some(Kernel(4, 8)), ..When::default() });
            }
        }
        self
    }

    fn add(&mut self, number: u16, conditions: &[Condition], action: Action, when: When) {
        let same = |rule: &&mut Rule| {
            rule.conditions == conditions && rule.action == action && rule.when == when
        };
        if let Some(rule) = self.rules.iter_mut().find(same) {
            rule.calls.push(number);
        } else {
            let (calls, conditions) = (vec![number], conditions.to_vec());
            self.rules.push(Rule { calls, conditions, action, when });
        }
    }
}

fn int(argument: u8, mask: u64, comparison: Comparison, value: u64) -> Condition {
    Condition { argument, mask, comparison, value }
}

fn none_of<const N: usize>(argument: u8, values: [u64; N]) -> [Condition; N] {
    values.map(|value| int(argument, INT, Comparison::NotEqual, value))
}
