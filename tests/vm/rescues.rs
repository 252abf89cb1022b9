//! What goes wrong on the way up leads to a shell on the console, and from there on.

use std::process::Command;

use crate::rig::{self, Machine, Setup};

const SHELL: &str = "Rescue shell.";

/// What the kernel says last.
const OFF: &str = "reboot: Power down";
const AGAIN: &str = "reboot: Restarting system";

/// The shell works, the machine obeys this, and the disk is clean.
fn leave(mut machine: Machine, order: &str, last_words: &str) {
    machine.type_line("echo it is $((6 * 7))");
    machine.await_console("it is 42");
    machine.type_line(order);
    let status = machine.await_end();
    let console = machine.console();
    assert!(status.success() && console.contains(last_words), "{status}\n{console}");
    machine.assert_clean();
}

#[test]
fn asked_for_by_a_word_that_other_inits_know() {
    // The kernel hands `single` and `splash` on as arguments, too.
    let machine = Setup::new(rig::KERNELS[0]).append("single splash").boot();
    machine.await_console(SHELL);
    assert!(!machine.console().contains("login:"), "more was started than the shell");
    // SIGPWR: the current fails.
    leave(machine, "kill -PWR 1", OFF);
}

#[test]
fn a_unit_directory_that_cannot_be_read() {
    let machine = Setup::new(rig::KERNELS[1]).put("tests/vm/etc/hostname", "/etc/berth").boot();
    machine.await_console("cannot read this directory");
    machine.await_console(SHELL);
    // SIGRTMIN+4.
    leave(machine, "kill -38 1", OFF);
}

#[test]
fn a_disk_that_fsck_cannot_repair_and_then_the_boot_goes_on() {
    let disks = tempfile::tempdir().unwrap();
    let data =
        rig::make_disk(disks.path(), "data.img", &["mke2fs", "-q", "-t", "ext4", "-L", "data"]);
    for request in ["clri <2>", "ssv state 2"] {
        let output = Command::new("debugfs").args(["-w", "-R", request]).arg(&data).output();
        assert!(output.unwrap().status.success(), "debugfs {request}");
    }
    let swap = rig::make_disk(disks.path(), "swap.img", &["mkswap", "-q", "-L", "swap"]);
    let mut machine = Setup::new(rig::KERNELS[0])
        .put("tests/vm/etc/fstab", "/etc/fstab")
        .drive(&data)
        .drive(&swap)
        .boot();
    machine.await_console("the boot failed");
    machine.await_console(SHELL);
    machine.type_line("berthctl status filesystems; berthctl logs filesystems");
    machine.await_console("the check of LABEL=data for /srv/data failed");
    // What a person would do, and then leave the shell.
    machine.type_line("mke2fs -q -F -L data /dev/vdb && exit");
    machine.await_console("login:");
    machine.await_console("default: running");
    // Root has no password there, so nobody can log in; three keys end it.
    machine.ctrl_alt_del();
    machine.await_end();
    assert!(machine.console().contains(AGAIN), "{}", machine.console());
    machine.assert_clean();
    rig::assert_clean(&data);
}

#[test]
fn a_root_that_fsck_gives_up_on_stays_read_only() {
    // It says what e2fsck says when it cannot repair by itself.
    let mut machine =
        Setup::new(rig::KERNELS[1]).put("tests/vm/fsck-gives-up", "/sbin/fsck.ext4").boot();
    machine.await_console("the root filesystem could not be prepared");
    machine.await_console("logs and volumes are in memory");
    machine.await_console(SHELL);
    machine.type_line("berthctl status rescue-shell");
    machine.await_console("running");
    // SIGRTMIN+5.
    leave(machine, "kill -39 1", AGAIN);
}
