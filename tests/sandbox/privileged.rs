//! What a unit is kept from if nothing is said, one by one, and that a privileged one is not.

use berth::unit::model::{At, Seccomp, Service, UserNamespace};

use super::rig::{Rig, Test, service, unit};

pub const TESTS: &[Test] = &[
    ("every_defence_is_on_unless_privileged", every_defence_is_on_unless_privileged),
    ("a_privileged_unit_has_what_it_asks_for", a_privileged_unit_has_what_it_asks_for),
    ("what_a_privileged_unit_groups_is_gone_with_it", what_it_groups_is_gone_with_it),
];

/// A defence, what is tried (it says `yes` if it can be done), and whether a unit that is
/// privileged can.
type Row = (&'static str, &'static str, bool);

const DEFENCES: &[Row] = &[
    ("user namespace", "read -r i host n < /proc/self/uid_map; [ $host = 0 ]", true),
    ("capabilities", "mount -t tmpfs inner /tmp", true),
    ("no new privileges", "grep -q 'NoNewPrivs:.0' /proc/self/status", true),
    ("system calls", "grep -q 'Seccomp:.0' /proc/self/status", true),
    ("masks", "[ $(stat -c %T -f /proc/keys) = proc ]", true),
    ("masked directories", "[ $(stat -c %T -f /sys/firmware) = sysfs ]", true),
    ("/proc/sys", "v=$(cat /proc/sys/vm/swappiness); echo $v > /proc/sys/vm/swappiness", true),
    ("/proc/irq", "[ -w /proc/irq ]", true),
    ("/sys", "[ -w /sys ]", true),
    ("control groups", "mkdir /sys/fs/cgroup/sub && rmdir /sys/fs/cgroup/sub", true),
    ("making nodes", "mknod /dev/log2 c 1 11", true),
    ("using devices", "exec 3</dev/log2", true),
    ("mount namespace", "[ -e $RIG ]", false),
    ("pid namespace", "[ $(readlink /proc/1/exe) != /berth-init ] && [ -d /proc/2000 ]", false),
    ("root tree", "touch /etc/new", false),
    ("core files", "[ $(ulimit -c) != 0 ]", false),
    ("umask", "[ $(umask) != 0022 ]", false),
    ("keyrings", "grep -q of-the-host /proc/keys", false),
];

/// Tries everything and says each time what came of it.
fn tries() -> String {
    let one = |(name, script, _): &Row| {
        format!(
            "if ({script}) >/dev/null 2>&1; then echo '{name}: yes'; else echo '{name}: no'; fi"
        )
    };
    DEFENCES.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn every_defence_is_on_unless_privileged() {
    let rig = Rig::new();
    // Hidden from units on the host's tree, like everything that is berth's.
    let state = rig.file("state/secret", "");
    let script = format!("RIG={state}\n{}", tries());
    let said = |privileged| rig.shell(&script, |s| s.security.privileged = privileged).good();
    let expected = |privileged: bool| -> String {
        let word = |can: bool| if can && privileged { "yes" } else { "no" };
        let line = |(name, _, can): &Row| format!("{name}: {}\n", word(*can));
        DEFENCES.iter().map(line).collect::<Vec<_>>().concat()
    };
    assert_eq!(said(false), expected(false));
    assert_eq!(said(true), expected(true));
}

fn a_privileged_unit_has_what_it_asks_for() {
    let rig = Rig::new();
    let held = "read -r i host n < /proc/self/uid_map; [ $host = 0 ] || echo users; \
                awk '/^NoNewPrivs/ && $2 == 1 { print \"no-new-privileges\" } \
                /^Seccomp:/ && $2 == 2 { print \"seccomp\" }' /proc/self/status; \
                [ -w /sys ] || echo sys; [ -w /sys/fs/cgroup ] || echo cgroup";
    let said = |change: fn(&mut Service)| {
        let privileged = |s: &mut Service| {
            s.security.privileged = true;
            change(s);
        };
        rig.shell(held, privileged).output
    };
    assert_eq!(said(|_| {}), "");
    assert_eq!(said(|s| s.security.no_new_privileges = Some(true)), "no-new-privileges\n");
    let seccomp = said(|s| s.security.seccomp = Some(At::default_value(Seccomp::Default)));
    assert_eq!(seccomp, "seccomp\n");
    // What is root's of the host cannot be written by another root anyway.
    let users = said(|s| s.security.user_namespace = UserNamespace::Auto);
    assert_eq!(users, "users\nsys\ncgroup\n");
}

fn what_it_groups_is_gone_with_it() {
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).security.privileged = true;
    let mut running = rig.up(&unit).unwrap();
    let script = "mkdir -p /sys/fs/cgroup/one/two; (echo 0 > /sys/fs/cgroup/one/two/cgroup.procs; \
                  exec sleep 1000) >/dev/null 2>&1 & \
                  until grep -q one/two /proc/$!/cgroup; do :; done; cat /proc/$!/cgroup";
    let said = running.shell(script).good();
    assert!(said.contains("0::/one/two"), "{said}");
    running.down();
}
