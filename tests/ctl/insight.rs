//! What a start took, and who depends on whom: as tables, as trees and as pictures. The
//! pictures are held against golden files; look at them when they change (a browser shows
//! them): `BERTH_RENEW=1 cargo test --test ctl pictures`.

use serde_json::{Value, json};

use crate::fake::{Fake, more, reply};

/// Milliseconds as the supervisor counts.
fn phases(moments: [Option<i64>; 5]) -> Value {
    let [waiting, preparing, starting, ready, ended] = moments.map(|it| it.map(|ms| ms * 1000));
    json!({"waiting": waiting, "preparing": preparing, "starting": starting, "ready": ready,
           "ended": ended})
}

fn times(name: &str, state: &str, first: Value, latest: Value) -> Value {
    let kind = if name == "default" || name == "boot" { "target" } else { "service" };
    json!({"name": name, "kind": kind, "state": state, "first": first, "latest": latest})
}

/// The boot of a machine: stages, a oneshot, a unit that fails once, one that never is
/// ready, one with a name that is markup (no berth has such, a stranger may), one that was
/// started by hand later.
fn machine() -> Fake {
    let version = json!({"version": "1.0", "pid": 1, "since": "2026-01-31T14:30:00.123456Z",
                         "uptime": 90_000_000, "kernel": 1_900_000, "target": "default"});
    let nothing = || Value::Null;
    let first = [
        times("boot", "running", phases([Some(40), None, None, Some(300), None]), nothing()),
        times(
            "db",
            "running",
            phases([Some(310), Some(320), Some(350), Some(1200), None]),
            nothing(),
        ),
        times("default", "running", phases([Some(310), None, None, Some(1500), None]), nothing()),
        times("disks", "done", phases([Some(40), Some(50), Some(60), Some(300), None]), nothing()),
    ];
    let second = [
        times(
            "flaky",
            "running",
            phases([Some(310), Some(320), Some(330), None, Some(500)]),
            phases([Some(800), Some(801), Some(810), Some(900), None]),
        ),
        times(
            "late",
            "running",
            phases([Some(60_000), Some(60_001), Some(60_002), Some(60_003), None]),
            nothing(),
        ),
        times("never", "inactive", nothing(), nothing()),
        times("slow", "starting", phases([Some(310), Some(320), Some(340), None, None]), nothing()),
        times(
            "<web>&",
            "running",
            phases([Some(310), Some(1200), Some(1220), Some(1500), None]),
            nothing(),
        ),
    ];
    let depends = |unit: &str, kind: &str, on: &str| json!({"unit": unit, "kind": kind, "on": on, "state": "running"});
    let dependencies = [
        depends("boot", "requires", "disks"),
        depends("default", "wants", "<web>&"),
        depends("default", "wants", "db"),
        depends("default", "wants", "flaky"),
        depends("default", "wants", "slow"),
        depends("<web>&", "requires", "db"),
        depends("<web>&", "after", "flaky"),
        depends("late", "conflicts", "slow"),
    ];
    let unit = |it: &Value| json!({"name": it["name"], "kind": it["kind"], "state": it["state"]});
    let units: Vec<Value> = first.iter().chain(&second).map(unit).collect();
    Fake::canned(vec![
        ("Version", vec![reply(version)]),
        ("Timeline", vec![more(json!({"units": first})), reply(json!({"units": second}))]),
        ("Deps", vec![reply(json!({"dependencies": dependencies}))]),
        ("List", vec![reply(json!({"units": units}))]),
    ])
}

#[test]
fn blame_has_the_slowest_first() {
    let done = machine().run(&["blame"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        "     TIME  PREPARING   STARTING  UNIT\n\
         \x20   880ms       30ms      850ms  db\n\
         \x20   300ms       20ms      280ms  <web>&\n\
         \x20   250ms       10ms      240ms  disks\n\
         \x20  2.00ms     1.00ms     1.00ms  late\n\
         \x20       -       10ms          -  flaky (first start failed)\n\
         \x20       -       20ms          -  slow (starting)\n"
    );
    let done = machine().run(&["blame", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        rows[0],
        json!({"name": "db", "state": "running", "took": 880_000, "preparing": 30_000,
               "starting": 850_000, "waiting": 10_000, "ready": 1_200_000, "ended": null})
    );
    assert_eq!(rows[5]["took"], Value::Null);
}

#[test]
fn the_critical_chain_leads_back_to_the_beginning_of_the_machine() {
    let done = machine().run(&["critical-chain"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let tree = done.out.split_once("\n\n").unwrap();
    assert!(tree.0.ends_with("default was reached after 3.400s: kernel 1.900s + berth 1.500s"));
    assert_eq!(
        tree.1,
        "default @1.500s\n\
         └─<web>& @1.500s +300ms\n\
         \x20 └─db @1.200s +880ms\n\
         \x20   └─boot @300ms\n\
         \x20     └─disks @300ms +250ms\n"
    );
    let done = machine().run(&["critical-chain", "--fuzz", "400ms"]);
    assert!(done.out.contains("├─<web>&") && done.out.contains("\n└─db"), "{}", done.out);
    let done = machine().run(&["critical-chain", "db", "--json"]);
    let links: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    let names: Vec<&str> = links.iter().map(|link| link["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db", "boot", "disks"]);
    let done = machine().run(&["critical-chain", "slow"]);
    assert_eq!(done.code, 1);
    assert!(
        done.err.contains("slow has not been ready since the supervisor began"),
        "{}",
        done.err
    );
    let done = machine().run(&["critical-chain", "slwo"]);
    assert_eq!(done.code, 4);
    assert!(done.err.contains("slow"), "{}", done.err);
}

/// Holds a picture against the golden one.
fn same_picture(name: &str, args: &[&str]) -> String {
    let done = machine().run(args);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let path = format!("{}/tests/ctl/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BERTH_RENEW").is_some() {
        std::fs::write(&path, &done.out).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(done.out == golden, "{name} has changed: renew it and look at it");
    done.out
}

#[test]
fn pictures_show_every_unit_once_and_no_name_is_markup() {
    let plot = same_picture("plot.svg", &["plot"]);
    let graph = same_picture("graph.svg", &["graph", "--format", "svg"]);
    for picture in [&plot, &graph] {
        assert!(picture.contains("&lt;web&gt;&amp;") && !picture.contains("<web>"));
        assert!(picture.contains("<title id=\"title\">") && picture.contains("<desc id=\"desc\">"));
        assert!(picture.contains("prefers-color-scheme:dark"));
    }
    for unit in ["boot", "db", "default", "disks", "flaky", "slow", "&lt;web&gt;&amp;"] {
        assert_eq!(plot.matches(&format!(">{unit}</text>")).count(), 1, "{unit}");
    }
    assert!(plot.contains(">kernel</text>") && plot.contains("1 that were started later"));
    assert!(!plot.contains(">late</text>"));
    for unit in ["boot", "db", "default", "late", "never", "slow", "&lt;web&gt;&amp;"] {
        assert_eq!(graph.matches(&format!(">{unit}</text>")).count(), 1, "{unit}");
    }
    let whole = machine().run(&["graph", "--format", "svg", "--all"]).out;
    assert!(whole.matches("class=\"wants\"").count() > graph.matches("class=\"wants\"").count());
}

#[test]
fn a_graph_for_graphviz_has_every_edge() {
    let done = machine().run(&["graph"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.out.matches(" -> ").count(), 8);
    assert!(done.out.starts_with("//") && done.out.ends_with("}\n"));
    // Of some units: asked for one by one.
    let fake = machine();
    fake.run(&["graph", "boot", "late"]);
    let asked: Vec<Value> =
        fake.calls().into_iter().filter(|it| it.0 == "Deps").map(|it| it.1).collect();
    assert_eq!(asked[0]["unit"], "boot");
    assert_eq!(asked[1]["unit"], "late");
}

#[test]
fn volumes_are_listed_and_deleted_one_by_one() {
    let volume = |name: &str, declared: bool, users: &[&str], there: bool| {
        json!({"name": name, "path": there.then(|| format!("/v/{name}")), "size": there.then_some(2048),
               "declared": declared, "users": users, "running": users})
    };
    let listed = reply(json!({"volumes": [
        volume("db", true, &["mariadb"], true),
        volume("new", true, &["web"], false),
        volume("old", false, &[], true),
        volume("spare", true, &[], true),
    ]}));
    let fake = Fake::new(move |call, stream| match call["method"].as_str().unwrap() {
        "org.berth.Control.Volumes" => crate::fake::send(stream, &listed),
        _ if call["parameters"]["volume"] == "db" => {
            let reason = "it is in use: stop mariadb first";
            crate::fake::send(
                stream,
                &crate::fake::error("Failed", json!({"unit": null, "reason": reason})),
            )
        }
        _ => crate::fake::send(stream, &reply(json!({}))),
    });
    let done = fake.run(&["volume", "ls"]);
    assert_eq!(
        done.out,
        "NAME   SIZE  USED BY                       PATH\n\
         db     2.0K  mariadb                       /v/db\n\
         new          web                           (not made yet)\n\
         old    2.0K  nobody (no unit file has it)  /v/old\n\
         spare  2.0K  nobody                        /v/spare\n"
    );
    let done = fake.run(&["volume", "rm", "db", "spare"]);
    assert_eq!((done.code, done.out.as_str()), (1, "spare: deleted\n"));
    assert_eq!(
        done.err,
        "berthctl: cannot delete the volume db: it is in use: stop mariadb first\n"
    );
    let done = fake.run(&["volume", "prune", "--dry-run"]);
    assert_eq!((done.code, done.out.as_str()), (0, "old: 2.0K, would be deleted\n"));
    let done = fake.run(&["volume", "prune"]);
    assert_eq!((done.code, done.out.as_str()), (0, "old: deleted\n"));
}
