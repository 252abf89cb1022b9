//! How a machine ends: whatever hangs, in whichever way it is asked, its disk is clean.

use crate::rig::{self, Machine, Setup};

/// A machine with these units, up.
fn machine(kernel: &str, units: &str) -> Machine {
    let machine = Setup::new(kernel).put(units, "/etc/berth").boot();
    machine.await_console("default is up");
    machine
}

/// It has ended like this, and left nothing to repair.
fn ended(mut machine: Machine, last_words: &str) -> String {
    let status = machine.await_end();
    let console = machine.console();
    assert!(status.success() && console.contains(last_words), "{status}\n{console}");
    machine.assert_clean();
    console
}

#[test]
fn a_service_that_hangs_and_one_that_the_kernel_holds() {
    let disks = tempfile::tempdir().unwrap();
    let data = rig::make_disk(disks.path(), "data.img", &["mke2fs", "-q", "-t", "ext4"]);
    let machine =
        Setup::new(rig::KERNELS[0]).put("tests/vm/units/hanging", "/etc/berth").drive(&data).boot();
    machine.await_console("default is up");
    // The unit `asks` has the machine switched off once the others hang.
    let console = ended(machine, "reboot: Power down");
    assert!(console.contains("still waiting for "), "{console}");
    assert!(console.contains("stubborn"), "{console}");
    assert!(console.contains("hanging in the kernel, left behind: touch"), "{console}");
}

#[test]
fn ctrl_alt_del_again_and_again_does_not_wait() {
    let machine = machine(rig::KERNELS[1], "tests/vm/units/patient");
    // The first begins in order, and a service takes its time: nine minutes.
    for _ in 0..7 {
        machine.ctrl_alt_del();
    }
    let console = ended(machine, "reboot: Restarting system");
    assert!(console.contains("rebooting at once"), "{console}");
}

#[test]
fn a_signal_halts_it() {
    let machine = machine(rig::KERNELS[1], "tests/vm/units/halting");
    // The emulator goes on: the machine is on and does nothing.
    machine.await_console("reboot: System halted");
    machine.assert_clean();
}
