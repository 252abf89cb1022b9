//! What a group uses: counted by its controllers in version 2 or version 1, and where there
//! is no controller for it, added up over the processes that are in it now.
//!
//! What must hold: only read; whatever disappears while it is read is not there. Reading
//! takes the kernel a while for many groups, so process 1 has a child do it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Root, read};

/// Deepest nesting of groups that is looked into for processes.
const DEPTH_MAX: usize = 16;

/// Most groups of one unit that are looked into.
const GROUPS_MAX: usize = 1024;

/// Bytes of a page: berth knows x86-64 only.
const PAGE: u64 = 4096;

/// From here on a version 1 limit means that there is none.
const NO_LIMIT: u64 = 1 << 60;

/// A number, and how it was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Kept by a controller.
    Kept(u64),
    /// The sum of what the processes in it have now.
    Summed(u64),
}

impl Count {
    /// The number.
    pub const fn value(self) -> u64 {
        match self {
            Self::Kept(value) | Self::Summed(value) => value,
        }
    }
}

/// What a group uses; `None` where nothing tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds of processor time.
    pub cpu: Option<Count>,
    /// Bytes of memory; summed: those that no other process has.
    pub memory: Option<Count>,
    /// Most bytes of memory.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<Count>,
    /// Most processes and threads.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<Count>,
    /// Bytes written to block devices.
    pub written: Option<Count>,
}

/// Names of the groups that are in the root, sorted.
pub fn names(root: &Root) -> Vec<String> {
    let Ok(path) = &root.unified else { return Vec::new() };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> =
        directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// What the group of this name uses; `None`: there is none.
pub fn of(root: &Root, name: &str) -> Option<Usage> {
    let group = root.unified.as_ref().ok()?.join(name);
    if !group.is_dir() {
        return None;
    }
    let legacy = |controller: &str| -> Option<PathBuf> {
        let hierarchy = root.legacy.iter().find(|one| one.has(controller))?;
        let path = hierarchy.own.join(name);
        path.is_dir().then_some(path)
    };
    let mut usage = Usage {
        cpu: stat(&group.join("cpu.stat"), "usage_usec").map(Count::Kept),
        ..Usage::default()
    };
    if let Some(memory) = legacy("memory") {
        usage.memory = number(&memory.join("memory.usage_in_bytes")).map(Count::Kept);
        usage.memory_limit =
            number(&memory.join("memory.limit_in_bytes")).filter(|&limit| limit < NO_LIMIT);
    } else {
        usage.memory = number(&group.join("memory.current")).map(Count::Kept);
        usage.memory_limit = number(&group.join("memory.max"));
    }
    let pids = legacy("pids").unwrap_or_else(|| group.clone());
    usage.pids = number(&pids.join("pids.current")).map(Count::Kept);
    usage.pids_limit = number(&pids.join("pids.max"));
    let transfers = match legacy("blkio") {
        Some(blkio) => read(&blkio.join("blkio.throttle.io_service_bytes_recursive"))
            .ok()
            .map(|text| transfers_of_blkio(&text)),
        None => read(&group.join("io.stat")).ok().map(|text| transfers_of_io(&text)),
    };
    if let Some((read, written)) = transfers {
        (usage.read, usage.written) = (Some(Count::Kept(read)), Some(Count::Kept(written)));
    }
    sum_up(&group, &mut usage);
    Some(usage)
}

/// Adds what no controller counts.
fn sum_up(group: &Path, usage: &mut Usage) {
    if usage.memory.is_some() && usage.pids.is_some() && usage.read.is_some() {
        return;
    }
    let groups = with_groups_below(group);
    if usage.pids.is_none() {
        let count = |group: &PathBuf| {
            read(&group.join("cgroup.threads")).map_or(0, |text| text.lines().count())
        };
        let threads: usize = groups.iter().map(count).sum();
        usage.pids = u64::try_from(threads).ok().map(Count::Summed);
    }
    let (mut memory, mut was_read, mut written) = (0_u64, 0_u64, 0_u64);
    for group in &groups {
        for pid in read(&group.join("cgroup.procs")).unwrap_or_default().lines() {
            if usage.memory.is_none() {
                let statm = read(Path::new(&format!("/proc/{pid}/statm"))).unwrap_or_default();
                memory = memory.saturating_add(private_bytes(&statm));
            }
            if usage.read.is_none() {
                let io = PathBuf::from(format!("/proc/{pid}/io"));
                let text = read(&io).unwrap_or_default();
                was_read = was_read.saturating_add(line_of(&text, "read_bytes:").unwrap_or(0));
                written = written.saturating_add(line_of(&text, "write_bytes:").unwrap_or(0));
            }
        }
    }
    usage.memory.get_or_insert(Count::Summed(memory));
    if usage.read.is_none() {
        usage.read = Some(Count::Summed(was_read));
        usage.written = Some(Count::Summed(written));
    }
}

/// A group and those that its processes have made in it.
fn with_groups_below(group: &Path) -> Vec<PathBuf> {
    let mut groups = vec![group.to_owned()];
    let mut from = 0_usize;
    for _ in 0..DEPTH_MAX {
        let level = groups.get(from..).unwrap_or_default().to_vec();
        from = groups.len();
        for entry in level.iter().filter_map(|group| fs::read_dir(group).ok()).flatten().flatten() {
            if groups.len() < GROUPS_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                groups.push(entry.path());
            }
        }
    }
    groups
}

/// Resident pages that are not shared, of `/proc/PID/statm` (proc(5)).
fn private_bytes(statm: &str) -> u64 {
    let mut fields = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => {
            resident.saturating_sub(shared).saturating_mul(PAGE)
        }
        _ => 0,
    }
}

/// A file with one number; `max` is none.
fn number(path: &Path) -> Option<u64> {
    read(path).ok()?.trim().parse().ok()
}

/// The number of one line of a file of `NAME NUMBER` lines.
fn stat(path: &Path, name: &str) -> Option<u64> {
    line_of(&read(path).ok()?, name)
}

fn line_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (label, value) = line.split_once(' ')?;
        (label == name).then(|| value.trim().parse().ok())?
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=…`, a line a device.
fn transfers_of_io(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let fields = text.split_whitespace().filter_map(|field| field.strip_prefix(key));
        fields.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`, `8:0 Write 2` … for each device.
fn transfers_of_blkio(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next() == Some(kind)).then(|| words.next()?.parse::<u64>().ok())?
        });
        lines.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let text =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n";
        assert_eq!(transfers_of_io(text), (11, 22));
        assert_eq!(transfers_of_io(""), (0, 0));
        let text = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:16 Read 1\n8:0 Total 30\nTotal 31\n";
        assert_eq!(transfers_of_blkio(text), (11, 20));
        assert_eq!(private_bytes("1000 30 10 1 0 5 0"), 20 * 4096);
        assert_eq!(private_bytes(""), 0);
        assert_eq!(line_of("usage_usec 12\nuser_usec 5\n", "user_usec"), Some(5));
        assert_eq!(line_of("read_bytes: 7\n", "read_bytes:"), Some(7));
        assert_eq!(line_of("a 1", "b"), None);
    }
}
