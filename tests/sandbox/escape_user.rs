//! Attempts to be more than nobody on the host from inside a user namespace, as root with
//! every capability there is. Each is tried with the host's users too, where it succeeds.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use berth::unit::model::{
    At, Capabilities, CapabilitySet, IdMaps, IdRange, Namespaces, Service, UserNamespace, Writable,
};

use super::rig::{
    Outcome, Rig, Running, Test, bind, first_user, host_mount, on_tree, private_mounts, service,
    unit,
};

pub const TESTS: &[Test] = &[
    ("files_of_the_host_keep_their_owners", owners_of_files),
    ("a_set_user_id_program_left_in_a_bind_is_root_to_the_host_and_to_no_unit", set_user_id),
    ("what_a_unit_writes_is_its_own_numbers_on_the_disk", numbers_on_the_disk),
    ("the_kernels_settings_are_the_hosts", kernel_settings),
    ("the_clock_is_the_hosts", clock),
    ("priorities_are_the_hosts_to_raise", priorities),
    ("processes_of_the_host_are_out_of_reach", host_processes),
    ("a_process_that_joins_cannot_be_looked_into", joining),
    ("units_cannot_touch_what_others_keep", other_units),
    ("a_nested_user_namespace_gains_nothing", nested),
    ("devices_cannot_be_made_or_opened", devices),
    ("a_filesystem_that_cannot_be_mapped_is_said", unmappable),
    ("maps_of_a_unit_file_are_exact", exact_maps),
    ("some_namespaces_go_with_it", some_namespaces),
];

/// A unit that is root with all that root can be given.
fn strong(service: &mut Service) {
    let add = At { value: CapabilitySet::ALL, line: 8 };
    service.security.capabilities = Capabilities::Changed { add, drop: At::default() };
    service.security.no_new_privileges = Some(false);
}

/// What a script says in a user namespace, and with the host's users.
fn both(rig: &Rig, script: &str, change: impl Fn(&mut Service)) -> (String, String) {
    let run = |host: bool| {
        rig.host_users.set(host);
        let outcome: Outcome = rig.shell(script, |s| {
            strong(s);
            change(s);
        });
        rig.host_users.set(false);
        outcome.output
    };
    (run(false), run(true))
}

/// Whether a script succeeds: not in a user namespace, and with the host's users.
fn only_with_the_hosts_users(script: &str, change: impl Fn(&mut Service)) {
    let rig = Rig::new();
    // What keeps devices from a unit is another defence.
    rig.all_devices.set(true);
    let said = both(&rig, &format!("({script}) >/dev/null 2>&1 && echo done"), change);
    assert_eq!(said, (String::new(), "done\n".to_owned()), "{script}");
}

fn owners_of_files() {
    private_mounts();
    let rig = Rig::new();
    // procfs cannot be mapped, so what is seen there has the host's owners.
    let (own, host) = both(&rig, "stat -c %u /proc/sys/kernel/core_pattern", |_| {});
    assert_eq!((own.as_str(), host.as_str()), ("65534\n", "0\n"));
    // A file of another unit's user on a mapped mount is a user of nobody's, who has no power.
    let secret = rig.file("files/secret", "of somebody");
    chown(&secret, Some(100_000_007), None).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let files = rig.path("files");
    for script in ["cat /data/secret", "chmod 666 /data/secret", "chown 0 /data/secret"] {
        let script = format!("({script}) >/dev/null 2>&1 && echo done");
        let (own, host) = both(&rig, &script, |s| s.mounts.push(bind(&files, "/data")));
        assert_eq!((own.as_str(), host.as_str()), ("", "done\n"), "{script}");
        chown(&secret, Some(100_000_007), None).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A program that root of the unit leaves behind with its set-user-ID bit: on the disk it is
/// root's, as everything that root makes in a bind. Who executes it in a unit is root of that
/// unit and no more; on the host it makes root of everybody, which no mount of the unit can
/// prevent: the help of `mounts` says so.
fn set_user_id() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let files = rig.path("files");
    let shared = |s: &mut Service| {
        on_tree(s, &tree, Writable::None);
        s.mounts.push(bind(&files, "/data"));
        strong(s);
    };
    let script = "cp /usr/bin/id /data/id && chmod 4755 /data/id && stat -c %u:%a /data/id";
    assert_eq!(rig.shell(script, shared).good(), "0:4755\n");
    let metadata = std::fs::metadata(format!("{files}/id")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o4755));
    let root_on_the_host = "setpriv --reuid=1234 --clear-groups /data/id -u; \
                            head -1 /proc/self/uid_map | tr -s ' '";
    let (own, host) = both(&rig, root_on_the_host, shared);
    let mapped: Vec<&str> = own.lines().collect();
    // Root there is a number of the range; with the host's users it is the host's.
    assert_eq!(mapped[0], "0");
    assert!(mapped[1].starts_with(&format!(" 0 {} ", first_user(2))), "{own}");
    assert!(host.starts_with("0\n 0 0 "), "{host}");
}

/// By volumes, persistent overlays and trees in place: what is on the disk does not depend
/// on the range.
fn numbers_on_the_disk() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let files = rig.path("files");
    let script = "touch /srv/new /data/new; chown 7:8 /srv/new /data/new; mkdir /srv/dir; \
                  mknod /srv/pipe p; mv /etc/group /etc/moved; chown 9 /etc/passwd; \
                  stat -c %u:%g /srv/new /data/new /srv/dir /etc/moved /etc/passwd /";
    let expected = "7:8\n7:8\n0:0\n0:0\n9:0\n0:0\n";
    let run = |writable| {
        let outcome = rig.shell(script, |s| {
            on_tree(s, &tree, writable);
            s.mounts.push(bind(&files, "/data"));
        });
        assert_eq!(Running::without_users(), None);
        outcome.good()
    };
    let owner = |path: String| {
        let metadata = std::fs::metadata(&path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(run(Writable::Persistent), expected);
    let upper = rig.path("state/overlay/web/upper");
    assert_eq!(owner(format!("{upper}/srv/new")), (7, 8));
    assert_eq!(owner(format!("{upper}/srv/dir")), (0, 0));
    assert_eq!(owner(format!("{upper}/etc/passwd")), (9, 0));
    assert_eq!(owner(format!("{files}/new")), (7, 8));
    // With another range, and with the host's users, the same is there.
    for host in [false, true] {
        rig.host_users.set(host);
        let again =
            rig.shell("stat -c %u:%g /srv/new /etc/moved /etc/passwd; rm -r /srv/dir", |s| {
                on_tree(s, &tree, Writable::Persistent);
            });
        assert!(again.output.starts_with("7:8\n0:0\n9:0\n"), "{}", again.output);
        rig.host_users.set(false);
    }
    assert_eq!(run(Writable::Ephemeral), expected);
    assert_eq!(owner(format!("{tree}/etc/passwd")), (0, 0));
    assert_eq!(run(Writable::Direct), expected);
    assert_eq!(owner(format!("{tree}/etc/passwd")), (9, 0));
}

/// The mounts that protect them are left out: the user namespace alone is in the way.
fn kernel_settings() {
    use berth::container::step::Op;
    let rig = Rig::new();
    rig.without.set(|op| matches!(op, Op::Mask(_) | Op::ReadOnly(_)));
    let names = ["kernel/core_pattern", "kernel/threads-max", "vm/overcommit_memory"];
    for file in names.map(|name| format!("/proc/sys/{name}")) {
        // Opened for writing, and nothing written: the control must not do harm.
        let script = format!("(: >> {file}) 2>/dev/null && echo open");
        let (own, host) = both(&rig, &script, |_| {});
        assert_eq!((own.as_str(), host.as_str()), ("", "open\n"), "{file}");
    }
}

/// Set to what it is: the control does no harm.
fn clock() {
    only_with_the_hosts_users("date -s @$(date +%s)", |_| {});
}

fn priorities() {
    only_with_the_hosts_users("renice -n -5 $$", |_| {});
}

/// In the host's pid namespace, without any other thing in the way.
fn host_processes() {
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = victim.id();
    let list = Namespaces { mount: true, network: true, ..Namespaces::NONE };
    let attempts = [
        format!("kill -CONT {pid}"),
        format!("ls /proc/{pid}/root/"),
        format!("cat /proc/{pid}/environ"),
        format!("perl -e 'exit(syscall(101, 16, {pid}, 0, 0) == 0 ? 0 : 1)'"),
        format!("nsenter -t {pid} -m true"),
        format!("prlimit --pid {pid} --core=0:0"),
    ];
    for attempt in attempts {
        only_with_the_hosts_users(&attempt, |s| s.namespaces.value = list);
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// Before it executes its program it is a copy of the supervisor.
fn joining() {
    use berth::container::{Exec, Program, Stdio, process};
    use std::os::fd::AsFd;
    let rig = Rig::new();
    let look = |host: bool| {
        rig.host_users.set(host);
        let mut web = unit("web", &["sleep", "1000"]);
        strong(service(&mut web));
        let mut running = rig.up(&web).unwrap();
        // A process on its way that stays there.
        let exec = Exec { argv: vec!["/bin/true".to_owned()], ..Exec::default() };
        let frozen = rig.root.as_ref().unwrap().create("frozen", &[], false).unwrap();
        frozen.freeze(true).unwrap();
        let inside = running.sandbox.as_ref().unwrap().pidfd.as_fd();
        let place = berth::container::Where { group: &frozen, ..running.place(inside) };
        let plan = &running.plan;
        let child =
            process(&rig.host, plan, place, Program::Exec(&exec), &Stdio::default()).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        let inner = numbers.split_whitespace().last().unwrap().to_owned();
        let said = running.shell(&format!(
            "(head -c 1 /proc/{inner}/environ; ls /proc/{inner}/fd; cat /proc/{inner}/maps) \
             2>/dev/null | wc -c"
        ));
        frozen.kill().unwrap();
        super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
        rig.host.ended(child.pid);
        let mut frozen = frozen;
        super::rig::wait_for("the group is gone", || frozen.remove().is_ok());
        running.down();
        rig.host_users.set(false);
        said.good()
    };
    assert_eq!(look(false), "0\n");
    assert_ne!(look(true), "0\n");
}

/// Two units with a directory that is not mapped for either: what one makes is not the
/// other's.
fn other_units() {
    private_mounts();
    let rig = Rig::new();
    let shared = rig.path("files");
    // In memory, because the disk of a test run may be one that cannot be mapped; which memory
    // cannot before Linux 6.3.
    if super::machine::kernel() >= (6, 3) {
        host_mount(Some("none"), &shared, Some("tmpfs"), nix::mount::MsFlags::empty());
    }
    // As if each had made it there without a mapped mount.
    for run in [1, 2] {
        let path = format!("{shared}/{run}");
        std::fs::write(&path, "x").unwrap();
        chown(&path, Some(first_user(run)), Some(first_user(run))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    let maps = |run: u32| {
        let range = IdRange { inside: 0, outside: first_user(run), count: 0x1_0000 };
        UserNamespace::Maps(Box::new(At {
            value: IdMaps { uid: vec![range], gid: vec![range] },
            line: 9,
        }))
    };
    // The numbers of the processes, as the host sees them, are different ones.
    let seen = |run: u32| {
        let mut web = unit("web", &["sleep", "1000"]);
        service(&mut web).security.user_namespace = maps(run);
        let running = rig.up(&web).unwrap();
        let pid = running.main.as_ref().unwrap().pid;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned();
        running.down();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!((seen(1), seen(2)), (first_user(1), first_user(2)));
    // On a mapped mount neither number is anybody inside.
    let script = "cat /data/1 /data/2 2>/dev/null | wc -c; stat -c %u /data/1 /data/2";
    let (own, host) = both(&rig, script, |s| s.mounts.push(bind(&shared, "/data")));
    assert_eq!(own, "0\n65534\n65534\n");
    assert_eq!(host, format!("2\n{}\n{}\n", first_user(1), first_user(2)));
}

fn nested() {
    // Whoever makes one inside is root of it, and of nothing else.
    let script = "unshare -Ur sh -c 'test $(id -u) = 0 && : >> /proc/sys/kernel/core_pattern'";
    only_with_the_hosts_users(
        "test -w /proc/sys/kernel/core_pattern || id -u | grep -qx 0 && \
        head -1 /proc/self/uid_map | tr -s ' ' | grep -q '^ 0 0 '",
        |_| {},
    );
    let rig = Rig::new();
    let outcome = rig.shell(&format!("{script} 2>/dev/null || echo no"), strong);
    assert_eq!(outcome.output, "no\n");
    // The control of the script: a namespace can be made, and its root is 0 there.
    assert_eq!(rig.shell("unshare -Ur id -u", strong).good(), "0\n");
}

fn devices() {
    only_with_the_hosts_users("mknod /tmp/null c 1 3", |_| {});
    only_with_the_hosts_users("mknod /dev/mem c 1 1", |_| {});
    // Those that are there work as ever.
    let rig = Rig::new();
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; : < /dev/urandom; \
                  echo y > /dev/full || stat -c %u /dev/null; test -c /dev/ptmx && echo tty";
    assert_eq!(rig.shell(&format!("({script}) 2>/dev/null"), |_| {}).good(), "3\n0\ntty\n");
}

fn unmappable() {
    private_mounts();
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let merged = rig.path("merged");
    std::fs::create_dir(&merged).unwrap();
    for name in ["upper", "work"] {
        std::fs::create_dir(rig.path(name)).unwrap();
    }
    let options =
        format!("lowerdir={tree},upperdir={},workdir={}", rig.path("upper"), rig.path("work"));
    nix::mount::mount(
        Some("overlay"),
        merged.as_str(),
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
    let change = |s: &mut Service| on_tree(s, &merged, Writable::None);
    let script = "cat /proc/self/uid_map | tr -s ' '; stat -c %u /etc/passwd /dev/null";
    let outcome = rig.shell(script, change);
    assert!(outcome.clone().good().starts_with(" 0 0 "), "{}", outcome.output);
    assert!(outcome.output.ends_with("0\n0\n"), "{}", outcome.output);
    let why = Running::without_users().unwrap();
    let expected = format!(
        "make an overlay of {merged}: its filesystem cannot show its files with other owners \
         (Invalid argument (EINVAL))"
    );
    assert_eq!(why, expected);
    // As root of the host it can be joined too.
    let mut web = unit("web", &["sleep", "1000"]);
    change(service(&mut web));
    let mut running = rig.up(&web).unwrap();
    assert!(running.shell("cat /proc/self/uid_map").good().contains(" 0 "));
    running.down();
    // Who names maps has them or nothing.
    let text = rig.failure(|s| {
        change(s);
        let value = IdMaps::one(first_user(9), 0x1_0000);
        s.security.user_namespace = UserNamespace::Maps(Box::new(At { value, line: 9 }));
    });
    assert!(text.contains("cannot show its files with other owners"), "{text}");
    nix::mount::umount(merged.as_str()).unwrap();
}

fn exact_maps() {
    let rig = Rig::new();
    let range = |inside, outside, count| IdRange { inside, outside, count };
    let maps = IdMaps {
        uid: vec![range(0, 200_000, 10), range(1234, 300_000, 1)],
        gid: vec![range(0, 400_000, 2)],
    };
    let outcome = rig.shell("cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", |s| {
        let at = At { value: maps.clone(), line: 9 };
        s.security.user_namespace = UserNamespace::Maps(Box::new(at));
    });
    assert_eq!(outcome.good(), " 0 200000 10\n 1234 300000 1\n 0 400000 2\n");
}

/// With the host's network, processes, message queues or host name: the rest is its own.
fn some_namespaces() {
    let rig = Rig::new();
    let lists = [
        Namespaces { mount: true, ..Namespaces::NONE },
        Namespaces { mount: true, pid: true, ..Namespaces::NONE },
        Namespaces { network: false, ..Namespaces::ALL },
        Namespaces { ipc: false, ..Namespaces::ALL },
        Namespaces { pid: false, ..Namespaces::ALL },
    ];
    for own in lists {
        for init in [true, false] {
            let script = "head -1 /proc/self/uid_map | tr -s ' '; ls /sys/class/net | grep -x lo; \
                          ls -d /dev/mqueue; touch /tmp/x && stat -c %u /tmp/x";
            let outcome = rig.shell(script, |s| {
                s.namespaces.value = own;
                s.init = init;
            });
            let output = outcome.good();
            assert!(output.starts_with(" 0 18"), "{own:?}: {output}");
            assert!(output.ends_with("lo\n/dev/mqueue\n0\n"), "{own:?}: {output}");
        }
    }
    // On the host's network no port below 1024 can be bound, and on its own it can.
    let script = "perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 0) or die; \
                  bind($s, sockaddr_in(81, INADDR_LOOPBACK)) or die'";
    rig.shell(script, strong).good();
    drop(rig);
    only_with_the_hosts_users(script, |s| s.namespaces.value.network = false);
}
