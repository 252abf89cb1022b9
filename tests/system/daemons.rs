//! What real daemons do to a supervisor, each with a small stand-in that does just that.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{Mode, Rig};

/// Goes into the background as daemons do by default, and says nothing.
const DAEMONISE: &str = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0";

#[test]
fn one_that_daemonises_has_failed_and_the_message_says_what_to_do() {
    let mut rig = Rig::up(&format!(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.inside]
        command = ["sh", "-c", "{DAEMONISE}"]
        restart = "no"
        [service.plain]
        command = ["sh", "-c", "{DAEMONISE}"]
        isolation = "none"
        restart = "no"
        # On-failure is the policy that an exit code 0 alone would never wake.
        [service.again]
        command = ["sh", "-c", "{DAEMONISE}"]
        restart-delay = "1ms"
        restart-limit = {{ count = 2, window = "1min" }}
        [service.notifies]
        command = ["sh", "-c", "{DAEMONISE}"]
        ready = "notify"
        restart = "no"
        wanted-by = []
        # Children that do not outlive it are no reason to complain.
        [service.honest]
        command = ["sh", "-c", "sleep 0.01 & wait; exit 0"]
        "#
    ));
    for unit in ["inside", "plain"] {
        rig.wait_state(unit, "failed");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), exit), ("protocol", json!({"code": 0})), "{unit}");
        assert!(why.contains("background") && why.contains("foreground"), "{why}");
    }
    rig.wait_state("again", "failed");
    let (result, why, _) = rig.verdict("again");
    assert_eq!(result, "start-limit");
    assert!(why.contains("foreground"), "{why}");
    assert_eq!(rig.restarts("again"), 2);
    let said = rig.ctl(&["start", "notifies"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("foreground"), "{said:?}");
    rig.wait_state("honest", "inactive");
    assert_eq!(rig.verdict("honest").0, "success");
    // None of the sleepers is left but the one of `keep`.
    assert_eq!(rig.descendants("sleep").len(), 1, "{}", rig.story());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_ends_with_success_before_it_is_ready_has_failed() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.tcp]
        command = ["sh", "-c", "exit 0"]
        ready = "tcp:9"
        restart = "no"
        [service.notify]
        command = "true"
        ready = "notify"
        restart = "no"
        wanted-by = []
        "#,
    );
    rig.wait_state("tcp", "failed");
    let (result, why, exit) = rig.verdict("tcp");
    assert_eq!((result.as_str(), exit), ("protocol", json!({"code": 0})));
    assert!(why.contains("before it was ready"), "{why}");
    let said = rig.ctl(&["start", "notify"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("before it was ready"), "{said:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_ignores_terminate_as_process_one_is_killed_when_its_time_is_over() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.bare]
        command = "sleep 1000"
        init = false
        stop-timeout = "300ms"
        [service.held]
        command = "sleep 1000"
        stop-timeout = "20s"
        "#,
    );
    for (unit, first) in [("bare", "sleep"), ("held", "berth-init")] {
        rig.wait_state(unit, "running");
        let comm = rig.ctl_ok(&["exec", unit, "--", "cat", "/proc/1/comm"]);
        assert_eq!(comm.trim() == "sleep", first == "sleep", "{unit}: {comm}");
    }
    let begun = Instant::now();
    rig.ctl_ok(&["stop", "bare"]);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let (result, _, exit) = rig.verdict("bare");
    assert_eq!((result.as_str(), exit), ("timeout", json!({"signal": 9})));
    let begun = Instant::now();
    rig.ctl_ok(&["stop", "held"]);
    assert!(begun.elapsed() < Duration::from_secs(15));
    let (result, _, exit) = rig.verdict("held");
    assert_eq!((result.as_str(), exit), ("success", json!({"signal": 15})));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_is_alive_but_dead_is_found_by_a_check_that_wants_an_answer() {
    // The port is open, connections are taken by the kernel, nobody ever answers.
    let mut rig = Rig::up(
        r#"
        [service.blind]
        command = ["perl", "-e", '''@PERL@
            socket(my $l, AF_INET, SOCK_STREAM, 0) or die; bind($l, sockaddr_in(8080, INADDR_ANY)) or die;
            listen($l, 128) or die; sleep''']
        ready = "tcp:8080"
        health = { tcp = 8080, interval = "50ms", timeout = "2s", retries = 2 }
        [service.seeing]
        command = ["perl", "-e", '''@PERL@
            socket(my $l, AF_INET, SOCK_STREAM, 0) or die; bind($l, sockaddr_in(8080, INADDR_ANY)) or die;
            listen($l, 128) or die; sleep''']
        ready = "tcp:8080"
        restart-delay = "1ms"
        restart-limit = { count = 0 }
        health = { http = "http://:8080/healthz", interval = "50ms", timeout = "200ms", retries = 2 }
        "#,
    );
    rig.wait_for("two restarts of the one that is checked well", |rig| rig.restarts("seeing") >= 2);
    rig.wait_for("the other to be healthy", |rig| rig.status("blind")["health"] == "healthy");
    assert_eq!(rig.restarts("blind"), 0);
    let notices = rig.notices("seeing");
    let unhealthy = notices.iter().filter(|text| text.contains("unhealthy: 2 checks failed"));
    assert!(unhealthy.count() >= 2, "{notices:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn standard_streams_can_be_opened_again_by_another_user() {
    let script = "id -un; echo again >/dev/stdout; echo trouble >/dev/stderr; exec sleep 1000";
    let mut rig = Rig::up(&format!(
        r#"
        [service.inside]
        command = ["sh", "-ec", "{script}"]
        user = "nobody"
        [service.plain]
        command = ["sh", "-ec", "{script}"]
        user = "nobody"
        isolation = "none"
        "#
    ));
    for unit in ["inside", "plain"] {
        rig.wait_log(unit, "trouble");
        assert_eq!(rig.stream(unit, "stdout"), ["nobody", "again"], "{unit}");
        assert_eq!(rig.stream(unit, "stderr"), ["trouble"], "{unit}");
        assert_eq!(rig.state(unit), "running");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn another_main_process_is_followed_by_its_number_inside() {
    // The parent forks twice, names the grandchild by the number it sees, and goes.
    let program = r#"
        pipe(my $r, my $w);
        if (fork == 0) {
            if (fork == 0) {
                $SIG{USR1} = sub { exit 7 };
                syswrite($w, pack("l", $$)); close $w; sleep 1 while 1;
            }
            exit 0;
        }
        wait; sysread($r, my $p, 4); my $n = unpack("l", $p);
        print "named $n\n"; notify("READY=1", "MAINPID=$n"); exit 0"#;
    let mut rig = Rig::up(&format!(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.inside]
        command = ["perl", "-e", '''@PERL@ {program}''']
        ready = "notify"
        restart = "no"
        [service.plain]
        command = ["perl", "-e", '''@PERL@ {program}''']
        ready = "notify"
        restart = "no"
        isolation = "none"
        "#
    ));
    for unit in ["inside", "plain"] {
        rig.wait_state(unit, "running");
        rig.wait_log(unit, "named");
        let named = rig.logs(unit);
        let named: i64 = named.trim().trim_start_matches("named ").parse().unwrap();
        let main = rig.main_pid(unit);
        if unit == "inside" {
            assert!(named < 20 && named != main, "numbers inside are small: {named}, {main}");
        } else {
            assert_eq!(named, main);
        }
        rig.ctl_ok(&["kill", "-s", "USR1", unit]);
        rig.wait_state(unit, "failed");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), exit), ("exit-code", json!({"code": 7})), "{unit}: {why}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn main_pid_one_of_a_service_that_is_process_one_is_itself() {
    let mut rig = Rig::up(
        r#"
        [service.fpm]
        command = ["perl", "-e", '''@PERL@ notify("READY=1", "STATUS=pid $$", "MAINPID=$$"); sleep''']
        ready = "notify"
        init = false
        stop-timeout = "100ms"
        [service.liar]
        command = ["perl", "-e", '''@PERL@ notify("READY=1", "MAINPID=4000000"); sleep''']
        ready = "notify"
        "#,
    );
    rig.wait_state("fpm", "running");
    assert_eq!(rig.status("fpm")["status_text"], "pid 1");
    rig.wait_state("liar", "running");
    rig.wait_for("the complaint", |rig| rig.out().contains("4000000"));
    assert!(!rig.notices("fpm").iter().any(|text| text.contains("main process")));
    let said = rig.notices("liar").join("\n");
    assert!(said.contains("named 4000000 as main process, which is not its own"), "{said}");
    // The one that was started is still the one that counts.
    rig.ctl_ok(&["kill", "-s", "KILL", "fpm"]);
    rig.wait_for("its restart", |rig| rig.restarts("fpm") == 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_only_speaks_to_the_system_log_is_heard() {
    let mut rig = Rig::up(
        r#"
        [service.cron]
        command = ["perl", "-e", '''@PERL@
            socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; connect($s, pack_sockaddr_un("/dev/log")) or die "no /dev/log: $!";
            send($s, "<30>Jan  1 00:00:00 cron[7]: (root) CMD (true)", 0); close $s;
            print "sent\n"; sleep''']
        user = "nobody"
        "#,
    );
    rig.wait_log("cron", "sent");
    rig.wait_log("cron", "(root) CMD (true)");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_unit_says_which_ends_are_success() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.ftp]
        command = ["sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.01; done"]
        success-exit-status = [143]
        [service.hit]
        command = ["sh", "-c", "kill -USR2 $$"]
        success-exit-status = ["USR2"]
        [service.other]
        command = ["sh", "-c", "exit 142"]
        success-exit-status = [143, "TERM"]
        restart = "no"
        "#,
    );
    rig.wait_state("hit", "inactive");
    assert_eq!(rig.verdict("hit").0, "success");
    assert_eq!(rig.restarts("hit"), 0);
    rig.wait_state("other", "failed");
    assert_eq!(rig.verdict("other").0, "exit-code");
    rig.wait_state("ftp", "running");
    rig.ctl_ok(&["kill", "ftp"]);
    rig.wait_state("ftp", "inactive");
    let (result, _, exit) = rig.verdict("ftp");
    assert_eq!((result.as_str(), exit), ("success", json!({"code": 143})));
    assert_eq!(rig.restarts("ftp"), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn streams_may_be_closed_and_descriptor_zero_written_to() {
    let mut rig = Rig::up(
        r#"
        [service.closes]
        command = ["sh", "-c", "exec >&- 2>&-; exec sleep 1000"]
        [service.vsftpd]
        command = ["sh", "-c", "echo 500 OOPS >&0 && echo survived; exec sleep 1000"]
        [service.plain]
        command = ["sh", "-c", "echo 500 OOPS >&0 && echo survived; exec sleep 1000"]
        isolation = "none"
        "#,
    );
    for unit in ["vsftpd", "plain"] {
        rig.wait_log(unit, "survived");
        assert_eq!(rig.state(unit), "running");
    }
    // Both pipes have ended; the service has not.
    rig.wait_state("closes", "running");
    let main = rig.host_pid(rig.main_pid("closes"));
    rig.wait_for("both to be closed", |_| {
        ["0", "1", "2"].map(|fd| Path::new(&format!("/proc/{main}/fd/{fd}")).is_symlink())
            == [true, false, false]
    });
    assert_eq!(rig.state("closes"), "running");
    rig.ctl_ok(&["stop", "closes"]);
    assert_eq!(rig.verdict("closes").0, "success");
    assert_eq!(rig.restarts("closes"), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_end_of_a_main_process_counts_also_if_its_parent_lives_on_and_never_looks() {
    let program = r#"
        my $n = fork;
        if ($n == 0) { $SIG{USR1} = sub { exit 7 }; sleep 1 while 1 }
        notify("READY=1", "MAINPID=$n"); sleep 1 while 1"#;
    let mut rig = Rig::up(&format!(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.inside]
        command = ["perl", "-e", '''@PERL@ {program}''']
        ready = "notify"
        restart = "no"
        [service.plain]
        command = ["perl", "-e", '''@PERL@ {program}''']
        ready = "notify"
        restart = "no"
        isolation = "none"
        [service.reaped]
        command = ["perl", "-e", '''@PERL@ $SIG{{CHLD}} = "IGNORE"; {program}''']
        ready = "notify"
        restart = "no"
        "#
    ));
    for unit in ["inside", "plain", "reaped"] {
        rig.wait_state(unit, "running");
        rig.wait_for("the other main process", |rig| {
            rig.notices(unit).iter().any(|text| text.starts_with("main process is now"))
        });
        rig.ctl_ok(&["kill", "-s", "USR1", unit]);
        rig.wait_state(unit, "failed");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), exit), ("exit-code", json!({"code": 7})), "{unit}: {why}");
    }
    assert_eq!(rig.descendants("perl").len(), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn signals_reach_one_that_has_changed_its_user() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.it]
        command = ["perl", "-e", '''@PERL@ $) = $( = 65534; $> = $< = 65534; die if $< != 65534;
            $SIG{TERM} = sub { print "bye from $<\n"; exit 0 }; notify("READY=1"); sleep 1 while 1''']
        ready = "notify"
        "#,
    );
    rig.wait_state("it", "running");
    rig.ctl_ok(&["stop", "it"]);
    assert_eq!(rig.verdict("it").2, json!({"code": 0}));
    rig.wait_log("it", "bye from 65534");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn nothing_of_the_supervisor_is_inherited() {
    let script = "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
        echo \\\"$NOTIFY_SOCKET$RUST_BACKTRACE$SECRET_OF_BERTH\\\"; echo over";
    let mut rig = Rig::prepare(&format!(
        r#"
        [service.inside]
        type = "oneshot"
        command = ["sh", "-c", "{script}"]
        [service.plain]
        type = "oneshot"
        isolation = "none"
        command = ["sh", "-c", "{script}"]
        [service.keep]
        command = "sleep 1000"
        "#
    ));
    rig.launch(Mode::Up, &[]);
    rig.wait_for("the control socket", |rig| rig.ctl(&["list"]).code == 0);
    for unit in ["inside", "plain"] {
        rig.wait_state(unit, "done");
        rig.wait_log(unit, "over");
        let logs = rig.logs(unit);
        // The fourth is the directory that ls reads.
        assert!(logs.contains("0 1 2 3 SigBlk:\t0000000000000000\n"), "{unit}: {logs}");
        assert!(logs.contains("SigIgn:\t0000000000000000\n\nover"), "{unit}: {logs}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn when_its_process_one_is_killed_the_service_is_restarted() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = "sleep 1000"
        restart-delay = "1ms"
        # There is no world left to run it in.
        stop-post = [["true"]]
        "#,
    );
    rig.wait_state("it", "running");
    let inits = rig.descendants("berth-init");
    assert_eq!(inits.len(), 1, "{inits:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inits[0]), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    rig.wait_for("its restart", |rig| rig.restarts("it") == 1 && rig.state("it") == "running");
    assert_eq!(rig.verdict("it").2, json!({"signal": 9}));
    assert_eq!(rig.descendants("berth-init").len(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_others_run_inside_is_not_left_behind_by_the_service() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.checked]
        command = ["sh", "-c", "trap 'exit 0' USR1; echo up; while :; do sleep 0.01; done"]
        ready = "log:up"
        health = { command = ["sh", "-c", "echo checking >&2; sleep 555; true"], interval = "10ms", timeout = "1min" }
        [service.visited]
        command = ["perl", "-e", '''@PERL@ $SIG{USR1} = sub { exit 0 }; print "up\n"; sleep 1 while 1''']
        ready = "log:up"
        "#,
    );
    rig.wait_state("visited", "running");
    let mut visit = rig.ctl_command(&["exec", "visited", "--", "sh", "-c", "sleep 556; true"]);
    let mut visit = visit.spawn().unwrap();
    for (unit, child) in [("checked", "sleep\x00555"), ("visited", "sleep\x00556")] {
        rig.wait_for("the child of the other", |rig| rig.commands(child) == 1);
        rig.ctl_ok(&["kill", "-s", "USR1", unit]);
        rig.wait_state(unit, "inactive");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), exit), ("success", json!({"code": 0})), "{unit}: {why}");
        assert_eq!(rig.commands(child), 0);
    }
    assert_eq!(visit.wait().unwrap().code(), Some(137));
    assert_eq!(rig.finish(), 0);
}
