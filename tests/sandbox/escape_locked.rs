//! What a unit that may mount, in a user namespace of its own, tries to do to the mounts it was
//! given: root of it is root of the disk by the mapped mounts, so a read-only one that it
//! could make writable would be the host's to lose.

use std::os::unix::net::UnixListener;
use std::path::Path;

use berth::container::step::Op;
use berth::unit::model::{At, Capabilities, CapabilitySet, Service, Writable};

use super::rig::{Rig, Running, Test, bind, host_mount, on_tree, private_mounts};

pub const TESTS: &[Test] = &[
    ("a_read_only_bind_stays_read_only", a_read_only_bind),
    ("a_mount_below_a_read_only_bind_stays_read_only", a_mount_below),
    ("what_lies_under_a_mount_of_a_bind_is_not_shown", what_lies_under),
    ("a_mount_of_the_host_stays_read_only", a_mount_of_the_host),
    ("berths_own_is_not_uncovered_in_a_bind", own_in_a_bind),
    ("berths_own_is_not_uncovered_in_the_root_tree", own_in_the_root),
    ("what_is_the_units_own_it_still_mounts", what_is_its_own),
];

fn may_mount(service: &mut Service) {
    let add = At::default_value(CapabilitySet::named("SYS_ADMIN").unwrap());
    service.security.capabilities = Capabilities::Changed { add, drop: At::default() };
}

/// Runs a script that says `escaped` if it has succeeded, with the mounts locked and, as the
/// control, without.
fn attempt(rig: &Rig, script: &str, change: impl Fn(&mut Service)) {
    let run = || {
        let output = rig.shell(&format!("({script}) 2>/dev/null; true"), |s| {
            may_mount(s);
            change(s);
        });
        assert_eq!(Running::without_users(), None);
        output.good()
    };
    assert_eq!(run(), "");
    rig.without.set(|op| matches!(op, Op::PutTogether | Op::TakeLocked));
    assert_eq!(run(), "escaped\n", "the control");
    rig.without.set(|_| false);
}

fn read_only(rig: &Rig) -> impl Fn(&mut Service) {
    let files = rig.path("files");
    move |service| {
        let mut mount = bind(&files, "/data");
        mount.value.read_only = true;
        service.mounts.push(mount);
    }
}

fn a_read_only_bind() {
    let rig = Rig::new();
    let script = "mount -o remount,bind,rw /data && touch /data/left && echo escaped";
    attempt(&rig, script, read_only(&rig));
    assert!(Path::new(&rig.path("files/left")).exists(), "the control");
}

fn a_mount_below() {
    private_mounts();
    let rig = Rig::new();
    std::fs::create_dir(rig.path("files/below")).unwrap();
    let other = rig.tree("other");
    host_mount(Some(&other), &rig.path("files/below"), None, nix::mount::MsFlags::MS_BIND);
    let script = "mount -o remount,bind,rw /data/below && touch /data/below/left && echo escaped";
    attempt(&rig, script, read_only(&rig));
    nix::mount::umount(rig.path("files/below").as_str()).unwrap();
}

/// As an administrator hides what was there before.
fn what_lies_under() {
    private_mounts();
    let rig = Rig::new();
    std::fs::create_dir(rig.path("files/below")).unwrap();
    rig.file("files/below/hidden", "of the host");
    let other = rig.tree("other");
    host_mount(Some(&other), &rig.path("files/below"), None, nix::mount::MsFlags::MS_BIND);
    let script = "umount /data/below; test -e /data/below/hidden && echo escaped";
    attempt(&rig, script, read_only(&rig));
    nix::mount::umount(rig.path("files/below").as_str()).unwrap();
}

fn a_mount_of_the_host() {
    private_mounts();
    let rig = Rig::new();
    let (point, other) = (rig.path("files"), rig.tree("other"));
    host_mount(Some(&other), &point, None, nix::mount::MsFlags::MS_BIND);
    let script = format!("mount -o remount,bind,rw {point} && touch {point}/left && echo escaped");
    attempt(&rig, &script, |_| {});
    nix::mount::umount(point.as_str()).unwrap();
}

fn own_in_a_bind() {
    let rig = Rig::new();
    let _listener = UnixListener::bind(rig.path("runtime/control.sock")).unwrap();
    let above = rig.path("runtime").strip_suffix("/runtime").unwrap().to_owned();
    let tree = rig.tree("rootfs");
    let script = "umount /host/runtime; test -S /host/runtime/control.sock && echo escaped";
    attempt(&rig, script, |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(bind(&above, "/host"));
    });
}

fn own_in_the_root() {
    let rig = Rig::new();
    let key = rig.file("state/secret.key", "of all units");
    let state = rig.path("state");
    let script = format!("umount {state}; grep -q units {key} && echo escaped");
    attempt(&rig, &script, |_| {});
}

fn what_is_its_own() {
    let rig = Rig::new();
    let script = "mkdir /tmp/m && mount -t tmpfs none /tmp/m && mount --bind /data /tmp/m && \
                  cat /tmp/m/file && umount /tmp/m && umount /tmp/m && umount /tmp && ls -d /tmp";
    rig.file("files/file", "its own\n");
    let outcome = rig.shell(script, |s| {
        may_mount(s);
        read_only(&rig)(s);
    });
    assert_eq!(outcome.good(), "its own\n/tmp\n");
}
