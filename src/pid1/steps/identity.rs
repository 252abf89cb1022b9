//! Who a machine is: hostname(5) and machine-id(5).

use std::fs;
use std::io;

use crate::pid1::command_line::CommandLine;

const MACHINE_ID: &str = "/etc/machine-id";

/// From the kernel's command line, or the first line of `/etc/hostname` that says something.
pub fn hostname() -> Vec<String> {
    let file = || {
        let text = fs::read_to_string("/etc/hostname").ok()?;
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    };
    let Some(name) = CommandLine::read().hostname.or_else(file) else { return Vec::new() };
    match rustix::system::sethostname(name.as_bytes()) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("cannot set the host name {name}: {}", io::Error::from(error))],
    }
}

/// 32 hexadecimal digits, made once. A root that cannot be written gets one for this boot,
/// in `/run`, mounted over the file if there is one.
pub fn machine_id() -> Vec<String> {
    if fs::read_to_string(MACHINE_ID).is_ok_and(|text| is_id(text.trim())) {
        return Vec::new();
    }
    let made = || -> io::Result<()> {
        let id = format!("{}\n", new_id()?);
        if fs::write(MACHINE_ID, &id).is_ok() {
            return Ok(());
        }
        fs::write("/run/machine-id", &id)?;
        Ok(rustix::mount::mount_bind("/run/machine-id", MACHINE_ID)?)
    };
    made().err().map(|error| format!("cannot make {MACHINE_ID}: {error}")).into_iter().collect()
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
