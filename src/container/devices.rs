//! Which devices a unit may use: from what its file says to rules about numbers.
//!
//! The only part of a start that looks at the host's tree from the supervisor itself: the
//! rules, and limits for disks, must be there before the unit's first process is. It looks at nodes below `/dev`,
//! which the kernel holds in memory, and opens none.

use crate::sys::cgroup::Wanted;
use crate::sys::cgroup::devices::{ACCESS_ALL, DeviceRule, STANDARD};
use crate::sys::cgroup::limits::{IoUse, Limit};
use crate::sys::path;
use crate::unit::model::{self, At, Device, IoMax, Service, UserNamespace};

/// The rules for a unit; `None`: nothing is kept from it.
///
/// # Errors
/// What is wrong with a node of the host, and the line that named it.
pub fn rules(service: &Service) -> Result<Option<Vec<DeviceRule>>, At<String>> {
    let asked = &service.security.devices;
    if service.security.privileged || (!service.namespaces.value.mount && asked.is_none()) {
        return Ok(None);
    }
    // There it gets a copy of the node, which is made in its group; and inside, nobody can.
    let copied = *service.user_namespace() != UserNamespace::None;
    let mut rules = STANDARD.to_vec();
    for At { value: device, line } in asked.iter().flatten() {
        let rule = rule(device, copied).map_err(|error| {
            let why = format!("the device {}: {error}", device.path);
            At { value: why, line: *line }
        })?;
        rules.push(rule);
    }
    Ok(Some(rules))
}

/// How much of disks a unit may use.
///
/// # Errors
/// As [`rules`].
pub fn io_limits(service: &Service) -> Result<Vec<Wanted<'static>>, At<String>> {
    let limit = |at: &At<IoMax>| {
        let refused =
            |why: &str| At { value: format!("the disk {}: {why}", at.value.device), line: at.line };
        let (_, node) =
            path::device(&at.value.device).map_err(|error| refused(&error.to_string()))?;
        if !node.block {
            return Err(refused("this is no block device"));
        }
        let what = match at.value.what {
            model::IoUse::Read => IoUse::Read,
            model::IoUse::Write => IoUse::Write,
            model::IoUse::ReadOps => IoUse::ReadOps,
            model::IoUse::WriteOps => IoUse::WriteOps,
        };
        let device = (node.major, node.minor);
        Ok(Wanted { limit: Limit::IoMax { device, what, most: at.value.most }, line: at.line })
    };
    service.limits.io_max.iter().map(limit).collect()
}

fn rule(device: &Device, copied: bool) -> std::io::Result<DeviceRule> {
    let path::Node { block, major, minor } = path::device(&device.path)?.1;
    let letters = [(device.mknod || copied, 1), (device.read, 2), (device.write, 4)];
    let access = letters.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
    Ok(DeviceRule { block, major, minor: Some(minor), access: access & ACCESS_ALL })
}
