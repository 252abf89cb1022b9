//! berth killed without warning, and what the next one finds; units that stay down.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::rig::{BERTH, Mode, Rig, Said};

const UNITS: &str = "
    [service.plain]
    command = ['sh', '-c', 'echo started; exec sleep 4455']
    isolation = 'none'
    [service.boxed]
    command = ['sh', '-c', 'setsid sleep 4456 & echo started; sleep 4457']
    [service.chained]
    command = 'sleep 4458'
    requires = ['boxed']
    [service.job]
    command = 'true'
    type = 'oneshot'
";

/// So many processes of the rig's cgroups run these commands.
fn count(groups: &[PathBuf], command: &str) -> usize {
    let mut found = 0;
    let mut todo: Vec<PathBuf> = groups.to_vec();
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
        // Only the tree that counts: the others list the same processes.
        let unified = path.join("cgroup.freeze").exists() || path.join("cgroup.kill").exists();
        let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter(|_| unified) {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found += usize::from(line.replace('\0', " ").trim() == command);
        }
    }
    found
}

fn wait_all(rig: &Rig) {
    for unit in ["plain", "boxed", "chained"] {
        rig.wait_state(unit, "running");
    }
    rig.wait_state("job", "done");
}

#[test]
fn without_a_ledger_the_next_supervisor_ends_what_a_killed_one_left() {
    let mut rig = Rig::start(Mode::Revived, UNITS, &[]);
    wait_all(&rig);
    let old = rig.cgroups();
    fs::remove_file(rig.path("run/ledger")).unwrap();
    rig.wait_for("all processes", |_| count(&old, "sleep 4456") == 1);
    rig.kill_berth();
    rig.wait_for("its own groups", |rig| !rig.cgroups().is_empty() && rig.cgroups() != old);
    rig.wait_control();
    wait_all(&rig);
    for command in ["sleep 4455", "sleep 4456", "sleep 4457", "sleep 4458"] {
        assert_eq!(count(&old, command), 0, "{command} is left");
        rig.wait_for("one of each", |rig| count(&rig.cgroups(), command) == 1);
    }
    for group in &old {
        assert!(!group.exists(), "{} is left", group.display());
    }
    assert_eq!(rig.logs("plain").matches("started").count(), 2);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn killed_at_any_moment_it_comes_back_whole() {
    let mut rig = Rig::prepare(UNITS);
    rig.launch(Mode::Revived, &[]);
    let mut random = 12_345_u64;
    let mut groups = Vec::new();
    for _ in 0..20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The moment of a kill is the point here, no condition could stand for it.
        std::thread::sleep(std::time::Duration::from_millis((random >> 33) % 250));
        groups.extend(rig.cgroups());
        rig.kill_berth();
    }
    rig.wait_control();
    wait_all(&rig);
    let now = rig.cgroups();
    groups.retain(|group| !now.contains(group));
    for command in ["sleep 4455", "sleep 4456", "sleep 4457", "sleep 4458"] {
        rig.wait_for("exactly one of each", |_| count(&now, command) == 1);
        assert_eq!(count(&groups, command), 0, "{command} is left");
    }
    assert_eq!(rig.finish(), 0);
    for group in groups {
        assert!(!group.exists(), "{} is left", group.display());
    }
}

#[test]
fn two_supervisors_do_not_share_a_directory() {
    let mut rig = Rig::up(UNITS);
    wait_all(&rig);
    for (runtime, state, named) in
        [("run", "state2", "--runtime-dir"), ("run2", "state", "--state-dir")]
    {
        let mut command = std::process::Command::new("timeout");
        command.args(["60", BERTH, "up", "--runtime-dir"]).arg(rig.path(runtime));
        command.arg("--state-dir").arg(rig.path(state)).arg(rig.path("units"));
        let said: Said = command.output().unwrap().into();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("another berth") && said.err.contains(named), "{said:?}");
    }
    wait_all(&rig);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn asked_to_end_at_any_moment_of_its_start_it_ends() {
    let mut random = 54_321_u64;
    for round in 0..15 {
        let mut rig = Rig::prepare(UNITS);
        rig.launch(Mode::Up, &[]);
        rig.wait_for("berth to take signals", |rig| rig.path("run/lock").exists());
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The moment of the signal is the point here, no condition could stand for it.
        std::thread::sleep(std::time::Duration::from_micros((random >> 33) % 30_000));
        rig.signal(Signal::SIGTERM);
        let code = rig.wait_end();
        // Before it takes signals a signal ends it; the lock says that it is nearly there.
        assert!(code == 0 || code == 143, "round {round}: {code}");
    }
}

#[test]
fn asked_to_end_while_units_are_read_it_ends() {
    let mut rig = Rig::prepare(UNITS);
    // So many take the reader a while.
    let many: String =
        (0..2000).map(|n| format!("[service.n{n}]\ncommand = 'true'\nwanted-by = []\n")).collect();
    fs::write(rig.path("units/many.toml"), many).unwrap();
    rig.launch(Mode::Up, &[]);
    rig.wait_for("berth to run", |rig| rig.path("run/lock").exists());
    rig.wait_for("the reader", |rig| rig.child("berth-reader").is_some());
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.wait_end(), 0);
    assert!(!rig.out().contains("plain: preparing"), "{}", rig.story());
}

#[test]
fn stopped_by_hand_it_stays_down_over_a_boot() {
    let units = "
        [service.keep]
        command = 'sleep 1001'
        isolation = 'none'
        restart = 'unless-stopped'
        [service.other]
        command = 'sleep 1002'
        isolation = 'none'
        restart = 'always'
        [service.beside]
        command = 'sleep 1003'
        isolation = 'none'
    ";
    let mut rig = Rig::start(Mode::Boot, units, &[]);
    rig.wait_state("keep", "running");
    rig.wait_state("other", "running");
    rig.ctl_ok(&["stop", "keep", "other"]);
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    assert_eq!(rig.finish(), 0);
    assert!(rig.path("state/stopped/keep").exists());
    assert!(!rig.path("state/stopped/other").exists());
    for _ in 0..2 {
        rig.launch(Mode::Boot, &[]);
        rig.wait_control();
        rig.wait_state("other", "running");
        rig.wait_state("beside", "running");
        assert_eq!(rig.state("keep"), "inactive");
        assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
        rig.write_units(&format!("{units}\ndescription = 'changed'\n"));
        rig.ctl_ok(&["apply"]);
        assert_eq!(rig.state("keep"), "inactive");
        rig.write_units(units);
        assert_eq!(rig.finish(), 0);
    }
    // Started by hand it is as if nothing had been.
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    rig.ctl_ok(&["start", "keep"]);
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    assert_eq!(rig.finish(), 0);
    assert!(!rig.path("state/stopped/keep").exists());
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    rig.wait_state("keep", "running");
    // A shutdown is no stop by hand, nor is a signal from elsewhere.
    rig.signal(Signal::SIGTERM);
    assert_eq!(rig.wait_end(), 0);
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    rig.wait_state("keep", "running");
    assert_eq!(rig.finish(), 0);
}
