//! What becomes of a unit where the kernel cannot do all of it: it has the rest, and says so.

use berth::container::step::Op;
use berth::unit::model::{At, Namespaces, Service, Sysctl};
use nix::mount::MsFlags;

use super::numbers::LACKS;
use super::rig::{Rig, Running, Test, bind, host_mount, private_mounts};

pub const TESTS: &[Test] = &[
    ("a_tree_with_kernel_filesystems_below_is_mapped_as_far_as_it_can_be", the_hosts_whole_tree),
    ("a_sys_that_is_partly_covered_is_the_hosts", covered_sys),
    ("every_user_listens_on_every_port_of_an_own_network", ports),
];

const MAP: &str = "head -1 /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2-";

/// `/` with all that is mounted there, of which procfs, sysfs and devtmpfs cannot be mapped.
fn the_hosts_whole_tree() {
    private_mounts();
    let rig = Rig::new();
    let (mapped, plain) = (rig.path("files/mapped"), rig.path("files/plain"));
    for point in [&mapped, &plain] {
        std::fs::create_dir(point).unwrap();
        host_mount(None, point, Some("tmpfs"), MsFlags::empty());
        std::fs::write(format!("{point}/file"), "").unwrap();
    }
    let script = format!(
        "{MAP}; stat -c %u /host/etc/passwd /host/proc/version /host/dev/null \
         /host{mapped}/file; touch /host{mapped}/new && echo written"
    );
    let all = rig.shell(&script, |s| s.mounts.push(bind("/", "/host"))).good();
    assert_eq!(Running::without_users(), None);
    assert!(all.starts_with("0 18"), "{all}");
    // /dev is one of them, and files of a devtmpfs are somebody's; /proc and /sys have none.
    let lacks = LACKS.take();
    let told = lacks.iter().any(|it| {
        it.starts_with("user-namespace: in /") && it.contains("are nobody's, because the filesys")
    });
    assert!(told && lacks.len() == 1, "{lacks:?}");
    assert!(all.ends_with("65536\n0\n65534\n65534\n0\nwritten\n"), "{all}");
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(mapped + "/new").unwrap()),
        0
    );
    // The control: what is mounted on top of all cannot be mapped, so nothing is.
    rig.shell("true", |s| s.mounts.push(bind("/dev", "/host"))).good();
    assert!(Running::without_users().unwrap().starts_with("bind-mount /dev on /host: its filesys"));
}

fn covered_sys() {
    let rig = Rig::new();
    let script = format!("{MAP}; ls /sys/class | wc -l; ls /sys/class/net; touch /sys/x; echo end");
    let look =
        |change: &dyn Fn(&mut Service)| rig.shell(&format!("({script}) 2>&1"), |s| change(s));
    let own = look(&|_| {}).good();
    assert!(own.contains("\nlo\n") && LACKS.take().is_empty(), "the control: {own}");
    private_mounts();
    host_mount(None, "/sys/class", Some("tmpfs"), MsFlags::empty());
    let hosts = look(&|_| {}).good();
    assert!(hosts.starts_with("0 18") && hosts.contains("65536\n0\n"), "{hosts}");
    assert!(hosts.contains("Read-only file system\nend\n"), "{hosts}");
    let lacks = LACKS.take();
    assert!(lacks.len() == 1 && lacks[0].starts_with("sysfs: something is mounted"), "{lacks:?}");
    assert_eq!(Running::without_users(), None);
    // Who wants all or nothing gets nothing.
    let text = rig.failure(|s| s.limits.strict = true);
    assert!(text.contains("make a new /sys: Operation not permitted (EPERM)"), "{text}");
    // Without a user namespace the kernel shows all of it.
    rig.host_users.set(true);
    let all = look(&|_| {}).good();
    assert!(all.contains("\nlo\n") && LACKS.take().is_empty(), "{all}");
    nix::mount::umount("/sys/class").unwrap();
}

fn ports() {
    let rig = Rig::new();
    let script = "perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 0) or die; \
                  print bind($s, sockaddr_in(81, INADDR_LOOPBACK)) ? qq(bound) : qq(no)'";
    let user = |s: &mut Service| {
        use berth::unit::model::{Id, User};
        s.user = Some(At { value: User { user: Id::Number(1234), group: None }, line: 4 });
    };
    let bound = |change: &dyn Fn(&mut Service)| {
        let outcome = rig.shell(script, |s| {
            user(s);
            change(s);
        });
        outcome.good() == "bound"
    };
    let without_mounts =
        |s: &mut Service| s.namespaces.value = Namespaces { network: true, ..Namespaces::NONE };
    for host in [false, true] {
        rig.host_users.set(host);
        assert!(bound(&|_| {}) && bound(&without_mounts));
    }
    rig.host_users.set(false);
    // The unit file's word counts, and the host's network is the host's.
    let (path, value) = ("net/ipv4/ip_unprivileged_port_start".to_owned(), "82".to_owned());
    let sysctl = At { value: Sysctl { path, value }, line: 9 };
    assert!(!bound(&|s| s.security.sysctls = vec![sysctl.clone()]));
    assert!(!bound(&|s| s.namespaces.value.network = false));
    // The control.
    rig.without.set(|op| matches!(op, Op::UnprivilegedPorts));
    assert!(!bound(&|_| {}) && !bound(&without_mounts));
}
