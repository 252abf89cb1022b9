//! What each verb sends and prints when all goes well.

use serde_json::{Value, json};

use crate::fake::{Done, Fake, more, reply, run_in, seconds_ago, status};

fn said(out: &str) -> Done {
    Done { code: 0, out: out.to_owned(), err: String::new() }
}

#[test]
fn status_is_a_table_of_all_replies() {
    let web = status(json!({"since": seconds_ago(3905)}));
    let db = status(json!({
        "name": "db", "state": "backoff", "main_pid": null, "ready": false, "health": null,
        "memory": null, "since": seconds_ago(61), "why": "exit code 1; restart 3 in 400ms",
        "restarts": 3
    }));
    let all = status(json!({
        "name": "default", "kind": "target", "main_pid": null, "restarts": 0, "health": null,
        "memory": null, "since": null, "why": ""
    }));
    let trouble = "/state/stopped cannot be written: it is\nfull";
    let version = json!({"version": "1", "pid": 1, "since": "", "unwritten": [trouble]});
    let fake = Fake::canned(vec![
        ("Status", vec![more(json!({"units": [web, db]})), reply(json!({"units": [all]}))]),
        ("Version", vec![reply(version)]),
    ]);
    let done = fake.run(&["status"]);
    assert_eq!(
        done,
        said(
            "NAME     STATE    READY          PID   RESTARTS  SINCE  MEMORY  WHY\n\
             web      running  yes (healthy)  4711  2         1h 5m  12.5M   ready after 1.2s\n\
             db       backoff  no                   3         1m 1s          exit code 1; restart 3 in 400ms\n\
             default  running  yes                  0\n\
             /state/stopped cannot be written: it is\\nfull\n"
        )
    );
    let calls = [("Status", json!({"units": []})), ("Version", json!({}))];
    assert_eq!(fake.calls(), calls.map(|(name, parameters)| (name.to_owned(), parameters)));
}

#[test]
fn status_json_is_one_array_with_the_promised_fields() {
    let fake = Fake::canned(vec![(
        "Status",
        vec![
            more(json!({"units": [status(json!({}))]})),
            reply(json!({"units": [status(json!({
                "name": "db", "state": "failed", "exit": {"signal": 9}, "ready": false
            }))]})),
        ],
    )]);
    let done = fake.run(&["status", "--json"]);
    let array: Value = serde_json::from_str(&done.out).unwrap();
    let promised = [
        "name", "kind", "state", "desired", "main_pid", "exit", "restarts", "since", "ready",
        "health", "result", "cgroup", "memory", "ports",
    ];
    for element in array.as_array().unwrap() {
        for field in promised {
            assert!(element.get(field).is_some(), "{field} in {element}");
        }
    }
    assert_eq!(array[1]["exit"], json!({"signal": 9}));
    assert_eq!(array[0]["exit"], Value::Null);
    assert_eq!(done.code, 0, "how units are is no failure unless one is named");
    assert_eq!(fake.run(&["status", "web", "db", "--json"]).code, 3);
}

#[test]
fn status_of_a_unit_tells_all_and_its_last_lines() {
    let unit = status(json!({
        "since": "2026-01-31T14:30:00.5Z", "unenforced": ["memory"], "exit": {"code": 3}
    }));
    let entry = json!({
        "time": "2026-01-31T14:30:01.25Z", "unit": "web", "run": 9, "stream": "stderr",
        "partial": false, "text": "listening"
    });
    let fake = Fake::canned(vec![
        ("Status", vec![reply(json!({"units": [unit]}))]),
        ("Logs", vec![reply(json!({"entries": [entry]}))]),
    ]);
    let done = fake.run(&["status", "web"]);
    // How long ago depends on when the test runs.
    let ago = done.out.find(" (").zip(done.out.find(" ago)")).map(|(_, at)| at);
    let line = done.out.lines().find(|line| line.contains("since: ")).unwrap();
    assert!(ago.is_some() && line.starts_with("      since: 2026-01-31 14:30:00.500 ("), "{line}");
    let rest: Vec<&str> = done.out.lines().filter(|other| *other != line).collect();
    assert_eq!(
        rest.join("\n"),
        "web: the front door\n       \
               kind: service\n      \
              state: running (ready after 1.2s)\n    \
            desired: up\n      \
              ready: yes (healthy)\n       \
               says: serving\n   \
           main pid: 4711\n        \
                run: 9\n   \
           restarts: 2\n  \
          last exit: exit code 3\n     \
             memory: 12.5M\n     \
             cgroup: /berth/web\n      \
              ports: 8080:80\n\
        not applied: memory (this host cannot)\n\
        \n\
        2026-01-31 14:30:01.250 ! listening"
    );
    assert_eq!(done.code, 0);
    assert_eq!(
        fake.calls()[1],
        ("Logs".to_owned(), json!({"units": ["web"], "lines": 10, "since": null, "follow": false}))
    );
}

#[test]
fn status_marks_what_is_privileged() {
    for (privileged, marked) in [(json!(true), true), (json!(false), false), (json!(null), false)] {
        let unit = status(json!({"privileged": privileged}));
        let fake = Fake::canned(vec![
            ("Status", vec![reply(json!({"units": [unit]}))]),
            ("Logs", vec![reply(json!({"entries": []}))]),
        ]);
        let table = fake.run(&["status"]).out;
        assert_eq!(
            table.lines().nth(1).unwrap().starts_with("web (privileged)  "),
            marked,
            "{table}"
        );
        let details = fake.run(&["status", "web"]).out;
        let line = "\n privileged: yes: it has all capabilities\n";
        assert_eq!(details.contains(line), marked, "{details}");
        let array: Value = serde_json::from_str(&fake.run(&["status", "--json"]).out).unwrap();
        assert_eq!(array[0]["privileged"], privileged);
    }
}

#[test]
fn status_of_what_is_not_running_exits_with_3() {
    for (state, code) in [
        ("running", 0),
        ("done", 0),
        ("inactive", 3),
        ("waiting", 3),
        ("preparing", 3),
        ("starting", 3),
        ("stopping", 3),
        ("backoff", 3),
        ("failed", 3),
        ("frozen", 3),
    ] {
        let units = json!({"units": [status(json!({"state": state}))]});
        let fake = Fake::canned(vec![
            ("Status", vec![reply(units)]),
            ("Logs", vec![reply(json!({"entries": []}))]),
        ]);
        let done = fake.run(&["status", "web"]);
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{state}");
    }
}

#[test]
fn list_prints_a_table_json_or_names() {
    let fake = Fake::canned(vec![(
        "List",
        vec![
            more(json!({"units": [{"name": "default", "kind": "target", "state": "running"}]})),
            reply(json!({"units": [{"name": "web", "kind": "service", "state": "failed"}]})),
        ],
    )]);
    let table = "NAME     KIND     STATE\n\
                 default  target   running\n\
                 web      service  failed\n";
    assert_eq!(fake.run(&["list"]), said(table));
    assert_eq!(fake.run(&["list", "--names"]), said("default\nweb\n"));
    let json: Value = serde_json::from_str(&fake.run(&["list", "--json"]).out).unwrap();
    assert_eq!(json[1], json!({"name": "web", "kind": "service", "state": "failed"}));
}

#[test]
fn jobs_send_each_unit_once_and_say_nothing() {
    let ended = |unit| json!({"unit": unit, "error": null});
    for (verb, method) in [
        ("start", "Start"),
        ("stop", "Stop"),
        ("restart", "Restart"),
        ("reload", "Reload"),
        ("reset", "Reset"),
    ] {
        let fake = Fake::canned(vec![(method, vec![more(ended("b")), reply(ended("a"))])]);
        assert_eq!(fake.run(&[verb, "a", "b", "a"]), said(""), "{verb}");
        assert_eq!(fake.run(&[verb, "--no-wait", "a"]), said(""), "{verb}");
        let sent = |units, wait| (method.to_owned(), json!({"units": units, "wait": wait}));
        assert_eq!(fake.calls(), [sent(vec!["a", "b"], true), sent(vec!["a"], false)]);
    }
}

#[test]
fn kill_freeze_and_thaw() {
    let ended = vec![reply(json!({"unit": "web", "error": null}))];
    let fake =
        Fake::canned(vec![("Kill", ended.clone()), ("Freeze", ended.clone()), ("Thaw", ended)]);
    for args in [
        &["kill", "web"][..],
        &["kill", "-s", "HUP", "web"],
        &["kill", "-s", "sigusr1", "web"],
        &["kill", "--signal", "9", "web"],
        &["freeze", "web"],
        &["thaw", "web"],
    ] {
        assert_eq!(fake.run(args), said(""), "{args:?}");
    }
    let kill = |signal| ("Kill".to_owned(), json!({"units": ["web"], "signal": signal}));
    let units = json!({"units": ["web"]});
    assert_eq!(
        fake.calls(),
        [
            kill(15),
            kill(1),
            kill(10),
            kill(9),
            ("Freeze".to_owned(), units.clone()),
            ("Thaw".to_owned(), units)
        ]
    );
}

fn entry(unit: &str, stream: &str, partial: bool, text: &str) -> Value {
    json!({"time": "2026-01-31T14:30:01.25Z", "unit": unit, "run": 1, "stream": stream,
           "partial": partial, "text": text})
}

#[test]
fn logs_of_one_unit_have_no_names_and_join_parts() {
    let fake = Fake::canned(vec![(
        "Logs",
        vec![
            more(json!({"entries": [
                entry("web", "stdout", false, "plain \u{1b}[1mbytes"),
                entry("web", "stdout", true, "a long "),
                entry("web", "stderr", false, "an error"),
            ]})),
            reply(json!({"entries": [
                entry("web", "stdout", false, "line"),
                entry("web", "stdout", true, "unfinished"),
            ]})),
        ],
    )]);
    assert_eq!(
        fake.run(&["logs", "-n", "5", "--since", "2026-01-31T14:00:00Z", "web"]),
        said(
            "2026-01-31 14:30:01.250 | plain \u{1b}[1mbytes\n\
             2026-01-31 14:30:01.250 ! an error\n\
             2026-01-31 14:30:01.250 | a long line\n\
             2026-01-31 14:30:01.250 | unfinished\n"
        )
    );
    assert_eq!(
        fake.calls(),
        [(
            "Logs".to_owned(),
            json!({"units": ["web"], "lines": 5, "since": "2026-01-31T14:00:00Z", "follow": false})
        )]
    );
}

#[test]
fn logs_of_many_units_have_names_and_json_is_as_sent() {
    let entries =
        json!([entry("a-long-name", "stdout", false, "one"), entry("b", "stderr", true, "two")]);
    let fake = Fake::canned(vec![("Logs", vec![reply(json!({"entries": entries}))])]);
    assert_eq!(
        fake.run(&["logs"]),
        said(
            "2026-01-31 14:30:01.250 a-long-name | one\n\
             2026-01-31 14:30:01.250 b           ! two\n"
        )
    );
    let done = fake.run(&["logs", "-f", "--json"]);
    let lines: Vec<Value> =
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), entries);
    assert_eq!(fake.calls()[1].1["follow"], true);
}

#[test]
fn events_are_printed_as_they_come() {
    let event = json!({"time": "2026-01-31T14:30:01.25Z", "unit": "web", "state": "backoff",
                       "why": "exit code 3; restart 2 in 215ms", "exit": {"code": 3},
                       "grave": true});
    let mute = json!({"time": "2026-01-31T14:30:02Z", "unit": "db", "state": "failed",
                      "why": "", "exit": {"signal": 9}, "grave": true});
    let fake = Fake::canned(vec![(
        "Events",
        vec![
            more(json!({"event": null})),
            more(json!({"event": event})),
            reply(json!({"event": mute})),
        ],
    )]);
    assert_eq!(
        fake.run(&["events"]),
        said(
            "2026-01-31 14:30:01.250 web backoff: exit code 3; restart 2 in 215ms\n\
             2026-01-31 14:30:02.000 db failed: killed by SIGKILL\n"
        )
    );
    let done = fake.run(&["events", "--json", "--since", "2026-01-31"]);
    assert_eq!(done.out.lines().count(), 2);
    assert_eq!(serde_json::from_str::<Value>(done.out.lines().next().unwrap()).unwrap(), event);
    assert_eq!(fake.calls()[1].1, json!({"since": "2026-01-31T00:00:00Z"}));
}

#[test]
fn apply_prints_the_joined_plan() {
    let part = |diagnostics: &str, add: &[&str], remove: &[&str]| {
        json!({"diagnostics": diagnostics, "mistakes": 0, "add": add, "change": ["c"],
               "restart": ["r"], "remove": remove})
    };
    let fake = Fake::canned(vec![(
        "Apply",
        vec![
            more(part("", &["a"], &[])),
            reply(part("a.toml:1:1: warning: odd\n", &["b"], &["d"])),
        ],
    )]);
    let done = fake.run(&["apply", "--dry-run", "/etc/x", "rel"]);
    assert_eq!(
        done.out,
        "+ add a\n~ change c\n↻ restart r\n+ add b\n~ change c\n↻ restart r\n- remove d\n"
    );
    assert_eq!((done.code, done.err.as_str()), (0, "a.toml:1:1: warning: odd\n"));
    let here = std::env::current_dir().unwrap().join("rel");
    assert_eq!(
        fake.calls(),
        [("Apply".to_owned(), json!({"paths": ["/etc/x", here], "dry_run": true}))]
    );
}

#[test]
fn apply_may_have_nothing_to_do() {
    let plan = json!({"diagnostics": "", "mistakes": 0, "add": [], "change": [], "restart": [],
                      "remove": []});
    let fake = Fake::canned(vec![("Apply", vec![reply(plan)])]);
    assert_eq!(fake.run(&["apply"]), said("nothing to do\n"));
}

#[test]
fn show_is_readable() {
    let shown = json!({
        "definition": {
            "command": {"value": ["nginx", "-g"], "line": 13}, "user": null,
            "limits": {"memory": "5M"}, "stop-timeout": "1m30s",
            "umask": {"value": "0022", "line": 0}, "start-pre": [{"value": ["a"], "line": 3}],
        },
        "status": status(json!({"name": "web", "description": "", "why": "", "ports": []})),
        "file": "/etc/berth/web.toml", "line": 12
    });
    let fake = Fake::canned(vec![("Show", vec![reply(shown.clone())])]);
    let out = fake.run(&["show", "web"]).out;
    let expected = "web  /etc/berth/web.toml:12\n  \
                      command = [\"nginx\", \"-g\"]  # line 13\n  \
                      limits\n    \
                        memory = \"5M\"\n  \
                      start-pre = [[\"a\"]]\n  \
                      stop-timeout = \"1m30s\"\n  \
                      umask = \"0022\"\n\
                    \n\
                    now\n  \
                      cgroup = \"/berth/web\"\n";
    assert!(out.starts_with(expected), "{out}");
    assert!(!out.contains("null") && !out.contains("user"), "{out}");
    let json: Value = serde_json::from_str(&fake.run(&["show", "--json", "web"]).out).unwrap();
    assert_eq!(json, shown);
}

#[test]
fn deps_is_a_tree_that_ends() {
    let edge = |unit: &str, kind: &str, on: &str| json!({"unit": unit, "kind": kind, "on": on, "state": "running"});
    let fake = Fake::canned(vec![(
        "Deps",
        vec![
            more(json!({"dependencies": [
                edge("web", "requires", "php"), edge("web", "after", "log"),
                edge("web", "wants", "db"),
            ]})),
            reply(json!({"dependencies": [
                edge("php", "requires", "db"), edge("db", "wants", "web"),
            ]})),
        ],
    )]);
    assert_eq!(
        fake.run(&["deps", "web"]),
        said(
            "web\n\
             ├─ requires php [running]\n\
             │  └─ requires db [running]\n\
             │     └─ wants web [running] (see above)\n\
             ├─ after log [running]\n\
             └─ wants db [running] (see above)\n"
        )
    );
    assert_eq!(
        fake.run(&["deps", "--reverse", "db"]).out,
        "db\n\
         ├─ wants web [running]\n\
         │  └─ wants db [running] (see above)\n\
         └─ requires php [running]\n   \
            └─ requires web [running] (see above)\n"
    );
    assert_eq!(fake.calls()[1].1, json!({"unit": "db", "reverse": true}));
}

#[test]
fn shutdown_says_how_or_leaves_it() {
    let fake = Fake::canned(vec![("Shutdown", vec![reply(json!({}))])]);
    assert_eq!(fake.run(&["shutdown"]), said(""));
    assert_eq!(fake.run(&["shutdown", "reboot"]), said(""));
    let sent: Vec<Value> = fake.calls().into_iter().map(|(_, parameters)| parameters).collect();
    assert_eq!(sent, [json!({"how": null}), json!({"how": "reboot"})]);
}

#[test]
fn version_works_with_and_without_a_supervisor() {
    let answer = json!({"version": "9.9", "pid": 7, "since": "2026-01-31T14:30:00Z"});
    let fake = Fake::canned(vec![("Version", vec![reply(answer)])]);
    let own = concat!("berthctl ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(
        fake.run(&["version"]),
        said(&format!("{own}berth 9.9 (pid 7, since 2026-01-31 14:30:00.000)\n"))
    );
    let answer = json!({"version": "9.9", "pid": 7, "since": "", "unwritten": ["one", "two"]});
    let fake = Fake::canned(vec![("Version", vec![reply(answer)])]);
    let done = fake.run(&["version"]);
    assert!(done.code == 0 && done.out.ends_with(")\none\ntwo\n"), "{done:?}");
    let nobody = tempfile::tempdir().unwrap();
    let done = run_in(nobody.path(), &["version"]);
    let at = nobody.path().display();
    assert_eq!(
        done,
        said(&format!(
            "{own}berth: no supervisor answers at {at}/control.sock: there is no such socket\n"
        ))
    );
}

#[test]
fn completions_are_scripts_the_shell_accepts() {
    let nobody = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = run_in(nobody.path(), &["completions", shell]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{shell}");
        assert!(done.out.contains("restart"), "{shell}");
        if shell == "bash" {
            let path = nobody.path().join("script");
            std::fs::write(&path, &done.out).unwrap();
            let checked = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn the_runtime_directory_may_come_from_the_environment() {
    let fake = Fake::canned(vec![("List", vec![reply(json!({"units": []}))])]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_berthctl"));
    let done = command.env("BERTH_RUNTIME_DIR", fake.dir()).arg("list").output().unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "NAME  KIND  STATE\n");
}

#[test]
fn check_reads_files_itself() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.toml");
    std::fs::write(&good, "[service.web]\ncommand = [\"true\"]\n").unwrap();
    assert_eq!(run_in(dir.path(), &["check", good.to_str().unwrap()]), said(""));
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "[service.web]\ncomand = [\"true\"]\n").unwrap();
    let done = run_in(dir.path(), &["check", bad.to_str().unwrap()]);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    let place = format!("{}:2:1: error: ", bad.display());
    assert!(done.err.contains(&place) && done.err.contains("`command`?"), "{}", done.err);
}
