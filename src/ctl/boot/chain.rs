//! `berthctl critical-chain`: what a unit's start waited for, link by link, as a tree.
//!
//! What must always hold: the tree ends, whatever the server sends: a unit is shown once.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::{Boot, span, took};
use crate::ctl::Context;
use crate::ctl::failure::Failure;
use crate::ctl::render::{self, Color};
use crate::protocol::insight::Phases;
use crate::protocol::types::{Dependency, DependencyKind};
use crate::unit::names;

/// How deep a tree is drawn; deeper, only the names would not fit any screen.
const DEEPEST: usize = 100;

/// The target that comes first on a machine.
const STAGE: &str = "boot";

/// A line of the tree.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Which unit.
    pub name: String,
    /// How deep: what `depth - 1` above it waited for.
    pub depth: usize,
    /// When it was ready, in microseconds after the supervisor began.
    pub ready: i64,
    /// How long its own start took; null for what takes no time of its own.
    pub took: Option<i64>,
}

/// Prints the chain of these units, or of the target that was booted.
///
/// # Errors
/// See [`Failure`].
pub fn run(
    context: &mut Context,
    units: Vec<String>,
    fuzz: i64,
    json: bool,
) -> Result<(), Failure> {
    let boot = Boot::fetch(context)?;
    let dependencies = super::dependencies(context)?;
    let roots = if units.is_empty() { vec![boot.target().to_owned()] } else { units };
    let mut trees = Vec::new();
    for root in &roots {
        trees.push(tree(&boot, &dependencies, root, fuzz)?);
    }
    if json {
        let links: Vec<&Link> = trees.iter().flatten().collect();
        return context.json(&links);
    }
    let about = "The time when a unit was ready is behind @, how long its own start took behind +.";
    context.say(&context.style.paint(Color::Dim, about))?;
    context.say(&boot.summary())?;
    for tree in trees {
        context.say("")?;
        for (index, link) in tree.iter().enumerate() {
            let below = tree.get(index.saturating_add(1)..).unwrap_or_default();
            context.say(&line(context, link, below))?;
        }
    }
    Ok(())
}

fn tree(
    boot: &Boot,
    dependencies: &[Dependency],
    root: &str,
    fuzz: i64,
) -> Result<Vec<Link>, Failure> {
    let Some(unit) = boot.unit(root) else {
        let all = boot.units.iter().map(|unit| unit.name.as_str());
        let nearest = names::nearest(root, all).map(str::to_owned);
        let unit = root.to_owned();
        return Err(Failure::Answered(crate::protocol::Error::NoSuchUnit { unit, nearest }));
    };
    if unit.first.and_then(|phases| phases.ready).is_none() {
        let (name, state) = (render::line(root), unit.state);
        return Err(Failure::Other(format!(
            "{name} has not been ready since the supervisor began; it is {state} \
             (see `berthctl status {name}`)"
        )));
    }
    Ok(chain(boot, dependencies, root, fuzz))
}

/// The chain below a unit that was ready: of what it depends on, what was ready last, and
/// whatever was ready at most `fuzz` before that.
pub fn chain(boot: &Boot, dependencies: &[Dependency], root: &str, fuzz: i64) -> Vec<Link> {
    let times: BTreeMap<&str, &Phases> = boot
        .units
        .iter()
        .filter_map(|unit| Some((unit.name.as_str(), unit.first.as_ref()?)))
        .collect();
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for dependency in dependencies.iter().filter(|it| it.kind != DependencyKind::Conflicts) {
        below.entry(&dependency.unit).or_default().push(&dependency.on);
    }
    let ready = |name: &str| times.get(name).and_then(|phases| phases.ready);
    // Everything else on a machine begins when this target is up, without naming it.
    let stage = boot.supervisor.kernel.and_then(|_| ready(STAGE));
    let mut links = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut todo = vec![(root, 0_usize)];
    while let Some((name, depth)) = todo.pop() {
        let (Some(phases), Some(when)) = (times.get(name), ready(name)) else { continue };
        links.push(Link { name: name.to_owned(), depth, ready: when, took: took(phases) });
        // What came later cannot have been waited for.
        let begun = phases.preparing.unwrap_or(when);
        let on = below.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut waited: Vec<(i64, &str)> =
            on.iter().filter_map(|on| Some((ready(on).filter(|&at| at <= begun)?, *on))).collect();
        if waited.is_empty() {
            let stage = stage.filter(|&at| phases.waiting.is_some_and(|since| at <= since));
            waited.extend(stage.map(|at| (at, STAGE)));
        }
        waited.sort_unstable();
        waited.dedup();
        let Some(&(last, _)) = waited.last() else { continue };
        // A stack: the last that is pushed is drawn first.
        for (at, on) in waited {
            let late = last.saturating_sub(at) <= fuzz && (fuzz > 0 || at == last);
            if late && depth < DEEPEST && seen.insert(on) {
                todo.push((on, depth.saturating_add(1)));
            }
        }
    }
    links
}

/// A line; those below it say where the branches go on.
fn line(context: &Context, link: &Link, below: &[Link]) -> String {
    let goes_on = |depth: usize| {
        let next = below.iter().find(|it| it.depth <= depth);
        next.is_some_and(|it| it.depth == depth)
    };
    let mut text = String::new();
    for depth in 1..link.depth {
        text.push_str(if goes_on(depth) { "│ " } else { "  " });
    }
    if link.depth > 0 {
        text.push_str(if goes_on(link.depth) { "├─" } else { "└─" });
    }
    let style = context.style;
    text.push_str(&style.paint(Color::Bold, &render::line(&link.name)));
    text.push_str(" @");
    text.push_str(&span(link.ready));
    if let Some(took) = link.took {
        text.push(' ');
        text.push_str(&style.paint(Color::Yellow, &format!("+{}", span(took))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::insight::UnitTimes;
    use crate::protocol::method::VersionReply;
    use crate::protocol::types::{Kind, State};

    fn boot(units: &[(&str, Option<i64>, i64)]) -> Boot {
        let unit = |&(name, preparing, ready): &(&str, Option<i64>, i64)| UnitTimes {
            name: name.to_owned(),
            kind: Kind::Service,
            state: State::Running,
            first: Some(Phases { preparing, ready: Some(ready), ..Phases::default() }),
            latest: None,
        };
        let supervisor = VersionReply {
            version: "0".to_owned(),
            pid: 1,
            since: String::new(),
            uptime: None,
            kernel: None,
            target: None,
            unwritten: None,
        };
        Boot { supervisor, units: units.iter().map(unit).collect() }
    }

    fn depends(pairs: &[(&str, &str)]) -> Vec<Dependency> {
        let one = |&(unit, on): &(&str, &str)| Dependency {
            unit: unit.to_owned(),
            kind: DependencyKind::Requires,
            on: on.to_owned(),
            state: State::Running,
        };
        pairs.iter().map(one).collect()
    }

    fn names(links: &[Link]) -> Vec<(&str, usize)> {
        links.iter().map(|link| (link.name.as_str(), link.depth)).collect()
    }

    #[test]
    fn follows_what_was_ready_last() {
        let boot = boot(&[
            ("all", None, 100),
            ("web", Some(60), 100),
            ("mail", Some(10), 90),
            ("db", Some(20), 59),
            ("cache", Some(20), 50),
            ("late", Some(200), 300),
        ]);
        let depends = depends(&[
            ("all", "web"),
            ("all", "mail"),
            ("web", "db"),
            ("web", "cache"),
            // Started again since: nobody waited for that.
            ("db", "late"),
            // Nonsense must not be followed for ever.
            ("db", "all"),
        ]);
        let links = chain(&boot, &depends, "all", 0);
        assert_eq!(names(&links), [("all", 0), ("web", 1), ("db", 2)]);
        assert_eq!(links[1].took, Some(40));
        assert_eq!(links[0].took, None);
        let links = chain(&boot, &depends, "all", 10);
        let expected = [("all", 0), ("web", 1), ("db", 2), ("cache", 2), ("mail", 1)];
        assert_eq!(names(&links), expected);
    }
}
