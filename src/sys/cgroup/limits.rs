//! The one table of limits: which file of which controller takes which value, in both
//! versions; and writing them.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::group::{self, Group, Legacy};
use super::tree::{Root, make_directory};
use super::{Error, read, write};

/// Controllers that a limit can need.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

/// Period of the processor quota, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// Shortest quota the kernel takes, in microseconds.
const QUOTA_MIN: u64 = 1_000;

/// A limit, and the line of the unit file that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// What.
    pub limit: Limit<'a>,
    /// Where it was asked for; 0: nowhere.
    pub line: u32,
}

/// A limit with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit<'a> {
    /// Bytes.
    Memory(u64),
    /// Bytes above which it is throttled.
    MemoryHigh(u64),
    /// Bytes of swap; version 1 counts memory and swap together.
    Swap {
        /// Bytes.
        swap: u64,
        /// The memory limit beside it.
        memory: Option<u64>,
    },
    /// Thousandths of a processor.
    CpuMilli(u64),
    /// 1 to 10000, default 100.
    CpuWeight(u64),
    /// List of processors.
    Cpuset(&'a str),
    /// Processes and threads.
    Pids(u64),
    /// 1 to 10000, default 100.
    IoWeight(u64),
    /// How much of one use of a disk in a second.
    IoMax {
        /// The disk's number.
        device: (u32, u32),
        /// Of what.
        what: IoUse,
        /// How much.
        most: u64,
    },
    /// All processes die when one has to for lack of memory.
    OomGroup,
}

/// What a disk is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoUse {
    /// Bytes read.
    Read,
    /// Bytes written.
    Write,
    /// Reads.
    ReadOps,
    /// Writes.
    WriteOps,
}

impl IoUse {
    /// Its key in `io.max`, and its file in version 1.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("rbps", "blkio.throttle.read_bps_device"),
            Self::Write => ("wbps", "blkio.throttle.write_bps_device"),
            Self::ReadOps => ("riops", "blkio.throttle.read_iops_device"),
            Self::WriteOps => ("wiops", "blkio.throttle.write_iops_device"),
        }
    }
}

/// A file and what is written to it.
type Setting = (&'static str, String);

/// How a limit is set in one version.
struct Version {
    controller: &'static str,
    /// The first of these files that exists is written.
    choices: Vec<Setting>,
}

/// One row of the table.
struct Row {
    name: &'static str,
    unified: Version,
    /// Or why there is no such thing in version 1.
    legacy: Result<Version, &'static str>,
}

fn version(controller: &'static str, choices: Vec<Setting>) -> Version {
    Version { controller, choices }
}

fn row(limit: Limit<'_>) -> Row {
    let one = |controller, file, value: String| version(controller, vec![(file, value)]);
    match limit {
        Limit::Memory(bytes) => Row {
            name: "memory",
            unified: one("memory", "memory.max", bytes.to_string()),
            legacy: Ok(one("memory", "memory.limit_in_bytes", bytes.to_string())),
        },
        Limit::MemoryHigh(bytes) => Row {
            name: "memory-high",
            unified: one("memory", "memory.high", bytes.to_string()),
            legacy: Err("cgroup version 1 has nothing like it"),
        },
        Limit::Swap { swap, memory } => Row {
            name: "swap",
            unified: one("memory", "memory.swap.max", swap.to_string()),
            legacy: match memory {
                Some(memory) => {
                    let both = memory.saturating_add(swap).to_string();
                    Ok(one("memory", "memory.memsw.limit_in_bytes", both))
                }
                None => Err("cgroup version 1 can limit swap only together with memory"),
            },
        },
        Limit::CpuMilli(milli) => {
            let quota = milli.saturating_mul(PERIOD / 1000).max(QUOTA_MIN);
            Row {
                name: "cpu",
                unified: one("cpu", "cpu.max", format!("{quota} {PERIOD}")),
                legacy: Ok(one("cpu", "cpu.cfs_quota_us", quota.to_string())),
            }
        }
        Limit::CpuWeight(weight) => {
            let shares = weight.saturating_mul(1024) / 100;
            Row {
                name: "cpu-weight",
                unified: one("cpu", "cpu.weight", weight.to_string()),
                legacy: Ok(one("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string())),
            }
        }
        Limit::Cpuset(list) => Row {
            name: "cpuset",
            unified: one("cpuset", "cpuset.cpus", list.to_owned()),
            legacy: Ok(one("cpuset", "cpuset.cpus", list.to_owned())),
        },
        Limit::Pids(count) => Row {
            name: "pids",
            unified: one("pids", "pids.max", count.to_string()),
            legacy: Ok(one("pids", "pids.max", count.to_string())),
        },
        Limit::IoWeight(weight) => {
            let classic = weight.saturating_mul(5).clamp(10, 1000).to_string();
            let bfq = weight.min(1000).to_string();
            Row {
                name: "io-weight",
                unified: version(
                    "io",
                    vec![("io.weight", weight.to_string()), ("io.bfq.weight", bfq.clone())],
                ),
                legacy: Ok(version(
                    "blkio",
                    vec![("blkio.weight", classic), ("blkio.bfq.weight", bfq)],
                )),
            }
        }
        Limit::IoMax { device, what, most } => io_max(device, what, most),
        Limit::OomGroup => Row {
            name: "oom",
            unified: one("memory", "memory.oom.group", "1".to_owned()),
            legacy: Err("cgroup version 1 has nothing like it"),
        },
    }
}

/// A disk's number and a kind of use: further lines of the same file add to it.
fn io_max((major, minor): (u32, u32), what: IoUse, most: u64) -> Row {
    let (key, file) = what.names();
    Row {
        name: "io-max",
        unified: version("io", vec![("io.max", format!("{major}:{minor} {key}={most}"))]),
        legacy: Ok(version("blkio", vec![(file, format!("{major}:{minor} {most}"))])),
    }
}

/// What [`enable`] has come to.
#[derive(Debug, Default)]
pub(super) struct Enabled {
    /// The controllers that units can have.
    pub controllers: Vec<String>,
    /// Whether this process is in a group of its own now.
    pub moved: bool,
    /// Why others are not to be had, where that can be helped.
    pub obstacle: Option<String>,
}

/// Enables for units what controllers version 2 has here. A group other than the real root
/// cannot have both processes and controllers for its children: in that case this process
/// moves to `own`. If there are others, that does not help, and it moves back.
pub(super) fn enable(above: &Path, root: &Path, own: &Path) -> Enabled {
    let available = read(&above.join("cgroup.controllers")).unwrap_or_default();
    let mut it = Enabled::default();
    for name in CONTROLLERS.iter().filter(|name| available.split_whitespace().any(|a| a == **name))
    {
        let order = format!("+{name}");
        let mut result = write(&above.join("cgroup.subtree_control"), &order);
        if is_busy(&result) && !it.moved && it.obstacle.is_none() {
            it.moved = make_directory(own).and_then(|()| move_to(own)).is_ok();
            result = write(&above.join("cgroup.subtree_control"), &order);
        }
        if is_busy(&result) && it.obstacle.is_none() {
            it.obstacle = Some(format!("other processes are in {}", above.display()));
        }
        if result.and_then(|()| write(&root.join("cgroup.subtree_control"), &order)).is_ok() {
            it.controllers.push((*name).to_owned());
        }
    }
    if it.moved && it.controllers.is_empty() && move_to(above).is_ok() {
        it.moved = false;
        // It is empty; and if not, it goes with the root.
        let _ = std::fs::remove_dir(own);
    }
    it
}

/// This process is in that group from now on.
fn move_to(group: &Path) -> io::Result<()> {
    write(&group.join("cgroup.procs"), "0")
}

/// The way back from [`enable`]: no controllers, this process in `above` again.
pub(super) fn disable(above: &Path, root: &Path, controllers: &[String]) -> io::Result<()> {
    for name in controllers {
        write(&root.join("cgroup.subtree_control"), &format!("-{name}"))?;
        write(&above.join("cgroup.subtree_control"), &format!("-{name}"))?;
    }
    move_to(above)
}

fn is_busy(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// Sets every limit on a new group; those that cannot be enforced here are noted in it,
/// or refused if `strict`.
pub(super) fn apply(
    root: &Root,
    group: &mut Group,
    wanted: &[Wanted<'_>],
    strict: bool,
) -> Result<(), Error> {
    for Wanted { limit, line } in wanted {
        let row = row(*limit);
        match set(root, group, &row) {
            Ok(()) => {}
            Err(Obstacle::Impossible(why)) if strict => {
                return Err(Error::Unenforceable { limit: row.name, line: *line, why });
            }
            Err(Obstacle::Impossible(why)) => {
                group.unenforced.push(format!("{}: {why}", row.name));
            }
            Err(Obstacle::Refused(what, error)) => {
                return Err(Error::Refused { limit: row.name, line: *line, what, error });
            }
            Err(Obstacle::Broken(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Why a limit was not set.
pub(super) enum Obstacle {
    /// This host has nothing for it.
    Impossible(String),
    /// What was written where, and the answer.
    Refused(String, io::Error),
    /// The tree itself.
    Broken(Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

fn set(root: &Root, group: &mut Group, row: &Row) -> Result<(), Obstacle> {
    let unified = root.controllers.iter().any(|known| known == row.unified.controller);
    if let (true, Some(path)) = (unified, group.path()) {
        return write_first(&path, &row.unified.choices);
    }
    let legacy = row.legacy.as_ref().map_err(|why| Obstacle::Impossible((*why).to_owned()))?;
    let path = legacy_group(root, group, legacy.controller, row.unified.controller)?;
    write_first(&path, &legacy.choices)
}

fn write_first(group: &Path, choices: &[Setting]) -> Result<(), Obstacle> {
    let mut missing = "";
    for (file, value) in choices {
        let path = group.join(file);
        match write(&path, value) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing = file,
            Err(error) => return Err(Obstacle::Refused(format!("{value} in {file}"), error)),
        }
    }
    Err(Obstacle::Impossible(format!("this kernel has no {missing}")))
}

/// The group's directory in the version 1 hierarchy of a controller (which version 2 calls
/// `known_as`), made now if it is the first limit there.
pub(super) fn legacy_group(
    root: &Root,
    group: &mut Group,
    controller: &str,
    known_as: &str,
) -> Result<PathBuf, Obstacle> {
    let Some(hierarchy) = root.legacy.iter().find(|one| one.has(controller)) else {
        let mut why = format!("no cgroup controller {known_as} is available");
        if let Some(obstacle) = &root.obstacle {
            why.push_str(": ");
            why.push_str(obstacle);
        }
        return Err(Obstacle::Impossible(why));
    };
    let path = group.legacy_path(hierarchy);
    if group.legacy.iter().any(|known| Rc::ptr_eq(&known.hierarchy, hierarchy)) {
        return Ok(path);
    }
    let above = &hierarchy.own;
    make_directory(above).map_err(|error| unusable(above, &error))?;
    group::remove_tree(&path).map_err(|error| Error::io("remove", &path, error))?;
    make_directory(&path).map_err(|error| unusable(&path, &error))?;
    let procs = group::open_procs(&path)?;
    group.add_legacy(Legacy { hierarchy: hierarchy.clone(), procs });
    if hierarchy.has("cpuset") {
        inherit_cpuset(above)?;
        inherit_cpuset(&path)?;
    }
    Ok(path)
}

fn unusable(path: &Path, error: &io::Error) -> Obstacle {
    Obstacle::Impossible(format!("cannot make {}: {error}", path.display()))
}

/// A version 1 cpuset group takes no process until it has both lists; new ones are empty.
fn inherit_cpuset(path: &Path) -> Result<(), Error> {
    let Some(above) = path.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = path.join(file);
        let text = read(&own).map_err(|error| Error::io("read", &own, error))?;
        if text.trim().is_empty() {
            let theirs = above.join(file);
            let value = read(&theirs).map_err(|error| Error::io("read", &theirs, error))?;
            write(&own, value.trim()).map_err(|error| Error::io("write", &own, error))?;
        }
    }
    Ok(())
}
