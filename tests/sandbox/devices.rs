//! Which devices a unit may use, in both versions of control groups; and settings of the
//! kernel in its own namespaces.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use berth::container::step::Op;
use berth::container::{self, Program, Stdio, Where};
use berth::sys::cgroup::Tree;
use berth::unit::model::{At, Capabilities, Device, Id, Namespaces, Service, Sysctl, User};

use super::rig::{
    Rig, Test, executed, first_user, host_mount, private_mounts, reap_orphans, service, unit,
    wait_for, wait_pidfd,
};

pub const TESTS: &[Test] = &[
    ("the_standard_devices_work", the_standard_devices_work),
    ("a_device_is_used_as_far_as_it_is_allowed", a_device_is_used_as_far_as_it_is_allowed),
    ("a_device_of_the_host_keeps_owner_and_mode", a_device_of_the_host_keeps_owner_and_mode),
    ("a_device_of_root_is_that_of_root_inside", a_device_of_root_is_that_of_root_inside),
    ("a_device_goes_through_the_fence", a_device_goes_through_the_fence),
    ("a_device_that_is_not_there_is_named", a_device_that_is_not_there_is_named),
    ("only_those_who_ask_are_kept_from_devices", only_those_who_ask_are_kept_from_devices),
    ("the_kernel_tells_whether_it_asks_about_devices", the_kernel_tells),
    ("version_1_keeps_devices_too", version_1_keeps_devices_too),
    ("without_groups_it_is_said", without_groups_it_is_said),
    ("rules_are_shared_and_forgotten", rules_are_shared_and_forgotten),
    ("settings_are_the_units_own", settings_are_the_units_own),
    ("a_setting_that_is_refused_is_named", a_setting_that_is_refused_is_named),
    ("what_is_not_said_is_limited", what_is_not_said_is_limited),
    ("who_may_have_no_core_file_starts_services", who_may_have_no_core_file),
];

/// There on every host; opening it changes nothing. It takes a capability to read.
const KMSG: &str = "/dev/kmsg";

pub fn device(path: &str, target: &str, access: &str) -> At<Device> {
    let [read, write, mknod] = ['r', 'w', 'm'].map(|letter| access.contains(letter));
    let (path, target) = (path.to_owned(), target.to_owned());
    At { value: Device { path, target, read, write, mknod }, line: 12 }
}

/// The log of the kernel, as far as capabilities go.
fn kmsg(service: &mut Service, target: &str, access: &str) {
    let add = super::capabilities::at(&["SYSLOG"]);
    service.security.capabilities = Capabilities::Changed { add, drop: At::default() };
    service.security.devices = Some(vec![device(KMSG, target, access)]);
}

fn sysctl(path: &str, value: &str) -> At<Sysctl> {
    At { value: Sysctl { path: path.to_owned(), value: value.to_owned() }, line: 13 }
}

/// Opens a node in every way and says what went well.
fn open(node: &str) -> String {
    format!(
        "(exec 3<{node}) 2>/dev/null && echo read; (exec 3>>{node}) 2>/dev/null && echo write; "
    )
}

fn the_standard_devices_work() {
    let rig = Rig::new();
    let mut script = "set -e; for d in null zero full random urandom ptmx; do \
        [ -c /dev/$d ] && (exec 3<>/dev/$d); done; "
        .to_owned();
    script += "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
        head -c 1 /dev/zero 2>&1 > /dev/full | grep -o 'No space'; echo x > /dev/null; \
        echo x > /dev/console; script -qec 'tty; echo to the terminal > /dev/tty' /dev/null";
    let output = rig.shell(&script, |_| {}).good().replace('\r', "");
    assert_eq!(output, "3\n3\nNo space\n/dev/pts/0\nto the terminal\n");
    // As another user too.
    let output = rig.shell("echo x > /dev/null; head -c 2 /dev/zero | wc -c", |s| {
        s.user = Some(At { value: User { user: Id::Number(1234), group: None }, line: 4 });
    });
    assert_eq!(output.good(), "2\n");
}

fn a_device_is_used_as_far_as_it_is_allowed() {
    let rig = Rig::new();
    // The capability counts only over those.
    rig.host_users.set(true);
    for (access, expected) in [("r", "read\n"), ("w", "write\n"), ("rw", "read\nwrite\n")] {
        let inside = open("/dev/deep/log");
        let output = rig.shell(&inside, |s| {
            kmsg(s, "/dev/deep/log", access);
        });
        assert_eq!(output.output, expected, "{access}");
    }
    // The control: the node alone, without a rule.
    rig.all_devices.set(true);
    let output = rig.shell(&open("/dev/deep/log"), |s| {
        kmsg(s, "/dev/deep/log", "r");
    });
    assert_eq!(output.output, "read\nwrite\n");
}

fn a_device_of_the_host_keeps_owner_and_mode() {
    let rig = Rig::new();
    let before = std::fs::metadata(KMSG).unwrap();
    let script = "chmod 777 /dev/log2; chown 1:1 /dev/log2; stat -c %F /dev/log2";
    let output = rig.shell(script, |s| {
        s.security.devices = Some(vec![device(KMSG, "/dev/log2", "rw")]);
    });
    assert!(output.output.contains("Read-only file system"), "{output:?}");
    assert!(output.output.ends_with("character special file\n"), "{output:?}");
    let after = std::fs::metadata(KMSG).unwrap();
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
}

/// The owner of a node is who has this number inside, and its mode counts.
fn a_device_of_root_is_that_of_root_inside() {
    private_mounts();
    let rig = Rig::new();
    host_mount(Some("nodes"), "/dev/shm", Some("tmpfs"), nix::mount::MsFlags::empty());
    let make = "mknod -m 600 /dev/shm/root c 1 7; mknod -m 660 /dev/shm/group c 1 7; \
                chown 0:1235 /dev/shm/group";
    assert!(std::process::Command::new("sh").args(["-c", make]).status().unwrap().success());
    let mut devices = vec![
        device("/dev/shm/root", "/dev/deep/root", "rw"),
        device("/dev/shm/group", "/dev/group", "rw"),
    ];
    // The filesystem of the host's own /dev can show no other owners.
    let fuse = std::path::Path::new("/dev/fuse").exists();
    if fuse {
        devices.push(device("/dev/fuse", "/dev/fuse", "rw"));
    }
    let script = "for d in deep/root group fuse; do (exec 3<>/dev/$d) && echo $d; done 2>/dev/null; \
                  stat -c %u:%g:%a /dev/deep/root /dev/group; ls /dev/shm; \
                  read -r i host n < /proc/self/uid_map; echo $host";
    let said = |user: Option<(u32, u32)>| {
        rig.shell(script, |s| {
            s.security.devices = Some(devices.clone());
            s.user = user.map(|(user, group)| {
                let value = User { user: Id::Number(user), group: Some(Id::Number(group)) };
                At { value, line: 4 }
            });
        })
        .good()
    };
    let rest = |run| format!("0:0:600\n0:1235:660\n{}\n", first_user(run));
    // A device manager may have made that one everybody's.
    let mode = std::fs::metadata("/dev/fuse").map_or(0, |metadata| metadata.mode());
    let for_all = if mode & 6 == 6 { "fuse\n" } else { "" };
    let fuse = if fuse { "fuse\n" } else { "" };
    assert_eq!(said(None), format!("deep/root\ngroup\n{fuse}{}", rest(1)));
    assert_eq!(said(Some((1234, 1235))), format!("group\n{for_all}{}", rest(2)));
    assert_eq!(said(Some((1234, 1234))), rest(3));
    // The control: the host's users.
    rig.host_users.set(true);
    assert_eq!(said(None), format!("deep/root\ngroup\n{fuse}0:0:600\n0:1235:660\n0\n"));
}

/// What `writable-paths` keeps from writing is not what it was given to write to.
fn a_device_goes_through_the_fence() {
    private_mounts();
    let rig = Rig::new();
    host_mount(Some("nodes"), "/dev/shm", Some("tmpfs"), nix::mount::MsFlags::empty());
    let make = "mknod -m 666 /dev/shm/given c 1 3";
    assert!(std::process::Command::new("sh").args(["-c", make]).status().unwrap().success());
    let script = "for d in given read; do (echo > /dev/$d) 2>/dev/null && echo $d; done; \
                  (echo > /tmp/x) 2>/dev/null || echo kept";
    let said = |fence: bool| {
        let outcome = rig.shell(script, |s| {
            let given = device("/dev/shm/given", "/dev/given", "rw");
            let read = device("/dev/shm/given", "/dev/read", "r");
            s.security.devices = Some(vec![given, read]);
            s.security.writable_paths = fence.then(Vec::new);
        });
        outcome.output
    };
    assert_eq!(said(true), "given\nkept\n");
    // The control: the other node, which is of the same device, is kept by the fence.
    assert_eq!(said(false), "given\nread\n");
}

fn a_device_that_is_not_there_is_named() {
    let rig = Rig::new();
    for (path, why) in [("/dev/nothing", "No such file"), ("/dev/shm", "No such device")] {
        let text = rig.failure(|s| s.security.devices = Some(vec![device(path, "/dev/x", "rw")]));
        let expected = format!("the device {path}: {why}");
        assert!(text.starts_with(&expected) && text.ends_with(" at web.toml:12"), "{text}");
    }
}

fn only_those_who_ask_are_kept_from_devices() {
    let rig = Rig::new();
    let plain = |s: &mut Service| s.namespaces.value = Namespaces::NONE;
    assert_eq!(rig.shell(&open(KMSG), plain).output, "read\nwrite\n");
    let asked = rig.shell(&open(KMSG), |s| {
        plain(s);
        s.security.devices = Some(Vec::new());
    });
    assert_eq!(asked.output, "");
    let asked = rig.shell(&format!("{}{}", open(KMSG), open("/dev/null")), |s| {
        plain(s);
        s.security.devices = Some(vec![device(KMSG, KMSG, "r")]);
    });
    assert_eq!(asked.output, "read\nread\nwrite\n");
    let privileged = rig.shell(&format!("mknod /tmp/n c 1 11; {}", open("/tmp/n")), |s| {
        s.security.privileged = true;
    });
    // Its /tmp takes no device nodes.
    assert_eq!(privileged.output, "");
    let privileged = rig.shell(&format!("mknod /dev/n c 1 11; {}", open("/dev/n")), |s| {
        s.security.privileged = true;
    });
    assert_eq!(privileged.output, "read\nwrite\n");
}

/// The trees of this host, but for that of version 2.
fn legacy_only() -> Tree {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let own = read("/proc/self/cgroup");
    let own: Vec<&str> = own.lines().filter(|line| !line.starts_with("0::")).collect();
    Tree::parse(&own.join("\n"), &read("/proc/self/mountinfo"))
}

fn version_1_keeps_devices_too() {
    let tree = legacy_only();
    if !tree.own_groups().any(|own| own.join("devices.list").exists()) {
        println!("this host has no devices controller of version 1: nothing to try");
        return;
    }
    let rig = Rig::new();
    let root = tree.open(&format!("rig-{}", std::process::id())).unwrap();
    let run = |change: &dyn Fn(&mut Service)| {
        let script = format!(
            "exec >/tmp/out; {}echo end; {}cat /tmp/out >&2",
            open("/dev/k"),
            open("/dev/null")
        );
        let mut unit = unit("one", &["sh", "-c", &script]);
        change(service(&mut unit));
        let mut group = container::group(&root, &unit, "one").unwrap();
        let said = group.unenforced().to_vec();
        let plan = rig.plan(&unit);
        let (mut read, write) = std::io::pipe().unwrap();
        let mut sandbox = container::sandbox(&rig.host, &plan, &group, None).unwrap();
        executed(&mut sandbox.status, &plan, &mut Vec::new()).unwrap();
        let stdio = Stdio { stderr: Some(write.as_fd()), ..Stdio::default() };
        let inside = Some(sandbox.pidfd.as_fd());
        let place = Where { group: &group, inside, users: None };
        let main = container::process(&rig.host, &plan, place, Program::Main, &stdio).unwrap();
        drop(write);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut read, &mut output).unwrap();
        for child in [main, sandbox] {
            let _ = berth::sys::pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            wait_pidfd(child.pidfd.as_fd()).unwrap();
        }
        wait_for("the groups are gone", || {
            reap_orphans();
            group.remove().is_ok()
        });
        (output, said)
    };
    let with = |access: &'static str| run(&move |s| kmsg(s, "/dev/k", access));
    for (access, expected) in [("r", "read\n"), ("rw", "read\nwrite\n"), ("m", "")] {
        let (output, said) = with(access);
        assert_eq!(output, format!("{expected}end\nread\nwrite\n"), "{access}");
        assert_eq!(said, [""; 0]);
    }
    // The control: no rules at all.
    let (output, _) = run(&|s| {
        kmsg(s, "/dev/k", "m");
        s.security.capabilities = Capabilities::Default;
        s.security.privileged = true;
    });
    assert_eq!(output, "read\nwrite\nend\nread\nwrite\n");
    root.remove().unwrap();
}

fn without_groups_it_is_said() {
    let rig = Rig::new();
    let root = Tree::parse("", "").open("nothing").unwrap();
    let mut unit = unit("one", &["true"]);
    let group = container::group(&root, &unit, "one").unwrap();
    let expected = "devices: no cgroup version 2 hierarchy is mounted; no cgroup controller \
                    devices is available";
    let pids = "pids: no cgroup controller pids is available";
    assert_eq!(group.unenforced(), [pids, expected]);
    service(&mut unit).limits.strict = true;
    service(&mut unit).limits.pids = Some(At { value: u64::MAX, line: 5 });
    let text = container::group(&root, &unit, "one").unwrap_err();
    let expected = "the limit devices cannot be enforced on this host: no cgroup version 2";
    assert!(text.starts_with(expected), "{text}");
    // The control: strict here.
    rig.shell("true", |s| s.limits.strict = true).good();
}

/// How many programs the calling process holds.
fn programs() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let links = fds.filter_map(|path| std::fs::read_link(path).ok());
    links.filter(|link| link.to_str() == Some("anon_inode:bpf-prog")).count()
}

fn rules_are_shared_and_forgotten() {
    let rig = Rig::new();
    let root = rig.root.as_ref().unwrap();
    let group = |index: u32, access: &str, path: &str| {
        let mut unit = unit("one", &["true"]);
        service(&mut unit).security.devices = Some(vec![device(path, "/dev/x", access)]);
        container::group(root, &unit, &format!("one-{index}")).unwrap().remove().unwrap();
    };
    for round in 0..50 {
        group(round, "r", KMSG);
        group(round, "w", KMSG);
    }
    assert_eq!(programs(), 2);
    let nodes: Vec<String> = std::fs::read_dir("/dev")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let kind = entry.file_type().unwrap();
            kind.is_char_device() || kind.is_block_device()
        })
        .map(|entry| entry.path().to_str().unwrap().to_owned())
        .collect();
    assert!(nodes.len() > 70, "{}", nodes.len());
    for node in &nodes {
        group(0, "r", node);
    }
    assert!((2..=64).contains(&programs()), "{}", programs());
}

fn settings_are_the_units_own() {
    let rig = Rig::new();
    let settings = [
        ("net/core/somaxconn", "1234"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/lo/rp_filter", "2"),
        ("kernel/sem", "251\t32000\t100\t128"),
        ("kernel/shmmni", "777"),
        ("kernel/msgmax", "9000"),
        ("fs/mqueue/msg_max", "21"),
    ];
    let host = || {
        let read = |(path, _): &(&str, _)| std::fs::read_to_string(format!("/proc/sys/{path}"));
        settings.iter().map(|setting| read(setting).ok()).collect::<Vec<_>>()
    };
    let before = host();
    let paths = settings.map(|(path, _)| format!("/proc/sys/{path}")).join(" ");
    let script =
        format!("cat {paths}; (: >> /proc/sys/net/core/somaxconn) 2>/dev/null && echo open");
    let set = |s: &mut Service| {
        s.security.sysctls = settings.iter().map(|(path, value)| sysctl(path, value)).collect();
    };
    let expected = settings.map(|(_, value)| value).join("\n") + "\n";
    assert_eq!(rig.shell(&script, set).output, expected);
    // Also without a mount namespace, as far as the namespaces are its own.
    let output = rig.shell(&format!("cat {paths}"), |s| {
        set(s);
        s.namespaces.value = Namespaces { network: true, ipc: true, ..Namespaces::NONE };
    });
    assert_eq!(output.good(), expected);
    assert_eq!(host(), before);
    // The control: without them the values are others.
    rig.without.set(|op| matches!(op, Op::Sysctl { .. }));
    let plain = rig.shell(&script, set).output;
    assert!(plain.lines().zip(expected.lines()).all(|(one, other)| one != other), "{plain}");
}

fn a_setting_that_is_refused_is_named() {
    let rig = Rig::new();
    for (path, value, why) in [
        ("net/core/nothing", "1", "the kernel has no such setting, or none for each namespace"),
        ("net/core/somaxconn", "many", "the kernel does not take this value"),
        ("net/core", "1", "Is a directory"),
    ] {
        let text = rig.failure(|s| s.security.sysctls = vec![sysctl(path, value)]);
        let expected = format!("write {value} to /proc/sys/{path}");
        let good = text.contains("web.toml:13") && text.contains(&expected) && text.contains(why);
        assert!(good, "{text}");
    }
}

fn what_is_not_said_is_limited() {
    let rig = Rig::new();
    // Core files of 1 byte: see the plan.
    let script = "sed -n 's/^Max core file size  *//p' /proc/self/limits | tr -s ' '; ulimit -c; \
                  umask; ps -o sid=,tty= -p $$ | tr -s ' '";
    let lines = rig.shell(script, |_| {}).good();
    let lines: Vec<&str> = lines.lines().map(str::trim).collect();
    assert_eq!(lines[..3], ["1 1 bytes", "0", "0022"]);
    assert!(lines[3].ends_with('?'), "{lines:?}");
    let core = rig.shell("ulimit -c", |s| s.limits.core = Some(At { value: 1 << 20, line: 6 }));
    // In blocks of 512 bytes.
    assert_eq!(core.good(), "2048\n");
    let pids = |change: &dyn Fn(&mut Service)| {
        let mut unit = unit("web", &["sleep", "1000"]);
        change(service(&mut unit));
        let running = rig.up(&unit).unwrap();
        let name = running.group.path().unwrap();
        let name = name.file_name().unwrap();
        let paths = rig.root.as_ref().unwrap().paths();
        let files = paths.iter().map(|path| path.join(name).join("pids.max"));
        let found: Vec<String> =
            files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        running.down();
        found.concat().trim().to_owned()
    };
    assert_eq!(pids(&|_| {}), "2048");
    assert_eq!(pids(&|s| s.limits.pids = Some(At { value: 77, line: 6 })), "77");
    let unlimited = |s: &mut Service| s.limits.pids = Some(At { value: u64::MAX, line: 6 });
    assert!(matches!(pids(&unlimited).as_str(), "" | "max"));
    assert!(matches!(pids(&|s| s.namespaces.value = Namespaces::NONE).as_str(), "" | "max"));
}

/// What `berthctl audit` relies on.
fn the_kernel_tells() {
    let rig = Rig::new();
    let programs = || {
        let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
        let group = std::fs::File::open(running.group.path().unwrap()).unwrap();
        let programs = berth::sys::bpf::device_programs(group.as_fd()).unwrap();
        running.down();
        programs
    };
    assert_eq!(programs(), 1);
    rig.all_devices.set(true);
    assert_eq!(programs(), 0);
}

/// As a berth in a container of somebody's who has forbidden core files for good.
fn who_may_have_no_core_file() {
    use berth::sys::limits::{self, Resource};
    limits::set(Resource::Core, 0).unwrap();
    let rig = Rig::new();
    let script = "sed -n 's/^Max core file size  *//p' /proc/self/limits | tr -s ' '";
    // In a user namespace nobody may raise a limit.
    assert_eq!(rig.shell(script, |_| {}).good().trim(), "0 0 bytes");
}
