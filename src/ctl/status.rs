//! `berthctl status`: a table of all units and what berth cannot write down, or all about some.
//!
//! What must always hold: with names, exit code 3 if one of them is neither running nor a
//! oneshot that is done; without names, how units are is no failure.

use jiff::Timestamp;

use super::Context;
use super::client::{ANSWER, HELPER_ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color, LogLines, Table};
use crate::protocol::method::{Logs, Status, Version};
use crate::protocol::types::{Desired, Health, State, UnitStatus};

/// Lines of output in the view of one unit.
const LAST_LINES: u64 = 10;

/// Prints how units are.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, units: Vec<String>, json: bool) -> Result<(), Failure> {
    let named = !units.is_empty();
    let mut found = Vec::new();
    let mut client = context.connect()?;
    client.stream(&Status { units }, &Patience::at_most(ANSWER), |page| {
        found.extend(page.units);
        Ok(())
    })?;
    if json {
        context.json(&found)?;
    } else if named {
        for (index, unit) in found.iter().enumerate() {
            if index > 0 {
                context.say("")?;
            }
            details(context, unit)?;
        }
    } else {
        table(context, &found)?;
        let supervisor = client.call(&Version {}, &Patience::at_most(ANSWER))?;
        super::version::unwritten(context, &supervisor)?;
    }
    let up = |unit: &UnitStatus| matches!(unit.state, State::Running | State::Done);
    if named && !found.iter().all(up) { Err(Failure::Said(3)) } else { Ok(()) }
}

fn table(context: &mut Context, units: &[UnitStatus]) -> Result<(), Failure> {
    let now = Timestamp::now();
    let headings = ["NAME", "STATE", "READY", "PID", "RESTARTS", "SINCE", "MEMORY", "WHY"];
    let mut table = Table::new(&headings);
    for unit in units {
        let since = unit.since.as_deref().and_then(|at| super::time::ago(at, now));
        table.row(vec![
            name(unit),
            (unit.state.to_string(), Color::of_state(unit.state)),
            ready(unit),
            (unit.main_pid.map_or_else(String::new, |pid| pid.to_string()), Color::Plain),
            (unit.restarts.to_string(), Color::Plain),
            (since.unwrap_or_default(), Color::Plain),
            (unit.memory.map_or_else(String::new, render::size), Color::Plain),
            (unit.why.clone(), Color::Plain),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

/// With a mark if it is privileged; no name has this sign.
fn name(unit: &UnitStatus) -> (String, Color) {
    match unit.privileged {
        Some(true) => (format!("{} (privileged)", unit.name), Color::Yellow),
        Some(false) | None => (unit.name.clone(), Color::Plain),
    }
}

fn oom_kills(unit: &UnitStatus) -> String {
    let last =
        unit.oom_victim.as_ref().map_or_else(String::new, |who| format!(", the last: {who}"));
    format!("{}{last}", unit.oom_kills)
}

fn ready(unit: &UnitStatus) -> (String, Color) {
    let ready = if unit.ready { "yes" } else { "no" };
    match unit.health {
        None => (ready.to_owned(), Color::Plain),
        Some(Health::Starting) => (format!("{ready} (no verdict)"), Color::Yellow),
        Some(Health::Healthy) => (format!("{ready} (healthy)"), Color::Green),
        Some(Health::Unhealthy) => (format!("{ready} (unhealthy)"), Color::Red),
    }
}

fn details(context: &mut Context, unit: &UnitStatus) -> Result<(), Failure> {
    let mut title = context.style.paint(Color::Bold, &render::line(&unit.name));
    if !unit.description.is_empty() {
        title = format!("{title}: {}", render::line(&unit.description));
    }
    context.say(&title)?;
    for (label, (text, color)) in facts(unit) {
        let text = context.style.paint(color, &render::line(&text));
        context.say(&format!("{label:>11}: {text}"))?;
    }
    last_lines(context, &unit.name)
}

/// What is worth a line, with its label.
fn facts(unit: &UnitStatus) -> Vec<(&'static str, (String, Color))> {
    let now = Timestamp::now();
    let plain = |text: String| (text, Color::Plain);
    let mut state = unit.state.to_string();
    if !unit.why.is_empty() {
        state = format!("{state} ({})", unit.why);
    }
    let desired = match unit.desired {
        Desired::Up => "up",
        Desired::Down => "down",
    };
    let mut facts = vec![
        ("kind", plain(super::list::kind(unit.kind).to_owned())),
        ("state", (state, Color::of_state(unit.state))),
        ("desired", plain(desired.to_owned())),
    ];
    if let Some(since) = &unit.since {
        let ago = super::time::ago(since, now).map_or_else(String::new, |t| format!(" ({t} ago)"));
        facts.push(("since", plain(format!("{}{ago}", super::time::local(since)))));
    }
    facts.push(("ready", ready(unit)));
    let mut add = |label, text: Option<String>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            facts.push((label, plain(text)));
        }
    };
    add("says", Some(unit.status_text.clone()));
    add("main pid", unit.main_pid.map(|pid| pid.to_string()));
    add("run", unit.run.map(|run| run.to_string()));
    add("restarts", Some(unit.restarts.to_string()));
    add("last exit", unit.exit.map(render::exit));
    add("result", unit.result.clone());
    add("memory", unit.memory.map(render::size));
    add("oom kills", (unit.oom_kills > 0).then(|| oom_kills(unit)));
    add("cgroup", unit.cgroup.clone());
    add("ports", unit.ports.as_ref().map(|ports| ports.join(" ")));
    if let Some(map) = &unit.user_namespace {
        facts.push(("users", users(map)));
    }
    if let Some(why) = &unit.no_user_namespace {
        facts.push(("users", (format!("the host's: {why}"), Color::Yellow)));
    }
    if unit.privileged == Some(true) {
        facts.push(("privileged", ("yes: it has all capabilities".to_owned(), Color::Yellow)));
    }
    if !unit.unenforced.is_empty() {
        let limits = format!("{} (this host cannot)", unit.unenforced.join(", "));
        facts.push(("not applied", (limits, Color::Yellow)));
    }
    facts
}

/// Whose numbers they are on the host, with a mark if root is among them.
fn users(map: &str) -> (String, Color) {
    let has_root = map.split(' ').any(|range| range.split(':').nth(1) == Some("0"));
    if has_root {
        return (format!("{map} (inside:host:count), root of the host among them"), Color::Yellow);
    }
    (format!("{map} (inside:host:count)"), Color::Plain)
}

/// The unit's last output. That there is none to be had is said, and no failure.
fn last_lines(context: &mut Context, unit: &str) -> Result<(), Failure> {
    let call =
        Logs { units: vec![unit.to_owned()], lines: Some(LAST_LINES), since: None, follow: false };
    let mut entries = Vec::new();
    // A connection of its own: a helper of the supervisor may own this one from then on.
    let read = context.connect().and_then(|mut client| {
        client.stream(&call, &Patience::at_most(HELPER_ANSWER), |page| {
            entries.extend(page.entries);
            Ok(())
        })
    });
    match read {
        Ok(()) if entries.is_empty() => Ok(()),
        Ok(()) => {
            context.say("")?;
            let mut lines = LogLines::new(context.style, false);
            for entry in entries {
                lines.write(context.out, entry).map_err(Failure::Output)?;
            }
            lines.finish(context.out).map_err(Failure::Output)
        }
        Err(failure) => context.say(&format!(
            "\n(its output cannot be shown: {})",
            render::line(&failure.to_string())
        )),
    }
}
