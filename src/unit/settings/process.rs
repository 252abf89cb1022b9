//! What a service runs, and as whom.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;

const SERVICE: &[Section] = &[Section::Service];
const COMMAND: &str = "command";
const COMMANDS: &str = "list of commands";

const BAD_COMMANDS: &[&str] = &["[\"/bin/true\"]", "[[]]", "[[1]]", "3"];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "command", COMMAND, "needed", |d, v, cx| {
        put(&mut d.service.command, value::command(v, cx));
    })
    .help(
        "Program and arguments. A string is split into words as a shell would, but no \
         shell runs it: there are no variables, pipes or `;`. A program without `/` \
         is looked up in the `PATH` of the unit, inside its root.",
    )
    .good(&["[\"nginx\", \"-g\", \"daemon off;\"]", "\"nginx -g 'daemon off;'\""])
    .bad(&["[]", "\"\"", "[\"\"]", "[1]", "\"a 'b\"", "true"]),
    Setting::new(SERVICE, "user", "string: user[:group], names or numbers", "root", |d, v, cx| {
        value::put_some(&mut d.service.user, value::user(v, cx));
    })
    .help(
        "Who it runs as. Names are looked up in `/etc/passwd` and `/etc/group` of the \
         unit's own root. Without a group it is the user's own one, and the \
         supplementary groups come from `/etc/group`; a number that is not in \
         `/etc/passwd` has group 0.",
    )
    .good(&["\"www-data\"", "\"1000:1000\"", "33", "\"redis:adm\""])
    .bad(&[
        "-1",
        "\"-1\"",
        "4294967295",
        "\"4294967295\"",
        "\"\"",
        "\"a b\"",
        "\"a:\"",
        "\":a\"",
        "[]",
    ]),
    Setting::new(SERVICE, "working-directory", "path inside the root", "\"/\"", |d, v, cx| {
        let path = value::path(v, cx).map(|path| cx.at(v.place, path));
        put(&mut d.service.working_directory, path);
    })
    .help("Where it starts.")
    .good(&["\"/srv\""])
    .bad(&["\"srv\"", "\"/srv/../etc\"", "1"]),
    Setting::new(SERVICE, "environment", "table of strings", "{}", |d, v, cx| {
        put(&mut d.service.environment, environment(v, cx));
    })
    .help(
        "Variables. Numbers and true or false are taken as their text. A later unit \
         directory adds to the table.",
    )
    .good(&["{ TZ = \"UTC\", WORKERS = 4 }"])
    .bad(&["[]", "{ \"A=B\" = \"x\" }", "{ \"\" = \"x\" }", "{ A = [] }", "\"A=B\""]),
    Setting::new(SERVICE, "environment-files", "list of host paths", "[]", |d, v, cx| {
        let files = value::list(v, "a list of paths", cx, |item, cx| {
            let text = value::text(item, cx)?;
            let (mark, path) = match text.strip_prefix('-') {
                Some(path) => ("-", path),
                None => ("", text),
            };
            let path = value::host_path(path, item.place, cx)?;
            Some(cx.at(item.place, format!("{mark}{path}")))
        });
        put(&mut d.service.environment_files, files);
    })
    .help(
        "Files of `NAME=value` lines, read from the host at each start; they win over \
         `environment`. A `-` before the path: it may be missing. `./` and `../` are meant \
         from the directory of the unit file.",
    )
    .good(&["[\"/etc/web.env\", \"-/etc/web.local.env\"]", "[\"-./web.env\"]"])
    .bad(&["[\"web.env\"]", "[\"/etc/../x\"]", "\"/etc/web.env\""]),
    Setting::new(SERVICE, "umask", "octal mode", "\"0022\"", |d, v, cx| {
        let mode = value::mode(v, cx).and_then(|mode| {
            if mode <= 0o777 { Some(mode) } else { cx.refuse(v, "a umask is at most \"0777\"") }
        });
        put(&mut d.service.umask, mode);
    })
    .help("Permissions that files it makes do not get.")
    .good(&["\"0027\""])
    .bad(&["\"0999\"", "18", "\"1777\"", "\"\""]),
    Setting::new(SERVICE, "start-pre", COMMANDS, "[]", |d, v, cx| {
        put(&mut d.service.start_pre, value::commands(v, cx));
    })
    .help(
        "Run one after the other in the unit before the command; the first that fails \
         ends the start.",
    )
    .good(&["[[\"mkdir\", \"-p\", \"/tmp/x\"], [\"true\"]]", "\"mkdir -p /tmp/x\""])
    .bad(BAD_COMMANDS),
    Setting::new(SERVICE, "start-post", COMMANDS, "[]", |d, v, cx| {
        put(&mut d.service.start_post, value::commands(v, cx));
    })
    .help("Run once the service is ready, before others that wait for it go on.")
    .good(&["[[\"touch\", \"/tmp/up\"]]"])
    .bad(BAD_COMMANDS),
    Setting::new(SERVICE, "stop-post", COMMANDS, "[]", |d, v, cx| {
        put(&mut d.service.stop_post, value::commands(v, cx));
    })
    .help("Run once the main process has ended, however it ended.")
    .good(&["[[\"rm\", \"-f\", \"/tmp/x\"]]"])
    .bad(BAD_COMMANDS),
    Setting::new(SERVICE, "stop-command", COMMAND, "[]", |d, v, cx| {
        value::optional_command(&mut d.service.stop_command, v, cx);
    })
    .help("Run in the unit before the stop signal is sent.")
    .good(&["[\"redis-cli\", \"shutdown\"]", "[]"])
    .bad(&["[1]", "\"\"", "3"]),
    Setting::new(SERVICE, "reload-command", COMMAND, "[]", |d, v, cx| {
        value::optional_command(&mut d.service.reload_command, v, cx);
    })
    .help("What `berthctl reload` runs in the unit, instead of sending `reload-signal`.")
    .good(&["[\"nginx\", \"-s\", \"reload\"]", "[]"])
    .bad(&["[1]", "\"\"", "3"]),
];

/// Reads the variables, in the order written.
fn environment(node: &Node, cx: &mut Context<'_>) -> Option<Vec<(String, String)>> {
    let table = value::table(node, cx)?;
    let mut read = Vec::with_capacity(table.0.len());
    for entry in &table.0 {
        let name = &entry.key;
        if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
            let message = format!("{} is not a variable's name", quote(name));
            let at = Node { place: entry.place, value: Value::Refused };
            read.push(cx.refuse(&at, message));
            continue;
        }
        let text = match &entry.node.value {
            Value::String(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => cx.expected(&entry.node, "a string"),
        };
        read.push(text.map(|text| (name.clone(), text)));
    }
    read.into_iter().collect()
}
