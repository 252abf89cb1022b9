//! What root in a container tries, and which capability it takes.
//!
//! Each attempt is made three times from inside a real unit: with the default set it must
//! be denied (`EPERM` or `EACCES`, and nothing else that could look like it); with this
//! one capability added, and in a privileged unit, the same attempt must succeed. So no
//! attempt passes because it could not have worked anyway. System calls are not filtered:
//! the capability alone must hold.

use berth::unit::model::{At, Capabilities, Seccomp, Service};

use super::capabilities::at;
use super::rig::{Rig, Test, bind};

pub const TESTS: &[Test] = &[
    ("mounting_takes_a_capability", mounting),
    ("remounting_the_root_takes_a_capability", remounting),
    ("new_namespaces_take_a_capability", new_namespaces),
    ("the_host_name_takes_a_capability", host_name),
    ("a_block_device_takes_a_capability", block_device),
    ("a_handle_out_of_the_tree_takes_a_capability", handle_out_of_the_tree),
    ("a_raw_socket_takes_a_capability", raw_socket),
    ("a_packet_socket_takes_a_capability", packet_socket),
    ("taking_the_loopback_down_takes_a_capability", loopback_down),
    ("looking_into_another_user_takes_a_capability", another_users_process),
    ("a_nice_value_below_0_takes_a_capability", nice_below_0),
    ("the_kernels_log_takes_a_capability", kernel_log),
    ("an_immutable_file_takes_a_capability", immutable_file),
    ("rebooting_takes_a_capability", rebooting),
    ("locking_memory_beyond_the_limit_takes_a_capability", locking_memory),
];

/// What a capability is worth in a user namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// As much as outside: what it is about is the unit's own.
    Own,
    /// Nothing: what it is about is the host's.
    Host,
}

/// Runs Perl code that ends with `verdict(…)`; the numbers of system calls are those of
/// x86-64.
fn attempt(capability: &str, reach: Reach, perl: &str, change: impl Fn(&mut Service)) {
    const BEGIN: &str = "use strict; use Socket; \
        sub text { my $copy = shift; $copy } \
        sub verdict { my ($good) = @_; my $errno = $! + 0; \
        print $good ? 'done' : $errno == 1 || $errno == 13 ? 'denied' : qq(error $errno: $!) } ";
    let rig = Rig::new();
    rig.host_users.set(true);
    // Which has another defence of its own.
    rig.all_devices.set(true);
    let run = |more: &dyn Fn(&mut Service)| {
        let mut unit = super::rig::unit("web", &["perl", "-e", &format!("{BEGIN}{perl}")]);
        super::seccomp::set(super::rig::service(&mut unit), Seccomp::Unconfined);
        change(super::rig::service(&mut unit));
        more(super::rig::service(&mut unit));
        rig.run(&unit).output
    };
    assert_eq!(run(&|_| {}), "denied", "{capability}, not given");
    let add = Capabilities::Changed { add: at(&[capability]), drop: At::default() };
    assert_eq!(run(&|s| s.security.capabilities = add.clone()), "done", "{capability}, given");
    assert_eq!(run(&|s| s.security.privileged = true), "done", "{capability}, privileged");
    rig.host_users.set(false);
    let inside = if reach == Reach::Own { "done" } else { "denied" };
    let given = run(&|s| s.security.capabilities = add.clone());
    assert_eq!(given, inside, "{capability}, given in a user namespace");
}

fn mounting() {
    let perl = "mkdir '/tmp/m' or die; verdict(syscall(165, text('x'), text('/tmp/m'), text('tmpfs'), 0, 0) == 0)";
    attempt("SYS_ADMIN", Reach::Own, perl, |_| {});
}

/// The root tree is read-only: `MS_REMOUNT | MS_BIND` without `MS_RDONLY` would end that.
fn remounting() {
    let perl =
        "verdict(syscall(165, text('x'), text('/'), 0, 32 | 4096, 0) == 0 && mkdir('/escaped'))";
    attempt("SYS_ADMIN", Reach::Own, perl, |s| {
        s.writable = berth::unit::model::Writable::None;
    });
}

fn new_namespaces() {
    attempt("SYS_ADMIN", Reach::Own, "verdict(syscall(272, 0x20000) == 0)", |_| {});
}

fn host_name() {
    attempt("SYS_ADMIN", Reach::Own, "verdict(syscall(170, text('evil'), 4) == 0)", |_| {});
}

fn block_device() {
    // The first loop device: whatever it is, it is not the unit's.
    attempt(
        "MKNOD",
        Reach::Host,
        "verdict(syscall(133, text('/tmp/disk'), 0060600, 7 << 8) == 0)",
        |_| {},
    );
}

/// A handle made outside names a file beside the mount that the unit has; any descriptor
/// on the same file system opens it.
fn handle_out_of_the_tree() {
    let outside = Rig::new();
    let secret = outside.file("secret", "of the host");
    let shared = outside.path("files");
    let make = "my $h = pack('Ll', 128, 0) . (chr(0) x 128); my $id = pack('l', 0); \
        syscall(303, -100, $ARGV[0], $h, $id, 0) == 0 or die $!; \
        print unpack('H*', substr($h, 0, 8 + unpack('L', $h)))";
    let output = std::process::Command::new("perl").args(["-e", make, &secret]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let handle = String::from_utf8(output.stdout).unwrap();
    let perl = format!(
        "open(my $mount, '<', '/data/inside') or die $!; my $handle = pack('H*', '{handle}'); \
         my $fd = syscall(304, fileno($mount), $handle, 0); \
         if ($fd >= 0) {{ open(my $file, '<&=', $fd) or die; <$file> eq 'of the host' or die }} \
         verdict($fd >= 0)"
    );
    outside.file("files/inside", "");
    attempt("DAC_READ_SEARCH", Reach::Host, &perl, |s| s.mounts.push(bind(&shared, "/data")));
}

fn raw_socket() {
    attempt("NET_RAW", Reach::Own, "verdict(socket(my $s, PF_INET, SOCK_RAW, 1))", |_| {});
}

fn packet_socket() {
    attempt("NET_RAW", Reach::Own, "verdict(socket(my $s, 17, SOCK_RAW, 0x0300))", |_| {});
}

fn loopback_down() {
    let perl = "socket(my $s, PF_INET, SOCK_DGRAM, 0) or die; \
        my $request = pack('a16 s x22', 'lo', 0); verdict(ioctl($s, 0x8914, $request))";
    attempt("NET_ADMIN", Reach::Own, perl, |_| {});
}

fn another_users_process() {
    let perl = "pipe(my $read, my $write) or die; my $pid = fork; \
        if (!$pid) { $) = '1234 1234'; $( = 1234; $< = 1234; $> = 1234; close $read; \
            syswrite($write, $> == 1234 ? 'x' : 'y'); sleep 1000 } \
        sysread($read, my $x, 1); $x eq 'x' or die; \
        my $attached = syscall(101, 16, $pid, 0, 0); my $errno = $! + 0; \
        kill 'KILL', $pid; $! = $errno; verdict($attached == 0)";
    attempt("SYS_PTRACE", Reach::Own, perl, |_| {});
}

fn nice_below_0() {
    attempt("SYS_NICE", Reach::Host, "verdict(syscall(141, 0, 0, -5) == 0)", |_| {});
}

fn kernel_log() {
    // How much is unread: harmless, and refused however `dmesg_restrict` is set.
    attempt("SYSLOG", Reach::Host, "verdict(syscall(103, 9, 0, 0) >= 0)", |_| {});
}

fn immutable_file() {
    let perl = "open(my $file, '>', '/tmp/file') or die; my $flags = pack('L', 0x10); \
        verdict(ioctl($file, 0x40086602, $flags))";
    attempt("LINUX_IMMUTABLE", Reach::Host, perl, |_| {});
}

/// With wrong magic numbers: who may reboot hears that, before anything happens.
fn rebooting() {
    let perl = "my $done = syscall(169, 1, 2, 3, 0); verdict($done < 0 && $! == 22)";
    attempt("SYS_BOOT", Reach::Host, perl, |_| {});
}

fn locking_memory() {
    let perl = "my $limit = pack('QQ', 0, 0); syscall(160, 8, $limit) == 0 or die; \
        my $memory = 'x' x 4096; verdict(syscall(149, $memory, 4096) == 0)";
    attempt("IPC_LOCK", Reach::Host, perl, |_| {});
}
