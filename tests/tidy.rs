//! The rules of the house, held by reading the source: the rooms of
//! `docs/architecture.md`, where `unsafe` may stand, how long a file may be, and more.
//! Each rule is in `tidy/rules.rs`; that it bites is shown in `tidy/controls.rs`.

#[path = "tidy/controls.rs"]
mod controls;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

use source::Source;

/// Files with a loop that looks, sleeps a little and looks again until a deadline, and
/// why nothing better tells them when to look.
const POLL_LOOPS: &[(&str, &str)] = &[
    ("src/container/probe.rs", "a helper process; nobody tells a stranger that a port is open"),
    ("src/sys/cgroup/tree.rs", "before the loop begins: what a killed supervisor left must end"),
    (
        "src/network/keeper/names.rs",
        "the keeper may wait; a stranger's socket tells nobody of its end",
    ),
    ("src/sys/fault.rs", "a process that has failed and cannot execute itself just now"),
    ("src/pid1/fstab.rs", "a step of its own process; there may be no device manager to tell"),
    ("tests/system/rig.rs", "the one loop that waits for a condition of a supervisor"),
    ("tests/system/killed.rs", "the moment of a kill -9 is the point, no condition stands for it"),
    ("tests/sandbox/machine.rs", "the one loop that waits for a condition of the kernel"),
];

/// What the pages that a newcomer reads must say.
const PROMISES: &[(&str, &str)] = &[
    ("README.md", "scripts/quickstart"),
    ("README.md", "scripts/test"),
    ("CONTRIBUTING.md", "scripts/test"),
    ("CHANGELOG.md", "## [Unreleased]"),
    ("LICENSE", "Apache License"),
    (".ci/run", "\nexec scripts/test\n"),
];

fn checkout() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = source::checkout(root).unwrap_or_default();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "cannot read {}", root.display());
    files
}

/// Fails with every finding, a line each.
fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn arrows_of_use_point_downwards() {
    let files = checkout();
    let page = files.iter().find(|file| file.path == "docs/architecture.md");
    let rooms = rules::rooms(page.map_or("", |page| &page.text));
    assert!(rooms.len() >= 9, "docs/architecture.md has lost rows of its table: {rooms:?}");
    assert_none(&rules::rooms_hold(&files, &rooms));
}

#[test]
fn unsafe_is_confined_and_explained() {
    assert_none(&rules::unsafe_is_confined(&checkout()));
}

#[test]
fn modules_are_introduced() {
    assert_none(&rules::modules_are_introduced(&checkout()));
}

#[test]
fn files_are_short() {
    assert_none(&rules::files_are_short(&checkout()));
}

#[test]
fn nothing_panics() {
    assert_none(&rules::nothing_panics(&checkout()));
}

#[test]
fn pure_rooms_are_pure() {
    assert_none(&rules::pure_rooms_are_pure(&checkout()));
}

#[test]
fn process_1_is_lean() {
    assert_none(&rules::process_1_is_lean(&checkout()));
}

#[test]
fn nobody_sleeps() {
    assert_none(&rules::nobody_sleeps(&checkout(), POLL_LOOPS));
}

#[test]
fn no_machine_is_named() {
    assert_none(&rules::no_machine_is_named(&checkout()));
}

#[test]
fn pages_say_what_they_must() {
    assert_none(&rules::pages_say(&checkout(), PROMISES));
}
