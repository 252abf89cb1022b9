//! Ranges of user numbers: each unit its own, kept, and what happens when there is none.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::rig::{BERTH, BERTHCTL, Mode, Rig, Said};

const POOL: &[&str] = &["--user-namespace-pool", "1900000000:131072"];

const UNITS: &str = "[service.a]\ncommand = \"sleep 1000\"\n[service.b]\ncommand = \"sleep 1000\"\n\
                     wanted-by = []\n[service.c]\ncommand = \"sleep 1000\"\nwanted-by = []\n\
                     [service.host]\ncommand = \"sleep 1000\"\n\
                     security = { user-namespace = \"none\" }\n";

/// The user of a unit's main process, as the host sees it.
fn user(rig: &Rig, unit: &str) -> u32 {
    let pid = rig.host_pid(rig.main_pid(unit));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The first number of the host that the users of a unit have.
fn first(rig: &Rig, unit: &str) -> u32 {
    let shown = rig.status(unit)["user_namespace"].as_str().unwrap().to_owned();
    let numbers: Vec<u32> = shown.split(':').map(|number| number.parse().unwrap()).collect();
    assert_eq!((numbers[0], numbers[2]), (0, 65_536), "{shown}");
    numbers[1]
}

/// The two ranges of [`POOL`].
const RANGES: [u32; 2] = [1_900_000_000, 1_900_065_536];

#[test]
fn a_unit_keeps_its_range_and_status_shows_it() {
    let mut rig = Rig::start(Mode::Boot, UNITS, POOL);
    rig.wait_state("a", "running");
    rig.wait_state("host", "running");
    let shown = |rig: &Rig, unit: &str| rig.status(unit)["user_namespace"].clone();
    assert!(shown(&rig, "host").is_null() && rig.status("host")["no_user_namespace"].is_null());
    rig.ctl_ok(&["start", "b"]);
    let (a, b) = (first(&rig, "a"), first(&rig, "b"));
    assert!(a != b && RANGES.contains(&a) && RANGES.contains(&b), "{a} {b}");
    let seen = |rig: &Rig| (user(rig, "a"), user(rig, "b"), user(rig, "host"));
    assert_eq!(seen(&rig), (a, b, 0));
    // A third finds nothing, and says so.
    let said = rig.ctl(&["start", "c"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("no range of user numbers is left in the pool"), "{said:?}");
    for unit in ["b", "a"] {
        rig.ctl_ok(&["restart", unit]);
    }
    assert_eq!(seen(&rig), (a, b, 0));
    rig.ctl_ok(&["upgrade"]);
    rig.ctl_ok(&["restart", "a"]);
    assert_eq!(seen(&rig), (a, b, 0));
    assert_eq!(rig.finish(), 0);
    let text = fs::read_to_string(rig.path("state/user-namespaces")).unwrap();
    assert_eq!(text, format!("{a} a\n{b} b\n"));
    // The next berth gives the same, in whatever order they start.
    fs::write(rig.path("state/user-namespaces"), format!("{b} a\n{a} b\n")).unwrap();
    rig.launch(Mode::Boot, POOL);
    rig.wait_control();
    rig.wait_state("a", "running");
    assert_eq!(first(&rig, "a"), b);
    assert_eq!(rig.finish(), 0);
}

/// A second supervisor beside that of the rig, with directories of its own.
struct Second<'a> {
    rig: &'a Rig,
    name: String,
    child: Child,
}

impl<'a> Second<'a> {
    /// `before` is what the shell that executes it begins with, in a mount namespace of its own.
    fn start(rig: &'a Rig, name: &str, pool: &str, before: &str) -> Self {
        let directory = rig.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("units.toml"), UNITS).unwrap();
        let berth = format!(
            "{before} {BERTH} up --runtime-dir {0}/run --state-dir {0}/state \
             --user-namespace-pool {pool} {0}/units.toml",
            directory.display(),
        );
        let output = fs::File::create(directory.join("out")).unwrap();
        let child = Command::new("nsenter")
            .args(["--net", "--mount", "--pid", "-t", &rig.berth_pid().to_string()])
            .args(["unshare", "--mount", "sh", "-c", &berth])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { rig, name: name.to_owned(), child }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(BERTHCTL);
        command.arg("--runtime-dir").arg(self.rig.path(&format!("{}/run", self.name)));
        command.args(arguments).output().unwrap().into()
    }

    /// The first number that the users of its unit `a` have, once it runs.
    fn first(&self) -> u32 {
        let status = || {
            let said = self.ctl(&["status", "--json", "a"]);
            serde_json::from_str::<Value>(&said.out).unwrap_or_default()[0].clone()
        };
        self.rig.wait_for("the unit of the second", |_| status()["state"] == "running");
        let map = status()["user_namespace"].as_str().unwrap().to_owned();
        map.split(':').nth(1).unwrap().parse().unwrap()
    }

    fn end(mut self) {
        assert_eq!(self.ctl(&["shutdown", "exit"]).code, 0);
        assert!(self.child.wait().unwrap().success());
    }
}

/// What the shell of a supervisor begins with that is not to know of locks, nor of processes.
const NO_LOCKS: &str = "mount -t tmpfs none /run; exec";
const NO_PROCESSES: &str = "exec unshare --pid --fork --mount-proc";
const NEITHER: &str = "mount -t tmpfs none /run; exec unshare --pid --fork --mount-proc";

/// With one pool and different directories. Each has its first choice by its own directory, so
/// the second is tried until it wants what the first has: that it gets, if it knows neither of
/// the locks nor of the processes of this host.
#[test]
fn two_supervisors_give_no_number_twice() {
    let mut rig = Rig::start(Mode::Boot, UNITS, POOL);
    rig.wait_state("a", "running");
    let taken = first(&rig, "a");
    let gets = |name: &str, before: &str| {
        let second = Second::start(&rig, name, POOL[1], before);
        let first = second.first();
        second.end();
        fs::remove_dir_all(rig.path(name)).unwrap();
        first
    };
    let mut names = (0..20).map(|number| format!("second-{number}"));
    let name = names.find(|name| gets(name, NEITHER) == taken);
    let name = name.expect("the control: one of twenty begins there");
    for before in [NO_LOCKS, NO_PROCESSES] {
        assert_ne!(gets(&name, before), taken, "{before}");
    }
    let second = Second::start(&rig, &name, POOL[1], "exec");
    assert_ne!(second.first(), taken);
    // Both ranges are in use now, by one each.
    let said = rig.ctl(&["start", "b"]);
    assert!(said.err.contains("no range of user numbers is left in the pool"), "{said:?}");
    // What a unit file names is not taken either.
    let other = RANGES[usize::from(taken == RANGES[0])];
    rig.write_units(&format!(
        "{UNITS}[service.maps]\ncommand = \"sleep 1000\"\nwanted-by = []\n\
         security = {{ user-namespace = {{ uid = [\"0:{other}:10\"] }} }}\n"
    ));
    rig.ctl_ok(&["apply"]);
    let said = rig.ctl(&["start", "maps"]);
    assert!(said.err.contains("numbers of the pool 1900000000:131072"), "{said:?}");
    second.end();
    assert_eq!(rig.finish(), 0);
}

/// Numbers that a unit file names: of the host's root if it says so, which is shown; of nobody
/// who was given them alone.
#[test]
fn maps_of_a_unit_file_are_held_against_those_of_others() {
    let unit = |name: &str, map: &str| {
        format!(
            "[service.{name}]\ncommand = \"sleep 1000\"\nwanted-by = []\n\
             security = {{ user-namespace = {{ uid = [\"{map}\"] }} }}\n"
        )
    };
    let maps = [
        ("root", "0:0:65536"),
        ("one", "0:300000:65536"),
        ("two", "0:300000:65536"),
        ("pool", "0:1899999999:2"),
    ];
    let units: String = maps.iter().map(|(name, map)| unit(name, map)).collect();
    let mut rig = Rig::start(Mode::Boot, &units, POOL);
    let said = rig.ctl(&["start", "pool"]);
    assert_eq!(said.code, 1, "{said:?}");
    for part in ["0:1899999999:2", "the pool 1900000000:131072", "test.toml:16"] {
        assert!(said.err.contains(part), "no {part:?} in {said:?}");
    }
    rig.ctl_ok(&["start", "root", "one", "two"]);
    assert!(rig.ctl_ok(&["status", "root"]).contains("root of the host among them"));
    assert!(!rig.ctl_ok(&["status", "one"]).contains("root of the host"));
    assert!(rig.ctl(&["audit", "root"]).out.contains("root of the host is in its maps"));
    // Another supervisor, in whose pool they are, gives them to nobody.
    let second = Second::start(&rig, "other", "300000:131072", "exec");
    assert_eq!(second.first(), 365_536);
    let said = second.ctl(&["start", "b"]);
    assert!(said.err.contains("no range of user numbers is left in the pool"), "{said:?}");
    second.end();
    // And what that one has given cannot be named here.
    let second = Second::start(&rig, "more", "500000:65536", "exec");
    assert_eq!(second.first(), 500_000);
    rig.write_units(&unit("late", "0:500007:1"));
    rig.ctl_ok(&["apply"]);
    let said = rig.ctl(&["start", "late"]);
    assert!(said.err.contains("another berth has given some of these numbers"), "{said:?}");
    second.end();
    rig.ctl_ok(&["start", "late"]);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_filesystem_that_cannot_be_mapped_is_named_in_status() {
    let mut rig = Rig::up(
        "[service.a]\ncommand = \"sleep 1000\"\n\
         mounts = [{ type = \"bind\", source = \"/dev\", target = \"/mnt\" }]\n\
         [service.again]\ncommand = \"false\"\nrestart-delay = \"1h\"\nrestart-delay-max = \"1h\"\n\
         mounts = [{ type = \"bind\", source = \"/dev\", target = \"/mnt\" }]\n",
    );
    rig.wait_state("a", "running");
    let status = rig.status("a");
    let why = status["no_user_namespace"].as_str().unwrap();
    assert!(why.starts_with("bind-mount /dev on /mnt: its filesystem"), "{why}");
    assert!(status["user_namespace"].is_null());
    assert_eq!(user(&rig, "a"), 0);
    let said = rig.ctl(&["exec", "a", "--", "cat", "/proc/self/uid_map"]);
    assert_eq!(said.out.split_whitespace().nth(1), Some("0"), "{said:?}");
    // Also between two runs.
    rig.wait_state("again", "backoff");
    assert_eq!(rig.status("again")["no_user_namespace"], why);
    assert_eq!(rig.finish(), 0);
}
