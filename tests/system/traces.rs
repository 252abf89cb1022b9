//! What a rig leaves in the kernel: processes and control groups, and everything else of its
//! namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{PATIENCE, pause};

/// Whether a process descends from another.
pub fn is_descendant(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid.unsigned_abs();
    while pid > 1 && pid != ancestor {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        pid = parent.trim().parse().unwrap();
    }
    pid == ancestor
}

/// Removes what a berth that was killed could not.
pub fn remove_groups(path: &Path) {
    let begun = Instant::now();
    while path.exists() && begun.elapsed() < PATIENCE {
        let below = fs::read_dir(path).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let _ = fs::remove_dir(entry.path());
        }
        if fs::remove_dir(path).is_err() {
            pause();
        }
    }
}

/// For the shell around berth: `host NAME` writes down what there is in its namespaces, `ended
/// CODE` does that once more and ends. Processes of its own are no news.
pub const HOST: &str = "\
    host() { { sed 's/^/mount /' /proc/self/mountinfo; \
        (ip -o link; ip -o address; ip -o route show table all; ip -6 -o route show table all; \
         ip rule; ip -6 rule; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward) 2>&1 | \
            sed 's/^/network /'; \
        for process in /proc/[0-9]*; do \
            line=$(sed -n 's/^Name:\\s*/process /p; s/^State:\\s*/ in state /p' $process/status 2>/dev/null \
                | tr -d '\\n'); \
            case $line in ''|'process sh '*|'process sed '*|'process tr '*) ;; *) echo \"$line\";; esac; \
        done; } >\"$HERE/host-$1\"; }; \
    ended() { host after; exit $1; }; ";

/// The lines that only one of the two has; none if berth did not end by itself.
pub fn changes(directory: &Path) -> Vec<String> {
    let lines = |name: &str| -> Option<BTreeSet<String>> {
        let text = fs::read_to_string(directory.join(name)).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    };
    let (Some(before), Some(after)) = (lines("host-before"), lines("host-after")) else {
        return Vec::new();
    };
    assert!(before.iter().any(|line| line.starts_with("network 1: lo")), "{before:?}");
    after.symmetric_difference(&before).cloned().collect()
}
