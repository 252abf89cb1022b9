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
        match value {
            Value::Null => {}
            Value::Array(list) if list.is_empty() => {}
            Value::String(text) if text.is_empty() => {}
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(inner) => {
                context.say(&format!("{:indent$}{key}", ""))?;
                settings(context, inner, depth.saturating_add(1))?;
            }
            // JSON quotes strings and escapes most control characters in them.
            other => {
                let text = render::line(&other.to_string());
                context.say(&format!("{:indent$}{key} = {text}", ""))?;
            }
        }
    }
    Ok(())
}
