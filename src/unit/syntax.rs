//! From TOML text to a tree of values that know their places.
//!
//! The tree is our own, small and bounded: the parser's is dropped file by file, and
//! nothing past this module knows which parser was used. What every value must obey
//! whatever it means (length of lists and strings, no NUL byte) is checked here.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Mistake;
use super::limits;
use super::text::{Place, SourceFile};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value stands; for a `[table]` its header.
    pub place: Place,
    /// What stands there.
    pub value: Value,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A number without a fraction.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or time, which no setting takes.
    Datetime,
    /// `[…]`, also `[[…]]`.
    List(Vec<Node>),
    /// `{…}`, also `[…]`.
    Table(Table),
    /// Refused already; nothing more is said about it.
    Refused,
}

impl Value {
    /// What people call it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Datetime => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Refused => "nothing",
        }
    }
}

/// Keys and values in the order written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(pub Vec<Entry>);

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

impl Table {
    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Document {
    /// Its tables, as far as they could be understood.
    pub root: Table,
    /// How many values it has.
    pub nodes: usize,
    /// Whether it is TOML at all. The tree of a file that is not is a guess.
    pub sound: bool,
}

/// Parses one file.
pub fn parse(file: &SourceFile, id: u32, out: &mut Vec<Mistake>) -> Document {
    let (root, errors) = DeTable::parse_recoverable(&file.text);
    for error in errors.iter().take(limits::SYNTAX_ERRORS) {
        let span = error.span().unwrap_or_default();
        let place = place(id, span.start, span.end);
        out.push(syntax_mistake(error.message(), place, file));
    }
    if let Some(more) = errors.len().checked_sub(limits::SYNTAX_ERRORS).filter(|more| *more > 0)
        && let Some(last) = out.last_mut()
    {
        last.help = Some(format!("{more} more syntax errors of this file are not shown"));
    }
    let mut walk = Walk { id, nodes: 0, out };
    let root = walk.table(root.get_ref());
    Document { root, nodes: walk.nodes, sound: errors.is_empty() }
}

fn place(file: u32, start: usize, end: usize) -> Place {
    let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Place { file, start: clamp(start), end: clamp(end) }
}

/// Makes the parser's message ours.
fn syntax_mistake(message: &str, place: Place, file: &SourceFile) -> Mistake {
    if message == "duplicate key" {
        let key = file.text.get(place.start as usize..place.end as usize).unwrap_or_default();
        let key = key.trim_matches(['"', '\'']);
        let mistake = Mistake::new(place, format!("`{key}` is defined twice"));
        return match first_definition(file, place) {
            Some(first) => mistake.note(first, "it is defined first here"),
            None => mistake,
        };
    }
    if message.starts_with("recursion limit") || message.contains("recursion limit") {
        return Mistake::new(place, "too many levels of nesting").help("use at most 80 levels");
    }
    Mistake::new(place, format!("not valid TOML: {message}"))
}

/// The line before `second` that defines the same thing: the same header, or the same
/// key under the same header.
fn first_definition(file: &SourceFile, second: Place) -> Option<Place> {
    let (start, line) = file.line_text(second.start as usize);
    let is_header = line.trim_start().starts_with('[');
    let name = |line: &str| -> Option<String> {
        let line = line.trim_start();
        let end = if is_header { line.find(']')?.checked_add(1)? } else { line.find('=')? };
        let name = line.get(..end)?;
        (name.starts_with('[') == is_header).then(|| name.replace([' ', '\t', '"', '\''], ""))
    };
    let wanted = name(line)?;
    let mut at = start;
    while at > 0 {
        let (line_start, line) = file.line_text(at.checked_sub(1)?);
        if name(line).is_some_and(|name| name == wanted) {
            let indent = line.len().saturating_sub(line.trim_start().len());
            let end = line_start.saturating_add(line.trim_end().len());
            return Some(place(second.file, line_start.saturating_add(indent), end));
        }
        if !is_header && line.trim_start().starts_with('[') {
            return None;
        }
        at = line_start;
    }
    None
}

/// Copies the parser's tree. Its recursion is bounded by the parser's own limit.
struct Walk<'a> {
    id: u32,
    nodes: usize,
    out: &'a mut Vec<Mistake>,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = Vec::with_capacity(table.len().min(limits::LIST));
        for (key, value) in table {
            let span = key.span();
            let key_place = place(self.id, span.start, span.end);
            if entries.len() >= limits::LIST {
                self.out.push(too_many(key_place, "keys"));
                break;
            }
            let key = key.get_ref();
            if key.len() > limits::STRING || key.contains('\0') {
                self.out.push(Mistake::new(key_place, "this key is too long or has a NUL byte"));
                continue;
            }
            let node = self.node(value);
            entries.push(Entry { key: key.to_string(), place: key_place, node });
        }
        // The parser sorts by name.
        entries.sort_by_key(|entry| entry.place);
        Table(entries)
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let place = place(self.id, span.start, span.end);
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > limits::NODES {
            if self.nodes == limits::NODES.saturating_add(1) {
                let text = format!("this file holds more than {} values", limits::NODES);
                self.out.push(Mistake::new(place, text).help("split it into several files"));
            }
            return Node { place, value: Value::Refused };
        }
        Node { place, value: self.value(value.get_ref(), place) }
    }

    fn value(&mut self, value: &DeValue<'_>, place: Place) -> Value {
        match value {
            DeValue::String(text) => self.string(text, place),
            DeValue::Integer(number) => {
                if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
                    Value::Integer(number)
                } else {
                    self.out.push(Mistake::new(place, "this number is too large"));
                    Value::Refused
                }
            }
            DeValue::Float(number) => number.as_str().parse().map_or(Value::Refused, Value::Float),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(list) if list.len() > limits::LIST => {
                self.out.push(too_many(place, "entries"));
                Value::Refused
            }
            DeValue::Array(list) => Value::List(list.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }

    fn string(&mut self, text: &str, place: Place) -> Value {
        let problem = if text.len() > limits::STRING {
            format!("this string has more than {} bytes", limits::STRING)
        } else if text.contains('\0') {
            "a string cannot hold a NUL byte".to_owned()
        } else {
            return Value::String(text.to_owned());
        };
        self.out.push(Mistake::new(place, problem));
        Value::Refused
    }
}

fn too_many(place: Place, what: &str) -> Mistake {
    Mistake::new(place, format!("more than {} {what} in one place", limits::LIST))
}
