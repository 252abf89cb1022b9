//! The processes of a rig, and what they use.

use std::fs;

use super::Rig;
use super::traces::is_descendant;

impl Rig {
    /// The number that this process knows for one in the rig's pid namespace.
    pub fn host_pid(&self, pid: i64) -> i32 {
        let inside = |own: i32| {
            let status = fs::read_to_string(format!("/proc/{own}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            // The first number is this process's view, the second the rig's.
            let number = numbers.and_then(|numbers| numbers.split_whitespace().nth(1));
            number.is_some_and(|number| number.parse() == Ok(pid))
        };
        let found = self.all_descendants().into_iter().find(|&pid| inside(pid));
        found.expect("no such process")
    }

    /// Numbers, as this process sees them, of all processes below the rig.
    pub fn all_descendants(&self) -> Vec<i32> {
        let rig = self.child.as_ref().unwrap().id();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| {
            let pid: i32 = entry.file_name().to_string_lossy().parse().ok()?;
            is_descendant(pid, rig).then_some(pid)
        });
        pids.collect()
    }

    /// Those of them with this name.
    pub fn descendants(&self, comm: &str) -> Vec<i32> {
        let mut pids = self.all_descendants();
        pids.retain(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == comm
        });
        pids
    }

    /// How many of them have this text in their command line, where NUL divides arguments.
    pub fn commands(&self, text: &str) -> usize {
        let mut pids = self.all_descendants();
        pids.retain(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(text)
        });
        pids.len()
    }

    /// Who has started berth, and starts it again in [`Mode::Revived`].
    pub fn parent_of_berth(&self) -> i32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.berth_pid())).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        parent.trim().parse().unwrap()
    }

    /// A child of berth by the name that `ps` shows, such as `berth-logger`.
    pub fn child(&self, name: &str) -> Option<i32> {
        self.children(name).first().copied()
    }

    /// All children of berth with this name.
    pub fn children(&self, name: &str) -> Vec<i32> {
        let berth = self.berth_pid();
        let children = format!("/proc/{berth}/task/{berth}/children");
        let children = fs::read_to_string(children).unwrap();
        let named = |pid: &i32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim() == name
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(named).collect()
    }

    /// How many descriptors berth has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.berth_pid())).unwrap().count()
    }

    /// Bytes of memory that berth uses (RSS).
    pub fn memory(&self) -> usize {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.berth_pid())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
}
