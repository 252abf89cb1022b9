//! Orphans never stay zombies, and nothing that a run needed stays with the supervisor.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::rig::{Mode, PATIENCE, Rig, pause};

/// Makes 20 orphans that end at once, 20 that end a little later, and stays.
const ORPHANS: &str = "i=0; while [ $i -lt 20 ]; do (true &); (sleep 0.05 &); i=$((i+1)); done; \
    echo orphans; exec sleep 1000";

/// Zombies below the rig: name and parent's name.
fn zombies(rig: &Rig) -> Vec<String> {
    let mut zombies = Vec::new();
    for pid in rig.all_descendants() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.contains("State:\tZ") {
            zombies.push(status.lines().take(8).collect::<Vec<_>>().join(", "));
        }
    }
    zombies
}

#[test]
fn orphans_do_not_stay_zombies() {
    for mode in [Mode::Up, Mode::UpAsInit, Mode::Boot] {
        let mut rig = Rig::start(
            mode,
            &format!(
                "[service.plain]\nisolation = \"none\"\ncommand = [\"sh\", \"-c\", \"{ORPHANS}\"]\n\
                 [service.inside]\ncommand = [\"sh\", \"-c\", \"{ORPHANS}\"]\n\
                 # Process 1 inside that does not reap: the positive control.\n\
                 [service.bare]\ninit = false\nstop-timeout = \"50ms\"\n\
                 command = [\"sh\", \"-c\", \"{ORPHANS}\"]\n"
            ),
            &[],
        );
        for unit in ["plain", "inside", "bare"] {
            rig.wait_log(unit, "orphans");
        }
        rig.wait_for("the unreaped ones of process 1", |rig| zombies(rig).len() >= 5);
        rig.ctl_ok(&["stop", "bare"]);
        rig.wait_for("all zombies to be reaped", |rig| zombies(rig).is_empty());
        for unit in ["plain", "inside"] {
            assert_eq!(rig.state(unit), "running", "{mode:?}");
        }
        rig.ctl_ok(&["shutdown", "exit"]);
        assert_eq!(rig.wait_end(), 0);
    }
}

/// What the supervisor holds: descriptors by kind, its mounts, its cgroups, its children.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: BTreeMap<String, usize>,
    mounts: usize,
    groups: Vec<PathBuf>,
    children: usize,
}

impl Holdings {
    /// Once nothing of it changes any more: what clients held goes a moment after they have.
    fn settled(rig: &Rig) -> Self {
        let (mut last, mut since) = (Self::of(rig), Instant::now());
        let begun = Instant::now();
        while since.elapsed() < Duration::from_millis(500) {
            assert!(begun.elapsed() < PATIENCE, "it never settles: {last:?}");
            pause();
            let now = Self::of(rig);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    fn of(rig: &Rig) -> Self {
        let berth = rig.berth_pid();
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{berth}/fd")).unwrap().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.display().to_string();
            // Without the numbers of pipes and sockets.
            let kind = target.split(":[").next().unwrap().to_owned();
            *descriptors.entry(kind).or_insert(0) += 1;
        }
        let mounts = fs::read_to_string(format!("/proc/{berth}/mountinfo")).unwrap();
        let children = fs::read_to_string(format!("/proc/{berth}/task/{berth}/children")).unwrap();
        let mut groups = Vec::new();
        for root in rig.cgroups() {
            list(&root, &mut groups);
        }
        Self {
            descriptors,
            mounts: mounts.lines().count(),
            groups,
            children: children.split_whitespace().count(),
        }
    }
}

/// All directories below.
fn list(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            list(&entry.path(), found);
        }
    }
}

#[test]
fn fifty_cycles_leave_the_supervisor_as_it_was() {
    let mut rig = Rig::up(
        r#"
        [service.keep]
        command = "sleep 1000"
        [service.box]
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); exec "sleep", "1000"''']
        ready = "notify"
        wanted-by = []
        limits = { memory = "64M", pids = 50 }
        [service.plain]
        isolation = "none"
        command = ["perl", "-e", '''@PERL@ notify("READY=1"); exec "sleep", "1000"''']
        ready = "notify"
        wanted-by = []
        [service.fd]
        command = ["sh", "-c", "echo >&3; exec sleep 1000"]
        ready = "fd:3"
        isolation = "none"
        wanted-by = []
        start-pre = [["true"]]
        stop-post = [["true"]]
        [service.probed]
        command = "sleep 1000"
        ready = "path:/dev/null"
        health = { command = "true", interval = "5ms" }
        isolation = "none"
        wanted-by = []
        [service.missing]
        command = "no-such-program"
        restart = "no"
        wanted-by = []
        [service.broken]
        command = "sleep 1000"
        mounts = [{ type = "bind", source = "/opt/no/such/dir", target = "/mnt" }]
        restart = "no"
        wanted-by = []
        "#,
    );
    rig.wait_state("keep", "running");
    let good = ["box", "plain", "fd", "probed"];
    let cycle = |rig: &Rig| {
        let all = [&["start"][..], &good[..], &["missing", "broken"][..]].concat();
        let said = rig.ctl(&all);
        assert_eq!(said.code, 1, "{said:?}");
        for unit in good {
            assert!(!said.err.contains(&format!("cannot start {unit}")), "{said:?}");
        }
        rig.ctl_ok(&[&["stop"][..], &good[..]].concat());
    };
    // The first time may make what stays, as the logger's own.
    cycle(&rig);
    let before = Holdings::settled(&rig);
    assert!(before.groups.iter().any(|group| group.ends_with("keep")), "{before:?}");
    rig.ctl_ok(&["start", "box"]);
    assert_ne!(Holdings::of(&rig), before, "the comparison sees nothing");
    rig.ctl_ok(&["stop", "box"]);
    for _ in 0..50 {
        cycle(&rig);
    }
    assert_eq!(Holdings::settled(&rig), before);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn with_nothing_to_do_the_supervisor_does_nothing() {
    // Each of these leaves a descriptor that is ready for ever to whoever asks wrongly.
    let mut rig = Rig::up(
        r#"
        [service.silent]
        command = ["sh", "-c", "exec >&- 2>&-; exec sleep 1000"]
        [service.dropped]
        command = ["sh", "-c", "exec 3>&-; exec sleep 1000"]
        ready = "fd:3"
        [service.chatty]
        isolation = "none"
        command = ["perl", "-e", '''@PERL@ notify("READY=1", "MAINPID=1"); sleep''']
        ready = "notify"
        [service.backoff]
        command = "false"
        restart-delay = "10min"
        restart-delay-max = "10min"
        [service.orphans]
        init = false
        stop-timeout = "50ms"
        command = ["perl", "-e", '''@PERL@ for (1..5) { exit 0 if fork == 0 } sleep 1 while 1''']
        [service.follows]
        command = ["perl", "-e", '''@PERL@ my $n = fork; if ($n == 0) { sleep 1 while 1 } notify("READY=1", "MAINPID=$n"); sleep 1 while 1''']
        ready = "notify"
        [service.frozen]
        command = "sleep 1000"
        "#,
    );
    for (unit, state) in [
        ("silent", "running"),
        ("dropped", "starting"),
        ("chatty", "running"),
        ("backoff", "backoff"),
        ("follows", "running"),
        ("frozen", "running"),
    ] {
        rig.wait_state(unit, state);
    }
    rig.ctl_ok(&["freeze", "frozen"]);
    let berth = rig.berth_pid();
    let switches = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{berth}/status")).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    };
    let stat = || fs::read_to_string(format!("/proc/{berth}/schedstat")).unwrap();
    let nanoseconds = || -> u64 { stat().split_whitespace().next().unwrap().parse().unwrap() };
    let quiet = |rig: &Rig| {
        let (woken, used) = (switches(), nanoseconds());
        let since = std::time::Instant::now();
        rig.wait_for("a second to pass", |_| since.elapsed().as_millis() > 1000);
        (switches() - woken, nanoseconds() - used)
    };
    let (woken, used) = quiet(&rig);
    assert!(woken <= 5 && used < 5_000_000, "woken {woken} times, {used} ns\n{}", rig.story());
    // It can be seen when it does something.
    let (woken, used) = (switches(), nanoseconds());
    for _ in 0..10 {
        rig.ctl_ok(&["list"]);
    }
    assert!(switches() - woken > 5 && nanoseconds() > used);
    assert_eq!(rig.finish(), 0);
}
