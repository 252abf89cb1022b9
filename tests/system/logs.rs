//! What services write: all of it, in order, whoever is killed meanwhile.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::rig::{Mode, Rig};

/// A shell service.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!(
        "[service.{name}]\ncommand = ['sh', '-c', '''{script}''']\nisolation = 'none'\n{more}\n"
    )
}

const BESIDE: &str = "[service.beside]\ncommand = 'sleep 1000'\nisolation = 'none'\n";

fn entries(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let text = rig.ctl_ok(&[&["logs", "--json"], arguments].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `a`'s output as one text, parts of lines joined.
fn output(rig: &Rig, unit: &str, stream: &str) -> String {
    let mut text = String::new();
    for entry in entries(rig, &[unit]) {
        if entry["stream"] == stream {
            text.push_str(entry["text"].as_str().unwrap());
            if entry["partial"] == false {
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn nothing_is_lost_when_a_service_ends() {
    let lines = "i=0; while [ $i -lt 16384 ]; do echo \"$i 0123456789012345678901234567890123456789012345678901234567\"; i=$((i+1)); done";
    let script = format!("{lines} | head -c 1048576; echo to stderr >&2; printf 'the very end'");
    let rig = Rig::up(&format!("{}{BESIDE}", shell("a", &script, "type = 'oneshot'")));
    rig.wait_state("a", "done");
    rig.wait_log("a", "the very end");
    let out = output(&rig, "a", "stdout");
    assert_eq!(out.len(), 1_048_576 + "the very end\n".len(), "one MiB and the rest");
    assert!(out.ends_with("the very end\n"));
    for (number, line) in out.lines().take(10_000).enumerate() {
        assert_eq!(line.split(' ').next().unwrap(), number.to_string());
    }
    assert_eq!(output(&rig, "a", "stderr"), "to stderr\n");
    // Times do not go backwards and are now.
    let times: Vec<jiff::Timestamp> = entries(&rig, &["a"])
        .iter()
        .map(|entry| entry["time"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted());
    let age = jiff::Timestamp::now().duration_since(times[0]);
    assert!(age.as_secs() < 120 && !age.is_negative(), "{age}");
    // One reply is not enough for all of it.
    let mut wire = crate::wire::Wire::new(&rig);
    let all = serde_json::json!({"units": ["a"], "follow": false});
    assert_eq!(wire.fails("Logs", &all, None), "ExpectedMore");
    let few = serde_json::json!({"units": ["a"], "follow": false, "lines": 3});
    let reply = crate::wire::Wire::new(&rig).ask("Logs", &few);
    assert!(reply["entries"].as_array().unwrap().len() >= 3, "{reply}");
    assert_eq!(rig.ctl(&["logs", "nobody"]).code, 4);
}

#[test]
fn a_killed_logger_costs_no_line() {
    let script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000";
    let rig = Rig::up(&format!("{}{BESIDE}", shell("a", script, "")));
    let kill = |pid| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    };
    let mut last = 0;
    for round in 1..=3 {
        rig.wait_log("a", &format!("line {}", round * 3000));
        let pid = rig.child("berth-logger").expect("no logger");
        assert_ne!(pid, last);
        kill(pid);
        last = pid;
        rig.wait_for("another logger", |rig| {
            rig.child("berth-logger").is_some_and(|it| it != last)
        });
    }
    rig.wait_log("a", "line 29999");
    let out = output(&rig, "a", "stdout");
    let mut seen = vec![0_u32; 30_000];
    for line in out.lines() {
        let number: usize =
            line.strip_prefix("line ").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        seen[number] += 1;
    }
    let missing: Vec<usize> = (0..30_000).filter(|number| seen[*number] == 0).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
}

#[test]
fn a_flood_slows_only_its_writer() {
    let log = "log = { max-size = '64K', max-files = 2 }";
    let rig = Rig::up(&format!(
        "{}{}",
        shell("flood", "exec yes this is a line of a flood that never ends", log),
        shell("quiet", "i=0; while sleep 0.1; do echo tick $i; i=$((i+1)); done", "")
    ));
    rig.wait_state("flood", "running");
    rig.wait_log("quiet", "tick 0");
    rig.wait_log("quiet", "tick 20");
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(rig.state("flood"), "running");
    }
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    // Its files stay within their bounds.
    let mut files: Vec<(String, u64)> = fs::read_dir(rig.path("state/log/flood"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            Some((entry.file_name().into_string().unwrap(), entry.metadata().ok()?.len()))
        })
        .collect();
    files.sort();
    assert!(files.len() <= 2 && files.iter().all(|(_, size)| *size <= 64 << 10), "{files:?}");
    rig.ctl_ok(&["stop", "flood"]);
    assert!(rig.ctl_ok(&["logs", "-n", "3", "flood"]).lines().count() == 3);
}

#[test]
fn logs_are_cut_followed_and_filtered() {
    let script = "for i in 1 2 3 4 5; do echo old $i; done; while [ ! -e @DIR@/go ]; do sleep 0.05; done; echo new; exec sleep 1000";
    let rig = Rig::up(&format!("{}{BESIDE}", shell("a", script, "")));
    rig.wait_log("a", "old 5");
    let texts = |arguments: &[&str]| -> Vec<String> {
        entries(&rig, arguments).iter().map(|it| it["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&["-n", "2", "a"]), ["old 4", "old 5"]);
    assert_eq!(texts(&["-n", "0", "a"]), [""; 0]);
    assert_eq!(texts(&["--since", "1h", "a"]).len(), 5);
    assert_eq!(texts(&["--since", "2099-01-01", "a"]), [""; 0]);
    let third = entries(&rig, &["a"])[2]["time"].as_str().unwrap().to_owned();
    assert!(texts(&["--since", &third, "a"]).contains(&"old 3".to_owned()));
    assert_eq!(rig.ctl(&["logs", "--since", "sometime", "a"]).code, 2);
    // Following: what is there, then what comes.
    let mut command = rig.ctl_command(&["logs", "-f", "-n", "1", "--json", "a"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> String {
        let entry: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        entry["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "old 5");
    fs::write(rig.path("go"), "").unwrap();
    assert_eq!(next(), "new");
    follower.kill().unwrap();
    follower.wait().unwrap();
    // The text for people has the time and says which stream.
    let text = rig.ctl_ok(&["logs", "-n", "1", "a"]);
    assert!(text.ends_with("| new\n"), "{text}");
    // berth's own messages are told apart from a unit's output.
    let own = entries(&rig, &["berth"]);
    assert!(own.iter().all(|entry| entry["stream"] == "supervisor"), "{own:?}");
}

#[test]
fn drivers_put_output_where_they_say() {
    let mut rig = Rig::start(
        Mode::Boot,
        &format!(
            "{}{}",
            shell("none", "echo hidden; exec sleep 1000", "log = { driver = 'none' }"),
            shell(
                "console",
                "echo shown; echo wrong >&2; exec sleep 1000",
                "log = { driver = 'console' }"
            )
        ),
        &[],
    );
    rig.wait_for("the console's line", |rig| rig.out().contains("shown\n"));
    rig.wait_for("the console's error", |rig| rig.err().contains("wrong\n"));
    rig.wait_state("none", "running");
    assert_eq!(rig.ctl_ok(&["logs", "none"]), "");
    assert_eq!(rig.ctl_ok(&["logs", "console"]), "");
    assert!(!rig.path("state/log/none").exists());
    assert_eq!(rig.finish(), 0);
    assert!(!rig.out().contains("hidden") && !rig.err().contains("hidden"));
}

#[test]
fn what_is_written_while_everything_stops_is_kept() {
    let script = "trap 'i=0; while [ $i -lt 10000 ]; do echo bye $i; i=$((i+1)); done; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let mut rig = Rig::up(&shell("a", script, ""));
    rig.wait_log("a", "up");
    assert_eq!(rig.finish(), 0);
    let mut text = String::new();
    fs::File::open(rig.path("state/log/a/current")).unwrap().read_to_string(&mut text).unwrap();
    let said = text.lines().filter(|line| line.contains(" bye ")).count();
    assert_eq!(said, 10_000);
    assert!(text.ends_with("bye 9999\n"));
    assert_eq!(rig.out().matches("| bye ").count(), 10_000, "the console too");
}

#[test]
fn a_unit_that_writes_to_syslog_is_heard() {
    let script = "printf '<11>Nov 20 10:00:00 prog: from syslog' | nc -uU -w0 /dev/log || logger -t prog from syslog; exec sleep 1000";
    let units = format!("[service.a]\ncommand = ['sh', '-c', \"{script}\"]\n{BESIDE}");
    if !["/usr/bin/logger", "/usr/bin/nc"].iter().any(|path| std::path::Path::new(path).exists()) {
        eprintln!("skipped: neither logger nor nc is here");
        return;
    }
    let rig = Rig::up(&units);
    rig.wait_log("a", "from syslog");
    let all = entries(&rig, &["a"]);
    let entry = all.iter().find(|it| it["text"].as_str().unwrap().contains("from syslog")).unwrap();
    assert_eq!(entry["stream"], "syslog", "{entry}");
}

/// Somebody outside of the unit who holds its output.
fn outsider(rig: &Rig, unit: &str) -> Vec<fs::File> {
    let pid = rig.host_pid(rig.main_pid(unit));
    let open = |number| fs::File::options().write(true).open(format!("/proc/{pid}/fd/{number}"));
    [1, 2].map(|number| open(number).unwrap()).into()
}

#[test]
fn output_that_was_handed_outside_is_let_go_with_the_run() {
    let rig = Rig::up(&format!("{}{BESIDE}", shell("a", "echo here; exec sleep 1000", "")));
    rig.wait_state("a", "running");
    rig.wait_log("a", "here");
    let before = rig.descriptors();
    let mut outside = Vec::new();
    for _ in 0..5 {
        outside.extend(outsider(&rig, "a"));
        rig.ctl_ok(&["restart", "a"]);
    }
    rig.wait_for("no descriptor is left over", |rig| rig.descriptors() <= before);
    assert_eq!(rig.logs("a").matches("here").count(), 6);
}

#[test]
fn a_run_that_ends_while_there_is_no_logger_is_let_go_by_the_next_one() {
    let rig = Rig::up(&format!("{}{BESIDE}", shell("a", "echo here; exec sleep 1000", "")));
    rig.wait_state("a", "running");
    rig.wait_log("a", "here");
    let outside = outsider(&rig, "a");
    let before = rig.descriptors();
    let kill = |pid| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    };
    // The second one dies young, so for a second there is none.
    let first = rig.child("berth-logger").expect("no logger");
    kill(first);
    rig.wait_for("another logger", |rig| {
        rig.descendants("berth-logger").iter().any(|pid| *pid != first)
    });
    kill(rig.child("berth-logger").expect("no logger"));
    rig.wait_for("no logger", |rig| rig.descendants("berth-logger").is_empty());
    rig.ctl_ok(&["restart", "a"]);
    rig.wait_for("no descriptor is left over", |rig| rig.descriptors() <= before);
    assert!(!rig.descendants("berth-logger").is_empty());
    drop(outside);
}
