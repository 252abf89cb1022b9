//! The clock: hwclock(8) where the kernel has not set it from the hardware's, or took local
//! time for universal time.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Sets it. Nothing has to be done on most machines: none has a clock of its own, or the
/// kernel has read it and it runs in universal time.
pub fn set() -> Vec<String> {
    if !Path::new("/dev/rtc0").exists() {
        return Vec::new();
    }
    // The kernel's own file is not there on every one, and no adjtime(5) means universal time.
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let set = text("/sys/class/rtc/rtc0/hctosys");
    let Some(arguments) = arguments(&text("/etc/adjtime"), &set) else { return Vec::new() };
    match Command::new("hwclock").args(arguments).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("cannot set the clock: hwclock: {status}")],
        Err(error) => vec![format!("cannot set the clock: hwclock: {error}")],
    }
}

/// What hwclock(8) is asked for: `adjtime` is `adjtime_config(5)`, `hctosys` what the kernel
/// says of the clock (`1`: it has set its own from it).
fn arguments(adjtime: &str, hctosys: &str) -> Option<[&'static str; 2]> {
    if adjtime.lines().any(|line| line.trim() == "LOCAL") {
        Some(["--systz", "--localtime"])
    } else if hctosys.trim() == "1" {
        None
    } else {
        Some(["--hctosys", "--utc"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_set_where_the_kernel_has_not_done_it_right() {
        assert_eq!(arguments("0.0 0 0.0\n0\nUTC\n", "1\n"), None);
        assert_eq!(arguments("", "1\n"), None);
        assert_eq!(arguments("0.0 0 0.0\n0\nLOCAL\n", "1\n"), Some(["--systz", "--localtime"]));
        assert_eq!(arguments("", "0\n"), Some(["--hctosys", "--utc"]));
        assert_eq!(arguments("", ""), Some(["--hctosys", "--utc"]));
    }
}
