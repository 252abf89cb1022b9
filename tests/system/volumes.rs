//! Volumes: listed, counted, deleted, and kept while somebody has them.

use serde_json::Value;

use crate::rig::{Mode, Rig};

const UNITS: &str = "
    [volume.spare]
    [service.db]
    command = ['sh', '-c', 'head -c 300000 /dev/zero > /data/file; echo full; exec sleep 4501']
    mounts = [{ type = 'volume', source = 'data', target = '/data' }]
    [service.other]
    command = ['sh', '-c', 'ls /old; exec sleep 4502']
    mounts = [{ type = 'volume', source = 'old', target = '/old' }]
";

fn volumes(rig: &Rig) -> Vec<Value> {
    serde_json::from_str(&rig.ctl_ok(&["volume", "ls", "--json"])).unwrap()
}

#[test]
fn volumes_are_deleted_only_when_nobody_has_them() {
    let rig = Rig::start(Mode::Boot, UNITS, &[]);
    rig.wait_log("db", "full");
    rig.wait_state("other", "running");
    let all = volumes(&rig);
    let names: Vec<&str> = all.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["data", "old", "spare"]);
    assert_eq!(all[0]["running"], serde_json::json!(["db"]));
    assert!(all[0]["size"].as_u64().unwrap() >= 300_000, "{}", all[0]);
    assert_eq!((&all[2]["path"], &all[2]["users"]), (&Value::Null, &serde_json::json!([])));

    let said = rig.ctl(&["volume", "rm", "data"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("it is in use: stop db first"), "{said:?}");
    assert!(rig.path("state/volumes/data/file").exists());
    rig.ctl_ok(&["stop", "db"]);
    assert_eq!(rig.ctl_ok(&["volume", "rm", "data"]), "data: deleted\n");
    assert!(!rig.path("state/volumes/data").exists());
    let said = rig.ctl(&["volume", "rm", "data"]);
    assert!(said.code == 1 && said.err.contains("there is no such volume"), "{said:?}");
    for nonsense in ["../volumes", ".", "-x/../../y", ".removed-data"] {
        let said = rig.ctl(&["volume", "rm", "--", nonsense]);
        assert!(said.code == 1 && said.err.contains("is no name of a volume"), "{said:?}");
    }
    // Empty again at the next start.
    rig.ctl_ok(&["start", "db"]);
    rig.wait_for("the volume to be made again", |rig| rig.path("state/volumes/data/file").exists());

    // What no unit file has any more is pruned, and nothing else.
    rig.write_units(&UNITS.replace("source = 'old'", "source = 'new'"));
    rig.ctl_ok(&["apply"]);
    rig.wait_for("the new volume", |rig| rig.path("state/volumes/new").exists());
    let said = rig.ctl_ok(&["volume", "prune", "--dry-run"]);
    assert!(said.starts_with("old: ") && said.lines().count() == 1, "{said}");
    assert!(rig.path("state/volumes/old").exists());
    assert_eq!(rig.ctl_ok(&["volume", "prune"]), "old: deleted\n");
    let left: Vec<String> = std::fs::read_dir(rig.path("state/volumes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.iter().filter(|name| *name == "data" || *name == "new").count(), 2);
    assert_eq!(left.len(), 2, "{left:?}");
}
