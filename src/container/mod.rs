//! Containers: a pure plan, and the steps that carry it out inside the child.
//!
//! [`plan::compile`] turns a checked unit into lists of steps; nothing is touched.
//! [`launch`] makes the child, in which [`child`] carries the steps out one after the
//! other and, if one fails, sends its place, errno and a short text up the status channel
//! ([`status`]). Everything a child makes (mounts, namespaces) ends with its namespaces,
//! so there is nothing to undo. What must hold: a child never continues after a step that
//! failed, and no code of this room but `launch` runs in the supervisor once a unit is up.

pub mod capabilities;
pub mod child;
pub mod devices;
pub mod environment;
mod express;
pub mod launch;
mod pad;
pub mod plan;
pub mod probe;
mod program;
pub mod secrets;
pub mod status;
pub mod step;
pub mod steps;
pub mod user_namespace;
pub mod users;

pub use launch::{Child, Exec, Host, LaunchError, Program, Stdio, Where, process, sandbox};
pub use plan::{Context, Plan, compile};
pub use status::{Channel, SocketKind, Status};
pub use user_namespace::{UserNamespace, Users};

use crate::sys::cgroup::limits::{Limit, Wanted};
use crate::sys::cgroup::{self, Group, Root};
use crate::sys::landlock;
use crate::unit::limits::DEFAULT_PIDS;
use crate::unit::model::{At, Limits, Oom, Security, Service, Unit};

/// Makes the control group of a unit, with its limits and the devices it may use.
///
/// # Errors
/// One phrase with the limit and its line, to follow "cannot start web: ".
pub fn group(root: &Root, unit: &Unit, name: &str) -> Result<Group, String> {
    let Some(service) = unit.service() else { return Ok(Group::absent()) };
    let strict = service.limits.strict;
    if strict && let Some(what) = unenforced(service).pop() {
        return Err(format!("this host cannot hold {what}, which `strict` asks for"));
    }
    let describe = |error: cgroup::Error| match error.line() {
        0 => error.to_string(),
        line => format!("{error} at {}:{line}", unit.file),
    };
    let at_line = |At { value: why, line }: At<String>| format!("{why} at {}:{line}", unit.file);
    let rules = devices::rules(service).map_err(at_line)?;
    let mut limits = cgroup_limits(service);
    limits.extend(devices::io_limits(service).map_err(at_line)?);
    let mut group = root.create(name, &limits, strict).map_err(describe)?;
    let allowed = match rules {
        Some(rules) => root.allow_devices(&mut group, &rules, strict),
        None => Ok(()),
    };
    let delegate = service.limits.delegate.as_ref().filter(|at| at.value);
    let delegated = allowed.and_then(|()| match delegate {
        Some(at) => root.delegate(&mut group, at.line, strict),
        None => Ok(()),
    });
    if let Err(error) = delegated {
        // Nobody is in it yet; the first error says more than one of this could.
        let _ = group.remove();
        return Err(describe(error));
    }
    Ok(group)
}

/// What a service asks for and this kernel cannot hold: texts as those of limits.
pub fn unenforced(service: &Service) -> Vec<String> {
    let Security { read_only_paths, writable_paths, .. } = &*service.security;
    let read_only = !service.namespaces.value.mount && !read_only_paths.is_empty();
    let wanted = [("read-only-paths", read_only), ("writable-paths", writable_paths.is_some())];
    let Some(why) = weakness(landlock::version()) else { return Vec::new() };
    let wanted = wanted.iter().filter(|(_, wanted)| *wanted);
    wanted.map(|(key, _)| format!("{key}: {why}")).collect()
}

/// What a kernel with this version of Landlock cannot keep a process from.
fn weakness(landlock: u32) -> Option<&'static str> {
    match landlock {
        0 => Some("the kernel has no Landlock"),
        1..landlock::TRUNCATING => Some("the kernel's Landlock does not stop truncating"),
        _ => None,
    }
}

/// The limits of a unit in the words of [`crate::sys::cgroup`].
pub fn cgroup_limits(service: &Service) -> Vec<Wanted<'_>> {
    fn row<'a, T>(
        limit: Option<&'a At<T>>,
        make: impl FnOnce(&'a T) -> Limit<'a>,
    ) -> Option<Wanted<'a>> {
        limit.map(|at| Wanted { limit: make(&at.value), line: at.line })
    }
    let limits: &Limits = &service.limits;
    let pids = match &limits.pids {
        None if service.namespaces.value.mount => {
            Some(Wanted { limit: Limit::Pids(DEFAULT_PIDS), line: 0 })
        }
        // "unlimited"
        Some(At { value: u64::MAX, .. }) => None,
        pids => row(pids.as_ref(), |&count| Limit::Pids(count)),
    };
    let memory = limits.memory.as_ref().map(|at| at.value);
    let all = [
        row(limits.memory.as_ref(), |&bytes| Limit::Memory(bytes)),
        row(limits.memory_high.as_ref(), |&bytes| Limit::MemoryHigh(bytes)),
        row(limits.swap.as_ref(), |&swap| Limit::Swap { swap, memory }),
        row(limits.cpu_milli.as_ref(), |&milli| Limit::CpuMilli(milli)),
        row(limits.cpu_weight.as_ref(), |&weight| Limit::CpuWeight(weight)),
        row(limits.cpuset.as_ref(), |list| Limit::Cpuset(list)),
        pids,
        row(limits.io_weight.as_ref(), |&weight| Limit::IoWeight(weight)),
        row(limits.oom.as_ref().filter(|at| at.value == Oom::KillUnit), |_| Limit::OomGroup),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_landlock_lacks_is_known_by_its_version() {
        assert_eq!(weakness(0), Some("the kernel has no Landlock"));
        for version in [1, 2] {
            assert_eq!(weakness(version), Some("the kernel's Landlock does not stop truncating"));
        }
        assert_eq!(weakness(3), None);
        assert_eq!(weakness(99), None);
    }
}
