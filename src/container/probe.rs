//! Probes: small helpers that try, from inside a unit's namespaces, whether it is ready
//! or healthy.

use std::os::fd::BorrowedFd;

use super::{Child, Host, LaunchError, Plan};
use crate::sys::cgroup::Group;

/// Placeholder until the real one is merged.
#[derive(Debug, Clone)]
pub enum Probe {
    /// tcp
    Tcp { host: String, port: u16, once: bool },
    /// unix
    Unix(String),
    /// path
    Path(String),
    /// http
    Http { host: String, port: u16, path: String },
}

/// Placeholder.
pub fn probe(
    _: &Host,
    _: &Plan,
    _: &Group,
    _: Option<BorrowedFd<'_>>,
    _: &Probe,
) -> Result<Child, LaunchError> {
    Err(LaunchError::NoSandbox)
}
