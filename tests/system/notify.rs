//! `sd_notify(3)`: every assignment, and who may send.

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::rig::{Mode, Rig};

/// Sends each line that the test writes to `share/say-N` (N counts from 1) as one message.
const SPEAKER: &str = r#"my $n = 1; $SIG{HUP} = sub { notify("RELOADING=1"); print "hup\n" };
    $SIG{TERM} = sub { notify("STOPPING=1", "STATUS=going"); $main::down = 1 };
    while (1) {
        if (open(my $f, "<", "@SAY@/say-$n")) { my @l = <$f>; chomp @l; notify(@l); unlink "@SAY@/say-$n"; $n++ }
        exit 0 if -e "@SAY@/end";
        select(undef, undef, undef, 0.005) }"#;

/// Says something through the service, and waits until it has been sent.
fn say(rig: &Rig, number: u32, text: &str) {
    let path = rig.path(&format!("share/say-{number}"));
    let draft = rig.path("share/draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, &path).unwrap();
    rig.wait_for("it to be sent", |_| !path.exists());
}

fn speaker(more: &str) -> Rig {
    let speaker = SPEAKER.replace("@SAY@", "/mnt");
    Rig::up(&format!(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.it]
        command = ["perl", "-e", '''@PERL@ {speaker}''']
        ready = "notify"
        mounts = [@SHARE@]
        {more}
        "#
    ))
}

#[test]
fn status_ready_reloading_stopping() {
    let mut rig = speaker("reload-signal = \"HUP\"");
    rig.wait_state("it", "starting");
    say(&rig, 1, "STATUS=loading 40%\nX_OTHER=1");
    rig.wait_for("its status", |rig| rig.status("it")["status_text"] == "loading 40%");
    assert_eq!(rig.state("it"), "starting");
    say(&rig, 2, "READY=1\nSTATUS=serving");
    rig.wait_state("it", "running");
    assert_eq!(rig.status("it")["status_text"], "serving");
    rig.ctl_ok(&["reload", "it"]);
    rig.wait_log("it", "hup");
    rig.wait_for("it to be reloading", |rig| rig.status("it")["why"] == "reloading");
    say(&rig, 3, "READY=1");
    rig.wait_for("the reload to end", |rig| {
        rig.status("it")["why"].as_str().unwrap().starts_with("ready after")
    });
    // A first TERM only announces; the end comes when the file says so.
    let stopping = std::thread::scope(|scope| {
        let stop = scope.spawn(|| rig.ctl(&["stop", "it"]));
        rig.wait_for("its last words", |rig| {
            rig.state("it") == "stopping" && rig.status("it")["status_text"] == "going"
        });
        fs::write(rig.path("share/end"), "").unwrap();
        stop.join().unwrap()
    });
    assert_eq!(stopping.code, 0, "{stopping:?}");
    assert_eq!(rig.verdict("it").0, "success");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn more_time_can_be_asked_for_in_the_start_and_in_the_stop() {
    let more = "start-timeout = \"600ms\"\nstop-timeout = \"300ms\"\nrestart = \"no\"";
    let mut rig = speaker(more);
    say(&rig, 1, "EXTEND_TIMEOUT_USEC=20000000");
    // Longer than the timeout: nothing may happen, which only time can tell.
    let since = std::time::Instant::now();
    rig.wait_for("the timeout to be over", |_| since.elapsed().as_millis() > 800);
    assert_eq!(rig.state("it"), "starting");
    say(&rig, 2, "READY=1");
    rig.wait_state("it", "running");
    let said = std::thread::scope(|scope| {
        let stop = scope.spawn(|| rig.ctl(&["stop", "it"]));
        rig.wait_state("it", "stopping");
        say(&rig, 3, "EXTEND_TIMEOUT_USEC=20000000");
        let since = std::time::Instant::now();
        rig.wait_for("the timeout to be over", |_| since.elapsed().as_millis() > 500);
        assert_eq!(rig.state("it"), "stopping");
        fs::write(rig.path("share/end"), "").unwrap();
        stop.join().unwrap()
    });
    assert_eq!(said.code, 0);
    assert_eq!(rig.verdict("it").0, "success");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_watchdog_barks_at_silence_and_on_demand() {
    let mut rig = Rig::up(
        r#"
        [service.lively]
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); print "every $ENV{WATCHDOG_USEC}\n";
            while (1) { notify("WATCHDOG=1"); select(undef, undef, undef, 0.05) }''']
        ready = "notify"
        watchdog = "2s"
        [service.silent]
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); sleep''']
        ready = "notify"
        watchdog = "150ms"
        restart = "no"
        [service.desperate]
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); notify("WATCHDOG=trigger"); sleep''']
        ready = "notify"
        watchdog = "1min"
        restart = "no"
        "#,
    );
    rig.wait_log("lively", "every 2000000");
    for (unit, why) in [("silent", "no sign of life for 150ms"), ("desperate", "triggered")] {
        rig.wait_state(unit, "failed");
        let (result, text, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), &exit["signal"]), ("watchdog", &6.into()), "{unit}: {text}");
        assert!(text.contains(why), "{text}");
    }
    let since = std::time::Instant::now();
    rig.wait_for("more than the watchdog's time", |_| since.elapsed().as_millis() > 2200);
    assert_eq!((rig.state("lively").as_str(), rig.restarts("lively")), ("running", 0));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_stranger_is_not_believed() {
    let mut rig = Rig::up(
        r#"
        [service.plain]
        isolation = "none"
        command = "sleep 1000"
        ready = "notify"
        # Another unit, which can reach the socket of the first.
        [service.rogue]
        isolation = "none"
        command = ["perl", "-e", '''@PERL@ $ENV{NOTIFY_SOCKET} = "@DIR@/run/notify/plain"; notify("READY=1", "STATUS=mine"); sleep''']
        [service.inside]
        command = ["sh", "-c", "echo $NOTIFY_SOCKET; exec sleep 1000"]
        ready = "notify"
        "#,
    );
    let refused = |rig: &Rig, unit: &str| {
        rig.notices(unit).iter().filter(|text| text.contains("which is not its own")).count()
    };
    rig.wait_for("the rogue to be refused", |rig| refused(rig, "plain") == 1);
    // And one from outside of everything.
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", rig.path("run/notify/plain")).unwrap();
    rig.wait_for("this process to be refused", |rig| refused(rig, "plain") == 2);
    rig.wait_log("inside", "/dev/berth-notify");
    let main = rig.host_pid(rig.main_pid("inside"));
    socket.send_to(b"READY=1", format!("/proc/{main}/root/dev/berth-notify")).unwrap();
    rig.wait_for("this process to be refused inside", |rig| refused(rig, "inside") == 1);
    for unit in ["plain", "inside"] {
        assert_eq!(
            (rig.state(unit).as_str(), rig.status(unit)["status_text"].as_str()),
            ("starting", Some(""))
        );
    }
    // What the unit itself runs is believed: here by a command that joins it.
    let say = "use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0); \
        send($s, 'READY=1', 0, pack_sockaddr_un('/dev/berth-notify')) or die $!; sleep 1";
    rig.ctl_ok(&["exec", "inside", "--", "perl", "-e", say]);
    rig.wait_state("inside", "running");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        # Says that it is ready when it is told to end, and goes on.
        [service.late]
        command = ["perl", "-e", '''@PERL@ $SIG{TERM} = sub { notify("READY=1", "STATUS=late") };
            print "up\n"; sleep 1 while 1''']
        ready = "notify"
        start-timeout = "700ms"
        stop-timeout = "300ms"
        restart = "no"
        [service.user]
        command = "sleep 1000"
        requires = ["late"]
        "#,
    );
    rig.wait_state("late", "failed");
    let (result, why, exit) = rig.verdict("late");
    assert_eq!((result.as_str(), why.as_str()), ("timeout", "not ready within 700ms"));
    assert_eq!(exit["signal"], 9);
    let notices = rig.notices("late");
    assert!(!notices.iter().any(|text| text.starts_with("running")), "{notices:?}");
    assert_eq!(rig.state("user"), "waiting");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn nothing_is_expected_of_what_is_frozen() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["perl", "-e", '''@PERL@ notify("READY=1");
            while (1) { notify("WATCHDOG=1"); select(undef, undef, undef, 0.02) }''']
        ready = "notify"
        watchdog = "1500ms"
        health = { command = "true", interval = "20ms", timeout = "1500ms", retries = 1 }
        "#,
    );
    rig.wait_for("it to be healthy", |rig| rig.status("it")["health"] == "healthy");
    rig.ctl_ok(&["freeze", "it"]);
    let since = std::time::Instant::now();
    rig.wait_for("more than its watchdog allows", |_| since.elapsed().as_millis() > 2000);
    assert_eq!(rig.state("it"), "frozen");
    rig.ctl_ok(&["thaw", "it"]);
    rig.wait_state("it", "running");
    let since = std::time::Instant::now();
    rig.wait_for("its watchdog to be over once more", |_| since.elapsed().as_millis() > 1700);
    assert_eq!((rig.state("it").as_str(), rig.restarts("it")), ("running", 0));
    assert_eq!(rig.finish(), 0);
}

/// Sends one message with a descriptor of a pipe and waits until the other side has closed
/// it: `sd_notify_barrier(3)`.
const BARRIER: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void barrier(const char *text) {
    int ends[2], s = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
    if (s < 0 || pipe(ends)) exit(1);
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct iovec part = { (void *)text, strlen(text) };
    struct msghdr message = { .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part,
        .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &ends[1], sizeof(int));
    if (sendmsg(s, &message, 0) < 0) exit(2);
    close(ends[1]);
    struct pollfd wait = { .fd = ends[0], .events = 0 };
    if (poll(&wait, 1, 20000) != 1) exit(3);
    close(ends[0]);
    close(s);
}

int main(void) {
    for (int i = 0; i < 100; i++) barrier(i % 2 ? "BARRIER=1" : "FDSTORE=1\nFDNAME=x");
    barrier("READY=1");
    pause();
}
"#;

#[test]
fn descriptors_that_come_along_are_closed() {
    let mut rig = Rig::prepare(
        r#"
        [service.inside]
        command = "/mnt/barrier"
        ready = "notify"
        mounts = [@SHARE@]
        restart = "no"
        [service.plain]
        isolation = "none"
        command = "@DIR@/share/barrier"
        ready = "notify"
        restart = "no"
        "#,
    );
    let source = rig.path("barrier.c");
    fs::write(&source, BARRIER).unwrap();
    let program = rig.path("share/barrier");
    let compiled = std::process::Command::new("cc").arg("-o").args([program, source]).status();
    assert!(compiled.unwrap().success());
    rig.launch(Mode::Up, &[]);
    rig.wait_for("the control socket", |rig| rig.ctl(&["list"]).code == 0);
    for unit in ["inside", "plain"] {
        rig.wait_state(unit, "running");
    }
    let berth = rig.berth_pid();
    let held = fs::read_dir(format!("/proc/{berth}/fd")).unwrap().flatten();
    let held = held.filter_map(|entry| fs::read_link(entry.path()).ok());
    let pipes = held.filter(|target| target.to_string_lossy().starts_with("pipe:")).count();
    assert!((1..30).contains(&pipes), "{pipes} pipes");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_speaks_without_end_holds_up_nobody() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.flood]
        command = ["perl", "-e", '''@PERL@ $SIG{TERM} = "IGNORE"; my $i = 0; notify("READY=1");
            socket(my $s, AF_UNIX, SOCK_DGRAM, 0); my $to = pack_sockaddr_un($ENV{NOTIFY_SOCKET});
            while (1) { $i++; send($s, "STATUS=$i" . ("x" x 5000) . "\nREADY=1", 0, $to) }''']
        ready = "notify"
        stop-timeout = "200ms"
        "#,
    );
    rig.wait_state("flood", "running");
    let status = |rig: &Rig| rig.status("flood")["status_text"].as_str().unwrap().to_owned();
    rig.wait_for("its status", |rig| status(rig).len() == 256);
    let first = status(&rig);
    rig.wait_for("its next status", |rig| status(rig) != first);
    rig.ctl_ok(&["restart", "keep"]);
    rig.ctl_ok(&["stop", "flood"]);
    assert_eq!(rig.verdict("flood").2["signal"], 9);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_reload_ends_also_where_readiness_is_shown_otherwise() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["perl", "-e", '''@PERL@ $SIG{HUP} = sub { notify("RELOADING=1"); print "reloading\n" };
            $SIG{USR1} = sub { notify("READY=1") }; print "up\n"; sleep 1 while 1''']
        ready = "log:up"
        reload-signal = "HUP"
        watchdog = "1min"
        "#,
    );
    rig.wait_state("it", "running");
    rig.ctl_ok(&["reload", "it"]);
    rig.wait_for("it to be reloading", |rig| rig.status("it")["why"] == "reloading");
    rig.ctl_ok(&["kill", "-s", "USR1", "it"]);
    rig.wait_for("its end", |rig| rig.status("it")["why"].as_str().unwrap().starts_with("ready"));
    assert_eq!(rig.finish(), 0);
}
