//! Masked and read-only paths: what they keep a unit from, and that no tree, mount or link
//! leads them astray. Each attempt is made again with that defence left out, and succeeds.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use berth::container::step::{Covered, Op};
use berth::sys::reap::Ended;
use berth::sys::{fork, pidfd};
use berth::unit::model::{At, MountSource, Propagation, Service, Writable};
use nix::mount::MsFlags;

use super::mounts::tmpfs;
use super::rig::{
    Rig, Test, bind, host_mount, mount, on_tree, private_mounts, service, unit, wait_pidfd,
};

pub const TESTS: &[Test] = &[
    ("what_changes_the_host_cannot_be_written", what_changes_the_host_cannot_be_written),
    ("what_shows_the_host_is_empty", what_shows_the_host_is_empty),
    ("masks_are_null_devices_that_stay_so", masks_are_null_devices_that_stay_so),
    ("masks_need_power_to_be_taken_away", masks_need_power_to_be_taken_away),
    ("paths_of_the_unit_are_masked", paths_of_the_unit_are_masked),
    ("paths_of_the_unit_are_read_only", paths_of_the_unit_are_read_only),
    ("a_path_that_is_not_there_is_named", a_path_that_is_not_there_is_named),
    ("links_lead_nowhere_else", links_lead_nowhere_else),
    (
        "a_tree_with_links_for_the_kernels_directories",
        a_tree_with_links_for_the_kernels_directories,
    ),
    ("a_tree_with_a_device_directory_of_its_own", a_tree_with_a_device_directory_of_its_own),
    ("what_is_mounted_on_proc_must_be_proc", what_is_mounted_on_proc_must_be_proc),
    ("the_host_keeps_what_it_shares", the_host_keeps_what_it_shares),
    ("a_directory_that_is_swapped_misleads_nothing", a_directory_that_is_swapped_misleads_nothing),
];

fn at(path: &str) -> At<String> {
    At { value: path.to_owned(), line: 9 }
}

fn is_mask(op: &Op) -> bool {
    matches!(op, Op::Mask(_))
}

fn is_read_only(op: &Op) -> bool {
    matches!(op, Op::ReadOnly(_))
}

/// What a script prints with the defence, and without it.
fn with_and_without(
    rig: &Rig,
    script: &str,
    defence: fn(&Op) -> bool,
    change: impl Fn(&mut Service),
) -> (String, String) {
    let with = rig.shell(script, &change).output;
    rig.without.set(defence);
    let without = rig.shell(script, &change).output;
    rig.without.set(|_| false);
    (with, without)
}

/// Those that this host has. The first must be there, or nothing would be tested.
fn on_this_host<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let found: Vec<&str> = paths.iter().copied().filter(|path| Path::new(path).exists()).collect();
    assert_eq!(found.first(), paths.first());
    found
}

fn what_changes_the_host_cannot_be_written() {
    let rig = Rig::new();
    rig.host_users.set(true);
    let files = on_this_host(&[
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/irq/default_smp_affinity",
        "/proc/sysrq-trigger",
    ]);
    for way in ["", "/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/./proc/.."] {
        for file in &files {
            // Opened for writing, and nothing written: the control must not do harm.
            let script = format!("cd /; (: >> {way}{file}) 2>&1 && echo open");
            let (with, without) = with_and_without(&rig, &script, is_read_only, |_| {});
            assert!(with.contains("Read-only file system"), "{way}{file}: {with}");
            assert_eq!(without, "open\n", "{way}{file}");
        }
    }
    // In earnest, and the host's value stays.
    let value = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = value();
    let outcome = rig.shell("echo '|/tmp/x' > /proc/sys/kernel/core_pattern", |_| {});
    assert_ne!(outcome.ended, Ended::Code(0));
    assert_eq!(value(), before);
}

fn what_shows_the_host_is_empty() {
    let rig = Rig::new();
    rig.host_users.set(true);
    let paths = on_this_host(&[
        "/proc/interrupts",
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
    ]);
    let script = format!(
        "for p in {}; do if [ -d $p ]; then ls -A $p | wc -l; else head -c 1 $p | wc -c; fi; done",
        paths.join(" ")
    );
    let (with, without) = with_and_without(&rig, &script, is_mask, |_| {});
    assert_eq!(with, "0\n".repeat(paths.len()));
    let shown = without.lines().zip(&paths).filter(|(count, _)| *count != "0");
    let shown: Vec<&str> = shown.map(|(_, path)| *path).collect();
    // The control: those that are not empty on this host. (Keys may be there or not.)
    let not_empty = |path: &&str| match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => *path != "/proc/keys" && std::fs::read(path).is_ok_and(|text| !text.is_empty()),
    };
    for path in paths.iter().filter(|path| **path != "/proc/kcore").filter(|path| not_empty(path)) {
        assert!(shown.contains(path), "{path}: {without}");
    }
    assert!(shown.contains(&"/proc/interrupts"), "{without}");
}

fn masks_are_null_devices_that_stay_so() {
    let rig = Rig::new();
    let file = rig.file("files/secret", "secret");
    let directory = rig.path("files");
    let script = "stat -c '%F %t:%T' /proc/interrupts /data/secret; echo x > /data/secret && \
        cat /data/secret; chmod 600 /data/secret 2>&1 | grep -o 'Read-only file'; \
        touch /dir/x 2>&1 | grep -o 'Read-only file'; stat -c %a /dev/null; \
        grep ' /dir ' /proc/self/mountinfo | grep -o 'ro,nosuid,nodev,noexec.*size=4k'; \
        chmod 600 /dev/null; stat -c %a /dev/null";
    let output = rig.shell(script, |s| {
        s.mounts = vec![bind(&directory, "/data"), bind(&directory, "/dir")];
        s.security.masked_paths = vec![at("/data/secret"), at("/dir")];
    });
    let lines: Vec<&str> = output.output.lines().collect();
    assert_eq!(lines[..2], ["character special file 1:3"; 2], "{lines:?}");
    assert_eq!(lines[2..5], ["Read-only file", "Read-only file", "666"], "{lines:?}");
    assert!(lines[5].starts_with("ro,nosuid,nodev,noexec"), "{lines:?}");
    // The control of chmod: where it is not a mask it has its way.
    assert_eq!(lines[6], "600");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "secret");
}

fn masks_need_power_to_be_taken_away() {
    let rig = Rig::new();
    rig.host_users.set(true);
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).security.masked_paths = vec![at("/etc/passwd")];
    let mut running = rig.up(&unit).unwrap();
    let attempts = [
        "umount /proc/interrupts",
        "umount -l /etc/passwd",
        "mount -o remount,bind,rw /proc/sys",
        "umount /proc/sys",
    ];
    let weak = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin";
    let look = "cat /proc/interrupts /etc/passwd | wc -c; (: >> /proc/sys/kernel/core_pattern) \
                2>/dev/null && echo open";
    for attempt in attempts {
        let tried = running.shell(&format!("{weak} {attempt}"));
        assert_ne!(tried.ended, Ended::Code(0), "{attempt}");
        assert_eq!(running.shell(look).output, "0\n", "{attempt}");
    }
    // As another user a new user namespace gives power over new mounts, not over these.
    for attempt in attempts {
        let script = format!("setpriv --reuid=1234 --clear-groups unshare -Urm {attempt}");
        assert_ne!(running.shell(&script).ended, Ended::Code(0), "{attempt}");
    }
    // The control: with all power over the unit's mounts they go.
    let target = running.main.as_ref().unwrap().pid.to_string();
    for attempt in &attempts[..3] {
        let command = ["-t", &target, "-m", "-p", "sh", "-c", attempt];
        assert!(Command::new("nsenter").args(command).status().unwrap().success(), "{attempt}");
    }
    let output = running.shell(look).output;
    assert!(!output.starts_with("0\n") && output.ends_with("open\n"), "{output}");
    running.down();
}

fn paths_of_the_unit_are_masked() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    rig.file("rootfs/srv/private/deep/file", "of the tree");
    rig.file("rootfs/srv/open", "open");
    rig.file("files/secret", "of the host");
    let files = rig.path("files");
    let script = "cat /srv/open /data/secret /srv/private/deep/file 2>/dev/null";
    for writable in [Writable::Ephemeral, Writable::None, Writable::Direct] {
        let (with, without) = with_and_without(&rig, script, is_mask, |s| {
            on_tree(s, &tree, writable);
            s.mounts.push(bind(&files, "/data"));
            s.security.masked_paths = vec![at("/srv/private"), at("/data/secret")];
        });
        assert_eq!((with.as_str(), without.as_str()), ("open", "openof the hostof the tree"));
    }
}

fn paths_of_the_unit_are_read_only() {
    private_mounts();
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    rig.file("rootfs/srv/conf/file", "");
    rig.file("rootfs/srv/alone", "");
    let files = rig.path("files");
    std::fs::create_dir(format!("{files}/deeper")).unwrap();
    host_mount(None, &format!("{files}/deeper"), Some("tmpfs"), MsFlags::empty());
    let script = "cd /srv; for f in conf/file alone conf/new conf/memory/x conf/host/x \
        conf/host/deeper/x open; do (echo x > $f) 2>/dev/null && echo $f; done";
    let (with, without) = with_and_without(&rig, script, is_read_only, |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(tmpfs("/srv/conf/memory", None, 0o755));
        s.mounts.push(bind(&files, "/srv/conf/host"));
        s.security.read_only_paths = vec![at("/srv/conf"), at("/srv/alone")];
    });
    assert_eq!(with, "open\n");
    let all = "conf/file\nalone\nconf/new\nconf/memory/x\nconf/host/x\nconf/host/deeper/x\nopen\n";
    assert_eq!(without, all);
}

fn a_path_that_is_not_there_is_named() {
    let rig = Rig::new();
    let text =
        rig.failure(|s| s.security.masked_paths = vec![at("/etc/passwd"), at("/nothing/here")]);
    assert!(text.contains("web.toml:9") && text.contains("mask /nothing/here: No such"), "{text}");
    let text = rig.failure(|s| s.security.read_only_paths = vec![at("/nothing")]);
    assert!(text.contains("web.toml:9") && text.contains("make /nothing read-only: No"), "{text}");
    // The control: those that are there are no obstacle.
    rig.shell("true", |s| s.security.masked_paths = vec![at("/etc/passwd")]).good();
}

fn links_lead_nowhere_else() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    rig.file("rootfs/srv/inside", "inside");
    let outside = rig.file("files/outside", "outside");
    let link = |name: &str, to: &str| {
        std::os::unix::fs::symlink(to, format!("{tree}/{name}")).unwrap();
    };
    link("absolute", "/srv/inside");
    link("up", "../../../../../../srv/inside");
    link("out", &format!("../../../../../../../..{outside}"));
    link("magic", "/proc/self/fd/1");
    link("roundabout", "/proc/1/root/srv/inside");
    for path in ["/absolute", "/up"] {
        let (with, without) = with_and_without(&rig, "cat /srv/inside", is_mask, |s| {
            on_tree(s, &tree, Writable::Ephemeral);
            s.security.masked_paths = vec![at(path)];
        });
        assert_eq!((with.as_str(), without.as_str()), ("", "inside"), "{path}");
    }
    for (path, why) in [("/out", "(ENOENT)"), ("/magic", "(ELOOP)"), ("/roundabout", "(ELOOP)")] {
        let masked = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            s.security.masked_paths = vec![at(path)];
        });
        let read_only = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            s.security.read_only_paths = vec![at(path)];
        });
        assert!(masked.contains(why) || masked.contains("No such file"), "{masked}");
        assert!(read_only.contains(why) || read_only.contains("No such file"), "{read_only}");
    }
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "outside");
}

fn a_tree_with_links_for_the_kernels_directories() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    std::fs::create_dir_all(format!("{tree}/srv/fake/sys/kernel")).unwrap();
    for name in ["proc", "sys", "dev"] {
        let place = format!("{tree}/{name}");
        for to in ["/srv/fake", "/", "srv", "/proc/self/root", "/nowhere", "../../../../.."] {
            std::os::unix::fs::symlink(to, &place).unwrap();
            let text = rig.failure(|s| on_tree(s, &tree, Writable::Ephemeral));
            let expected = format!("/{name} of the root tree is a symbolic link");
            assert!(text.contains(&expected), "{name} to {to}: {text}");
            std::fs::remove_file(&place).unwrap();
        }
        // The control: the same tree with a directory there.
        std::fs::create_dir(&place).unwrap();
        let script = "stat -f -c %T /proc /sys /dev; (: >> /proc/sys/kernel/core_pattern) \
                      2>/dev/null && echo open";
        let output = rig.shell(script, |s| on_tree(s, &tree, Writable::Ephemeral)).output;
        assert_eq!(output, "proc\nsysfs\ntmpfs\n");
    }
}

fn a_tree_with_a_device_directory_of_its_own() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    std::fs::create_dir(format!("{tree}/dev")).unwrap();
    rig.file("rootfs/srv/fake", "fake");
    for name in ["null", "console", "ptmx"] {
        let link = format!("{tree}/dev/{name}");
        std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", link).unwrap();
    }
    let script = "stat -c '%F %t:%T' /dev/null /proc/interrupts; readlink /dev/console";
    let null = "character special file 1:3\n";
    for writable in [Writable::Ephemeral, Writable::None, Writable::Direct] {
        let output = rig.shell(script, |s| on_tree(s, &tree, writable)).output;
        assert!(output == format!("{}null\n", null.repeat(2)), "{output}");
    }
    // The control: without a fresh /dev the tree's own are what a unit would get.
    rig.without.set(|op| matches!(op, Op::Dev { .. } | Op::Socket(_) | Op::Mask(_)));
    let text = rig.failure(|s| on_tree(s, &tree, Writable::Ephemeral));
    assert!(text.contains("/dev/null"), "{text}");
    // A mask that has no null device to come from is a failure, not the tree's.
    rig.without.set(|op| matches!(op, Op::Dev { .. } | Op::Socket(_)));
    let text = rig.failure(|s| on_tree(s, &tree, Writable::Ephemeral));
    assert!(text.contains("mask what /proc and /sys show of the host"), "{text}");
}

fn what_is_mounted_on_proc_must_be_proc() {
    let rig = Rig::new();
    rig.host_users.set(true);
    for (source, target) in [
        (MountSource::Tmpfs { size: None, mode: 0o755 }, "/proc"),
        (MountSource::Tmpfs { size: None, mode: 0o755 }, "/sys"),
        (bind("/proc/sys", "").value.source, "/proc"),
        (bind("/proc", "").value.source, "/sys"),
        (bind("/sys/kernel", "").value.source, "/sys"),
    ] {
        let text = rig.failure(|s| s.mounts.push(mount(7, source.clone(), target)));
        let expected = format!("what is mounted on {target} is not the kernel's own");
        assert!(text.contains(&expected), "{text}");
        // The control: but for that check the mount is possible.
        rig.without.set(|op| is_mask(op) || is_read_only(op));
        rig.shell("true", |s| s.mounts.push(mount(7, source, target))).good();
        rig.without.set(|_| false);
    }
    // The host's own, with its processes, is protected like that of the unit.
    let script = "cat /proc/interrupts | wc -c; (: >> /proc/sys/kernel/core_pattern) 2>/dev/null \
                  && echo open";
    let defence = |op: &Op| matches!(op, Op::Mask(Covered::Kernel) | Op::ReadOnly(_));
    let (with, without) = with_and_without(&rig, script, defence, |s| {
        s.mounts = vec![bind("/proc", "/proc"), bind("/sys", "/sys")];
    });
    assert_eq!(with, "0\n");
    assert!(!without.starts_with("0\n") && without.ends_with("open\n"), "{without}");
}

fn the_host_keeps_what_it_shares() {
    private_mounts();
    let rig = Rig::new();
    let files = rig.path("files");
    rig.file("files/secret", "secret");
    host_mount(Some(&files), &files, None, MsFlags::MS_BIND);
    host_mount(None, &files, None, MsFlags::MS_SHARED);
    let shared = |propagation| {
        let source = MountSource::Bind { path: files.clone(), propagation, recursive: true };
        mount(7, source, "/data")
    };
    let host = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().filter(|line| line.contains(&files));
        (points.count(), std::fs::read_to_string(format!("{files}/secret")).unwrap())
    };
    let before = host();
    let ways: [fn(&mut Service); 2] = [
        |s| s.security.masked_paths = vec![at("/data/secret")],
        |s| s.security.read_only_paths = vec![at("/data/secret")],
    ];
    for protect in ways {
        let text = rig.failure(|s| {
            s.mounts.push(shared(Propagation::Shared));
            protect(s);
        });
        assert!(text.contains("lies in a mount with propagation = \"shared\""), "{text}");
        assert_eq!(host(), before);
        // The control: what does not travel to the host may be protected.
        let script = "(echo x > /data/secret) 2>/dev/null; cat /data/secret";
        let output = rig.shell(script, |s| {
            s.mounts.push(shared(Propagation::Slave));
            protect(s);
        });
        assert!(matches!(output.output.as_str(), "" | "secret"), "{}", output.output);
        assert_eq!(host(), before);
    }
    // Elsewhere in the same unit a mask is no problem.
    rig.shell("cat /proc/interrupts", |s| s.mounts.push(shared(Propagation::Shared))).good();
}

/// The names in a process' procfs that are covered, and how. Where it is mounted may change
/// while this is read.
fn covers_of_proc(pid: i32) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let proc = lines.iter().find(|line| line[3] == "/" && line.contains(&"proc")).unwrap();
    let above = lines.iter().filter(|line| line[1] == proc[0]);
    above.map(|line| format!("{} {}", line[4].rsplit('/').next().unwrap(), line[5])).collect()
}

fn a_directory_that_is_swapped_misleads_nothing() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    for name in ["proc", "fake/sys/kernel"] {
        std::fs::create_dir_all(format!("{tree}/{name}")).unwrap();
    }
    let mut unit = unit("web", &["sleep", "1000"]);
    on_tree(service(&mut unit), &tree, Writable::Direct);
    let start = || {
        rig.up(&unit).map(|running| {
            let covers = covers_of_proc(running.main.as_ref().unwrap().pid);
            running.down();
            covers
        })
    };
    let expected = start().unwrap();
    assert!(expected.iter().any(|cover| cover.starts_with("sys ro")), "{expected:?}");
    // Another who can write the tree, such as a unit with the same volume.
    let (one, other) = (format!("{tree}/proc"), format!("{tree}/fake"));
    let swapper = fork::child(&fork::Options::default(), || {
        loop {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags)
                .unwrap();
        }
    })
    .unwrap();
    for _ in 0..100 {
        match start() {
            Ok(covers) => assert_eq!(covers, expected),
            Err(text) => assert!(text.contains("not the kernel's own"), "{text}"),
        }
    }
    pidfd::send_signal(swapper.pidfd.as_fd(), libc::SIGKILL).unwrap();
    wait_pidfd(swapper.pidfd.as_fd()).unwrap();
    // The control: without the defence nothing is covered, and that is seen.
    rig.without.set(|op| is_mask(op) || is_read_only(op));
    assert_eq!(start().unwrap(), BTreeSet::new());
}
