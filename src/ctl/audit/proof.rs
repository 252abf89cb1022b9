//! What the kernel says of a unit's main process, beside what was promised.
//!
//! What must hold: nothing is said of a process that is not surely the unit's: its control
//! group has to be the unit's before and after it was looked at.

use std::fs;
use std::path::Path;

use super::defence::{Defence, Finding, Hold};
use super::groups::{self, Groups};
use super::promise::Definition;
use crate::protocol::types::{State, UnitStatus};

/// Facts of /proc about one process.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// Names of the namespaces that are not the supervisor's.
    pub own: Vec<String>,
    /// `/proc/PID/status`.
    pub status: String,
    /// `/proc/PID/uid_map`.
    pub uid_map: String,
    /// `/proc/PID/limits`.
    pub limits: String,
    /// `/proc/PID/mountinfo`.
    pub mounts: String,
    /// What its control groups hold.
    pub groups: Groups,
    /// `/proc/PID/attr/current`.
    pub label: String,
}

/// Looks at the main process of a running unit; `None`: there is none, or it cannot be seen
/// from here.
pub fn look(unit: &UnitStatus, supervisor: u32) -> Option<Proof> {
    let pid = unit.main_pid.filter(|_| matches!(unit.state, State::Running | State::Starting))?;
    let group = unit.cgroup.as_deref()?;
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let is_it = || {
        let groups = file("cgroup")?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        (own.len() > 1 && Path::new(group).ends_with(own.trim_start_matches('/'))).then_some(())
    };
    is_it()?;
    let mut proof = Proof {
        own: Vec::new(),
        status: file("status")?,
        uid_map: file("uid_map")?,
        limits: file("limits")?,
        mounts: file("mountinfo")?,
        groups: groups::look(Path::new(group), &file("cgroup")?),
        // No security module, no label.
        label: file("attr/current").unwrap_or_default(),
    };
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        if link(pid)? != link(supervisor)? {
            proof.own.push(name.to_owned());
        }
    }
    is_it()?;
    Some(proof)
}

impl Proof {
    fn field(&self, name: &str) -> Option<&str> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    }

    /// Whether it is root where it lives.
    fn is_root_inside(&self) -> Option<bool> {
        let uid: u64 = self.field("Uid")?.split_whitespace().nth(1)?.parse().ok()?;
        let of_root = self.uid_map.lines().find_map(|line| {
            let mut numbers = line.split_whitespace();
            (numbers.next() == Some("0")).then(|| numbers.next()?.parse::<u64>().ok()).flatten()
        });
        Some(of_root == Some(uid))
    }

    /// Whether root of the host is somebody where it lives.
    fn has_root_of_host(&self) -> bool {
        self.uid_map.lines().any(|line| line.split_whitespace().nth(1) == Some("0"))
    }

    /// By its soft limit of core files, in bytes.
    fn dumps_no_core(&self) -> Option<bool> {
        let line = self.limits.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
        // 1 is what berth sets: see the plan.
        Some(matches!(line.split_whitespace().next()?, "0" | "1"))
    }

    /// Whether what is mounted at a path, on top, is read-only.
    fn is_read_only(&self, path: &str) -> bool {
        let fields = |line: &str| -> Option<bool> {
            let mut fields = line.split(' ').skip(4);
            (fields.next()? == path).then_some(())?;
            Some(fields.next()?.split(',').any(|option| option == "ro"))
        };
        self.mounts.lines().filter_map(fields).next_back().unwrap_or(false)
    }

    /// Whether AppArmor holds it by this profile, or by one that it leads to.
    fn is_held_by(&self, profile: &str) -> bool {
        let label = self.label.trim_end_matches(['\n', '\0']);
        let own = label.strip_suffix(" (enforce)").and_then(|name| name.strip_prefix(profile));
        own.is_some_and(|rest| rest.is_empty() || rest.starts_with("//"))
    }

    /// Whether the kernel holds it; `None`: it does not say.
    fn holds(&self, defence: Defence, unit: Definition<'_>) -> Option<bool> {
        let own = |name: &str| Some(self.own.iter().any(|it| it == name));
        match defence {
            Defence::UserNamespace => Some(own("user")? && !self.has_root_of_host()),
            Defence::CoreFiles => self.dumps_no_core(),
            Defence::User => self.is_root_inside().map(|root| !root),
            Defence::Capabilities => {
                let bounding = u64::from_str_radix(self.field("CapBnd")?, 16).ok()?;
                Some(bounding & !unit.capabilities().0 == 0)
            }
            Defence::NoNewPrivileges => Some(self.field("NoNewPrivs")? == "1"),
            Defence::Seccomp => Some(self.field("Seccomp")? == "2"),
            Defence::Mount => own("mnt"),
            Defence::Pid => own("pid"),
            Defence::Network => own("net"),
            Defence::Ipc => own("ipc"),
            Defence::Uts => own("uts"),
            Defence::Cgroup => own("cgroup"),
            Defence::KernelFiles => Some(self.is_read_only("/proc/sys")),
            Defence::Root if unit.root_is_read_only() => Some(self.is_read_only("/")),
            Defence::Devices => self.groups.devices,
            Defence::Memory => self.groups.memory,
            Defence::Processes => self.groups.processes,
            Defence::Label => unit.apparmor().map(|profile| self.is_held_by(profile)),
            Defence::Root | Defence::WritablePaths => None,
        }
    }

    /// Corrects findings by what is so: what was promised and is not there is a difference;
    /// what is there and was not promised holds.
    pub fn correct(&self, findings: &mut [Finding], unit: Definition<'_>) {
        for finding in findings {
            match (finding.hold, self.holds(finding.defence, unit)) {
                (Hold::Yes | Hold::Partly, Some(false)) => {
                    finding.hold = Hold::No;
                    finding.differs = Some("promised, and the kernel says otherwise".to_owned());
                }
                // A bounding set within all of them is nothing yet.
                (Hold::No, Some(true)) if finding.defence != Defence::Capabilities => {
                    finding.hold = Hold::Yes;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_holds_only_where_it_is_enforced() {
        let held =
            |label: &str| Proof { label: label.to_owned(), ..Proof::default() }.is_held_by("web");
        assert!(held("web (enforce)\n") && held("web//child (enforce)"));
        for other in ["web (complain)", "web2 (enforce)", "unconfined", "", "web"] {
            assert!(!held(other), "{other}");
        }
    }
}
