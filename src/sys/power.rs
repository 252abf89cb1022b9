//! The last calls of a machine: reboot(2), swapoff(2), loop devices let go.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What reboot(2) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `LINUX_REBOOT_CMD_POWER_OFF`.
    Poweroff,
    /// `LINUX_REBOOT_CMD_RESTART`.
    Restart,
    /// `LINUX_REBOOT_CMD_HALT`.
    Halt,
    /// `LINUX_REBOOT_CMD_KEXEC`: into the kernel that was loaded.
    Kexec,
}

/// `LINUX_REBOOT_CMD_KEXEC` of linux/reboot.h; the C library has no name for it.
const KEXEC: libc::c_int = 0x4558_4543;

/// Ends the machine, or the pid namespace whose process 1 this is, without a sync(2).
/// Comes back only with the reason why not.
pub fn reboot(command: Command) -> io::Error {
    let command = match command {
        Command::Poweroff => libc::RB_POWER_OFF,
        Command::Restart => libc::RB_AUTOBOOT,
        Command::Halt => libc::RB_HALT_SYSTEM,
        Command::Kexec => KEXEC,
    };
    // SAFETY: no pointers.
    match super::check(unsafe { libc::reboot(command) }) {
        Ok(_) => io::Error::other("the kernel came back from it"),
        Err(error) => error,
    }
}

/// From now on Ctrl-Alt-Del is a SIGINT for process 1.
///
/// # Errors
/// `EPERM` without `CAP_SYS_BOOT`, `EINVAL` outside of the first pid namespace.
pub fn take_ctrl_alt_del() -> io::Result<()> {
    // SAFETY: no pointers.
    super::check(unsafe { libc::reboot(libc::RB_DISABLE_CAD) }).map(drop)
}

/// Takes a swap device or file out of use.
///
/// # Errors
/// As swapoff(2); `ENOMEM` when what is on it does not fit into memory.
pub fn swap_off(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path lives through the call.
    super::check(unsafe { libc::swapoff(path.as_ptr()) }).map(drop)
}

/// `LOOP_CLR_FD` of linux/loop.h.
const LOOP_CLEAR: libc::c_ulong = 0x4C01;

/// Has a loop device let go of its file.
///
/// # Errors
/// `ENXIO` when it has none, `EBUSY` while it is mounted.
pub fn clear_loop(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes no argument.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLEAR, 0) }).map(drop)
}
