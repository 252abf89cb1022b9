//! Filters of system calls, see seccomp(2).

use std::io;

/// One instruction of a filter.
pub type Instruction = libc::sock_filter;

/// Filters the calls of this thread, and of all it becomes and makes, for good. What it may
/// call from now on is what every filter so far allows.
///
/// # Errors
/// `EACCES` without `no_new_privs` and without `CAP_SYS_ADMIN`; `EINVAL` for a program that
/// the kernel does not take, or flags that it does not know; `ENOSYS` or `EINVAL` from a
/// kernel without filters; `ENOMEM` when all filters together are too long.
pub fn install(program: &[Instruction], flags: u32) -> io::Result<()> {
    let long = || io::Error::from_raw_os_error(libc::EINVAL);
    let len = u16::try_from(program.len()).map_err(|_| long())?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions, which live through the call, and writes
    // none.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
    .map(drop)
}

/// The release of the running kernel, such as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
