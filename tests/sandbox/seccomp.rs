//! Which system calls a process may make, by the kernel's own answers.

use std::path::Path;
use std::sync::Arc;

use berth::container::{Exec, Program};
use berth::seccomp::{self, Action, Profile, Rule, When, calls};
use berth::sys::capability;
use berth::unit::model::{
    At, Capabilities, CapabilitySet, Id, Namespaces, Seccomp, Service, Shared, User, UserNamespace,
    Writable,
};

use super::rig::{Rig, Test, bind, on_tree, service, unit};

pub const TESTS: &[Test] = &[
    ("the_kernel_answers_as_the_golden_table_says", the_kernel_answers_as_the_golden_table_says),
    ("without_a_filter_every_way_is_open", without_a_filter_every_way_is_open),
    ("every_process_of_a_unit_is_filtered", every_process_of_a_unit_is_filtered),
    ("who_is_filtered", who_is_filtered),
    ("conditions_are_about_what_the_unit_has", conditions_are_about_what_the_unit_has),
    ("a_profile_of_ones_own", a_profile_of_ones_own),
    ("a_filter_without_no_new_privileges", a_filter_without_no_new_privileges),
    ("without_privilege_there_is_no_such_filter", without_privilege_there_is_no_such_filter),
];

/// Where [`probe`] is, inside.
pub const PROBE: &str = "/probe/probe";

const GOLDEN: &str = include_str!("../seccomp/default.golden");

/// Builds the program that asks the kernel; the directory to bind at `/probe`.
pub fn probe(rig: &Rig) -> String {
    let directory = rig.path("probe");
    std::fs::create_dir_all(&directory).unwrap();
    let program = Path::new(&directory).join("probe");
    // A machine without a compiler brings it along.
    if let Some(ready) = std::env::var_os("BERTH_TEST_PROBE") {
        std::fs::copy(ready, program).unwrap();
        return directory;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/probe.c");
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(program).arg(source);
    assert!(compiler.status().unwrap().success());
    directory
}

pub fn set(service: &mut Service, seccomp: Seccomp) {
    service.security.seccomp = Some(At { value: seccomp, line: 9 });
}

fn own(service: &mut Service, profile: Profile) {
    let profile = Shared(Arc::new(profile));
    set(service, Seccomp::Profile { path: "/etc/own.json".to_owned(), profile });
}

fn add(names: &[&str]) -> Capabilities {
    let sets = names.iter().map(|name| CapabilitySet::named(name).unwrap());
    let set = sets.fold(CapabilitySet::EMPTY, CapabilitySet::and);
    Capabilities::Changed { add: At::default_value(set), drop: At::default() }
}

/// Runs the probe in a unit with a root tree of its own and returns its output.
fn ask(way: &[&str], change: &dyn Fn(&mut Service)) -> String {
    let rig = Rig::new();
    let (tree, directory) = (rig.tree("rootfs"), probe(&rig));
    let mut unit = unit("web", &[&[PROBE], way].concat());
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    service(&mut unit).mounts.push(bind(&directory, "/probe"));
    change(service(&mut unit));
    rig.run(&unit).good()
}

/// A column of the golden table, in the probe's form.
fn golden(column: usize) -> String {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {}\n", words[0], words[column])
    };
    lines.map(row).collect()
}

/// The kernel carries uretprobe(2) and uprobe(2) out without asking a filter.
fn of_the_kernel(output: &str) -> String {
    output.replace("335 done\n", "335 allow\n").replace("336 done\n", "336 allow\n")
}

fn the_kernel_answers_as_the_golden_table_says() {
    let all = |s: &mut Service| {
        let add = At::default_value(CapabilitySet::ALL);
        s.security.capabilities = Capabilities::Changed { add, drop: At::default() };
    };
    compare(&of_the_kernel(&ask(&["syscall"], &|_| {})), &golden(2));
    compare(&of_the_kernel(&ask(&["syscall"], &all)), &golden(3));
    compare(&ask(&["x32"], &|_| {}), &golden(4));
    compare(&ask(&["int80"], &|_| {}), &golden(5));
}

fn compare(found: &str, expected: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), 501);
}

/// The control: what the probe calls refused is the unit's filter's doing.
fn without_a_filter_every_way_is_open() {
    for way in ["syscall", "x32", "int80"] {
        let output = ask(&[way], &|s| set(s, Seccomp::Unconfined));
        let closed: Vec<&str> = output.lines().filter(|line| !line.ends_with(" allow")).collect();
        let expected: &[&str] = if way == "syscall" { &["335 done", "336 done"] } else { &[] };
        assert_eq!(closed, expected, "{way}");
        assert_eq!(output.lines().count(), 501);
    }
}

/// `Seccomp: 2` is a filter; and how many there are.
const PRINT: &str = "grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs):' /proc/self/status | \
                     cut -f 2 | tr '\\n' ' '";

fn every_process_of_a_unit_is_filtered() {
    let rig = Rig::new();
    for init in [true, false] {
        let mut unit = unit("web", &["sleep", "1000"]);
        service(&mut unit).init = init;
        let mut running = rig.up(&unit).unwrap();
        assert_eq!(running.shell(PRINT).good(), "1 2 1 ", "exec");
        let print = PRINT.replace("self", "1");
        assert_eq!(running.shell(&print).good(), "1 2 1 ", "process 1, init: {init}");
        let of_main = "for p in /proc/[0-9]*; do grep -q sleep $p/comm && grep ^Seccomp: $p/status; done; true";
        assert_eq!(running.shell(of_main).good(), "Seccomp:\t2\n", "the command");
        let exec = Exec {
            argv: ["sh", "-c", PRINT].map(str::to_owned).to_vec(),
            user: Some(User { user: Id::Number(1234), group: None }),
            ..Exec::default()
        };
        assert_eq!(running.exec(&exec).unwrap().good(), "1 2 1 ", "exec as another user");
        let argv = ["sh", "-c", "grep -q '^Seccomp:.2$' /proc/self/status"].map(str::to_owned);
        let hook = Program::Command { argv: &argv, line: 3 };
        assert_eq!(running.program(hook).unwrap().good(), "", "a hook");
        running.down();
    }
}

fn who_is_filtered() {
    let rig = Rig::new();
    let print = |change: &dyn Fn(&mut Service)| rig.shell(PRINT, |s| change(s)).good();
    let (filtered, free) = ("1 2 1 ", "1 0 0 ");
    let plain = |s: &mut Service| s.namespaces.value = Namespaces::NONE;
    assert_eq!(print(&|_| {}), filtered);
    assert_eq!(print(&|s| set(s, Seccomp::Default)), filtered);
    assert_eq!(print(&|s| set(s, Seccomp::Unconfined)), free);
    // What a privileged unit executes may gain privileges.
    assert_eq!(print(&|s| s.security.privileged = true), "0 0 0 ");
    let named = |s: &mut Service| {
        s.security.privileged = true;
        set(s, Seccomp::Default);
    };
    assert_eq!(print(&named), "0 2 1 ");
    assert_eq!(print(&plain), free);
    let plain_named = |s: &mut Service| {
        plain(s);
        set(s, Seccomp::Default);
    };
    assert_eq!(print(&plain_named), filtered);
    let own_tree = Namespaces { mount: true, ..Namespaces::NONE };
    assert_eq!(print(&|s| s.namespaces.value = own_tree), filtered);
}

/// The answer to a call of which nothing can come: an errno of the kernel's own, or EPERM.
fn conditions_are_about_what_the_unit_has() {
    // All arguments are -1: what is let through fails with an errno of its own.
    for (capability, number, errno) in [
        ("SYS_ADMIN", "428", -22),
        ("SYS_ADMIN", "308", -9),
        ("SYS_PTRACE", "438", -22),
        ("SYS_NICE", "238", -22),
        ("DAC_READ_SEARCH", "304", -14),
        ("SYSLOG", "103", -22),
    ] {
        let call = ["syscall", number, "-1", "-1", "-1", "-1", "-1"];
        assert_eq!(ask(&call, &|_| {}), "-1\n", "{capability} {number}");
        let given = ask(&call, &|s| {
            s.security.capabilities = add(&[capability]);
            // Where the kernel asks no more of a capability than the filter does.
            s.security.user_namespace = UserNamespace::None;
        });
        assert_eq!(given, format!("{errno}\n"), "{capability} {number}");
    }
}

fn refusing(name: &str, errno: u16, when: When) -> Profile {
    let rules = vec![Rule {
        calls: vec![calls::number(name).unwrap()],
        conditions: Vec::new(),
        action: Action::Errno(errno),
        when,
    }];
    Profile { rules, otherwise: Action::Allow, newer: None, flags: 0 }
}

fn a_profile_of_ones_own() {
    let rig = Rig::new();
    // ENOSPC: nobody else says that.
    let script = "mkdir /tmp/a 2>&1; sync && echo synced";
    let run = |change: &dyn Fn(&mut Service)| rig.shell(script, |s| change(s)).output;
    let none = When::default();
    let output = run(&|s| own(s, refusing("mkdir", 28, none.clone())));
    assert!(output.contains("No space left on device") && output.ends_with("synced\n"), "{output}");
    let when = When { with: 1 << 21, ..When::default() };
    assert_eq!(run(&|s| own(s, refusing("mkdir", 28, when.clone()))), "synced\n");
    let admin = |s: &mut Service| {
        s.security.capabilities = add(&["SYS_ADMIN"]);
        own(s, refusing("mkdir", 28, when.clone()));
    };
    assert!(run(&admin).contains("No space left on device"));
    let plain = |s: &mut Service| {
        s.namespaces.value = Namespaces::NONE;
        own(s, refusing("mkdir", 28, none.clone()));
    };
    let output = rig.shell(&format!("mkdir {} 2>&1", rig.path("made")), plain).output;
    assert!(output.contains("No space left on device"), "{output}");
    // It applies to the program, which was not executed yet when it began.
    let text = rig.failure(|s| own(s, refusing("execve", 28, none.clone())));
    assert_eq!(text, "cannot execute \"true\": No space left on device (ENOSPC) at web.toml:2");
    let long = Profile {
        rules: (0..2000)
            .map(|value| Rule {
                calls: vec![1],
                conditions: vec![seccomp::Condition {
                    argument: 0,
                    mask: u64::MAX,
                    comparison: seccomp::Comparison::Equal,
                    value,
                }],
                action: Action::Allow,
                when: When::default(),
            })
            .collect(),
        ..refusing("mkdir", 1, none.clone())
    };
    let text = rig.failure(|s| own(s, long.clone()));
    let expected = "filter its system calls by /etc/own.json: its program is longer than the \
                    4096 instructions the kernel takes at web.toml:9";
    assert_eq!(text, expected);
}

/// Then it takes `SYS_ADMIN`, of which nothing may be left.
fn a_filter_without_no_new_privileges() {
    let rig = Rig::new();
    let print = format!("{PRINT}; grep -E '^Cap(Prm|Eff|Bnd):' /proc/self/status | cut -f 2");
    for container in [true, false] {
        for user in [None, Some(1234)] {
            let output = rig.shell(&print, |s| {
                s.security.no_new_privileges = Some(false);
                s.user = user
                    .map(|uid| At { value: User { user: Id::Number(uid), group: None }, line: 5 });
                if !container {
                    s.namespaces.value = Namespaces::NONE;
                    set(s, Seccomp::Default);
                }
            });
            let output = output.good();
            let (filter, sets) = output.split_once("0 2 1 ").unwrap();
            assert_eq!(filter, "");
            let sets: Vec<u64> =
                sets.lines().map(|line| u64::from_str_radix(line, 16).unwrap()).collect();
            let held = capability::held().unwrap();
            let all = held.permitted & held.bounding;
            let bounding = if container { 0x8004_05fb } else { all };
            let has = if user.is_none() { bounding } else { 0 };
            assert_eq!(sets, [has, has, bounding], "{container} {user:?}");
        }
    }
}

fn without_privilege_there_is_no_such_filter() {
    capability::leave_out(capability::SYS_ADMIN).unwrap();
    let held = capability::held().unwrap();
    capability::set(held.permitted & held.bounding, 0).unwrap();
    let rig = Rig::new();
    let plain = |s: &mut Service| s.namespaces.value = Namespaces::NONE;
    let text = rig.failure(|s| {
        plain(s);
        set(s, Seccomp::Default);
        s.security.no_new_privileges = Some(false);
    });
    let expected = "filter its system calls by the default profile: Permission denied (EACCES): \
                    with no-new-privileges = false it takes SYS_ADMIN, which this supervisor does \
                    not have at web.toml:9";
    assert_eq!(text, expected);
    let output = rig.shell(PRINT, |s| {
        plain(s);
        set(s, Seccomp::Default);
    });
    assert_eq!(output.good(), "1 2 1 ", "with it there is");
}
