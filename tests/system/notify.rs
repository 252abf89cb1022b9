//! `sd_notify(3)`: every assignment, and who may send.

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::rig::Rig;

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
        watchdog = "500ms"
        health = { command = "true", interval = "20ms", timeout = "200ms", retries = 1 }
        "#,
    );
    rig.wait_for("it to be healthy", |rig| rig.status("it")["health"] == "healthy");
    rig.ctl_ok(&["freeze", "it"]);
    let since = std::time::Instant::now();
    rig.wait_for("more than its watchdog allows", |_| since.elapsed().as_millis() > 1200);
    assert_eq!(rig.state("it"), "frozen");
    rig.ctl_ok(&["thaw", "it"]);
    rig.wait_state("it", "running");
    let since = std::time::Instant::now();
    rig.wait_for("its watchdog to be over once more", |_| since.elapsed().as_millis() > 700);
    assert_eq!((rig.state("it").as_str(), rig.restarts("it")), ("running", 0));
    assert_eq!(rig.finish(), 0);
}
