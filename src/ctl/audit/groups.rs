//! What the control groups of a unit hold, as the kernel says.
//!
//! What must hold: of version 1 only groups that are the unit's own count. A process that has
//! none of a controller's is in the supervisor's, whose limits are not the unit's.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::sys::bpf;

/// Where the controllers of version 1 are mounted, by everybody's habit.
const VERSION_1: &str = "/sys/fs/cgroup";

/// From here on a number of bytes is none.
const UNLIMITED: u64 = 1 << 62;

/// Whether these are limited; `None`: the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Groups {
    /// Processes.
    pub processes: Option<bool>,
    /// Memory.
    pub memory: Option<bool>,
    /// Devices.
    pub devices: Option<bool>,
}

/// Looks at the groups of a process (`/proc/PID/cgroup`), of which `unit` is the one of
/// version 2.
pub fn look(unit: &Path, all: &str) -> Groups {
    let limit = |controller: &str, two: &str, one: &str| {
        let text = fs::read_to_string(unit.join(two)).ok();
        text.or_else(|| in_version_1(unit, all, controller, one)).map(|text| is_limit(&text))
    };
    let list = || in_version_1(unit, all, "devices", "devices.list");
    let programs = File::open(unit).and_then(|group| bpf::device_programs(group.as_fd()));
    let devices = match programs {
        Ok(1..) => Some(true),
        Ok(0) => Some(list().is_some_and(|list| !allows_all(&list))),
        Err(_) => list().map(|list| !allows_all(&list)),
    };
    Groups {
        processes: limit("pids", "pids.max", "pids.max"),
        memory: limit("memory", "memory.max", "memory.limit_in_bytes"),
        devices,
    }
}

/// A file of the unit's own group of a controller; of one that has none, what such a file says
/// where nothing is limited.
fn in_version_1(unit: &Path, all: &str, controller: &str, file: &str) -> Option<String> {
    let path = all.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|it| it == controller).then_some(path)
    })?;
    let top = PathBuf::from(format!("{VERSION_1}/{controller}"));
    let own = unit.components().rev().take(2).eq(Path::new(path).components().rev().take(2));
    if !own {
        let nothing = if file == "devices.list" { "a *:* rwm" } else { "max" };
        return top.is_dir().then(|| nothing.to_owned());
    }
    fs::read_to_string(top.join(path.trim_start_matches('/')).join(file)).ok()
}

fn is_limit(text: &str) -> bool {
    text.trim().parse::<u64>().is_ok_and(|limit| limit < UNLIMITED)
}

fn allows_all(list: &str) -> bool {
    list.lines().any(|line| line.trim() == "a *:* rwm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_that_can_be_reached() {
        assert!(is_limit("2048\n") && is_limit("0"));
        assert!(!is_limit("max\n") && !is_limit("9223372036854771712\n") && !is_limit(""));
        assert!(allows_all("a *:* rwm\n") && !allows_all("c 1:3 rwm\n") && !allows_all(""));
    }

    #[test]
    fn only_a_group_of_its_own_counts() {
        let own = "9:pids:/user/berth-1/web\n0::/user/berth-1/web\n";
        let of_berth = "9:pids:/user\n0::/user/berth-1/web\n";
        let unit = Path::new("/sys/fs/cgroup/unified/user/berth-1/web");
        let look = |all| in_version_1(unit, all, "pids", "nothing-is-called-so");
        assert_eq!(look(own), None, "there is no such file");
        let there = Path::new("/sys/fs/cgroup/pids").is_dir();
        assert_eq!(look(of_berth).is_some(), there);
        assert_eq!(in_version_1(unit, own, "memory", "x"), None);
    }
}
