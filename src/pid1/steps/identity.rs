//! Who a machine is: hostname(5) and machine-id(5).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::pid1::command_line::CommandLine;
use crate::sys::state;

const MACHINE_ID: &str = "/etc/machine-id";

/// Most of it that is read.
const LARGEST: u64 = 4096;

/// From the kernel's command line, or the first line of `/etc/hostname` that says something.
pub fn hostname() -> Vec<String> {
    let mut troubles = Vec::new();
    let file = || {
        let text = super::text_of(Path::new("/etc/hostname"), &mut troubles);
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    };
    let Some(name) = CommandLine::read().hostname.or_else(file) else { return troubles };
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        troubles.push(format!("cannot set the host name {name}: {}", io::Error::from(error)));
    }
    troubles
}

/// 32 hexadecimal digits, made once. A root that cannot be written gets one for this boot,
/// in `/run`, mounted over the file if there is one.
pub fn machine_id() -> Vec<String> {
    let mut troubles = Vec::new();
    if let Err(error) = identify(Path::new(MACHINE_ID), &mut troubles) {
        troubles.push(format!("cannot make {MACHINE_ID}: {error}"));
    }
    troubles
}

/// Something else that is in the place of the file is set aside, which is a trouble: who was
/// known by what it said is known no more.
fn identify(path: &Path, troubles: &mut Vec<String>) -> io::Result<()> {
    // It may be a link to where D-Bus has its own.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_sound = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map(str::trim);
        // What an image has whose machines are to make their own: machine-id(5).
        text.is_ok_and(|text| is_id(text) || matches!(text, "" | "uninitialized"))
    };
    let there = state::read_sound(&place, LARGEST, is_sound, troubles);
    if is_id(String::from_utf8_lossy(&there).trim()) {
        return Ok(());
    }
    let id = format!("{}\n", new_id()?);
    let written = state::replace(&place, id.as_bytes())
        .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o444)));
    written.or_else(|_| {
        fs::write("/run/machine-id", &id)?;
        Ok(rustix::mount::mount_bind("/run/machine-id", &place)?)
    })
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A random one, in the form of a version 4 UUID. The kernel makes these itself.
fn new_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    let id = text.trim().to_owned();
    if is_id(&id) { Ok(id) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_id_and_what_is_none_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine-id");
        let aside = directory.path().join("machine-id.damaged");
        let identify = |troubles: &mut Vec<String>| {
            identify(&path, troubles).unwrap();
            fs::read_to_string(&path).unwrap()
        };
        let mut troubles = Vec::new();
        let first = identify(&mut troubles);
        assert!(is_id(first.trim()) && identify(&mut troubles) == first);
        for fresh in ["", "uninitialized\n"] {
            fs::write(&path, fresh).unwrap();
            assert_ne!(identify(&mut troubles), first);
        }
        assert!(troubles.is_empty() && !aside.exists());
        let make: [&dyn Fn(); 3] =
            [&|| fs::write(&path, "garbage").unwrap(), &|| fs::create_dir(&path).unwrap(), &|| {
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            }];
        for make in make {
            fs::remove_file(&path).unwrap();
            make();
            assert!(is_id(identify(&mut troubles).trim()));
            assert!(troubles.pop().unwrap().contains("cannot be used") && aside.exists());
            let _ = fs::remove_dir(&aside);
        }
    }
}
