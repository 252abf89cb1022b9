//! The little that is read from `/proc/PID` (proc(5)): it never blocks and is bounded.

use std::io::Read;

/// More than any of the files read here has.
const LIMIT: u64 = 16 * 1024;

fn read(pid: i32, file: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Its group in the version 2 hierarchy, as the file shows it; `None`: it has gone.
pub fn unified_group(pid: i32) -> Option<String> {
    let text = read(pid, "cgroup")?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Its number in the innermost pid namespace it is in.
pub fn number_inside(pid: i32) -> Option<i32> {
    let text = read(pid, "status")?;
    let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process_and_not_one_that_is_gone() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(number_inside(own), Some(own));
        assert!(unified_group(own).is_some_and(|group| group.starts_with('/')));
        assert_eq!(unified_group(i32::MAX), None);
    }
}
