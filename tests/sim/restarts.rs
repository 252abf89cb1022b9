//! Examples: restarts, health, watchdog, reload, freeze.

use std::time::Duration;

use crate::story::{FAILED, OK, Story, command, seconds, service};
use crate::supervisor::event::{Fact, Notify};
use crate::supervisor::view::HealthName;
use crate::supervisor::view::StateName::{
    Backoff, Failed, Frozen, Inactive, Preparing, Running, Starting, Stopping,
};
use crate::supervisor::{Exit, Hook};
use crate::unit::model::{ExitMatch, Ready, RestartPolicy};

/// The state a running service is in once it has ended so.
fn after(policy: RestartPolicy, exit: Exit) -> crate::supervisor::view::StateName {
    let mut it = Story::of([service("web").restart(|it| it.policy = policy)]);
    it.start("web");
    it.comes_up("web");
    it.exits("web", exit);
    it.cleaned("web");
    it.state("web")
}

#[test]
fn the_four_policies() {
    let success = Exit::Code(0);
    let failure = Exit::Code(1);
    assert_eq!(after(RestartPolicy::No, success), Inactive);
    assert_eq!(after(RestartPolicy::No, failure), Failed);
    assert_eq!(after(RestartPolicy::OnFailure, success), Inactive);
    assert_eq!(after(RestartPolicy::OnFailure, failure), Backoff);
    assert_eq!(after(RestartPolicy::OnFailure, Exit::Unknown), Backoff);
    assert_eq!(after(RestartPolicy::Always, success), Backoff);
    assert_eq!(after(RestartPolicy::Always, failure), Backoff);
    assert_eq!(after(RestartPolicy::UnlessStopped, success), Backoff);
}

#[test]
fn success_exit_status_is_success() {
    let mut it = Story::of([service("java").with(|it| {
        it.success_exit_status = vec![ExitMatch::Code(143), ExitMatch::Signal(1)];
    })]);
    for exit in [Exit::Code(143), Exit::Signal(1)] {
        it.start("java");
        it.comes_up("java");
        it.exits("java", exit);
        it.cleaned("java");
        it.states(&[("java", Inactive)]);
    }
}

#[test]
fn without_a_delay_the_restart_is_immediate() {
    let mut it = Story::of([service("web").restart(|it| it.delay = Duration::ZERO)]);
    it.start("web");
    it.comes_up("web");
    it.exits("web", Exit::Signal(9));
    it.orders(&["prepare web", "run web", "clean web"]);
    it.cleaned("web");
    it.orders(&["prepare web"]);
    assert_eq!(it.view("web").restarts, 1);
}

#[test]
fn the_delay_doubles_with_jitter_up_to_its_cap() {
    let mut it = Story::of([service("web").restart(|it| {
        it.delay = Duration::from_millis(100);
        it.delay_max = Duration::from_millis(500);
        it.limit_count = 0;
    })]);
    it.start("web");
    for expected in [100.0, 200.0, 400.0, 500.0, 500.0] {
        it.comes_up("web");
        it.dies("web", 1);
        let until = it.machine().deadline().unwrap();
        let delay = until.0.saturating_sub(it.now.0).as_secs_f64() * 1_000.0;
        assert!(delay >= expected * 0.79 && delay <= (expected * 1.21_f64).min(500.0), "{delay}");
        it.wait(seconds(1));
        it.states(&[("web", Preparing)]);
    }
}

#[test]
fn a_good_run_forgets_the_attempts_before_it() {
    let mut it = Story::of([service("web").restart(|it| it.limit_count = 2)]);
    it.start("web");
    for _ in 0..10 {
        it.comes_up("web");
        it.wait(seconds(11));
        it.dies("web", 1);
        it.states(&[("web", Backoff)]);
        it.wait(seconds(1));
    }
    assert_eq!(it.view("web").restarts, 10);
}

#[test]
fn the_limit_makes_it_fail_and_reset_forgets() {
    let mut it = Story::of([service("web").restart(|it| it.limit_count = 3)]);
    it.start("web");
    for _ in 0..3 {
        it.comes_up("web");
        it.dies("web", 7);
        it.states(&[("web", Backoff)]);
        it.wait(seconds(2));
    }
    it.comes_up("web");
    it.dies("web", 7);
    it.states(&[("web", Failed)]);
    assert_eq!(it.why("web"), "failed after 3 restarts in 1min: exit code 7");
    assert!(it.machine().settled());
    it.reset("web");
    it.states(&[("web", Inactive)]);
    it.start("web");
    it.comes_up("web");
    it.dies("web", 7);
    it.states(&[("web", Backoff)]);
}

#[test]
fn a_start_by_hand_does_not_wait_for_the_backoff() {
    let mut it = Story::of([service("web").restart(|it| it.delay = seconds(30))]);
    it.start("web");
    it.comes_up("web");
    it.dies("web", 1);
    it.skip();
    let job = it.start("web");
    it.orders(&["prepare web"]);
    it.comes_up("web");
    it.succeeded(job);
    assert_eq!(it.view("web").restarts, 0);
}

#[test]
fn out_of_memory_is_said() {
    let mut it = Story::of([service("web").restart(|it| it.policy = RestartPolicy::No)]);
    it.start("web");
    it.comes_up("web");
    it.fact("web", Fact::OutOfMemory);
    it.exits("web", Exit::Signal(9));
    it.cleaned("web");
    assert_eq!(it.why("web"), "killed by SIGKILL (out of memory)");
}

#[test]
fn a_silent_service_is_aborted_by_its_watchdog() {
    let mut it = Story::of([service("web").with(|it| it.watchdog = Some(seconds(10)))]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    for _ in 0..5 {
        it.wait(seconds(9));
        it.says("web", Notify::Watchdog);
    }
    it.orders(&[]);
    it.wait(seconds(10));
    it.orders(&["signal web 6"]);
    assert_eq!(it.why("web"), "watchdog: no sign of life for 10s");
    it.wait(seconds(10));
    it.orders(&["clean web"]);
    it.cleaned("web");
    it.states(&[("web", Backoff)]);
}

#[test]
fn health_checks_follow_each_other_and_three_failures_restart() {
    let mut it = Story::of([service("web").checked(|_| {})]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    it.wait(seconds(10));
    it.orders(&["hook web Health"]);
    assert_eq!(it.view("web").health, Some(HealthName::Starting));
    it.hook_ends("web", Hook::Health, OK);
    assert_eq!(it.view("web").health, Some(HealthName::Healthy));
    for _ in 0..2 {
        it.wait(seconds(10));
        it.hook_ends("web", Hook::Health, FAILED);
        it.states(&[("web", Running)]);
    }
    it.wait(seconds(10));
    it.skip();
    it.hook_ends("web", Hook::Health, Err("cannot execute /bin/check: ENOENT".to_owned()));
    it.orders(&["signal web 15"]);
    assert_eq!(
        it.why("web"),
        "unhealthy: 3 checks failed, last: cannot execute /bin/check: ENOENT"
    );
}

#[test]
fn a_slow_check_is_killed_has_failed_and_never_piles_up() {
    let mut it = Story::of([service("web").checked(|it| it.retries = 2)]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    it.wait(seconds(15));
    it.orders(&["hook web Health", "kill web Health"]);
    // It does not die at once: no second one meanwhile.
    it.wait(seconds(9));
    it.orders(&[]);
    it.hook_ends("web", Hook::Health, Ok(Exit::Signal(9)));
    it.states(&[("web", Running)]);
    it.wait(seconds(15));
    it.orders(&["hook web Health", "kill web Health", "signal web 15"]);
}

#[test]
fn a_check_that_does_not_even_die_fails_again_each_interval() {
    let mut it = Story::of([service("web").checked(|it| it.retries = 3)]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    it.wait(seconds(15));
    it.orders(&["hook web Health", "kill web Health"]);
    it.wait(seconds(19));
    it.orders(&[]);
    it.states(&[("web", Running)]);
    it.wait(seconds(1));
    it.orders(&["signal web 15"]);
    assert_eq!(it.why("web"), "unhealthy: 3 checks failed, last: SIGKILL does not end it");
}

#[test]
fn a_frozen_check_need_not_die() {
    let mut it = Story::of([service("web").checked(|it| it.retries = 2)]);
    it.start("web");
    it.comes_up("web");
    it.wait(seconds(15));
    it.freeze("web", true);
    it.skip();
    it.wait(seconds(1000));
    it.orders(&[]);
    it.freeze("web", false);
    it.wait(seconds(9));
    it.states(&[("web", Running)]);
    it.hook_ends("web", Hook::Health, Ok(Exit::Signal(9)));
    it.wait(seconds(10));
    it.orders(&["thaw web", "hook web Health"]);
}

#[test]
fn failures_in_the_start_period_are_forgiven() {
    let mut it = Story::of([service("web").checked(|it| {
        it.retries = 1;
        it.start_period = seconds(30);
    })]);
    it.start("web");
    it.comes_up("web");
    for _ in 0..2 {
        it.wait(seconds(10));
        it.hook_ends("web", Hook::Health, FAILED);
        it.states(&[("web", Running)]);
    }
    it.wait(seconds(10));
    it.hook_ends("web", Hook::Health, FAILED);
    it.states(&[("web", Stopping)]);
}

#[test]
fn an_unhealthy_service_may_be_left_alone() {
    let mut it = Story::of([service("web").checked(|it| {
        it.retries = 1;
        it.restart = false;
    })]);
    it.start("web");
    it.comes_up("web");
    it.wait(seconds(10));
    it.hook_ends("web", Hook::Health, FAILED);
    it.states(&[("web", Running)]);
    assert_eq!(it.view("web").health, Some(HealthName::Unhealthy));
    it.wait(seconds(10));
    it.hook_ends("web", Hook::Health, OK);
    assert_eq!(it.view("web").health, Some(HealthName::Healthy));
}

#[test]
fn ready_can_mean_the_first_healthy_check() {
    let mut it = Story::of([service("web").checked(|_| {}).with(|it| it.ready = Ready::Health)]);
    let job = it.start("web");
    it.comes_up("web");
    it.orders(&["prepare web", "run web", "hook web Health"]);
    it.hook_ends("web", Hook::Health, FAILED);
    it.states(&[("web", Starting)]);
    // While it starts, it is looked at more often.
    it.wait(seconds(1));
    it.orders(&["hook web Health"]);
    it.hook_ends("web", Hook::Health, OK);
    it.succeeded(job);
    it.states(&[("web", Running)]);
}

#[test]
fn reload_by_command_or_signal_or_not_at_all() {
    let mut it = Story::of([
        service("command").with(|it| it.reload_command = Some(command())),
        service("signal").with(|it| it.reload_signal = Some(1)),
        service("neither"),
    ]);
    for name in ["command", "signal", "neither"] {
        it.start(name);
        it.comes_up(name);
    }
    it.skip();
    let job = it.reload("signal");
    it.orders(&["signal signal 1"]);
    it.succeeded(job);
    let job = it.reload("neither");
    it.refused(job, "cannot reload neither: it has no reload-signal or reload-command");
    let job = it.reload("command");
    it.orders(&["hook command Reload"]);
    assert_eq!(it.why("command"), "reloading");
    let second = it.reload("command");
    it.refused(second, "cannot reload command: a reload is under way");
    it.hook_ends("command", Hook::Reload, FAILED);
    it.refused(job, "cannot reload command: reload-command: exit code 1");
    let job = it.reload("command");
    it.wait(seconds(60));
    it.orders(&["hook command Reload", "kill command Reload"]);
    it.refused(job, "cannot reload command: reload-command took longer than 1min");
    let job = it.reload("command");
    it.exits("command", Exit::Code(1));
    it.refused(job, "cannot reload command: it stopped meanwhile");
}

#[test]
fn a_service_says_itself_that_it_reloads() {
    let mut it = Story::of([service("web")]);
    it.start("web");
    it.comes_up("web");
    it.says("web", Notify::Reloading);
    assert_eq!(it.why("web"), "reloading");
    it.says("web", Notify::Status("42 connections".to_owned()));
    it.ready("web");
    assert_eq!(it.why("web"), "ready after 0ms");
    assert_eq!(it.view("web").status_text, "42 connections");
}

#[test]
fn nothing_is_expected_of_what_is_frozen_and_a_stop_thaws_it() {
    let mut it =
        Story::of([service("web").checked(|_| {}).with(|it| it.watchdog = Some(seconds(5)))]);
    it.start("web");
    let early = it.freeze("web", true);
    it.refused(early, "cannot freeze web: it is not running");
    it.comes_up("web");
    it.skip();
    let job = it.freeze("web", true);
    it.succeeded(job);
    it.states(&[("web", Frozen)]);
    assert!(it.view("web").ready);
    it.wait(seconds(1_000));
    it.orders(&["freeze web"]);
    it.freeze("web", false);
    it.orders(&["thaw web"]);
    it.wait(seconds(4));
    it.states(&[("web", Running)]);
    it.freeze("web", true);
    it.skip();
    it.stop("web");
    it.orders(&["thaw web", "signal web 15"]);
}
