//! Examples: what stops when, and what is left.

use crate::story::{OK, Story, command, seconds, service, target};
use crate::supervisor::event::Fact;
use crate::supervisor::view::StateName::{Failed, Inactive, Preparing, Running, Stopping, Waiting};
use crate::supervisor::{Exit, Hook};
use crate::unit::model::RestartPolicy;

/// db <- php <- web, all running.
fn stack() -> Story {
    let mut it = Story::of([
        service("db"),
        service("php").requires("db"),
        service("web").requires("php"),
        target("default").requires("web"),
    ]);
    it.start("default");
    for name in ["db", "php", "web"] {
        it.comes_up(name);
    }
    it.skip();
    it
}

fn ends(it: &mut Story, name: &str) {
    it.exits(name, Exit::Signal(15));
    it.cleaned(name);
}

#[test]
fn stop_takes_down_what_requires_it_first() {
    let mut it = stack();
    let job = it.stop("db");
    it.orders(&["signal web 15"]);
    it.states(&[("db", Stopping), ("php", Stopping), ("web", Stopping)]);
    ends(&mut it, "web");
    it.orders(&["clean web", "signal php 15"]);
    ends(&mut it, "php");
    it.orders(&["clean php", "signal db 15"]);
    assert!(it.waits(job));
    ends(&mut it, "db");
    it.succeeded(job);
    it.states(&[("db", Inactive), ("php", Inactive), ("web", Inactive)]);
    assert!(it.machine().settled());
}

#[test]
fn what_is_required_stays_up_when_its_dependent_stops() {
    let mut it = stack();
    let job = it.stop("web");
    ends(&mut it, "web");
    it.succeeded(job);
    it.states(&[("db", Running), ("php", Running), ("web", Inactive)]);
}

#[test]
fn a_target_keeps_its_goal_and_is_reached_again() {
    let mut it = stack();
    it.stop("web");
    ends(&mut it, "web");
    it.states(&[("default", Waiting)]);
    it.start("web");
    it.comes_up("web");
    it.states(&[("default", Running)]);
}

#[test]
fn restart_brings_back_what_it_took_down() {
    let mut it = stack();
    let job = it.restart("php");
    it.orders(&["signal web 15"]);
    ends(&mut it, "web");
    ends(&mut it, "php");
    it.orders(&["clean web", "signal php 15", "clean php", "prepare php"]);
    it.states(&[("db", Running), ("web", Waiting)]);
    it.comes_up("php");
    it.succeeded(job);
    it.orders(&["run php", "prepare web"]);
    it.comes_up("web");
    it.states(&[("web", Running), ("default", Running)]);
}

#[test]
fn a_crash_takes_dependents_down_and_they_come_back_with_it() {
    let mut it = stack();
    it.exits("db", Exit::Signal(11));
    it.orders(&["clean db", "signal web 15"]);
    it.cleaned("db");
    ends(&mut it, "web");
    ends(&mut it, "php");
    it.skip();
    it.wait(seconds(1));
    it.orders(&["prepare db"]);
    it.comes_up("db");
    it.comes_up("php");
    it.comes_up("web");
    it.states(&[("db", Running), ("php", Running), ("web", Running), ("default", Running)]);
}

#[test]
fn a_clean_end_leaves_dependents_waiting_until_it_is_started_again() {
    let mut it = stack();
    it.exits("db", Exit::Code(0));
    it.cleaned("db");
    ends(&mut it, "web");
    ends(&mut it, "php");
    it.states(&[("db", Inactive), ("php", Waiting), ("web", Waiting)]);
    assert_eq!(it.why("db"), "exit code 0");
    assert_eq!(it.why("web"), "requires php: requires db: exit code 0");
    assert!(it.machine().settled());
    it.skip();
    it.start("db");
    it.comes_up("db");
    it.orders(&["prepare db", "run db", "prepare php"]);
}

#[test]
fn who_ignores_the_signal_is_killed_with_its_whole_cgroup() {
    let mut it = stack();
    let job = it.stop("web");
    it.skip();
    it.wait(seconds(9));
    it.orders(&[]);
    it.wait(seconds(1));
    it.orders(&["clean web"]);
    it.cleaned("web");
    it.succeeded(job);
}

#[test]
fn stop_post_runs_also_after_a_kill() {
    let mut it = Story::of([service("web").with(|it| it.stop_post = vec![command()])]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    it.stop("web");
    it.wait(seconds(10));
    it.exits("web", Exit::Signal(9));
    it.hook_ends("web", Hook::StopPost(0), OK);
    it.orders(&["signal web 15", "signal web 9", "hook web StopPost(0)", "clean web"]);
}

#[test]
fn every_step_of_a_stop_is_bounded() {
    let mut it = Story::of([service("web").with(|it| {
        it.stop_command = Some(command());
        it.stop_post = vec![command(), command()];
    })]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    it.stop("web");
    it.wait(seconds(60));
    it.orders(&[
        "hook web Stop",
        "kill web Stop",
        "signal web 15",
        "signal web 9",
        "hook web StopPost(0)",
        "kill web StopPost(0)",
        "hook web StopPost(1)",
        "kill web StopPost(1)",
        "clean web",
    ]);
}

#[test]
fn a_stop_before_the_command_was_executed_signals_it_as_soon_as_it_is() {
    let mut it = Story::of([service("web")]);
    let start = it.start("web");
    it.prepared("web");
    it.skip();
    it.stop("web");
    it.refused(start, "cannot start web: it was stopped meanwhile");
    it.orders(&[]);
    it.executed("web");
    it.orders(&["signal web 15"]);
}

#[test]
fn a_stop_in_the_middle_of_preparing_cleans_up() {
    let mut it = Story::of([service("web").with(|it| it.start_pre = vec![command()])]);
    it.start("web");
    it.stop("web");
    it.orders(&["prepare web", "clean web"]);
    it.cleaned("web");
    it.start("web");
    it.prepared("web");
    it.stop("web");
    it.orders(&["prepare web", "hook web StartPre(0)", "kill web StartPre(0)"]);
    it.hook_ends("web", Hook::StartPre(0), Ok(Exit::Signal(9)));
    it.orders(&["clean web"]);
}

#[test]
fn a_start_during_a_stop_waits_for_its_end() {
    let mut it = stack();
    let stop = it.stop("web");
    let start = it.start("web");
    it.exits("web", Exit::Signal(15));
    it.states(&[("web", Stopping)]);
    it.cleaned("web");
    it.succeeded(stop);
    it.states(&[("web", Preparing)]);
    it.comes_up("web");
    it.succeeded(start);
}

#[test]
fn a_process_that_survives_is_told_to_who_waits() {
    let mut it = stack();
    let job = it.stop("web");
    it.wait(seconds(10));
    it.fact("web", Fact::CleanStuck("process 4711 survives SIGKILL (state D)".to_owned()));
    it.refused(job, "cannot stop web: process 4711 survives SIGKILL (state D)");
    it.states(&[("web", Stopping)]);
    it.cleaned("web");
    it.states(&[("web", Inactive)]);
}

#[test]
fn a_stop_behind_a_dependent_that_survives_is_told_so_and_goes_on_later() {
    let mut it = stack();
    let job = it.stop("db");
    it.wait(seconds(10));
    assert!(it.waits(job));
    it.fact("web", Fact::CleanStuck("process 4711 survives SIGKILL (state D)".to_owned()));
    let why = "web has to end first: process 4711 survives SIGKILL (state D)";
    it.refused(job, &format!("cannot stop db: {why}"));
    // Nor does one wait who asks only now.
    let late = it.stop("php");
    it.refused(late, &format!("cannot stop php: {why}"));
    let restart = it.restart("db");
    it.refused(restart, &format!("cannot restart db: {why}"));
    it.states(&[("db", Stopping), ("php", Stopping), ("web", Stopping)]);
    it.stop("db");
    it.skip();
    it.cleaned("web");
    it.orders(&["signal php 15"]);
    ends(&mut it, "php");
    ends(&mut it, "db");
    it.states(&[("db", Inactive), ("php", Inactive), ("web", Inactive)]);
}

#[test]
fn shutdown_runs_in_reverse_and_nothing_starts_any_more() {
    let mut it = stack();
    let job = it.shutdown();
    it.orders(&["signal web 15"]);
    let start = it.start("web");
    it.refused(start, "cannot start web: shutting down");
    for name in ["web", "php", "db"] {
        ends(&mut it, name);
    }
    it.succeeded(job);
    it.orders(&[
        "clean web",
        "signal php 15",
        "clean php",
        "signal db 15",
        "clean db",
        "shutdown done",
    ]);
    assert!(it.machine().is_shutting_down());
}

#[test]
fn a_second_shutdown_does_not_wait() {
    let mut it = stack();
    it.shutdown();
    it.skip();
    it.shutdown();
    it.orders(&["clean db", "clean php", "clean web"]);
    for name in ["db", "php", "web"] {
        it.cleaned(name);
    }
    it.orders(&["shutdown done"]);
}

#[test]
fn shutdown_of_nothing_is_complete_at_once() {
    let mut it = Story::of([service("web")]);
    it.shutdown();
    it.orders(&["shutdown done"]);
    it.shutdown();
    it.orders(&[]);
}

#[test]
fn shutdown_does_not_wait_for_what_the_kernel_cannot_end() {
    let mut it = stack();
    it.shutdown();
    it.wait(seconds(10));
    it.fact("web", Fact::CleanStuck("process 4711 survives SIGKILL (state D)".to_owned()));
    ends(&mut it, "php");
    ends(&mut it, "db");
    it.orders(&[
        "signal web 15",
        "clean web",
        "signal php 15",
        "clean php",
        "signal db 15",
        "clean db",
        "shutdown done",
    ]);
}

#[test]
fn a_critical_unit_that_failed_is_named() {
    let mut it = Story::of([
        service("aside").restart(|it| it.policy = RestartPolicy::No),
        service("web").with(|it| it.critical = true).restart(|it| it.policy = RestartPolicy::No),
    ]);
    it.start("aside");
    it.start("web");
    for name in ["aside", "web"] {
        it.comes_up(name);
    }
    it.dies("aside", 1);
    assert_eq!(it.machine().failed_critical(), None);
    it.dies("web", 1);
    assert_eq!(it.machine().failed_critical(), Some(it.id("web")));
    assert_eq!(it.machine().failed(), ["aside", "web"]);
    it.reset("web");
    assert_eq!(it.machine().failed_critical(), None);
    it.states(&[("aside", Failed), ("web", Inactive)]);
}
