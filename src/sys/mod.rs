//! Thin safe wrappers over the kernel. The only `unsafe` of the project.
//!
//! A function here is one system call, or a few that always go together, with the types
//! of Rust around it. Nothing here knows about units. Errors are `std::io::Error` with
//! the errno of the kernel; whoever calls says what could not be done.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod clone;
pub mod environment;
pub mod fault;
pub mod fd;
pub mod fork;
pub mod guarded;
pub mod identity;
pub mod job;
pub mod kept;
pub mod landlock;
pub mod limits;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod oom;
pub mod path;
pub mod peer;
pub mod pidfd;
pub mod power;
pub mod program;
pub mod pty;
pub mod random;
pub mod range_lock;
pub mod reap;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod state;
pub mod unswappable;

use std::io;

/// Turns the result of a C function (-1 and errno) into a `Result`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`] for functions that return a `long`.
fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
