//! When `stop` returns 0 nothing of the unit is left, whatever it did.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::rig::Rig;

/// Leaves behind: a double-forked child in a session of its own, one that ignores signals,
/// one that is stopped. Then says so.
const MESS: &str = "(setsid sleep 801 >/dev/null 2>&1 &) ; \
    sh -c \\\"trap '' TERM INT HUP; while :; do sleep 802; done\\\" & \
    sleep 803 & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!; echo messed; exec sleep 804";

/// Directories of the unit in every hierarchy.
fn groups(rig: &Rig, unit: &str) -> Vec<PathBuf> {
    rig.cgroups().iter().map(|root| root.join(unit)).filter(|path| path.is_dir()).collect()
}

#[test]
fn no_process_and_no_group_is_left() {
    let mut rig = Rig::up(&format!(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.inside]
        command = ["sh", "-c", "{MESS}"]
        limits = {{ memory = "64M", pids = 50 }}
        [service.plain]
        isolation = "none"
        command = ["sh", "-c", "{MESS}"]
        limits = {{ memory = "64M", pids = 50 }}
        [service.bare]
        command = ["sh", "-c", "{MESS}"]
        init = false
        stop-timeout = "100ms"
        "#
    ));
    for unit in ["inside", "plain", "bare"] {
        rig.wait_log(unit, "messed");
        let group = PathBuf::from(rig.status(unit)["cgroup"].as_str().unwrap());
        rig.wait_for("all of it to be there", |_| {
            fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count() >= 5
        });
        let before = groups(&rig, unit);
        assert!(!before.is_empty(), "{unit} has no group");
        if unit != "bare" && rig.status(unit)["unenforced"].as_array().unwrap().is_empty() {
            assert!(before.len() >= 2 || before[0].join("memory.max").exists(), "{before:?}");
        }
        rig.ctl_ok(&["stop", unit]);
        assert_eq!(groups(&rig, unit), Vec::<PathBuf>::new(), "{unit}");
        assert!(rig.status(unit)["main_pid"].is_null());
    }
    for number in ["801", "802", "803", "804"] {
        assert_eq!(rig.commands(&format!("sleep\0{number}")), 0, "{number}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn groups_that_the_unit_made_go_too() {
    // Without a container it may make groups within its own.
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.it]
        isolation = "none"
        command = ["sh", "-c", "read -r group <@DIR@/share/group; mkdir -p $group/a/b $group/c; sleep 900 & echo $! >$group/a/b/cgroup.procs; echo made; exec sleep 1000"]
        start-pre = [["sh", "-c", "until test -e @DIR@/share/group; do sleep 0.01; done"]]
        "#,
    );
    rig.wait_state("it", "preparing");
    let group = PathBuf::from(rig.status("it")["cgroup"].as_str().unwrap());
    let draft = rig.path("share/draft");
    fs::write(&draft, format!("{}\n", group.display())).unwrap();
    fs::rename(draft, rig.path("share/group")).unwrap();
    rig.wait_log("it", "made");
    let nested = fs::read_to_string(group.join("a/b/cgroup.procs")).unwrap();
    assert_eq!(nested.lines().count(), 1, "the child has not moved");
    rig.ctl_ok(&["stop", "it"]);
    assert!(!group.exists());
    assert_eq!(rig.commands("sleep\0900"), 0);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn what_is_frozen_or_stopped_can_be_stopped() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.frozen]
        command = "sleep 1000"
        [service.held]
        command = ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"]
        ready = "log:up"
        [service.deaf]
        command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"]
        ready = "log:up"
        stop-timeout = "200ms"
        "#,
    );
    rig.wait_state("frozen", "running");
    rig.ctl_ok(&["freeze", "frozen"]);
    rig.wait_state("frozen", "frozen");
    let group = PathBuf::from(rig.status("frozen")["cgroup"].as_str().unwrap());
    rig.wait_for("the group to be frozen", |_| {
        fs::read_to_string(group.join("cgroup.events")).unwrap().contains("frozen 1")
    });
    let begun = Instant::now();
    rig.ctl_ok(&["stop", "frozen"]);
    // It was thawed to hear the signal: nobody waited for the stop timeout.
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(rig.verdict("frozen").2["signal"], 15);
    assert!(!group.exists());
    for (unit, end) in [("held", "code"), ("deaf", "signal")] {
        rig.wait_state(unit, "running");
        rig.ctl_ok(&["kill", "-s", "STOP", unit]);
        let main = rig.host_pid(rig.main_pid(unit));
        rig.wait_for("it to be stopped", |_| {
            fs::read_to_string(format!("/proc/{main}/status")).unwrap().contains("T (stopped)")
        });
        let begun = Instant::now();
        rig.ctl_ok(&["stop", unit]);
        assert!(begun.elapsed() < Duration::from_secs(8));
        assert!(!rig.verdict(unit).2[end].is_null(), "{unit}: {:?}", rig.verdict(unit));
    }
    rig.wait_log("held", "bye");
    // Frozen again after a thaw, and then all at once.
    rig.ctl_ok(&["start", "frozen"]);
    rig.ctl_ok(&["freeze", "frozen"]);
    rig.ctl_ok(&["thaw", "frozen"]);
    rig.wait_state("frozen", "running");
    rig.ctl_ok(&["freeze", "frozen"]);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn dependents_go_first() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.db]
        command = "sleep 1000"
        [service.app]
        command = "sleep 1000"
        requires = ["db"]
        [service.web]
        command = "sleep 1000"
        requires = ["app"]
        [service.watcher]
        command = "sleep 1000"
        wants = ["db"]
        "#,
    );
    rig.wait_state("web", "running");
    rig.wait_state("watcher", "running");
    rig.ctl_ok(&["stop", "db"]);
    rig.wait_for("the console to show it", |rig| rig.out().contains("db: inactive"));
    let out = rig.out();
    assert!(out.contains("db: stopping: waits until its dependents have stopped"), "{out}");
    assert!(out.contains("web: stopping\n"), "{out}");
    let at = |text: &str| out.rfind(text).unwrap_or_else(|| panic!("no {text:?} in {out}"));
    assert!(at("web: inactive") < at("app: inactive") && at("app: inactive") < at("db: inactive"));
    assert_eq!(rig.state("watcher"), "running", "what only wants it stays");
    // Shutdown in reverse order as well.
    let before = out.len();
    rig.ctl_ok(&["start", "web"]);
    rig.ctl_ok(&["shutdown", "exit"]);
    assert_eq!(rig.wait_end(), 0);
    let out = rig.out().split_off(before);
    let at = |text: &str| out.rfind(text).unwrap_or_else(|| panic!("no {text:?} in {out}"));
    assert!(at("web: inactive") < at("app: inactive") && at("app: inactive") < at("db: inactive"));
    assert!(at("watcher: inactive") < at("db: inactive"));
}

#[test]
fn on_its_way_up_it_can_be_stopped_anywhere() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.backoff]
        command = ["sh", "-c", "exit 1"]
        restart-delay = "10min"
        restart-delay-max = "10min"
        [service.waiting]
        command = "sleep 1000"
        requires = ["backoff"]
        [service.preparing]
        command = "sleep 1000"
        start-pre = [["sleep", "999"]]
        [service.starting]
        command = "sleep 1000"
        ready = "notify"
        "#,
    );
    for unit in ["waiting", "backoff", "preparing", "starting"] {
        rig.wait_state(unit, unit);
        let begun = Instant::now();
        rig.ctl_ok(&["stop", unit]);
        assert!(begun.elapsed() < Duration::from_secs(8), "{unit}");
        let status = rig.status(unit);
        assert_eq!((&status["state"], &status["desired"]), (&"inactive".into(), &"down".into()));
        assert_eq!(groups(&rig, unit), Vec::<PathBuf>::new());
        // Again is no mistake.
        rig.ctl_ok(&["stop", unit]);
    }
    assert_eq!(rig.descendants("sleep").len(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_start_that_somebody_waits_for_is_told_of_the_stop() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.it]
        command = "sleep 1000"
        ready = "notify"
        wanted-by = []
        "#,
    );
    let (start, stops) = std::thread::scope(|scope| {
        let start = scope.spawn(|| rig.ctl(&["start", "it"]));
        rig.wait_state("it", "starting");
        let stops =
            [scope.spawn(|| rig.ctl(&["stop", "it"])), scope.spawn(|| rig.ctl(&["stop", "it"]))];
        (start.join().unwrap(), stops.map(|stop| stop.join().unwrap()))
    });
    assert_eq!(start.code, 1, "{start:?}");
    assert!(start.err.starts_with("berthctl: cannot start it: "), "{start:?}");
    for stop in stops {
        assert_eq!(stop.code, 0, "{stop:?}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn any_signal_can_be_sent_by_name_or_number() {
    let mut rig = Rig::up(
        r#"
        [service.it]
        command = ["perl", "-e", '''@PERL@ for my $s (qw(HUP USR1 USR2 WINCH)) { $SIG{$s} = sub { print "got $s\n" } }
            print "up\n"; sleep 1 while 1''']
        ready = "log:up"
        restart = "no"
        [service.keep]
        command = "sleep 1000"
        [service.down]
        command = "sleep 1000"
        wanted-by = []
        "#,
    );
    rig.wait_state("it", "running");
    for (name, heard) in
        [("HUP", "got HUP"), ("SIGUSR1", "got USR1"), ("usr2", "got USR2"), ("28", "got WINCH")]
    {
        rig.ctl_ok(&["kill", "-s", name, "it"]);
        rig.wait_log("it", heard);
    }
    for bad in ["NONSENSE", "0", "65", "-1"] {
        assert_eq!(rig.ctl(&["kill", &format!("--signal={bad}"), "it"]).code, 2, "{bad}");
    }
    assert_eq!(rig.state("it"), "running");
    let said = rig.ctl(&["kill", "down"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("down"), "{said:?}");
    rig.ctl_ok(&["kill", "it"]);
    rig.wait_state("it", "failed");
    assert_eq!(rig.verdict("it").2["signal"], 15);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn after_shutdown_no_group_of_berth_is_left() {
    let mut rig = Rig::up(&format!(
        "[service.it]\ncommand = [\"sh\", \"-c\", \"{MESS}\"]\nlimits = {{ memory = \"64M\" }}\n"
    ));
    rig.wait_log("it", "messed");
    let groups = rig.cgroups();
    assert!(groups.iter().any(|group| group.is_dir()), "{groups:?}");
    assert_eq!(rig.finish(), 0);
    let left: Vec<&PathBuf> = groups.iter().filter(|group| Path::new(group).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_forks_without_end_is_stopped_too() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.bomb]
        isolation = "none"
        command = ["perl", "-e", '''$SIG{TERM} = "IGNORE"; $| = 1; print "up\n"; while (1) { fork; select(undef, undef, undef, 0.02) }''']
        ready = "log:up"
        stop-timeout = "100ms"
        limits = { pids = 40 }
        "#,
    );
    rig.wait_state("bomb", "running");
    rig.wait_for("it to grow", |rig| rig.descendants("perl").len() > 20);
    rig.ctl_ok(&["stop", "bomb"]);
    assert_eq!(rig.descendants("perl"), [0; 0]);
    assert_eq!(groups(&rig, "bomb"), Vec::<PathBuf>::new());
    assert_eq!(rig.finish(), 0);
}
