//! A small parser of Varlink interface descriptions.

use std::collections::BTreeMap;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int,
    String,
    Object,
    Named(String),
    Array(Box<Type>),
    Maybe(Box<Type>),
    Enum(Vec<String>),
    Struct(Fields),
}

/// Fields in the order written.
pub type Fields = Vec<(String, Type)>;

/// An interface.
#[derive(Debug, Default)]
pub struct Interface {
    pub name: String,
    pub types: BTreeMap<String, Type>,
    /// Parameters and reply.
    pub methods: BTreeMap<String, (Fields, Fields)>,
    pub errors: BTreeMap<String, Fields>,
    /// What has no comment before it.
    pub undocumented: Vec<String>,
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

impl Interface {
    pub fn parse(text: &str) -> Self {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut interface = Self::default();
        let mut documented = false;
        while let Some(word) = parser.take() {
            if word.starts_with('#') {
                documented = true;
                continue;
            }
            let name = parser.name();
            if !documented {
                interface.undocumented.push(name.clone());
            }
            documented = false;
            match word {
                "interface" => interface.name = name,
                "type" => {
                    let declared = parser.parenthesis();
                    assert_eq!(interface.types.insert(name.clone(), declared), None, "{name}");
                }
                "error" => {
                    let fields = parser.fields();
                    assert_eq!(interface.errors.insert(name.clone(), fields), None, "{name}");
                }
                "method" => {
                    let parameters = parser.fields();
                    parser.expect("->");
                    let declared = (parameters, parser.fields());
                    assert_eq!(interface.methods.insert(name.clone(), declared), None, "{name}");
                }
                other => panic!("neither type, method nor error: {other}"),
            }
        }
        interface
    }
}

/// Words, punctuation, and comments as one token each.
fn tokens(mut text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    loop {
        text = text.trim_start();
        let Some(first) = text.chars().next() else { return tokens };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = if first == '#' {
            text.find('\n').unwrap_or(text.len())
        } else if text.starts_with("->") || text.starts_with("[]") {
            2
        } else if word(first) {
            text.find(|c| !word(c)).unwrap_or(text.len())
        } else {
            first.len_utf8()
        };
        let (token, rest) = text.split_at(length);
        tokens.push(token);
        text = rest;
    }
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Option<&'a str> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    fn name(&mut self) -> String {
        let name = self.take().expect("a name");
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{name} is no name");
        name.to_owned()
    }

    fn expect(&mut self, token: &str) {
        assert_eq!(self.take(), Some(token));
    }

    fn fields(&mut self) -> Fields {
        match self.parenthesis() {
            Type::Struct(fields) => fields,
            other => panic!("no fields: {other:?}"),
        }
    }

    /// `(a: int, b: int)` or `(a, b)`; `()` is a struct without fields.
    fn parenthesis(&mut self) -> Type {
        self.expect("(");
        let mut fields = Vec::new();
        let mut words = Vec::new();
        loop {
            match self.take().expect("an end") {
                ")" => break,
                "," => {}
                name => {
                    if self.tokens[self.at] == ":" {
                        self.at += 1;
                        fields.push((name.to_owned(), self.declared()));
                    } else {
                        words.push(name.to_owned());
                    }
                }
            }
        }
        match (fields.is_empty(), words.is_empty()) {
            (_, true) => Type::Struct(fields),
            (true, false) => Type::Enum(words),
            (false, false) => panic!("half struct, half enum: {words:?}"),
        }
    }

    fn declared(&mut self) -> Type {
        match self.take().expect("a type") {
            "?" => Type::Maybe(Box::new(self.declared())),
            "[]" => Type::Array(Box::new(self.declared())),
            "bool" => Type::Bool,
            "int" => Type::Int,
            "string" => Type::String,
            "object" => Type::Object,
            name => Type::Named(name.to_owned()),
        }
    }
}
