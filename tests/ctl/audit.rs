//! `berthctl audit`, from a supervisor that says what it likes.

use serde_json::{Value, json};

use crate::fake::{Fake, reply, status};

/// A definition as `Show` has it, of a unit that does not run.
fn fake(definition: &Value, more: Value) -> Fake {
    let mut unit = status(more);
    unit["main_pid"] = Value::Null;
    let shown = json!({"definition": definition, "status": unit, "file": null, "line": null});
    Fake::canned(vec![
        ("Version", vec![reply(json!({"version": "1", "pid": 1, "since": ""}))]),
        (
            "List",
            vec![reply(json!({"units": [
                {"name": "web", "kind": "service", "state": "inactive"},
                {"name": "default", "kind": "target", "state": "inactive"},
            ]}))],
        ),
        ("Show", vec![reply(shown)]),
    ])
}

fn container() -> Value {
    json!({
        "command": {"value": ["nginx"], "line": 2}, "isolation": {"value": "container", "line": 0},
        "network": "private", "writable": "none", "rootfs": {"value": "/srv/web", "line": 3},
        "limits": {"memory": {"value": "64M", "line": 4}},
        "security": {"no-new-privileges": true, "privileged": false, "masked-paths": []},
    })
}

fn score(definition: &Value) -> u64 {
    let done = fake(definition, json!({})).run(&["audit", "web", "--json"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&done.out).unwrap();
    said[0]["score"].as_u64().unwrap()
}

#[test]
fn audit_of_a_unit_is_a_table() {
    let unenforced = json!({"unenforced": ["memory: no cgroup controller memory is available"]});
    let done = fake(&container(), unenforced).run(&["audit", "web"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let golden = include_str!("audit.golden");
    if std::env::var_os("BERTH_RENEW").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ctl/audit.golden");
        std::fs::write(path, &done.out).unwrap();
    } else {
        assert_eq!(done.out, golden);
    }
}

#[test]
fn audit_of_all_is_a_line_a_service() {
    let done = fake(&container(), json!({})).run(&["audit"]);
    let mut lines = done.out.lines();
    assert_eq!(lines.next(), Some("NAME  SCORE  WORD  VERIFIED"));
    let line = lines.next().unwrap();
    assert!(line.starts_with("web   ") && line.ends_with("  no"), "{line}");
    assert_eq!(lines.next(), None, "a target runs nothing");
}

#[test]
fn audit_of_a_target_fails() {
    let done = fake(&container(), json!({"kind": "target"})).run(&["audit", "web"]);
    assert_eq!(done.code, 1);
    assert_eq!(done.err, "berthctl: cannot audit web: web is no service: it runs nothing\n");
}

#[test]
fn each_line_that_takes_a_defence_away_costs() {
    let whole = score(&container());
    for (key, value) in [
        ("isolation", json!({"value": "none", "line": 3})),
        ("isolation", json!({"value": ["mount", "pid"], "line": 3})),
        ("network", json!("host")),
        ("rootfs", json!({"value": "host", "line": 0})),
        ("writable", json!("ephemeral")),
        ("writable", json!("persistent")),
        ("limits", json!({})),
        (
            "limits",
            json!({"memory": {"value": "64M", "line": 4}, "pids": {"value": "unlimited", "line": 5}}),
        ),
        (
            "limits",
            json!({"memory": {"value": "64M", "line": 4}, "core": {"value": "unlimited", "line": 5}}),
        ),
        ("security", json!({"user-namespace": "none"})),
        (
            "security",
            json!({"user-namespace": {"value": {"uid": ["0:0:9"], "gid": ["0:7:9"]}, "line": 1}}),
        ),
        ("security", json!({"devices": [{"value": "/dev/fuse:rw", "line": 1}]})),
        ("security", json!({"no-new-privileges": false})),
        ("security", json!({"no-new-privileges": true, "privileged": true})),
        ("security", json!({"no-new-privileges": true, "seccomp": "unconfined"})),
        (
            "security",
            json!({"no-new-privileges": true, "capabilities-add": {"value": ["SYS_ADMIN"], "line": 1}}),
        ),
        (
            "security",
            json!({"no-new-privileges": true, "capabilities-add": {"value": ["NEW_ONE"], "line": 1}}),
        ),
    ] {
        let mut less = container();
        less[key] = value.clone();
        let score = score(&less);
        assert!(score < whole, "{key} = {value}: {score}, not less than {whole}");
    }
    for (key, value) in [
        ("user", json!({"value": "www-data", "line": 3})),
        ("security", json!({"no-new-privileges": true, "capabilities": {"value": [], "line": 1}})),
        ("security", json!({"no-new-privileges": true, "writable-paths": []})),
        ("security", json!({"no-new-privileges": true, "apparmor": {"value": "web", "line": 1}})),
    ] {
        let mut more = container();
        more[key] = value.clone();
        assert!(score(&more) > whole, "{key} = {value}");
    }
}
