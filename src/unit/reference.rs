//! `docs/reference.md`, generated from the table of settings.

use std::fmt::Write as _;

use super::limits;
use super::settings::{self, Section, SectionInfo, Setting, Status};

const INTRODUCTION: &str = "\
<!-- Generated from src/unit/settings/ by scripts/reference. Do not edit. -->

# Unit files

A unit file is [TOML](https://toml.io). Each table `[KIND.NAME]` is one unit, so one file
can hold a whole stack or a single service. `berth check FILE|DIR...` reports every
mistake without starting anything.

```toml
[service.web]
command  = [\"nginx\", \"-g\", \"daemon off;\"]
rootfs   = \"/var/lib/berth/rootfs/web\"
requires = [\"php\"]
ready    = \"tcp:80\"

[service.web.limits]
memory = \"256M\"

[service.php]
command = \"php-fpm --nodaemonize\"
rootfs  = \"/var/lib/berth/rootfs/php\"
```
";

const VALUES: &str = "
## Names

A name is `[A-Za-z0-9][A-Za-z0-9_.@-]*`, up to 64 bytes. Services, targets, sockets and
timers share one set of names.

## Durations

A number and a unit, several may follow each other: `\"500ms\"`, `\"10s\"`, `\"2min\"`,
`\"1h30min\"`, `\"1day\"`. The units are `ns`, `us`, `ms`, `s`, `min`, `h`, `days`, `weeks`
and their usual spellings. A number without a unit is a mistake, but for `0`. The longest
is 366 days.

## Sizes

Bytes as a number, or a string with a binary unit: `65536`, `\"64K\"`, `\"512M\"`, `\"2G\"`,
`\"1T\"`. `K` is 1024.

## Commands

A list is taken word by word. A string is split into words as a shell would split it,
with quotes and backslashes, but no shell runs it: no variables, no patterns, no pipes.
Where several commands are possible (`start-pre`), write a list of lists, or one string
for one command.

## Signals

`\"TERM\"` or `\"SIGTERM\"`, `\"RTMIN+3\"`, `\"RTMAX-1\"`, or a number from 1 to 64 (32 and 33
belong to the C library).

## Paths

Absolute, and without `..`.

## Templates

A service called `NAME@` is a template and does not run itself. When another unit names
`NAME@INSTANCE`, or `berthctl start NAME@INSTANCE` is asked for, a service of that name is
made of it, in which `%i` stands for `INSTANCE` in every text: commands, paths,
environment, user, names of other units and volumes. `%%i` is a plain `%i`. It does not
stand for numbers (the port of `ready = \"tcp:80\"`). An instance is only `wanted-by`
what its template names there. A table of the full name, `[service.\"NAME@INSTANCE\"]`,
is an ordinary service and goes before the template.

## Unit directories

Units are read from `/usr/lib/berth`, `/etc/berth` and `/run/berth/units`, or from the
directories named with `--config`: files that end in `.toml` and do not begin with a dot,
not from directories below. A table in a later directory goes over the one of the same
name in an earlier one, key by key: keys that are only in the earlier one stay; lists
are replaced; tables such as `environment` and `limits` are merged. Of keys that exclude
each other (`rootfs` and `image`, `network` and `networks`, `reload-signal` and
`reload-command`, `file` and `environment` of a secret, the checks of `health`) the later
one wins. The same name twice within
one directory is a mistake, and so is a service that is a target elsewhere.
";

const MISTAKES: &str = "
## Mistakes

All mistakes of all files are reported at once, sorted by file and line:

```
/etc/berth/web.toml:3:1: error: unknown key `restrat` in [service.web]
 3 | restrat = \"always\"
   | ^^^^^^^
help: did you mean `restart`?
```

Columns count characters. A file that cannot be read is reported at `1:1`. What is
dangerous to show on a terminal is escaped. A unit with a mistake is left out, and so is
what requires it; if it was there before, the version before stays in force. Units that
are right are not touched by the mistakes of others.
";

/// The whole text.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## Contents\n\n");
    for info in Section::ALL.iter().filter(|info| info.status == Status::Works) {
        let heading = heading(info);
        let _ = writeln!(out, "- [{heading}](#{})", anchor(&heading));
    }
    for text in ["Names", "Durations", "Sizes", "Commands", "Signals", "Paths", "Templates"] {
        let _ = writeln!(out, "- [{text}](#{})", anchor(text));
    }
    for text in ["Unit directories", "Bounds", "Mistakes", "Not supported yet"] {
        let _ = writeln!(out, "- [{text}](#{})", anchor(text));
    }
    for info in Section::ALL.iter().filter(|info| info.status == Status::Works) {
        section(&mut out, info);
    }
    out.push_str(VALUES);
    bounds(&mut out);
    out.push_str(MISTAKES);
    later(&mut out);
    out
}

fn heading(info: &SectionInfo) -> String {
    if info.title.starts_with('[') {
        format!("`{}`", info.title)
    } else {
        format!("Keys of `{}`", info.title)
    }
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn works(setting: &Setting) -> bool {
    setting.status == Status::Works
}

fn section(out: &mut String, info: &SectionInfo) {
    let _ = writeln!(out, "\n## {}\n\n{}", heading(info), info.help);
    if info.section == Section::Target {
        out.push_str("\nIts keys are, as described above:");
        let keys = settings::of(info.section).map(|setting| format!(" `{}`", setting.key));
        let _ = writeln!(out, "{}.", keys.collect::<Vec<_>>().join(","));
        return;
    }
    for setting in settings::of(info.section).filter(|setting| works(setting)) {
        let Setting { key, kind, default, help, .. } = setting;
        let default = match *default {
            "needed" => "needed".to_owned(),
            text if text.starts_with("needed") || !is_literal(text) => format!("default: {text}"),
            text => format!("default: `{text}`"),
        };
        let _ = writeln!(out, "\n### `{key}`\n\n*{kind}*; {default}\n\n{help}");
        if let Some(example) = setting.good.first() {
            let _ = writeln!(out, "\n```toml\n{key} = {example}\n```");
        }
    }
}

/// Whether a default can be typed as it is shown.
fn is_literal(text: &str) -> bool {
    let quoted = text.starts_with('"') && text.matches('"').count() == 2 && text.ends_with('"');
    quoted
        || matches!(text, "true" | "false")
        || text.parse::<i64>().is_ok()
        || text.starts_with('{')
        || text == "[]"
}

fn bounds(out: &mut String) {
    let rows = [
        ("bytes of one file", limits::FILE_BYTES),
        ("bytes of all files", limits::TOTAL_BYTES as u64),
        ("unit files", limits::FILES as u64),
        ("units", limits::UNITS as u64),
        ("values in one file", limits::NODES as u64),
        ("values in all files", limits::TOTAL_NODES as u64),
        ("entries of a list or table", limits::LIST as u64),
        ("bytes of a string", limits::STRING as u64),
        ("bytes of a name", limits::NAME as u64),
        ("mistakes that are shown", limits::DIAGNOSTICS as u64),
    ];
    out.push_str("\n## Bounds\n\n| at most | |\n| --- | ---: |\n");
    for (what, bound) in rows {
        let _ = writeln!(out, "| {what} | {bound} |");
    }
}

fn later(out: &mut String) {
    out.push_str("\n## Not supported yet\n\nThese are known, and refused until they work.\n\n");
    for info in &Section::ALL {
        let kind = info.kind.unwrap_or_default();
        if let Status::NotYet(missing) = info.status {
            let keys = settings::of(info.section).map(|setting| format!("`{}`", setting.key));
            let keys: Vec<String> = keys.collect();
            let keys =
                if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
            let _ = writeln!(out, "- `[{kind}.NAME]`{keys}: {missing}");
        }
        for setting in settings::of(info.section) {
            if let (Status::NotYet(missing), Status::Works) = (setting.status, info.status) {
                let _ = writeln!(out, "- `{}` in `{}`: {missing}", setting.key, info.title);
            }
        }
    }
    out.push_str(
        "- `network = \"service:NAME\"` in `[service.NAME]`: sharing another service's network\n",
    );
    out.push_str(
        "- `driver = \"journald\"` in `[service.NAME.log]`: the journal as a place for logs\n",
    );
}
