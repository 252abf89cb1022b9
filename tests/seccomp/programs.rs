//! Programs against the profiles they were made of.

use berth::seccomp::{
    self, Action, Comparison, Condition, Facts, Instruction, Kernel, Profile, Rule, TooLong, When,
};
use proptest::prelude::*;

use super::machine::{Call, read, run};

const NEW: Facts = Facts { capabilities: 0, kernel: Kernel(6, 18) };

/// Compares program and profile for one call.
fn compare(profile: &Profile, facts: &Facts, program: &[Instruction], call: &Call) {
    let (answer, expected) = (run(program, call), read(profile, facts, call).code());
    assert_eq!(answer, expected, "{call:?} with {facts:?} by {profile:?}");
}

/// Every number that means something, and those at the edges.
fn numbers() -> impl Iterator<Item = u32> {
    (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0027, 0x7fff_ffff, u32::MAX])
}

/// Around a value, in both halves.
fn edges(value: u64) -> [u64; 8] {
    let high = 1 << 32;
    [
        value,
        value.wrapping_add(1),
        value.wrapping_sub(1),
        value.wrapping_add(high),
        value.wrapping_sub(high),
        value & 0xffff_ffff,
        0,
        u64::MAX,
    ]
}

/// The whole of a profile: every number, and for conditions every edge.
fn hold(profile: &Profile, facts: &Facts) {
    let program = seccomp::compile(profile, facts).unwrap();
    for number in numbers() {
        for same in [0, 1, u64::MAX] {
            compare(profile, facts, &program, &Call::new(number, [same; 6]));
        }
    }
    for rule in &profile.rules {
        for Condition { argument, value, mask, .. } in &rule.conditions {
            for edge in edges(*value).into_iter().chain(edges(*mask)) {
                for other in [0, u64::MAX, *value] {
                    let mut arguments = [other; 6];
                    arguments[usize::from(*argument)] = edge;
                    for number in &rule.calls {
                        let call = Call::new(u32::from(*number), arguments);
                        compare(profile, facts, &program, &call);
                    }
                }
            }
        }
    }
    let foreign = Call { architecture: 0x4000_0003, ..Call::new(20, [0; 6]) };
    assert_eq!(run(&program, &foreign), Action::KillProcess.code());
}

#[test]
fn the_default_program_is_the_default_profile() {
    let profile = seccomp::default();
    // Those that conditions are about, and a few that none is.
    let single = [0, 2, 16, 17, 18, 19, 20, 21, 22, 23, 25, 26, 34, 38, 39];
    for capabilities in single.map(|bit| 1 << bit).into_iter().chain([0, 0x8004_05fb, u64::MAX]) {
        hold(&profile, &Facts { capabilities, kernel: Kernel(6, 18) });
    }
    hold(&profile, &Facts { capabilities: 0, kernel: Kernel(4, 7) });
}

#[test]
fn the_inits_program_is_its_profile() {
    hold(&seccomp::init(), &NEW);
}

/// How many comparisons a call costs where the kernel does not know the answer beforehand.
#[test]
fn the_default_program_is_short() {
    let program = seccomp::compile(&seccomp::default(), &NEW).unwrap();
    assert!(program.len() < 250, "{}", program.len());
    for constants in program.windows(1) {
        assert!([0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06].contains(&constants[0].code));
    }
}

/// Pieces so many that conditional jumps do not reach over them.
#[test]
fn long_programs_jump_far() {
    let rule = |call: u16, conditions, action| Rule {
        calls: vec![call],
        conditions,
        action,
        when: When::default(),
    };
    let equal =
        |value| Condition { argument: 2, mask: u64::MAX, comparison: Comparison::Equal, value };
    let errnos = (0..500).map(|call| rule(call, Vec::new(), Action::Errno(call)));
    let bodies = (500..600).map(|call| rule(call, vec![equal(call.into())], Action::Trap));
    let rules = errnos.chain(bodies).collect();
    let newer = Some((600, Action::ABSENT));
    let profile = Profile { rules, otherwise: Action::Allow, newer, flags: 0 };
    hold(&profile, &NEW);
    let many = (0..900).map(|value| rule(1, vec![equal(value)], Action::Trap)).collect();
    let profile = Profile { rules: many, otherwise: Action::Allow, newer: None, flags: 0 };
    assert_eq!(seccomp::compile(&profile, &NEW), Err(TooLong));
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        Just(Action::Trap),
        Just(Action::KillThread),
        Just(Action::KillProcess),
        (0..4096_u16).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, any::<u64>(), Just(u64::MAX), Just(1 << 32), Just(0xffff_ffff)]
}

fn condition() -> impl Strategy<Value = Condition> {
    let comparison = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterOrEqual),
    ];
    let mask = prop_oneof![Just(u64::MAX), Just(0xffff_ffff), value()];
    (0..6_u8, mask, comparison, value()).prop_map(|(argument, mask, comparison, value)| Condition {
        argument,
        mask,
        comparison,
        value,
    })
}

fn when() -> impl Strategy<Value = When> {
    let kernel = || prop::option::weighted(0.2, (4..8_u32, 0..20_u32));
    let capabilities = || prop_oneof![4 => Just(0), 1 => 0..8_u64];
    (capabilities(), capabilities(), kernel(), kernel()).prop_map(
        |(with, without, since, before)| {
            let kernel = |(major, minor)| Kernel(major, minor);
            When { with, without, since: since.map(kernel), before: before.map(kernel) }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let calls = prop::collection::vec(0..480_u16, 1..40);
    let conditions = prop::collection::vec(condition(), 0..4);
    (calls, conditions, action(), when()).prop_map(|(calls, conditions, action, when)| Rule {
        calls,
        conditions,
        action,
        when,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let newer = prop::option::of((480..490_u16, action()));
    (prop::collection::vec(rule(), 0..30), action(), newer)
        .prop_map(|(rules, otherwise, newer)| Profile { rules, otherwise, newer, flags: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_program_is_its_profile(profile in profile(), capabilities in 0..8_u64, major in 4..8_u32) {
        let facts = Facts { capabilities, kernel: Kernel(major, 9) };
        hold(&profile, &facts);
    }
}
