//! Devices that a unit tries to get at: by making nodes, by nodes that somebody else has
//! made where the unit sees them, by terminals that are not its own.

use super::attempt::{Defence, attempt};
use super::devices::device;
use super::rig::{Rig, Test, bind, on_tree};
use berth::unit::model::Writable;

pub const TESTS: &[Test] = &[
    ("a_node_of_fuse_is_not_made", || made("c 10 229")),
    ("a_node_of_tun_is_not_made", || made("c 10 200")),
    ("a_node_of_the_memory_is_not_made", || made("c 1 1")),
    ("a_node_of_the_kernels_log_is_not_made", || made("c 1 11")),
    ("a_node_of_the_console_is_not_made", || made("c 5 1")),
    ("a_node_of_a_virtual_terminal_is_not_made", || made("c 4 1")),
    ("a_node_of_a_loop_device_is_not_made", || made("b 7 0")),
    ("a_node_of_a_disk_is_not_made", || made("b 8 0")),
    ("a_node_of_a_virtual_disk_is_not_made", || made("b 254 0")),
    ("fuse_is_not_opened", || opened("c 10 229")),
    ("tun_is_not_opened", || opened("c 10 200")),
    ("the_memory_is_not_opened", || opened("c 1 1")),
    ("the_kernels_log_is_not_opened", || opened("c 1 11")),
    ("the_control_of_loop_devices_is_not_opened", || opened("c 10 237")),
    ("a_loop_device_is_not_opened", || opened("b 7 0")),
    ("a_virtual_terminal_is_not_opened", || opened("c 4 1")),
    ("a_node_in_the_root_tree_is_not_opened", a_node_in_the_root_tree_is_not_opened),
    ("a_device_is_not_written_that_may_be_read", a_device_is_not_written_that_may_be_read),
    ("a_device_is_not_made_again_that_may_be_used", a_device_is_not_made_again_that_may_be_used),
];

/// Says so when a node is opened, or refused by something other than a lack of rights: the
/// driver, which was reached, or which is not there on this host.
fn open(node: &str, flags: u8) -> String {
    format!(
        "perl -e 'if (sysopen(my $f, q({node}), {flags} | 2048) || $! != 1 && $! != 13) \
         {{ print q(escaped) }} else {{ print $! }}'"
    )
}

fn made(node: &str) {
    let rig = Rig::new();
    let script = format!("mknod /dev/made {node} 2>&1 && echo escaped");
    attempt(&rig, &script, |_| {}, Defence::Devices);
}

/// A node that is in a volume because another unit, or the host, has made it there.
fn opened(node: &str) {
    let rig = Rig::new();
    let path = rig.path("files/node");
    let words: Vec<&str> = node.split(' ').collect();
    let made = std::process::Command::new("mknod").arg(&path).args(&words).status().unwrap();
    assert!(made.success());
    let files = rig.path("files");
    let prepare = |s: &mut berth::unit::model::Service| s.mounts.push(bind(&files, "/data"));
    attempt(&rig, &open("/data/node", 0), prepare, Defence::Devices);
}

fn a_node_in_the_root_tree_is_not_opened() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let path = format!("{tree}/srv/node");
    let made = std::process::Command::new("mknod").args([&path, "c", "1", "11"]).status();
    assert!(made.unwrap().success());
    for writable in [Writable::Ephemeral, Writable::Direct] {
        let prepare = |s: &mut berth::unit::model::Service| on_tree(s, &tree, writable);
        attempt(&rig, &open("/srv/node", 0), prepare, Defence::Devices);
    }
}

fn a_device_is_not_written_that_may_be_read() {
    let rig = Rig::new();
    let prepare = |s: &mut berth::unit::model::Service| {
        s.security.devices = Some(vec![device("/dev/kmsg", "/dev/kmsg", "r")]);
    };
    attempt(&rig, &open("/dev/kmsg", 1), prepare, Defence::Devices);
}

fn a_device_is_not_made_again_that_may_be_used() {
    let rig = Rig::new();
    let prepare = |s: &mut berth::unit::model::Service| {
        s.security.devices = Some(vec![device("/dev/kmsg", "/dev/kmsg", "rw")]);
    };
    let script = "mknod -m 666 /dev/for-all c 1 11 2>&1 && echo escaped";
    attempt(&rig, script, prepare, Defence::Devices);
}
