//! What a process is when its program begins.

use std::os::fd::AsFd;

use berth::container::{Exec, Program, SocketKind, Stdio};
use berth::sys::pty;
use berth::unit::model::{At, Id, Namespaces, Service, User, Writable};

use super::rig::{Rig, Test, on_tree, service, unit, wait_for};

pub const TESTS: &[Test] = &[
    ("a_user_comes_from_the_units_own_tree", a_user_comes_from_the_units_own_tree),
    ("a_user_of_the_host_is_no_user_of_the_tree", a_user_of_the_host_is_no_user_of_the_tree),
    ("the_environment_is_the_units", the_environment_is_the_units),
    ("environment_files_are_the_hosts", environment_files_are_the_hosts),
    ("umask_limits_and_priorities", umask_limits_and_priorities),
    ("no_new_privileges_is_as_said", no_new_privileges_is_as_said),
    ("signals_are_as_at_birth", signals_are_as_at_birth),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("named_descriptors_are_in_place", named_descriptors_are_in_place),
    ("the_null_device_is_the_units_own", the_null_device_is_the_units_own),
    ("stderr_opens_again_as_another_user", stderr_opens_again_as_another_user),
    ("the_working_directory_is_entered", the_working_directory_is_entered),
    ("exec_may_be_somebody_else", exec_may_be_somebody_else),
    ("exec_gets_a_real_terminal", exec_gets_a_real_terminal),
];

fn user(user: Id, group: Option<Id>) -> Option<At<User>> {
    Some(At { value: User { user, group }, line: 5 })
}

fn name(name: &str) -> Id {
    Id::Name(name.to_owned())
}

fn a_user_comes_from_the_units_own_tree() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let script = "echo $(id -u):$(id -g):$(id -G) $USER $LOGNAME $HOME $SHELL; \
                  grep -E '^(Uid|Gid|CapEff)' /proc/self/status | tr '\t\n' '  '";
    let run = |user: Option<At<User>>| {
        rig.shell(script, |s| {
            on_tree(s, &tree, Writable::None);
            s.user = user;
        })
        .good()
    };
    let web = "web web /srv/web /bin/sh\nUid: 1234 1234 1234 1234 Gid: 1235 1235 1235 1235 ";
    let by_name = run(user(name("web"), None));
    assert_eq!(by_name, format!("1234:1235:1235 77 78 {web}CapEff: 0000000000000000 "));
    assert_eq!(run(user(Id::Number(1234), None)), by_name);
    let grouped = run(user(name("web"), Some(name("extra"))));
    assert!(grouped.starts_with("1234:77:77 78 web"), "{grouped}");
    let numbers = run(user(Id::Number(4000), Some(Id::Number(4001))));
    assert!(numbers.starts_with("4000:4001:4001 /\n"), "{numbers}");
    let number = run(user(Id::Number(4000), None));
    assert!(number.starts_with("4000:0:0 /\n"), "{number}");
    let root = run(None);
    assert!(root.starts_with("0:0:0 root root /root\n"), "{root}");
    let named_root = run(user(name("root"), None));
    assert!(named_root.starts_with("0:0:0 78 root root /root /bin/sh\n"), "{named_root}");
}

fn a_user_of_the_host_is_no_user_of_the_tree() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    assert!(std::fs::read_to_string("/etc/passwd").unwrap().contains("\nwww-data:"));
    let www = |s: &mut Service| s.user = user(name("www-data"), None);
    assert_eq!(rig.shell("id -un", www).good(), "www-data\n");
    let text = rig.failure(|s| {
        on_tree(s, &tree, Writable::None);
        www(s);
    });
    let expected = "become user www-data: no user \"www-data\" in /etc/passwd of the unit's root \
                    tree at web.toml:5";
    assert_eq!(text, expected);
}

fn the_environment_is_the_units() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the control");
    let rig = Rig::new();
    let script = "exec env";
    let output = rig.shell(script, |s| s.environment = vec![("TZ".into(), "UTC".into())]).good();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("PWD=")).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["HOME=/root", "LOGNAME=root", path, "TZ=UTC", "USER=root", "container=berth"]
    );
    let output = rig.shell(script, |s| s.namespaces.value = Namespaces::NONE).good();
    assert!(!output.contains("container=") && !output.contains("CARGO"), "{output}");
    let output = rig.shell("echo $WATCHDOG_USEC $NOTIFY_SOCKET", |s| {
        s.watchdog = Some(std::time::Duration::from_secs(2));
    });
    assert_eq!(output.good(), "2000000 /dev/berth-notify\n");
}

fn environment_files_are_the_hosts() {
    let rig = Rig::new();
    let first = rig.file("files/first.env", "A=file\nB=file\nPATH=/nowhere:/usr/bin:/bin\n");
    let second = rig.file("files/second.env", "B=second\n# C=x\n");
    let tree = rig.tree("rootfs");
    let files = |list: &[&str]| -> Vec<At<String>> {
        list.iter().map(|f| At { value: (*f).to_owned(), line: 6 }).collect()
    };
    let output = rig.shell("echo $A $B $C $D $PATH", |s| {
        on_tree(s, &tree, Writable::None);
        s.environment = vec![("A".into(), "unit".into()), ("D".into(), "unit".into())];
        s.environment_files = files(&[&first, &second, "-/does/not/exist"]);
    });
    assert_eq!(output.good(), "file second unit /nowhere:/usr/bin:/bin\n");
    let text = rig.failure(|s| s.environment_files = files(&["/does/not/exist"]));
    let expected = "read the environment file /does/not/exist: No such file or directory (ENOENT) \
                    at web.toml:6";
    assert_eq!(text, expected);
    let text = rig.failure(|s| s.environment_files = files(&["-/dev/zero"]));
    assert!(text.contains("it is not a regular file at web.toml:6"), "{text}");
    let junk = rig.file("files/junk.env", "A=1\n\n# C=x\nB 2\n");
    let text = rig.failure(|s| s.environment_files = files(&[&junk]));
    let expected =
        format!("read the environment file {junk}: line 4 of it is not NAME=value at web.toml:6");
    assert_eq!(text, expected);
    let huge = rig.file("files/huge", &"A=b\n".repeat(100_000));
    let text = rig.failure(|s| s.environment_files = files(&[&huge]));
    assert!(text.contains("larger than 256K"), "{text}");
}

fn umask_limits_and_priorities() {
    let rig = Rig::new();
    let script =
        "umask; ulimit -n; ulimit -Hn; ulimit -p; ulimit -c; nice; cat /proc/self/oom_score_adj";
    let output = rig.shell(script, |s| {
        s.umask = 0o027;
        s.limits.nofile = Some(At { value: 777, line: 10 });
        s.limits.nproc = Some(At { value: 555, line: 11 });
        s.limits.core = Some(At { value: 0, line: 12 });
        s.limits.nice = Some(At { value: 7, line: 13 });
        s.limits.oom_score_adjust = Some(At { value: 321, line: 14 });
    });
    assert_eq!(output.good(), "0027\n777\n777\n555\n0\n7\n321\n");
    let text = rig.failure(|s| s.limits.nofile = Some(At { value: u64::from(u32::MAX), line: 10 }));
    let expected = "allow the limit nofile to be 4294967295: Operation not permitted (EPERM): it is \
                    beyond what this supervisor may give at web.toml:10";
    assert_eq!(text, expected);
}

fn no_new_privileges_is_as_said() {
    let rig = Rig::new();
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(rig.shell(script, |_| {}).good(), "NoNewPrivs:\t1\n");
    assert_eq!(
        rig.shell(script, |s| s.security.no_new_privileges = Some(false)).good(),
        "NoNewPrivs:\t0\n"
    );
}

fn signals_are_as_at_birth() {
    let _signals = berth::sys::signal::block_all().unwrap();
    // The control: here they are blocked.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    // All but SIGKILL and SIGSTOP, which cannot be.
    assert!(own.contains("SigBlk:\tfffffffffffbfeff"), "{own}");
    let rig = Rig::new();
    for init in [true, false] {
        let script = "exec cat /proc/self/status";
        let output = rig.shell(script, |s| s.init = init).good();
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(output.contains(&format!("\n{field}:\t0000000000000000\n")), "{output}");
        }
    }
}

fn no_descriptor_leaks() {
    let rig = Rig::new();
    // Without close-on-exec, on purpose.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    berth::sys::fd::set_close_on_exec(leak.as_fd(), false).unwrap();
    let script = "exec ls /proc/self/fd";
    for change in [
        (|_| {}) as fn(&mut Service),
        |s| s.init = false,
        |s| s.namespaces.value = Namespaces::NONE,
    ] {
        // 3 is the directory that ls reads.
        assert_eq!(rig.shell(script, change).good(), "0\n1\n2\n3\n");
    }
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() > 4, "the control: {text}");
}

fn named_descriptors_are_in_place() {
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).init = false;
    let running = rig.up(&unit).unwrap();
    let (mut read, write) = std::io::pipe().unwrap();
    let named = [(3, write.as_fd()), (63, write.as_fd())];
    let stdio = Stdio { named: &named, ..Stdio::default() };
    let script = ["sh", "-c", "ls /proc/self/fd >&3; echo ready >&3; readlink /proc/self/fd/0 >&3"];
    let argv = script.map(str::to_owned);
    let program = Program::Command { argv: &argv, line: 0 };
    let inside = running.main.as_ref().unwrap().pidfd.as_fd();
    let plan = &running.plan;
    let place = running.place(inside);
    let child = berth::container::process(&rig.host, plan, place, program, &stdio);
    let child = child.unwrap();
    drop(write);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
    assert_eq!(text, "0\n1\n2\n3\n4\n63\nready\n/dev/null\n");
    running.down();
}

fn the_null_device_is_the_units_own() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let rig = Rig::new();
    let script = "stat -L -c '%d %a' /proc/self/fd/0 /dev/null; chmod 600 /proc/self/fd/0; stat -c %a /dev/null";
    let output = rig.shell(script, |_| {}).good();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2], "600");
    let host = std::fs::metadata("/dev/null").unwrap();
    assert_eq!(host.permissions().mode() & 0o777, 0o666);
    assert_ne!(lines[0].split(' ').next(), Some(host.dev().to_string().as_str()));
}

fn stderr_opens_again_as_another_user() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let script = "echo one > /dev/stdout; echo two > /dev/stderr";
    let output = rig.shell(script, |s| {
        on_tree(s, &tree, Writable::None);
        s.user = user(name("web"), None);
    });
    assert_eq!(output.good(), "one\ntwo\n");
}

fn the_working_directory_is_entered() {
    let rig = Rig::new();
    let to = |path: &str| At { value: path.to_owned(), line: 15 };
    assert_eq!(rig.shell("pwd", |s| s.working_directory = to("/usr/share")).good(), "/usr/share\n");
    let text = rig.failure(|s| s.working_directory = to("/usr/nowhere"));
    let expected = "enter the working directory /usr/nowhere: No such file or directory (ENOENT) \
                    at web.toml:15";
    assert_eq!(text, expected);
    let text = rig.failure(|s| s.working_directory = to("/etc/passwd"));
    assert!(text.contains("(ENOTDIR) at web.toml:15"), "{text}");
    // As the user, not as root.
    let text = rig.failure(|s| {
        s.working_directory = to("/root/x");
        s.user = user(Id::Number(1234), None);
    });
    assert!(text.contains("(EACCES)"), "{text}");
}

fn exec_may_be_somebody_else() {
    let rig = Rig::new();
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).environment = vec![("A".into(), "1".into())];
    let mut running = rig.up(&unit).unwrap();
    let script = "echo $(id -u) $PWD $A $B $$";
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: vec![("B".into(), "2".into())],
        user: Some(User { user: Id::Number(99), group: None }),
        working_directory: Some("/usr".into()),
        terminal: None,
    };
    assert_eq!(running.exec(&exec).unwrap().good(), "99 /usr 1 2 3\n");
    let missing = Exec { argv: vec!["ngnix".into()], ..Exec::default() };
    let text = running.exec(&missing).unwrap_err();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(text, format!("cannot execute \"ngnix\": not found in the unit's PATH ({path})"));
    running.down();
}

fn exec_gets_a_real_terminal() {
    let rig = Rig::new();
    let unit = unit("web", &["sleep", "1000"]);
    let mut running = rig.up(&unit).unwrap();
    let script = "tty; stty size; ps -o tty= -p $$; trap 'stty size; exit' WINCH; echo ready; \
                  while :; do sleep 0.01; done";
    let size = pty::Size { rows: 33, columns: 99 };
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        terminal: Some(size),
        ..Exec::default()
    };
    let child = {
        let inside = running.sandbox.as_ref().unwrap().pidfd.as_fd();
        let program = Program::Exec(&exec);
        let place = running.place(inside);
        berth::container::process(&rig.host, &running.plan, place, program, &Stdio::default())
    };
    let mut child = child.unwrap();
    super::rig::executed(&mut child.status, &running.plan, &mut running.sockets).unwrap();
    let (kind, master) = running.sockets.pop().unwrap();
    assert_eq!(kind, SocketKind::Terminal);
    berth::sys::fd::set_nonblocking(master.as_fd(), true).unwrap();
    let mut text = String::new();
    let mut read = |until: &str| {
        wait_for(until, || {
            let mut bytes = [0; 512];
            if let Ok(count) = rustix::io::read(&master, &mut bytes) {
                text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
            text.contains(until)
        });
    };
    read("ready");
    pty::set_size(master.as_fd(), pty::Size { rows: 11, columns: 22 }).unwrap();
    read("11 22");
    assert!(text.starts_with("/dev/pts/0\r\n33 99\r\npts/0"), "{text:?}");
    super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
    running.down();
}
