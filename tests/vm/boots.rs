//! One machine for each kernel, with everything that is checked inside.

use std::path::Path;

use crate::rig::{self, Setup};

/// At least as many checks as the project promises.
const PROMISED: usize = 40;

/// Every function `check_…` of the scripts.
fn declared() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/checks");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let functions =
            text.lines().filter_map(|line| line.strip_prefix("check_")?.split_once("()"));
        names.extend(functions.map(|(name, _)| name.to_owned()));
    }
    names.sort();
    names
}

/// Asserts that every check has reported success.
fn judge(report: &str) {
    let passed: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAILED ")).collect();
    assert!(failed.is_empty(), "{} checks failed:\n{}", failed.len(), failed.join("\n"));
    let declared = declared();
    let missing: Vec<_> = declared.iter().filter(|name| !passed.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "checks that did not report: {missing:?}\n{report}");
    assert!(passed.len() >= PROMISED, "only {} checks", passed.len());
}

fn everything(kernel: &str) {
    let disks = tempfile::tempdir().unwrap();
    let data =
        rig::make_disk(disks.path(), "data.img", &["mke2fs", "-q", "-t", "ext4", "-L", "data"]);
    let swap = rig::make_disk(disks.path(), "swap.img", &["mkswap", "-q", "-L", "swap"]);
    let mut machine = Setup::new(kernel)
        .put("tests/vm/checks", "/srv/checks")
        .put("tests/vm/etc", "/etc")
        // For the lines of tmpfiles.d that remove.
        .put("tests/vm/etc/hostname", "/srv/left-by-the-last-boot")
        .put("tests/vm/etc/hostname", "/srv/emptied/file")
        .drive(&data)
        .drive(&swap)
        .append("quiet modules-load=tun")
        .boot();
    let status = machine.await_end();
    judge(&machine.report());
    let console = machine.console();
    assert!(status.success() && console.contains("reboot: Power down"), "{status}\n{console}");
    // Asked to be quiet, it says nothing of what goes well.
    assert!(!console.contains(": running"), "{console}");
    // Swap was taken out of use, and all that was mounted is not any more.
    for trouble in ["cannot take", "was in use", "cannot unmount", "does not"] {
        assert!(!console.contains(trouble), "{trouble}: {console}");
    }
    machine.assert_clean();
    rig::assert_clean(&data);
}

#[test]
fn everything_on_linux_6_1() {
    everything(rig::KERNELS[0]);
}

#[test]
fn everything_on_linux_6_12() {
    everything(rig::KERNELS[1]);
}
