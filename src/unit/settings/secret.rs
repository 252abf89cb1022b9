//! `[secret.NAME]`, and `secrets` of a service.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::diagnostic::Mistake;
use crate::unit::draft::Draft;
use crate::unit::model::{SecretSource, SecretUse};
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;
use crate::unit::{limits, names};

const SERVICE: &[Section] = &[Section::Service];
const SECRET: &[Section] = &[Section::Secret];
const USE: &[Section] = &[Section::SecretUse];

/// Mode of a secret's file.
const MODE: u32 = 0o400;

/// The settings. The tests put each key of an entry into one that names a secret.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "secrets", "list of names or tables", "[]", |d, v, cx| {
        read_all(v, d, cx);
    })
    .help(
        "Secrets it is given: each is a file `/run/secrets/NAME` that only its user can \
             read (0400), in memory that is never swapped out, read-only, and seen by \
             nobody outside of the unit; its hooks, its health checks and `berthctl exec` \
             see it. A table says more, see [its keys](#keys-of-secrets). What is changed \
             later is seen at the next start. A service without a mount namespace of its \
             own cannot have any; `isolation = [\"mount\"]` is enough.",
    )
    .good(&["[\"db-password\"]", "[{ secret = \"db-password\", target = \"password\" }]"])
    .bad(&["\"db-password\"", "[\"no-such-secret\"]", "[\"../x\"]", "[{}]", "[1]"]),
    Setting::new(USE, "secret", "name", "needed", |d, v, cx| {
        value::put_some(&mut d.secret_use.secret, name(v, cx));
    })
    .help("Which secret.")
    .good(&["\"db-password\""])
    .bad(&["\"../x\"", "\"no-such-secret\"", "1"]),
    Setting::new(USE, "target", "file name", "the secret's name", |d, v, cx| {
        value::put_some(&mut d.secret_use.target, target(v, cx));
    })
    .help("Name of the file in `/run/secrets`.")
    .good(&["\"password\""])
    .bad(&["\"a/b\"", "\"..\"", "\"\"", "1"])
    .with(NAMED),
    Setting::new(USE, "uid", "number", "the unit's user", |d, v, cx| {
        value::put_some(&mut d.secret_use.uid, value::number(v, 0, ID_MAX, cx));
    })
    .help("Owner of the file, as the unit numbers users.")
    .good(&["33"])
    .bad(&["-1", "4294967295", "\"web\""])
    .with(NAMED),
    Setting::new(USE, "gid", "number", "the unit's group", |d, v, cx| {
        value::put_some(&mut d.secret_use.gid, value::number(v, 0, ID_MAX, cx));
    })
    .help("Group of the file, as the unit numbers groups.")
    .good(&["33"])
    .bad(&["-1", "4294967295", "\"web\""])
    .with(NAMED),
    Setting::new(USE, "mode", "octal mode", "\"0400\"", |d, v, cx| {
        let mode = value::mode(v, cx).and_then(|mode| match mode & !0o777 {
            0 => Some(mode),
            _ => cx.refuse(v, "a secret's mode has read, write and execute bits only"),
        });
        value::put_some(&mut d.secret_use.mode, mode);
    })
    .help("Permissions of the file. It cannot be written in any case.")
    .good(&["\"0440\""])
    .bad(&["\"0999\"", "\"4400\"", "440"])
    .with(NAMED),
    Setting::new(SECRET, "file", "host path", "none", |d, v, cx| {
        let path = value::text(v, cx).and_then(|text| value::host_path(text, v.place, cx));
        value::put_some(&mut d.secret_file, path);
    })
    .help(
        "A file of the host that holds it, 1 byte to 512 KiB, as it is: a newline at its end \
         is a part of it. It is read when a service starts, and must be a regular file that \
         belongs to root (or to whom berth runs as) and that nobody else can read or write; \
         no part of the path may be a symbolic link, and no other path may lead to the file.",
    )
    .good(&["\"/etc/berth/secrets/db-password\"", "\"./db-password\""])
    .bad(&["\"db-password\"", "\"/a/../b\"", "1"]),
    Setting::new(SECRET, "environment", "string", "none", |d, v, cx| {
        let name = value::text(v, cx).and_then(|text| {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if text.is_empty() || text.len() > 255 || !text.chars().all(good) {
                let help = "its name consists of letters, digits and `_`";
                return cx.advise(v, format!("{} is not a variable", quote(text)), help);
            }
            Some(text.to_owned())
        });
        value::put_some(&mut d.secret_environment, name);
    })
    .help(
        "A variable of berth's own environment that holds it. Once the units are read berth \
         takes it out of its environment and its memory, and no child inherits it.",
    )
    .good(&["\"DB_PASSWORD\""])
    .bad(&["\"\"", "\"A=B\"", "1"]),
];

/// For the tests: the rest of an entry.
const NAMED: &str = "secret = \"db-password\"";

/// The highest user or group number.
const ID_MAX: i64 = 4_294_967_294;

/// An entry of `secrets` while it is read.
#[derive(Debug, Clone, Default)]
pub struct UseDraft {
    secret: Option<String>,
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

/// Reads all entries.
fn read_all(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) {
    match &node.value {
        Value::List(items) if items.len() > limits::SECRETS => {
            cx.refuse::<()>(node, format!("a unit has at most {} secrets", limits::SECRETS));
        }
        _ => {
            value::list(node, "a list of names or tables", cx, |item, cx| read(item, draft, cx));
        }
    }
}

/// Reads one entry.
fn read(node: &Node, draft: &mut Draft, cx: &mut Context<'_>) -> Option<()> {
    draft.secret_use = UseDraft::default();
    let before = cx.out.len();
    match &node.value {
        Value::String(_) => put(&mut draft.secret_use.secret, name(node, cx).map(Some)),
        Value::Table(table) => {
            draft.forget(Section::SecretUse);
            super::apply(Section::SecretUse, table, draft, cx);
        }
        _ => cx.expected(node, "a secret's name or a table")?,
    }
    if cx.out.len() > before {
        return None;
    }
    let UseDraft { secret, target, uid, gid, mode } = std::mem::take(&mut draft.secret_use);
    let Some(secret) = secret else {
        return cx.refuse(node, "this entry has no `secret`");
    };
    let target = target.unwrap_or_else(|| secret.clone());
    let twice = draft.secrets.iter().find(|(_, other)| other.target == target);
    if let Some((first, other)) = twice {
        let message = if other.secret == secret {
            format!("the secret {} is listed twice", quote(&secret))
        } else {
            format!("two secrets go to {}", quote(&target))
        };
        let mistake = Mistake::new(node.place, message).note(*first, "the first time here");
        cx.out.push(mistake.help("`target` gives one of them another name"));
        return None;
    }
    let (mode, source) = (mode.unwrap_or(MODE), SecretSource::default());
    draft.secrets.push((node.place, SecretUse { secret, target, uid, gid, mode, source }));
    Some(())
}

/// The name of a secret; in a template it may only be complete once there is an instance.
fn name(node: &Node, cx: &mut Context<'_>) -> Option<String> {
    let name = value::text(node, cx)?;
    let sample = if cx.template { name.replace("%i", "i") } else { name.to_owned() };
    match names::problem(&sample) {
        Some(problem) => {
            cx.advise(node, format!("{} is not a secret's name", quote(name)), problem)
        }
        None => Some(name.to_owned()),
    }
}

fn target(node: &Node, cx: &mut Context<'_>) -> Option<String> {
    let target = value::text(node, cx)?;
    match target_problem(target) {
        Some(problem) => cx.advise(node, format!("{} is not a file name", quote(target)), problem),
        None => Some(target.to_owned()),
    }
}

/// What is wrong with the name of a secret's file, if anything.
pub fn target_problem(name: &str) -> Option<&'static str> {
    if matches!(name, "" | "." | "..") || name.contains('/') || name.chars().any(char::is_control) {
        Some("it stands directly in /run/secrets: one name, without `/`")
    } else if name.len() > 255 {
        Some("a file name has at most 255 bytes")
    } else {
        None
    }
}
