//! Which capabilities a process has, by what the kernel says of it.

use berth::container::Exec;
use berth::sys::capability;
use berth::unit::model::{
    At, Capabilities, CapabilitySet, Id, Namespaces, Service, Sysctl, User, Writable,
};

use super::rig::{Rig, Test, on_tree, service, unit};

pub const TESTS: &[Test] = &[
    ("the_containers_capabilities", the_containers_capabilities),
    ("an_exact_list_is_exact", an_exact_list_is_exact),
    ("lists_change_the_default", lists_change_the_default),
    ("privileged_has_all", privileged_has_all),
    ("a_plain_process_has_what_berth_has", a_plain_process_has_what_berth_has),
    ("another_user_has_what_a_line_gives", another_user_has_what_a_line_gives),
    ("exec_has_the_same_capabilities", exec_has_the_same_capabilities),
    ("the_init_has_none", the_init_has_none),
    ("what_is_given_works", what_is_given_works),
    ("a_directory_is_entered_with_what_is_left", a_directory_is_entered_with_what_is_left),
    ("what_berth_has_not_cannot_be_given", what_berth_has_not_cannot_be_given),
    ("without_setpcap_nothing_can_be_limited", without_setpcap_nothing_can_be_limited),
];

/// Inheritable, permitted, effective, bounding, ambient.
const PRINT: &str = "grep ^Cap /proc/self/status";

/// The container's default, written down a second time.
const FEW: u64 = 0x8004_05fb;

fn set(names: &[&str]) -> CapabilitySet {
    let sets = names.iter().map(|name| CapabilitySet::named(name).unwrap());
    sets.fold(CapabilitySet::EMPTY, CapabilitySet::and)
}

pub fn at(names: &[&str]) -> At<CapabilitySet> {
    At { value: set(names), line: 8 }
}

fn add(names: &[&str]) -> Capabilities {
    Capabilities::Changed { add: at(names), drop: At::default() }
}

fn dropped(names: &[&str]) -> Capabilities {
    Capabilities::Changed { add: At::default(), drop: at(names) }
}

fn all() -> At<CapabilitySet> {
    At { value: CapabilitySet::ALL, line: 8 }
}

/// What berth, that is this process, can give.
fn own() -> u64 {
    let held = capability::held().unwrap();
    held.permitted & held.bounding
}

fn web(service: &mut Service) {
    service.user = Some(At { value: User { user: Id::Number(1234), group: None }, line: 5 });
}

/// The five sets of a status file.
fn sets(output: &str) -> [u64; 5] {
    let values = output.lines().zip(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]);
    let values = values.map(|(line, name)| {
        let (found, value) = line.split_once(":\t").unwrap();
        assert_eq!(found, name, "{output}");
        u64::from_str_radix(value, 16).unwrap()
    });
    values.collect::<Vec<_>>().try_into().unwrap()
}

fn have(rig: &Rig, change: impl FnOnce(&mut Service)) -> [u64; 5] {
    sets(&rig.shell(PRINT, change).good())
}

/// Root: permitted, effective and bounding.
fn root(set: u64) -> [u64; 5] {
    [0, set, set, set, 0]
}

/// Another user: these, and never more than those.
fn other(set: u64, most: u64) -> [u64; 5] {
    [set, set, set, most, set]
}

fn the_containers_capabilities() {
    assert_ne!(own() & !FEW, 0, "the control: berth has more");
    let rig = Rig::new();
    assert_eq!(have(&rig, |_| {}), root(FEW));
    assert_eq!(have(&rig, |s| s.init = false), root(FEW));
    assert_eq!(have(&rig, |s| s.security.no_new_privileges = Some(false)), root(FEW));
    assert_eq!(have(&rig, web), other(0, FEW));
    let tree = rig.tree("rootfs");
    assert_eq!(have(&rig, |s| on_tree(s, &tree, Writable::Ephemeral)), root(FEW));
    let own_tree = Namespaces { mount: true, ..Namespaces::NONE };
    assert_eq!(have(&rig, |s| s.namespaces.value = own_tree), root(FEW));
    assert_eq!(have(&rig, |s| s.namespaces.value.network = false), root(FEW));
}

fn an_exact_list_is_exact() {
    let rig = Rig::new();
    for names in [&["NET_RAW", "KILL"] as &[&str], &["SYS_ADMIN"], &[]] {
        let wanted = set(names).0;
        let exactly = |s: &mut Service| s.security.capabilities = Capabilities::Exactly(at(names));
        assert_eq!(have(&rig, exactly), root(wanted), "{names:?}");
        let plain = |s: &mut Service| {
            exactly(s);
            s.namespaces.value = Namespaces::NONE;
        };
        assert_eq!(have(&rig, plain), root(wanted), "{names:?}");
        let as_web = |s: &mut Service| {
            exactly(s);
            web(s);
        };
        assert_eq!(have(&rig, as_web), other(wanted, wanted), "{names:?}");
    }
}

fn lists_change_the_default() {
    let rig = Rig::new();
    rig.host_users.set(true);
    let have = |capabilities: Capabilities| have(&rig, |s| s.security.capabilities = capabilities);
    let (raw, kill) = (set(&["NET_RAW"]).0, set(&["KILL"]).0);
    assert_eq!(have(add(&["NET_RAW", "KILL"])), root(FEW | raw));
    assert_eq!(have(dropped(&["KILL", "NET_RAW"])), root(FEW & !kill));
    assert_eq!(have(Capabilities::Changed { add: all(), drop: At::default() }), root(own()));
    assert_eq!(have(Capabilities::Changed { add: At::default(), drop: all() }), root(0));
    let only = Capabilities::Changed { add: at(&["NET_RAW"]), drop: all() };
    assert_eq!(have(only), root(raw));
    let most = Capabilities::Changed { add: all(), drop: at(&["KILL"]) };
    assert_eq!(have(most), root(own() & !kill));
    let both = Capabilities::Changed { add: at(&["NET_RAW"]), drop: at(&["KILL"]) };
    assert_eq!(have(both), root((FEW | raw) & !kill));
}

fn privileged_has_all() {
    let rig = Rig::new();
    assert_eq!(have(&rig, |s| s.security.privileged = true), root(own()));
    let as_web = |s: &mut Service| {
        s.security.privileged = true;
        web(s);
    };
    assert_eq!(have(&rig, as_web), other(0, own()));
}

fn a_plain_process_has_what_berth_has() {
    let rig = Rig::new();
    let plain = |s: &mut Service, capabilities: Capabilities| {
        s.namespaces.value = Namespaces::NONE;
        s.security.capabilities = capabilities;
    };
    assert_eq!(have(&rig, |s| plain(s, Capabilities::Default)), root(own()));
    let kill = set(&["KILL"]).0;
    assert_eq!(have(&rig, |s| plain(s, dropped(&["KILL"]))), root(own() & !kill));
    assert_eq!(have(&rig, |s| plain(s, add(&["KILL"]))), root(own()));
    let as_web = |s: &mut Service, capabilities: Capabilities| {
        plain(s, capabilities);
        web(s);
    };
    assert_eq!(have(&rig, |s| as_web(s, Capabilities::Default)), other(0, own()));
    assert_eq!(have(&rig, |s| as_web(s, add(&["KILL"]))), other(kill, own()));
    // A list of namespaces without that of mounts is no container either.
    let list = |s: &mut Service| {
        s.namespaces.value = Namespaces { pid: true, network: true, ..Namespaces::NONE };
    };
    assert_eq!(have(&rig, list), root(own()));
}

fn another_user_has_what_a_line_gives() {
    let rig = Rig::new();
    rig.host_users.set(true);
    let bind = set(&["NET_BIND_SERVICE"]).0;
    let have = |capabilities: Capabilities| {
        have(&rig, |s| {
            web(s);
            s.security.capabilities = capabilities;
        })
    };
    // Those of the default set that were not named are root's alone.
    assert_eq!(have(add(&["NET_BIND_SERVICE"])), other(bind, FEW));
    assert_eq!(have(dropped(&["NET_BIND_SERVICE"])), other(0, FEW & !bind));
    let only = Capabilities::Changed { add: at(&["NET_BIND_SERVICE"]), drop: all() };
    assert_eq!(have(only), other(bind, bind));
    let most = Capabilities::Changed { add: all(), drop: at(&["NET_BIND_SERVICE"]) };
    assert_eq!(have(most), other(own() & !bind, own() & !bind));
}

fn exec_has_the_same_capabilities() {
    let rig = Rig::new();
    let bind = set(&["NET_BIND_SERVICE"]).0;
    let exec = |user: Option<u32>| Exec {
        argv: ["sh", "-c", PRINT].map(str::to_owned).to_vec(),
        user: user.map(|uid| User { user: Id::Number(uid), group: None }),
        ..Exec::default()
    };
    for init in [true, false] {
        let mut unit = unit("web", &["sleep", "1000"]);
        service(&mut unit).init = init;
        let mut running = rig.up(&unit).unwrap();
        let mut run = |user| sets(&running.exec(&exec(user)).unwrap().good());
        assert_eq!(run(None), root(FEW));
        assert_eq!(run(Some(0)), root(FEW));
        assert_eq!(run(Some(99)), other(0, FEW));
        running.down();

        web(service(&mut unit));
        service(&mut unit).security.capabilities = Capabilities::Exactly(at(&["NET_BIND_SERVICE"]));
        let mut running = rig.up(&unit).unwrap();
        let mut run = |user| sets(&running.exec(&exec(user)).unwrap().good());
        assert_eq!(run(None), other(bind, bind));
        assert_eq!(run(Some(0)), root(bind), "root for a person is no more than the unit");
        assert_eq!(run(Some(99)), other(bind, bind));
        running.down();
    }
}

fn the_init_has_none() {
    let rig = Rig::new();
    let print = "cat /proc/1/comm; grep ^Cap /proc/1/status";
    for change in [
        (|_| {}) as fn(&mut Service),
        |s| s.security.privileged = true,
        web,
        |s| s.namespaces.value = Namespaces { pid: true, mount: true, ..Namespaces::NONE },
    ] {
        let output = rig.shell(print, change).good();
        let status = output.strip_prefix("berth-init\n").unwrap();
        assert_eq!(sets(status), [0; 5], "{output}");
    }
}

/// What the sets are for, tried.
fn what_is_given_works() {
    let rig = Rig::new();
    // Ports below this number need the capability, in a network of the unit's own.
    let listen = "exec perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) or die; \
        print bind(S, sockaddr_in(80, INADDR_ANY)) ? qq(bound\\n) : qq(refused\\n)'";
    let (path, value) = ("net/ipv4/ip_unprivileged_port_start".to_owned(), "1024".to_owned());
    let ports = At { value: Sysctl { path, value }, line: 9 };
    let run = |change: &dyn Fn(&mut Service)| {
        let outcome = rig.shell(listen, |s| {
            s.security.sysctls = vec![ports.clone()];
            change(s);
        });
        outcome.good()
    };
    assert_eq!(run(&|_| {}), "bound\n");
    assert_eq!(run(&web), "refused\n");
    let give = |s: &mut Service| {
        web(s);
        s.security.capabilities = Capabilities::Exactly(at(&["NET_BIND_SERVICE"]));
    };
    assert_eq!(run(&give), "bound\n");
    assert_eq!(run(&|s| s.security.capabilities = dropped(&["NET_BIND_SERVICE"])), "refused\n");
    let script = "touch /tmp/file && chown 1234 /tmp/file && stat -c %u /tmp/file";
    assert_eq!(rig.shell(script, |_| {}).good(), "1234\n");
    let output = rig.shell(script, |s| s.security.capabilities = dropped(&["CHOWN"])).output;
    assert!(output.contains("Operation not permitted"), "{output}");
}

fn a_directory_is_entered_with_what_is_left() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let closed = format!("{tree}/srv/closed");
    std::fs::create_dir(&closed).unwrap();
    std::os::unix::fs::chown(&closed, Some(1234), Some(1234)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&closed, mode).unwrap();
    let there = |s: &mut Service| {
        on_tree(s, &tree, Writable::None);
        s.working_directory = At { value: "/srv/closed".to_owned(), line: 15 };
    };
    assert_eq!(rig.shell("echo $PWD", there).good(), "/srv/closed\n");
    let text = rig.failure(|s| {
        there(s);
        s.security.capabilities = dropped(&["DAC_OVERRIDE"]);
    });
    assert!(text.contains("/srv/closed: Permission denied (EACCES) at web.toml:15"), "{text}");
}

fn what_berth_has_not_cannot_be_given() {
    let gone = set(&["BPF", "CHOWN"]).0;
    assert_eq!(own() & gone, gone, "the control");
    capability::leave_out(gone).unwrap();
    let rig = Rig::new();
    rig.host_users.set(true);
    assert_eq!(have(&rig, |_| {}), root(FEW & !1));
    assert_eq!(have(&rig, |s| s.security.privileged = true), root(own()));
    let everything = Capabilities::Changed { add: all(), drop: At::default() };
    assert_eq!(have(&rig, |s| s.security.capabilities = everything), root(own()));
    let text =
        rig.failure(|s| s.security.capabilities = Capabilities::Exactly(at(&["BPF", "KILL"])));
    let expected = "limit the capabilities to KILL BPF: this supervisor does not have BPF itself \
                    at web.toml:8";
    assert_eq!(text, expected);
    let text = rig.failure(|s| s.security.capabilities = add(&["CHOWN", "BPF"]));
    assert!(text.ends_with(": this supervisor does not have CHOWN BPF itself at web.toml:8"));
}

fn without_setpcap_nothing_can_be_limited() {
    let setpcap = set(&["SETPCAP"]).0;
    capability::leave_out(setpcap).unwrap();
    capability::set(own(), 0).unwrap();
    assert_eq!(own() & setpcap, 0);
    let rig = Rig::new();
    rig.host_users.set(true);
    let text = rig.failure(|_| {});
    let expected = format!(
        "limit the capabilities to {}: Operation not permitted (EPERM): this supervisor does not \
         have SETPCAP itself",
        CapabilitySet::CONTAINER
    );
    assert_eq!(text, expected);
    // Where nothing is to be taken away a unit is started all the same. Its init gives up
    // what it can, and as root gets it again when it is executed.
    let output =
        rig.shell(&format!("{PRINT}; grep ^Cap /proc/1/status"), |s| s.security.privileged = true);
    let output = output.good();
    assert_eq!(sets(&output), root(own()));
    let init = output.lines().skip(5).collect::<Vec<_>>().join("\n");
    assert_eq!(sets(&init)[1..3], [own(), own()]);
}
