//! Unix sockets: pairs, descriptors (`SCM_RIGHTS`) and the sender's identity
//! (`SCM_CREDENTIALS`) with messages.
//!
//! Every descriptor received is owned at once and close-on-exec; a message never brings
//! more than [`FDS_MAX`] of them, what is above that the kernel closes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Most descriptors taken with one message.
pub const FDS_MAX: usize = 16;

/// Who sent a message, checked by the kernel; numbers as seen by the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process; 0 when it is not visible from the receiver's pid namespace.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What [`receive`] took.
#[derive(Debug, Default)]
pub struct Message {
    /// Bytes stored in the caller's buffer.
    pub length: usize,
    /// Whether the buffer was too small and the rest is lost.
    pub truncated: bool,
    /// Descriptors that came along.
    pub fds: Vec<OwnedFd>,
    /// The sender, on sockets with [`pass_credentials`].
    pub credentials: Option<Credentials>,
}

/// A connected pair of `SOCK_SEQPACKET` sockets, close-on-exec.
///
/// # Errors
/// As socketpair(2).
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let mut fds = [-1; 2];
    // SAFETY: the array has room for two descriptors.
    super::check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: two new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A datagram socket (non-blocking, close-on-exec, with [`pass_credentials`]) bound to
/// `path` with mode 0666. What is at `path` must be out of the way already.
///
/// # Errors
/// As bind(2); `ENAMETOOLONG` for a path above 107 bytes.
pub fn bind_datagram(path: &Path) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o666))?;
    pass_credentials(as_fd(&socket))?;
    Ok(socket)
}

fn as_fd(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

/// From now on each message brings its sender's credentials.
///
/// # Errors
/// As setsockopt(2).
pub fn pass_credentials(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_passcred(socket, true)?)
}

/// Room for control messages: [`FDS_MAX`] descriptors and credentials, aligned.
#[repr(C, align(8))]
struct Control([u8; 112]);

/// Sends one message with descriptors. Never raises SIGPIPE. On a non-blocking socket
/// `WouldBlock` means that nothing was sent.
///
/// # Errors
/// As sendmsg(2); `E2BIG` with more than [`FDS_MAX`] descriptors.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let mut control = Control([0; 112]);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if !fds.is_empty() {
        let size = u32::try_from(size_of_val(fds)).unwrap_or(u32::MAX);
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: arithmetic only; at most CMSG_SPACE(64) = 80 bytes, which fit.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
        // SAFETY: the first header lies in `control`, which is aligned and large enough for
        // it and `size` bytes of data; a BorrowedFd has the layout of a C int.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
            let data = libc::CMSG_DATA(first);
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), data, size as usize);
        }
    }
    // SAFETY: header, iov, bytes and control live through the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Takes one message without waiting; `None`: there is none now. A `length` of 0 without
/// descriptors is the end, on connected sockets.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Message>> {
    let mut control = MaybeUninit::<Control>::uninit();
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: header, iov, buffer and control live through the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(count) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    let mut message = Message {
        length,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        ..Message::default()
    };
    // SAFETY: recvmsg has filled in `msg_controllen` bytes of control, which the CMSG
    // macros do not leave.
    unsafe { read_control(&header, &mut message) };
    message.fds.truncate(FDS_MAX);
    Ok(Some(message))
}

/// # Safety
/// `header` must be as a successful recvmsg(2) left it, its buffers alive.
unsafe fn read_control(header: &libc::msghdr, message: &mut Message) {
    // SAFETY: as promised by the caller.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a non-null pointer of CMSG_FIRSTHDR or CMSG_NXTHDR is a whole header.
    while let Some(part) = unsafe { next.as_ref() } {
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: arithmetic only.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let size = part.cmsg_len.saturating_sub(head);
        match (part.cmsg_level, part.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // SAFETY: the data of this control message, `size` bytes.
                let bytes = unsafe { std::slice::from_raw_parts(data, size) };
                for number in bytes.as_chunks().0 {
                    let number = libc::c_int::from_ne_bytes(*number);
                    // SAFETY: a new descriptor, stored by the kernel, that nobody else owns.
                    message.fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                // SAFETY: the size was checked; any bytes are a valid ucred.
                let sender = unsafe { std::ptr::read_unaligned(data as *const libc::ucred) };
                message.credentials =
                    Some(Credentials { pid: sender.pid, uid: sender.uid, gid: sender.gid });
            }
            _ => {}
        }
        // SAFETY: `next` is a header within the control buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}
