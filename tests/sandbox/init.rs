//! The tiny init reaps, and holds nothing of the supervisor.

use std::os::fd::AsFd;

use berth::sys::{pidfd, reap};

use super::rig::{Rig, Test, unit, wait_for};

pub const TESTS: &[Test] = &[
    ("orphans_are_reaped", orphans_are_reaped),
    ("the_init_holds_nothing", the_init_holds_nothing),
    ("the_inits_memory_holds_nothing", the_inits_memory_holds_nothing),
    ("the_init_shrugs_off_signals", the_init_shrugs_off_signals),
    ("the_end_of_the_init_is_the_end", the_end_of_the_init_is_the_end),
];

fn orphans_are_reaped() {
    let rig = Rig::new();
    // Fifty grandchildren whose parents have gone, among them some that end later.
    let script = "for i in $(seq 50); do (sleep 0.0$((i % 5)) &); done; echo made; exec sleep 1000";
    let mut running = rig.up(&unit("web", &["sh", "-c", script])).unwrap();
    assert_eq!(running.line(), "made");
    let zombies = "ls /proc | grep -c '^[0-9]'; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    // The init, the service, the shell, ls and grep.
    wait_for("only the living are left", || running.shell(zombies).output == "5\n0\n");
    running.down();
}

fn the_init_holds_nothing() {
    let rig = Rig::new();
    let script = "ls /proc/1/fd | wc -l; wc -c < /proc/1/environ; tr '\\0' ' ' < /proc/1/cmdline; \
        echo; cat /proc/1/comm; grep -c heap /proc/1/maps; wc -l < /proc/1/maps; readlink /proc/1/cwd";
    let output = rig.shell(script, |_| {}).good();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..5], ["0", "0", "berth-init ", "berth-init", "0"], "{output}");
    // Its own program, the stack and the kernel's pages.
    assert!(lines[5].parse::<u32>().unwrap() <= 7, "{output}");
    assert_eq!(lines[6], "/");
    let own = std::fs::read_to_string("/proc/self/environ").unwrap_or_default();
    assert!(!own.is_empty(), "the control");
}

/// Text that only this process' heap holds, made at run time so that the program's file
/// does not have it.
fn marker() -> String {
    let id = std::process::id();
    format!("marker-{}-{}", id.wrapping_mul(2_654_435_761), "of-the-supervisor".to_uppercase())
}

/// Whether the readable memory of a process, through its `mem` file, holds a text.
fn memory_holds(directory: &str, text: &str) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let maps = std::fs::read_to_string(format!("{directory}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("{directory}/mem")).unwrap();
    let mut readable = 0;
    for line in maps.lines().filter(|line| !line.contains("[vsyscall]") && !line.contains("[vvar"))
    {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) =
            (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).unwrap();
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact(&mut bytes).is_ok() {
            readable += bytes.len();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                return true;
            }
        }
    }
    assert!(readable >= 4096, "nothing was readable: {maps}");
    false
}

fn the_inits_memory_holds_nothing() {
    let rig = Rig::new();
    let marker = marker();
    let mut running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    assert!(memory_holds("/proc/self", &marker), "the control");
    // As root with every capability of the host: more than any unit has.
    let init = running.sandbox.as_ref().unwrap().pid;
    assert!(!memory_holds(&format!("/proc/{init}"), &marker));
    // From inside too: it is readable there, for who has SYS_PTRACE, and holds no more.
    let script = format!("grep -c {} /proc/1/mem 2>&1; head -c 1 /proc/1/exe | wc -c", "marker-");
    let output = running.shell(&script).output;
    assert!(output.ends_with("1\n"), "{output}");
    // Nobody can change the program that the init of others runs.
    let output = running.shell("echo x 2>&1 >> /proc/1/exe || echo no").output;
    assert!(output.ends_with("no\n"), "{output}");
    running.down();
}

fn the_init_shrugs_off_signals() {
    let rig = Rig::new();
    let mut running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let init = running.sandbox.as_ref().unwrap();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD] {
        pidfd::send_signal(init.pidfd.as_fd(), signal).unwrap();
    }
    assert_eq!(running.shell("kill -9 1; kill -TERM 1; echo here").good(), "here\n");
    running.down();
}

fn the_end_of_the_init_is_the_end() {
    let rig = Rig::new();
    let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let init = running.sandbox.as_ref().unwrap();
    pidfd::send_signal(init.pidfd.as_fd(), libc::SIGKILL).unwrap();
    let main = running.main.as_ref().unwrap();
    let dead = super::rig::wait_pidfd(main.pidfd.as_fd()).unwrap().unwrap();
    assert_eq!(dead.ended, reap::Ended::Signal(libc::SIGKILL));
    running.down();
}
