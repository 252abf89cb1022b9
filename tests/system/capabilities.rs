//! Capabilities as a user meets them: the same for every process of a unit, what cannot be
//! given, and the mark of what is privileged.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::rig::Rig;

/// A command that notes all sets of its process under a word.
fn note(word: &str) -> String {
    format!("[\"sh\", \"-c\", \"echo {word} $(grep ^Cap /proc/self/status) >>/mnt/sets\"]")
}

/// The sets under each word, as `CapInh: 0 CapPrm: …`; later ones of the same word must be
/// the same.
fn noted(rig: &Rig) -> BTreeMap<String, String> {
    let text = fs::read_to_string(rig.path("share/sets")).unwrap();
    let mut all = BTreeMap::new();
    for (word, sets) in text.lines().filter_map(|line| line.split_once(' ')) {
        let before = all.insert(word.to_owned(), sets.to_owned());
        assert!(before.is_none_or(|before| before == sets), "{text}");
    }
    all
}

fn sets(inheritable: &str, permitted: &str, bounding: &str) -> String {
    format!(
        "CapInh: {inheritable} CapPrm: {permitted} CapEff: {permitted} CapBnd: {bounding} \
         CapAmb: {inheritable}"
    )
}

#[test]
fn every_process_of_a_unit_has_the_same() {
    const NONE: &str = "0000000000000000";
    const FEW: &str = "00000000800405fb";
    // NET_BIND_SERVICE and NET_RAW.
    const TWO: &str = "0000000000002400";
    for (settings, security, expected, root) in [
        ("", "", sets(NONE, FEW, FEW), sets(NONE, FEW, FEW)),
        (
            "user = \"1234\"",
            "capabilities = [\"NET_RAW\", \"cap_net_bind_service\"]",
            sets(TWO, TWO, TWO),
            sets(NONE, TWO, TWO),
        ),
    ] {
        let mut rig = Rig::prepare(&format!(
            "[service.keep]\ncommand = \"sleep 1000\"\n[service.it]\nmounts = [@SHARE@]\n{settings}\n\
             command = [\"sh\", \"-c\", \"trap 'exit 0' TERM; echo main $(grep ^Cap /proc/self/status) \
             >>/mnt/sets; while :; do sleep 0.01; done\"]\nready = \"health\"\nrestart = \"no\"\n\
             start-pre = [{}]\nstart-post = [{}]\nstop-command = {}\nstop-post = [{}]\n\
             health = {{ command = {}, interval = \"50ms\" }}\nsecurity = {{ {security} }}\n",
            note("start-pre"),
            note("start-post"),
            note("stop-command"),
            note("stop-post"),
            note("health"),
        ));
        fs::write(rig.path("share/sets"), "").unwrap();
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(rig.path("share/sets"), writable).unwrap();
        rig.launch(crate::rig::Mode::Up, &[]);
        rig.wait_control();
        rig.wait_state("it", "running");
        let exec = ["exec", "it", "--", "grep", "^Cap", "/proc/self/status"];
        let said = rig.ctl_ok(&exec);
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(one_line(&said), expected, "exec");
        let exec = ["exec", "-u", "root", "it", "--", "grep", "^Cap", "/proc/self/status"];
        assert_eq!(one_line(&rig.ctl_ok(&exec)), root, "exec as root");
        rig.ctl_ok(&["stop", "it"]);
        let noted = noted(&rig);
        let words: Vec<&str> = noted.keys().map(String::as_str).collect();
        let all = ["health", "main", "start-post", "start-pre", "stop-command", "stop-post"];
        assert_eq!(words, all);
        for (word, sets) in &noted {
            assert_eq!(*sets, expected, "{word}");
        }
        assert_eq!(rig.finish(), 0);
    }
}

#[test]
fn what_is_privileged_is_marked() {
    let mut rig = Rig::up(
        "[service.trusted]\ncommand = \"sleep 1000\"\nsecurity = { privileged = true }\n\
         [service.other]\ncommand = \"sleep 1000\"\n",
    );
    for (unit, privileged) in [("trusted", true), ("other", false)] {
        rig.wait_state(unit, "running");
        assert_eq!(rig.status(unit)["privileged"], Value::Bool(privileged), "{unit}");
        // What the mark says is so: only who has SYS_ADMIN mounts.
        let mount = ["exec", unit, "--", "mount", "-t", "tmpfs", "none", "/tmp"];
        assert_eq!(rig.ctl(&mount).code == 0, privileged, "{unit}");
    }
    assert_eq!(rig.status("default")["privileged"], Value::Null);
    let table = rig.ctl_ok(&["status"]);
    assert!(table.contains("\ntrusted (privileged)  running"), "{table}");
    assert!(table.contains("\nother  "), "{table}");
    let shown: Value = serde_json::from_str(&rig.ctl_ok(&["show", "--json", "trusted"])).unwrap();
    assert_eq!(shown["definition"]["security"]["privileged"], Value::Bool(true));
    assert_eq!(rig.finish(), 0);
}
