//! Which devices the processes of a group may use.
//!
//! In version 2 a small program decides, which the kernel asks whenever a device is opened
//! or a node is made; that works wherever there is such a tree, whichever controllers are
//! bound to it. Where the kernel takes no program, the version 1 controller does the same.
//! What must hold: nothing is allowed that no rule allows.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::limits::{self, Obstacle};
use super::{Error, Group, Root, write};
use crate::sys::bpf;
pub use crate::sys::bpf::{ACCESS_ALL, DeviceRule};

/// Most programs that are kept for the next group with the same rules.
const PROGRAMS_MAX: usize = 64;

/// What every container may use: null, zero, full, random, urandom, tty, ptmx and the
/// terminals of a devpts. See the kernel's `Documentation/admin-guide/devices.txt`.
pub const STANDARD: [DeviceRule; 8] = [
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(2)),
    character(136, None),
];

const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { block: false, major, minor, access: ACCESS_ALL }
}

/// Programs that the kernel has taken, by their rules.
#[derive(Debug, Default)]
pub(super) struct Programs(RefCell<Vec<(Vec<DeviceRule>, Rc<OwnedFd>)>>);

impl Programs {
    /// The program for some rules, made when they are first asked for.
    fn get(&self, rules: &[DeviceRule]) -> io::Result<Rc<OwnedFd>> {
        let mut known = self.0.borrow_mut();
        if let Some((_, program)) = known.iter().find(|(theirs, _)| theirs == rules) {
            return Ok(program.clone());
        }
        let program = Rc::new(bpf::load_device_program(rules)?);
        if known.len() >= PROGRAMS_MAX {
            // It lives on in the groups that have it. The first ones are used most.
            known.pop();
        }
        known.push((rules.to_vec(), program.clone()));
        Ok(program)
    }
}

impl Root {
    /// Allows the processes of a new group these devices and no others. Where this host
    /// cannot, that is noted in the group, or refused if `strict`.
    ///
    /// # Errors
    /// [`Error::Unenforceable`] if `strict`; [`Error::Refused`] by a version 1 group.
    pub fn allow_devices(
        &self,
        group: &mut Group,
        rules: &[DeviceRule],
        strict: bool,
    ) -> Result<(), Error> {
        let why = match self.attach_program(group, rules) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        match self.write_rules(group, rules) {
            Ok(()) => Ok(()),
            Err(Obstacle::Impossible(other)) => {
                let why = format!("{why}; {other}");
                if strict {
                    return Err(Error::Unenforceable { limit: "devices", line: 0, why });
                }
                group.unenforced.push(format!("devices: {why}"));
                Ok(())
            }
            Err(Obstacle::Refused(what, error)) => {
                Err(Error::Refused { limit: "devices", line: 0, what, error })
            }
            Err(Obstacle::Broken(error)) => Err(error),
        }
    }

    fn attach_program(&self, group: &Group, rules: &[DeviceRule]) -> Result<(), String> {
        let Some(directory) = group.fd() else {
            return Err(self.missing().unwrap_or("there is no group for it").to_owned());
        };
        let attached = self
            .programs
            .get(rules)
            .and_then(|program| bpf::attach_device_program(directory, program.as_fd()));
        attached.map_err(|error| format!("the kernel takes no program for devices: {error}"))
    }

    fn write_rules(&self, group: &mut Group, rules: &[DeviceRule]) -> Result<(), Obstacle> {
        let path = limits::legacy_group(self, group, "devices", "devices")?;
        order(&path, "devices.deny", "a")?;
        rules.iter().try_for_each(|rule| order(&path, "devices.allow", &line(*rule)))
    }
}

fn order(group: &Path, file: &str, text: &str) -> Result<(), Obstacle> {
    write(&group.join(file), text)
        .map_err(|error| Obstacle::Refused(format!("{text} in {file}"), error))
}

/// A rule as the version 1 controller reads it.
fn line(rule: DeviceRule) -> String {
    let kind = if rule.block { 'b' } else { 'c' };
    let minor = rule.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
    let letters = [('r', 2), ('w', 4), ('m', 1)];
    let access: String = letters
        .into_iter()
        .filter_map(|(letter, bit)| (rule.access & bit != 0).then_some(letter))
        .collect();
    format!("{kind} {}:{minor} {access}", rule.major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_version_1() {
        let lines: Vec<String> = STANDARD.into_iter().map(line).collect();
        assert_eq!((lines[0].as_str(), lines[7].as_str()), ("c 1:3 rwm", "c 136:* rwm"));
        let disk = DeviceRule { block: true, major: 8, minor: Some(1), access: 2 };
        assert_eq!(line(disk), "b 8:1 r");
        assert_eq!(line(DeviceRule { access: 6, ..disk }), "b 8:1 rw");
    }
}
