//! Where a service may write, as a user meets it: on a kernel that can hold it, and on one
//! that cannot.

use std::fs;

use serde_json::json;

use crate::rig::{Mode, Rig};

/// A service that has written where it may and has tried where it may not.
const UNITS: &str = "[service.keep]\ncommand = \"sleep 1000\"\n[service.it]\nisolation = \"none\"\nready = \"log:tried\"\nrestart = \"no\"\n\
    command = [\"sh\", \"-c\", \"echo x >@DIR@/share/good; echo x >@DIR@/share/kept/bad; \
    echo tried; sleep 1000\"]\n@SECURITY@\n";

fn units(security: &str) -> String {
    UNITS.replace("@SECURITY@", security)
}

fn start(mode: Mode, security: &str) -> Rig {
    let mut rig = Rig::prepare(&units(security));
    fs::create_dir(rig.path("share/kept")).unwrap();
    rig.launch(mode, &[]);
    rig.wait_control();
    rig
}

#[test]
fn a_plain_process_is_kept_from_paths() {
    for security in [
        "security = { read-only-paths = [\"@DIR@/share/kept\"] }",
        "security = { writable-paths = [\"@DIR@/share/good\"] }",
    ] {
        // What is to be writable has to be there.
        let mut rig = Rig::prepare(&units(security));
        fs::create_dir(rig.path("share/kept")).unwrap();
        fs::write(rig.path("share/good"), "").unwrap();
        rig.launch(Mode::Up, &[]);
        rig.wait_control();
        rig.wait_state("it", "running");
        assert_eq!(fs::read_to_string(rig.path("share/good")).unwrap(), "x\n", "{security}");
        assert!(!rig.path("share/kept/bad").exists(), "{security}");
        assert_eq!(rig.status("it")["unenforced"], json!([]));
        let bad = rig.path("share/kept/bad").display().to_string();
        let exec = ["exec", "it", "--", "sh", "-c", &format!("echo x >{bad}")];
        assert_ne!(rig.ctl(&exec).code, 0, "{security}");
        assert_eq!(rig.finish(), 0);
    }
}

#[test]
fn a_kernel_that_cannot_is_told_of() {
    let paths = "read-only-paths = [\"@DIR@/share/kept\"], writable-paths = [\"@DIR@/share\"]";
    let rig = start(Mode::UpWithoutLandlock, &format!("security = {{ {paths} }}"));
    rig.wait_state("it", "running");
    let expected = [
        "read-only-paths: the kernel has no Landlock",
        "writable-paths: the kernel has no Landlock",
    ];
    assert_eq!(rig.status("it")["unenforced"], json!(expected));
    let said = rig.ctl_ok(&["status", "it"]);
    assert!(said.contains("not applied: read-only-paths: the kernel has no Landlock"), "{said}");
    // And it is so.
    assert!(rig.path("share/kept/bad").exists());
    drop(rig);
    let strict = format!("security = {{ {paths} }}\nlimits = {{ strict = true }}");
    let rig = start(Mode::UpWithoutLandlock, &strict);
    rig.wait_state("it", "failed");
    let (_, why, _) = rig.verdict("it");
    let text = "this host cannot hold writable-paths: the kernel has no Landlock, which `strict` \
        asks for";
    assert!(why.contains(text), "{why}");
    assert!(!rig.path("share/kept/bad").exists());
}
