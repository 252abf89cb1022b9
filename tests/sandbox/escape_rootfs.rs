//! Root trees that somebody hostile has made: links where directories are expected, files
//! without an end, users with numbers that mean something else, programs that lead back to
//! the supervisor.

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use berth::container::step::Op;
use berth::unit::model::{At, Id, Service, Sysctl, User, Writable};

use super::attempt::{ESCAPED, naive};
use super::rig::{Rig, Test, on_tree, service, unit};

pub const TESTS: &[Test] = &[
    ("etc_is_an_absolute_link", || linked_etc(str::to_owned)),
    ("etc_is_a_relative_link", || linked_etc(|outside| format!("../../../../../../..{outside}"))),
    ("etc_is_a_link_through_proc", || linked_etc(|outside| format!("/proc/self/root{outside}"))),
    ("etc_is_a_link_to_a_descriptor", || linked_etc(|_| format!("/proc/self/fd/{HELD}"))),
    ("etc_is_a_loop", || linked_etc(|_| "/etc".to_owned())),
    ("passwd_is_a_link_out", passwd_is_a_link_out),
    ("passwd_has_no_end", || endless(|path| drop(sparse(path)), "larger than")),
    ("passwd_is_a_fifo", || endless(|path| node(path, &["p"]), "Invalid argument")),
    ("passwd_is_a_device", || endless(|path| node(path, &["c", "1", "5"]), "Invalid argument")),
    ("passwd_is_a_directory", || endless(|path| std::fs::create_dir(path).unwrap(), "Invalid")),
    ("the_number_that_is_none_is_not_root", the_number_that_is_none_is_not_root),
    ("the_highest_numbers_are_what_they_say", the_highest_numbers_are_what_they_say),
    ("dev_null_is_a_link", dev_null_is_a_link),
    ("dev_console_and_pts_are_links", dev_console_and_pts_are_links),
    ("proc_is_a_link_when_a_setting_is_written", proc_is_a_link_when_a_setting_is_written),
    ("a_setting_of_the_tree_is_not_written", a_setting_of_the_tree_is_not_written),
];

/// A descriptor of the supervisor on a directory of the host.
const HELD: i32 = 900;

fn web(service: &mut Service) {
    let user = User { user: Id::Name("web".to_owned()), group: None };
    service.user = Some(At { value: user, line: 4 });
}

/// Users are looked up in a file of the host if the link leads out of the tree: there `web`
/// is root.
fn linked_etc(target: fn(&str) -> String) {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let outside = rig.path("files");
    rig.file("files/passwd", "web:x:0:0:web:/:/bin/sh\n");
    std::fs::remove_dir_all(format!("{tree}/etc")).unwrap();
    symlink(target(&outside), format!("{tree}/etc")).unwrap();
    let held = std::fs::File::open(&outside).unwrap();
    berth::sys::fd::place(held.as_fd(), HELD).unwrap();
    // Who follows it from outside finds a file of the host.
    let naive = std::fs::read_to_string(format!("{tree}/etc/passwd")).unwrap();
    let hosts = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(naive.contains("web:x:0") || naive == hosts, "{naive}");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Ephemeral);
        web(s);
    });
    let good = ["no user \"web\"", "Too many levels of symbolic links"];
    assert!(good.iter().any(|good| text.contains(good)), "{text}");
    // The control: the same file inside the tree makes it root.
    std::fs::remove_file(format!("{tree}/etc")).unwrap();
    std::fs::create_dir(format!("{tree}/etc")).unwrap();
    std::fs::copy(format!("{outside}/passwd"), format!("{tree}/etc/passwd")).unwrap();
    let output = rig.shell("id -u", |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        web(s);
    });
    assert_eq!(output.good(), "0\n");
}

fn passwd_is_a_link_out() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let outside = rig.file("files/passwd", "web:x:0:0:web:/:/bin/sh\n");
    let path = format!("{tree}/etc/passwd");
    for target in [outside.clone(), format!("../../../../../../../..{outside}")] {
        std::fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        let text = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            web(s);
        });
        assert!(text.contains("no user \"web\""), "{text}");
        // The control: who follows it from outside (an absolute link by its own name).
        let naive = std::fs::read_to_string(&path).unwrap();
        assert!(naive.contains("web:x:0"), "{naive}");
    }
}

fn sparse(path: &str) -> std::fs::File {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(10 << 30).unwrap();
    file
}

fn node(path: &str, kind: &[&str]) {
    assert!(Command::new("mknod").arg(path).args(kind).status().unwrap().success());
}

/// In place of passwd, then of group: the start fails soon, and says why.
fn endless(make: fn(&str), why: &str) {
    let rig = Rig::new();
    for name in ["passwd", "group"] {
        let tree = rig.tree(&format!("rootfs-{name}"));
        let path = format!("{tree}/etc/{name}");
        std::fs::remove_file(&path).unwrap();
        make(&path);
        let begin = Instant::now();
        let text = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            web(s);
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
        let expected = format!("/etc/{name} of the unit's root tree");
        assert!(text.contains(&expected), "{text}");
        let why = if why == "larger than" { "File too large" } else { why };
        assert!(text.contains(why), "{text}");
        // The control: reading it as it is takes for ever, or fails (a directory).
        let slow = naive(&format!("timeout 0.3 cat {path} > /dev/null 2>&1; echo $?"));
        assert!(matches!(slow.trim(), "124" | "1"), "{slow}");
    }
}

/// setresuid(2) takes it for "stay who you are".
fn the_number_that_is_none_is_not_root() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    for (passwd, group) in [
        ("web:x:4294967295:1235::/:\n", "web:x:1235:\n"),
        ("web:x:1234:4294967295::/:\n", "web:x:1235:\n"),
        ("web:x:-1:-1::/:\n", "web:x:1235:\n"),
    ] {
        std::fs::write(format!("{tree}/etc/passwd"), passwd).unwrap();
        std::fs::write(format!("{tree}/etc/group"), group).unwrap();
        let text = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            web(s);
        });
        assert!(text.contains("no user \"web\""), "{passwd}: {text}");
    }
    std::fs::write(format!("{tree}/etc/passwd"), "web:x:1234:1235::/:\n").unwrap();
    std::fs::write(format!("{tree}/etc/group"), "all:x:4294967295:web\n").unwrap();
    let output = rig.shell("id -G", |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        web(s);
    });
    assert_eq!(output.good(), "1235\n");
    // The control: the naive way of becoming that user.
    let perl = "syscall(119, -1, -1, -1) == 0 or die; syscall(117, -1, -1, -1) == 0 or die; \
                print $> == 0 ? q(escaped) : $>";
    assert_eq!(naive(&format!("perl -e '{perl}'")), ESCAPED);
}

fn the_highest_numbers_are_what_they_say() {
    let rig = Rig::new();
    let mut far = unit("web", &["true"]);
    let user = User { user: Id::Number(65_536), group: None };
    service(&mut far).user = Some(At { value: user, line: 4 });
    let text = rig.up(&far).err().unwrap();
    assert!(text.contains("the unit's user namespace has no such number"), "{text}");
    rig.host_users.set(true);
    for number in [1_u32 << 31, u32::MAX - 1, 65_535, 65_536] {
        let output = rig.shell("id -u; id -g", |s| {
            let id = Id::Number(number);
            let user = User { user: id.clone(), group: Some(id) };
            s.user = Some(At { value: user, line: 4 });
        });
        assert_eq!(output.good(), format!("{number}\n{number}\n"));
    }
}

/// CVE-2025-31133: what covers a masked path is taken from `/dev/null` of the tree.
fn dev_null_is_a_link() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let victim = rig.file("files/core_pattern", "");
    std::fs::create_dir(format!("{tree}/dev")).unwrap();
    symlink(&victim, format!("{tree}/dev/null")).unwrap();
    let script = "echo escaped > /proc/interrupts; echo escaped > /dev/null; \
                  stat -L -c %t:%T /dev/null /proc/interrupts";
    for writable in [Writable::Ephemeral, Writable::Direct] {
        let output = rig.shell(script, |s| on_tree(s, &tree, writable));
        assert_eq!(output.good(), "1:3\n1:3\n");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "");
    }
    // The control: the naive way of covering it.
    let mask = rig.file("files/mask", "");
    naive(&format!(
        "unshare -m --propagation private sh -c 'mount --bind {tree}/dev/null {mask} && echo \
         escaped > {mask}'"
    ));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "escaped\n");
}

/// CVE-2025-52565: a terminal is mounted on `/dev/console` before anything is masked.
fn dev_console_and_pts_are_links() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let victim = rig.file("files/core_pattern", "");
    std::fs::create_dir(format!("{tree}/dev")).unwrap();
    for name in ["console", "pts", "ptmx", "tty", "shm"] {
        symlink(&victim, format!("{tree}/dev/{name}")).unwrap();
    }
    let script = "for n in console ptmx tty; do (echo escaped > /dev/$n) 2>/dev/null; done; \
                  stat -f -c %T /dev /dev/pts /dev/shm";
    let output = rig.shell(script, |s| on_tree(s, &tree, Writable::Direct));
    assert_eq!(output.good(), "tmpfs\ndevpts\ntmpfs\n");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "");
    // The control: whose /dev is that of the tree.
    rig.without.set(|op| matches!(op, Op::Dev { .. } | Op::Socket(_) | Op::Mask(_)));
    let text = rig.failure(|s| on_tree(s, &tree, Writable::Direct));
    assert!(text.contains("/dev/null"), "{text}");
    naive(&format!("echo escaped > {tree}/dev/console"));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "escaped\n");
}

fn setting(service: &mut Service) {
    let (path, value) = ("net/ipv4/ip_unprivileged_port_start".to_owned(), "1234".to_owned());
    service.security.sysctls = vec![At { value: Sysctl { path, value }, line: 9 }];
}

/// CVE-2025-52881: what is written to `/proc` goes somewhere else.
fn proc_is_a_link_when_a_setting_is_written() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let fake = rig.path("files/proc");
    let victim = rig.file("files/proc/sys/net/ipv4/ip_unprivileged_port_start", "as it was");
    for target in [fake.clone(), format!("../../../../../../..{fake}"), "/srv".to_owned()] {
        symlink(&target, format!("{tree}/proc")).unwrap();
        let text = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            setting(s);
        });
        assert!(text.contains("/proc of the root tree is a symbolic link"), "{text}");
        std::fs::remove_file(format!("{tree}/proc")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "as it was");
    // The control: the naive way of writing it.
    symlink(&fake, format!("{tree}/proc")).unwrap();
    naive(&format!("echo escaped > {tree}/proc/sys/net/ipv4/ip_unprivileged_port_start"));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "escaped\n");
}

/// Without a procfs on top of it the tree's own files would be written.
fn a_setting_of_the_tree_is_not_written() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let victim = rig.file("rootfs/proc/sys/net/ipv4/ip_unprivileged_port_start", "as it was");
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let output = rig.shell(script, |s| {
        on_tree(s, &tree, Writable::Direct);
        setting(s);
    });
    assert_eq!(output.good(), "1234\n");
    // Not even if that was forgotten: what is there must be a procfs.
    rig.without.set(|op| matches!(op, Op::Proc { .. }));
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Direct);
        setting(s);
    });
    assert!(text.contains("what is mounted on /proc is not the kernel's own"), "{text}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "as it was");
}
