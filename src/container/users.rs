//! Users and groups of a unit's own root tree, read from its `/etc/passwd` and
//! `/etc/group`: never through the host's name service.
//!
//! Parsing is pure and total: lines that make no sense are skipped, as everybody does.

use std::io::{self, Read};

use crate::sys::path;
use crate::unit::model::{Id, User};

/// Largest file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// Most supplementary groups: the kernel's own limit.
const GROUPS_MAX: usize = 65_536;

/// Who a process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Name; `None` for a number without an entry.
    pub name: Option<String>,
    /// Home directory, `/` when unknown.
    pub home: String,
    /// Login shell, if there is an entry with one.
    pub shell: Option<String>,
}

impl Identity {
    /// The superuser, where a unit names no user: no file is read for it.
    pub fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            name: Some("root".to_owned()),
            home: "/root".to_owned(),
            shell: None,
        }
    }
}

/// Why there is no such identity.
#[derive(Debug)]
pub enum LookupError {
    /// A file cannot be read.
    Read(&'static str, io::Error),
    /// `/etc/passwd` has no such name.
    NoUser(String),
    /// `/etc/group` has no such name.
    NoGroup(String),
}

impl std::fmt::Display for LookupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(file, error) => write!(f, "{file} of the unit's root tree: {error}"),
            Self::NoUser(name) => {
                write!(f, "no user \"{name}\" in /etc/passwd of the unit's root tree")
            }
            Self::NoGroup(name) => {
                write!(f, "no group \"{name}\" in /etc/group of the unit's root tree")
            }
        }
    }
}

/// Looks a user up in the calling process' root.
///
/// # Errors
/// When a name is not found; a missing file counts as an empty one.
pub fn lookup(user: &User) -> Result<Identity, LookupError> {
    find(user, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// The number of a group in the calling process' root.
///
/// # Errors
/// When a name is not found.
pub fn group(group: &Id) -> Result<u32, LookupError> {
    match group {
        Id::Number(gid) => Ok(*gid),
        Id::Name(_) => find_group(group, &read("/etc/group")?),
    }
}

fn read(name: &'static str) -> Result<String, LookupError> {
    let error = |error| LookupError::Read(name, error);
    let root = path::handle("/").map_err(error)?;
    let file = match path::open_regular_in(std::os::fd::AsFd::as_fd(&root), name) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(error)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(error(io::Error::from_raw_os_error(libc::EFBIG)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

/// The highest number is none: the kernel takes it for "stay who you are", which is root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn passwd_entry(line: &str) -> Option<Entry<'_>> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut parts = parts.skip(1);
    let uid = number(parts.next()?)?;
    let gid = number(parts.next()?)?;
    let home = parts.nth(1).unwrap_or_default();
    let shell = parts.next().unwrap_or_default();
    Some(Entry { name, uid, gid, home, shell })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let gid = number(parts.nth(1)?)?;
    Some(GroupEntry { name, gid, members: parts.next().unwrap_or_default() })
}

/// The pure part of [`lookup`]. A number without an entry is fine: its group is then 0,
/// as in other container tools, and its home `/`.
///
/// # Errors
/// When a name is not found.
pub fn find(user: &User, passwd: &str, group: &str) -> Result<Identity, LookupError> {
    let mut entries = passwd.lines().filter_map(passwd_entry);
    let entry = match &user.user {
        Id::Name(name) => Some(
            entries
                .find(|entry| entry.name == name)
                .ok_or_else(|| LookupError::NoUser(name.clone()))?,
        ),
        Id::Number(uid) => entries.find(|entry| entry.uid == *uid),
    };
    let uid = match (&entry, &user.user) {
        (Some(entry), _) => entry.uid,
        (None, Id::Number(uid)) => *uid,
        (None, Id::Name(name)) => return Err(LookupError::NoUser(name.clone())),
    };
    let gid = match &user.group {
        Some(named) => find_group(named, group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let name = entry.as_ref().map(|entry| entry.name);
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| home.starts_with('/'));
    let shell = entry.as_ref().map(|entry| entry.shell).filter(|shell| !shell.is_empty());
    Ok(Identity {
        uid,
        gid,
        groups: name.map(|name| groups_of(name, gid, group)).unwrap_or_default(),
        name: name.map(str::to_owned),
        home: home.unwrap_or("/").to_owned(),
        shell: shell.map(str::to_owned),
    })
}

fn find_group(wanted: &Id, group: &str) -> Result<u32, LookupError> {
    let name = match wanted {
        Id::Number(gid) => return Ok(*gid),
        Id::Name(name) => name,
    };
    let mut entries = group.lines().filter_map(group_entry);
    let found = entries.find(|entry| entry.name == name).map(|entry| entry.gid);
    found.ok_or_else(|| LookupError::NoGroup(name.clone()))
}

fn groups_of(name: &str, primary: u32, group: &str) -> Vec<u32> {
    let mut groups: Vec<u32> = group
        .lines()
        .filter_map(group_entry)
        .filter(|entry| entry.gid != primary && entry.members.split(',').any(|m| m == name))
        .map(|entry| entry.gid)
        .take(GROUPS_MAX)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken line\nx:y\n\
        www-data:x:33:33:www:/var/www:/usr/sbin/nologin\nodd:x:70:71::relative:\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nshadow:x:42:www-data,odd\n\
        adm:x:4:odd\nvideo:x:44:www-data\nnosense\n";

    fn user(user: Id, group: Option<Id>) -> User {
        User { user, group }
    }

    #[test]
    fn a_name_brings_its_groups_home_and_shell() {
        let found = find(&user(Id::Name("www-data".into()), None), PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (33, 33, vec![42, 44]));
        assert_eq!(found.home, "/var/www");
        assert_eq!(found.shell.as_deref(), Some("/usr/sbin/nologin"));
    }

    #[test]
    fn a_number_with_an_entry_is_that_user() {
        let found = find(&user(Id::Number(70), None), PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (70, 71, vec![4, 42]));
        assert_eq!((found.name.as_deref(), found.home.as_str()), (Some("odd"), "/"));
        assert_eq!(found.shell, None);
    }

    #[test]
    fn a_number_without_an_entry_is_in_group_0() {
        let found = find(&user(Id::Number(4711), None), PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (4711, 0, Vec::new()));
        assert_eq!((found.name, found.home.as_str()), (None, "/"));
    }

    #[test]
    fn nobody_has_the_number_that_is_none() {
        let passwd = "a:x:4294967295:1::/:\nb:x:1:4294967295::/:\nc:x:-1:1::/:\n\
            d:x:4294967296:1::/:\ne:x:2147483648:4294967294::/:\n";
        let group = "a:x:4294967295:e\nb:x:7:e\n";
        for name in ["a", "b", "c", "d"] {
            assert!(find(&user(Id::Name(name.into()), None), passwd, group).is_err(), "{name}");
        }
        let found = find(&user(Id::Name("e".into()), None), passwd, group).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (1 << 31, u32::MAX - 1, vec![7]));
        let named = user(Id::Name("e".into()), Some(Id::Name("a".into())));
        assert!(find(&named, passwd, group).is_err());
    }

    #[test]
    fn a_group_may_be_named_or_numbered() {
        let named = user(Id::Name("odd".into()), Some(Id::Name("adm".into())));
        let found = find(&named, PASSWD, GROUP).unwrap();
        assert_eq!((found.gid, found.groups), (4, vec![42]));
        let numbered = user(Id::Number(1), Some(Id::Number(9)));
        assert_eq!(find(&numbered, PASSWD, GROUP).unwrap().gid, 9);
    }

    #[test]
    fn unknown_names_are_named() {
        let nobody = find(&user(Id::Name("nobdy".into()), None), PASSWD, GROUP);
        assert!(nobody.unwrap_err().to_string().contains("no user \"nobdy\""));
        let group = user(Id::Number(0), Some(Id::Name("weel".into())));
        let error = find(&group, PASSWD, GROUP).unwrap_err();
        assert!(error.to_string().contains("no group \"weel\""));
    }
}
