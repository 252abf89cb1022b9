//! Ways out by processes: those of the host, programs that give rights, descriptors and
//! keys that were left open, sockets without a path, terminals of others.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command};

use berth::container::step::Op;
use berth::container::{Exec, Program, SocketKind, Stdio};
use berth::sys::{fd, pty};
use berth::unit::model::{At, Id, Service, User, Writable};

use super::attempt::{Defence, ESCAPED, attempt, naive, others_off};
use super::rig::{Rig, Running, Test, executed, on_tree, service, unit, wait_pidfd};

pub const TESTS: &[Test] = &[
    ("a_process_of_the_host_is_not_killed", a_process_of_the_host_is_not_killed),
    ("a_process_of_the_host_is_not_traced", a_process_of_the_host_is_not_traced),
    ("the_memory_of_the_host_is_not_read", the_memory_of_the_host_is_not_read),
    ("the_root_of_a_process_leads_nowhere", the_root_of_a_process_leads_nowhere),
    ("the_environment_of_the_host_is_not_read", the_environment_of_the_host_is_not_read),
    ("a_set_user_id_program_gives_nothing", || gives_nothing("4755")),
    ("a_set_group_id_program_gives_nothing", || gives_nothing("2755")),
    ("file_capabilities_give_nothing", file_capabilities_give_nothing),
    ("a_directory_hands_on_no_group_that_counts", a_directory_hands_on_no_group_that_counts),
    ("leaked_descriptors_are_closed", leaked_descriptors_are_closed),
    ("a_working_directory_is_no_descriptor", a_working_directory_is_no_descriptor),
    ("the_init_of_all_units_is_not_changed", the_init_of_all_units_is_not_changed),
    ("keys_of_the_supervisors_session_are_not_found", keys_are_not_found),
    ("abstract_sockets_of_the_host_are_not_reached", abstract_sockets_are_not_reached),
    ("a_terminal_of_exec_is_seen_by_no_other", a_terminal_of_exec_is_seen_by_no_other),
    ("a_terminal_of_exec_takes_no_input_of_others", a_terminal_of_exec_takes_no_input),
    ("a_terminal_of_exec_is_not_made_where_the_unit_wants_it", a_terminal_of_exec_is_its_own),
    ("a_terminal_of_exec_is_not_opened_by_its_process", || stolen_by_process(Some(1234))),
];

/// A process of the host with a name that can be looked for.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let child = Command::new("sleep").arg("1000").env("BYSTANDER", "of-the-host").spawn();
        Self(child.unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Sees the processes of the host.
fn no_pid_namespace(service: &mut Service) {
    service.namespaces.value.pid = false;
}

fn a_process_of_the_host_is_not_killed() {
    let bystander = Bystander::new();
    let rig = Rig::new();
    let script = format!("kill -CONT {} 2>&1 && echo escaped", bystander.0.id());
    attempt(&rig, &script, |_| {}, Defence::Setting(no_pid_namespace));
}

fn a_process_of_the_host_is_not_traced() {
    let bystander = Bystander::new();
    let rig = Rig::new();
    let perl = format!(
        "my $p = {}; if (syscall(101, 16, $p, 0, 0) == 0) {{ waitpid($p, 0x40000000); \
         syscall(101, 17, $p, 0, 0); print q(escaped) }} else {{ print $! }}",
        bystander.0.id()
    );
    let script = format!("perl -e '{perl}'");
    attempt(&rig, &script, |_| {}, Defence::Setting(no_pid_namespace));
}

fn the_memory_of_the_host_is_not_read() {
    let bystander = Bystander::new();
    let rig = Rig::new();
    let script = format!("head -c 0 /proc/{}/mem 2>&1 && echo escaped", bystander.0.id());
    attempt(&rig, &script, |_| {}, Defence::Setting(no_pid_namespace));
}

fn the_environment_of_the_host_is_not_read() {
    let _bystander = Bystander::new();
    let rig = Rig::new();
    let script = "cat /proc/[0-9]*/environ 2>/dev/null | grep -qa of-the-ho[s]t && echo escaped";
    attempt(&rig, script, |_| {}, Defence::Setting(no_pid_namespace));
}

fn the_root_of_a_process_leads_nowhere() {
    let bystander = Bystander::new();
    let rig = Rig::new();
    let secret = rig.file("secret", "of the host");
    let tree = rig.tree("rootfs");
    let script = format!(
        "for p in self 1 2 {}; do for w in root cwd root/.. cwd/../../../../..; do \
         [ -e /proc/$p/$w{secret} ] && echo escaped; done; done; true",
        bystander.0.id()
    );
    let prepare = |s: &mut Service| on_tree(s, &tree, Writable::Ephemeral);
    attempt(&rig, &script, prepare, Defence::Setting(no_pid_namespace));
}

/// The init of all units is one file, and root of the host in one of them is who owns it: without
/// the right to execute it, or with capabilities that nobody can have, no other would start.
fn the_init_of_all_units_is_not_changed() {
    use std::os::fd::AsRawFd;
    let rig = Rig::new();
    rig.host_users.set(true);
    // The last one: security.capability, all permitted and effective.
    let perl = "my ($f, $n, $v) = ($ARGV[0], q(security.capability), pack(q(L5), 0x02000001, \
                4294967295, 0, 511, 0)); exit(syscall(188, $f, $n, $v, 20, 0) != 0)";
    let change = |file: &str| {
        format!(
            "capable() {{ perl -e '{perl}' $1; }}; \
             for change in 'chmod 0' 'chown 1' 'touch -d @0' capable; do \
             $change {file} 2>/dev/null && echo escaped; done; true"
        )
    };
    for others in [|_: &mut Service| {}, others_off] {
        assert_eq!(rig.shell(&change("/proc/1/exe"), others).good(), "");
        assert_eq!(rig.shell("echo well", |_| {}).good(), "well\n");
    }
    // The control: a program that only its seals protect.
    let sealed = berth::sys::memfd::sealed_program("control", b"#!/bin/true").unwrap();
    let file = format!("/proc/{}/fd/{}", std::process::id(), sealed.as_raw_fd());
    assert_eq!(naive(&change(&file)), "escaped\n".repeat(4));
}

fn weak(service: &mut Service) {
    let user = User { user: Id::Number(1234), group: Some(Id::Number(1235)) };
    service.user = Some(At { value: user, line: 4 });
}

/// All capabilities but for the user, who has to gain them.
fn nothing_kept(service: &mut Service) {
    service.security.capabilities = berth::unit::model::Capabilities::Default;
    service.security.no_new_privileges = Some(false);
}

/// A copy of a program in a root tree.
fn copy(tree: &str, program: &str, mode: &str) {
    let path = format!("{tree}/srv/program");
    std::fs::copy(program, &path).unwrap();
    let mode = u32::from_str_radix(mode, 8).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// With the capabilities that a container has, because what is gained is what is asked about.
fn gains(rig: &Rig, tree: &str, script: &str) {
    let run = |free: bool| {
        let output = rig.shell(script, |s| {
            on_tree(s, tree, Writable::Ephemeral);
            weak(s);
            if free {
                nothing_kept(s);
            }
        });
        output.output.contains(ESCAPED)
    };
    assert!(!run(false));
    assert!(run(true), "the control");
}

fn gives_nothing(mode: &str) {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    copy(&tree, "/usr/bin/id", mode);
    let script = "[ $(/srv/program -u) = 0 ] && echo escaped; [ $(/srv/program -g) = 0 ] && \
                  echo escaped; true";
    gains(&rig, &tree, script);
}

fn file_capabilities_give_nothing() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    copy(&tree, "/usr/bin/grep", "755");
    // VFS_CAP_REVISION_2, effective; CHOWN.
    let value = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = format!("{tree}/srv/program");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "security.capability", &value, flags).unwrap();
    let script = "/srv/program -q 'CapEff:.*1$' /proc/self/status && echo escaped; true";
    gains(&rig, &tree, script);
}

/// A program with the directory's group is made by one who is not in it.
fn a_directory_hands_on_no_group_that_counts() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let path = format!("{tree}/srv/all");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o2777)).unwrap();
    let make = "cp /usr/bin/id /srv/all/id; chmod 2755 /srv/all/id; stat -c %g:%A /srv/all/id; \
                [ $(/srv/all/id -g) = 0 ] && echo escaped; true";
    let output = rig.shell(make, |s| {
        on_tree(s, &tree, Writable::Ephemeral);
        weak(s);
        nothing_kept(s);
    });
    // The kernel's own defence: the bit goes where the group is not one's own.
    assert_eq!(output.output, "0:-rwxr-xr-x\n");
    // The control: root sets it, and then no-new-privileges is what is left.
    copy(&tree, "/usr/bin/id", "2755");
    gains(&rig, &tree, "[ $(/srv/program -g) = 0 ] && echo escaped; true");
}

/// The supervisor is started with descriptors 3 to 20 open on the root.
fn leak() -> Vec<std::os::fd::OwnedFd> {
    let root = std::fs::File::open("/").unwrap();
    let mut kept = Vec::new();
    loop {
        let copy = rustix::io::dup(&root).unwrap();
        let number = copy.as_raw_fd();
        kept.push(copy);
        if number >= 20 {
            return kept;
        }
    }
}

fn leaked_descriptors_are_closed() {
    let leaked = leak();
    let rig = Rig::new();
    let secret = rig.file("secret", "of the host");
    let tree = rig.tree("rootfs");
    let script = format!(
        "for p in /proc/[0-9]*; do for n in $(seq 0 64); do \
         [ -e $p/fd/$n{secret} ] && echo escaped; done; done; true"
    );
    let mut unit = unit("web", &["sh", "-c", &format!("{script}; echo over; sleep 1000")]);
    on_tree(service(&mut unit), &tree, Writable::Ephemeral);
    for privileged in [false, true] {
        if privileged {
            others_off(service(&mut unit));
        }
        for init in [true, false] {
            service(&mut unit).init = init;
            let mut running = rig.up(&unit).unwrap();
            assert_eq!(running.line(), "over");
            assert_eq!(running.shell(&script).output, "", "exec");
            running.down();
        }
    }
    // The control: an ordinary child.
    assert!(naive(&script).contains(ESCAPED));
    drop(leaked);
}

/// CVE-2024-21626.
fn a_working_directory_is_no_descriptor() {
    let leaked = leak();
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    std::os::unix::fs::symlink("/proc/self/fd/7", format!("{tree}/srv/link")).unwrap();
    std::os::unix::fs::symlink("/proc/self/cwd", format!("{tree}/srv/cwd")).unwrap();
    let mut running = {
        let mut unit = unit("web", &["sleep", "1000"]);
        on_tree(service(&mut unit), &tree, Writable::Ephemeral);
        rig.up(&unit).unwrap()
    };
    for directory in ["/proc/self/fd/7", "/proc/self/fd/7/", "/srv/link", "/srv/cwd", "/proc/1/cwd"]
    {
        let text = rig.failure(|s| {
            on_tree(s, &tree, Writable::Ephemeral);
            s.working_directory = At { value: directory.to_owned(), line: 6 };
        });
        assert!(text.contains("enter the working directory"), "{directory}: {text}");
        let working_directory = Some(directory.to_owned());
        let argv = ["true"].map(str::to_owned).to_vec();
        let exec = Exec { argv, working_directory, ..Exec::default() };
        assert!(running.exec(&exec).is_err(), "{directory}");
    }
    running.down();
    // The control: a naive chdir(2), with what was left open.
    assert_eq!(naive("cd -P /proc/self/fd/7 && [ . -ef / ] && echo escaped"), "escaped\n");
    drop(leaked);
}

fn keys_are_not_found() {
    // A session with a key that is the supervisor's.
    let make = "syscall(250, 1, 0) >= 0 or die $!; my ($type, $name, $key) = ('user', \
                'of-the-host', 'x'); syscall(248, $type, $name, $key, 1, -3) > 0 or die $!;";
    let find = "my ($t, $n) = ('user', 'of-the-host'); \
                print syscall(250, 10, -3, $t, $n, 0) > 0 ? 'escaped' : $!";
    // The control first: in the same session it is found, also by an ordinary child.
    let quoted = find.replace('\'', "\"");
    let child = format!("{make} exec 'perl', '-e', '{quoted}'").replace('\'', "'\\''");
    assert_eq!(naive(&format!("perl -e '{child}'")), ESCAPED);
    berth::sys::identity::new_session_keyring().unwrap();
    let add = "my ($type, $name, $key) = ('user', 'of-the-host', 'x'); \
               syscall(248, $type, $name, $key, 1, -3) > 0 or die $!;";
    assert!(Command::new("perl").args(["-e", add]).status().unwrap().success());
    let rig = Rig::new();
    let script = format!("perl -e '{quoted}'");
    attempt(&rig, &script, |_| {}, Defence::Steps(|op| matches!(op, Op::Keyring)));
}

fn abstract_sockets_are_not_reached() {
    let name = format!("berth-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let rig = Rig::new();
    let script = format!(
        "perl -e 'use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); my $a = pack(q(S a*), 1, \
         chr(0) . q({name})); print connect($s, $a) ? q(escaped) : $!'"
    );
    let host = |s: &mut Service| s.namespaces.value.network = false;
    attempt(&rig, &script, |_| {}, Defence::Setting(host));
    drop(listener);
}

/// `berthctl exec -t` of something that waits for a line, and the other side of its terminal.
fn terminal(running: &mut Running<'_>, rig: &Rig) -> (berth::container::Child, std::fs::File) {
    let script = "stty -echo; echo ready; read line; echo \"<$line>\"; sleep 1000";
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        terminal: Some(pty::Size { rows: 25, columns: 80 }),
        ..Exec::default()
    };
    let inside = running.sandbox.as_ref().unwrap().pidfd.as_fd();
    let place = running.place(inside);
    let program = Program::Exec(&exec);
    let (plan, stdio) = (&running.plan, Stdio::default());
    let mut child = berth::container::process(&rig.host, plan, place, program, &stdio).unwrap();
    executed(&mut child.status, &running.plan, &mut running.sockets).unwrap();
    let (kind, master) = running.sockets.pop().unwrap();
    assert_eq!(kind, SocketKind::Terminal);
    let mut master = std::fs::File::from(master);
    assert!(until(&mut master, "ready"));
    (child, master)
}

/// Whether the terminal shows this before long.
fn until(master: &mut std::fs::File, text: &str) -> bool {
    let mut shown = String::new();
    while !shown.contains(text) {
        if !fd::readable_within(master.as_fd(), super::machine::patience(500)).unwrap() {
            return false;
        }
        let mut bytes = [0; 256];
        let count = master.read(&mut bytes).unwrap();
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    true
}

/// What a process of the unit can do to the terminal of an exec beside it.
fn beside_a_terminal(script: &str, free: bool, change: fn(&mut Service)) -> (String, bool) {
    let rig = Rig::new();
    if free {
        rig.without.set(|op| matches!(op, Op::Terminals));
    }
    let mut unit = unit("web", &["sleep", "1000"]);
    others_off(service(&mut unit));
    change(service(&mut unit));
    rig.host_users.set(true);
    let mut running = rig.up(&unit).unwrap();
    let (child, mut master) = terminal(&mut running, &rig);
    let output = running.shell(script).output;
    let has_come = until(&mut master, "<injected>");
    running.group.kill().unwrap();
    wait_pidfd(child.pidfd.as_fd()).unwrap();
    drop(master);
    running.down();
    (output, has_come)
}

fn a_terminal_of_exec_is_seen_by_no_other() {
    let script = "for t in /dev/pts/[0-9]* /dev/console /dev/tty; do \
                  [ -c $t ] && [ ! $t -ef /dev/null ] && (echo x > $t) 2>/dev/null && \
                  echo escaped; done; true";
    assert_eq!(beside_a_terminal(script, false, |_| {}), (String::new(), false));
    assert_eq!(beside_a_terminal(script, true, |_| {}).0, "escaped\n");
}

/// TIOCSTI, with `SYS_ADMIN`, on all that can be opened.
fn a_terminal_of_exec_takes_no_input() {
    let script = "perl -e 'for my $t (glob(q(/dev/pts/[0-9]*)), q(/dev/tty), q(/dev/console)) { \
                  sysopen(my $f, $t, 2 | 256) or print qq($t $!,), next; \
                  for my $c (split(//, qq(injected\\n))) { ioctl($f, 0x5412, $c) or print qq($t: $!,) } }'";
    assert!(!beside_a_terminal(script, false, |_| {}).1);
    let (output, has_come) = beside_a_terminal(script, true, |_| {});
    assert!(has_come, "the control: {output}");
}

/// A process may be traced by those with its rights, and then its terminal is theirs too;
/// not by another user.
/// The unit makes `/dev/ptmx` a link to that of its own `/dev/pts`, where all of it would see a
/// terminal that was made there.
fn a_terminal_of_exec_is_its_own() {
    let rig = Rig::new();
    let link = "ln -sf /proc/$$/root/dev/pts/ptmx /dev/ptmx && echo linked; exec sleep 1000";
    let mut running = rig.up(&unit("web", &["sh", "-c", link])).unwrap();
    assert_eq!(running.line(), "linked");
    // The control: whoever opens a terminal by that link has one that others see.
    let open = "perl -e 'open(my $t, q(+<), q(/dev/ptmx)) or die $!; print glob q(/dev/pts/*)'";
    assert_eq!(running.shell(open).good(), "/dev/pts/0/dev/pts/ptmx");
    let (child, master) = terminal(&mut running, &rig);
    assert_eq!(running.shell("echo /dev/pts/*").good(), "/dev/pts/ptmx\n");
    running.group.kill().unwrap();
    wait_pidfd(child.pidfd.as_fd()).unwrap();
    drop(master);
    running.down();
}

fn stolen_by_process(uid: Option<u32>) {
    let script = "for t in /proc/[0-9]*/fd/0; do [ -c $t ] && [ ! $t -ef /dev/null ] && \
                  (echo x > $t) 2>/dev/null && echo escaped; done; true";
    let run = |uid: Option<u32>| {
        let rig = Rig::new();
        let unit = unit("web", &["sleep", "1000"]);
        let mut running = rig.up(&unit).unwrap();
        let (child, master) = terminal(&mut running, &rig);
        let user = uid.map(|uid| User { user: Id::Number(uid), group: None });
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let output = running.exec(&Exec { argv, user, ..Exec::default() }).unwrap().output;
        running.group.kill().unwrap();
        wait_pidfd(child.pidfd.as_fd()).unwrap();
        drop(master);
        running.down();
        output
    };
    assert_eq!(run(uid), "");
    assert!(run(None).contains(ESCAPED), "the control");
}
