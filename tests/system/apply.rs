//! New definitions for old ones, while everything runs.

use std::fs;

use nix::sys::signal::Signal;

use crate::rig::{Mode, Rig};

fn sleeper(name: &str, seconds: u32, more: &str) -> String {
    format!("[service.{name}]\ncommand = 'sleep {seconds}'\nisolation = 'none'\n{more}\n")
}

/// The plan's lines, without the target whose list of wishes changes with its units.
fn plan(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.ends_with(" default")).map(str::to_owned).collect()
}

#[test]
fn only_what_changed_is_touched() {
    let stay = sleeper("stay", 1001, "");
    let mut rig = Rig::up(&format!(
        "{stay}{}{}{}",
        sleeper("change", 1002, "wanted-by = []"),
        sleeper("restart", 1003, ""),
        sleeper("remove", 1004, "")
    ));
    for unit in ["stay", "restart", "remove"] {
        rig.wait_state(unit, "running");
    }
    let (stay_pid, restart_pid) = (rig.main_pid("stay"), rig.main_pid("restart"));
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    rig.write_units(&format!(
        "# one line more\n{stay}{}{}{}",
        sleeper("change", 2002, "wanted-by = []"),
        sleeper("restart", 2003, ""),
        sleeper("add", 2004, "")
    ));
    let wanted = ["+ add add", "~ change change", "↻ restart restart", "- remove remove"];
    for _ in 0..2 {
        assert_eq!(plan(&rig.ctl_ok(&["apply", "--dry-run"])), wanted);
        assert_eq!(rig.main_pid("restart"), restart_pid);
        assert_eq!(rig.state("remove"), "running");
    }
    assert_eq!(plan(&rig.ctl_ok(&["apply"])), wanted);
    rig.wait_state("add", "running");
    rig.wait_state("restart", "running");
    assert_eq!(rig.main_pid("stay"), stay_pid);
    assert_ne!(rig.main_pid("restart"), restart_pid);
    assert_eq!(rig.state("change"), "inactive");
    rig.wait_for("the removed one to be gone", |rig| rig.ctl(&["status", "remove"]).code == 4);
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    assert!(rig.ctl_ok(&["show", "restart"]).contains("2003"));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_is_wrong_stays_as_it_was() {
    let mut rig = Rig::up(&format!("{}{}", sleeper("good", 1001, ""), sleeper("bad", 1002, "")));
    rig.wait_state("good", "running");
    rig.wait_state("bad", "running");
    let (good, bad) = (rig.main_pid("good"), rig.main_pid("bad"));
    let check = |rig: &Rig, units: &str, said: &str| {
        rig.write_units(units);
        let answer = rig.ctl(&["apply"]);
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.err.contains("test.toml:") && answer.err.contains(said), "{answer:?}");
        assert_eq!((rig.state("bad").as_str(), rig.main_pid("bad")), ("running", bad));
    };
    // One unit has a mistake; the other is replaced.
    check(
        &rig,
        &format!("{}{}", sleeper("good", 2001, ""), sleeper("bad", 2002, "comand = 'x'")),
        "comand",
    );
    rig.wait_state("good", "running");
    assert_ne!(rig.main_pid("good"), good);
    // The whole file is rubbish, gone from view, or names what is not there.
    check(&rig, "[service.good\n", "expected");
    check(
        &rig,
        &format!("{}{}", sleeper("good", 2001, ""), sleeper("bad", 2002, "requires = ['nobody']")),
        "nobody",
    );
    check(
        &rig,
        &format!(
            "{}{}",
            sleeper("good", 2001, "requires = ['bad']"),
            sleeper("bad", 2002, "requires = ['good']")
        ),
        "cycle",
    );
    assert_eq!(rig.ctl(&["status", "good"]).code, 0);
    rig.write_units(&format!("{}{}", sleeper("good", 2001, ""), sleeper("bad", 1002, "")));
    assert_eq!(rig.ctl(&["apply"]).code, 0);
    assert_eq!(rig.main_pid("bad"), bad);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn files_are_added_as_a_layer_and_remembered() {
    let rig = Rig::start(Mode::Boot, &sleeper("base", 1001, ""), &[]);
    rig.wait_state("base", "running");
    let pid = rig.main_pid("base");
    fs::write(rig.path("more.toml"), sleeper("more", 1002, "")).unwrap();
    let more = rig.path("more.toml").to_str().unwrap().to_owned();
    // A dry run is not remembered.
    assert_eq!(plan(&rig.ctl_ok(&["apply", "--dry-run", &more])), ["+ add more"]);
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    assert_eq!(plan(&rig.ctl_ok(&["apply", &more])), ["+ add more"]);
    rig.wait_state("more", "running");
    assert_eq!(rig.main_pid("base"), pid, "what was there is left alone");
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    // A file of the sources is read again, and not a second time above them.
    let own = rig.path("units/test.toml").to_str().unwrap().to_owned();
    rig.write_units(&format!("{}{}", sleeper("base", 1001, ""), sleeper("next", 1003, "")));
    assert_eq!(plan(&rig.ctl_ok(&["apply", &own])), ["+ add next"]);
    // It overrides key by key.
    fs::write(rig.path("more.toml"), "[service.base]\ndescription = 'from above'\n").unwrap();
    rig.signal(Signal::SIGHUP);
    rig.wait_for("the description", |rig| rig.ctl_ok(&["show", "base"]).contains("from above"));
    assert_eq!(rig.main_pid("base"), pid);
    rig.wait_for("the removed one to be gone", |rig| rig.ctl(&["status", "more"]).code == 4);
    // A file that is not there is a mistake and changes nothing.
    let said = rig.ctl(&["apply", "/nowhere/x.toml"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("/nowhere/x.toml"), "{said:?}");
    assert_eq!(rig.state("base"), "running");
}

#[test]
fn hang_ups_in_a_row_end_with_the_newest() {
    let rig = Rig::up(&sleeper("a", 1001, ""));
    rig.wait_state("a", "running");
    for round in 0..20 {
        rig.write_units(&format!(
            "{}{}",
            sleeper("a", 1001, ""),
            sleeper(&format!("n{round}"), 1002, "")
        ));
        rig.signal(Signal::SIGHUP);
    }
    rig.wait_for("the newest alone", |rig| rig.ctl_ok(&["list", "--names"]) == "a\ndefault\nn19\n");
    rig.wait_state("n19", "running");
}

#[test]
fn instances_started_by_hand_stay() {
    let template = "[service.'worker@']\ncommand = 'sleep 100%i'\nisolation = 'none'\n";
    let rig = Rig::start(Mode::Boot, &format!("{template}{}", sleeper("a", 1001, "")), &[]);
    rig.wait_state("a", "running");
    assert_eq!(rig.ctl(&["stop", "worker@1"]).code, 4);
    assert_eq!(rig.ctl(&["start", "worker@1", "nobody"]).code, 4);
    assert_eq!(rig.ctl(&["status", "worker@1"]).code, 4, "nothing was made");
    rig.ctl_ok(&["start", "worker@1", "worker@2"]);
    let pid = rig.main_pid("worker@1");
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    rig.write_units(&format!("{template}{}", sleeper("b", 1001, "")));
    assert_eq!(plan(&rig.ctl_ok(&["apply"])), ["+ add b", "- remove a"]);
    assert_eq!(rig.main_pid("worker@1"), pid);
    rig.write_units(&format!(
        "{}{}",
        template.replace("sleep", "/bin/sleep"),
        sleeper("b", 1001, "")
    ));
    assert_eq!(plan(&rig.ctl_ok(&["apply"])), ["↻ restart worker@1", "↻ restart worker@2"]);
    rig.wait_state("worker@1", "running");
    assert_ne!(rig.main_pid("worker@1"), pid);
    let said = rig.ctl(&["start", "worker@"]);
    assert_eq!(said.code, 4, "{said:?}");
}

#[test]
fn a_thousand_new_units_are_applied() {
    let mut rig = Rig::up(&sleeper("a", 1001, ""));
    rig.wait_state("a", "running");
    let many: String = (0..1000)
        .map(|number| format!("[target.a-rather-long-name-of-a-target-{number}]\n"))
        .collect();
    rig.write_units(&format!("{}{many}", sleeper("a", 1001, "")));
    assert_eq!(rig.ctl_ok(&["apply"]).lines().count(), 1000);
    assert_eq!(rig.ctl_ok(&["list", "--names"]).lines().count(), 1002);
    rig.write_units(&sleeper("a", 1001, ""));
    assert_eq!(rig.ctl_ok(&["apply"]).lines().count(), 1000);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_boot_with_bad_files_starts_the_good_units() {
    let mut rig = Rig::prepare(&sleeper("good", 1001, ""));
    let put =
        |name: &str, bytes: &[u8]| fs::write(rig.path(&format!("units/{name}")), bytes).unwrap();
    put("rubbish.toml", b"\x7fELF\x00\x01\x02garbage");
    put("latin.toml", b"[service.x]\ncommand = '\xe4'\n");
    put("nested.toml", format!("x = {}", "[".repeat(100_000)).as_bytes());
    put("broken.toml", b"[service.broken]\ncommand = \n");
    put("dots.toml", b"[service.'../escape']\ncommand = 'true'\n");
    fs::File::create(rig.path("units/giant.toml")).unwrap().set_len(1 << 30).unwrap();
    nix::unistd::mkfifo(&rig.path("units/fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("loop.toml", rig.path("units/loop.toml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", rig.path("units/zero.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", rig.path("units/dangling.toml")).unwrap();
    fs::create_dir(rig.path("units/directory.toml")).unwrap();
    let bad = [
        "rubbish",
        "latin",
        "nested",
        "broken",
        "dots",
        "giant",
        "fifo",
        "loop",
        "zero",
        "dangling",
        "directory",
    ];
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    rig.wait_state("good", "running");
    let said = rig.err();
    for name in bad {
        assert!(said.contains(&format!("/units/{name}.toml")), "{name} is not named: {said}");
    }
    let pid = rig.main_pid("good");
    // While it runs they cost nothing either.
    let answer = rig.ctl(&["apply"]);
    assert_eq!(answer.code, 1);
    for name in bad {
        assert!(answer.err.contains(&format!("/units/{name}.toml")), "{name}: {answer:?}");
    }
    rig.signal(Signal::SIGHUP);
    rig.wait_log("berth", "giant.toml");
    assert_eq!(rig.main_pid("good"), pid);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_reader_that_hangs_is_given_up() {
    let mut rig = Rig::up(&sleeper("a", 1001, ""));
    rig.wait_state("a", "running");
    let pid = rig.main_pid("a");
    // So much to read that there is time to stop the reader.
    for number in 0..200 {
        let many: String =
            (0..20).map(|it| sleeper(&format!("n{number}-{it}"), 1, "wanted-by = []")).collect();
        fs::write(rig.path(&format!("units/n{number}.toml")), many).unwrap();
    }
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| rig.ctl(&["apply"]));
        rig.wait_for("the reader", |rig| {
            let reader = rig.child("berth-reader");
            let pid = reader.map(nix::unistd::Pid::from_raw);
            pid.is_some_and(|pid| nix::sys::signal::kill(pid, Signal::SIGSTOP).is_ok())
        });
        let said = rig.ctl(&["apply"]);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("being read already"), "{said:?}");
        let said = stopped.join().unwrap();
        assert_eq!(said.code, 1);
        assert!(said.err.contains("took longer than 30 s"), "{said:?}");
    });
    assert_eq!(rig.main_pid("a"), pid);
    assert_eq!(plan(&rig.ctl_ok(&["apply"])).len(), 4000);
    assert_eq!(rig.main_pid("a"), pid);
    assert_eq!(rig.finish(), 0);
}
