//! Root trees: the host's, and directories in each mode of writing.

use std::path::Path;

use berth::unit::model::{At, Rootfs, Writable};
use nix::mount::MsFlags;

use super::rig::{Rig, Test, host_mount, on_tree, private_mounts, service, unit};

pub const TESTS: &[Test] = &[
    ("the_hosts_tree_is_read_only", the_hosts_tree_is_read_only),
    ("the_hosts_tree_hides_berth", the_hosts_tree_hides_berth),
    ("the_hosts_tree_has_its_filesystems", the_hosts_tree_has_its_filesystems),
    ("the_hosts_tree_may_be_ephemeral", the_hosts_tree_may_be_ephemeral),
    ("the_hosts_tree_may_be_persistent", the_hosts_tree_may_be_persistent),
    ("nothing_of_the_old_root_is_left", nothing_of_the_old_root_is_left),
    ("ephemeral_writes_are_gone", ephemeral_writes_are_gone),
    ("persistent_writes_stay", persistent_writes_stay),
    ("a_read_only_tree_takes_mounts", a_read_only_tree_takes_mounts),
    ("direct_writes_arrive", direct_writes_arrive),
    ("the_root_keeps_owner_and_mode", the_root_keeps_owner_and_mode),
    ("strange_paths_are_fine", strange_paths_are_fine),
    ("overlays_that_cannot_be_stacked_higher", overlays_that_cannot_be_stacked_higher),
];

fn the_hosts_tree_is_read_only() {
    let rig = Rig::new();
    let script = "for d in / /etc /usr /var; do touch $d/berth-x 2>/dev/null && echo wrote $d; done
        for d in /tmp /run /dev/shm; do touch $d/x || echo cannot write $d; ls $d | wc -l; done";
    // shm holds x; tmp and run hold nothing else either.
    assert_eq!(rig.shell(script, |_| {}).good(), "1\n1\n1\n");
}

fn the_hosts_tree_hides_berth() {
    let rig = Rig::new();
    let secret = rig.file("state/volumes/db/secret", "hidden");
    let open = rig.file("files/open", "visible");
    let socket = rig.file("runtime/control.sock", "hidden");
    let script = format!("cat {open}; cat {secret} {socket} 2>/dev/null; ls {}", rig.path("state"));
    assert_eq!(rig.shell(&script, |_| {}).good(), "visible");
    // The control: a plain process sees them.
    let plain = rig.shell(&script, |s| s.namespaces.value = berth::unit::model::Namespaces::NONE);
    assert!(plain.output.contains("hiddenhidden"), "{}", plain.output);
}

fn the_hosts_tree_has_its_filesystems() {
    private_mounts();
    let rig = Rig::new();
    let point = rig.path("files");
    host_mount(None, &point, Some("tmpfs"), MsFlags::empty());
    rig.file("files/below", "below");
    std::fs::create_dir(format!("{point}/deeper")).unwrap();
    host_mount(None, &format!("{point}/deeper"), Some("tmpfs"), MsFlags::empty());
    rig.file("files/deeper/file", "deeper");
    let script =
        format!("cd {point}; cat below deeper/file; touch x deeper/x 2>/dev/null && echo !");
    let outcome = rig.shell(&script, |_| {});
    assert_eq!(outcome.output, "belowdeeper");
    // The control: it was writable.
    rig.file("files/x", "");
}

fn the_hosts_tree_may_be_ephemeral() {
    let rig = Rig::new();
    let script = "echo x > /etc/berth-x && cat /etc/berth-x";
    assert_eq!(rig.shell(script, |s| s.writable = Writable::Ephemeral).good(), "x\n");
    assert!(!Path::new("/etc/berth-x").exists());
}

fn the_hosts_tree_may_be_persistent() {
    let rig = Rig::new();
    let script = "cat /etc/berth-x 2>/dev/null; echo x > /etc/berth-x";
    let run = || rig.shell(script, |s| s.writable = Writable::Persistent).good();
    assert_eq!(run() + &run(), "x\n");
    assert!(!Path::new("/etc/berth-x").exists());
}

fn nothing_of_the_old_root_is_left() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    // What protects the kernel's files depends on which there are.
    let script = "cut -d' ' -f5 /proc/self/mountinfo | grep -Ev '^/proc/|^/sys/[fd][ie]' | sort";
    let expected = "/\n/dev\n/dev/mqueue\n/dev/pts\n/dev/shm\n/proc\n/sys\n/sys/fs/cgroup\n/usr\n";
    for writable in [Writable::Ephemeral, Writable::Persistent, Writable::None, Writable::Direct] {
        for init in [true, false] {
            let output = rig.shell(script, |s| {
                on_tree(s, &tree, writable);
                s.init = init;
            });
            assert_eq!(output.good(), expected, "{writable:?} {init}");
        }
    }
    // A way out by the parent of the root would end in the host's /home, /boot, /opt.
    let output = rig.shell("cd /; cd ..; cd ../..; echo *", |s| {
        on_tree(s, &tree, Writable::None);
    });
    assert_eq!(output.good(), "bin dev etc lib lib64 proc root sbin srv sys usr var\n");
}

fn ephemeral_writes_are_gone() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let script = "test -e /srv/x && echo old; echo new > /srv/x; rm -r /var; cat /srv/x";
    for _ in 0..2 {
        let output = rig.shell(script, |s| on_tree(s, &tree, Writable::Ephemeral)).good();
        assert_eq!(output, "new\n");
    }
    assert!(!Path::new(&format!("{tree}/srv/x")).exists());
    assert!(Path::new(&format!("{tree}/var")).exists());
}

fn persistent_writes_stay() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let script = "cat /srv/x; echo again >> /srv/x; rm -rf /var; ls -d /var 2>/dev/null; true";
    let run = || rig.shell(script, |s| on_tree(s, &tree, Writable::Persistent)).good();
    assert!(run().contains("No such file"));
    assert_eq!(run(), "again\n");
    assert_eq!(run(), "again\nagain\n");
    assert!(!Path::new(&format!("{tree}/srv/x")).exists());
    let kept = rig.path("state/overlay/web/upper/srv/x");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "again\nagain\nagain\n");
}

fn a_read_only_tree_takes_mounts() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let script = "touch /srv/x 2>/dev/null && echo wrote; touch /made/here/x && ls /made/here";
    let output = rig.shell(script, |s| {
        on_tree(s, &tree, Writable::None);
        s.mounts.push(super::mounts::tmpfs("/made/here", None, 0o755));
    });
    assert_eq!(output.good(), "x\n");
    assert!(!Path::new(&format!("{tree}/made")).exists());
}

fn direct_writes_arrive() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    rig.shell("echo direct > /srv/x", |s| on_tree(s, &tree, Writable::Direct)).good();
    assert_eq!(std::fs::read_to_string(format!("{tree}/srv/x")).unwrap(), "direct\n");
}

fn the_root_keeps_owner_and_mode() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o1751)).unwrap();
    std::os::unix::fs::chown(&tree, Some(12), Some(34)).unwrap();
    for writable in [Writable::Ephemeral, Writable::Persistent, Writable::None] {
        let output = rig.shell("stat -c '%a %u %g' /", |s| on_tree(s, &tree, writable));
        assert_eq!(output.good(), "1751 12 34\n", "{writable:?}");
    }
}

fn strange_paths_are_fine() {
    let rig = Rig::new();
    let long = "x".repeat(200);
    let tree = rig.tree(&format!("rootfs/a:b, c/{long}/{long}"));
    let mut unit = unit("web", &["sh", "-c", "echo fine > /srv/x; cat /srv/x"]);
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    assert_eq!(rig.run(&unit).good(), "fine\n");
    service(&mut unit).rootfs = At::default_value(Rootfs::Directory(format!("{tree}/")));
    assert_eq!(rig.run(&unit).good(), "fine\n");
}

fn overlays_that_cannot_be_stacked_higher() {
    private_mounts();
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    // The kernel stacks two overlays and no more: as in a container in a container.
    let mut lower = tree.clone();
    for name in ["one", "two"] {
        let layers = rig.path(name);
        std::fs::create_dir(&layers).unwrap();
        host_mount(None, &layers, Some("tmpfs"), MsFlags::empty());
        for part in ["upper", "work", "merged"] {
            std::fs::create_dir(format!("{layers}/{part}")).unwrap();
        }
        let merged = format!("{layers}/merged");
        let options = format!("lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work");
        let (kind, flags) = (Some("overlay"), MsFlags::empty());
        nix::mount::mount(None::<&str>, merged.as_str(), kind, flags, Some(options.as_str()))
            .unwrap();
        lower = merged;
    }
    for directory in ["dev", "proc", "sys"] {
        std::fs::create_dir(format!("{lower}/{directory}")).unwrap();
    }
    let script = "touch /srv/x 2>/dev/null || echo read-only; ls /proc/self/comm";
    let output = rig.shell(script, |s| on_tree(s, &lower, Writable::None));
    assert_eq!(output.good(), "read-only\n/proc/self/comm\n");
    let text = rig.failure(|s| on_tree(s, &lower, Writable::Ephemeral));
    assert!(text.contains("(EINVAL): this tree is an overlay itself"), "{text}");
}
