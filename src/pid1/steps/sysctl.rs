//! sysctl.d(5): `key = value`, a leading `-` where failure is fine, `*` for any name.

use std::fs;
use std::path::{Path, PathBuf};

use super::matching;

const DIRECTORIES: [&str; 4] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

/// One line.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    value: String,
    may_fail: bool,
}

/// Sets them in order; a later one overrides an earlier one.
pub fn set() -> Vec<String> {
    let mut files = super::drop_ins(&DIRECTORIES, ".conf");
    files.push(PathBuf::from("/etc/sysctl.conf"));
    let mut troubles = Vec::new();
    for path in files {
        for setting in parse(&super::text_of(&path, &mut troubles)) {
            troubles.extend(apply(&setting));
        }
    }
    troubles
}

fn parse(text: &str) -> Vec<Setting> {
    let setting = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (line, may_fail) = line.strip_prefix('-').map_or((line, false), |line| (line, true));
        let (key, value) = line.split_once('=')?;
        Some(Setting { key: key.trim().to_owned(), value: value.trim().to_owned(), may_fail })
    };
    text.lines().filter_map(setting).collect()
}

fn apply(setting: &Setting) -> Option<String> {
    let fine = || setting.may_fail;
    let paths = matching(Path::new("/proc/sys"), &components(&setting.key));
    if paths.is_empty() && !setting.key.contains('*') && !fine() {
        return Some(format!("{}: this kernel has no such setting", setting.key));
    }
    for path in paths {
        if let Err(error) = fs::write(&path, &setting.value)
            && !fine()
        {
            return Some(format!("cannot set {} to {}: {error}", setting.key, setting.value));
        }
    }
    None
}

/// `a.b/c` is `a/b.c`, `a/b.c` is itself: whichever separator comes first is the one
/// (sysctl.d(5)).
fn components(key: &str) -> Vec<String> {
    let slashes =
        key.find(['.', '/']).is_some_and(|at| key.get(at..).is_some_and(|it| it.starts_with('/')));
    let parts = key.split(if slashes { '/' } else { '.' });
    let swap = |part: &str| if slashes { part.to_owned() } else { part.replace('/', ".") };
    parts.map(swap).filter(|part| !matches!(part.as_str(), "" | "." | "..")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid1::steps::fits;

    #[test]
    fn lines_keys_and_stars() {
        let read = parse("# no\nnet.ipv4.ip_forward = 1\n-kernel/x = a b\n; no\nnonsense\n");
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].key.as_str(), read[1].value.as_str()), ("kernel/x", "a b"));
        assert!(read[1].may_fail && !read[0].may_fail);
        assert_eq!(
            components("net.ipv4.conf.eth0/1.rp_filter"),
            ["net", "ipv4", "conf", "eth0.1", "rp_filter"]
        );
        assert_eq!(components("net/ipv4/conf/eth0.1/x"), ["net", "ipv4", "conf", "eth0.1", "x"]);
        assert_eq!(components("/a/../b"), ["a", "b"]);
        assert!(fits("*", "lo") && fits("eth*", "eth0") && fits("a*c*", "abcd"));
        assert!(!fits("eth*", "lo") && !fits("a*c", "abcd"));
        let found = matching(Path::new("/proc/sys"), &components("kernel.ost*pe"));
        assert_eq!(found, [Path::new("/proc/sys/kernel/ostype")]);
    }
}
