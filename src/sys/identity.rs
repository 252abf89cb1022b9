//! Who the calling process is: ids, session, masks, privileges; and becoming a program.
//!
//! For children about to execute a program. They have one thread, so the kernel's calls
//! for one thread are those for the process.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Supplementary groups, group, then user: afterwards there is no way back.
///
/// # Errors
/// `EPERM` without `CAP_SETUID`/`CAP_SETGID`, `EINVAL` for an id that is not mapped,
/// `EAGAIN` at the user's `RLIMIT_NPROC`.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list lives through the call. The raw calls are meant: libc's would
    // signal other threads, of which there are none.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
    })?;
    // SAFETY: no pointers.
    super::check_long(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointers.
    super::check_long(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// The numbers that files are looked at and made with, and only these; nothing happens if
/// they may not be taken. Away from 0 it takes capabilities over files out of the effective
/// set, back at 0 it brings them back.
pub fn become_owner_of_files(uid: u32, gid: u32) {
    // SAFETY: no pointers. What they return is the number before.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
}

/// The effective user, if that is not root.
pub fn other_than_root() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw()).filter(|&uid| uid != 0)
}

/// Whether the calling process is root by all of its ids, so that becoming root changes none.
pub fn is_plain_root() -> bool {
    let (mut users, mut groups) = ([u32::MAX; 3], [u32::MAX; 3]);
    let [real, effective, saved] = &mut users;
    let [real_group, effective_group, saved_group] = &mut groups;
    // SAFETY: pointers to three numbers each, which live through the calls.
    let known = unsafe {
        libc::getresuid(real, effective, saved) == 0
            && libc::getresgid(real_group, effective_group, saved_group) == 0
    };
    known && users == [0; 3] && groups == [0; 3]
}

/// A session (and process group) of its own.
///
/// # Errors
/// `EPERM` when it leads a process group already.
pub fn new_session() -> io::Result<()> {
    Ok(rustix::process::setsid().map(drop)?)
}

/// A session keyring of its own, empty and without a name, instead of an inherited one.
///
/// # Errors
/// As `keyctl(2)`: `ENOSYS` without keys, `EDQUOT` at the user's limit of them.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: without a name there is no pointer to read from.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous)
    })
    .map(drop)
}

/// Sets the file mode creation mask; what it was before.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// No program executed from now on gains privileges.
///
/// # Errors
/// As prctl(2).
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Other processes without `CAP_SYS_PTRACE` cannot look into this one until it executes
/// a program.
///
/// # Errors
/// As prctl(2).
pub fn hide_memory() -> io::Result<()> {
    // SAFETY: no pointers.
    super::check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// A list of C strings as execve(2) wants it.
#[derive(Debug)]
pub struct Strings {
    /// Keeps alive what `pointers` points to.
    _texts: Vec<CString>,
    /// Ends with a null pointer.
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Prepares a list.
    pub fn new(texts: Vec<CString>) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _texts: texts, pointers }
    }

    /// The array of pointers.
    pub(super) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

/// What a program is executed with that goes on in place of this one: its name, the other
/// arguments, and the environment of this process.
///
/// # Errors
/// When a null byte is in one of them.
pub fn again(
    name: &Path,
    arguments: impl IntoIterator<Item = OsString>,
) -> io::Result<(Strings, Strings)> {
    let rest = arguments.into_iter().map(OsString::into_vec);
    let name = name.as_os_str().as_bytes().to_vec();
    let argv: Result<Vec<CString>, _> =
        std::iter::once(name).chain(rest).map(CString::new).collect();
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.into_vec());
        CString::new(text)
    });
    let envp: Result<Vec<CString>, _> = environment.collect();
    Ok((Strings::new(argv?), Strings::new(envp?)))
}

/// Executes `path`; comes back only with an error.
pub fn execute(path: &CString, argv: &Strings, envp: &Strings) -> io::Error {
    // SAFETY: path, and both lists with their final null pointers, live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the program that `fd` refers to; comes back only with an error.
pub fn execute_fd(fd: BorrowedFd<'_>, argv: &Strings, envp: &Strings) -> io::Error {
    // SAFETY: the empty path, and both lists with their final null pointers, live through
    // the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
