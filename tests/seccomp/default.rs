//! What the default profile says of every call, by every way into the kernel.
//!
//! `BERTH_RENEW=1 cargo test --test seccomp` writes the file anew.

use std::fmt::Write;

use berth::seccomp::{self, Action, Facts, Kernel, calls};

use super::machine::{Call, run};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/default.golden");

/// The container's capabilities.
const FEW: u64 = 0x8004_05fb;

fn word(code: u32) -> &'static str {
    match code {
        code if code == Action::Allow.code() => "allow",
        code if code == Action::REFUSED.code() => "EPERM",
        code if code == Action::ABSENT.code() => "ENOSYS",
        code if code == Action::KillProcess.code() => "killed",
        code => panic!("{code:#x}"),
    }
}

#[test]
fn every_call_is_answered_as_the_golden_table_says() {
    let kernel = Kernel(6, 18);
    let program = |capabilities| {
        seccomp::compile(&seccomp::default(), &Facts { capabilities, kernel }).unwrap()
    };
    let (few, all) = (program(FEW), program(u64::MAX));
    let mut table = String::from(
        "# By the syscall instruction with a container's capabilities, and with all; by x32; by\n\
         # int 0x80 (where the number means another call). All arguments are 0.\n",
    );
    for number in 0..=500 {
        let known = calls::CALLS.iter().find(|(it, ..)| u32::from(*it) == number);
        let name = known.map_or("-", |(_, name, _)| name);
        let call = Call::new(number, [0; 6]);
        let x32 = Call::new(number | calls::FOREIGN, [0; 6]);
        let old = Call { architecture: 0x4000_0003, ..call };
        let answers = [(&few, call), (&all, call), (&few, x32), (&few, old)];
        let [a, b, c, d] = answers.map(|(program, call)| word(run(program, &call)));
        writeln!(table, "{number:3} {name:24} {a:6} {b:6} {c:6} {d}").unwrap();
    }
    if std::env::var_os("BERTH_RENEW").is_some() {
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    for (found, expected) in table.lines().zip(golden.lines()) {
        assert_eq!(found, expected, "BERTH_RENEW=1 cargo test --test seccomp renews it");
    }
    assert_eq!(table.lines().count(), golden.lines().count());
}

/// The kernel's own header, as far as it goes.
#[test]
fn numbers_and_names_are_the_kernels() {
    let header = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").unwrap();
    let mut count = 0;
    for line in header.lines().filter_map(|line| line.strip_prefix("#define __NR_")) {
        let (name, number) = line.split_once(' ').unwrap();
        assert_eq!(calls::number(name), Some(number.parse().unwrap()), "{name}");
        count += 1;
    }
    assert!(count > 350, "{count}");
    assert!(calls::CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
}

/// What depends on arguments.
#[test]
fn arguments_are_compared_as_the_kernel_reads_them() {
    let program = |capabilities| {
        let facts = Facts { capabilities, kernel: Kernel(6, 18) };
        seccomp::compile(&seccomp::default(), &facts).unwrap()
    };
    let (few, admin) = (program(FEW), program(FEW | 1 << 21));
    let ask = |program: &[_], name: &str, arguments: &[u64]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        word(run(program, &Call::new(calls::number(name).unwrap().into(), all)))
    };
    let high = 1 << 32;
    for (family, answer) in [(1, "allow"), (2, "allow"), (16, "allow"), (17, "allow")]
        .into_iter()
        .chain([(37, "allow"), (38, "EPERM"), (39, "allow"), (40, "EPERM"), (41, "allow")])
    {
        for bits in [0, high, high << 31] {
            assert_eq!(ask(&few, "socket", &[family | bits]), answer, "{family} {bits:x}");
            assert_eq!(ask(&admin, "socket", &[family | bits]), answer, "{family} {bits:x}");
        }
    }
    for (request, answer) in
        [(0x5401, "allow"), (0x5412, "EPERM"), (0x541c, "EPERM"), (0x5413, "allow")]
    {
        for bits in [0, high] {
            assert_eq!(ask(&few, "ioctl", &[request, request | bits]), answer);
            assert_eq!(ask(&admin, "ioctl", &[0, request | bits]), "allow");
        }
    }
    // A thread, a child, vfork; each kind of namespace.
    for flags in [0x3d_0f00, 17, 0x4111] {
        assert_eq!(ask(&few, "clone", &[flags]), "allow");
    }
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        assert_eq!(ask(&few, "clone", &[1 << bit | 0x11]), "EPERM", "{bit}");
        assert_eq!(ask(&admin, "clone", &[1 << bit | 0x11]), "allow", "{bit}");
    }
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, u64::MAX, high] {
        assert_eq!(ask(&few, "personality", &[persona]), "allow", "{persona:x}");
    }
    for persona in [0x4_0000, 0x40_0000, 0xc, 0x4_0008, high | 0x4_0000, 1, 0xffff_fffe] {
        assert_eq!(ask(&few, "personality", &[persona]), "EPERM", "{persona:x}");
    }
    assert_eq!(ask(&few, "clone3", &[]), "ENOSYS");
    assert_eq!(ask(&admin, "clone3", &[]), "allow");
}

/// Before Linux 4.8 a tracer could lead its child round the filter.
#[test]
fn old_kernels_have_no_ptrace() {
    let answer = |kernel, capabilities| {
        let program =
            seccomp::compile(&seccomp::default(), &Facts { capabilities, kernel }).unwrap();
        ["ptrace", "process_vm_readv", "process_vm_writev"].map(|name| {
            word(run(&program, &Call::new(calls::number(name).unwrap().into(), [0; 6])))
        })
    };
    assert_eq!(answer(Kernel(4, 7), FEW), ["EPERM"; 3]);
    assert_eq!(answer(Kernel(4, 8), FEW), ["allow"; 3]);
    assert_eq!(answer(Kernel(4, 7), FEW | 1 << 19), ["allow"; 3]);
}
