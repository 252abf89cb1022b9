//! Restarting: policies, the growing delay, the limit; and commands that cannot be run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::rig::Rig;

/// A service that ends with this code each time.
fn ends(name: &str, code: u8, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", \"exit {code}\"]\n{more}\n")
}

const KEEP: &str = "[service.keep]\ncommand = \"sleep 1000\"\n";

#[test]
fn policies() {
    let quick = "restart-delay = \"1ms\"\nrestart-limit = { count = 3, window = \"1min\" }\n";
    let mut units = KEEP.to_owned();
    for policy in ["no", "on-failure", "always", "unless-stopped"] {
        for (name, code) in [("good", 0), ("bad", 4)] {
            let more = format!("{quick}restart = \"{policy}\"");
            units.push_str(&ends(&format!("{name}-{policy}"), code, &more));
        }
    }
    let mut rig = Rig::up(&units);
    // Policy, what the good and the bad one come to, how often each is restarted.
    let table = [
        ("no", ("inactive", 0), ("failed", 0)),
        ("on-failure", ("inactive", 0), ("failed", 3)),
        ("always", ("failed", 3), ("failed", 3)),
        ("unless-stopped", ("failed", 3), ("failed", 3)),
    ];
    for (policy, good, bad) in table {
        for (name, (state, restarts)) in [("good", good), ("bad", bad)] {
            let unit = format!("{name}-{policy}");
            rig.wait_state(&unit, state);
            assert_eq!(rig.restarts(&unit), restarts, "{unit}");
            let result = rig.verdict(&unit).0;
            let expected = match (state, restarts) {
                ("inactive", _) => "success",
                (_, 0) => "exit-code",
                _ => "start-limit",
            };
            assert_eq!(result, expected, "{unit}");
        }
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_delay_doubles_up_to_its_cap_and_begins_again_after_a_good_run() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        # Dies at once, until it may live.
        [service.it]
        isolation = "none"
        command = ["sh", "-c", "test -e @DIR@/share/live && exec sleep 1000; exit 1"]
        restart-delay = "40ms"
        restart-delay-max = "160ms"
        restart-reset = "300ms"
        restart-limit = { count = 0 }
        "#,
    );
    rig.wait_for("five restarts", |rig| rig.restarts("it") >= 5);
    fs::write(rig.path("share/live"), "").unwrap();
    rig.wait_state("it", "running");
    let delays = |rig: &Rig| -> Vec<u64> {
        let delay = |text: &str| {
            let (_, after) = text.split_once(" in ")?;
            after.strip_suffix("ms")?.parse().ok()
        };
        let backoffs = rig.notices("it").into_iter().filter(|text| text.starts_with("backoff"));
        backoffs.filter_map(|text| delay(&text)).collect()
    };
    let seen = delays(&rig);
    let nominal = [40, 80, 160, 160, 160];
    assert!(seen.len() >= nominal.len(), "{seen:?}\n{}", rig.out());
    for (seen, nominal) in seen.iter().zip(nominal) {
        // Jitter of a fifth, and never above the cap.
        assert!((nominal * 79 / 100..=(nominal * 121 / 100).min(160)).contains(seen), "{seen}");
    }
    // A run that was long enough makes it begin anew.
    let since = std::time::Instant::now();
    rig.wait_for("a good run", |_| since.elapsed().as_millis() > 400);
    rig.ctl_ok(&["kill", "-s", "KILL", "it"]);
    rig.wait_for("the next restart", |rig| delays(rig).len() > seen.len());
    let next = delays(&rig)[seen.len()];
    assert!((31..=49).contains(&next), "{next}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_limit_ends_in_failed_and_reset_and_start_begin_anew() {
    let mut units = KEEP.to_owned();
    let limit = "restart-delay = \"0s\"\nrestart-limit = { count = 5, window = \"1min\" }";
    units.push_str(&ends("it", 3, limit));
    let mut rig = Rig::up(&units);
    rig.wait_state("it", "failed");
    let (result, why, _) = rig.verdict("it");
    assert_eq!(result, "start-limit");
    assert_eq!(why, "failed after 5 restarts in 1min: exit code 3");
    assert_eq!(rig.restarts("it"), 5);
    let at_once = rig.notices("it").iter().filter(|text| text.contains("at once")).count();
    assert_eq!(at_once, 5);
    rig.ctl_ok(&["reset", "it"]);
    assert_eq!((rig.state("it").as_str(), rig.restarts("it")), ("inactive", 0));
    assert!(rig.status("it")["result"].is_null());
    rig.ctl(&["start", "it"]);
    rig.wait_for("five more", |rig| rig.restarts("it") == 5 && rig.state("it") == "failed");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_hangs_in_its_start_is_tried_again() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.it]
        command = ["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"]
        ready = "notify"
        # Long enough for it to have said what it ignores.
        start-timeout = "1s"
        stop-timeout = "150ms"
        restart-delay = "1ms"
        restart-limit = { count = 2, window = "1min" }
        "#,
    );
    rig.wait_state("it", "failed");
    let (result, why, exit) = rig.verdict("it");
    assert_eq!((result.as_str(), &exit["signal"]), ("start-limit", &9.into()));
    assert!(why.contains("not ready within 1s"), "{why}");
    assert_eq!(rig.descendants("sh").len(), 1, "only the rig's own shell");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_command_that_cannot_be_run_is_named_with_its_line() {
    let rig = Rig::prepare(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.missing]
        command = "no-such-program --flag"
        restart = "no"
        [service.absolute]
        command = "/opt/no/such"
        restart = "no"
        [service.plain]
        isolation = "none"
        command = "no-such-program"
        restart = "no"
        [service.text]
        mounts = [@SHARE@]
        command = "/mnt/text"
        restart = "no"
        [service.script]
        mounts = [@SHARE@]
        command = "/mnt/script"
        restart = "no"
        [service.pre]
        command = "sleep 1000"
        start-pre = [["no-such-hook"]]
        restart = "no"
        "#,
    );
    fs::write(rig.path("share/text"), "no program").unwrap();
    fs::write(rig.path("share/script"), "#!/opt/no/interpreter\n").unwrap();
    fs::set_permissions(rig.path("share/script"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut rig = rig;
    rig.launch(crate::rig::Mode::Up, &[]);
    rig.wait_for("the control socket", |rig| rig.ctl(&["list"]).code == 0);
    let expected = [
        ("missing", 5, "\"no-such-program\": not found in the unit's PATH (/usr/local/sbin:"),
        ("absolute", 8, "/opt/no/such"),
        ("plain", 12, "\"no-such-program\": not found in the unit's PATH"),
        ("text", 16, "may not be executed"),
        ("script", 20, "the interpreter /opt/no/interpreter of /mnt/script"),
        ("pre", 24, "\"no-such-hook\": not found in the unit's PATH"),
    ];
    for (unit, line, text) in expected {
        rig.wait_state(unit, "failed");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!(result, "resources", "{unit}: {why}");
        assert!(why.contains(text), "{unit}: {why}");
        assert!(why.contains(&format!("test.toml:{line}")), "{unit}: {why}");
        assert!(exit.is_null(), "{unit}: {exit}");
    }
    let said = rig.ctl(&["start", "missing"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("not found in the unit's PATH"), "{said:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn too_much_memory_is_named() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.greedy]
        command = ["perl", "-e", "my @all; push @all, 'x' x (1 << 20) while 1"]
        restart = "no"
        limits = { memory = "24M" }
        "#,
    );
    rig.wait_for("the unit to run or to have failed", |rig| {
        ["running", "failed"].contains(&rig.state("greedy").as_str())
    });
    let unenforced = rig.status("greedy")["unenforced"].to_string();
    assert!(!unenforced.contains("memory"), "this host cannot limit memory: {unenforced}");
    rig.wait_state("greedy", "failed");
    let (result, why, exit) = rig.verdict("greedy");
    assert_eq!((result.as_str(), &exit["signal"]), ("oom-kill", &9.into()));
    assert!(why.contains("out of memory"), "{why}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_restart_by_hand_brings_back_what_was_stopped_for_it() {
    let mut rig = Rig::up(
        r#"
        [service.db]
        command = "sleep 1000"
        [service.web]
        command = "sleep 1000"
        requires = ["db"]
        "#,
    );
    rig.wait_state("web", "running");
    let before = ["db", "web"].map(|unit| rig.main_pid(unit));
    rig.ctl_ok(&["restart", "db"]);
    rig.wait_state("web", "running");
    let after = ["db", "web"].map(|unit| rig.main_pid(unit));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!((rig.restarts("db"), rig.restarts("web")), (0, 0));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn oneshots_have_a_time_and_leave_nothing() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.slow]
        type = "oneshot"
        command = "sleep 999"
        start-timeout = "200ms"
        restart = "no"
        [service.prep]
        command = "sleep 1000"
        start-pre = [["sleep", "999"]]
        start-timeout = "200ms"
        restart = "no"
        # What a oneshot leaves behind is no service: it ends with it.
        [service.litter]
        isolation = "none"
        type = "oneshot"
        command = ["sh", "-c", "setsid sleep 999 >/dev/null 2>&1 & exit 0"]
        restart = "no"
        "#,
    );
    for (unit, why) in [("slow", "not done within 200ms"), ("prep", "not ready within 200ms")] {
        rig.wait_state(unit, "failed");
        let (result, text, _) = rig.verdict(unit);
        assert_eq!((result.as_str(), text.as_str()), ("timeout", why), "{unit}");
    }
    rig.wait_state("litter", "done");
    assert_eq!(rig.verdict("litter").0, "success");
    assert_eq!(rig.descendants("sleep").len(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn one_that_dies_at_once_for_ever_holds_up_nobody() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.storm]
        isolation = "none"
        command = "false"
        restart-delay = "0s"
        restart-limit = { count = 0 }
        [service.gale]
        command = "false"
        restart-delay = "0s"
        restart-limit = { count = 0 }
        log = { driver = "none" }
        "#,
    );
    for unit in ["storm", "gale"] {
        rig.wait_for("many restarts", |rig| rig.restarts(unit) > 50);
    }
    rig.wait_state("keep", "running");
    // Forgetting its count does not stop it.
    rig.ctl_ok(&["reset", "storm"]);
    rig.wait_for("more of them", |rig| rig.restarts("storm") > 10);
    for unit in ["storm", "gale"] {
        rig.ctl_ok(&["stop", unit]);
        assert_eq!(rig.state(unit), "inactive");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_start_ends_what_it_conflicts_with() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.old]
        command = "sleep 1000"
        [service.new]
        command = "sleep 1000"
        conflicts = ["old"]
        wanted-by = []
        "#,
    );
    rig.wait_state("old", "running");
    rig.ctl_ok(&["start", "new"]);
    assert_eq!((rig.state("old").as_str(), rig.state("new").as_str()), ("inactive", "running"));
    rig.ctl_ok(&["start", "old"]);
    assert_eq!((rig.state("old").as_str(), rig.state("new").as_str()), ("running", "inactive"));
    assert_eq!(rig.descendants("sleep").len(), 2);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_was_killed_while_frozen_comes_back_thawed() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["sh", "-c", "echo up; exec sleep 1000"]
        restart-delay = "1ms"
        "#,
    );
    rig.wait_state("it", "running");
    rig.ctl_ok(&["freeze", "it"]);
    rig.ctl_ok(&["kill", "-s", "KILL", "it"]);
    rig.wait_for("its restart", |rig| rig.restarts("it") == 1 && rig.state("it") == "running");
    rig.wait_for("its second word", |rig| rig.logs("it") == "up\nup\n");
    assert_eq!(rig.finish(), 0);
}
