//! The environment of a unit's processes: nothing of the supervisor's own.
//!
//! Later beats earlier: what follows from the user, then `environment`, then the
//! `environment-files` in their order (as systemd has it: the file of the machine's owner
//! changes what the unit sets), then what berth itself promises (`NOTIFY_SOCKET` …).

use std::ffi::CString;
use std::io::{self, Read};

use super::users::Identity;
use crate::sys::path;

/// Where programs are looked for, unless the unit says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Largest environment file.
pub const FILE_MAX: u64 = 256 * 1024;

/// Names and values.
pub type Variables = Vec<(String, String)>;

/// Reads an environment file of the host.
///
/// # Errors
/// As open(2); `EINVAL` for what is not a regular file, `EFBIG` above [`FILE_MAX`],
/// `EILSEQ` for what is not UTF-8 or holds a NUL.
pub fn read_file(file: &str) -> io::Result<Variables> {
    let mut bytes = Vec::new();
    path::open_regular(file)?.take(FILE_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(parse(&text)),
        _ => Err(io::Error::from_raw_os_error(libc::EILSEQ)),
    }
}

/// `NAME=value` lines; blank lines and those that begin with `#` or `;` are skipped, as
/// are lines without a name. A value in a pair of quotes loses them.
pub fn parse(text: &str) -> Variables {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with(['#', ';']));
    let lines = lines.map(|line| line.strip_prefix("export ").unwrap_or(line));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), unquote(value.trim())))
        .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

/// What follows from the user.
pub fn of_identity(identity: &Identity) -> Variables {
    let mut variables = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), identity.home.clone()),
    ];
    if let Some(name) = &identity.name {
        variables.push(("USER".to_owned(), name.clone()));
        variables.push(("LOGNAME".to_owned(), name.clone()));
    }
    if let Some(shell) = &identity.shell {
        variables.push(("SHELL".to_owned(), shell.clone()));
    }
    variables
}

/// Puts layers on top of each other; each name stays where it first appeared.
pub fn merge<'a>(layers: impl IntoIterator<Item = &'a [(String, String)]>) -> Variables {
    let mut merged = Variables::new();
    for (name, value) in layers.into_iter().flatten() {
        match merged.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((name.clone(), value.clone())),
        }
    }
    merged
}

/// The value of a variable.
pub fn get<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// As execve(2) wants them; a NUL inside is cut off with what follows.
pub fn to_c(variables: &[(String, String)]) -> Vec<CString> {
    variables.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect()
}

/// A C string of what is before the first NUL (the checker lets none through).
pub fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Variables {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn files_are_lines_of_names_and_values() {
        let text = "# comment\n; too\n\nA=1\n B = two words \nexport C=\"quoted = yes\"\n\
                    D='x\nE=\nno assignment\n=nameless\nbad name=1\n";
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "quoted = yes"), ("D", "'x"), ("E", "")];
        assert_eq!(parse(text), pairs(&expected));
    }

    #[test]
    fn later_layers_win_and_keep_the_place() {
        let (low, high) = (pairs(&[("A", "1"), ("B", "2")]), pairs(&[("A", "3"), ("C", "4")]));
        let merged = merge([low.as_slice(), high.as_slice()]);
        assert_eq!(merged, pairs(&[("A", "3"), ("B", "2"), ("C", "4")]));
        assert_eq!(get(&merged, "C"), Some("4"));
    }

    #[test]
    fn a_quote_alone_is_no_pair() {
        assert_eq!(unquote("\""), "\"");
        assert_eq!(unquote("\"\""), "");
    }
}
