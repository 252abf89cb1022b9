//! Labels of security modules: AppArmor profiles and SELinux contexts, which a program gets
//! when it is executed.
//!
//! What must hold: they are asked for by files of /proc that are opened while the host's own
//! /proc is in sight, and found to be that, by the process that will write to them. Whatever a
//! unit's tree has at that place misdirects nothing. A unit that names a label has it, or
//! does not start.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::State;
use crate::container::status::Failure;
use crate::container::step::Label;
use crate::sys::path::{self, Type};

/// What AppArmor calls no profile.
const UNCONFINED: &str = "unconfined";

/// Longest context that is read.
const CONTEXT_MAX: u64 = 4096;

/// Where each label is written, once it is open.
#[derive(Debug, Default)]
pub(super) struct Files {
    apparmor: Option<OwnedFd>,
    selinux: Option<SeLinux>,
}

#[derive(Debug)]
struct SeLinux {
    exec: OwnedFd,
    /// What the supervisor has.
    current: String,
}

impl State<'_> {
    /// Opens what [`Self::label`] will write to.
    pub(super) fn open_label(&mut self, label: &Label) -> Result<(), Failure> {
        match label {
            Label::AppArmor(name) if !apparmor_is_on() => {
                if name == UNCONFINED {
                    return Ok(());
                }
                Err(Failure::text("this kernel has no AppArmor, or it is switched off"))
            }
            Label::AppArmor(_) => {
                let file = match open("thread-self/attr/apparmor/exec", OFlags::WRONLY) {
                    // Linux before 5.8 has it only where all modules share one place.
                    Err(Failure { errno: libc::ENOENT, .. }) => {
                        open("thread-self/attr/exec", OFlags::WRONLY)?
                    }
                    other => other?,
                };
                self.labels.apparmor = Some(file);
                Ok(())
            }
            Label::SeLinux(_) if !selinux_is_on() => {
                Err(Failure::text("this kernel has no SELinux, or it is switched off"))
            }
            Label::SeLinux(_) => {
                let mut current = String::new();
                let file = open("thread-self/attr/current", OFlags::RDONLY)?;
                std::fs::File::from(file).take(CONTEXT_MAX).read_to_string(&mut current)?;
                let exec = open("thread-self/attr/exec", OFlags::WRONLY)?;
                self.labels.selinux = Some(SeLinux { exec, current });
                Ok(())
            }
        }
    }

    /// The program that is executed next gets the label.
    pub(super) fn label(&self, label: &Label) -> Result<(), Failure> {
        match (label, &self.labels) {
            (Label::AppArmor(name), Files { apparmor: Some(file), .. }) => {
                write(file.as_fd(), label, &format!("exec {name}"))
            }
            // Where there is no AppArmor all are unconfined.
            (Label::AppArmor(_), Files { apparmor: None, .. }) => Ok(()),
            (Label::SeLinux(wanted), Files { selinux: Some(file), .. }) => {
                let context = context(&file.current, wanted).ok_or_else(|| {
                    Failure::text(format!("berth's own context, {}, has no type", file.current))
                })?;
                write(file.exec.as_fd(), label, &context)
            }
            (Label::SeLinux(_), Files { selinux: None, .. }) => {
                Err(Failure::text("its file was not opened"))
            }
        }
    }
}

fn apparmor_is_on() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.starts_with('Y'))
}

/// The kernel knows its file system only where it is on.
fn selinux_is_on() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some("selinuxfs"))
}

/// Opens a file of the kernel's own /proc, over which nothing is mounted.
fn open(name: &str, flags: OFlags) -> Result<OwnedFd, Failure> {
    let proc = path::handle("/proc")?;
    if !path::is_on(proc.as_fd(), Type::Proc)? || !path::is_first_inode(proc.as_fd())? {
        return Err(Failure::text("what is mounted on /proc is not the kernel's own"));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat2(proc, name, flags, Mode::empty(), resolve)?)
}

/// In one write, as the kernel wants it.
fn write(file: BorrowedFd<'_>, label: &Label, text: &str) -> Result<(), Failure> {
    match rustix::io::write(file, text.as_bytes()) {
        Ok(count) if count == text.len() => Ok(()),
        Ok(_) => Err(Failure::text("the kernel took only a part of it")),
        Err(error) => Err(Failure::with(&error.into(), hint(label, error.raw_os_error()))),
    }
}

fn hint(label: &Label, errno: i32) -> &'static str {
    match (label, errno) {
        (Label::AppArmor(_), libc::ENOENT) => {
            "no such profile is loaded: load it with apparmor_parser"
        }
        (Label::SeLinux(_), libc::EINVAL) => "the policy that is loaded does not know it",
        (_, libc::EACCES | libc::EPERM) => "berth may not give it",
        _ => "",
    }
}

/// The whole context: a type alone is put into the one that berth has.
fn context(current: &str, wanted: &str) -> Option<String> {
    if wanted.contains(':') {
        return Some(wanted.to_owned());
    }
    let mut parts = current.trim_end_matches(['\0', '\n']).splitn(4, ':');
    let (user, role, _) = (parts.next()?, parts.next()?, parts.next()?);
    let level = parts.next().map(|level| format!(":{level}")).unwrap_or_default();
    Some(format!("{user}:{role}:{wanted}{level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_written_at_once_and_whole() {
        let (read, to) = rustix::pipe::pipe().unwrap();
        let label = Label::AppArmor("web".to_owned());
        write(to.as_fd(), &label, "exec web").unwrap();
        let mut text = [0; 64];
        let count = rustix::io::read(&read, &mut text).unwrap();
        assert_eq!(&text[..count], b"exec web");
        // A file that may not be written.
        let failure = write(read.as_fd(), &label, "exec web").unwrap_err();
        assert_eq!(failure.errno, libc::EBADF);
    }

    #[test]
    fn what_the_kernel_answers_is_explained() {
        let (apparmor, selinux) =
            (Label::AppArmor("web".to_owned()), Label::SeLinux("web_t".to_owned()));
        assert!(hint(&apparmor, libc::ENOENT).contains("apparmor_parser"));
        assert!(hint(&selinux, libc::EINVAL).contains("policy"));
        assert_eq!(hint(&selinux, libc::EACCES), hint(&apparmor, libc::EPERM));
        assert_eq!(hint(&apparmor, libc::EIO), "");
    }

    #[test]
    fn a_type_is_put_into_the_context_there_is() {
        let current = "system_u:system_r:berth_t:s0-s0:c0.c1023\0";
        let whole = context(current, "web_t");
        assert_eq!(whole.as_deref(), Some("system_u:system_r:web_t:s0-s0:c0.c1023"));
        assert_eq!(context("u:r:t\n", "web_t").as_deref(), Some("u:r:web_t"));
        assert_eq!(context("kernel", "web_t"), None);
        assert_eq!(context("x", "u:r:web_t:s0").as_deref(), Some("u:r:web_t:s0"));
    }

    #[test]
    fn only_the_kernels_own_proc_is_written_to() {
        assert!(open("thread-self/attr/exec", OFlags::WRONLY).is_ok());
        // Magic links lead elsewhere.
        assert_eq!(open("thread-self/cwd/x", OFlags::RDONLY).unwrap_err().errno, libc::ELOOP);
        assert_eq!(open("../etc/passwd", OFlags::RDONLY).unwrap_err().errno, libc::EXDEV);
    }
}
