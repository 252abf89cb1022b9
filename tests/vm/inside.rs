//! Test programs of this project, run inside a machine: what this host's kernel cannot show,
//! another one does. The attempts to break out of a unit (`tests/sandbox`), with version 2 of
//! control groups and `AppArmor`, on a kernel whose overlays want attached layers; and whole
//! supervisors (`tests/system`), each of which is not process 1 there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{self, Setup};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The program of `tests/NAME`, static and without what only a debugger wants, in `directory`.
fn program(name: &str, directory: &Path) -> PathBuf {
    // Made already, unless only this program is being tested: cargo says where it is.
    let words = ["test", "--locked", "--no-run", "--message-format=json", "--test", name];
    let output = Command::new(env!("CARGO")).args(words).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    let stripped = directory.join(name);
    let status = Command::new("strip")
        .arg("-o")
        .args([&stripped, &executable.expect("cargo names no program")])
        .status();
    assert!(status.unwrap().success(), "cannot strip it");
    stripped
}

/// What such a program needs that a machine has no compiler for.
fn probe(directory: &Path) -> PathBuf {
    let path = directory.join("probe");
    let source = format!("{ROOT}/tests/sandbox/probe.c");
    let words = ["-static", "-O1", "-Wall", "-Werror", "-o"];
    let status = Command::new("cc").args(words).args([path.as_path(), Path::new(&source)]).status();
    assert!(status.unwrap().success(), "cannot compile {source}");
    path
}

/// Runs `tests/NAME` with these arguments in a machine: what it reported.
fn run(kernel: &str, name: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| directory.path().join(file);
    fs::write(at("arguments"), arguments.join("\n") + "\n").unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let mut machine = Setup::new(kernel)
        .put("tests/vm/inside/units.toml", "/etc/berth/inside.toml")
        .put("tests/vm/inside/run.sh", "/srv/inside/run.sh")
        .put(&text(program(name, directory.path())), "/srv/inside/program")
        .put(&text(probe(directory.path())), "/srv/inside/probe")
        .put(&text(at("arguments")), "/srv/inside/arguments")
        // Where the program was told at its making that these are.
        .put(env!("CARGO_BIN_EXE_berth"), env!("CARGO_BIN_EXE_berth"))
        .put(env!("CARGO_BIN_EXE_berthctl"), env!("CARGO_BIN_EXE_berthctl"))
        .memory("1G")
        .patience(rig::PATIENCE * 5)
        .append("quiet")
        .boot();
    machine.await_end();
    let report = machine.report();
    assert!(report.contains("program ended with 0\n"), "{report}");
    machine.assert_clean();
    report
}

/// Each module of attempts is run in a machine once, on the kernel that has more to say to it:
/// emulated, all of them twice would take longer than everything else.
fn attempts(kernel: &str, modules: &[&str]) {
    let report = run(kernel, "sandbox", modules);
    let held = report.lines().filter(|line| line.starts_with("test escape_")).count();
    assert!(held >= 60, "only {held} attempts to break out:\n{report}");
}

/// Its overlays want their layers attached: whatever is about trees and their owners.
const ON_LINUX_6_1: [&str; 7] = [
    "escape_locked",
    "escape_own",
    "escape_paths",
    "escape_rootfs",
    "escape_secrets",
    "escape_user",
    "tree::",
];
/// A Landlock that is whole, newer control groups.
const ON_LINUX_6_12: [&str; 8] = [
    "escape_capabilities",
    "escape_control",
    "escape_devices",
    "escape_landlock",
    "escape_processes",
    "escape_seccomp",
    "labels::",
    "limits::",
];

#[test]
fn attempts_to_break_out_on_linux_6_1() {
    attempts(rig::KERNELS[0], &ON_LINUX_6_1);
}

#[test]
fn attempts_to_break_out_on_linux_6_12() {
    attempts(rig::KERNELS[1], &ON_LINUX_6_12);
}

/// A module of attempts that is new here is new in a machine too.
#[test]
fn every_attempt_is_made_in_a_machine() {
    let files = fs::read_dir(Path::new(ROOT).join("tests/sandbox")).unwrap();
    let modules = files.map(|file| file.unwrap().path().file_stem().unwrap().to_owned());
    let mut modules: Vec<_> = modules.map(|stem| stem.into_string().unwrap()).collect();
    modules.retain(|stem| stem.starts_with("escape_"));
    modules.sort();
    let listed = ON_LINUX_6_1.iter().chain(&ON_LINUX_6_12).map(|it| (*it).to_owned());
    let mut listed: Vec<_> = listed.filter(|it| it.starts_with("escape_")).collect();
    listed.sort();
    assert_eq!(modules, listed);
}

#[test]
fn supervisors_that_are_not_process_1() {
    let parts = ["access::", "landlock::", "users::", "adopt::"];
    // How somebody ended who is not one's child is told since Linux 6.15.
    let options = ["--skip=adopt::what_still_runs_is_taken_over", "--test-threads=2"];
    let report = run(rig::KERNELS[1], "system", &[&parts[..], &options].concat());
    assert!(report.contains("test result: ok."), "{report}");
}
