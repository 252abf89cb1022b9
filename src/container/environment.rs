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

/// Why an environment file cannot be used.
#[derive(Debug)]
pub enum FileError {
    /// As open(2); `EINVAL` for what is not a regular file, `EFBIG` above [`FILE_MAX`],
    /// `EILSEQ` for what is not UTF-8 or holds a NUL.
    Read(io::Error),
    /// The line of this number is no `NAME=value`.
    Line(usize),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads an environment file of the host.
///
/// # Errors
/// See [`FileError`].
pub fn read_file(file: &str) -> Result<Variables, FileError> {
    let mut bytes = Vec::new();
    path::open_regular(file)?.take(FILE_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(io::Error::from_raw_os_error(libc::EFBIG).into());
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => parse(&text).map_err(FileError::Line),
        _ => Err(io::Error::from_raw_os_error(libc::EILSEQ).into()),
    }
}

/// `NAME=value` lines; blank lines and those that begin with `#` or `;` are skipped. A value
/// in a pair of quotes loses them.
///
/// # Errors
/// The number of the first line that is none of these: a variable that silently is not
/// there is found much later, elsewhere.
pub fn parse(text: &str) -> Result<Variables, usize> {
    let mut variables = Variables::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let (name, value) = assignment
            .map(|(name, value)| (name.trim(), unquote(value.trim())))
            .filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace))
            .ok_or(index.saturating_add(1))?;
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
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
                    D='x\nE=\n";
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "quoted = yes"), ("D", "'x"), ("E", "")];
        assert_eq!(parse(text), Ok(pairs(&expected)));
    }

    #[test]
    fn a_line_that_sets_nothing_is_an_error() {
        for line in ["no assignment", "A", "=nameless", "bad name=1", "export"] {
            assert_eq!(parse(&format!("# comment\nA=1\n\n{line}\nB=2\n")), Err(4), "{line}");
        }
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
