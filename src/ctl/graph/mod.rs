//! `berthctl graph`: who depends on whom, as text for Graphviz or as a picture (SVG).
//!
//! The picture's layout is made here, in three steps ([`layers`], [`order`], [`place`]), so
//! that nobody needs Graphviz. What must always hold: every unit is there; in the text every
//! dependency; in the picture every one that does not follow from others.

pub mod dot;
pub mod layers;
pub mod order;
pub mod place;
pub mod svg;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::Context;
use super::args::GraphFormat;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use crate::protocol::method::{Deps, List};
use crate::protocol::types::{Dependency, DependencyKind, Unit};

/// Units and what they depend on.
#[derive(Debug)]
pub struct Net {
    /// Sorted by name.
    pub units: Vec<Unit>,
    /// By the units' numbers, the strongest of each pair only.
    pub edges: Vec<Edge>,
}

/// One unit depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Number of the one that depends.
    pub from: usize,
    /// On which.
    pub to: usize,
    /// How.
    pub kind: Kind,
}

/// How, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Must be ready first; stops with it.
    Requires,
    /// Started too.
    Wants,
    /// Order only.
    After,
    /// Never both.
    Conflicts,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requires, Self::Wants, Self::After, Self::Conflicts];

    /// As in unit files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Requires => "requires",
            Self::Wants => "wants",
            Self::After => "after",
            Self::Conflicts => "conflicts",
        }
    }
}

impl From<DependencyKind> for Kind {
    fn from(kind: DependencyKind) -> Self {
        match kind {
            DependencyKind::Requires => Self::Requires,
            DependencyKind::Wants => Self::Wants,
            DependencyKind::After => Self::After,
            DependencyKind::Conflicts => Self::Conflicts,
        }
    }
}

/// Prints all units, or these and what they depend on.
///
/// # Errors
/// See [`Failure`].
pub fn run(
    context: &mut Context,
    format: GraphFormat,
    whole: bool,
    units: &[String],
) -> Result<(), Failure> {
    if format == GraphFormat::Svg && context.style.terminal {
        return Err(Failure::Usage(
            "a picture is nothing for a terminal: write `berthctl graph --format svg > graph.svg`"
                .to_owned(),
        ));
    }
    let net = fetch(context, units)?;
    let text = match format {
        GraphFormat::Dot => dot::write(&net),
        GraphFormat::Svg if whole => svg::draw(&net, 0),
        GraphFormat::Svg => {
            let all = net.edges.len();
            let net = net.reduced();
            svg::draw(&net, all.saturating_sub(net.edges.len()))
        }
    };
    context.out.write_all(text.as_bytes()).map_err(Failure::Output)
}

fn fetch(context: &Context, roots: &[String]) -> Result<Net, Failure> {
    let mut client = context.connect()?;
    let patience = Patience::at_most(ANSWER);
    let mut units = Vec::new();
    client.stream(&List {}, &patience, |page| {
        units.extend(page.units);
        Ok(())
    })?;
    let mut dependencies = Vec::new();
    let calls: Vec<Option<String>> =
        if roots.is_empty() { vec![None] } else { roots.iter().cloned().map(Some).collect() };
    for unit in calls {
        client.stream(&Deps { unit, reverse: false }, &patience, |page| {
            dependencies.extend(page.dependencies);
            Ok(())
        })?;
    }
    if !roots.is_empty() {
        let ends = dependencies.iter().flat_map(|it| [&it.unit, &it.on]).chain(roots);
        let shown: HashSet<&String> = ends.collect();
        units.retain(|unit| shown.contains(&unit.name));
    }
    Ok(Net::new(units, &dependencies))
}

impl Net {
    /// From what the supervisor says; what it does not list has no edges.
    pub fn new(mut units: Vec<Unit>, dependencies: &[Dependency]) -> Self {
        units.sort_by(|a, b| a.name.cmp(&b.name));
        units.dedup_by(|a, b| a.name == b.name);
        let numbers: BTreeMap<&str, usize> =
            units.iter().enumerate().map(|(number, unit)| (unit.name.as_str(), number)).collect();
        let mut strongest: BTreeMap<(usize, usize), Kind> = BTreeMap::new();
        for dependency in dependencies {
            let ends = (numbers.get(&*dependency.unit), numbers.get(&*dependency.on));
            let (Some(&from), Some(&to)) = ends else { continue };
            let kind = Kind::from(dependency.kind);
            // Both say that they conflict; one line is enough.
            let ends = match kind {
                Kind::Conflicts => (from.min(to), from.max(to)),
                Kind::Requires | Kind::Wants | Kind::After => (from, to),
            };
            if from != to {
                let known = strongest.entry(ends).or_insert(kind);
                *known = (*known).min(kind);
            }
        }
        let edges = strongest.into_iter().map(|((from, to), kind)| Edge { from, to, kind });
        Self { edges: edges.collect(), units }
    }

    /// Without what follows from the rest: a requirement of a requirement, and what is
    /// wanted or waited for on a longer way as well.
    #[must_use]
    pub fn reduced(self) -> Self {
        let mut out: Vec<Vec<Edge>> = vec![Vec::new(); self.units.len()];
        for edge in &self.edges {
            if let Some(list) = out.get_mut(edge.from) {
                list.push(*edge);
            }
        }
        let edges = self
            .edges
            .iter()
            .filter(|edge| edge.kind == Kind::Conflicts || !another_way(&out, **edge));
        Self { edges: edges.copied().collect(), units: self.units }
    }
}

/// Whether the end of an edge is reached without it, by edges that are as strong.
fn another_way(out: &[Vec<Edge>], edge: Edge) -> bool {
    let mut seen = BTreeSet::from([edge.from]);
    let mut todo = VecDeque::from([edge.from]);
    while let Some(at) = todo.pop_front() {
        for next in out.get(at).map(Vec::as_slice).unwrap_or_default() {
            if next.kind > edge.kind || *next == edge {
                continue;
            }
            if next.to == edge.to {
                return true;
            }
            if seen.insert(next.to) {
                todo.push_back(next.to);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::{self, State};

    pub(super) fn net(edges: &[(&str, DependencyKind, &str)]) -> Net {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(a, _, b)| [*a, *b]).collect();
        let unit = |name: &str| Unit {
            name: name.to_owned(),
            kind: if name == "default" { types::Kind::Target } else { types::Kind::Service },
            state: State::Running,
        };
        let dependency = |&(unit, kind, on): &(&str, DependencyKind, &str)| Dependency {
            unit: unit.to_owned(),
            kind,
            on: on.to_owned(),
            state: State::Running,
        };
        let dependencies: Vec<Dependency> = edges.iter().map(dependency).collect();
        Net::new(names.into_iter().map(unit).collect(), &dependencies)
    }

    fn pairs(net: &Net) -> Vec<String> {
        let name = |at: usize| net.units[at].name.as_str();
        let pair = |it: &Edge| format!("{} {} {}", name(it.from), it.kind.word(), name(it.to));
        net.edges.iter().map(pair).collect()
    }

    #[test]
    fn what_follows_is_left_out() {
        use DependencyKind::{After, Conflicts, Requires, Wants};
        let net = net(&[
            ("default", Wants, "web"),
            ("default", Wants, "db"),
            ("web", Requires, "db"),
            ("web", After, "db"),
            ("web", After, "clock"),
            ("db", After, "clock"),
            ("web", Wants, "cache"),
            ("cache", Requires, "disk"),
            ("web", Requires, "disk"),
            ("old", Conflicts, "web"),
            ("web", Conflicts, "old"),
        ]);
        assert_eq!(net.edges.len(), 9);
        let reduced = net.reduced();
        assert_eq!(
            pairs(&reduced),
            [
                "cache requires disk",
                "db after clock",
                "default wants web",
                "old conflicts web",
                "web wants cache",
                "web requires db",
                // That it wants what requires the disk is not as strong as requiring it.
                "web requires disk",
            ]
        );
    }
}
