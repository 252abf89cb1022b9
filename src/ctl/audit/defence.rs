//! The defences, what each is worth, and the score. Pure.
//!
//! What must hold: the weights are in this one table and add up to 100; a defence that is
//! switched off, or holds less, never raises a score.

/// Something that keeps a service from harming others. In the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table says what each is")]
pub enum Defence {
    UserNamespace,
    User,
    Capabilities,
    NoNewPrivileges,
    Seccomp,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Root,
    KernelFiles,
    Devices,
    Memory,
    Processes,
    CoreFiles,
    WritablePaths,
    Label,
}

/// A row: the defence, its name, its weight, and why it is worth that.
pub type Row = (Defence, &'static str, u32, &'static str);

/// All of them. `docs/audit.md` has the same rows; a test holds that.
#[rustfmt::skip]
pub const TABLE: [Row; 19] = [
    (Defence::UserNamespace, "user namespace", 16, "root inside is nobody outside: whatever else fails, what gets out has no rights"),
    (Defence::User, "user", 6, "who is not root, even inside, has few of the kernel's doors to try"),
    (Defence::Capabilities, "capabilities", 12, "most ways of root to harm a host need one; none is best, the default ones count half"),
    (Defence::NoNewPrivileges, "no new privileges", 6, "set-user-ID programs give nothing to whoever has taken over the service"),
    (Defence::Seccomp, "system calls", 12, "most faults of kernels are behind calls that a service never makes"),
    (Defence::Mount, "mount namespace", 8, "what is not in its tree it can neither read nor write; the host's own tree counts half"),
    (Defence::Pid, "pid namespace", 6, "processes of others can be neither seen nor signalled nor traced"),
    (Defence::Network, "network namespace", 6, "services of the host that trust their own machine are out of reach, and so are abstract sockets"),
    (Defence::Ipc, "ipc namespace", 3, "shared memory and queues of others are out of reach"),
    (Defence::Uts, "uts namespace", 1, "the host's name cannot be changed"),
    (Defence::Cgroup, "cgroup namespace", 2, "the names of other services' groups cannot be seen"),
    (Defence::Root, "root tree", 4, "what cannot be written cannot be changed for good; what is forgotten at the stop counts half"),
    (Defence::KernelFiles, "kernel files", 4, "files of /proc and /sys can neither change the host nor show its memory"),
    (Defence::Devices, "devices", 4, "disks and the like cannot be opened"),
    (Defence::Memory, "memory limit", 2, "it cannot take the memory of others"),
    (Defence::Processes, "pids limit", 2, "it cannot take all process numbers"),
    (Defence::CoreFiles, "core files", 2, "what a process knew, such as its secrets, is not left in a file"),
    (Defence::WritablePaths, "writable paths", 2, "it writes only where it must"),
    (Defence::Label, "label", 2, "a policy of AppArmor or SELinux holds it as well"),
];

/// How far a defence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Not at all.
    No,
    /// In part: half of the weight.
    Partly,
    /// As well as it can.
    Yes,
}

/// A defence of a unit as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub defence: Defence,
    /// How far.
    pub hold: Hold,
    /// What exactly, for people; may be empty.
    pub detail: String,
    /// What the kernel says against what was promised.
    pub differs: Option<String>,
}

/// Points of a finding.
pub fn points(weight: u32, hold: Hold) -> u32 {
    match hold {
        Hold::No => 0,
        Hold::Partly => weight.checked_div(2).unwrap_or(0),
        Hold::Yes => weight,
    }
}

/// 0 (a plain process of root) to 100.
pub fn score(findings: &[Finding]) -> u32 {
    let held = |defence| findings.iter().find(|it| it.defence == defence).map(|it| it.hold);
    TABLE
        .iter()
        .map(|(defence, _, weight, _)| points(*weight, held(*defence).unwrap_or(Hold::No)))
        .sum()
}

/// What a score comes to.
pub fn word(score: u32) -> &'static str {
    match score {
        70.. => "ok",
        40..70 => "medium",
        _ => "exposed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(hold: Hold) -> Vec<Finding> {
        let find =
            |row: &Row| Finding { defence: row.0, hold, detail: String::new(), differs: None };
        TABLE.iter().map(find).collect()
    }

    #[test]
    fn weights_add_up_and_each_defence_has_one_row() {
        assert_eq!(score(&all(Hold::Yes)), 100);
        assert_eq!(score(&all(Hold::No)), 0);
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(TABLE.iter().all(|row| row.2 > 0));
        assert_eq!(
            (word(100), word(70), word(69), word(40), word(39)),
            ("ok", "ok", "medium", "medium", "exposed")
        );
    }

    #[test]
    fn less_defence_is_never_a_higher_score() {
        // Every unit in which each defence holds by the bits of a number, in three ways.
        for seed in 0_u64..2_000 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut findings = all(Hold::No);
            for finding in &mut findings {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                finding.hold = [Hold::No, Hold::Partly, Hold::Yes][(state >> 33) as usize % 3];
            }
            let before = score(&findings);
            for index in 0..findings.len() {
                for less in [Hold::No, Hold::Partly] {
                    if less < findings[index].hold {
                        let mut weaker = findings.clone();
                        weaker[index].hold = less;
                        assert!(score(&weaker) <= before, "{:?}", findings[index]);
                    }
                }
            }
        }
    }

    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../../docs/audit.md");
        for (_, name, weight, why) in TABLE {
            assert!(
                page.contains(&format!("| {name} | {weight} | {why} |\n")),
                "{name} {weight} {why}"
            );
        }
        assert_eq!(page.matches("\n| ").count(), TABLE.len() + 2);
    }
}
