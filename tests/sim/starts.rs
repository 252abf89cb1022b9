//! Examples: what starts when.

use crate::story::{FAILED, OK, Story, command, oneshot, seconds, service, target};
use crate::supervisor::event::Fact;
use crate::supervisor::view::StateName::{
    Backoff, Done, Failed, Inactive, Preparing, Running, Starting, Stopping, Waiting,
};
use crate::supervisor::{Exit, Hook, Run, UnitId};
use crate::unit::model::{Ready, RestartPolicy};

#[test]
fn a_dependent_starts_when_what_it_requires_is_ready() {
    let mut it = Story::of([
        service("db").with(|it| it.ready = Ready::Notify),
        service("web").requires("db"),
    ]);
    let job = it.start("web");
    it.orders(&["prepare db"]);
    assert_eq!(it.why("web"), "waits for db");
    it.prepared("db");
    it.executed("db");
    it.orders(&["run db"]);
    it.states(&[("db", Starting), ("web", Waiting)]);
    it.ready("db");
    it.orders(&["prepare web"]);
    assert!(it.waits(job));
    it.comes_up("web");
    it.states(&[("db", Running), ("web", Running)]);
    it.succeeded(job);
}

#[test]
fn what_is_independent_starts_in_parallel() {
    let mut it =
        Story::of([service("a"), service("b"), target("default").requires("a").wants("b")]);
    let job = it.start("default");
    it.orders(&["prepare a", "prepare b"]);
    it.comes_up("a");
    it.states(&[("default", Waiting)]);
    it.comes_up("b");
    it.states(&[("default", Running)]);
    it.succeeded(job);
}

#[test]
fn a_failed_want_is_no_obstacle() {
    let mut it = Story::of([
        service("metrics").restart(|it| it.policy = RestartPolicy::No),
        service("web").wants("metrics"),
    ]);
    let job = it.start("web");
    it.orders(&["prepare metrics"]);
    it.fact("metrics", Fact::SetupFailed("cannot mount /proc: EPERM".to_owned()));
    it.cleaned("metrics");
    it.orders(&["clean metrics", "prepare web"]);
    it.comes_up("web");
    it.succeeded(job);
    it.states(&[("metrics", Failed)]);
}

#[test]
fn after_and_before_are_order_only() {
    let mut it = Story::of([
        service("a").before("b"),
        service("b").after("c"),
        service("c"),
        service("d").after("nobody-asked"),
        service("nobody-asked"),
        target("all").wants("a").wants("b").wants("d"),
    ]);
    it.start("all");
    it.orders(&["prepare a", "prepare d"]);
    it.states(&[("b", Waiting), ("c", Inactive), ("nobody-asked", Inactive)]);
    it.comes_up("a");
    it.orders(&["run a", "prepare b"]);
}

#[test]
fn a_failed_requirement_ends_the_job_with_its_cause_and_the_wait_goes_on() {
    let mut it = Story::of([
        service("db").restart(|it| it.delay = seconds(1)),
        service("php").requires("db").with(|it| it.ready = Ready::Notify),
        service("web").requires("php"),
    ]);
    let job = it.start("web");
    it.comes_up("db");
    it.comes_up("php");
    it.exits("php", Exit::Code(3));
    it.cleaned("php");
    it.refused(job, "cannot start web: requires php: exit code 3");
    it.states(&[("php", Backoff), ("web", Waiting)]);
    assert!(it.view("web").wanted);
    it.skip();
    it.wait(seconds(2));
    it.orders(&["prepare php"]);
    it.comes_up("php");
    it.ready("php");
    it.orders(&["run php", "prepare web"]);
}

#[test]
fn the_whole_chain_is_named() {
    let mut it = Story::of([
        oneshot("migrate").restart(|it| it.policy = RestartPolicy::No),
        service("php").requires("migrate"),
        service("web").requires("php"),
    ]);
    let job = it.start("web");
    it.comes_up("migrate");
    it.dies("migrate", 4);
    it.refused(job, "cannot start web: requires php: requires migrate: exit code 4");
    assert!(it.machine().settled(), "nothing moves any more");
    assert_eq!(it.machine().failed(), ["migrate"]);
    // A later start of the cause alone resumes those that wait.
    it.skip();
    it.start("migrate");
    it.comes_up("migrate");
    it.dies("migrate", 0);
    it.orders(&["prepare migrate", "run migrate", "clean migrate", "prepare php"]);
    it.states(&[("migrate", Done)]);
}

#[test]
fn a_chain_of_oneshots_runs_one_after_the_other() {
    let mut it = Story::of([
        oneshot("one"),
        oneshot("two").requires("one"),
        target("default").requires("two"),
    ]);
    let job = it.start("default");
    it.comes_up("one");
    it.states(&[("one", Starting)]);
    it.dies("one", 0);
    it.comes_up("two");
    it.dies("two", 0);
    it.succeeded(job);
    it.states(&[("one", Done), ("two", Done), ("default", Running)]);
}

#[test]
fn starting_one_of_two_that_conflict_stops_the_other_first() {
    let mut it = Story::of([service("old"), service("new").conflicts("old")]);
    it.start("old");
    it.comes_up("old");
    it.skip();
    let job = it.start("new");
    it.orders(&["signal old 15"]);
    assert_eq!(it.why("new"), "waits until old has stopped");
    it.exits("old", Exit::Signal(15));
    it.orders(&["clean old"]);
    it.cleaned("old");
    it.orders(&["prepare new"]);
    it.comes_up("new");
    it.succeeded(job);
    assert!(!it.view("old").wanted);
}

#[test]
fn who_requires_two_that_conflict_hears_it() {
    let mut it = Story::of([
        service("a"),
        service("b").conflicts("a"),
        service("web").requires("a").requires("b"),
    ]);
    let job = it.start("web");
    it.refused(job, "cannot start web: requires b: it conflicts with a");
}

#[test]
fn hooks_run_around_the_command_one_after_the_other() {
    let mut it = Story::of([service("web").with(|it| {
        it.start_pre = vec![command(), command()];
        it.start_post = vec![command()];
        it.stop_command = Some(command());
        it.stop_post = vec![command()];
    })]);
    let start = it.start("web");
    it.prepared("web");
    it.hook_ends("web", Hook::StartPre(0), OK);
    it.hook_ends("web", Hook::StartPre(1), OK);
    it.executed("web");
    it.orders(&[
        "prepare web",
        "hook web StartPre(0)",
        "hook web StartPre(1)",
        "run web",
        "hook web StartPost(0)",
    ]);
    it.states(&[("web", Starting)]);
    it.hook_ends("web", Hook::StartPost(0), OK);
    it.succeeded(start);
    let stop = it.stop("web");
    it.hook_ends("web", Hook::Stop, OK);
    it.exits("web", Exit::Signal(15));
    it.hook_ends("web", Hook::StopPost(0), FAILED);
    it.orders(&["hook web Stop", "signal web 15", "hook web StopPost(0)", "clean web"]);
    assert!(it.waits(stop), "its cgroup is still there");
    it.cleaned("web");
    it.succeeded(stop);
}

#[test]
fn a_failing_start_pre_is_a_failed_start() {
    let mut it = Story::of([service("web")
        .with(|it| it.start_pre = vec![command()])
        .restart(|it| it.policy = RestartPolicy::No)]);
    let job = it.start("web");
    it.prepared("web");
    it.hook_ends("web", Hook::StartPre(0), FAILED);
    it.cleaned("web");
    it.refused(job, "cannot start web: start-pre: exit code 1");
    it.states(&[("web", Failed)]);
}

#[test]
fn a_start_that_takes_too_long_is_stopped_and_has_failed() {
    let mut it = Story::of([service("web")
        .with(|it| it.ready = Ready::Notify)
        .restart(|it| it.policy = RestartPolicy::No)]);
    let job = it.start("web");
    it.comes_up("web");
    it.skip();
    it.wait(seconds(61));
    it.orders(&["signal web 15"]);
    it.states(&[("web", Stopping)]);
    it.wait(seconds(10));
    it.orders(&["clean web"]);
    it.cleaned("web");
    it.refused(job, "cannot start web: not ready within 1min");
}

#[test]
fn a_service_may_ask_for_more_time() {
    use crate::supervisor::event::Notify::ExtendTimeout;
    let mut it = Story::of([service("web").with(|it| it.ready = Ready::Notify)]);
    it.start("web");
    it.comes_up("web");
    it.wait(seconds(50));
    it.says("web", ExtendTimeout(seconds(30)));
    it.wait(seconds(29));
    it.states(&[("web", Starting)]);
    it.says("web", ExtendTimeout(seconds(1)));
    it.wait(seconds(2));
    it.states(&[("web", Stopping)]);
}

#[test]
fn nobody_gets_more_than_an_hour_at_once() {
    use crate::supervisor::event::Notify::ExtendTimeout;
    let mut it = Story::of([service("web").with(|it| it.ready = Ready::Notify)]);
    it.start("web");
    it.comes_up("web");
    it.says("web", ExtendTimeout(std::time::Duration::MAX));
    it.wait(seconds(3599));
    it.states(&[("web", Starting)]);
    // Who asks in time is given more.
    it.says("web", ExtendTimeout(seconds(7200)));
    it.wait(seconds(3599));
    it.states(&[("web", Starting)]);
    it.wait(seconds(1));
    it.states(&[("web", Stopping)]);
}

#[test]
fn a_service_that_daemonises_has_failed_and_hears_why() {
    let mut it = Story::of([service("nginx").restart(|it| it.policy = RestartPolicy::No)]);
    it.start("nginx");
    it.comes_up("nginx");
    it.fact("nginx", Fact::MainExited { exit: Exit::Code(0), left_behind: true });
    it.cleaned("nginx");
    it.states(&[("nginx", Failed)]);
    assert_eq!(
        it.why("nginx"),
        "it went into the background (daemonised) and cannot be watched: run it in the foreground"
    );
}

#[test]
fn a_service_that_ends_before_it_is_ready_has_failed() {
    let mut it = Story::of([service("web")
        .with(|it| it.ready = Ready::Fd(3))
        .restart(|it| it.policy = RestartPolicy::No)]);
    let job = it.start("web");
    it.comes_up("web");
    it.dies("web", 0);
    it.refused(job, "cannot start web: ended before it was ready: exit code 0");
}

#[test]
fn a_program_that_is_missing_is_named() {
    let mut it = Story::of([service("web").restart(|it| it.policy = RestartPolicy::No)]);
    let job = it.start("web");
    it.prepared("web");
    it.fact("web", Fact::SetupFailed("cannot execute /bin/wbe: ENOENT (a.toml:2)".to_owned()));
    it.cleaned("web");
    it.refused(job, "cannot start web: cannot execute /bin/wbe: ENOENT (a.toml:2)");
}

#[test]
fn events_of_an_earlier_run_are_dropped() {
    let mut it = Story::of([service("web").restart(|it| it.delay = seconds(0))]);
    it.start("web");
    it.comes_up("web");
    it.dies("web", 1);
    it.states(&[("web", Preparing)]);
    it.skip();
    for (unit, run) in [(it.id("web"), Run(1)), (UnitId(77), Run(2))] {
        for fact in [Fact::Prepared, Fact::Cleaned, Fact::SetupFailed(String::new())] {
            it.event(unit, run, fact);
        }
    }
    it.orders(&[]);
    it.states(&[("web", Preparing)]);
}
