//! `berthctl deps`: dependencies as a tree.
//!
//! What must always hold: the tree ends, whatever the server sends: a unit's branches are
//! shown once, and at most so deep as there are units.

use std::collections::{BTreeMap, HashSet};

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color};
use crate::protocol::method::Deps;
use crate::protocol::types::{Dependency, DependencyKind};

/// Prints the tree.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, unit: &str, reverse: bool) -> Result<(), Failure> {
    let call = Deps { unit: Some(unit.to_owned()), reverse };
    let mut branches: BTreeMap<String, Vec<Dependency>> = BTreeMap::new();
    context.connect()?.stream(&call, &Patience::at_most(ANSWER), |page| {
        for dependency in page.dependencies {
            let from = if reverse { &dependency.on } else { &dependency.unit };
            branches.entry(from.clone()).or_default().push(dependency);
        }
        Ok(())
    })?;
    context.say(&context.style.paint(Color::Bold, &render::line(unit)))?;
    // A stack of our own: a chain of a hundred thousand units is no reason to overflow.
    let mut shown = HashSet::from([unit.to_owned()]);
    let mut stack = push(&branches, unit, "");
    while let Some(node) = stack.pop() {
        let name = if reverse { &node.edge.unit } else { &node.edge.on };
        let again = opens(node.edge.kind) && branches.contains_key(name) && shown.contains(name);
        context.say(&line(context, &node, name, again))?;
        if opens(node.edge.kind) && shown.insert(name.clone()) {
            stack.extend(push(&branches, name, &node.inner_indent()));
        }
    }
    Ok(())
}

/// A line that is still to be written.
struct Node<'a> {
    edge: &'a Dependency,
    indent: String,
    last: bool,
}

impl Node<'_> {
    fn inner_indent(&self) -> String {
        // Deeper than any screen, depth is no longer drawn: the text would be quadratic.
        if self.indent.chars().count() > 200 {
            return self.indent.clone();
        }
        format!("{}{}", self.indent, if self.last { "   " } else { "│  " })
    }
}

/// The branches of a unit, the first on top.
fn push<'a>(
    branches: &'a BTreeMap<String, Vec<Dependency>>,
    unit: &str,
    indent: &str,
) -> Vec<Node<'a>> {
    let edges = branches.get(unit).map(Vec::as_slice).unwrap_or_default();
    let node = |(index, edge)| Node { edge, indent: indent.to_owned(), last: index == 0 };
    edges.iter().rev().enumerate().map(node).collect()
}

/// Whether the tree goes on below: order alone pulls nothing in.
fn opens(kind: DependencyKind) -> bool {
    matches!(kind, DependencyKind::Requires | DependencyKind::Wants)
}

fn line(context: &Context, node: &Node, name: &str, again: bool) -> String {
    let branch = if node.last { "└─ " } else { "├─ " };
    let kind = match node.edge.kind {
        DependencyKind::Requires => "requires",
        DependencyKind::Wants => "wants",
        DependencyKind::After => "after",
        DependencyKind::Conflicts => "conflicts",
    };
    let style = context.style;
    let state = style.paint(Color::of_state(node.edge.state), &node.edge.state.to_string());
    let kind = style.paint(Color::Dim, kind);
    let again = if again { " (see above)" } else { "" };
    format!("{}{branch}{kind} {} [{state}]{again}", node.indent, render::line(name))
}
