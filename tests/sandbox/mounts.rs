//! Mounts of a unit, and what every container has: /proc, /sys, /dev.

use berth::unit::model::{At, Mount, MountSource, Propagation, Writable};
use nix::mount::MsFlags;

use super::rig::{
    Rig, Test, bind, host_mount, mount, on_tree, private_mounts, service, unit, wait_for,
};

pub const TESTS: &[Test] = &[
    ("a_bind_shows_the_hosts_files", a_bind_shows_the_hosts_files),
    ("a_read_only_bind_cannot_be_written", a_read_only_bind_cannot_be_written),
    ("a_bind_takes_the_mounts_below_it_or_not", a_bind_takes_the_mounts_below_it_or_not),
    ("a_file_can_be_bound", a_file_can_be_bound),
    ("propagation_is_as_said", propagation_is_as_said),
    ("a_volume_is_made_and_kept", a_volume_is_made_and_kept),
    ("a_tmpfs_has_size_and_mode", a_tmpfs_has_size_and_mode),
    ("a_hostile_tree_catches_nothing", a_hostile_tree_catches_nothing),
    ("dev_has_the_standard_nodes", dev_has_the_standard_nodes),
    ("terminals_queues_and_shared_memory", terminals_queues_and_shared_memory),
    ("proc_and_sys_are_the_units", proc_and_sys_are_the_units),
    ("sockets_are_handed_over", sockets_are_handed_over),
];

pub fn tmpfs(target: &str, size: Option<u64>, mode: u32) -> At<Mount> {
    mount(9, MountSource::Tmpfs { size, mode }, target)
}

fn volume(name: &str, target: &str) -> At<Mount> {
    mount(8, MountSource::Volume { name: name.to_owned() }, target)
}

fn a_bind_shows_the_hosts_files() {
    let rig = Rig::new();
    rig.file("files/in", "from the host");
    let files = rig.path("files");
    let script = "cat /srv/www/in; echo from inside > /srv/www/out";
    let output = rig.shell(script, |s| s.mounts.push(bind(&files, "/srv/www"))).good();
    assert_eq!(output, "from the host");
    assert_eq!(std::fs::read_to_string(rig.path("files/out")).unwrap(), "from inside\n");
}

fn a_read_only_bind_cannot_be_written() {
    private_mounts();
    let rig = Rig::new();
    let files = rig.path("files");
    std::fs::create_dir(format!("{files}/deeper")).unwrap();
    host_mount(None, &format!("{files}/deeper"), Some("tmpfs"), MsFlags::empty());
    let script =
        "touch /data/x 2>&1 | grep -o Read-only; touch /data/deeper/x 2>&1 | grep -o Read-only";
    let mut read_only = bind(&files, "/data");
    read_only.value.read_only = true;
    let output = rig.shell(script, |s| s.mounts.push(read_only)).output;
    assert_eq!(output, "Read-only\nRead-only\n");
    // The control: without it both can be written.
    let output = rig.shell(script, |s| s.mounts.push(bind(&files, "/data"))).output;
    assert_eq!(output, "");
    assert!(std::path::Path::new(&format!("{files}/deeper/x")).exists());
}

fn a_bind_takes_the_mounts_below_it_or_not() {
    private_mounts();
    let rig = Rig::new();
    let files = rig.path("files");
    std::fs::create_dir(format!("{files}/deeper")).unwrap();
    host_mount(None, &format!("{files}/deeper"), Some("tmpfs"), MsFlags::empty());
    rig.file("files/deeper/file", "deep");
    for (recursive, expected) in [(true, "file\n"), (false, "")] {
        let propagation = Propagation::Private;
        let source = MountSource::Bind { path: files.clone(), propagation, recursive };
        let output = rig.shell("ls /data/deeper", |s| s.mounts.push(mount(7, source, "/data")));
        assert_eq!(output.good(), expected);
    }
}

fn a_file_can_be_bound() {
    let rig = Rig::new();
    let file = rig.file("files/conf", "bound");
    let output = rig.shell("cat /etc/hostname /new/file", |s| {
        s.mounts.push(bind(&file, "/etc/hostname"));
        s.mounts.push(bind(&file, "/new/file"));
    });
    assert_eq!(output.good(), "boundbound");
}

fn propagation_is_as_said() {
    private_mounts();
    let rig = Rig::new();
    let files = rig.path("files");
    // A shared mount of the host.
    host_mount(Some(&files), &files, None, MsFlags::MS_BIND);
    host_mount(None, &files, None, MsFlags::MS_SHARED);
    for (propagation, arrives, returns) in [
        (Propagation::Private, false, false),
        (Propagation::Slave, true, false),
        (Propagation::Shared, true, true),
    ] {
        let later = format!("{files}/later");
        let back = format!("{files}/back");
        for directory in [&later, &back] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let mut unit = unit("web", &["sleep", "1000"]);
        let source = MountSource::Bind { path: files.clone(), propagation, recursive: true };
        service(&mut unit).mounts.push(mount(7, source, "/data"));
        // It mounts something itself.
        service(&mut unit).security.privileged = true;
        let mut running = rig.up(&unit).unwrap();
        host_mount(None, &later, Some("tmpfs"), MsFlags::empty());
        std::fs::write(format!("{later}/file"), "").unwrap();
        let seen = running.shell("ls /data/later").good();
        assert_eq!(seen == "file\n", arrives, "{propagation:?}: {seen}");
        running.shell("mount -t tmpfs inner /data/back && touch /data/back/file").good();
        let seen = std::path::Path::new(&format!("{back}/file")).exists();
        assert_eq!(seen, returns, "{propagation:?}");
        running.down();
        nix::mount::umount(later.as_str()).unwrap();
        if returns {
            nix::mount::umount(back.as_str()).unwrap();
        }
    }
}

fn a_volume_is_made_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let image = format!("{tree}/var/db");
    std::fs::create_dir(&image).unwrap();
    std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o2770)).unwrap();
    std::os::unix::fs::chown(&image, Some(1234), Some(1235)).unwrap();
    let run = |script: &str| {
        let mut unit = unit("web", &["sh", "-c", script]);
        on_tree(service(&mut unit), &tree, Writable::Ephemeral);
        service(&mut unit).mounts.push(volume("db", "/var/db"));
        service(&mut unit).mounts.push(volume("other", "/var/other"));
        rig.run(&unit).good()
    };
    let first = run("stat -c '%a %u %g' /var/db /var/other; echo kept > /var/db/file; \
                     chmod 00700 /var/db");
    assert_eq!(first, "2770 1234 1235\n755 0 0\n");
    // The second time it is as the first run left it.
    assert_eq!(run("stat -c %a /var/db; cat /var/db/file"), "700\nkept\n");
    let kept = std::fs::read_to_string(rig.path("state/volumes/db/file")).unwrap();
    assert_eq!(kept, "kept\n");
}

fn a_tmpfs_has_size_and_mode() {
    let rig = Rig::new();
    let script = "stat -c %a /data; head -c 1M /dev/zero > /data/x 2>/dev/null; stat -c %s /data/x";
    let output = rig.shell(script, |s| s.mounts.push(tmpfs("/data", Some(65_536), 0o750)));
    assert_eq!(output.good(), "750\n65536\n");
    let output = rig.shell(script, |s| s.mounts.push(tmpfs("/data", None, 0o1777)));
    assert_eq!(output.good(), "1777\n1048576\n");
    let mut read_only = tmpfs("/data", None, 0o755);
    read_only.value.read_only = true;
    let output = rig.shell("touch /data/x 2>/dev/null || echo no", |s| s.mounts.push(read_only));
    assert_eq!(output.good(), "no\n");
}

fn a_hostile_tree_catches_nothing() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let outside = rig.path("files");
    let link = |name: &str, to: &str| {
        std::os::unix::fs::symlink(to, format!("{tree}/{name}")).unwrap();
    };
    // Absolute and relative links resolve inside; there they lead nowhere, so directories
    // are made inside.
    link("up", &format!("../../../../../../../..{outside}"));
    link("srv/abs", "/var");
    let output = rig.shell("ls -d /var/made && ls /var/made", |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(tmpfs("/srv/abs/made", None, 0o755));
    });
    assert_eq!(output.good(), "/var/made\n");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(tmpfs("/up/made", None, 0o755));
    });
    assert!(text.contains("mount a tmpfs on /up/made: No such file"), "{text}");
    // The links of /proc lead to what is open in the process that mounts.
    link("magic", "/proc/self/fd/1");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(tmpfs("/magic", None, 0o755));
    });
    assert!(text.contains("(ELOOP)"), "{text}");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.working_directory.value = "/magic".to_owned();
    });
    assert!(text.contains("enter the working directory /magic") && text.contains("(ELOOP)"));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

fn dev_has_the_standard_nodes() {
    let rig = Rig::new();
    let script = "umask 022; cd /dev; stat -c '%n %a %t:%T' null zero full random urandom tty; \
        readlink fd stdin stdout stderr core ptmx; echo x > null; head -c 3 zero | od -An -tx1; \
        echo x 2>/dev/null > full || echo full; ls | grep -c sd";
    let output = rig.shell(script, |_| {}).output;
    let expected = "null 666 1:3\nzero 666 1:5\nfull 666 1:7\nrandom 666 1:8\n\
        urandom 666 1:9\ntty 666 5:0\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n\
        /proc/self/fd/2\n/proc/kcore\npts/ptmx\n 00 00 00\nfull\n0\n";
    assert_eq!(output, expected);
}

fn terminals_queues_and_shared_memory() {
    let rig = Rig::new();
    let script = "stat -f -c %T /dev/pts /dev/shm /dev/mqueue; stat -c %a /dev/shm /dev/pts/ptmx; \
        ls /dev/pts; script -qec tty /dev/null </dev/null";
    let output = rig.shell(script, |_| {}).good().replace('\r', "");
    assert!(output.starts_with("devpts\ntmpfs\nmqueue\n1777\n666\nptmx\n"), "{output}");
    assert!(output.contains("/dev/pts/0"), "{output}");
}

fn proc_and_sys_are_the_units() {
    let rig = Rig::new();
    let script = "ls /proc | grep -c '^[0-9]'; touch /sys/x 2>/dev/null || echo ro; \
        cut -d' ' -f5,6 /proc/self/mountinfo | grep -E '^/(proc|sys|dev|tmp) ' | sort";
    let output = rig.shell(script, |_| {}).good();
    let mut lines = output.lines();
    // The init, the shell, ls and grep.
    assert!(lines.next().unwrap().parse::<u32>().unwrap() <= 4, "{output}");
    assert_eq!(lines.next(), Some("ro"));
    let rest: Vec<&str> = lines.collect();
    let expected = [
        "/dev rw,nosuid,noexec,relatime",
        "/proc rw,nosuid,nodev,noexec,relatime",
        "/sys ro,nosuid,nodev,noexec,relatime",
        "/tmp rw,nosuid,nodev,relatime",
    ];
    assert_eq!(rest, expected);
}

fn sockets_are_handed_over() {
    use berth::container::SocketKind;
    use berth::sys::socket;
    use std::os::fd::AsFd;
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).ready = berth::unit::model::Ready::Notify;
    let running = rig.up(&unit).unwrap();
    let kinds: Vec<SocketKind> = running.sockets.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [SocketKind::Syslog, SocketKind::Notify]);
    assert!(running.plan.fixed.contains(&("NOTIFY_SOCKET".into(), "/dev/berth-notify".into())));
    // Sent from inside, as any user; the sender is known.
    let main = running.main.as_ref().unwrap().pid;
    let sender = format!("/proc/{main}/root/dev/berth-notify");
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    datagram.send_to(b"READY=1", sender).unwrap();
    let (_, notify) = &running.sockets[1];
    wait_for("the message", || {
        let mut buffer = [0; 64];
        socket::receive(notify.as_fd(), &mut buffer).unwrap().is_some_and(|message| {
            assert_eq!(&buffer[..message.length], b"READY=1");
            assert_eq!(message.credentials.unwrap().pid, std::process::id().cast_signed());
            true
        })
    });
    running.down();
}
