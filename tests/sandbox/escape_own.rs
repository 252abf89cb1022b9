//! Whichever of the host's directories a unit is shown: berth's own, with everybody's secrets
//! and the control socket, is not in it.
//!
//! Every attempt is made twice: with the step that hides them, and without.

use std::os::unix::fs::symlink;

use berth::container::step::Op;
use berth::unit::model::{At, MountSource, Propagation, Rootfs, Service, Writable};
use nix::mount::MsFlags;

use super::rig::{Rig, Test, bind, host_mount, on_tree, private_mounts};

pub const TESTS: &[Test] = &[
    ("a_link_to_a_directory_above_berths_own", a_link_above),
    ("a_link_on_the_way_to_a_directory_above_berths_own", a_link_on_the_way),
    ("a_second_mount_of_the_disk_with_berths_own", a_second_mount),
    ("a_mount_of_a_part_of_berths_own", a_mount_of_a_part),
    ("a_second_mount_in_the_hosts_tree", a_second_mount_in_the_hosts_tree),
    ("a_root_tree_above_berths_own", a_root_tree_above),
    ("a_link_that_leads_into_berths_own", a_link_inside),
    ("berths_own_by_its_own_path", by_its_own_path),
    ("a_link_that_a_service_made_in_a_volume_leads_nowhere", a_link_in_a_volume),
];

/// What is looked for: a text that only a file of the state directory holds.
const KEY: &str = "the machine's key";

fn rig() -> Rig {
    let rig = Rig::new();
    rig.file("state/secret.key", KEY);
    rig.file("state/volumes/v/data", "of a volume");
    rig.file("runtime/control.sock", KEY);
    std::fs::create_dir(rig.path("srv")).unwrap();
    rig
}

/// Prints every such file, as far as it is in sight.
const LOOK: &str = "find $1 -xdev \\( -name secret.key -o -name control.sock \\) -exec cat {} + ; \
     grep -rs key /host /mirror; echo looked";

/// Whether a unit sees a key below `/host` or elsewhere in its tree: with what hides it, and
/// without.
fn is_hidden(rig: &Rig, places: &str, change: impl Fn(&mut Service)) {
    let script = LOOK.replace("$1", places);
    let look = || rig.shell(&script, &change).output;
    let hidden = look();
    assert!(hidden.contains("looked") && !hidden.contains(KEY), "{hidden}");
    rig.without.set(|op| matches!(op, Op::HideOwn));
    let open = look();
    rig.without.set(|_| false);
    assert!(open.contains(KEY), "the control: {open}");
}

fn a_link_above() {
    let rig = rig();
    symlink(rig.path("."), rig.path("srv/link")).unwrap();
    is_hidden(&rig, "/host/state /host/runtime", |s| {
        s.mounts.push(bind(&rig.path("srv/link"), "/host"));
    });
}

fn a_link_on_the_way() {
    let rig = rig();
    rig.file("disk/state/secret.key", KEY);
    symlink("..", rig.path("srv/link")).unwrap();
    std::fs::remove_dir_all(rig.path("state")).unwrap();
    // As a state directory has to be where the supervisor says it is: without links.
    std::fs::rename(rig.path("disk/state"), rig.path("state")).unwrap();
    let top = rig.path("");
    let parent = std::path::Path::new(&top).file_name().unwrap().to_str().unwrap().to_owned();
    symlink("/var", rig.path("srv/var")).unwrap();
    let inside = format!("/host/{parent}/state /host/{parent}/runtime");
    is_hidden(&rig, &inside, |s| s.mounts.push(bind(&rig.path("srv/var/tmp"), "/host")));
}

/// Mounts a directory of the host in a second place.
fn mirror(from: &str, to: &str) {
    std::fs::create_dir_all(to).unwrap();
    host_mount(Some(from), to, None, MsFlags::MS_BIND);
}

fn a_second_mount() {
    private_mounts();
    let rig = rig();
    let (top, mirrored) = (rig.path(""), rig.path("srv/a b/mirror"));
    mirror(&top, &mirrored);
    let places = "/host/state /host/mirror/state /host/mirror/runtime";
    // The mount itself, and one that has it below.
    is_hidden(&rig, places, |s| s.mounts.push(bind(&mirrored, "/host")));
    is_hidden(&rig, places, |s| s.mounts.push(bind(&rig.path("srv/a b"), "/host")));
    // What is not taken along is not there to be hidden.
    let path = rig.path("srv/a b");
    let seen = rig.shell("ls -A /host/mirror", |s| {
        let mut mount = bind(&path, "/host");
        let propagation = Propagation::Private;
        mount.value.source =
            MountSource::Bind { path: path.clone(), propagation, recursive: false };
        s.mounts.push(mount);
    });
    assert_eq!(seen.good(), "");
}

fn a_mount_of_a_part() {
    private_mounts();
    let rig = rig();
    rig.file("state/secrets/pw", KEY);
    mirror(&rig.path("state/secrets"), &rig.path("srv/part"));
    is_hidden(&rig, "/host", |s| s.mounts.push(bind(&rig.path("srv"), "/host")));
    // A part that is the units'.
    mirror(&rig.path("state/volumes/v"), &rig.path("srv/volume"));
    let shown = rig.shell("cat /host/volume/data", |s| {
        s.mounts.push(bind(&rig.path("srv"), "/host"));
    });
    assert_eq!(shown.good(), "of a volume");
}

fn a_second_mount_in_the_hosts_tree() {
    private_mounts();
    let rig = rig();
    let (mirrored, part) = (rig.path("srv/mirror"), rig.path("srv/part"));
    mirror(&rig.path(""), &mirrored);
    mirror(&rig.path("state"), &part);
    let hidden = rig.shell(&format!("ls -A {part}; echo end"), |_| {}).good();
    assert_eq!(hidden, "end\n");
    is_hidden(&rig, &format!("{mirrored}/state {mirrored}/runtime"), |_| {});
}

fn a_root_tree_above() {
    let rig = rig();
    let tree = rig.tree("");
    for writable in [Writable::Ephemeral, Writable::None, Writable::Direct] {
        is_hidden(&rig, "/state /runtime", |s| on_tree(s, &tree, writable));
    }
    // The upper layer may have something else in that place.
    let look = |script: &str| rig.shell(script, |s| on_tree(s, &tree, Writable::Persistent)).good();
    assert_eq!(look("ls -A /state"), "");
}

fn a_link_inside() {
    let rig = rig();
    for (name, to) in [("own", "../state"), ("key", "../state/secret.key"), ("sock", "../runtime")]
    {
        symlink(to, rig.path(&format!("srv/{name}"))).unwrap();
        let source = rig.path(&format!("srv/{name}"));
        let shown = || {
            let mut unit = super::rig::unit("web", &["sh", "-c", "grep -rs key /host"]);
            super::rig::service(&mut unit).mounts.push(bind(&source, "/host"));
            let mut running = rig.up(&unit)?;
            let output = running.wait().output;
            running.down();
            Ok::<_, String>(output)
        };
        let refused = shown().unwrap_err();
        let real = rig.path(to.trim_start_matches("../"));
        assert!(refused.contains("berth's own") && refused.contains(&real), "{refused}");
        rig.without.set(|op| matches!(op, Op::FindOwn { .. }));
        assert!(shown().unwrap().contains(KEY), "the control");
        rig.without.set(|_| false);
    }
    let tree = rig.path("srv/own");
    let refused = rig.failure(|s| {
        s.rootfs = At { value: Rootfs::Directory(tree.clone()), line: 3 };
    });
    assert!(refused.contains("berth's own"), "{refused}");
    // What is the units' may be meant.
    symlink("../state/volumes/v", rig.path("srv/volume")).unwrap();
    let volume = rig.path("srv/volume");
    let shown = rig.shell("cat /host/data", |s| s.mounts.push(bind(&volume, "/host")));
    assert_eq!(shown.good(), "of a volume");
}

/// Somebody wants it in there, also in a tree in which it is hidden.
fn by_its_own_path() {
    let rig = rig();
    let shown = rig.shell("cat /host/secret.key /top/state/secret.key; ls -A /top/runtime", |s| {
        s.mounts.push(bind(&rig.path("state"), "/host"));
        s.mounts.push(bind(&rig.path(""), "/top"));
        s.mounts.push(bind(&rig.path("state"), "/top/state"));
    });
    assert_eq!(shown.good(), [KEY, KEY].concat());
}

/// A service makes links in its volume, parts of which are mounted elsewhere by their paths:
/// for who follows them they lead to the host's files, where root of a unit is root.
fn a_link_in_a_volume() {
    let rig = rig();
    let (outside, volume) = (rig.path("files"), rig.path("state/volumes/v"));
    rig.file("files/host", "of the host");
    rig.file("state/volumes/v/inner/own", "its own");
    symlink(&outside, format!("{volume}/absolute")).unwrap();
    symlink("../../../files", format!("{volume}/relative")).unwrap();
    symlink("inner", format!("{volume}/inside")).unwrap();
    symlink(".", format!("{volume}/inner/dot")).unwrap();
    let show = |source: &str| {
        let mut unit = super::rig::unit("web", &["sh", "-c", "cat /host/*"]);
        super::rig::service(&mut unit).mounts.push(bind(source, "/host"));
        let mut running = rig.up(&unit)?;
        let output = running.wait().output;
        running.down();
        Ok::<_, String>(output)
    };
    for name in ["absolute", "relative", "/relative", "./absolute"] {
        // The control: it is there for who follows the path.
        let source = format!("{volume}/{name}");
        assert!(std::fs::exists(format!("{source}/host")).unwrap(), "{name}");
        let refused = show(&source).unwrap_err();
        assert!(refused.contains(&format!("leads to {outside}, and a service")), "{refused}");
        let refused = rig.failure(|s| {
            s.rootfs = At { value: Rootfs::Directory(source.clone()), line: 3 };
        });
        assert!(refused.contains("a service may have made it"), "{refused}");
    }
    for name in ["inner", "inside", "inside/dot"] {
        assert!(show(&format!("{volume}/{name}")).unwrap().contains("its own"), "{name}");
    }
    assert!(show(&volume).unwrap().contains("of a volume"));
}
