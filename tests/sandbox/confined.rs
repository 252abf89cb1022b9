//! The keeper of networks and its helpers: what each is confined to. Every attempt is made
//! three times: by a process as it is, which succeeds; by a helper, which dies of it; and by
//! the keeper, which is refused or, where it has use for it, is not.

use std::os::fd::AsFd;

use berth::network::confine::{self, Files};
use berth::sys::clone::namespace;
use berth::sys::reap::{self, Ended};
use berth::sys::{fd, fork};

use super::rig::Test;

pub const TESTS: &[Test] = &[
    ("a_helper_makes_no_file", || attempt(&|| std::fs::File::create("/dev/null").is_ok(), true)),
    ("a_helper_starts_no_program", a_helper_starts_no_program),
    ("a_helper_enters_no_namespace", a_helper_enters_no_namespace),
    ("a_helper_without_files_reads_none", a_helper_without_files_reads_none),
    ("a_helper_makes_no_process", a_helper_makes_no_process),
    ("a_helper_signals_nobody", a_helper_signals_nobody),
    ("the_keeper_enters_networks_and_nothing_else", the_keeper_enters_networks_and_nothing_else),
    ("the_keeper_mounts_nothing", the_keeper_mounts_nothing),
    ("nothing_is_left_of_rights", nothing_is_left_of_rights),
];

/// `SIGSYS`.
const FORBIDDEN: Ended = Ended::Signal(31);

/// How a process ends that is confined and then does something: 0 if it can.
fn after(confine: fn() -> std::io::Result<()>, code: &dyn Fn() -> bool) -> Ended {
    let options = fork::Options::default();
    let child = fork::child(&options, || match confine() {
        Ok(()) => i32::from(!code()),
        Err(_) => 99,
    });
    let child = child.unwrap();
    assert!(fd::readable_within(child.pidfd.as_fd(), 10_000).unwrap());
    reap::reap(child.pid).unwrap().unwrap().ended
}

fn reader() -> std::io::Result<()> {
    confine::helper(Files::Read)
}

fn fileless() -> std::io::Result<()> {
    confine::helper(Files::None)
}

/// A helper dies of it; the keeper can do it or not.
fn attempt(code: &dyn Fn() -> bool, keeper: bool) {
    assert_eq!(after(|| Ok(()), code), Ended::Code(0), "the control");
    assert_eq!(after(reader, code), FORBIDDEN, "the resolver");
    assert_eq!(after(fileless, code), FORBIDDEN, "the forwarder");
    assert_eq!(after(confine::keeper, code) == Ended::Code(0), keeper, "the keeper");
}

fn a_helper_starts_no_program() {
    // The keeper starts nft(8), of which nothing special is known.
    let run = || {
        let path = std::ffi::CString::new("/bin/true").unwrap();
        nix::unistd::execv(&path, &[&path]).is_ok()
    };
    attempt(&run, true);
}

fn a_helper_enters_no_namespace() {
    attempt(&|| berth::sys::namespace::leave(namespace::NETWORK).is_ok(), false);
}

fn a_helper_without_files_reads_none() {
    let read = || std::fs::read("/etc/hostname").is_ok() || std::fs::read("/proc/stat").is_ok();
    assert_eq!(after(|| Ok(()), &read), Ended::Code(0), "the control");
    assert_eq!(after(reader, &read), Ended::Code(0), "the resolver reads resolv.conf");
    assert_eq!(after(fileless, &read), FORBIDDEN);
}

fn a_helper_makes_no_process() {
    // It is waited for: an orphan would be left to the next test.
    let child = || {
        fork::child(&fork::Options::default(), || 0).is_ok_and(|child| {
            fd::readable_within(child.pidfd.as_fd(), 10_000).is_ok()
                && reap::reap(child.pid).is_ok_and(|dead| dead.is_some())
        })
    };
    attempt(&child, true);
}

fn a_helper_signals_nobody() {
    let signal = || nix::sys::signal::kill(nix::unistd::getpid(), None).is_ok();
    attempt(&signal, true);
}

fn the_keeper_enters_networks_and_nothing_else() {
    let into = |kind: &str, flag: u64| {
        let path = format!("/proc/self/ns/{kind}");
        move || {
            let namespace = std::fs::File::open(&path).unwrap();
            berth::sys::namespace::enter(namespace.as_fd(), flag).is_ok()
        }
    };
    attempt(&into("net", namespace::NETWORK), true);
    attempt(&into("uts", namespace::UTS), false);
}

fn the_keeper_mounts_nothing() {
    let mount = || {
        let flags = rustix::mount::MountPropagationFlags::PRIVATE;
        // In a namespace of the test's own, which it makes first where it may.
        let _ = berth::sys::namespace::leave(namespace::MOUNT);
        rustix::mount::mount_change("/", flags | rustix::mount::MountPropagationFlags::REC).is_ok()
    };
    attempt(&mount, false);
}

/// What the kernel says of a confined process: no user, no capabilities, a filter, for good.
fn nothing_is_left_of_rights() {
    let says = |wanted: &'static [(&'static str, &'static str)]| {
        move || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            wanted.iter().all(|(key, value)| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.is_some_and(|line| line.trim_start_matches(':').trim().starts_with(value))
            })
        }
    };
    let none = says(&[
        ("Uid", "65534"),
        ("Gid", "65534"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ]);
    assert_eq!(after(|| Ok(()), &none), Ended::Code(1), "the control");
    assert_eq!(after(reader, &none), Ended::Code(0));
    let few = says(&[
        ("CapInh", "0000000000000000"),
        ("CapPrm", "00000000002815e6"),
        ("CapEff", "00000000002815e6"),
        ("CapBnd", "00000000002815e6"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ]);
    assert_eq!(after(confine::keeper, &few), Ended::Code(0));
}
