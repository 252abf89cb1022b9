//! Examples: what `apply` touches, and what it does not.

use std::sync::Arc;

use crate::story::{Draft, Story, seconds, service, target};
use crate::supervisor::view::StateName::{Inactive, Preparing, Running, Stopping, Waiting};
use crate::supervisor::{Exit, Machine};
use crate::unit::model::{RestartPolicy, UnitSet};

fn plan(machine: &Machine, units: Vec<Draft>) -> [Vec<String>; 4] {
    let units = units.into_iter().map(|draft| Arc::new(draft.0)).collect();
    let set = UnitSet { units, ..UnitSet::default() };
    let plan = machine.plan_apply(&set);
    [plan.add, plan.change, plan.restart, plan.remove]
}

fn changed(name: &str) -> Draft {
    service(name).with(|it| it.command.value.push("--new".to_owned()))
}

fn ends(it: &mut Story, name: &str) {
    it.exits(name, Exit::Signal(15));
    it.cleaned(name);
}

#[test]
fn the_plan_names_what_will_happen() {
    let mut it = Story::of([service("idle"), service("old"), service("same"), service("up")]);
    it.start("up");
    it.comes_up("up");
    let next = vec![changed("idle"), service("new"), service("same"), changed("up")];
    let [add, change, restart, remove] = plan(it.machine(), next);
    assert_eq!((add, change), (vec!["new".to_owned()], vec!["idle".to_owned()]));
    assert_eq!((restart, remove), (vec!["up".to_owned()], vec!["old".to_owned()]));
}

#[test]
fn what_did_not_change_is_not_touched() {
    let mut it = Story::of([service("web")]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    let mut moved = service("web");
    moved.0.line = 99;
    it.apply([moved]);
    it.orders(&[]);
    assert_eq!(it.machine().unit(it.id("web")).unwrap().line, 99);
}

#[test]
fn a_new_unit_starts_if_a_target_that_wants_it_is_up() {
    let mut it = Story::of([target("default")]);
    it.start("default");
    it.apply([
        target("default"),
        service("wanted").wanted_by("default").requires("base"),
        service("base"),
        service("unwanted"),
    ]);
    it.orders(&["prepare base"]);
    it.states(&[("wanted", Waiting), ("unwanted", Inactive)]);
}

#[test]
fn boot_is_apply_and_start_of_the_default_target() {
    let mut it = Story::of([target("default"), service("web").wanted_by("default")]);
    it.orders(&[]);
    it.start("default");
    it.orders(&["prepare web"]);
}

#[test]
fn a_changed_unit_runs_to_its_end_as_it_was() {
    let mut it = Story::of([service("web"), service("proxy").requires("web")]);
    it.start("proxy");
    it.comes_up("web");
    it.comes_up("proxy");
    it.skip();
    it.apply([changed("web"), service("proxy").requires("web")]);
    let arguments = |it: &Story| {
        let unit = it.machine().unit(it.id("web")).unwrap();
        unit.service().unwrap().command.value.len()
    };
    assert_eq!(arguments(&it), 1);
    it.orders(&["signal proxy 15"]);
    ends(&mut it, "proxy");
    ends(&mut it, "web");
    assert_eq!(arguments(&it), 2);
    it.orders(&["clean proxy", "signal web 15", "clean web", "prepare web"]);
    it.comes_up("web");
    it.orders(&["run web", "prepare proxy"]);
}

#[test]
fn policies_timeouts_and_links_are_taken_over_in_place() {
    let mut it = Story::of([service("web"), service("db")]);
    it.start("web");
    it.comes_up("web");
    it.skip();
    let next = service("web")
        .wants("db")
        .with(|it| it.stop_timeout = Some(seconds(1)))
        .restart(|it| it.policy = RestartPolicy::No);
    it.apply([next, service("db")]);
    // What it wants now is started; it is not touched itself.
    it.orders(&["prepare db"]);
    it.states(&[("web", Running)]);
    it.stop("web");
    it.wait(seconds(1));
    it.orders(&["signal web 15", "clean web"]);
}

#[test]
fn a_unit_that_is_gone_is_stopped_and_forgotten() {
    let mut it = Story::of([service("old"), service("older").requires("old"), service("new")]);
    it.start("older");
    it.comes_up("old");
    let job = it.start("older");
    it.skip();
    it.apply([service("new")]);
    it.refused(job, "cannot start older: it was removed meanwhile");
    it.orders(&["clean older"]);
    let late = it.start("older");
    it.refused(late, "cannot start older: it is being removed");
    it.cleaned("older");
    it.orders(&["removed older", "signal old 15"]);
    ends(&mut it, "old");
    it.orders(&["clean old", "removed old"]);
    assert_eq!(it.machine().find("old"), None);
    assert_eq!(it.machine().ids().count(), 1);
}

#[test]
fn a_second_apply_replaces_what_the_first_has_left_to_do() {
    let mut it = Story::of([service("web")]);
    it.start("web");
    it.comes_up("web");
    it.apply([]);
    it.states(&[("web", Stopping)]);
    it.apply([changed("web"), target("default")]);
    it.skip();
    ends(&mut it, "web");
    it.orders(&["clean web"]);
    it.states(&[("web", Inactive)]);
    it.start("web");
    it.states(&[("web", Preparing)]);
}

#[test]
fn two_that_conflict_since_now_do_not_both_stay() {
    let mut it = Story::of([service("a"), service("b")]);
    for name in ["a", "b"] {
        it.start(name);
        it.comes_up(name);
    }
    it.skip();
    it.apply([service("a").conflicts("b"), service("b")]);
    it.orders(&["signal b 15"]);
}

#[test]
fn what_requires_nothing_that_exists_says_so() {
    let mut it = Story::of([service("web").requires("ghost")]);
    let job = it.start("web");
    it.refused(job, "cannot start web: requires ghost, which does not exist");
    it.apply([service("web").requires("ghost"), service("ghost")]);
    it.orders(&["prepare ghost"]);
}

#[test]
fn a_target_may_become_a_service() {
    let mut it = Story::of([target("a"), service("b").requires("a")]);
    it.start("b");
    it.comes_up("b");
    it.skip();
    it.apply([changed("a"), service("b").requires("a")]);
    it.orders(&["signal b 15"]);
    ends(&mut it, "b");
    it.orders(&["clean b", "prepare a"]);
    it.states(&[("a", Preparing), ("b", Waiting)]);
}

#[test]
fn a_target_that_becomes_a_service_without_dependents() {
    let mut it = Story::of([target("a"), service("b").requires("a")]);
    it.start("a");
    it.apply([changed("a"), service("b").requires("a")]);
    it.orders(&["prepare a"]);
    it.states(&[("a", Preparing)]);
}

/// Seed 1007503 of the simulation.
#[test]
fn what_is_dropped_and_wanted_again_by_one_apply_gets_its_new_definition() {
    let mut it = Story::of([service("a").conflicts("b"), target("b"), target("default")]);
    it.start("b");
    it.start("default");
    // `b` pulls in `a`, which pushes out `b`, which is wanted by `default`.
    it.apply([
        service("a").conflicts("b"),
        service("b").requires("a").wanted_by("default"),
        target("default"),
    ]);
    assert!(it.machine().unit(it.id("b")).unwrap().service().is_some());
    it.states(&[("b", Waiting)]);
    assert_eq!(it.why("b"), "requires a: it conflicts with b");
}
