//! Two ways to the answer on a call: a machine that runs the program as the kernel would,
//! and what the profile says, read word by word.

use berth::seccomp::{Action, Comparison, Condition, Facts, Instruction, Profile, calls};

/// A system call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub architecture: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

impl Call {
    /// One by the `syscall` instruction.
    pub fn new(number: u32, arguments: [u64; 6]) -> Self {
        Self { architecture: calls::ARCHITECTURE, number, arguments }
    }

    /// `struct seccomp_data`, in words of 32 bits.
    fn word(&self, offset: u32) -> u32 {
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(8) => low(self.arguments[(offset as usize - 16) / 8]),
            16..64 if offset.is_multiple_of(4) => {
                low(self.arguments[(offset as usize - 20) / 8] >> 32)
            }
            _ => panic!("a load from {offset}"),
        }
    }
}

/// Runs a program; it must not leave its own bounds, nor use what the kernel does not take.
pub fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// What the profile says.
pub fn read(profile: &Profile, facts: &Facts, call: &Call) -> Action {
    if call.architecture != calls::ARCHITECTURE {
        return Action::KillProcess;
    }
    if call.number >= calls::FOREIGN {
        return Action::Errno(38);
    }
    let about = |calls: &[u16]| calls.iter().any(|it| u32::from(*it) == call.number);
    let mut rules: Vec<_> = profile.rules.iter().filter(|rule| about(&rule.calls)).collect();
    rules.retain(|rule| rule.when.holds(facts));
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return rule.action;
    }
    let all = |conditions: &[Condition]| conditions.iter().all(|it| holds(it, call));
    if let Some(rule) = rules.iter().find(|rule| all(&rule.conditions)) {
        return rule.action;
    }
    match profile.newer {
        Some((highest, action)) if call.number > u32::from(highest) => action,
        _ => profile.otherwise,
    }
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let argument = call.arguments[usize::from(condition.argument)] & condition.mask;
    match condition.comparison {
        Comparison::Equal => argument == condition.value,
        Comparison::NotEqual => argument != condition.value,
        Comparison::Less => argument < condition.value,
        Comparison::LessOrEqual => argument <= condition.value,
        Comparison::Greater => argument > condition.value,
        Comparison::GreaterOrEqual => argument >= condition.value,
    }
}
