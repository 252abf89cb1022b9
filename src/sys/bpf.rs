//! bpf(2): the one kind of program berth needs, which decides about devices of a control
//! group. Its instructions are put together here by hand; see the kernel's
//! `Documentation/bpf/standardization/instruction-set.rst`.
//!
//! What must hold: a program ends on every way through it (no jump leads back), so the
//! kernel accepts it; and what no rule allows it refuses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_QUERY: libc::c_long = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const CGROUP_DEVICE_PROGRAM: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: the programs of the groups above have their say too.
const ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high ones.
    registers: u8,
    offset: i16,
    value: i32,
}

/// A decision, a return value: 1 allows and 0 refuses.
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// `BPF_JMP | BPF_JNE | BPF_K`.
const UNLESS: u8 = 0x55;

/// Registers, as this program uses them.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Register {
    /// What the program answers.
    Answer = 0,
    /// `struct bpf_cgroup_dev_ctx`: three 32-bit words.
    Context = 1,
    Type = 2,
    Access = 3,
    Major = 4,
    Minor = 5,
}

impl Register {
    /// The instruction with this code for this register and a number.
    fn with(self, code: u8, value: i32) -> Instruction {
        Instruction { code, registers: self as u8, offset: 0, value }
    }

    /// `BPF_ALU64 | BPF_MOV | BPF_K`.
    fn set(self, value: i32) -> Instruction {
        self.with(0xb7, value)
    }

    /// `BPF_ALU64 | BPF_AND | BPF_K`.
    fn and(self, mask: i32) -> Instruction {
        self.with(0x57, mask)
    }

    /// `BPF_ALU64 | BPF_RSH | BPF_K`.
    fn shift_right(self, bits: i32) -> Instruction {
        self.with(0x77, bits)
    }

    /// A jump where it is not `value`; how far is set later.
    fn unless(self, value: i32) -> Instruction {
        self.with(UNLESS, value)
    }

    /// As `source`: `BPF_ALU64 | BPF_MOV | BPF_X`.
    fn copy(self, source: Self) -> Instruction {
        Instruction { code: 0xbf, registers: self.pair(source), offset: 0, value: 0 }
    }

    /// A word of the context: `BPF_LDX | BPF_MEM | BPF_W`.
    fn load(self, offset: i16) -> Instruction {
        let registers = self.pair(Self::Context);
        Instruction { code: 0x61, registers, offset, value: 0 }
    }

    fn pair(self, source: Self) -> u8 {
        self as u8 | (source as u8) << 4
    }
}

/// `BPF_JMP | BPF_EXIT`.
const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, value: 0 };

/// What a process may do with some devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceRule {
    /// A block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number; `None`: all.
    pub minor: Option<u32>,
    /// `BPF_DEVCG_ACC_*`: 1 to make nodes of it, 2 to read, 4 to write.
    pub access: u8,
}

/// All that a rule can allow.
pub const ACCESS_ALL: u8 = 7;

/// The program that allows what one of the rules allows.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    use Register::{Access, Answer, Major, Minor, Type};
    let mut program = vec![
        Type.load(0),
        Access.copy(Type),
        Type.and(0xffff),
        Access.shift_right(16),
        Major.load(4),
        Minor.load(8),
    ];
    for rule in rules {
        let kind = if rule.block { 1 } else { 2 };
        let mut one = vec![Type.unless(kind), Major.unless(rule.major.cast_signed())];
        one.extend(rule.minor.map(|minor| Minor.unless(minor.cast_signed())));
        let refused = i32::from(!rule.access & ACCESS_ALL);
        if refused != 0 {
            one.extend([Answer.copy(Access), Answer.and(refused), Answer.unless(0)]);
        }
        one.extend([Answer.set(ALLOW), EXIT]);
        // What does not fit leads on to the next rule.
        for (left, instruction) in (0..).zip(one.iter_mut().rev()) {
            if instruction.code == UNLESS {
                instruction.offset = left;
            }
        }
        program.append(&mut one);
    }
    program.extend([Answer.set(REFUSE), EXIT]);
    program
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as Linux 4.15 has it.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`, as far as Linux 4.15 has it.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attached: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    let pointer = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads `size_of::<T>()` bytes (zeroes beyond are implied), and what
    // they point to: see the callers.
    super::check_long(unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) })
}

/// Gives the kernel a program that allows what the rules allow and nothing else.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` over the host's user namespace; `EINVAL`
/// or `ENOSYS` where the kernel is built without.
pub fn load_device_program(rules: &[DeviceRule]) -> io::Result<OwnedFd> {
    let program = program(rules);
    let license = c"";
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        // Instructions and licence live through the call.
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: a new descriptor (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// From now on the processes of the group (a directory of version 2), and those below it,
/// use only devices that the program allows; so say the groups above as well.
///
/// # Errors
/// `EPERM` also when a group above forbids programs below it.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attach = Attach {
        target: group.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

/// How many programs decide about devices for this very group (a directory of version 2).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the host's user namespace; `EINVAL` or `ENOSYS` where
/// the kernel is built without.
pub fn device_programs(group: BorrowedFd<'_>) -> io::Result<u32> {
    let target = group.as_raw_fd().unsigned_abs();
    let mut query = Query { target, kind: CGROUP_DEVICE, ..Query::default() };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes so many bytes of the structure, which lives through
    // the call; with a count of 0 it writes no numbers of programs.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size)
    })?;
    Ok(query.count)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test: a panic is how it fails")]
mod tests {
    use super::*;

    /// Runs a program as the kernel would; only what [`program`] uses.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 11];
        let mut next = 0;
        loop {
            let it = program[next];
            next += 1;
            let (to, from) = (usize::from(it.registers & 15), usize::from(it.registers >> 4));
            let value = u64::from_ne_bytes(i64::from(it.value).to_ne_bytes());
            match it.code {
                0xb7 => registers[to] = value,
                0x57 => registers[to] &= value,
                0x77 => registers[to] >>= value,
                0xbf => registers[to] = registers[from],
                0x61 => registers[to] = context[usize::try_from(it.offset).unwrap() / 4].into(),
                0x55 if registers[to] != value => next += usize::try_from(it.offset).unwrap(),
                0x55 => {}
                0x95 => return registers[0],
                other => panic!("{other:x}"),
            }
        }
    }

    fn allows(rules: &[DeviceRule], access: u32, block: bool, major: u32, minor: u32) -> bool {
        let kind = if block { 1 } else { 2 };
        run(&program(rules), [access << 16 | kind, major, minor]) == 1
    }

    #[test]
    fn a_program_allows_what_a_rule_allows() {
        let rule = |block, major, minor, access| DeviceRule { block, major, minor, access };
        let rules = [
            rule(false, 1, Some(3), ACCESS_ALL),
            rule(false, 136, None, 6),
            rule(true, 7, Some(0), 2),
            rule(true, 7, Some(0), 4),
        ];
        for access in 1..=7 {
            assert!(allows(&rules, access, false, 1, 3));
            assert!(!allows(&rules, access, true, 1, 3), "a block device");
            assert!(!allows(&rules, access, false, 1, 1) && !allows(&rules, access, false, 3, 3));
            assert_eq!(allows(&rules, access, false, 136, 4711), access & 1 == 0);
            assert_eq!(allows(&rules, access, true, 7, 0), matches!(access, 2 | 4), "{access}");
            assert!(!allows(&[], access, false, 1, 3));
        }
    }
}
