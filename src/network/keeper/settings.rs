//! The kernel's settings below `/proc/sys/net`.
//!
//! Those of a device of berth's go with it. Forwarding is the host's: what it and the
//! settings that the kernel changes with it were is written down before it is switched on,
//! and put back when nobody needs it any more, also by a later supervisor.

use std::fs;
use std::io;
use std::path::Path;

use super::papers::Papers;
use crate::network::plan::rules::Router;

const ROOT: &str = "/proc/sys/net";

/// Writes a setting of the current network namespace.
///
/// # Errors
/// As write(2).
pub fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new(ROOT).join(path), value)
}

/// Reads one.
///
/// # Errors
/// As read(2).
pub fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(ROOT).join(path))?.trim().to_owned())
}

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").exists()
}

/// Forwarding and who needs it.
#[derive(Debug, Default)]
pub struct Forwarding {
    users: [u32; 2],
}

/// The switch of each family.
const SWITCHES: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// Where is written down what was before.
const RECORDS: [&str; 2] = ["forwarding-4", "forwarding-6"];

impl Forwarding {
    /// Whether forwarding is as the host has it, and not berth's doing.
    pub fn router(papers: &mut Papers) -> Router {
        let [ipv4, ipv6] = RECORDS.map(|record| papers.get(record).is_none());
        Router { ipv4, ipv6 }
    }

    /// Writes down what is before it is switched on; false if it is on already.
    ///
    /// # Errors
    /// As read(2).
    pub fn record(papers: &mut Papers, ipv6: bool) -> io::Result<bool> {
        let index = usize::from(ipv6);
        let (Some(switch), Some(record)) = (SWITCHES.get(index), RECORDS.get(index)) else {
            return Ok(false);
        };
        if read(switch)? == "1" || papers.get(record).is_some() {
            return Ok(false);
        }
        let lines = snapshot(ipv6).into_iter().map(|(path, value)| format!("{path} {value}\n"));
        papers.put(record, Some(&lines.collect::<String>()));
        Ok(true)
    }

    /// One user more; it is on afterwards.
    ///
    /// # Errors
    /// As write(2).
    pub fn take(&mut self, ipv6: bool) -> io::Result<()> {
        let index = usize::from(ipv6);
        if let Some(switch) = SWITCHES.get(index)
            && read(switch)? != "1"
        {
            if ipv6 {
                // A router listens to no other, unless it is told to.
                for (path, _) in snapshot(true).iter().filter(|it| it.0.ends_with("/accept_ra")) {
                    write(path, "2")?;
                }
            }
            write(switch, "1")?;
        }
        self.adopt(ipv6);
        Ok(())
    }

    /// Counts a user for whom it is on already.
    pub fn adopt(&mut self, ipv6: bool) {
        if let Some(users) = self.users.get_mut(usize::from(ipv6)) {
            *users = users.saturating_add(1);
        }
    }

    /// One user less; put back with the last. True if something was.
    ///
    /// # Errors
    /// As write(2).
    pub fn give_back(&mut self, papers: &mut Papers, ipv6: bool) -> io::Result<bool> {
        if let Some(users) = self.users.get_mut(usize::from(ipv6)) {
            *users = users.saturating_sub(1);
        }
        self.put_back(papers)
    }

    /// Puts back what nobody needs; true if something was.
    ///
    /// # Errors
    /// As write(2).
    pub fn put_back(&mut self, papers: &mut Papers) -> io::Result<bool> {
        let mut any = false;
        let all = SWITCHES.iter().zip(RECORDS).zip(self.users);
        for ((switch, record), _) in all.filter(|(_, users)| *users == 0) {
            let Some(before) = papers.get(record) else { continue };
            let mut before: Vec<(&str, &str)> =
                before.lines().filter_map(|line| line.split_once(' ')).collect();
            // One that is damaged says no more than that it was off.
            if before.iter().all(|(path, _)| path != switch) {
                before.insert(0, (switch, "0"));
            }
            for (path, value) in before {
                match write(path, value) {
                    // The device has gone.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            papers.put(record, None);
            any = true;
        }
        Ok(any)
    }
}

/// What a change of forwarding changes, in the order in which it is put back.
fn snapshot(ipv6: bool) -> Vec<(String, String)> {
    let (switch, family) =
        if ipv6 { ("ipv6/conf/all/forwarding", "ipv6") } else { ("ipv4/ip_forward", "ipv4") };
    let mut paths = vec![switch.to_owned(), format!("{family}/conf/default/forwarding")];
    if !ipv6 {
        paths.push("ipv4/conf/all/accept_redirects".to_owned());
    }
    let devices = fs::read_dir(Path::new(ROOT).join(family).join("conf"));
    let names = devices.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    for name in names.filter(|name| name != "all" && name != "default") {
        paths.push(format!("{family}/conf/{name}/forwarding"));
        if ipv6 && read(&format!("ipv6/conf/{name}/accept_ra")).is_ok_and(|value| value == "1") {
            paths.push(format!("ipv6/conf/{name}/accept_ra"));
        }
    }
    let with_value = |path: String| read(&path).ok().map(|value| (path, value));
    paths.into_iter().filter_map(with_value).collect()
}
