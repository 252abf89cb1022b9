//! How a machine ends: whatever hangs, in whichever way it is asked, its disk is clean.

use std::process::Command;

use crate::rig::{self, Machine, Setup};

/// It has ended like this, and left nothing to repair.
fn ended(machine: &mut Machine, last_words: &str) -> String {
    let status = machine.await_end();
    let console = machine.console();
    assert!(status.success() && console.contains(last_words), "{status}\n{console}");
    machine.assert_clean();
    console
}

/// On the older kernel alone: which processes a kernel lets be killed while they wait for a
/// frozen filesystem is the same on both, and berth does nothing there by version. It takes
/// the emulator a minute.
#[test]
fn a_service_that_hangs_and_one_that_the_kernel_holds() {
    let disks = tempfile::tempdir().unwrap();
    let data = rig::make_disk(disks.path(), "data.img", &["mke2fs", "-q", "-t", "ext4"]);
    let machine =
        Setup::new(rig::KERNELS[0]).put("tests/vm/units/hanging", "/etc/berth").drive(&data);
    let mut machine = machine.append("berth.debug").boot();
    machine.await_console("default is up");
    // The unit `asks` has the machine switched off once the others hang.
    let console = ended(&mut machine, "reboot: Power down");
    assert!(console.contains("still waiting for "), "{console}");
    assert!(console.contains("stubborn"), "{console}");
    // Asked for by berth.debug: what a service says.
    let says = |line: &str| line.contains("layers") && line.ends_with(" mounted");
    assert!(console.lines().any(says), "{console}");
    assert!(!console.contains("cannot take"), "{console}");
    // What was mounted from a file of the root's, below an overlay, was written out too.
    let inside = disks.path().join("inside.img");
    let request = format!("dump /srv/inside.img {}", inside.display());
    let output = Command::new("debugfs").args(["-R", &request]).arg(machine.disk()).output();
    assert!(output.unwrap().status.success(), "debugfs {request}");
    rig::assert_clean(&inside);
    assert!(console.contains("hanging in the kernel, left behind: touch"), "{console}");
}

#[test]
fn ctrl_alt_del_again_and_again_does_not_wait() {
    // Without udev: what is not a program is not there, and busybox' mdev has to do.
    let mut machine = Setup::new(rig::KERNELS[1])
        .put("tests/vm/units/patient", "/etc/berth")
        .put("tests/vm/etc/hostname", "/usr/lib/systemd/systemd-udevd")
        .put("tests/vm/etc/hostname", "/usr/bin/udevadm")
        .boot();
    machine.await_console("without udev: virtio_net 10.0.2.15");
    machine.await_console("default is up");
    // The first begins in order, and a service takes its time: nine minutes.
    machine.ctrl_alt_del_until("rebooting at once");
    let console = ended(&mut machine, "reboot: Restarting system");
    assert!(console.contains("rebooting at once"), "{console}");
}

/// A kernel that was loaded by kexec(8) is what a reboot starts, without the emulator (which
/// ends at a real one) taking notice.
#[test]
fn a_reboot_goes_to_the_kernel_that_is_loaded() {
    let mut machine = Setup::new(rig::KERNELS[1])
        .put("tests/vm/units/kexec", "/etc/berth")
        .put(&rig::image(rig::KERNELS[1], "vmlinuz"), "/srv/vmlinuz")
        .put(&rig::image(rig::KERNELS[1], "initrd"), "/srv/initrd")
        .boot();
    machine.await_console("the first boot is up");
    machine.await_console("Starting new kernel");
    // It is asked for the rescue target.
    machine.await_console("Rescue shell.");
    machine.type_line("berthctl shutdown poweroff");
    let console = ended(&mut machine, "reboot: Power down");
    let second = console.split("Starting new kernel").nth(1).unwrap();
    assert!(second.contains("second.boot berth.target=rescue"), "{second}");
    assert!(!second.contains("login:"), "{second}");
}

#[test]
fn a_signal_halts_a_machine_with_another_target() {
    let machine = Setup::new(rig::KERNELS[1]).put("tests/vm/units/halting", "/etc/berth");
    let machine = machine.append("berth.target=small").boot();
    machine.await_console("small is up");
    // The emulator goes on: the machine is on and does nothing.
    machine.await_console("reboot: System halted");
    let console = machine.console();
    for other in ["login:", "berth: default", "only berth.debug shows this"] {
        assert!(!console.contains(other), "{other}: {console}");
    }
    machine.assert_clean();
}
