//! Positive controls: a rule that finds nothing in the project is worth something only if
//! it finds what it is for in a file that has it.

use crate::rules;
use crate::source::{Source, code_only, mark_test_modules, paths, without_tests};

const PAGE: &str = "
| `src/unit/` | text | – |
| `src/supervisor/` | the machine | unit (model) |
| `src/sys/` | the kernel | – |
| `src/log/` | logs | unit (model), sys |
| `src/daemon/` | the loop | all above |
";

fn one(path: &str, text: &str) -> [Source; 1] {
    [Source::new(path, text)]
}

/// Asserts that a rule finds exactly one thing, at this place.
fn caught(found: &[String], place: &str) {
    assert_eq!(found.len(), 1, "expected one finding at {place}, got {found:?}");
    assert!(found.iter().all(|line| line.starts_with(place)), "not at {place}: {found:?}");
}

fn room_breaks(path: &str, text: &str) -> Vec<String> {
    rules::rooms_hold(&one(path, text), &rules::rooms(PAGE))
}

#[test]
fn code_is_told_from_what_is_not() {
    let text = "let a = \"unsafe \\\" {\"; // unsafe\nlet b = r#\"un\"safe\"#; /* a /* b */ c */ d('{', 'x', '\\'', \"é\");\nfn f<'a>() {}";
    let code = code_only(text);
    assert!(!code.contains("safe") && !code.contains("c */") && code.contains("fn f<'a>() {}"));
    assert_eq!(code.matches('{').count(), 1);
    let lengths = |text: &str| text.lines().map(|l| l.chars().count()).collect::<Vec<_>>();
    assert_eq!(lengths(&code), lengths(text));
}

#[test]
fn tests_are_told_from_what_ships() {
    let code = "a();\n#[cfg(test)]\nmod tests { fn x() { b() } }\nc();\n#[cfg(test)]\nuse d;\ne();";
    let kept = without_tests(code);
    let left: Vec<&str> = kept.split_whitespace().collect();
    assert_eq!(left, ["a();", "c();", "e();"]);
    assert_eq!(kept.lines().count(), code.lines().count());
}

#[test]
fn files_of_tests_are_told_from_those_that_ship() {
    let declares =
        "mod ships;\n#[cfg(test)]\nmod checks;\n#[cfg(test)]\n#[path = \"odd.rs\"]\nmod x;";
    let paths = ["src/log/ships.rs", "src/log/checks.rs", "src/log/checks/a.rs", "src/log/odd.rs"];
    let mut files: Vec<Source> = paths.iter().map(|path| Source::new(path, "")).collect();
    files.push(Source::new("src/log/mod.rs", declares));
    mark_test_modules(&mut files);
    let marks: Vec<bool> = files.iter().map(|file| file.only_tests).collect();
    assert_eq!(marks, [false, true, true, true, false]);
}

#[test]
fn paths_are_resolved() {
    let code =
        "use crate::{unit::model::{Unit, Kind as K}, sys, log::*};\nlet a = crate::ctl::run();";
    let found: Vec<String> = paths(code, "crate")
        .into_iter()
        .map(|(line, path)| format!("{line} {}", path.join(".")))
        .collect();
    assert_eq!(found, ["1 unit.model.Unit", "1 unit.model.Kind", "1 sys", "1 log", "2 ctl.run"]);
}

#[test]
fn the_table_of_rooms_is_read() {
    let rooms = rules::rooms(PAGE);
    assert_eq!(rooms.len(), 5);
    assert_eq!(rooms.get("unit").map(Vec::len), Some(0));
    assert_eq!(rooms.get("daemon").map(Vec::len), Some(4));
    let log = vec![("unit".to_owned(), Some("model".to_owned())), ("sys".to_owned(), None)];
    assert_eq!(rooms.get("log"), Some(&log));
}

#[test]
fn an_arrow_upwards_is_caught() {
    caught(&room_breaks("src/unit/a.rs", "\nuse crate::daemon::Loop;"), "src/unit/a.rs:2:");
    caught(&room_breaks("src/sys/a.rs", "use crate::{log};"), "src/sys/a.rs:1:");
    caught(&room_breaks("src/log/a/b.rs", "super::super::super::daemon::x()"), "src/log/a/b.rs:1:");
    let bin = rules::rooms_hold(
        &one("src/bin/berth.rs", "use berth::sys;"),
        &rules::rooms("| `src/sys/` | x | – |\n| `src/bin/` | x | – |"),
    );
    caught(&bin, "src/bin/berth.rs:1:");
    let downwards = "use super::other; use crate::daemon::x;\nuse crate::sys;";
    assert_eq!(room_breaks("src/daemon/a.rs", downwards), [""; 0]);
}

#[test]
fn a_room_that_may_use_one_module_uses_no_other() {
    caught(&room_breaks("src/log/a.rs", "use crate::unit::settings;"), "src/log/a.rs:1:");
    assert_eq!(room_breaks("src/log/a.rs", "use crate::unit::model::Unit;"), [""; 0]);
}

#[test]
fn a_room_that_is_not_drawn_is_caught() {
    caught(&room_breaks("src/cellar/mod.rs", ""), "src/cellar/mod.rs:1:");
}

#[test]
fn unsafe_is_caught() {
    let outside = rules::unsafe_is_confined(&one("src/log/a.rs", "// SAFETY: no\nunsafe { f() }"));
    caught(&outside, "src/log/a.rs:2:");
    let silent = rules::unsafe_is_confined(&one("src/sys/a.rs", "// fast\nunsafe { f() }"));
    caught(&silent, "src/sys/a.rs:2:");
    let far = "// SAFETY: of another\n\n\n\n\nunsafe { f() }";
    caught(&rules::unsafe_is_confined(&one("src/sys/a.rs", far)), "src/sys/a.rs:6:");
    let good = "// SAFETY: f has no\n// demands.\nlet x = g(\n    unsafe { f() },\n);";
    assert_eq!(rules::unsafe_is_confined(&one("src/sys/a.rs", good)), [""; 0]);
}

#[test]
fn a_module_without_introduction_is_caught() {
    caught(
        &rules::modules_are_introduced(&one("src/a.rs", "use std::fs;\n//! late")),
        "src/a.rs:1:",
    );
}

#[test]
fn a_long_file_is_caught() {
    caught(&rules::files_are_short(&one("bench/a.py", &"x\n".repeat(501))), "bench/a.py:1:");
    assert_eq!(rules::files_are_short(&one("bench/a.py", &"x\n".repeat(500))), [""; 0]);
}

#[test]
fn a_panic_is_caught() {
    for text in ["a.unwrap();", "a.expect(\"b\");", "panic!(\"c\")", "todo!()", "unimplemented!()"]
    {
        caught(&rules::nothing_panics(&one("src/log/a.rs", text)), "src/log/a.rs:1:");
    }
    let fine = "#[expect(lint)]\nfn f() { \".unwrap()\"; }\n#[cfg(test)]\nmod tests { fn t() { a.unwrap() } }";
    assert_eq!(rules::nothing_panics(&one("src/log/a.rs", fine)), [""; 0]);
}

#[test]
fn an_impure_room_is_caught() {
    for text in [
        "use std::{fs};",
        "std::thread::yield_now()",
        "Instant::now()",
        "libc::kill(1, 9)",
        "nix::x()",
    ] {
        caught(
            &rules::pure_rooms_are_pure(&one("src/supervisor/a.rs", text)),
            "src/supervisor/a.rs:1:",
        );
    }
    caught(
        &rules::pure_rooms_are_pure(&one("src/unit/a.rs", "rustix::fs::open()")),
        "src/unit/a.rs:1:",
    );
    assert_eq!(rules::pure_rooms_are_pure(&one("src/unit/a.rs", "libc::SIGTERM")), [""; 0]);
}

#[test]
fn a_heavy_crate_in_process_1_is_caught() {
    caught(
        &rules::process_1_is_lean(&one("src/daemon/a.rs", "use clap::Parser;")),
        "src/daemon/a.rs:1:",
    );
    caught(
        &rules::process_1_is_lean(&one("src/bin/berth.rs", "comfy_table::x()")),
        "src/bin/berth.rs:1:",
    );
    assert_eq!(rules::process_1_is_lean(&one("src/ctl/a.rs", "use clap::Parser;")), [""; 0]);
}

#[test]
fn a_sleep_is_caught() {
    let file = one("tests/a.rs", "std::thread::sleep(second); // thread::sleep(x)");
    caught(&rules::nobody_sleeps(&file, &[]), "tests/a.rs:1:");
    assert_eq!(rules::nobody_sleeps(&file, &[("tests/a.rs", "why")]), [""; 0]);
    let awake = one("tests/a.rs", "let s = \"sleep(1)\";");
    caught(&rules::nobody_sleeps(&awake, &[("tests/a.rs", "why")]), "tests/a.rs:");
}

#[test]
fn the_name_of_a_machine_is_caught() {
    let home = concat!("cd /wo", "rk/berth");
    caught(&rules::no_machine_is_named(&one("docs/a.md", home)), "docs/a.md:1:");
    let fine = concat!("STATE/overlay/x/wo", "rk/ and {upper,wo", "rk}/");
    assert_eq!(rules::no_machine_is_named(&one("docs/a.md", fine)), [""; 0]);
}

#[test]
fn a_silent_page_is_caught() {
    let promise = [("README.md", "scripts/test")];
    caught(&rules::pages_say(&one("README.md", "nothing"), &promise), "README.md:");
    assert_eq!(rules::pages_say(&one("README.md", "run scripts/test"), &promise), [""; 0]);
}
