//! From TOML text to a tree of values that know their places.
//!
//! The tree is our own, small and bounded: the parser's is dropped file by file, and
//! nothing past this module knows which parser was used. What every value must obey
//! whatever it means (length of lists and strings, no NUL byte) is checked here.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Mistake;
use super::limits;
use super::text::{Place, SourceFile, quote};

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
            Self::Bool(_) => "a boolean",
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
    /// Whether something in it was refused. The recursion is bounded by the parser.
    pub fn is_flawed(&self) -> bool {
        fn flawed(node: &Node) -> bool {
            match &node.value {
                Value::Refused => true,
                Value::List(list) => list.iter().any(flawed),
                Value::Table(table) => table.is_flawed(),
                _ => false,
            }
        }
        self.0.iter().any(|entry| flawed(&entry.node))
    }

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
    /// Whether it is TOML, or would be without things defined twice. The tree of a file
    /// that is not is a guess.
    pub sound: bool,
    /// Kind and name of units in which something is defined twice.
    pub doubled: Vec<(String, String)>,
}

/// Parses one file.
pub fn parse(file: &SourceFile, id: u32, out: &mut Vec<Mistake>) -> Document {
    let (root, errors) = tree(&file.text);
    let mut document = Document::default();
    let (mut shown, mut last_header) = (0_usize, None);
    let recovered = file.text.len() <= limits::RECOVERED && errors.len() <= LOOKED_AT;
    document.sound = errors.is_empty() || recovered;
    for error in errors.iter().take(LOOKED_AT) {
        let span = error.span().unwrap_or_default();
        let place = place(id, span.start, span.end);
        let mistake = if error.message() == DUPLICATE {
            let header = header_above(file, span.start);
            match header.and_then(|at| unit_of_header(file.line_text(at).1)) {
                Some(unit) => document.doubled.push(unit),
                None => document.sound = false,
            }
            // Keys below a header that is there twice are not told one by one.
            let below = header.is_some() && header == last_header;
            last_header =
                if is_header(file.line_text(span.start).1) { header } else { last_header };
            if below {
                continue;
            }
            defined_twice(place, file)
        } else {
            document.sound = false;
            syntax_mistake(error.message(), place, file)
        };
        shown = shown.saturating_add(1);
        if shown > limits::SYNTAX_ERRORS {
            let more = out.last_mut().into_iter();
            more.for_each(|last| last.help = Some("more of this file is not shown".to_owned()));
            break;
        }
        out.push(mistake);
    }
    let mut walk = Walk { id, nodes: 0, out };
    document.root = walk.table(root.get_ref());
    document.nodes = walk.nodes;
    document
}

/// Parses a text. Of a long one that is wrong only the first error is known, because
/// the parser would keep one for each byte of rubbish.
fn tree(text: &str) -> (Spanned<DeTable<'_>>, Vec<toml::de::Error>) {
    if text.len() <= limits::RECOVERED {
        return DeTable::parse_recoverable(text);
    }
    match DeTable::parse(text) {
        Ok(root) => (root, Vec::new()),
        Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
    }
}

/// Errors of one file that are looked at: each may cost a walk through the file.
const LOOKED_AT: usize = 100;

/// The parser's words for something that is there twice.
const DUPLICATE: &str = "duplicate key";

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// Where the line of the header at or above an offset begins.
fn header_above(file: &SourceFile, offset: usize) -> Option<usize> {
    let mut at = offset;
    loop {
        let (start, line) = file.line_text(at);
        if is_header(line) {
            return Some(start);
        }
        at = start.checked_sub(1)?;
    }
}

/// Kind and name of `[kind.name]` or `[kind.name.part]`.
fn unit_of_header(line: &str) -> Option<(String, String)> {
    let key = line.trim().trim_start_matches('[').split(']').next()?;
    let text = format!("{key} = 1");
    let root = DeTable::parse(&text).ok()?;
    let (kind, units) = root.get_ref().iter().next()?;
    let (name, _) = units.get_ref().as_table()?.iter().next()?;
    Some((kind.get_ref().to_string(), name.get_ref().to_string()))
}

fn place(file: u32, start: usize, end: usize) -> Place {
    let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Place { file, start: clamp(start), end: clamp(end) }
}

fn defined_twice(place: Place, file: &SourceFile) -> Mistake {
    let key = file.text.get(place.start as usize..place.end as usize).unwrap_or_default();
    let mistake =
        Mistake::new(place, format!("{} is defined twice", quote(key.trim_matches(['"', '\'']))));
    match first_definition(file, place) {
        Some(first) => mistake.note(first, "it is defined first here"),
        None => mistake,
    }
}

/// Makes the parser's message ours.
fn syntax_mistake(message: &str, place: Place, file: &SourceFile) -> Mistake {
    if message.contains("recurs") {
        return Mistake::new(place, "too many levels of nesting").help("use at most 80 levels");
    }
    if message.starts_with("invalid float") || message.starts_with("string values must be quoted") {
        let text = file.text.get(place.start as usize..place.end as usize).unwrap_or_default();
        return if text.trim().is_empty() {
            Mistake::new(place, "a value is missing here")
        } else {
            Mistake::new(place, format!("{} is not a value", quote(text)))
                .help("text is written in quotes")
        };
    }
    Mistake::new(place, format!("not valid TOML: {message}"))
}

/// The line before `second` that defines the same thing: the same header, or the same
/// key under the same header.
fn first_definition(file: &SourceFile, second: Place) -> Option<Place> {
    let (start, line) = file.line_text(second.start as usize);
    let is_header = is_header(line);
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
            let shown =
                if is_header { line.trim_end() } else { line.split('=').next()?.trim_end() };
            let end = line_start.saturating_add(shown.len());
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
            let key = key.get_ref();
            let refused = if entries.len() >= limits::LIST {
                Some(too_many(key_place, "keys"))
            } else if key.len() > limits::STRING || key.contains('\0') {
                Some(Mistake::new(key_place, "this key is too long or has a NUL byte"))
            } else {
                None
            };
            let full = entries.len() >= limits::LIST;
            let node = match refused {
                Some(mistake) => {
                    self.out.push(mistake);
                    Node { place: key_place, value: Value::Refused }
                }
                None => self.node(value),
            };
            entries.push(Entry { key: key.to_string(), place: key_place, node });
            if full {
                break;
            }
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
