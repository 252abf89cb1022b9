//! Health checks: they run inside, time out, never pile up, and end what is unhealthy.

use std::fs;

use crate::rig::Rig;

#[test]
fn they_run_inside_the_unit() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["sh", "-c", "echo $$ >/run/mine; exec sleep 1000"]
        hostname = "within"
        user = "root"
        health = { command = ["sh", "-c", "test -e /run/mine && test $(cat /proc/sys/kernel/hostname) = within"], interval = "50ms" }
        [service.not]
        command = "sleep 1000"
        health = { command = ["test", "-e", "/run/mine"], interval = "50ms", retries = 2, on-failure = "none" }
        "#,
    );
    rig.wait_for("a good verdict", |rig| rig.status("it")["health"] == "healthy");
    rig.wait_for("a bad one", |rig| rig.status("not")["health"] == "unhealthy");
    assert_eq!((rig.state("not").as_str(), rig.restarts("not")), ("running", 0));
    // It is said once, not after each check.
    let runs =
        |rig: &Rig| rig.notices("not").iter().filter(|text| text.contains("unhealthy")).count();
    let since = std::time::Instant::now();
    rig.wait_for("several more checks", |_| since.elapsed().as_millis() > 400);
    assert_eq!(runs(&rig), 1, "{}", rig.out());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_hangs_is_killed_and_they_never_pile_up() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        isolation = "none"
        command = "sleep 1000"
        # Ignores whatever it can, and leaves a mark.
        health = { command = ["sh", "-c", "trap '' TERM INT HUP; echo begun >>@DIR@/share/checks; while :; do sleep 777; done"], interval = "20ms", timeout = "100ms", retries = 1000 }
        "#,
    );
    let begun = |rig: &Rig| {
        fs::read_to_string(rig.path("share/checks")).unwrap_or_default().lines().count()
    };
    let mut seen = 0;
    while seen < 8 {
        rig.wait_for("another check", |rig| begun(rig) > seen);
        seen = begun(&rig);
        // A shell that is about to execute another program shows twice for a moment.
        let hanging = rig.commands("trap '' TERM INT HUP; echo begun");
        assert!(hanging <= 2, "{hanging} checks at once");
    }
    // What a check has started went with it: left are the service and the latest check's.
    rig.wait_for("the others to be gone", |rig| rig.descendants("sleep").len() <= 2);
    assert_eq!(rig.restarts("it"), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn an_unhealthy_service_is_restarted_after_its_start_period() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["sh", "-c", "echo begun; exec sleep 1000"]
        restart-delay = "1ms"
        mounts = [@SHARE@]
        health = { command = ["test", "!", "-e", "/mnt/ill"], interval = "30ms", retries = 3 }
        [service.young]
        command = "sleep 1000"
        health = { command = "false", interval = "30ms", retries = 1, start-period = "5min" }
        [service.dead]
        command = "sleep 1000"
        restart = "no"
        health = { tcp = 4000, interval = "30ms", timeout = "1s", retries = 2 }
        "#,
    );
    rig.wait_for("it to be healthy", |rig| rig.status("it")["health"] == "healthy");
    let first = rig.main_pid("it");
    fs::write(rig.path("share/ill"), "").unwrap();
    rig.wait_for("its restart", |rig| rig.restarts("it") >= 1);
    fs::remove_file(rig.path("share/ill")).unwrap();
    rig.wait_for("it to be healthy again", |rig| rig.status("it")["health"] == "healthy");
    assert_ne!(rig.main_pid("it"), first);
    let why = rig.notices("it").join("\n");
    assert!(why.contains("unhealthy: 3 checks failed, last: exit code 1"), "{why}");
    rig.wait_state("dead", "failed");
    let (result, why, _) = rig.verdict("dead");
    assert_eq!(result, "unhealthy");
    assert!(why.starts_with("unhealthy: 2 checks failed"), "{why}");
    assert_eq!(rig.restarts("young"), 0);
    assert_eq!(rig.status("young")["health"], "starting");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_check_that_cannot_be_run_is_no_verdict_to_wait_for() {
    let rig = Rig::up(
        r#"
        [service.told]
        command = "sleep 1000"
        health = { command = ["no-such-check"], interval = "50ms", retries = 5, start-period = "1h", on-failure = "none" }
        [service.ended]
        command = "sleep 1000"
        isolation = "none"
        health = { command = ["/no/such/check"], interval = "100ms", retries = 1000 }
        restart = "no"
        [service.never]
        command = "sleep 1000"
        isolation = "none"
        ready = "health"
        health = { command = ["no-such-check"], interval = "1h" }
        restart = "no"
        start-timeout = "1h"
        "#,
    );
    rig.wait_state("ended", "failed");
    rig.wait_state("never", "failed");
    for unit in ["ended", "never"] {
        let status = rig.status(unit);
        let why = status["why"].as_str().unwrap();
        assert!(why.starts_with("its health check cannot be run: "), "{status}");
        assert!(why.contains("no-such-check") || why.contains("/no/such/check"), "{status}");
        assert_eq!(status["result"], "unhealthy");
    }
    // Told, and left alone.
    rig.wait_for("the verdict", |rig| rig.status("told")["health"] == "unhealthy");
    assert_eq!((rig.state("told").as_str(), rig.restarts("told")), ("running", 0));
    assert!(rig.notices("told").iter().any(|text| text.contains("cannot be run")));
}
