//! Writing to the supervisor's own output (`driver = "console"`) without ever waiting
//! for it.
//!
//! The descriptor is inherited, and its `O_NONBLOCK` belongs to everybody who shares it
//! (the user's shell too), so it is not changed: terminals and pipes are opened once more
//! for ourselves, sockets have a flag for each call, and regular files do not block.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// A write of so many bytes to a pipe that polls writable does not block.
const ATOMIC: usize = 4096;

/// How to write to it.
#[derive(Debug)]
enum Way {
    /// Our own open file description, non-blocking, or a regular file.
    Write,
    /// A socket.
    Send,
    /// It could not be opened again: ask before each short write.
    Ask,
}

/// One of the standard outputs.
#[derive(Debug)]
pub struct Console {
    fd: OwnedFd,
    way: Way,
    /// It has failed, and what goes there is discarded.
    gone: bool,
}

impl Console {
    /// # Errors
    /// The descriptor is closed.
    pub fn new(inherited: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = inherited.try_clone_to_owned()?;
        let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        Ok(match kind {
            FileType::Fifo | FileType::CharacterDevice => match reopen(inherited) {
                Ok(own) => Self { fd: own, way: Way::Write, gone: false },
                Err(_) => Self { fd, way: Way::Ask, gone: false },
            },
            FileType::Socket => Self { fd, way: Way::Send, gone: false },
            _ => Self { fd, way: Way::Write, gone: false },
        })
    }

    /// Writes some of `bytes` and says how many.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be written now. Anything else is said once (its
    /// terminal was closed, say): from then on what goes there is discarded, as if the
    /// service itself had inherited that output and did not mind.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone {
            return Ok(bytes.len());
        }
        let result = self.try_write(bytes);
        self.gone = result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        result
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.way {
            Way::Write => rustix::io::write(&self.fd, bytes),
            Way::Send => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::Ask => {
                let mut asked = [PollFd::new(&self.fd, PollFlags::OUT)];
                poll(&mut asked, Some(&Timespec::default()))?;
                if asked.iter().all(|asked| asked.revents().is_empty()) {
                    return Err(ErrorKind::WouldBlock.into());
                }
                rustix::io::write(&self.fd, bytes.get(..ATOMIC).unwrap_or(bytes))
            }
        };
        match written {
            Err(Errno::INTR) => Err(ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let flags =
        i32::try_from(OFlags::NONBLOCK.bits() | OFlags::NOCTTY.bits()).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(OpenOptions::new().write(true).custom_flags(flags).open(path)?.into())
}
