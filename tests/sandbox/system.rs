//! The wrappers over the kernel that the loop and its helpers use.

use std::os::fd::{AsFd, AsRawFd};

use berth::sys::reap::{self, Dead, Ended};
use berth::sys::{clone, fd, fork, limits, memfd, mount, pidfd, signal, socket};

use super::rig::{Test, wait_for};

pub const TESTS: &[Test] = &[
    ("a_forked_helper_is_alone", a_forked_helper_is_alone),
    ("a_helper_has_its_limits", a_helper_has_its_limits),
    ("a_helper_dies_with_its_parent", a_helper_dies_with_its_parent),
    ("a_zombie_waits_to_be_reaped", a_zombie_waits_to_be_reaped),
    ("signals_are_read", signals_are_read),
    ("descriptors_travel", descriptors_travel),
    ("senders_are_known", senders_are_known),
    ("a_sealed_program_stays_as_it_is", a_sealed_program_stays_as_it_is),
    ("an_ordinary_root_is_left_alone", an_ordinary_root_is_left_alone),
];

fn wait(process: &clone::Process) -> Ended {
    super::rig::wait_pidfd(process.pidfd.as_fd()).unwrap().unwrap().ended
}

fn open_fds() -> Vec<i32> {
    let mut fds: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    fds.sort_unstable();
    fds.pop(); // The directory itself.
    fds
}

fn a_forked_helper_is_alone() {
    let kept = std::fs::File::open("/dev/null").unwrap();
    let other = std::fs::File::open("/dev/null").unwrap();
    let (number, others) = (kept.as_raw_fd(), other.as_raw_fd());
    assert!(open_fds().contains(&others));
    let keep = [kept.as_fd()];
    let options = fork::Options { keep: &keep, ..fork::Options::default() };
    let helper = fork::child(&options, || i32::from(open_fds() != [0, 1, 2, number])).unwrap();
    assert_eq!(wait(&helper), Ended::Code(0));
    std::panic::set_hook(Box::new(|_| {}));
    let helper = fork::child(&fork::Options::default(), || panic!("on purpose")).unwrap();
    assert_eq!(wait(&helper), Ended::Code(clone::PANICKED));
}

fn a_helper_has_its_limits() {
    let options =
        fork::Options { memory: Some(64 << 20), cpu_seconds: Some(1), ..fork::Options::default() };
    let hungry = |bytes: usize| {
        let helper = fork::child(&options, || {
            let mut memory: Vec<u8> = Vec::new();
            i32::from(memory.try_reserve_exact(bytes).is_err())
        });
        wait(&helper.unwrap())
    };
    assert_eq!((hungry(1 << 20), hungry(128 << 20)), (Ended::Code(0), Ended::Code(1)));
    let busy = fork::child(&options, || {
        let mut sum = 0u64;
        loop {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    });
    assert!(matches!(wait(&busy.unwrap()), Ended::Signal(libc::SIGKILL | libc::SIGXCPU)));
    assert!(limits::set(limits::Resource::Core, 0).is_ok());
}

fn a_helper_dies_with_its_parent() {
    let (read, write) = std::io::pipe().unwrap();
    let keep = [write.as_fd()];
    let options = fork::Options { keep: &keep, ..fork::Options::default() };
    let parent = fork::child(&options, || {
        let options =
            fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
        let helper = fork::child(&options, || {
            rustix::io::write(&write, b"up").unwrap();
            loop {
                std::thread::park();
            }
        });
        helper.unwrap();
        loop {
            std::thread::park();
        }
    })
    .unwrap();
    drop(write);
    assert!(fd::readable_within(read.as_fd(), super::machine::patience(10_000)).unwrap());
    assert_eq!(rustix::io::read(&read, &mut [0; 2]).unwrap(), 2);
    pidfd::send_signal(parent.pidfd.as_fd(), libc::SIGKILL).unwrap();
    // The end of the pipe: nobody holds its other side any more.
    assert!(fd::readable_within(read.as_fd(), super::machine::patience(10_000)).unwrap());
    assert_eq!(rustix::io::read(&read, &mut [0; 2]).unwrap(), 0);
    assert_eq!(wait(&parent), Ended::Signal(libc::SIGKILL));
}

fn a_zombie_waits_to_be_reaped() {
    assert_eq!(reap::peek().unwrap(), None);
    let helper = fork::child(&fork::Options::default(), || 7).unwrap();
    let dead = Dead { pid: helper.pid, ended: Ended::Code(7) };
    wait_for("it has ended", || reap::peek().unwrap().is_some());
    assert_eq!(reap::peek().unwrap(), Some(dead));
    assert!(pidfd::has_ended(helper.pidfd.as_fd()).unwrap());
    assert_eq!(reap::reap(helper.pid).unwrap(), Some(dead));
    assert_eq!((reap::peek().unwrap(), reap::reap(helper.pid).unwrap()), (None, None));
    let gone = pidfd::send_signal(helper.pidfd.as_fd(), libc::SIGTERM).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
}

fn signals_are_read() {
    let fd = signal::block_all().unwrap();
    assert_eq!(signal::take(fd.as_fd()).unwrap(), None);
    let own = pidfd::open(std::process::id().cast_signed()).unwrap();
    // Also the two that libc keeps for itself: anybody with the same user can send them.
    for number in [libc::SIGTERM, libc::SIGHUP, 32, 33, 34, signal::HIGHEST] {
        pidfd::send_signal(own.as_fd(), number).unwrap();
        assert_eq!(signal::take(fd.as_fd()).unwrap(), Some(number));
    }
    assert_eq!(signal::take(fd.as_fd()).unwrap(), None);
    // A helper has them back.
    let helper = fork::child(&fork::Options::default(), || {
        loop {
            std::thread::park();
        }
    });
    let helper = helper.unwrap();
    pidfd::send_signal(helper.pidfd.as_fd(), libc::SIGTERM).unwrap();
    assert_eq!(wait(&helper), Ended::Signal(libc::SIGTERM));
    assert_eq!(signal::take(fd.as_fd()).unwrap(), Some(libc::SIGCHLD));
}

fn descriptors_travel() {
    let (left, right) = socket::seqpacket_pair().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    assert!(socket::receive(right.as_fd(), &mut [0; 8]).unwrap().is_none());
    let fds = [write.as_fd(), read.as_fd()];
    assert_eq!(socket::send(left.as_fd(), b"two", &fds).unwrap(), 3);
    let mut buffer = [0; 8];
    let message = socket::receive(right.as_fd(), &mut buffer).unwrap().unwrap();
    assert_eq!(
        (&buffer[..message.length], message.fds.len(), message.truncated),
        (&b"two"[..], 2, false)
    );
    drop((read, write));
    rustix::io::write(&message.fds[0], b"x").unwrap();
    assert_eq!(rustix::io::read(&message.fds[1], &mut [0; 4]).unwrap(), 1);
    let flags = rustix::io::fcntl_getfd(&message.fds[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    // More than fits is cut and said; too many descriptors are refused, or closed.
    socket::send(left.as_fd(), b"123456789", &[]).unwrap();
    let message = socket::receive(right.as_fd(), &mut buffer).unwrap().unwrap();
    assert!(message.truncated && message.length == 8 && message.credentials.is_none());
    let many = [left.as_fd(); socket::FDS_MAX + 1];
    assert!(socket::send(left.as_fd(), b"x", &many).is_err());
    let before = open_fds();
    let full = socket::send(left.as_fd(), b"x", &many[1..]).unwrap();
    let message = socket::receive(right.as_fd(), &mut buffer).unwrap().unwrap();
    assert_eq!((full, message.fds.len()), (1, socket::FDS_MAX));
    drop(message);
    assert_eq!(open_fds(), before);
    drop(left);
    let end = socket::receive(right.as_fd(), &mut buffer).unwrap().unwrap();
    assert_eq!((end.length, end.fds.len()), (0, 0));
}

fn senders_are_known() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("notify");
    let bound = socket::bind_datagram(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let helper = fork::child(&fork::Options::default(), || {
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        0
    })
    .unwrap();
    assert_eq!(wait(&helper), Ended::Code(0));
    let mut buffer = [0; 64];
    let message = socket::receive(bound.as_fd(), &mut buffer).unwrap().unwrap();
    let sender = message.credentials.unwrap();
    assert_eq!((sender.pid, sender.uid, sender.gid), (helper.pid, 0, 0));
}

fn a_sealed_program_stays_as_it_is() {
    let fd = memfd::sealed_program("test", b"#!/bin/true\n").unwrap();
    let again = format!("/proc/self/fd/{}", fd.as_raw_fd());
    assert_eq!(std::fs::read(&again).unwrap(), b"#!/bin/true\n");
    let file = std::fs::OpenOptions::new().write(true).open(&again).unwrap();
    let refused = rustix::io::write(&file, b"x").unwrap_err();
    assert_eq!(refused, rustix::io::Errno::PERM);
    assert!(file.set_len(0).is_err());
}

fn an_ordinary_root_is_left_alone() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mount::leave_initial_root().unwrap());
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}
