//! When a service counts as ready, and who waits for that.
//!
//! Each service becomes ready when the test says so: by a signal to it, or by a file in
//! the directory that it shares with the rig.

use std::fs;

use crate::rig::Rig;

/// Checks that `it` is starting and `user`, which requires it, waits; then lets it go on.
fn becomes_ready(rig: &mut Rig, it: &str, user: &str) {
    rig.wait_state(it, "starting");
    rig.wait_state(user, "waiting");
    rig.wait_for("the program to run", |rig| rig.status(it)["why"] == "not ready yet");
    assert_eq!(rig.status(it)["ready"], false);
    assert_eq!(rig.status(user)["why"], format!("waits for {it}"));
    fs::write(rig.path("share/go"), "").unwrap();
    rig.wait_state(it, "running");
    rig.wait_state(user, "running");
    assert_eq!(rig.status(it)["ready"], true);
    let out = rig.out();
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("no {text:?} in {out}"));
    assert!(at(&format!("{it}: running")) < at(&format!("{user}: preparing")), "{out}");
}

/// A perl program that becomes ready one way, in a unit of its own with a dependent.
fn check(ready: &str, more: &str, program: &str) {
    let mut rig = Rig::up(&format!(
        r#"
        [service.it]
        command = ["perl", "-e", '''@PERL@ select(undef, undef, undef, 0.01) until -e "/mnt/go"; {program}; sleep''']
        ready = "{ready}"
        mounts = [@SHARE@]
        {more}
        [service.user]
        command = "sleep 1000"
        requires = ["it"]
        "#
    ));
    becomes_ready(&mut rig, "it", "user");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn by_executing_is_at_once() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = "sleep 1000"
        [service.user]
        command = "sleep 1000"
        requires = ["it"]
        "#,
    );
    rig.wait_state("user", "running");
    assert!(rig.status("it")["why"].as_str().unwrap().starts_with("ready after"));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn by_notify() {
    check("notify", "", "notify('READY=1')");
}

#[test]
fn by_descriptor() {
    check("fd:3", "", r#"open(my $f, ">&=", 3) or die "no 3: $!"; syswrite($f, "ok\n")"#);
}

#[test]
fn by_a_port_in_the_network_of_its_own() {
    // The port is not there for the rig; only from inside it can be found.
    check("tcp:4711", "", &listen("4711"));
}

#[test]
fn by_a_port_of_the_host() {
    check("tcp:4712", "network = \"host\"", &listen("4712"));
}

fn listen(port: &str) -> String {
    format!(
        "socket(my $l, AF_INET, SOCK_STREAM, 0) or die; \
         setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1); \
         bind($l, sockaddr_in({port}, INADDR_LOOPBACK)) or die; listen($l, 9) or die"
    )
}

#[test]
fn by_a_socket() {
    check(
        "unix:/run/x.sock",
        "",
        r#"socket(my $l, AF_UNIX, SOCK_STREAM, 0) or die;
           bind($l, pack_sockaddr_un("/run/x.sock")) or die; listen($l, 9) or die"#,
    );
}

#[test]
fn by_a_path() {
    check("path:/run/it.pid", "", r#"open(my $f, ">", "/run/it.pid") or die"#);
}

#[test]
fn by_health() {
    let health = "health = { command = [\"test\", \"-e\", \"/run/well\"], interval = \"30ms\" }";
    check("health", health, r#"open(my $f, ">", "/run/well") or die"#);
}

#[test]
fn by_a_line_of_its_log() {
    check(
        "log:listening on [0-9]+$",
        "",
        r#"print "listening on nothing\n"; warn "listening on 80\n""#,
    );
}

#[test]
fn a_line_of_start_pre_counts_once_the_command_runs() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = "sleep 1000"
        start-pre = [["echo", "listening"], ["sh", "-c", "until test -e /mnt/go; do sleep 0.01; done"]]
        ready = "log:^listening$"
        mounts = [@SHARE@]
        "#,
    );
    rig.wait_log("it", "listening");
    assert_eq!(rig.state("it"), "preparing");
    fs::write(rig.path("share/go"), "").unwrap();
    rig.wait_state("it", "running");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn without_a_container_too() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        isolation = "none"
        command = ["perl", "-e", '''@PERL@ select(undef, undef, undef, 0.01) until -e "@DIR@/share/go"; notify("READY=1"); sleep''']
        ready = "notify"
        [service.user]
        command = "sleep 1000"
        requires = ["it"]
        "#,
    );
    becomes_ready(&mut rig, "it", "user");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_never_becomes_ready_has_failed_in_time_and_leaves_nothing() {
    let forms = [
        ("notify", "notify"),
        ("fd", "fd:3"),
        ("tcp", "tcp:9"),
        ("unix", "unix:/run/none"),
        ("path", "path:/run/none"),
        ("log", "log:never"),
        ("health", "health"),
    ];
    let unit = |(name, ready): &(&str, &str)| {
        let health = if *name == "health" { "health = { command = \"false\" }" } else { "" };
        format!(
            "[service.{name}]\ncommand = \"sleep 999\"\nready = \"{ready}\"\n{health}\n\
             start-timeout = \"400ms\"\nrestart = \"no\"\n"
        )
    };
    let units: String = forms.iter().map(unit).collect();
    let units = format!("[service.keep]\ncommand = \"sleep 1000\"\n{units}");
    let mut rig = Rig::up(&units);
    for (name, _) in forms {
        rig.wait_state(name, "failed");
        let (result, why, _) = rig.verdict(name);
        assert_eq!(
            (result.as_str(), why.as_str()),
            ("timeout", "not ready within 400ms"),
            "{name}"
        );
    }
    assert_eq!(rig.descendants("sleep").len(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_requirement_that_fails_and_comes_back_lets_the_dependent_go_on() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.db]
        isolation = "none"
        command = ["sh", "-c", "test -e @DIR@/share/well || exit 9; exec sleep 1000"]
        start-pre = [["test", "-e", "@DIR@/share/well"]]
        restart = "no"
        [service.web]
        command = "sleep 1000"
        requires = ["db"]
        [service.page]
        command = "sleep 1000"
        requires = ["web"]
        "#,
    );
    rig.wait_state("db", "failed");
    rig.wait_state("page", "waiting");
    for unit in ["web", "page"] {
        let (result, why, _) = rig.verdict(unit);
        assert_eq!(result, "dependency", "{unit}: {why}");
        assert!(why.contains("db") && why.contains("exit code 1"), "{unit}: {why}");
    }
    // Waiting for it is refused with the cause, while the wish stays.
    let said = rig.ctl(&["start", "page"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot start page") && said.err.contains("db"), "{said:?}");
    fs::write(rig.path("share/well"), "").unwrap();
    rig.ctl_ok(&["start", "db"]);
    rig.wait_state("web", "running");
    rig.wait_state("page", "running");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn dependents_of_one_that_restarts_wait_until_it_is_ready_again() {
    let mut rig = Rig::up(
        r#"
        [service.db]
        isolation = "none"
        command = ["sh", "-c", "exec sleep 1000"]
        ready = "path:@DIR@/share/ready"
        restart-delay = "1ms"
        [service.web]
        command = "sleep 1000"
        requires = ["db"]
        "#,
    );
    rig.wait_state("db", "starting");
    fs::write(rig.path("share/ready"), "").unwrap();
    rig.wait_state("web", "running");
    let first = rig.main_pid("web");
    fs::remove_file(rig.path("share/ready")).unwrap();
    rig.ctl_ok(&["kill", "-s", "KILL", "db"]);
    rig.wait_for("db to be starting again", |rig| {
        rig.state("db") == "starting" && rig.restarts("db") == 1
    });
    rig.wait_state("web", "waiting");
    fs::write(rig.path("share/ready"), "").unwrap();
    rig.wait_state("web", "running");
    assert_ne!(rig.main_pid("web"), first);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_requirement_that_restarts_by_itself_brings_its_dependents() {
    let mut rig = Rig::up(
        r#"
        [service.db]
        isolation = "none"
        command = ["sh", "-c", "test -e @DIR@/share/well || exit 9; echo up; exec sleep 1000"]
        ready = "log:up"
        restart-delay = "20ms"
        restart-delay-max = "20ms"
        restart-limit = { count = 0 }
        [service.web]
        command = "sleep 1000"
        requires = ["db"]
        [service.page]
        command = "sleep 1000"
        requires = ["web"]
        "#,
    );
    rig.wait_for("some restarts", |rig| rig.restarts("db") >= 3);
    assert_eq!((rig.state("web").as_str(), rig.state("page").as_str()), ("waiting", "waiting"));
    fs::write(rig.path("share/well"), "").unwrap();
    rig.wait_state("page", "running");
    assert!(rig.restarts("db") >= 3);
    assert_eq!((rig.restarts("web"), rig.restarts("page")), (0, 0));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_is_only_wanted_comes_first_and_is_no_obstacle() {
    let mut rig = Rig::up(
        r#"
        [service.good]
        command = ["perl", "-e", '''@PERL@ select(undef, undef, undef, 0.01) until -e "/mnt/go"; notify("READY=1"); sleep''']
        ready = "notify"
        mounts = [@SHARE@]
        [service.bad]
        command = "no-such-program"
        restart = "no"
        [service.never]
        command = "sleep 1000"
        wanted-by = []
        [service.web]
        command = "sleep 1000"
        wants = ["good", "bad"]
        after = ["never"]
        "#,
    );
    rig.wait_state("bad", "failed");
    becomes_ready(&mut rig, "good", "web");
    assert_eq!(rig.state("never"), "inactive");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn by_a_line_that_is_not_kept() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["sh", "-c", "echo listening; exec sleep 1000"]
        ready = "log:^listening$"
        log = { driver = "none" }
        "#,
    );
    rig.wait_state("it", "running");
    assert_eq!(rig.logs("it"), "");
    assert_eq!(rig.finish(), 0);
}
