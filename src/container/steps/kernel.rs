//! Settings of the kernel that a namespace has of its own.
//!
//! What must hold: what is written to is a file of the kernel's procfs below `sys`, which no
//! link of the unit's tree led to; and whose setting it is the unit reader has checked.

use std::os::fd::AsFd;

use rustix::fs::OFlags;

use super::paths::kernel;
use crate::container::status::Failure;
use crate::container::step::UNPRIVILEGED_PORTS as PORTS;
use crate::sys::path::{self, Type};

/// As in Docker: what root of the unit may do on its own network every user may.
pub(super) fn unprivileged_ports() -> Result<(), Failure> {
    match sysctl(PORTS, "0") {
        // A kernel without IPv4 has none.
        Err(failure) if failure.errno == libc::ENOENT => Ok(()),
        other => other,
    }
}

pub(super) fn sysctl(name: &str, value: &str) -> Result<(), Failure> {
    let proc = kernel("/proc", Type::Proc)?;
    let file = path::open_linkless_in(proc.as_fd(), &format!("sys/{name}"), OFlags::WRONLY);
    let file = file.map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::ENOENT) => "the kernel has no such setting, or none for each namespace",
            Some(libc::EACCES | libc::EPERM) => "the kernel lets nobody change it in there",
            _ => "",
        };
        Failure::with(&error, hint)
    })?;
    if !path::is_on(file.as_fd(), Type::Proc)? {
        return Err(Failure::text("what is mounted below /proc/sys is not the kernel's own"));
    }
    // In one write: a second one would be taken for a second value.
    match rustix::io::write(&file, value.as_bytes()) {
        Ok(count) if count == value.len() => Ok(()),
        Ok(_) => Err(Failure::text("the kernel did not take all of it")),
        Err(error) => Err(Failure::with(&error.into(), "the kernel does not take this value")),
    }
}
