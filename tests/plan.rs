//! Golden listings: the steps of a few units, in order, with the lines that asked for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fmt::Write;

use berth::container::capabilities::Grant;
use berth::container::plan::{Context, compile, is_at_or_below};
use berth::container::step::{Fresh, Op, Step};
use berth::unit::model::{
    At, Capabilities, CapabilitySet, Device, Filter, Id, Mount, MountSource, Namespaces,
    Propagation, Ready, Rootfs, Seccomp, Service, Sysctl, Unit, User, Writable,
};

#[path = "plan/grants.rs"]
mod grants;
#[path = "sandbox/units.rs"]
mod units;

fn unit(name: &str, change: impl FnOnce(&mut Service)) -> Unit {
    let mut unit = units::unit(name, &["nginx"]);
    change(units::service(&mut unit));
    unit
}

fn list(unit: &Unit) -> String {
    let (runtime, state) = ("/run/berth", "/var/lib/berth");
    let context = Context { runtime, state, files: &[] };
    let plan = compile(unit, &context).expect("a service");
    let mut text = String::new();
    for (name, steps) in
        [("outside", &plan.outside), ("sandbox", &plan.sandbox), ("process", &plan.process)]
    {
        for Step { op, line } in steps {
            writeln!(text, "{name} {line:2} {op}").unwrap();
        }
    }
    text
}

fn expect(unit: &Unit, golden: &str) {
    let golden: Vec<&str> = golden.trim().lines().map(str::trim).collect();
    let listing = list(unit);
    assert_eq!(listing.lines().collect::<Vec<_>>(), golden, "\n{listing}");
}

#[test]
fn the_least_container() {
    expect(
        &unit("web@1", |_| {}),
        "
         outside  0 join the control groups of its limits
         sandbox  0 join the control groups of its limits
         sandbox  0 find berth's own directories
         sandbox  0 make an overlay of /
         sandbox  0 mount the host's filesystems read-only
         sandbox  0 make a new /proc
         sandbox  0 make a new /dev
         sandbox  0 copy the host's /sys
         sandbox  0 make the unit's namespaces
         sandbox  0 make all mounts private
         sandbox  0 make a new /sys
         sandbox  0 change the root
         sandbox  0 mount /proc
         sandbox  0 let every user listen on every port
         sandbox  0 mount /sys
         sandbox  0 mount /sys/fs/cgroup
         sandbox  0 fill /dev
         sandbox  0 mount a tmpfs on /tmp
         sandbox  0 mount a tmpfs on /run
         sandbox  0 hide berth's own directories
         sandbox  0 make the socket /dev/log
         sandbox  0 make what /proc changes read-only
         sandbox  0 mask what /proc and /sys show of the host
         sandbox  0 make the root tree read-only
         sandbox  0 set the host name to web-1
         sandbox  0 bring the loopback device up
         sandbox  0 give up the init's capabilities
         process  0 give a terminal a /dev/pts of its own
         process  0 begin a session
         process  0 make a session keyring
         process  0 set the limit core to 1
         process  0 set the umask to 0022
         process  0 limit the capabilities to CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
         NET_BIND_SERVICE SYS_CHROOT SETFCAP
         process  0 give up gaining privileges
         process  0 become root
         process  0 keep the capabilities CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
         NET_BIND_SERVICE SYS_CHROOT SETFCAP, or as another user none
         process  0 enter the working directory /",
    );
}

/// The steps of a process that are about capabilities.
fn capabilities(change: impl FnOnce(&mut Service)) -> Vec<String> {
    let listing = list(&unit("web", change));
    let about = |line: &&str| line.contains("capabilities") && line.starts_with("process");
    listing.lines().filter(about).map(str::to_owned).collect()
}

#[test]
fn capabilities_come_with_the_line_that_asked() {
    let at = |names: &[&str], line| {
        let sets = names.iter().map(|name| CapabilitySet::named(name).unwrap());
        At { value: sets.fold(CapabilitySet::EMPTY, CapabilitySet::and), line }
    };
    let steps = capabilities(|s| s.security.capabilities = Capabilities::Exactly(at(&["KILL"], 7)));
    assert_eq!(
        steps,
        [
            "process  7 limit the capabilities to KILL",
            "process  7 keep the capabilities KILL, or as another user KILL",
        ]
    );
    let steps = capabilities(|s| {
        let add = At { value: CapabilitySet::ALL, line: 8 };
        s.security.capabilities = Capabilities::Changed { add, drop: at(&["SYS_BOOT"], 9) };
        s.namespaces.value = Namespaces::NONE;
    });
    assert_eq!(
        steps,
        [
            "process  8 limit the capabilities to all but SYS_BOOT",
            "process  8 keep the capabilities all but SYS_BOOT, or as another user all but SYS_BOOT",
        ]
    );
    let steps = capabilities(|s| s.security.privileged = true);
    assert_eq!(
        steps,
        [
            "process  0 limit the capabilities to all",
            "process  0 keep the capabilities all, or as another user none",
        ]
    );
}

#[test]
fn a_plain_process_with_everything() {
    let unit = unit("web", |s| {
        s.namespaces.value = Namespaces::NONE;
        s.environment_files = vec![
            At { value: "/etc/web.env".into(), line: 3 },
            At { value: "-/etc/default/web".into(), line: 4 },
        ];
        s.limits.oom_score_adjust = Some(At { value: -5, line: 5 });
        s.limits.nofile = Some(At { value: 1024, line: 6 });
        s.limits.core = Some(At { value: 0, line: 7 });
        s.limits.nice = Some(At { value: 5, line: 8 });
        let (user, group) = (Id::Name("www-data".into()), Some(Id::Number(7)));
        s.user = Some(At { value: User { user, group }, line: 9 });
        s.working_directory = At { value: "/srv".into(), line: 10 };
        s.security.no_new_privileges = Some(false);
        s.umask = 0o77;
    });
    expect(
        &unit,
        "
         outside  0 join the control groups of its limits
         outside  5 set the oom score adjustment to -5
         outside  8 set the nice value to 5
         outside  3 read the environment file /etc/web.env
         outside  4 read the environment file /etc/default/web
         process  0 begin a session
         process  0 make a session keyring
         process  6 set the limit nofile to 1024
         process  7 set the limit core to 1
         process  0 set the umask to 0077
         process  9 become user www-data in group 7
         process 10 enter the working directory /srv",
    );
}

#[test]
fn a_tree_with_mounts() {
    let unit = unit("db", |s| {
        s.rootfs = At { value: Rootfs::Directory("/srv/tree".into()), line: 3 };
        s.writable = Writable::Persistent;
        s.ready = Ready::Notify;
        s.hostname = Some(At { value: "database".into(), line: 4 });
        let bind = |propagation, recursive| {
            let path = "/srv/www".to_owned();
            MountSource::Bind { path, propagation, recursive }
        };
        s.mounts = [
            (bind(Propagation::Private, true), "/var/www"),
            (bind(Propagation::Slave, false), "/media"),
            (MountSource::Volume { name: "db".into() }, "/var/lib/mysql"),
            (MountSource::Tmpfs { size: Some(4096), mode: 0o755 }, "/run"),
        ]
        .into_iter()
        .zip(10..)
        .map(|((source, target), line)| {
            let mount = Mount { source, target: target.to_owned(), read_only: false };
            At { value: mount, line }
        })
        .collect();
        s.security.read_only_paths = vec![At { value: "/var/lib/mysql/conf".into(), line: 15 }];
        s.security.masked_paths = vec![At { value: "/var/www/.git".into(), line: 16 }];
        let (path, target) = ("/dev/ttyUSB0".to_owned(), "/dev/modem".to_owned());
        let modem = Device { path, target, read: true, write: true, mknod: false };
        s.security.devices = Some(vec![At { value: modem, line: 17 }]);
        let sysctl = Sysctl { path: "net/core/somaxconn".to_owned(), value: "1024".to_owned() };
        s.security.sysctls = vec![At { value: sysctl, line: 18 }];
    });
    expect(
        &unit,
        "
         outside  0 join the control groups of its limits
         sandbox  0 join the control groups of its limits
         sandbox  0 find berth's own directories
         sandbox 10 bind-mount /srv/www on /var/www
         sandbox 11 bind-mount /srv/www on /media (slave) (without the mounts below)
         sandbox 12 mount volume db on /var/lib/mysql
         sandbox 17 open the device /dev/ttyUSB0
         sandbox  3 make an overlay of /srv/tree with its writes in /var/lib/berth/overlay/db
         sandbox  0 make a new /proc
         sandbox  0 make a new /dev
         sandbox  0 copy the host's /sys
         sandbox  0 make the unit's namespaces
         sandbox  0 make all mounts private
         sandbox  0 make a new /sys
         sandbox  0 change the root
         sandbox  0 mount /proc
         sandbox  0 let every user listen on every port
         sandbox 18 write 1024 to /proc/sys/net/core/somaxconn
         sandbox  0 mount /sys
         sandbox  0 mount /sys/fs/cgroup
         sandbox  0 fill /dev
         sandbox 17 make the device node /dev/modem
         sandbox  0 hide berth's own directories
         sandbox 10 bind-mount /srv/www on /var/www
         sandbox  0 hide berth's own directories
         sandbox 11 bind-mount /srv/www on /media (slave) (without the mounts below)
         sandbox  0 hide berth's own directories
         sandbox 12 mount volume db on /var/lib/mysql
         sandbox 13 mount a tmpfs on /run
         sandbox  0 make the socket /dev/log
         sandbox  0 make the socket /dev/berth-notify
         sandbox  0 make what /proc changes read-only
         sandbox 15 make /var/lib/mysql/conf read-only
         sandbox  0 mask what /proc and /sys show of the host
         sandbox 16 mask /var/www/.git
         sandbox  4 set the host name to database
         sandbox  0 bring the loopback device up
         sandbox  0 give up the init's capabilities
         process  0 give a terminal a /dev/pts of its own
         process  0 begin a session
         process  0 make a session keyring
         process  0 set the limit core to 1
         process  0 set the umask to 0022
         process  0 limit the capabilities to CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
         NET_BIND_SERVICE SYS_CHROOT SETFCAP
         process  0 give up gaining privileges
         process  0 become root
         process  0 keep the capabilities CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
         NET_BIND_SERVICE SYS_CHROOT SETFCAP, or as another user none
         process  0 enter the working directory /",
    );
}

#[test]
fn a_unit_may_have_the_hosts_syslog() {
    let unit = |target: &str| {
        unit("web", |s| {
            let (path, propagation) = ("/dev/log".to_owned(), Propagation::Private);
            let source = MountSource::Bind { path, propagation, recursive: true };
            let mount = Mount { source, target: target.to_owned(), read_only: false };
            s.mounts = vec![At { value: mount, line: 10 }];
        })
    };
    for (target, own) in [("/dev/log", false), ("/dev//log/", false), ("/dev/logs", true)] {
        let socket = list(&unit(target)).contains("make the socket /dev/log");
        assert_eq!(socket, own, "{target}");
    }
}

#[test]
fn some_namespaces_only() {
    let unit = unit("net", |s| {
        s.namespaces.value = Namespaces { network: true, ipc: true, ..Namespaces::NONE };
    });
    expect(
        &unit,
        "
         outside  0 join the control groups of its limits
         sandbox  0 join the control groups of its limits
         sandbox  0 make the unit's namespaces
         sandbox  0 let every user listen on every port
         sandbox  0 bring the loopback device up
         process  0 begin a session
         process  0 make a session keyring
         process  0 set the limit core to 1
         process  0 set the umask to 0022
         process  0 give up gaining privileges
         process  0 become root
         process  0 enter the working directory /",
    );
}

#[test]
fn the_hosts_network_brings_the_hosts_sys() {
    let unit = unit("net", |s| s.namespaces.value.network = false);
    let listing = list(&unit);
    assert!(listing.contains("bind-mount /sys on /sys (without the mounts below)"), "{listing}");
    assert!(!listing.contains("loopback"), "{listing}");
}

#[test]
fn what_is_below_a_private_directory_needs_no_hiding() {
    let context = Context { runtime: "/tmp/run", state: "/data/", files: &[] };
    let plan = compile(&unit("web", |_| {}), &context).expect("a service");
    let except = plan.sandbox.iter().find_map(|step| match &step.op {
        Op::HostMounts { except } => Some(except.join(" ")),
        _ => None,
    });
    assert_eq!(except.as_deref(), Some("/dev /proc /run /sys /tmp /data/ /var/lib/berth"));
    assert!(is_at_or_below("/data", "/data/") && is_at_or_below("/data/x", "/data"));
    assert!(!is_at_or_below("/database", "/data"));
}

#[test]
fn the_sources_are_opened_before_and_attached_after_the_root_changes() {
    let unit = unit("web", |s| {
        let source = MountSource::Volume { name: "v".into() };
        let mount = Mount { source, target: "/v".into(), read_only: true };
        s.mounts = vec![At { value: mount, line: 1 }];
    });
    let context = Context { runtime: "/run/berth", state: "/state", files: &[] };
    let plan = compile(&unit, &context).expect("a service");
    let place = |wanted: fn(&Op) -> bool| plan.sandbox.iter().position(|step| wanted(&step.op));
    let order = [
        place(|op| matches!(op, Op::Open { .. })),
        place(|op| matches!(op, Op::Overlay { .. })),
        place(|op| matches!(op, Op::Fresh { kind: Fresh::Proc, .. })),
        place(|op| matches!(op, Op::Namespaces(_))),
        place(|op| matches!(op, Op::PrivateMounts)),
        place(|op| matches!(op, Op::Fresh { kind: Fresh::Sys { writable: false, .. }, .. })),
        place(|op| matches!(op, Op::ChangeRoot)),
        place(|op| matches!(op, Op::Attach { .. })),
        place(|op| matches!(op, Op::ReadOnlyRoot)),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    assert_eq!(plan.slots, 5);
}

#[test]
fn a_filter_comes_with_the_kind_of_unit_or_its_line() {
    let compiled = |change: &dyn Fn(&mut Service)| {
        let context = Context { runtime: "/run/berth", state: "/var/lib/berth", files: &[] };
        compile(&unit("web", change), &context).expect("a service")
    };
    let filter =
        |change: &dyn Fn(&mut Service)| compiled(change).filter.map(|at| (at.value, at.line));
    let plain = |s: &mut Service| s.namespaces.value = Namespaces::NONE;
    let named = |seccomp: Seccomp| Some(At { value: seccomp, line: 9 });
    assert_eq!(filter(&|_| {}), Some((Filter::Default, 0)));
    assert_eq!(filter(&plain), None);
    assert_eq!(filter(&|s| s.security.privileged = true), None);
    assert_eq!(filter(&|s| s.security.seccomp = named(Seccomp::Unconfined)), None);
    let asked = |s: &mut Service| {
        plain(s);
        s.security.seccomp = named(Seccomp::Default);
    };
    assert_eq!(filter(&asked), Some((Filter::Default, 9)));
    assert_eq!(compiled(&asked).grant, None);
    // Another user keeps SYS_ADMIN until the filter is there only if its sets are berth's doing.
    let with_privilege = compiled(&|s| {
        asked(s);
        s.security.no_new_privileges = Some(false);
    });
    assert!(with_privilege.filters_with_privilege);
    assert_eq!(with_privilege.grant, Some(Grant::INHERITED));
    assert!(with_privilege.process.iter().any(|step| matches!(step.op, Op::Capabilities(_))));
}

#[test]
fn a_privileged_unit_keeps_only_the_covers_it_asked_for() {
    let covers = |privileged| {
        let unit = unit("web", |s| {
            s.security.privileged = privileged;
            s.security.masked_paths = vec![At::default_value("/etc/secret".to_owned())];
        });
        let listing = list(&unit);
        let default = ["what /proc changes", "what /proc and /sys show"];
        let found = default.iter().filter(|text| listing.contains(**text)).count();
        (found, listing.contains("mask /etc/secret"))
    };
    assert_eq!(covers(false), (2, true));
    assert_eq!(covers(true), (0, true));
}
