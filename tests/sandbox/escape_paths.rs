//! Ways out by paths: the kernel's files, mounts taken away, old roots, the host's state,
//! targets of mounts that are swapped while a unit starts.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use berth::container::step::{Covered, Op};
use berth::sys::path;
use berth::unit::model::{MountSource, Propagation, Writable};

use super::attempt::{Defence, ESCAPED, attempt};
use super::rig::{Rig, Test, bind, mount, on_tree, service, unit};

pub const TESTS: &[Test] = &[
    ("core_pattern_is_not_written", || kernel_file("/proc/sys/kernel/core_pattern")),
    ("the_domain_name_is_not_written", || kernel_file("/proc/sys/kernel/domainname")),
    ("addresses_are_not_made_predictable", || kernel_file("/proc/sys/kernel/randomize_va_space")),
    ("overcommitment_is_not_written", || kernel_file("/proc/sys/vm/overcommit_memory")),
    ("sysrq_is_not_triggered", sysrq_is_not_triggered),
    ("limits_of_the_host_are_not_written", || kernel_file("/proc/sys/fs/file-max")),
    ("interrupts_are_not_moved", || kernel_file("/proc/irq/default_smp_affinity")),
    ("the_hosts_interrupts_are_not_shown", || shown("/proc/interrupts")),
    ("a_mask_is_not_taken_away", a_mask_is_not_taken_away),
    ("a_read_only_path_is_not_remounted", a_read_only_path_is_not_remounted),
    ("sys_is_not_remounted", sys_is_not_remounted),
    ("another_procfs_is_not_mounted", another_procfs_is_not_mounted),
    ("the_group_is_not_changed_from_inside", the_group_is_not_changed_from_inside),
    ("no_version_1_group_is_mounted", no_version_1_group_is_mounted),
    ("a_root_within_a_root_leads_nowhere", a_root_within_a_root_leads_nowhere),
    ("another_root_is_not_pivoted_to", another_root_is_not_pivoted_to),
    ("the_old_root_is_not_underneath", the_old_root_is_not_underneath),
    ("what_other_units_keep_is_hidden", what_other_units_keep_is_hidden),
    ("the_control_socket_is_hidden", the_control_socket_is_hidden),
    ("a_mount_inside_is_not_one_outside", a_mount_inside_is_not_one_outside),
    ("a_target_swapped_for_a_link_leads_nowhere", a_target_swapped_for_a_link_leads_nowhere),
];

fn is_read_only(op: &Op) -> bool {
    matches!(op, Op::ReadOnly(Covered::Kernel))
}

/// Opened for writing, and nothing written: the control must do no harm.
fn kernel_file(path: &str) {
    let rig = Rig::new();
    let script = format!("(: >> {path}) 2>&1 && echo escaped");
    attempt(&rig, &script, |_| {}, Defence::Steps(is_read_only));
}

/// Not every kernel is built with it.
fn sysrq_is_not_triggered() {
    match ["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    {
        Some(path) => kernel_file(path),
        None => println!("this kernel has no SysRq: nothing to try"),
    }
}

fn shown(path: &str) {
    let rig = Rig::new();
    let script = format!("[ $(head -c 1 {path} | wc -c) = 0 ] || echo escaped");
    attempt(&rig, &script, |_| {}, Defence::Steps(|op| matches!(op, Op::Mask(Covered::Kernel))));
}

fn a_mask_is_not_taken_away() {
    let rig = Rig::new();
    let script = "umount /proc/interrupts 2>&1; [ $(head -c 1 /proc/interrupts | wc -c) = 0 ] \
                  || echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

fn a_read_only_path_is_not_remounted() {
    let rig = Rig::new();
    let script = "mount -o remount,bind,rw /proc/sys 2>&1; \
                  (: >> /proc/sys/kernel/core_pattern) 2>&1 && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

fn sys_is_not_remounted() {
    let rig = Rig::new();
    let script = "f=$(find /sys/kernel -type f -perm -200 2>/dev/null | head -1); \
                  (: >> $f) 2>/dev/null && echo open; mount -o remount,bind,rw /sys 2>&1; \
                  (: >> $f) 2>&1 && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

fn another_procfs_is_not_mounted() {
    let rig = Rig::new();
    let script = "mkdir /tmp/p; mount -t proc proc /tmp/p 2>&1; \
                  (: >> /tmp/p/sys/kernel/core_pattern) 2>&1 && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

fn the_group_is_not_changed_from_inside() {
    let rig = Rig::new();
    let script = "mkdir /sys/fs/cgroup/mine 2>&1; mount -o remount,bind,rw /sys/fs/cgroup 2>&1; \
                  mkdir /sys/fs/cgroup/mine 2>&1 && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

/// Where there is one, its `release_agent` is a program that the kernel runs as root.
fn no_version_1_group_is_mounted() {
    let rig = Rig::new();
    let kind =
        if Path::new("/sys/fs/cgroup/devices").is_dir() { "cgroup -o devices" } else { "cgroup2" };
    let script = format!(
        "mkdir /tmp/c; mount -t {kind} x /tmp/c 2>&1 && (: >> /tmp/c/cgroup.procs) && \
         echo escaped"
    );
    attempt(&rig, &script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

/// Out of a chroot by another one, with the working directory left outside.
const CHROOT: &str = "mkdir q(/tmp); mkdir q(/tmp/x); chdir q(/); chroot q(/tmp/x); \
    chdir q(..) for 1 .. 64; chroot q(.); ";

/// Runs Perl code in a tree that somebody has made a root in this way, in a mount namespace
/// of its own.
fn naive_perl(tree: &str, way: &str, perl: &str) -> String {
    let script = format!(
        "cd {tree}; for d in usr dev proc; do mkdir -p $d; mount --bind /$d $d; done; \
         {way} perl -e \"$1\""
    );
    let options = ["-m", "--propagation", "private", "sh", "-c", &script, "sh", perl];
    let output = std::process::Command::new("unshare").args(options).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_root_within_a_root_leads_nowhere() {
    let rig = Rig::new();
    let secret = rig.file("secret", "of the host");
    let tree = rig.tree("rootfs");
    let perl = format!("{CHROOT} print q(escaped) if -e q({secret});");
    let mut unit = unit("web", &["perl", "-e", &perl]);
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    let before = rig.run(&unit);
    assert_eq!(before.output, "");
    super::attempt::others_off(service(&mut unit));
    assert_eq!(rig.run(&unit).output, "");
    // The control: a root that is only a chroot.
    assert_eq!(naive_perl(&tree, &format!("chroot {tree}"), &perl), ESCAPED);
}

fn another_root_is_not_pivoted_to() {
    let rig = Rig::new();
    let script = "mkdir -p /tmp/n; mount -t tmpfs x /tmp/n 2>&1; mkdir -p /tmp/n/old; cd /tmp/n; \
                  pivot_root . old 2>&1 && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Capability("SYS_ADMIN"));
}

/// All that is mounted on the root is taken off, and the namespace entered anew.
fn the_old_root_is_not_underneath() {
    let rig = Rig::new();
    let secret = rig.file("secret", "of the host");
    let tree = rig.tree("rootfs");
    let perl = format!(
        "open(my $own, q(<), q(/proc/self/ns/mnt)) or die $!; \
         for (1 .. 20) {{ last if syscall(166, my $path = q(/), 2) != 0 }} \
         syscall(308, fileno($own), 0x20000); \
         print q(escaped) if -e q({secret});"
    );
    let mut unit = unit("web", &["perl", "-e", &perl]);
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    super::attempt::others_off(service(&mut unit));
    assert_eq!(rig.run(&unit).output, "");
    // The control: a tree stacked on a root that was not let go.
    let stack = format!("mount --rbind {tree} {tree}; cd {tree}; mount --move . /; chroot .");
    assert_eq!(naive_perl(&tree, &stack, &perl), ESCAPED);
}

fn what_other_units_keep_is_hidden() {
    let rig = Rig::new();
    for file in ["state/volumes/db/secret", "state/overlay/db/upper/secret", "state/log/db/current"]
    {
        let file = rig.file(file, "secret");
        let script = format!("cat {file} 2>&1 && echo escaped");
        attempt(&rig, &script, |_| {}, Defence::Steps(|op| matches!(op, Op::HideOwn)));
    }
}

fn the_control_socket_is_hidden() {
    let rig = Rig::new();
    let path = rig.path("runtime/control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let script = format!("[ -S {path} ] && echo escaped");
    attempt(&rig, &script, |_| {}, Defence::Steps(|op| matches!(op, Op::HideOwn)));
    drop(listener);
}

fn a_mount_inside_is_not_one_outside() {
    super::rig::private_mounts();
    let rig = Rig::new();
    let files = rig.path("files");
    std::fs::create_dir(format!("{files}/point")).unwrap();
    let flags = nix::mount::MsFlags::MS_BIND;
    super::rig::host_mount(Some(&files), &files, None, flags);
    super::rig::host_mount(None, &files, None, nix::mount::MsFlags::MS_SHARED);
    let point = format!("{files}/point");
    let host = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&point);
    let run = |propagation| {
        let mut unit = unit("web", &["mount", "-t", "tmpfs", "x", "/data/point"]);
        super::attempt::others_off(service(&mut unit));
        let source = MountSource::Bind { path: files.clone(), propagation, recursive: true };
        service(&mut unit).mounts.push(mount(7, source, "/data"));
        rig.run(&unit).good();
        host()
    };
    assert!(!run(Propagation::Private) && !run(Propagation::Slave));
    // The control: where it was asked for.
    assert!(run(Propagation::Shared));
    nix::mount::umount(point.as_str()).unwrap();
}

/// CVE-2021-30465. A unit swaps a directory of a volume for a link to the root, while
/// others start that have something mounted on that directory.
fn a_target_swapped_for_a_link_leads_nowhere() {
    const SWAPS: u32 = 10_000;
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let files = rig.path("files");
    let marked = rig.path("marked");
    std::fs::create_dir_all(format!("{files}/dir")).unwrap();
    rig.file("marked/mark", "mark");
    // From inside it is the unit's root; for who resolves it from outside, the host's.
    std::os::unix::fs::symlink("/", format!("{files}/link")).unwrap();
    // Always an even number, so that in the end all is as it was.
    let perl = "$| = 1; print qq(up\\n); my $n = 0; while ($n % 100 || ! -e q(/data/stop)) { \
        syscall(316, -100, my $a = q(/data/dir), -100, my $b = q(/data/link), 2) == 0 or die $!; \
        $n++ } print qq($n\\n)";
    let mut swapper = unit("swapper", &["perl", "-e", perl]);
    service(&mut swapper).mounts.push(bind(&files, "/data"));
    let mut victim = unit("victim", &["sh", "-c", "cat /mark /data/*/mark 2>/dev/null; true"]);
    on_tree(service(&mut victim), &tree, Writable::Ephemeral);
    service(&mut victim).mounts.extend([bind(&files, "/data"), bind(&marked, "/data/dir/inner")]);
    let host = |path: &str| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let root = host("/").unwrap();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    std::fs::create_dir_all(format!("{files}/dir/inner")).unwrap();
    let mut swapping = rig.up(&swapper).unwrap();
    assert_eq!(swapping.line(), "up");
    let (mut inside, mut astray) = (0, 0);
    let directory = path::handle(&files).unwrap();
    for _ in 0..60 {
        // It may be refused, when what it should be mounted on is not there.
        if let Ok(mut running) = rig.up(&victim) {
            running.wait();
            running.down();
        }
        assert_eq!(mounts(), before);
        assert!(!Path::new("/inner").exists() && !Path::new("/mark").exists());
        for _ in 0..100 {
            // What a naive runtime would do: resolve the target from outside, by its path.
            astray += u32::from(host(&format!("{files}/dir")).is_ok_and(|it| it == root));
            let found = path::open_in(directory.as_fd(), "dir", rustix::fs::OFlags::PATH);
            let found = found.and_then(|found| Ok(rustix::fs::fstat(found)?));
            inside += u32::from(found.is_ok_and(|it| (it.st_dev, it.st_ino) == root));
        }
    }
    rig.file("files/stop", "");
    let swaps: u32 = swapping.line().parse().unwrap();
    assert!(swaps >= SWAPS, "{swaps}");
    swapping.down();
    assert_eq!(inside, 0);
    assert!(astray > 0, "the control: a path from outside never led to the host's root");
}
