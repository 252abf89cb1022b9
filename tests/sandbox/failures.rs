//! Every step that fails is named, with its errno and line, and leaves nothing behind
//! (which the rig checks after each test).

use berth::unit::model::{At, Namespaces, Rootfs, Writable};

use super::mounts::tmpfs;
use super::rig::{Rig, Test, bind, on_tree, service, unit};

pub const TESTS: &[Test] = &[
    ("a_missing_program_is_named", a_missing_program_is_named),
    ("a_missing_interpreter_is_named", a_missing_interpreter_is_named),
    ("a_program_that_may_not_be_executed", a_program_that_may_not_be_executed),
    ("a_missing_root_tree_is_named", a_missing_root_tree_is_named),
    ("a_missing_source_is_named", a_missing_source_is_named),
    ("a_mount_point_of_the_wrong_kind", a_mount_point_of_the_wrong_kind),
    ("a_child_that_is_killed_is_not_a_success", a_child_that_is_killed_is_not_a_success),
    ("a_sandbox_that_is_gone_cannot_be_entered", a_sandbox_that_is_gone_cannot_be_entered),
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn command(words: &[&str]) -> At<Vec<String>> {
    At { value: words.iter().map(|&word| word.to_owned()).collect(), line: 2 }
}

fn a_missing_program_is_named() {
    let rig = Rig::new();
    for namespaces in [Namespaces::ALL, Namespaces::NONE] {
        let fail = |word: &str| {
            rig.failure(|s| {
                s.namespaces.value = namespaces;
                s.command = command(&[word]);
            })
        };
        let expected = format!(
            "cannot execute \"ngnix\": not found in the unit's PATH ({PATH}) at web.toml:2"
        );
        assert_eq!(fail("ngnix"), expected);
        let expected = "cannot execute \"/opt/ngnix\": no such file in the unit's root tree \
                        (ENOENT) at web.toml:2";
        assert_eq!(fail("/opt/ngnix"), expected);
    }
}

fn a_missing_interpreter_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let executable = |name: &str, bytes: &[u8]| {
        let path = format!("{tree}/srv/{name}");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    executable("script", b"#!/usr/bin/no-python -u\nprint(1)\n");
    executable("dynamic", &std::fs::read("/usr/bin/true").unwrap());
    executable("garbage", b"\0\x01garbage");
    let fail = |word: &str, usr: bool| {
        rig.failure(|s| {
            on_tree(s, &tree, Writable::None);
            s.mounts.truncate(usize::from(usr));
            s.command = command(&[word]);
        })
    };
    let expected = "cannot execute \"/srv/script\": the interpreter /usr/bin/no-python of \
        /srv/script is not in the unit's root tree (ENOENT) at web.toml:2";
    assert_eq!(fail("/srv/script", true), expected);
    let expected = "cannot execute \"/srv/dynamic\": the dynamic loader of /srv/dynamic is not in \
        the unit's root tree (ENOENT) at web.toml:2";
    assert_eq!(fail("/srv/dynamic", false), expected);
    let text = fail("/srv/garbage", true);
    let expected = "cannot execute \"/srv/garbage\": Exec format error (ENOEXEC) at web.toml:2";
    assert_eq!(text, expected);
}

fn a_program_that_may_not_be_executed() {
    let rig = Rig::new();
    let text = rig.failure(|s| s.command = command(&["/etc/passwd"]));
    let expected = "cannot execute \"/etc/passwd\": /etc/passwd may not be executed by the unit's \
                    user (EACCES) at web.toml:2";
    assert_eq!(text, expected);
}

fn a_missing_root_tree_is_named() {
    let rig = Rig::new();
    for (writable, what) in
        [(Writable::Ephemeral, "make an overlay of"), (Writable::Direct, "mount the root tree")]
    {
        let fail = |path: &str| {
            rig.failure(|s| {
                s.rootfs = At { value: Rootfs::Directory(path.to_owned()), line: 3 };
                s.writable = writable;
            })
        };
        let text = fail("/no/such/tree");
        let expected =
            format!("{what} /no/such/tree: No such file or directory (ENOENT) at web.toml:3");
        assert_eq!(text, expected);
        let text = fail("/etc/passwd");
        assert_eq!(text, format!("{what} /etc/passwd: Not a directory (ENOTDIR) at web.toml:3"));
    }
}

fn a_missing_source_is_named() {
    let rig = Rig::new();
    let text = rig.failure(|s| s.mounts.push(bind("/no/source", "/data")));
    let expected =
        "bind-mount /no/source on /data: No such file or directory (ENOENT) at web.toml:7";
    assert_eq!(text, expected);
    let tree = rig.tree("rootfs");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::Ephemeral);
        s.mounts.push(bind("/etc/passwd/x", "/data"));
        s.init = false;
    });
    assert!(text.contains("(ENOTDIR) at web.toml:7"), "{text}");
}

fn a_mount_point_of_the_wrong_kind() {
    let rig = Rig::new();
    let text = rig.failure(|s| s.mounts.push(tmpfs("/etc/passwd", None, 0o755)));
    assert_eq!(text, "mount a tmpfs on /etc/passwd: Not a directory (ENOTDIR) at web.toml:9");
    let text = rig.failure(|s| s.mounts.push(tmpfs("/etc/passwd/below", None, 0o755)));
    assert!(text.contains("(ENOTDIR)"), "{text}");
    let text = rig.failure(|s| s.mounts.push(tmpfs("/sys/made", None, 0o755)));
    assert!(text.starts_with("mount a tmpfs on /sys/made: "), "{text}");
}

fn a_child_that_is_killed_is_not_a_success() {
    use std::os::fd::AsFd;
    let rig = Rig::new();
    let mut unit = unit("web", &["true"]);
    service(&mut unit).namespaces.value = Namespaces::NONE;
    let plan = rig.plan(&unit);
    let group = berth::sys::cgroup::Group::absent();
    let stdio = berth::container::Stdio::default();
    let program = berth::container::Program::Main;
    // A child that is frozen from its first moment.
    let frozen = rig.root.as_ref().unwrap().create("frozen", &[], false).unwrap();
    frozen.freeze(true).unwrap();
    let place = berth::container::Where { group: &frozen, inside: None, users: None };
    let mut child = berth::container::process(&rig.host, &plan, place, program, &stdio).unwrap();
    frozen.kill().unwrap();
    super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
    rig.host.ended(child.pid);
    let text = super::rig::executed(&mut child.status, &plan, &mut Vec::new()).unwrap_err();
    assert_eq!(text, "killed before its program was executed");
    let mut frozen = frozen;
    super::rig::wait_for("the group is gone", || frozen.remove().is_ok());
    assert!(group.path().is_none() && group.kill().is_err());
}

fn a_sandbox_that_is_gone_cannot_be_entered() {
    use std::os::fd::AsFd;
    let rig = Rig::new();
    let running = rig.up(&unit("web", &["sleep", "1000"])).unwrap();
    let sandbox = running.sandbox.as_ref().unwrap();
    berth::sys::pidfd::send_signal(sandbox.pidfd.as_fd(), libc::SIGKILL).unwrap();
    let main = running.main.as_ref().unwrap();
    super::rig::wait_pidfd(main.pidfd.as_fd()).unwrap().unwrap();
    assert!(
        berth::sys::fd::readable_within(sandbox.pidfd.as_fd(), super::machine::patience(10_000))
            .unwrap()
    );
    let again = berth::container::process(
        &rig.host,
        &running.plan,
        running.place(sandbox.pidfd.as_fd()),
        berth::container::Program::Main,
        &berth::container::Stdio::default(),
    );
    assert!(again.unwrap_err().to_string().starts_with("enter the unit's pid namespace: "));
    running.down();
    // The supervisor is where it was and goes on.
    assert_eq!(rig.shell("echo on", |_| {}).good(), "on\n");
}
