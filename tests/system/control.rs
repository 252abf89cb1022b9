//! The control socket under clients that do everything wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{BERTHCTL, Mode, Rig, Said};
use crate::wire::Wire;

const SLEEPER: &str = "[service.a]\ncommand = \"sleep 1000\"\nisolation = \"none\"\n";

/// A call as bytes, with its NUL.
fn message(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap();
    bytes.push(0);
    bytes
}

/// Waits until berth has as many descriptors as before.
fn wait_descriptors(rig: &Rig, before: usize) {
    rig.wait_for("descriptors to be closed", |rig| rig.descriptors() <= before);
}

#[test]
fn nonsense_costs_its_sender_the_connection_and_nobody_else_anything() {
    let mut rig = Rig::up(SLEEPER);
    rig.wait_state("a", "running");
    let (pid, before) = (rig.main_pid("a"), rig.descriptors());
    let mut bystander = Wire::new(&rig);
    bystander.ask("Version", &json!({}));
    let nested = |depth: usize| {
        let mut bytes = br#"{"method":"org.berth.Control.Version","parameters":{"x":"#.to_vec();
        bytes.extend(std::iter::repeat_n(b'[', depth));
        bytes.push(0);
        bytes
    };
    let nonsense: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"\0\0\0\0".to_vec(),
        vec![b'x'; 10 << 20],
        [vec![b' '; 64 << 10], b"\0".to_vec()].concat(),
        b"garbage\0".to_vec(),
        b"\xff\xfe\xfd\0".to_vec(),
        b"{\"method\":\0".to_vec(),
        b"[]\0".to_vec(),
        b"null\0".to_vec(),
        b"{}\0".to_vec(),
        b"{\"method\":7}\0".to_vec(),
        b"{\"method\":\"org.berth.Control.List\",\"more\":\"yes\"}\0".to_vec(),
        b"{\"method\":\"org.berth.Control.List\",\"more\":true,\"oneway\":true}\0".to_vec(),
        b"{\"method\":\"org.berth.Control.List\",\"parameters\":[]}\0".to_vec(),
        nested(100_000),
        nested(60_000),
        nested(1_000),
    ];
    for bytes in nonsense {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let mut wire = Wire::new(&rig);
        // Calls after it do not help.
        let _ = wire.bytes(&bytes)
            && wire.bytes(&message(&json!({"method": "org.berth.Control.Version"})));
        assert_eq!(wire.reply(), None, "{shown}");
    }
    bystander.ask("Version", &json!({}));
    drop(bystander);
    wait_descriptors(&rig, before);
    assert_eq!(rig.main_pid("a"), pid);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn wrong_calls_are_answered_and_the_connection_goes_on() {
    let rig = Rig::up(SLEEPER);
    let mut wire = Wire::new(&rig);
    for (method, parameters, flag, error) in [
        ("Nope", json!({}), None, "MethodNotFound"),
        ("Status", json!({}), None, "InvalidParameter"),
        ("Status", json!({"units": 5}), None, "InvalidParameter"),
        ("Status", json!({"units": [], "x": 1}), None, "InvalidParameter"),
        ("Status", json!({"units": ["nobody"]}), None, "NoSuchUnit"),
        ("Status", json!({"units": ["../../etc/passwd"]}), None, "NoSuchUnit"),
        ("Start", json!({"units": [], "wait": true}), None, "InvalidParameter"),
        ("Start", json!({"units": ["a", "a"], "wait": true}), Some("more"), "InvalidParameter"),
        ("Start", json!({"units": ["a", "b"], "wait": true}), None, "ExpectedMore"),
        ("Start", json!({"units": ["a", "b"], "wait": true}), Some("more"), "NoSuchUnit"),
        ("Start", json!({"units": ["a"], "wait": "no"}), None, "InvalidParameter"),
        ("Kill", json!({"units": ["a"], "signal": 99}), None, "InvalidParameter"),
        ("Kill", json!({"units": ["a"], "signal": -1}), None, "InvalidParameter"),
        ("Events", json!({"since": null}), None, "ExpectedMore"),
        ("Events", json!({"since": "yesterday"}), Some("more"), "InvalidParameter"),
        ("Logs", json!({"units": ["../x"], "follow": false}), Some("more"), "NoSuchUnit"),
        ("Logs", json!({"units": [], "follow": false, "since": "x"}), None, "InvalidParameter"),
        (
            "Exec",
            json!({"unit": "a", "command": ["x"], "tty": false, "stdin": false}),
            None,
            "Refused",
        ),
        (
            "Exec",
            json!({"unit": "a", "command": [], "tty": false, "stdin": false}),
            Some("upgrade"),
            "InvalidParameter",
        ),
        (
            "Exec",
            json!({"unit": "a", "command": ["x"], "tty": false, "stdin": false, "user": "a:b:c d"}),
            Some("upgrade"),
            "Refused",
        ),
        ("Version", json!({}), Some("upgrade"), "Refused"),
        ("Apply", json!({"paths": ["relative"], "dry_run": true}), None, "Refused"),
        ("Shutdown", json!({"how": "poweroff"}), None, "Refused"),
        ("Shutdown", json!({"how": "explode"}), None, "InvalidParameter"),
    ] {
        let said = wire.fails(method, &parameters, flag);
        assert_eq!(said, error, "{method} {parameters}");
    }
    assert!(wire.bytes(b"{\"method\":\"com.example.X\"}\0"));
    assert_eq!(wire.error(), "InterfaceNotFound");
    let version = wire.ask("Version", &json!({}));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_call_is_answered_as_it_asks() {
    // A supervisor that does not end when nothing is left to run.
    let rig = Rig::start(Mode::Boot, &format!("{SLEEPER}{}", targets(1000)), &[]);
    rig.wait_state("a", "running");
    let mut wire = Wire::new(&rig);
    assert_eq!(wire.fails("Status", &json!({"units": []}), None), "ExpectedMore");
    assert_eq!(wire.fails("List", &json!({}), None), "ExpectedMore");
    wire.call("List", &json!({}), Some("more"));
    let listed: usize = wire.replies().iter().map(|it| it["units"].as_array().unwrap().len()).sum();
    assert_eq!(listed, 1002, "1,000, `default` and `a`");
    // No answer to a oneway call, not even an error; the next one is answered.
    wire.call("Nope", &json!({}), Some("oneway"));
    wire.call("List", &json!({}), Some("oneway"));
    wire.call("Events", &json!({}), Some("oneway"));
    wire.call("Stop", &json!({"units": ["a"], "wait": true}), Some("oneway"));
    assert_eq!(wire.ask("Version", &json!({}))["version"], env!("CARGO_PKG_VERSION"));
    rig.wait_state("a", "inactive");
    // Many at once are answered in order.
    let mut all = Vec::new();
    for number in 0..300 {
        let unit = format!("t{number:04}");
        all.extend(message(
            &json!({"method": "org.berth.Control.Show", "parameters": {"unit": unit}}),
        ));
    }
    assert!(wire.bytes(&all));
    for number in 0..300 {
        let reply = wire.reply().unwrap();
        assert_eq!(reply["parameters"]["status"]["name"], format!("t{number:04}"));
    }
}

#[test]
fn an_answer_for_each_of_many_units_waits_for_its_reader() {
    let rig = Rig::start(Mode::Boot, &targets(5000), &[]);
    let names: Vec<String> = (0..5000).map(|number| format!("t{number:04}")).collect();
    for (method, wait) in [("Start", true), ("Reset", true), ("Stop", false), ("Start", false)] {
        let mut wire = Wire::new(&rig);
        wire.call(method, &json!({"units": names, "wait": wait}), Some("more"));
        // All of them have ended long before the first reply is read.
        rig.ctl_ok(&["list"]);
        let replies = wire.replies();
        assert_eq!(replies.len(), names.len(), "{method} {wait}");
        assert!(replies.iter().all(|reply| reply["error"].is_null()));
    }
    let mut wire = Wire::new(&rig);
    wire.call("Kill", &json!({"units": names, "signal": 15}), Some("more"));
    rig.ctl_ok(&["list"]);
    let replies = wire.replies();
    assert_eq!(replies.len(), names.len());
    assert!(replies[0]["error"].as_str().unwrap().contains("not running"), "{}", replies[0]);
}

/// So many units that cost nothing.
fn targets(count: usize) -> String {
    (0..count).map(|number| format!("[target.t{number:04}]\n")).collect()
}

#[test]
fn whoever_sends_no_more_still_gets_its_answers() {
    let rig = Rig::up(&format!(
        "{SLEEPER}[service.slow]\ncommand = \"sleep 1000\"\nisolation = \"none\"\n\
         ready = \"path:@DIR@/go\"\nwanted-by = []\n"
    ));
    rig.wait_state("a", "running");
    let before = rig.descriptors();
    let mut wire = Wire::new(&rig);
    wire.call("Version", &json!({}), None);
    wire.call("Start", &json!({"units": ["slow"], "wait": true}), None);
    wire.half_close();
    assert!(wire.reply().unwrap().get("error").is_none());
    rig.wait_state("slow", "starting");
    fs::write(rig.path("go"), "").unwrap();
    let reply = wire.reply().unwrap();
    assert_eq!(reply["parameters"], json!({"unit": "slow", "error": null}));
    assert_eq!(wire.reply(), None);
    drop(wire);
    rig.ctl_ok(&["stop", "slow"]);
    wait_descriptors(&rig, before);
}

#[test]
fn hanging_up_ends_the_waiting_and_not_the_job() {
    let rig = Rig::up(&format!(
        "{SLEEPER}[service.slow]\ncommand = \"sleep 1000\"\nisolation = \"none\"\n\
         ready = \"path:@DIR@/go\"\nwanted-by = []\n"
    ));
    rig.wait_state("a", "running");
    let before = rig.descriptors();
    for _ in 0..20 {
        Wire::new(&rig).call("Start", &json!({"units": ["slow"], "wait": true}), None);
    }
    rig.wait_state("slow", "starting");
    let mut second = Wire::new(&rig);
    second.call("Start", &json!({"units": ["slow"], "wait": true}), None);
    fs::write(rig.path("go"), "").unwrap();
    assert_eq!(second.reply().unwrap()["parameters"]["error"], Value::Null);
    rig.wait_state("slow", "running");
    drop(second);
    rig.ctl_ok(&["stop", "slow"]);
    wait_descriptors(&rig, before);
}

#[test]
fn a_thousand_clients_at_once_are_answered_and_others_go_on() {
    raise_descriptors();
    let rig = Rig::up(&format!("{SLEEPER}[service.b]\ncommand = \"sleep 1000\"\n"));
    rig.wait_state("b", "running");
    let before = rig.descriptors();
    let mut clients: Vec<Wire> = (0..1000).map(|_| Wire::new(&rig)).collect();
    for client in &mut clients {
        client.call("Status", &json!({"units": ["a"]}), None);
    }
    rig.ctl_ok(&["restart", "b"]);
    for client in &mut clients {
        assert_eq!(client.reply().unwrap()["parameters"]["units"][0]["name"], "a");
    }
    // All of them wait for events; each hears of what is done.
    for client in &mut clients {
        client.call("Events", &json!({"since": null}), Some("more"));
        assert_eq!(client.reply().unwrap()["parameters"]["event"], Value::Null);
    }
    rig.ctl_ok(&["stop", "b"]);
    for client in &mut clients {
        assert_eq!(client.reply().unwrap()["parameters"]["event"]["unit"], "b");
    }
    // More than fit in wait until others have gone.
    let mut late: Vec<Wire> = (0..60).map(|_| Wire::new(&rig)).collect();
    for client in &mut late {
        client.call("Version", &json!({}), None);
    }
    drop(clients);
    for client in &mut late {
        assert!(client.reply().unwrap()["parameters"]["pid"].is_u64());
    }
    drop(late);
    rig.ctl_ok(&["start", "b"]);
    wait_descriptors(&rig, before);
}

fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[test]
fn clients_that_do_not_read_or_do_not_finish_are_cut_off_in_the_end() {
    let rig = Rig::up(&format!("{SLEEPER}{}", targets(1000)));
    rig.wait_state("a", "running");
    let before = rig.descriptors();
    let memory = rig.memory();
    // Long answers that nobody reads, as many as can be asked for.
    let mut deaf: Vec<Wire> = (0..100).map(|_| Wire::new(&rig)).collect();
    for client in &mut deaf {
        client.call("Status", &json!({"units": []}), Some("more"));
    }
    let mut half = Wire::new(&rig);
    assert!(half.bytes(b"{\"method\":\"org.berth"));
    let mut silent = Wire::new(&rig);
    let mut patient = Wire::new(&rig);
    patient.call("Status", &json!({"units": []}), Some("more"));
    // Others are served at once, and what waits is bounded.
    rig.ctl_ok(&["restart", "a"]);
    let grown = rig.memory().saturating_sub(memory);
    assert!(grown < 60 << 20, "{grown} bytes more");
    let units: usize =
        patient.replies().iter().map(|it| it["units"].as_array().unwrap().len()).sum();
    assert_eq!(units, 1002);
    assert_eq!(half.reply(), None);
    assert_eq!(silent.reply(), None);
    wait_descriptors(&rig, before);
    // They lost the rest, not what was sent.
    assert!(deaf[0].reply().is_some());
}

#[test]
fn only_root_may_ask() {
    let rig = Rig::up(SLEEPER);
    rig.wait_state("a", "running");
    let socket = rig.path("run/control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
    fs::copy(BERTHCTL, rig.path("berthctl")).unwrap();
    let open = |name: &str, mode| {
        fs::set_permissions(rig.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o755);
    let nobody = |arguments: &[&str]| -> Said {
        let mut command = Command::new(rig.path("berthctl"));
        command.arg("--runtime-dir").arg(rig.path("run")).args(arguments);
        command.uid(65534).gid(65534).output().unwrap().into()
    };
    let said = nobody(&["status"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("only root may talk to it"), "{said:?}");
    open("run/control.sock", 0o666);
    for arguments in
        [&["status"][..], &["stop", "a"], &["shutdown", "exit"], &["exec", "a", "--", "id"]]
    {
        let said = nobody(arguments);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("does not permit"), "{said:?}");
    }
    assert_eq!(rig.state("a"), "running");
}

#[test]
fn a_supervisor_that_boots_keeps_running_without_clients_or_units() {
    let mut rig = Rig::start(Mode::Boot, "", &[]);
    for _ in 0..50 {
        drop(Wire::new(&rig));
    }
    let listed = rig.ctl_ok(&["list", "--names"]);
    assert_eq!(listed.trim(), "default");
    assert_eq!(rig.finish(), 0);
}
