//! Where [`super::Nest`] is not written for: it has no places, so every child is a fork.

use std::io;
use std::os::fd::BorrowedFd;

use super::Script;
use crate::sys::clone::Process;

/// No places.
#[derive(Debug)]
pub struct Nest;

impl Nest {
    /// Nothing.
    ///
    /// # Errors
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// There is no place.
    pub fn has_place(&mut self) -> bool {
        false
    }

    /// Makes nothing.
    ///
    /// # Errors
    /// Always.
    pub fn launch(&mut self, _: Script, _: Option<BorrowedFd<'_>>) -> io::Result<Process> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// None.
    pub fn launched(&self) -> u64 {
        0
    }

    /// Nothing.
    pub fn ended(&mut self, _: i32) {}

    /// Nothing.
    pub fn slim(&mut self) -> bool {
        false
    }
}
