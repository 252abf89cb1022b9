//! Commands around the main one: their order, what their failure means, their time.

use std::fs;
use std::time::{Duration, Instant};

use crate::rig::Rig;

/// What the units wrote into `share/order`.
fn order(rig: &Rig) -> Vec<String> {
    let text = fs::read_to_string(rig.path("share/order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A command that adds a word to `order`.
fn note(word: &str) -> String {
    format!("[\"sh\", \"-c\", \"echo {word} >>/mnt/order\"]")
}

/// A service whose every step leaves its word.
fn noted(more: &str) -> String {
    format!(
        "[service.keep]\ncommand = \"sleep 1000\"\n[service.it]\nmounts = [@SHARE@]\n\
         command = [\"sh\", \"-c\", \"trap 'echo term >>/mnt/order; exit 0' TERM; \
             echo main >>/mnt/order; while :; do sleep 0.01; done\"]\n\
         ready = \"path:/mnt/order\"\nrestart = \"no\"\n{more}\n"
    )
}

#[test]
fn they_run_in_order_within_the_unit() {
    let mut rig = Rig::up(&noted(&format!(
        "start-pre = [{}, {}]\nstart-post = [{}, {}]\nstop-command = {}\nstop-post = [{}, {}]\n\
         hostname = \"inner\"",
        note("pre-1"),
        note("pre-2"),
        // It comes after the command; that has written its word only a little later.
        "[\"sh\", \"-c\", \"until grep -q main /mnt/order; do sleep 0.01; done; echo post-1 >>/mnt/order\"]",
        note("$(cat /proc/sys/kernel/hostname)"),
        note("stop"),
        note("gone-1"),
        note("gone-2"),
    )));
    rig.wait_state("it", "running");
    assert_eq!(order(&rig), ["pre-1", "pre-2", "main", "post-1", "inner"]);
    rig.ctl_ok(&["stop", "it"]);
    assert_eq!(order(&rig)[5..], ["stop", "term", "gone-1", "gone-2"]);
    assert_eq!(rig.verdict("it").0, "success");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_failed_start_pre_ends_the_start_before_the_command() {
    let more = format!(
        "start-pre = [{}, [\"sh\", \"-c\", \"exit 5\"], {}]\nstop-post = [{}]",
        note("pre-1"),
        note("pre-3"),
        note("gone")
    );
    let mut rig = Rig::up(&noted(&more));
    rig.wait_state("it", "failed");
    assert_eq!(rig.verdict("it").1, "start-pre: exit code 5");
    assert_eq!(rig.verdict("it").0, "exit-code");
    assert_eq!(order(&rig), ["pre-1", "gone"]);
    let said = rig.ctl(&["start", "it"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("start-pre: exit code 5"), "{said:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_failed_start_post_takes_the_service_down() {
    let more =
        format!("start-post = [[\"sh\", \"-c\", \"exit 6\"]]\nstop-post = [{}]", note("gone"));
    let mut rig = Rig::up(&noted(&more));
    rig.wait_state("it", "failed");
    assert_eq!(rig.verdict("it").1, "start-post: exit code 6");
    let order = order(&rig);
    assert_eq!(order.last().map(String::as_str), Some("gone"), "{order:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn hooks_of_the_stop_that_hang_or_fail_do_not_hold_it_up() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.hangs]
        command = "sleep 1000"
        stop-command = ["sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"]
        stop-post = [["sleep", "999"]]
        stop-timeout = "200ms"
        [service.fails]
        command = "sleep 1000"
        stop-command = "false"
        stop-post = [["no-such-hook"], ["false"]]
        "#,
    );
    for unit in ["hangs", "fails"] {
        rig.wait_state(unit, "running");
        let begun = Instant::now();
        rig.ctl_ok(&["stop", unit]);
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(rig.state(unit), "inactive");
        assert_eq!(rig.verdict(unit).2["signal"], 15, "{unit}");
    }
    assert_eq!(rig.descendants("sleep").len(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn reload_is_a_signal_or_a_command_and_says_how_it_went() {
    let mut rig = Rig::up(
        r#"
        [service.signal]
        command = ["sh", "-c", "trap 'echo reloaded' USR1; echo up; while :; do sleep 0.01; done"]
        reload-signal = "USR1"
        ready = "log:^up"
        [service.command]
        command = ["sh", "-c", "echo up; exec sleep 1000"]
        mounts = [@SHARE@]
        reload-command = ["sh", "-c", "test -e /mnt/good && echo done"]
        [service.slow]
        command = "sleep 1000"
        start-timeout = "200ms"
        reload-command = "sleep 999"
        [service.none]
        command = "sleep 1000"
        "#,
    );
    for unit in ["signal", "command", "slow", "none"] {
        rig.wait_state(unit, "running");
    }
    rig.ctl_ok(&["reload", "signal"]);
    rig.wait_log("signal", "reloaded");
    let failure = |rig: &Rig, unit: &str| {
        let said = rig.ctl(&["reload", unit]);
        assert_eq!(said.code, 1, "{said:?}");
        assert_eq!(rig.state(unit), "running");
        said.err
    };
    let text = failure(&rig, "command");
    assert!(
        text.starts_with("berthctl: cannot reload command: reload-command: exit code 1"),
        "{text}"
    );
    fs::write(rig.path("share/good"), "").unwrap();
    rig.ctl_ok(&["reload", "command"]);
    rig.wait_log("command", "done");
    let text = failure(&rig, "slow");
    assert!(text.contains("200ms"), "{text}");
    let text = failure(&rig, "none");
    assert!(text.contains("it has no reload-signal or reload-command"), "{text}");
    rig.ctl_ok(&["stop", "none"]);
    assert_eq!(rig.ctl(&["reload", "none"]).code, 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn without_an_init_those_beside_the_command_run_too() {
    let more = format!(
        "init = false\nstart-post = [{}]\nstop-command = {}",
        "[\"sh\", \"-c\", \"until grep -q main /mnt/order; do sleep 0.01; done; echo post >>/mnt/order\"]",
        note("stop"),
    );
    let mut rig = Rig::up(&noted(&more));
    rig.wait_state("it", "running");
    rig.ctl_ok(&["stop", "it"]);
    assert_eq!(order(&rig), ["main", "post", "stop", "term"]);
    assert_eq!(rig.finish(), 0);
}
