//! Examples: what a killed supervisor has left is taken over.

use crate::story::{Story, oneshot, service, target};
use crate::supervisor::Run;
use crate::supervisor::event::Fact;
use crate::supervisor::request::{Found, Wish};
use crate::supervisor::view::StateName::{Done, Inactive, Running, Stopping};

fn adopt(it: &mut Story, name: &str, found: Found) {
    let job = it.wish(Wish::Adopt(vec![(it.id(name), found)]));
    it.succeeded(job);
}

fn up(run: u64) -> Found {
    Found::Up { run: Run(run), restarts: 2 }
}

#[test]
fn what_is_there_is_not_started_and_the_rest_is() {
    let mut it = Story::of([
        service("db"),
        oneshot("setup"),
        service("web").requires("db").requires("setup"),
        target("default").requires("web").requires("db"),
    ]);
    adopt(&mut it, "db", up(41));
    adopt(&mut it, "setup", Found::Done);
    it.orders(&[]);
    it.states(&[("db", Running), ("setup", Done), ("web", Inactive)]);
    let job = it.start("default");
    it.orders(&["prepare web"]);
    it.comes_up("web");
    it.succeeded(job);
    assert_eq!((it.view("db").run, it.view("db").restarts), (Some(Run(41)), 2));
    // Its numbers were never used before.
    assert!(it.view("web").run.unwrap() > Run(41));
}

#[test]
fn what_is_there_is_not_started_for_another_that_is_there() {
    let mut it =
        Story::of([service("db"), service("web").wants("db").requires("cache"), service("cache")]);
    let ids = ["web", "db", "cache"].map(|name| it.id(name));
    let job = it.wish(Wish::Adopt(ids.iter().zip(1..).map(|(id, run)| (*id, up(run))).collect()));
    it.succeeded(job);
    it.orders(&[]);
    it.states(&[("web", Running), ("db", Running), ("cache", Running)]);
}

#[test]
fn it_wants_what_it_requires_and_restarts_like_any_other() {
    let mut it = Story::of([service("db"), service("web").requires("db")]);
    adopt(&mut it, "web", up(7));
    it.orders(&["prepare db"]);
    it.comes_up("db");
    it.skip();
    it.dies("web", 3);
    it.orders(&["clean web"]);
    it.cleaned("web");
    it.wait(std::time::Duration::from_secs(1));
    it.orders(&["prepare web"]);
    assert_eq!(it.view("web").restarts, 3);
}

#[test]
fn events_of_the_run_before_are_dropped() {
    let mut it = Story::of([service("web")]);
    adopt(&mut it, "web", up(7));
    let id = it.id("web");
    it.event(id, Run(6), Fact::SetupFailed("late".to_owned()));
    it.states(&[("web", Running)]);
    let job = it.stop("web");
    it.states(&[("web", Stopping)]);
    assert!(it.waits(job));
}

#[test]
fn what_this_one_has_started_itself_stays_as_it_is() {
    let mut it = Story::of([service("web")]);
    it.start("web");
    it.comes_up("web");
    let run = it.view("web").run;
    adopt(&mut it, "web", up(99));
    assert_eq!(it.view("web").run, run);
}
