//! fstab(5): the filesystems of a machine, checked and mounted.
//!
//! Runs in children only: `fsck`, `mount` and `swapon` are programs of the machine, and
//! wait for disks. What is independent happens at the same time: checks of one pass on
//! different devices, mounts that are not below each other.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::command_line::Fsck;
use crate::sys::cgroup::tree::unescape;
use crate::sys::mountinfo;

/// How long a device may take to appear where fstab does not say (its `x-systemd.device-timeout`
/// is understood).
const DEVICE: Duration = Duration::from_secs(30);

/// Most lines that are read.
const LINES: usize = 4096;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A path, `UUID=…`, `LABEL=…`, or anything a filesystem takes.
    pub source: String,
    /// Where; `none` for swap.
    pub target: String,
    /// Which filesystem.
    pub kind: String,
    /// As mount(8) takes them.
    pub options: String,
    /// When it is checked: 0 never, 1 first.
    pub pass: u32,
}

impl Entry {
    /// Whether it has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    /// Whether it can only be mounted once there is a network: it says so, or its filesystem
    /// is one that others serve.
    pub fn needs_network(&self) -> bool {
        const SERVED: [&str; 13] = [
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "afs",
            "ceph",
            "glusterfs",
            "fuse.glusterfs",
            "fuse.sshfs",
            "sshfs",
            "davfs",
            "9pnet",
        ];
        self.has("_netdev") || SERVED.contains(&self.kind.as_str())
    }

    fn is_swap(&self) -> bool {
        self.kind == "swap"
    }

    /// Whether it has a device that must be there first.
    fn device(&self) -> Option<&str> {
        let by_tag = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="];
        let tagged = by_tag.iter().any(|tag| self.source.starts_with(tag));
        (tagged || self.source.starts_with('/')).then_some(&self.source)
    }

    /// How long its device is waited for; the error is a text that names no time.
    fn patience(&self) -> Result<Duration, &str> {
        let mut options = self.options.split(',');
        let said = options.find_map(|one| one.strip_prefix("x-systemd.device-timeout="));
        said.map_or(Ok(DEVICE), |text| span(text).ok_or(text))
    }
}

/// `90`, `1min30s` and the like (systemd.time(7)).
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.find(|it: char| it.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(letters)?;
        let milliseconds: u64 = match unit {
            "ms" | "msec" => 1,
            "" | "s" | "sec" | "seconds" => 1000,
            "m" | "min" | "minutes" => 60_000,
            "h" | "hr" | "hours" => 3_600_000,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = behind;
    }
    (!text.is_empty()).then_some(sum)
}

/// Reads `/etc/fstab`; none is an empty one.
///
/// # Errors
/// As open(2) and read(2).
pub fn read() -> io::Result<Vec<Entry>> {
    match fs::read_to_string("/etc/fstab") {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The pure part of [`read`].
pub fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let mut fields = line.split_whitespace().map(unescape);
        Some(Entry {
            source: fields.next()?,
            target: fields.next()?,
            kind: fields.next()?,
            options: fields.next().unwrap_or_else(|| "defaults".to_owned()),
            pass: fields.nth(1).and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    };
    text.lines().take(LINES).filter_map(entry).collect()
}

/// What a filesystem check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Clean, or repaired.
    Fine,
    /// Repaired, and the machine must start again.
    Reboot,
    /// Not repaired.
    Broken,
}

/// What the exit code of `fsck` says (fsck(8)).
pub fn verdict(code: Option<i32>) -> Checked {
    match code {
        // 32 is "cancelled"; what was not looked at is not known to be broken.
        Some(0 | 1 | 32) => Checked::Fine,
        Some(2 | 3) => Checked::Reboot,
        Some(_) | None => Checked::Broken,
    }
}

/// Begins a check; `None` if there is nothing to check it with.
///
/// # Errors
/// No process is left.
pub fn start_check(kind: &str, device: &str, mode: Fsck) -> io::Result<Option<Child>> {
    let program = format!("fsck.{kind}");
    let places = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
    let Some(path) =
        places.iter().map(|place| Path::new(place).join(&program)).find(|it| it.exists())
    else {
        return Ok(None);
    };
    let mut command = Command::new(path);
    // -a: repair what can be repaired without asking. Every fsck knows it.
    command.arg("-a").stdin(Stdio::null());
    if mode == Fsck::Force {
        command.arg("-f");
    }
    command.arg(device).spawn().map(Some)
}

/// What was done, and what was not.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A sentence each.
    pub troubles: Vec<String>,
    /// A check wants the machine to start again.
    pub reboot: bool,
}

/// Which lines are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of this machine's own disks.
    Local,
    /// Those that are behind a network.
    Network,
}

/// Checks and mounts these, and puts swap to use; what is mounted or used already, `noauto` or
/// out of reach is left alone. One that fails does not keep others from
/// being tried, but for those below it; one that is `nofail` is no trouble.
pub fn bring_up(entries: &[Entry], reach: Reach, mode: Fsck) -> Outcome {
    let mut outcome = Outcome::default();
    let mounted = mount_points();
    // A kernel without swap has none.
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let wanted = |entry: &&Entry| {
        let elsewhere = entry.target == "/" || mounted.contains(&entry.target);
        let within_reach = entry.needs_network() == (reach == Reach::Network);
        !entry.has("noauto") && within_reach && !elsewhere
    };
    let mut todo: Vec<&Entry> = entries.iter().filter(wanted).collect();
    todo.retain(|entry| wait_for_device(entry, &mut outcome));
    todo.retain(|entry| !entry.is_swap() || !is_used(&swaps, &entry.source));
    if mode != Fsck::Skip {
        check_all(&mut todo, mode, &mut outcome);
    }
    mount_all(todo, &mut outcome);
    outcome
}

/// Whether `/proc/swaps` names it, by the path of the device itself.
fn is_used(swaps: &str, source: &str) -> bool {
    // What cannot be found is not in use; whoever puts it to use says more.
    let found = resolve(source).ok().flatten().and_then(|path| fs::canonicalize(path).ok());
    let Some(path) = found else { return false };
    let used = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    used.map(unescape).any(|used| Path::new(&used) == path)
}

fn trouble(outcome: &mut Outcome, entry: &Entry, text: String) {
    if !entry.has("nofail") {
        outcome.troubles.push(text);
    }
}

/// Where they cannot be read, all are mounted, of which each tells how it went.
fn mount_points() -> Vec<String> {
    mountinfo::mounts(mountinfo::Which::All, usize::MAX)
        .map(|mounts| mounts.into_iter().map(|mount| mount.point).collect())
        .unwrap_or_default()
}

/// Whether the device is there in time. There may be no device manager to tell of it.
fn wait_for_device(entry: &Entry, outcome: &mut Outcome) -> bool {
    let Some(device) = entry.device() else { return true };
    let begun = Instant::now();
    let patience = entry.patience().unwrap_or_else(|text| {
        let text = format!("x-systemd.device-timeout={text} of {} is no time", entry.target);
        outcome.troubles.push(text);
        DEVICE
    });
    let patience = if entry.has("nofail") { patience.min(DEVICE) } else { patience };
    loop {
        match resolve(device) {
            Ok(Some(_)) => return true,
            Ok(None) => {}
            Err(error) => {
                trouble(outcome, entry, format!("cannot look for {device}: findfs: {error}"));
                return false;
            }
        }
        if begun.elapsed() >= patience {
            let seconds = patience.as_secs();
            trouble(
                outcome,
                entry,
                format!("{device} for {} was not there after {seconds} s", entry.target),
            );
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The device's path, if it is there; tags are looked up by `findfs` (util-linux, busybox).
///
/// # Errors
/// There is no such program.
fn resolve(device: &str) -> io::Result<Option<String>> {
    if device.starts_with('/') {
        return Ok(Path::new(device).exists().then(|| device.to_owned()));
    }
    let output = Command::new("findfs").arg(device).stderr(Stdio::null()).output()?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !path.is_empty()).then_some(path))
}

/// One pass after the other, all of a pass at once; what is broken is not to be mounted.
fn check_all(todo: &mut Vec<&Entry>, mode: Fsck, outcome: &mut Outcome) {
    let mut passes: Vec<u32> = todo.iter().map(|entry| entry.pass).filter(|&it| it > 0).collect();
    passes.sort_unstable();
    passes.dedup();
    for pass in passes {
        let mut running = Vec::new();
        for entry in todo.iter().filter(|entry| entry.pass == pass && !entry.is_swap()) {
            let device = entry.device().map_or(Ok(None), resolve);
            let started = device.and_then(|device| match device {
                Some(device) => start_check(&entry.kind, &device, mode),
                None => Ok(None),
            });
            match started {
                Ok(Some(child)) => running.push((entry.target.clone(), child)),
                Err(error) => {
                    trouble(outcome, entry, format!("cannot check {}: {error}", entry.target));
                }
                Ok(None) => {}
            }
        }
        for (target, mut child) in running {
            // One that cannot be waited for has repaired nothing, as far as is known.
            let code = child.wait().ok().and_then(|status| status.code());
            match verdict(code) {
                Checked::Fine => {}
                Checked::Reboot => outcome.reboot = true,
                Checked::Broken => {
                    if let Some(index) = todo.iter().position(|entry| entry.target == target) {
                        let entry = todo.remove(index);
                        let text = format!("the check of {} for {target} failed", entry.source);
                        trouble(outcome, entry, text);
                    }
                }
            }
        }
    }
}

/// In waves: an entry waits for what its target is below.
fn mount_all(mut todo: Vec<&Entry>, outcome: &mut Outcome) {
    let mut failed: Vec<String> = Vec::new();
    while !todo.is_empty() {
        let below = |entry: &Entry, above: &str| {
            entry.target != above && Path::new(&entry.target).starts_with(above)
        };
        let (mut wave, mut rest): (Vec<&Entry>, Vec<&Entry>) = (Vec::new(), Vec::new());
        for entry in &todo {
            let waits = todo.iter().any(|other| below(entry, &other.target));
            if waits { rest.push(entry) } else { wave.push(entry) }
        }
        if wave.is_empty() {
            // Two lines for one place: in the order written.
            wave.extend(rest.first().copied());
            rest = rest.split_off(rest.len().min(1));
        }
        let started: Vec<_> =
            wave.iter().map(|entry| (*entry, start_mount(entry, &failed))).collect();
        for (entry, child) in started {
            let ended = child.and_then(|mut child| child.wait());
            match ended {
                Ok(status) if status.success() => {}
                Ok(_) => {
                    failed.push(entry.target.clone());
                    let what = if entry.is_swap() { "use as swap" } else { "mount" };
                    trouble(
                        outcome,
                        entry,
                        format!("cannot {what} {} on {}", entry.source, entry.target),
                    );
                }
                Err(error) => {
                    failed.push(entry.target.clone());
                    trouble(outcome, entry, format!("cannot mount {}: {error}", entry.target));
                }
            }
        }
        todo = rest;
    }
}

fn start_mount(entry: &Entry, failed: &[String]) -> io::Result<Child> {
    if failed.iter().any(|above| Path::new(&entry.target).starts_with(above)) {
        return Err(io::Error::other("what it is in is not mounted"));
    }
    let mut command;
    if entry.is_swap() {
        command = Command::new("swapon");
        command.arg(&entry.source);
    } else {
        fs::create_dir_all(&entry.target)?;
        command = Command::new("mount");
        command.args(["-t", &entry.kind, "-o", &entry.options, &entry.source, &entry.target]);
    }
    command.stdin(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_mount_reads_them() {
        let text = "# a comment\n\nUUID=1-2 / ext4 errors=remount-ro 0 1\n\
                    /dev/vdb /srv/my\\040files ext4 nofail,x-systemd.device-timeout=5s\n\
                    tmpfs /tmp tmpfs size=10% 0 0\n/swap none swap sw\nincomplete\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 4);
        assert_eq!((entries[0].pass, entries[0].device()), (1, Some("UUID=1-2")));
        assert_eq!(entries[1].target, "/srv/my files");
        assert!(entries[1].has("nofail"));
        assert_eq!(entries[1].patience(), Ok(Duration::from_secs(5)));
        assert_eq!(entries[0].patience(), Ok(DEVICE));
        assert_eq!((entries[2].pass, entries[2].device()), (0, None));
        assert!(entries[3].is_swap());
        assert!(entries.iter().all(|entry| !entry.needs_network()));
        let served = parse("a:/b /b nfs\n/dev/nbd0 /c ext4 rw,_netdev\n");
        assert!(served.iter().all(Entry::needs_network));
    }

    #[test]
    fn times_are_read_as_systemd_reads_them() {
        let seconds = |text| span(text).map(|span| span.as_secs());
        for (text, expected) in [("90", 90), ("5s", 5), ("1min30s", 90), ("2h", 7200), ("0", 0)] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for wrong in ["", "soon", "5 years", "5y", "s", "99999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        let entries = parse("/dev/a /a ext4 x-systemd.device-timeout=soon\n");
        assert_eq!(entries[0].patience(), Err("soon"));
    }

    #[test]
    fn exit_codes_of_fsck() {
        assert_eq!(verdict(Some(0)), Checked::Fine);
        assert_eq!(verdict(Some(1)), Checked::Fine);
        assert_eq!(verdict(Some(3)), Checked::Reboot);
        assert_eq!(verdict(Some(4)), Checked::Broken);
        assert_eq!(verdict(None), Checked::Broken);
    }
}
