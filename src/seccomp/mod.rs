//! Filters of system calls: what a profile says, and the program that the kernel runs
//! before every call.
//!
//! Pure: names become numbers by the one table in [`calls`], a [`Profile`] and the facts of
//! a process ([`Facts`]) become a [`Program`] in [`compile`], and somebody else hands that
//! to the kernel. [`default`] is the profile of a container that names none, [`init`] the
//! one of the tiny init.
//!
//! What must always hold, whatever a profile says: there is one way into the kernel. A call
//! by `int 0x80` (32 bits) kills the process, and a number of x32 is answered as by a kernel
//! without x32 (`ENOSYS`), so that no condition can be gone round by other numbers or other
//! widths of arguments. And an argument is compared as the kernel itself will read it: of an
//! `int` only the lower half counts.

pub mod calls;
mod compile;
mod default;
mod init;
mod program;

use serde::{Deserialize, Serialize};

pub use compile::{TooLong, compile};
pub use default::default;
pub use init::init;
pub use program::{Instruction, Program};

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// It is carried out.
    Allow,
    /// It is carried out, and the audit log says so.
    Log,
    /// It fails with this errno.
    Errno(u16),
    /// A tracer is told, with this number; without one it fails with `ENOSYS`.
    Trace(u16),
    /// SIGSYS, which the process may handle.
    Trap,
    /// The thread ends as by SIGSYS.
    KillThread,
    /// The process ends as by SIGSYS.
    KillProcess,
}

impl Action {
    /// `ENOSYS`: what a kernel answers that does not have the call.
    pub const ABSENT: Self = Self::Errno(38);
    /// `EPERM`.
    pub const REFUSED: Self = Self::Errno(1);

    /// What a filter returns for it: `SECCOMP_RET_…` and 16 bits of data.
    pub fn code(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// Whether the call is carried out, perhaps by a tracer: then nothing is lost by
    /// letting through what is not known yet.
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }
}

/// How two unsigned numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What an argument must be: `(argument & mask) comparison value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// Which one, 0 to 5.
    pub argument: u8,
    /// The bits that count.
    pub mask: u64,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// Where a rule is in force: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct When {
    /// Capabilities (bits, as the kernel numbers them) that the process must all have.
    pub with: u64,
    /// Capabilities of which it must have none.
    pub without: u64,
    /// The oldest kernel.
    pub since: Option<Kernel>,
    /// Only kernels older than this one.
    pub before: Option<Kernel>,
}

/// What happens to some calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Numbers of the calls.
    pub calls: Vec<u16>,
    /// What the arguments must be, all of it; empty: whatever they are.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub action: Action,
    /// Where the rule is in force.
    pub when: When,
}

/// What happens to every call.
///
/// Of the rules for a call the first one without conditions decides; if there is none, the
/// first of which all conditions hold; else [`Profile::otherwise`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// The rules.
    pub rules: Vec<Rule>,
    /// For what no rule is about.
    pub otherwise: Action,
    /// The highest number that the author of the profile knew of, and what happens to those
    /// above: a program that tries a call of a newer kernel first must hear that it is not
    /// there, or it does not try the older one.
    pub newer: Option<(u16, Action)>,
    /// How it is installed: [`Profile::LOG`], [`Profile::SPECULATE`].
    pub flags: u32,
}

impl Profile {
    /// `SECCOMP_FILTER_FLAG_LOG`: the audit log is told of what is not allowed.
    pub const LOG: u32 = 1 << 1;
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: on kernels before 5.16, no mitigation of
    /// speculative store bypass for the sake of the filter.
    pub const SPECULATE: u32 = 1 << 2;
}

/// Major and minor number of a kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kernel(pub u32, pub u32);

impl Kernel {
    /// Reads `6.1`, or the release `6.1.0-18-amd64`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let minor = rest.get(..digits)?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// What a program depends on besides its profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The capabilities that the process, and whatever it executes, can have: its bounding
    /// set, as the kernel numbers them.
    pub capabilities: u64,
    /// The kernel that runs it.
    pub kernel: Kernel,
}

impl When {
    /// Whether the rule is in force.
    pub fn holds(&self, facts: &Facts) -> bool {
        self.with & !facts.capabilities == 0
            && self.without & facts.capabilities == 0
            && self.since.is_none_or(|since| facts.kernel >= since)
            && self.before.is_none_or(|before| facts.kernel < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels() {
        assert_eq!(Kernel::parse("4.8"), Some(Kernel(4, 8)));
        assert_eq!(Kernel::parse("6.18.44-fc-v657"), Some(Kernel(6, 18)));
        assert_eq!(Kernel::parse("5.10-rc1"), Some(Kernel(5, 10)));
        for bad in ["", "6", "6.", ".1", "v6.1", "6.x", "-1.2", "99999999999.1"] {
            assert_eq!(Kernel::parse(bad), None, "{bad}");
        }
        assert!(Kernel(4, 8) < Kernel(4, 19) && Kernel(4, 19) < Kernel(5, 0));
    }

    #[test]
    fn rules_hold_where_they_say() {
        let facts = Facts { capabilities: 0b110, kernel: Kernel(5, 4) };
        let holds =
            |with, without, since, before| When { with, without, since, before }.holds(&facts);
        assert!(holds(0, 0, None, None));
        assert!(holds(0b100, 0b1, Some(Kernel(5, 4)), Some(Kernel(5, 5))));
        assert!(!holds(0b101, 0, None, None), "all of them");
        assert!(!holds(0, 0b101, None, None), "none of them");
        assert!(!holds(0, 0, Some(Kernel(5, 5)), None));
        assert!(!holds(0, 0, None, Some(Kernel(5, 4))));
    }
}
