//! Who is at the other end of a connected Unix socket, and in which namespaces it lives.
//!
//! What must always hold: what is said is said of the process that connected, never of
//! another that was given its number since. A process that has ended before it was looked
//! at cannot be looked at: that is an error, and no answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use serde::{Deserialize, Serialize};

use super::socket::Credentials;
use super::{check, pidfd};

/// Most supplementary groups: the kernel's own limit (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// Where a peer lives, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the caller's user namespace, and not in a pid namespace below the caller's own.
    Here,
    /// In a pid namespace below the caller's own, as what runs in a container made here.
    Below,
    /// In another user namespace, where root is not the root of this one.
    OtherUsers,
}

/// The caller's own namespaces, to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    user: Namespace,
    pid: Namespace,
}

/// Device and inode: what tells namespaces apart (namespaces(7)).
type Namespace = (u64, u64);

impl Home {
    /// Those of the calling process.
    ///
    /// # Errors
    /// As stat(2) of `/proc/self/ns`.
    pub fn own() -> io::Result<Self> {
        Ok(Self { user: at("/proc/self/ns/user")?, pid: at("/proc/self/ns/pid")? })
    }

    /// Where the peer with these credentials lives. Before Linux 6.11 a peer that is not in
    /// the caller's pid namespace nor in one below it cannot be looked at: it counts as
    /// being here, which nothing that was started here can make use of.
    ///
    /// # Errors
    /// The peer has ended, or may not be looked at by the caller.
    pub fn place(&self, socket: BorrowedFd<'_>, peer: Credentials) -> io::Result<Place> {
        let pidfd = match getsockopt(&socket, PeerPidfd) {
            Ok(pidfd) => pidfd,
            // Linux before 6.5.
            Err(nix::errno::Errno::ENOPROTOOPT) if peer.pid > 0 => pidfd::open(peer.pid)?,
            Err(nix::errno::Errno::ENOPROTOOPT) => return Ok(Place::Here),
            Err(error) => return Err(error.into()),
        };
        let Some((user, pid)) = namespaces(pidfd.as_fd(), peer.pid)? else {
            return Ok(Place::Here);
        };
        Ok(if user != self.user {
            Place::OtherUsers
        } else if pid != self.pid && peer.pid > 0 {
            // Only numbers of one's own namespace and those below are in sight.
            Place::Below
        } else {
            Place::Here
        })
    }
}

/// Its user and pid namespaces; `None`: this kernel does not tell.
fn namespaces(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<Option<(Namespace, Namespace)>> {
    /// `PIDFD_GET_USER_NAMESPACE` and `PIDFD_GET_PID_NAMESPACE` (linux/pidfd.h): `_IO(0xFF, 9)`
    /// and `_IO(0xFF, 5)`, since Linux 6.11.
    const USER: libc::Ioctl = 0xFF09;
    const PID: libc::Ioctl = 0xFF05;
    match (through(pidfd, USER), through(pidfd, PID)) {
        (Ok(user), Ok(pid)) => return Ok(Some((user, pid))),
        (Err(error), _) | (_, Err(error)) => match error.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL) => {}
            _ => return Err(error),
        },
    }
    if pid <= 0 {
        return Ok(None);
    }
    let found = (at(&format!("/proc/{pid}/ns/user"))?, at(&format!("/proc/{pid}/ns/pid"))?);
    // If it is still there afterwards, the number was its own.
    pidfd::send_signal(pidfd, 0)?;
    Ok(Some(found))
}

fn through(pidfd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<Namespace> {
    // SAFETY: the request takes no argument and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(pidfd.as_raw_fd(), request, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let namespace = unsafe { OwnedFd::from_raw_fd(fd) };
    let status = rustix::fs::fstat(namespace)?;
    Ok((status.st_dev, status.st_ino))
}

fn at(path: &str) -> io::Result<Namespace> {
    let status = rustix::fs::stat(path)?;
    Ok((status.st_dev, status.st_ino))
}

/// Who connected, in numbers of the caller's namespaces (unix(7), `SO_PEERCRED`): a user
/// that has none there is the overflow user.
///
/// # Errors
/// As getsockopt(2).
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    // Not rustix: it takes the pid 0 of a peer in another pid namespace for an error.
    let peer = getsockopt(&socket, PeerCredentials)?;
    Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

/// The supplementary groups of who connected, at that time (`SO_PEERGROUPS`).
///
/// # Errors
/// As getsockopt(2).
pub fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let size = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(size).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the kernel writes at most `length` bytes, which the vector has.
        let result = check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        });
        let bytes = usize::try_from(length).unwrap_or(0);
        let count = bytes.checked_div(size_of::<u32>()).unwrap_or(0);
        match result {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // It says how many there are.
            Err(error)
                if error.raw_os_error() == Some(libc::ERANGE)
                    && count > groups.len()
                    && count <= GROUPS_MAX =>
            {
                groups.resize(count, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_peer_is_who_connected_and_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let home = Home::own().unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let peer = credentials(socket.as_fd()).unwrap();
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(home.place(socket.as_fd(), peer).unwrap(), Place::Here);
        let own: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .into_iter()
            .map(rustix::fs::Gid::as_raw)
            .collect();
        assert_eq!(groups(socket.as_fd()).unwrap(), own);
        // One that has ended is no longer anywhere.
        let script = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
                      connect($s, pack_sockaddr_un($ARGV[0])) or die";
        let mut gone = std::process::Command::new("perl");
        assert!(gone.args(["-e", script]).arg(&path).status().unwrap().success());
        let (socket, _) = listener.accept().unwrap();
        let peer = credentials(socket.as_fd()).unwrap();
        assert!(home.place(socket.as_fd(), peer).is_err());
    }
}
