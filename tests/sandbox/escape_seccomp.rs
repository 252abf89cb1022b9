//! System calls that reach where a container has no business, tried from inside one.
//!
//! Each attempt is made twice from the same unit: with the default profile it must be
//! refused, with the very errno that the profile says; with `seccomp = "unconfined"`, and
//! nothing else changed, it must succeed or get another answer, the kernel's own. So no
//! attempt passes because the kernel, or a capability, would have refused it anyway.

use berth::sys::reap::Ended;
use berth::unit::model::{
    At, Capabilities, CapabilitySet, Seccomp, Service, UserNamespace, Writable,
};

use super::rig::{Outcome, Rig, Test, bind, on_tree, service, unit};
use super::seccomp::{PROBE, probe, set};

pub const TESTS: &[Test] = &[
    ("keys_are_the_hosts", keys_are_the_hosts),
    ("a_keyring_is_out_of_reach", a_keyring_is_out_of_reach),
    ("a_key_cannot_be_requested", a_key_cannot_be_requested),
    ("the_kernels_ciphers_are_out_of_reach", the_kernels_ciphers_are_out_of_reach),
    ("a_set_upper_half_hides_no_family", a_set_upper_half_hides_no_family),
    ("the_hypervisor_is_out_of_reach", the_hypervisor_is_out_of_reach),
    ("io_uring_cannot_be_set_up", io_uring_cannot_be_set_up),
    ("page_faults_cannot_be_held_up", page_faults_cannot_be_held_up),
    ("unshare_makes_no_user_namespace", unshare_makes_no_user_namespace),
    ("clone_makes_no_namespaces", clone_makes_no_namespaces),
    ("clone3_is_not_there", clone3_is_not_there),
    ("setns_is_refused", setns_is_refused),
    ("mount_is_refused", mount_is_refused),
    ("the_new_mount_calls_are_refused", the_new_mount_calls_are_refused),
    ("bpf_is_refused", bpf_is_refused),
    ("perf_is_refused", perf_is_refused),
    ("kexec_is_refused", kexec_is_refused),
    ("handles_are_refused", handles_are_refused),
    ("characters_are_not_put_into_a_terminal", characters_are_not_put_into_a_terminal),
    ("the_layout_of_memory_stays_random", the_layout_of_memory_stays_random),
    ("memory_stays_where_it_is", memory_stays_where_it_is),
    ("descriptors_of_others_are_out_of_reach", descriptors_of_others_are_out_of_reach),
    ("old_and_odd_calls_are_refused", old_and_odd_calls_are_refused),
    ("the_32_bit_entry_kills", the_32_bit_entry_kills),
    ("the_x32_entry_is_not_there", the_x32_entry_is_not_there),
    ("what_a_debugger_needs_is_allowed", what_a_debugger_needs_is_allowed),
];

/// Runs Perl code that ends with `verdict(…)`; numbers of system calls are those of x86-64.
fn run(perl: &str, change: &dyn Fn(&mut Service)) -> Outcome {
    const BEGIN: &str = "use strict; use Socket; \
        sub text { my $copy = shift; $copy } \
        sub verdict { my ($good) = @_; my $errno = $! + 0; \
        print $good ? 'done' : $errno } ";
    let rig = Rig::new();
    let mut unit = unit("web", &["perl", "-e", &format!("{BEGIN}{perl}")]);
    change(service(&mut unit));
    rig.run(&unit)
}

fn free(service: &mut Service) {
    set(service, Seccomp::Unconfined);
}

/// Refused with this errno; without the filter one of these answers.
fn attempt(perl: &str, errno: i32, otherwise: &[&str]) {
    assert_eq!(run(perl, &|_| {}).output, errno.to_string(), "filtered: {perl}");
    let control = run(perl, &free).output;
    assert!(otherwise.contains(&control.as_str()), "unconfined: {control} of {perl}");
}

/// The default profile says EPERM; the kernel itself would carry it out.
fn refused(perl: &str) {
    attempt(perl, 1, &["done"]);
}

fn keys_are_the_hosts() {
    refused("verdict(syscall(248, text('user'), text('berth'), text('x'), 1, -2) > 0)");
}

fn a_keyring_is_out_of_reach() {
    // KEYCTL_GET_KEYRING_ID of the process' own, made if missing.
    refused("verdict(syscall(250, 0, -2, 1) > 0)");
}

fn a_key_cannot_be_requested() {
    // ENOKEY: it looked.
    attempt("verdict(syscall(249, text('user'), text('none'), 0, 0) > 0)", 1, &["126"]);
}

fn the_kernels_ciphers_are_out_of_reach() {
    // EAFNOSUPPORT from a kernel that is built without them.
    attempt("verdict(syscall(41, 38, 5, 0) >= 0)", 1, &["done", "97"]);
}

/// The kernel reads an `int`: 38 with anything above it is 38.
fn a_set_upper_half_hides_no_family() {
    attempt("verdict(syscall(41, 38 | 1 << 32, 5, 0) >= 0)", 1, &["done", "97"]);
    refused("verdict(syscall(41, 40 | 1 << 40, 1, 0) >= 0)");
}

fn the_hypervisor_is_out_of_reach() {
    refused("verdict(syscall(41, 40, 1, 0) >= 0)");
    // ENODEV where there is no hypervisor.
    attempt("verdict(syscall(41, 40, 2, 0) >= 0)", 1, &["done", "19"]);
}

fn io_uring_cannot_be_set_up() {
    refused("my $parameters = chr(0) x 120; verdict(syscall(425, 1, $parameters) >= 0)");
    // EBADF and EINVAL: no ring.
    attempt("verdict(syscall(426, -1, 0, 0, 0, 0, 0) >= 0)", 1, &["9", "22"]);
    attempt("verdict(syscall(427, -1, 0, 0, 0) >= 0)", 1, &["9", "22"]);
}

fn page_faults_cannot_be_held_up() {
    // UFFD_USER_MODE_ONLY, which takes no capability.
    refused("verdict(syscall(323, 1) >= 0)");
}

fn unshare_makes_no_user_namespace() {
    // With the namespace come all capabilities in it, and the rest of the kernel to try.
    refused("verdict(syscall(272, 0x10000000) == 0)");
    refused(
        "syscall(272, 0x10020000) == 0 or do { verdict(0); exit }; \
         mkdir '/tmp/m'; verdict(syscall(165, text('x'), text('/tmp/m'), text('tmpfs'), 0, 0) == 0)",
    );
}

fn clone_makes_no_namespaces() {
    for namespace in ["0x10000000", "0x10020000", "0x50000000", "0x18000000", "0x12000000"] {
        refused(&format!(
            "$| = 1; my $pid = syscall(56, {namespace} | 17, 0, 0, 0, 0); \
             syscall(231, 0) if $pid == 0; verdict($pid > 0)"
        ));
    }
}

fn clone3_is_not_there() {
    // ENOSYS, so that libc goes on with clone(2).
    let perl = "$| = 1; my $arguments = pack('Q11', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0); \
        my $pid = syscall(435, $arguments, 88); syscall(231, 0) if $pid == 0; verdict($pid > 0)";
    attempt(perl, 38, &["done"]);
}

fn setns_is_refused() {
    // EINVAL: it is in that user namespace already.
    let perl = "open(my $own, '<', '/proc/self/ns/user') or die; \
        verdict(syscall(308, fileno($own), 0) == 0)";
    attempt(perl, 1, &["22"]);
}

fn mount_is_refused() {
    // ENOENT, EINVAL: the paths were looked at.
    let perl = "verdict(syscall(165, text('x'), text('/no/where'), text('tmpfs'), 0, 0) == 0)";
    attempt(perl, 1, &["2"]);
    attempt("verdict(syscall(166, text('/no/where'), 0xffff) == 0)", 1, &["22"]);
}

fn the_new_mount_calls_are_refused() {
    // open_tree(2) without a copy is open(2), and takes nothing.
    refused("verdict(syscall(428, -100, text('/'), 0) >= 0)");
    attempt("verdict(syscall(442, -100, text('/'), 0, 0, 0) == 0)", 1, &["22"]);
    attempt("verdict(syscall(433, -100, text('/'), -1) == 0)", 1, &["1", "22"]);
}

fn bpf_is_refused() {
    // EINVAL: there is no such command.
    attempt("my $a = chr(0) x 128; verdict(syscall(321, 9999, $a, 128) >= 0)", 1, &["22"]);
}

fn perf_is_refused() {
    attempt("verdict(syscall(298, 0, 0, -1, -1, 0) >= 0)", 1, &["14"]);
}

/// As [`attempt`], for what the kernel asks for a capability too: the control is a root of
/// the host that has it.
fn refused_without(capability: &str, perl: &str, otherwise: &[&str]) {
    assert_eq!(run(perl, &|_| {}).output, "1", "filtered: {perl}");
    let control = run(perl, &|s| {
        free(s);
        s.security.user_namespace = UserNamespace::None;
        let add = At::default_value(CapabilitySet::named(capability).unwrap());
        s.security.capabilities = Capabilities::Changed { add, drop: At::default() };
    });
    assert!(otherwise.contains(&control.output.as_str()), "unconfined: {control:?} of {perl}");
}

fn kexec_is_refused() {
    // EINVAL for flags that there are not; ENOSYS from a kernel that is built without it.
    for perl in [
        "verdict(syscall(246, 0, 0, 0, 0xff00) == 0)",
        "verdict(syscall(320, -1, -1, 0, 0, 0xff00) == 0)",
    ] {
        refused_without("SYS_BOOT", perl, &["22", "38"]);
    }
}

fn handles_are_refused() {
    // EFAULT: it looked at the arguments.
    refused_without("DAC_READ_SEARCH", "verdict(syscall(304, -100, 0, 0) >= 0)", &["14"]);
}

/// What is put into a terminal is read by whoever reads from it next. EIO: this kernel does
/// not let it happen either (`dev.tty.legacy_tiocsti`).
fn characters_are_not_put_into_a_terminal() {
    for request in ["0x5412", "0x5412 | 1 << 32", "0x541c"] {
        let perl = format!(
            "use Fcntl; $| = 1; sysopen(my $master, '/dev/ptmx', O_RDWR | O_NOCTTY) or die $!; \
             my $unlock = pack('i', 0); ioctl($master, 0x40045431, $unlock) or die $!; \
             my $number = pack('i', 0); ioctl($master, 0x80045430, $number) or die $!; \
             my $name = '/dev/pts/' . unpack('i', $number); \
             sysopen(my $slave, $name, O_RDWR | O_NOCTTY) or die $!; \
             syscall(16, fileno($slave), 0x540e, 0) == 0 or die $!; \
             verdict(syscall(16, fileno($slave), {request}, text('x')) == 0)"
        );
        attempt(&perl, 1, &["done", "5", "25"]);
    }
}

fn the_layout_of_memory_stays_random() {
    for persona in ["0x40000", "0x400000", "0x40000 | 1 << 32"] {
        refused(&format!("verdict(syscall(135, {persona}) >= 0)"));
    }
}

fn memory_stays_where_it_is() {
    refused("verdict(syscall(238, 0, 0, 0) == 0)");
    refused("verdict(syscall(279, 0, 0, 0, 0, 0, 0) == 0)");
}

fn descriptors_of_others_are_out_of_reach() {
    let child = "my $pid = fork; if (!$pid) { sleep 1000; exit } my $end = sub { my $e = $!; \
        kill 'KILL', $pid; waitpid $pid, 0; $! = $e };";
    refused(&format!(
        "{child} my $pidfd = syscall(434, $pid, 0); my $fd = syscall(438, $pidfd, 0, 0); \
         $end->(); verdict($fd >= 0)"
    ));
    // EBADF: that is no process.
    attempt("verdict(syscall(440, -1, 0, 0, 0, 0) >= 0)", 1, &["9", "22"]);
}

fn old_and_odd_calls_are_refused() {
    // sysfs(2): how many types of filesystems there are.
    attempt("verdict(syscall(139, 3) > 0)", 1, &["done", "38"]);
    attempt("my $b = chr(0) x 64; verdict(syscall(136, 0, $b) == 0)", 1, &["22"]);
    attempt("verdict(syscall(134, text('/x')) == 0)", 1, &["38", "2"]);
    attempt("verdict(syscall(163, text('/no/where')) == 0)", 1, &["1", "38"]);
}

/// The probe's answer to one call.
fn ask(words: &[&str], change: &dyn Fn(&mut Service)) -> Outcome {
    let rig = Rig::new();
    let (tree, directory) = (rig.tree("rootfs"), probe(&rig));
    let mut unit = unit("web", &[&[PROBE], words].concat());
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    service(&mut unit).mounts.push(bind(&directory, "/probe"));
    change(service(&mut unit));
    rig.run(&unit)
}

/// By other numbers a refused call (`keyctl`, 288 there) would pass a table of numbers, and
/// an allowed one (`getpid`, 20) is no better.
fn the_32_bit_entry_kills() {
    for words in [["int80", "288", "0", "-2", "1"], ["int80", "20", "0", "0", "0"]] {
        assert_eq!(ask(&words, &|_| {}).ended, Ended::Signal(libc::SIGSYS));
        let control = ask(&words, &free).good();
        assert!(control.trim().parse::<i64>().unwrap() > 0, "{control}");
    }
}

/// That a kernel with x32 would be asked without the filter is shown by
/// `without_a_filter_every_way_is_open`.
fn the_x32_entry_is_not_there() {
    for words in [["x32", "250", "0", "-2", "1"], ["x32", "39", "0", "0", "0"]] {
        assert_eq!(ask(&words, &|_| {}).good(), "-38\n");
    }
    assert!(ask(&["syscall", "39"], &|_| {}).good().trim().parse::<i64>().unwrap() > 0);
}

/// The profile is no stricter than it must be: a process looks into its own child.
fn what_a_debugger_needs_is_allowed() {
    let perl = "my $secret = 'of the child'; my $where = unpack('Q', pack('P', $secret)); \
        pipe(my $read, my $write) or die; my $pid = fork; \
        if (!$pid) { syscall(101, 0, 0, 0, 0); kill 'STOP', $$; exit } \
        waitpid($pid, 2); my $buffer = ' ' x 12; \
        my $to = pack('QQ', unpack('Q', pack('P', $buffer)), 12); my $from = pack('QQ', $where, 12); \
        my $count = syscall(310, $pid, $to, 1, $from, 1, 0); my $error = $!; \
        kill 'KILL', $pid; $! = $error; verdict($count == 12 && $buffer eq $secret)";
    assert_eq!(run(perl, &|_| {}).output, "done");
}
