//! `[service.NAME.health]`

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::diagnostic::Mistake;
use crate::unit::draft::Draft;
use crate::unit::model::{At, HealthCheck};
use crate::unit::syntax::{Node, Value};

const SERVICE: &[Section] = &[Section::Service];
const HEALTH: &[Section] = &[Section::Health];
const TCP: &str = "tcp = 80";

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "health", "table", "none", |d, v, cx| {
        let Some(table) = value::table(v, cx) else { return };
        let before = cx.out.len();
        super::apply(Section::Health, table, d, cx);
        finish(v, d, before, cx);
    })
    .help("See [health](#servicenamehealth).")
    .good(&["{ tcp = 80 }"])
    .bad(&[
        "[]",
        "{}",
        "{ interval = \"1s\" }",
        "{ tcp = 80, command = \"true\" }",
        "{ tpc = 80 }",
    ]),
    Setting::new(HEALTH, "command", "command", "none", |d, v, cx| {
        let command = value::command(v, cx);
        let check =
            command.map(|At { value, line }| At { value: HealthCheck::Command(value), line });
        d.checks.extend(check.map(|check| (v.place, check)));
    })
    .help(
        "Healthy if it exits with 0. If it cannot be run (there is no such program in the \
         unit's root), the service is unhealthy at once.",
    )
    .good(&["[\"curl\", \"-fk\", \"https://localhost/\"]"])
    .bad(&["[]", "1", "\"'\""]),
    Setting::new(HEALTH, "http", "string: http://[ADDRESS]:PORT/PATH", "none", |d, v, cx| {
        let check = http(v, cx).map(|check| cx.at(v.place, check));
        d.checks.extend(check.map(|check| (v.place, check)));
    })
    .help(
        "Healthy if a `GET` is answered with 200 to 399. The address is 127.0.0.1 \
         unless given.",
    )
    .good(&["\"http://:8080/healthz\"", "\"http://127.0.0.1\""])
    .bad(&[
        "\"https://localhost/\"",
        "\":8080\"",
        "\"http://example.org/\"",
        "\"http://:0/\"",
        "\"http://:80/a b\"",
        "80",
    ]),
    Setting::new(HEALTH, "tcp", "port, or ADDRESS:PORT", "none", |d, v, cx| {
        let check = tcp(v, cx).map(|check| cx.at(v.place, check));
        d.checks.extend(check.map(|check| (v.place, check)));
    })
    .help("Healthy if a connection is accepted.")
    .good(&["5432", "\"127.0.0.1:5432\""])
    .bad(&["0", "65536", "\"example.org:80\"", "true"]),
    Setting::new(HEALTH, "interval", "duration", "\"10s\"", |d, v, cx| {
        put(&mut d.health.interval, value::positive_duration(v, cx));
    })
    .help("From the end of one check to the start of the next.")
    .good(&["\"1s\""])
    .bad(&["0", "1", "\"1\""])
    .with(TCP),
    Setting::new(HEALTH, "timeout", "duration", "\"5s\"", |d, v, cx| {
        put(&mut d.health.timeout, value::positive_duration(v, cx));
    })
    .help("A check that takes longer is killed and has failed.")
    .good(&["\"1s\""])
    .bad(&["0", "1", "\"1\""])
    .with(TCP),
    Setting::new(HEALTH, "retries", "whole number", "3", |d, v, cx| {
        put(&mut d.health.retries, value::number(v, 1, 1000, cx));
    })
    .help("So many failures in a row make it unhealthy.")
    .good(&["5"])
    .bad(&["0", "1001", "\"3\""])
    .with(TCP),
    Setting::new(HEALTH, "start-period", "duration", "\"0s\"", |d, v, cx| {
        put(&mut d.health.start_period, value::duration(v, cx));
    })
    .help("Failures within this time after the start do not count.")
    .good(&["\"30s\""])
    .bad(&["30", "\"x\""])
    .with(TCP),
    Setting::new(HEALTH, "on-failure", "\"restart\" | \"none\"", "\"restart\"", |d, v, cx| {
        put(&mut d.health.restart, value::choice(v, &[("restart", true), ("none", false)], cx));
    })
    .help("What is done with an unhealthy service. `none`: it is only reported.")
    .good(&["\"none\"", "\"restart\""])
    .bad(&["\"ignore\"", "false"])
    .with(TCP),
];

/// A health table has exactly one check.
fn finish(node: &Node, draft: &mut Draft, before: usize, cx: &mut Context<'_>) {
    let mut checks = draft.checks.iter();
    match (checks.next(), checks.next()) {
        (Some((_, check)), None) => {
            draft.health.check = check.clone();
            draft.service.health = Some(draft.health.clone());
        }
        (Some((first, _)), Some((second, _))) => {
            let text = "a health table has one check: `command`, `http` or `tcp`";
            cx.out.push(Mistake::new(*second, text).note(*first, "this is one already"));
        }
        (None, _) if cx.out.len() > before => {}
        (None, _) => {
            let help = "add `command`, `http` or `tcp`";
            cx.out.push(Mistake::new(node.place, "this health table has no check").help(help));
        }
    }
}

fn tcp(node: &Node, cx: &mut Context<'_>) -> Option<HealthCheck> {
    let (host, port) = match &node.value {
        Value::Integer(_) => ("127.0.0.1".to_owned(), value::number(node, 1, 65535, cx)?),
        Value::String(text) => match value::endpoint(text) {
            Ok(endpoint) => endpoint,
            Err(problem) => return cx.refuse(node, problem),
        },
        _ => return cx.expected(node, "a port or \"ADDRESS:PORT\""),
    };
    Some(HealthCheck::Tcp { host, port })
}

fn http(node: &Node, cx: &mut Context<'_>) -> Option<HealthCheck> {
    let text = value::text(node, cx)?;
    if text.starts_with("https:") {
        let help = "use `command` with a program that speaks TLS, such as curl";
        return cx.advise(node, "a check over https is not built in", help);
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return cx.refuse(node, "a health address begins with http://");
    };
    let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some((authority, path)) => (authority, path),
        None => (rest, "/"),
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return cx.refuse(node, "a path of an address has only visible ASCII characters");
    }
    let has_port = authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    let endpoint = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    match value::endpoint(&endpoint) {
        Ok((host, port)) => Some(HealthCheck::Http { host, port, path: path.to_owned() }),
        Err(problem) => cx.refuse(node, problem),
    }
}
