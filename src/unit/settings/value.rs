//! Readers: each takes a value of a unit file and gives the typed thing, or says what is
//! wrong with it and gives nothing. They know nothing about which setting asks.

use std::net::IpAddr;
use std::time::Duration;

use crate::unit::diagnostic::Mistake;
use crate::unit::model::{At, Id, User};
use crate::unit::seccomp::Profiles;
use crate::unit::syntax::{Node, Table, Value};
use crate::unit::text::{Files, Place, quote};
use crate::unit::{limits, names};

/// What a reader needs besides the value.
pub struct Context<'a> {
    /// Where the text is.
    pub files: &'a Files,
    /// The file of the unit's header: only lines of this one can be remembered.
    pub home: u32,
    /// Whether the unit is a template, where `%i` stands for the instance.
    pub template: bool,
    /// Whether to look for the nearest known word; off once there are thousands of mistakes.
    pub hints: bool,
    /// Profiles of system calls, read so far.
    pub profiles: &'a mut Profiles,
    /// Where mistakes go.
    pub out: &'a mut Vec<Mistake>,
}

impl Context<'_> {
    /// Reports a mistake at a value.
    pub fn refuse<T>(&mut self, node: &Node, message: impl Into<String>) -> Option<T> {
        self.out.push(Mistake::new(node.place, message));
        None
    }

    /// Reports a mistake at a value, with advice.
    pub fn advise<T>(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.out.push(Mistake::new(node.place, message).help(help));
        None
    }

    /// Reports a value of the wrong type; one that was refused before is passed over.
    pub fn expected<T>(&mut self, node: &Node, what: &str) -> Option<T> {
        if node.value != Value::Refused {
            let found = node.value.type_name();
            self.out.push(Mistake::new(node.place, format!("expected {what}, found {found}")));
        }
        None
    }

    /// Binds a value to its line.
    pub fn at<T>(&self, place: Place, value: T) -> At<T> {
        let line = if place.file == self.home { self.files.line(place) } else { 0 };
        At { value, line }
    }
}

/// Sets `slot` if the value was right.
pub fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

/// Sets an optional `slot` if the value was right.
pub fn put_some<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

/// Sets an optional `slot` if the value was right, with its line.
pub fn put_at<T>(slot: &mut Option<At<T>>, node: &Node, value: Option<T>, cx: &Context<'_>) {
    put_some(slot, value.map(|value| cx.at(node.place, value)));
}

/// Any string.
pub fn text<'n>(node: &'n Node, cx: &mut Context<'_>) -> Option<&'n str> {
    match &node.value {
        Value::String(text) => Some(text),
        _ => cx.expected(node, "a string"),
    }
}

/// A string without line breaks and other controls.
pub fn line(node: &Node, cx: &mut Context<'_>) -> Option<String> {
    let text = text(node, cx)?;
    if text.chars().any(char::is_control) {
        return cx.refuse(node, "this must be one line without control characters");
    }
    Some(text.to_owned())
}

/// `true` or `false`.
pub fn flag(node: &Node, cx: &mut Context<'_>) -> Option<bool> {
    match node.value {
        Value::Bool(flag) => Some(flag),
        _ => cx.expected(node, "true or false"),
    }
}

/// A whole number between two bounds, both allowed.
pub fn integer(node: &Node, low: i64, high: i64, cx: &mut Context<'_>) -> Option<i64> {
    match node.value {
        Value::Integer(number) if (low..=high).contains(&number) => Some(number),
        Value::Integer(number) => {
            cx.refuse(node, format!("{number} is out of range: {low} to {high}"))
        }
        _ => cx.expected(node, &format!("a whole number from {low} to {high}")),
    }
}

/// As [`integer`], in the type wanted.
pub fn number<T: TryFrom<i64>>(
    node: &Node,
    low: i64,
    high: i64,
    cx: &mut Context<'_>,
) -> Option<T> {
    integer(node, low, high, cx).and_then(|number| T::try_from(number).ok())
}

/// A span of time.
pub fn duration(node: &Node, cx: &mut Context<'_>) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    const HELP: &str = "write a number and a unit: \"500ms\", \"10s\", \"2min\", \"1h30min\"";
    let text = match &node.value {
        Value::Integer(0) => return Some(Duration::ZERO),
        Value::Integer(_) | Value::Float(_) => {
            return cx.advise(node, "a duration needs a unit", HELP);
        }
        Value::String(text) if text == "0" => return Some(Duration::ZERO),
        Value::String(text) => text,
        _ => return cx.expected(node, "a duration such as \"10s\""),
    };
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Some(duration),
        Ok(_) => cx.refuse(node, format!("{} is longer than the longest: 366days", quote(text))),
        Err(_) => cx.advise(node, format!("{} is not a duration", quote(text)), HELP),
    }
}

/// A span of time that must not be zero.
pub fn positive_duration(node: &Node, cx: &mut Context<'_>) -> Option<Duration> {
    match duration(node, cx)? {
        Duration::ZERO => cx.refuse(node, "this must be longer than nothing"),
        duration => Some(duration),
    }
}

/// A span of time where zero means none.
pub fn timeout(slot: &mut Option<Duration>, node: &Node, cx: &mut Context<'_>) {
    if let Some(duration) = duration(node, cx) {
        *slot = Some(duration).filter(|duration| !duration.is_zero());
    }
}

/// Bytes.
pub fn size(node: &Node, cx: &mut Context<'_>) -> Option<u64> {
    const LARGEST: u64 = 1 << 60;
    const HELP: &str = "write bytes or a binary unit: 65536, \"64K\", \"512M\", \"2G\"";
    let bytes = match &node.value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => {
            parse_size::Config::new().with_binary().parse_size(text.as_bytes()).ok()
        }
        _ => return cx.expected(node, "a size such as \"64M\""),
    };
    match bytes {
        Some(bytes) if bytes <= LARGEST => Some(bytes),
        Some(_) => cx.refuse(node, "this size is larger than 1024P"),
        None => cx.advise(node, "this is not a size", HELP),
    }
}

/// Bytes, at least one.
pub fn positive_size(node: &Node, cx: &mut Context<'_>) -> Option<u64> {
    match size(node, cx)? {
        0 => cx.refuse(node, "this must be more than nothing"),
        size => Some(size),
    }
}

/// One of some words.
pub fn choice<T: Copy>(node: &Node, words: &[(&str, T)], cx: &mut Context<'_>) -> Option<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let list = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let Value::String(text) = &node.value else {
        return cx.expected(node, &format!("one of {list}"));
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(*value);
    }
    let message = format!("{} is not one of {list}", quote(text));
    match names::nearest(text, known) {
        Some(near) => cx.advise(node, message, format!("did you mean \"{near}\"?")),
        None => cx.refuse(node, message),
    }
}

/// A list, each entry read by `item`; all entries are looked at.
pub fn list<T>(
    node: &Node,
    what: &str,
    cx: &mut Context<'_>,
    mut item: impl FnMut(&Node, &mut Context<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) => {
            let read: Vec<Option<T>> = items.iter().map(|node| item(node, cx)).collect();
            read.into_iter().collect()
        }
        _ => cx.expected(node, what),
    }
}

/// A table.
pub fn table<'n>(node: &'n Node, cx: &mut Context<'_>) -> Option<&'n Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ => cx.expected(node, "a table"),
    }
}

/// A list of strings.
pub fn strings(node: &Node, cx: &mut Context<'_>) -> Option<Vec<String>> {
    list(node, "a list of strings", cx, |node, cx| text(node, cx).map(str::to_owned))
}

/// A program and its arguments: a list, or a string split into words.
pub fn command(node: &Node, cx: &mut Context<'_>) -> Option<At<Vec<String>>> {
    let words = match &node.value {
        Value::String(text) => match shell_words::split(text) {
            Ok(words) => words,
            Err(_) => return cx.refuse(node, "a quote is opened here and never closed"),
        },
        Value::List(_) => strings(node, cx)?,
        _ => return cx.expected(node, "a list of strings, or a string"),
    };
    match words.first() {
        None => cx.refuse(node, "this command is empty"),
        Some(program) if program.is_empty() => cx.refuse(node, "the program's name is empty"),
        Some(_) => Some(cx.at(node.place, words)),
    }
}

/// As [`command`], where `[]` means none.
pub fn optional_command(slot: &mut Option<At<Vec<String>>>, node: &Node, cx: &mut Context<'_>) {
    match &node.value {
        Value::List(list) if list.is_empty() => *slot = None,
        _ => put_some(slot, command(node, cx)),
    }
}

/// A list of commands; a string is one command.
pub fn commands(node: &Node, cx: &mut Context<'_>) -> Option<Vec<At<Vec<String>>>> {
    if matches!(node.value, Value::String(_)) {
        return command(node, cx).map(|command| vec![command]);
    }
    let Value::List(items) = &node.value else {
        return cx.expected(node, "a list of commands");
    };
    // One command without the outer list: said once, not for each of its words.
    if let Some(word) = items.iter().find(|item| matches!(item.value, Value::String(_))) {
        let help = "write [[\"program\", \"argument\"], [\"program\"]]";
        return cx.advise(word, "each command of this list must be a list", help);
    }
    list(node, "a list of commands", cx, command)
}

/// Why a path is not an absolute one without `..`.
pub fn path_problem(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("this path must be absolute")
    } else if path.split('/').any(|part| part == "..") {
        Some("this path must not contain `..`")
    } else if path.len() >= 4096 {
        Some("this path is longer than 4095 bytes")
    } else {
        None
    }
}

/// A path on the host: absolute and without `..`, or beginning with `./` or `../`: then it
/// is meant from the directory of the file that holds it, as in Compose.
pub fn host_path(text: &str, place: Place, cx: &mut Context<'_>) -> Option<String> {
    let full = if text.starts_with("./") || text.starts_with("../") {
        beside(cx.files.name(place.file), text)
    } else {
        Some(text.to_owned())
    };
    let Some(full) = full else {
        cx.out.push(Mistake::new(place, "this path leads out of the file system's root"));
        return None;
    };
    let Some(problem) = path_problem(&full) else { return Some(full) };
    let mistake = Mistake::new(place, problem);
    cx.out.push(if full.starts_with('/') {
        mistake
    } else {
        mistake.help("`./` and `../` are meant from the directory of the unit file")
    });
    None
}

/// A path beside a file, made absolute without asking the file system what is a link.
fn beside(file: &str, path: &str) -> Option<String> {
    let file = std::path::absolute(file).ok()?;
    let mut full = file.parent()?.to_str()?.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => full.truncate(full.rfind('/')?),
            name => {
                full.push('/');
                full.push_str(name);
            }
        }
    }
    Some(if full.is_empty() { "/".to_owned() } else { full })
}

/// An absolute path without `..`.
pub fn path(node: &Node, cx: &mut Context<'_>) -> Option<String> {
    let path = text(node, cx)?;
    match path_problem(path) {
        Some(problem) => cx.refuse(node, problem),
        None => Some(path.to_owned()),
    }
}

/// A file mode in octal.
pub fn mode(node: &Node, cx: &mut Context<'_>) -> Option<u32> {
    let Value::String(text) = &node.value else {
        return cx.expected(node, "an octal mode in quotes such as \"0755\"");
    };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(mode),
        _ => cx.refuse(node, format!("{} is not an octal mode such as \"0755\"", quote(text))),
    }
}

/// A signal's name or number.
pub fn signal(node: &Node, cx: &mut Context<'_>) -> Option<i32> {
    let found = match &node.value {
        Value::Integer(number) => i32::try_from(*number).ok().filter(|n| names::is_signal(*n)),
        Value::String(text) => names::signal(text),
        _ => return cx.expected(node, "a signal such as \"TERM\""),
    };
    if found.is_some() {
        return found;
    }
    let message = "this is not a signal";
    let near = match &node.value {
        Value::String(text) => names::nearest_signal(text),
        _ => None,
    };
    match near {
        Some(near) => cx.advise(node, message, format!("did you mean \"{near}\"?")),
        None => cx.advise(
            node,
            message,
            "write a name such as \"TERM\" or \"RTMIN+3\", or a number from 1 to 64",
        ),
    }
}

/// A user or group: a name or a number.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn id(text: &str) -> Result<Id, &'static str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(text) || text.strip_prefix('-').is_some_and(is_number) {
        return match text.parse::<u32>() {
            Ok(number) if number != u32::MAX => Ok(Id::Number(number)),
            _ => Err("a user or group number is from 0 to 4294967294"),
        };
    }
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '%' | '@');
    match text {
        "" => Err("a user or group name is empty"),
        _ if text.starts_with('-') || text.len() > 255 || !text.chars().all(good) => {
            Err("this is not a user or group name")
        }
        _ => Ok(Id::Name(text.to_owned())),
    }
}

/// `user[:group]`.
pub fn user(node: &Node, cx: &mut Context<'_>) -> Option<At<User>> {
    let text = match &node.value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        _ => return cx.expected(node, "a user such as \"www-data\" or \"1000:1000\""),
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (id(user), Some(id(group))),
        None => (id(&text), None),
    };
    match (user, group.transpose()) {
        (Ok(user), Ok(group)) => Some(cx.at(node.place, User { user, group })),
        (Err(problem), _) | (_, Err(problem)) => cx.refuse(node, problem),
    }
}

/// `PORT`, `:PORT`, `ADDRESS:PORT`; an address is a literal or `localhost`.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn endpoint(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("", text),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (host, bare) {
        ("" | "localhost", _) => "127.0.0.1".to_owned(),
        (_, Some(v6)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6.to_owned(),
        (v4, None) if v4.parse::<std::net::Ipv4Addr>().is_ok() => v4.to_owned(),
        (host, _) if host.parse::<IpAddr>().is_ok() => {
            return Err("an IPv6 address is written in brackets, such as [::1]:80");
        }
        _ => return Err("the address must be a literal such as 127.0.0.1 or [::1]"),
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !text.ends_with('+') => Ok((host, port)),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

/// Checks a regular expression; one that would be costly to run or to read is refused.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn regex(text: &str) -> Result<(), String> {
    if text.len() > limits::REGEX {
        return Err(format!("it is longer than {} bytes", limits::REGEX));
    }
    let mut builder = regex_lite::RegexBuilder::new(text);
    let built = builder.size_limit(limits::REGEX_SIZE).build();
    built.map(|_| ()).map_err(|error| error.to_string())
}
