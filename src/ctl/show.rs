//! `berthctl show`: the definition in force.

use serde_json::{Map, Value};

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::{Show, ShowReply};

/// Prints the definition, where it was read, and how the unit is.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, unit: String, json: bool) -> Result<(), Failure> {
    let reply = context.connect()?.call(&Show { unit }, &Patience::at_most(ANSWER))?;
    if json {
        return context.json(&reply);
    }
    heading(context, &reply)?;
    settings(context, &reply.definition, 0)?;
    let Ok(Value::Object(status)) = serde_json::to_value(&reply.status) else {
        return Ok(());
    };
    context.say(&format!("\n{}", context.style.paint(Color::Bold, "now")))?;
    settings(context, &status, 0)
}

fn heading(context: &mut Context, reply: &ShowReply) -> Result<(), Failure> {
    let name = context.style.paint(Color::Bold, &render::line(&reply.status.name));
    let place = match (&reply.file, reply.line) {
        (Some(file), Some(line)) => format!("{}:{line}", render::line(file)),
        (Some(file), None) => render::line(file),
        (None, _) => "from no file: another unit refers to it".to_owned(),
    };
    context.say(&format!("{name}  {place}"))
}

/// `key = value` lines; what does not apply is left out, tables are indented.
fn settings(context: &mut Context, map: &Map<String, Value>, depth: usize) -> Result<(), Failure> {
    for (key, value) in map {
        let indent = depth.saturating_mul(2).saturating_add(2);
        let key = render::line(key);
        let (value, line) = unwrap(value);
        let place = line.map(|line| format!("  # line {line}")).unwrap_or_default();
        let place = context.style.paint(Color::Dim, &place);
        match value {
            Value::Null => {}
            Value::Array(list) if list.is_empty() => {}
            Value::String(text) if text.is_empty() => {}
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(inner) => {
                context.say(&format!("{:indent$}{key}{place}", ""))?;
                settings(context, inner, depth.saturating_add(1))?;
            }
            other => {
                let text = render::line(&inline(other));
                context.say(&format!("{:indent$}{key} = {text}{place}", ""))?;
            }
        }
    }
    Ok(())
}

/// A setting without the place it was written at, and that line if there is one.
fn unwrap(value: &Value) -> (&Value, Option<u64>) {
    let pair = value.as_object().filter(|map| map.len() == 2);
    match pair.and_then(|map| Some((map.get("value")?, map.get("line")?.as_u64()?))) {
        Some((value, line)) => (value, (line > 0).then_some(line)),
        None => (value, None),
    }
}

/// A value on one line: JSON, without the places inside it.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| inline(unwrap(item).0)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}
