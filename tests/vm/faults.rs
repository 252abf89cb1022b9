//! Process 1 of a machine has a fault of memory, and the machine goes on.

use crate::rig::{self, Setup};

fn a_fault_does_not_end_it(kernel: &str) {
    let mut machine = Setup::new(kernel).put("tests/vm/units/faulting", "/etc/berth").boot();
    let status = machine.await_end();
    let (console, report) = (machine.console(), machine.report());
    assert!(status.success() && console.contains("reboot: Power down"), "{status}\n{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
    assert_eq!(console.matches("berth has failed (SIGSEGV").count(), 2, "{console}");
    let seen = |when: &str| -> Vec<&str> {
        report.lines().filter_map(|line| line.strip_prefix(when)?.strip_prefix(": ")).collect()
    };
    let before = seen("before");
    // Process 1 is never chosen when memory is short; everybody else may be.
    assert_eq!(before.first(), Some(&"1 berth -1000"), "{report}");
    assert_eq!(before.len(), 4, "{report}");
    assert!(before.iter().skip(1).all(|line| line.split(' ').count() == 3), "{report}");
    assert!(before.iter().skip(1).all(|line| line.ends_with(" 0")), "{report}");
    for after in ["after 1", "after 2"] {
        assert_eq!(seen(after), before, "{report}\n{console}");
    }
    assert_eq!(seen("inner"), ["-1000 0"], "{report}");
    assert!(report.lines().any(|line| line == "done"), "{report}");
    machine.assert_clean();
}

#[test]
fn a_fault_ends_no_machine_on_linux_6_1() {
    a_fault_does_not_end_it(rig::KERNELS[0]);
}

#[test]
fn a_fault_ends_no_machine_on_linux_6_12() {
    a_fault_does_not_end_it(rig::KERNELS[1]);
}
