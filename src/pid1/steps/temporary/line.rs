//! One line of tmpfiles.d(5): read, without looking at anything.

/// What a line asks for, with what only that needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// `d v q Q`, and `D`: what is in it goes first.
    Directory { emptied: bool },
    /// `e`: those that are there are made right.
    Existing,
    /// `f`, `F` and `f+`: what is in it already is replaced.
    File { again: bool },
    /// `w`, `w+`: into files that are there.
    Write { append: bool },
    /// `L`, `L+`: what is in its place is replaced.
    Link { again: bool },
    /// `C`, `C+`: a copy of a file or tree.
    Copy { again: bool },
    /// `p`, `c`, `b`.
    Node(Node),
    /// `z`, and `Z`: with all that is below.
    Owner { below: bool },
    /// `r`, and `R`: with all that is below.
    Remove { below: bool },
}

/// What is made with mknod(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A named pipe.
    Pipe,
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// A line that is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub what: What,
    /// Where; may have `*` and `?` where it is about what is there.
    pub path: String,
    /// With `~`: directories keep their execution bits and files get none but those they have.
    pub mode: Option<Mode>,
    /// A name or number; `None`: root, or as it is.
    pub user: Option<String>,
    /// The same.
    pub group: Option<String>,
    /// The rest of the line.
    pub argument: Option<String>,
}

/// A mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Its bits.
    pub bits: u32,
    /// `:`: only for what is new.
    pub new_only: bool,
    /// `~`: masked by what the file has now.
    pub masked: bool,
}

/// What stands for `%X`; `None`: nothing that is known here.
pub type Specifiers<'a> = &'a dyn Fn(char) -> Option<String>;

/// Reads a line. `Ok(None)`: a comment, or of a kind that is for a cleaner (ages, exceptions
/// from them) or for filesystems' attributes and access control lists.
///
/// # Errors
/// What cannot be understood, for people.
pub fn parse(text: &str, specifiers: Specifiers<'_>) -> Result<Option<Line>, String> {
    let mut rest = text.trim();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(None);
    }
    let (Some(kind), Some(path)) = (field(&mut rest), field(&mut rest)) else {
        return Err(format!("this line has no path: {text}"));
    };
    let Some(what) = what(&kind)? else { return Ok(None) };
    let path = expand(&path, specifiers).ok_or_else(|| format!("{path}: what is % in it?"))?;
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("{path}: this path must be absolute and without .."));
    }
    let mode = field(&mut rest).map(|text| mode(&text)).transpose()?.flatten();
    let mut name = || {
        field(&mut rest).map(|text| text.trim_start_matches(':').to_owned()).filter(|it| it != "-")
    };
    let (user, group) = (name(), name());
    let _age = field(&mut rest);
    let argument = Some(rest).filter(|rest| !rest.is_empty() && *rest != "-");
    let argument = argument.map(|text| {
        expand(&unescape(text), specifiers).ok_or_else(|| format!("{text}: what is % in it?"))
    });
    Ok(Some(Line { what, path, mode, user, group, argument: argument.transpose()? }))
}

/// The letter, and what follows it: `+` again or more, `!` at boot only, which is now; `-` may
/// fail, `=` and `~`, `^`, `$` say nothing that matters here.
fn what(kind: &str) -> Result<Option<What>, String> {
    let mut letters = kind.chars();
    let Some(letter) = letters.next() else { return Ok(None) };
    let plus = kind.contains('+');
    if letters.any(|mark| !"+!-=~^$".contains(mark)) {
        return Err(format!("{kind} is no kind of line"));
    }
    Ok(Some(match letter {
        'd' | 'v' | 'q' | 'Q' => What::Directory { emptied: false },
        'D' => What::Directory { emptied: true },
        'e' => What::Existing,
        'f' => What::File { again: plus },
        'F' => What::File { again: true },
        'w' => What::Write { append: plus },
        'L' => What::Link { again: plus },
        'C' => What::Copy { again: plus },
        'p' => What::Node(Node::Pipe),
        'c' => What::Node(Node::Character),
        'b' => What::Node(Node::Block),
        'z' => What::Owner { below: false },
        'Z' => What::Owner { below: true },
        'r' => What::Remove { below: false },
        'R' => What::Remove { below: true },
        'x' | 'X' | 'a' | 'A' | 't' | 'T' | 'h' | 'H' | 'm' => return Ok(None),
        _ => return Err(format!("{kind} is no kind of line")),
    }))
}

/// The next field, without the quotes around it.
fn field(rest: &mut &str) -> Option<String> {
    let text = rest.trim_start();
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let (field, after) = match quote {
        Some(quote) => text.get(1..)?.split_once(quote)?,
        None => text.split_once(char::is_whitespace).unwrap_or((text, "")),
    };
    *rest = after.trim_start();
    let is_there = quote.is_some() || !field.is_empty();
    is_there.then(|| unescape(field))
}

fn mode(text: &str) -> Result<Option<Mode>, String> {
    let digits = text.trim_start_matches(['~', ':']);
    if digits == "-" {
        return Ok(None);
    }
    let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o7777);
    let marks = text.strip_suffix(digits).unwrap_or_default();
    match bits {
        Some(bits) => {
            Ok(Some(Mode { bits, new_only: marks.contains(':'), masked: marks.contains('~') }))
        }
        None => Err(format!("{text} is no mode")),
    }
}

/// `%X` by what it stands for.
fn expand(text: &str, specifiers: Specifiers<'_>) -> Option<String> {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => match characters.next()? {
                '%' => out.push('%'),
                letter => out.push_str(&specifiers(letter)?),
            },
            other => out.push(other),
        }
    }
    Some(out)
}

/// The escapes of C that such files use.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, characters.as_str().chars().next()) {
            ('\\', Some(next)) => {
                characters.next();
                match next {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    's' => out.push(' '),
                    other => out.push(other),
                }
            }
            (other, _) => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Line>, String> {
        parse(text, &|letter| (letter == 't').then(|| "/run".to_owned()))
    }

    #[test]
    fn lines_are_taken_apart() {
        let line = read("f+! \"/a b\\sc\" :0640 web - 10d  hello  world\\n").unwrap().unwrap();
        assert_eq!((line.path.as_str(), line.what), ("/a b c", What::File { again: true }));
        assert_eq!(line.mode, Some(Mode { bits: 0o640, new_only: true, masked: false }));
        assert_eq!((line.user.as_deref(), line.group), (Some("web"), None));
        assert_eq!(line.argument.as_deref(), Some("hello  world\n"));
        let line = read("d %t/x ~2755").unwrap().unwrap();
        assert_eq!(line.path, "/run/x");
        assert_eq!(line.mode, Some(Mode { bits: 0o2755, new_only: false, masked: true }));
        assert_eq!(line.argument, None);
    }

    #[test]
    fn what_is_for_others_is_left_and_nonsense_is_said() {
        for other in ["# no", "", "x /tmp/y", "X /tmp", "a+ /x - - - - u:x:r", "h /x - - - - +C"] {
            assert_eq!(read(other), Ok(None), "{other}");
        }
        for bad in ["d", "d relative", "d /x/../y", "y /x", "dd /x", "d /x 99", "d /run/user/%U"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
