//! The graph as text for Graphviz: `berthctl graph | dot -Tpng > graph.png`.

use std::fmt::Write as _;

use super::{Kind, Net};
use crate::ctl::render;
use crate::protocol::types;

/// All units and all their dependencies.
pub fn write(net: &Net) -> String {
    let mut out = String::from(
        "// requires: solid, wants: dashed, after: dotted, conflicts: red\n\
         digraph berth {\n\
         \x20 node [shape=box, style=rounded, fontname=\"monospace\"];\n",
    );
    // Writing to a String does not fail.
    for unit in &net.units {
        let shape = if unit.kind == types::Kind::Target { ", shape=ellipse" } else { "" };
        let _ = writeln!(out, "  {} [tooltip=\"{}\"{shape}];", quoted(&unit.name), unit.state);
    }
    for edge in &net.edges {
        let name = |at: usize| net.units.get(at).map_or(String::new(), |unit| quoted(&unit.name));
        let style = match edge.kind {
            Kind::Requires => "",
            Kind::Wants => " [style=dashed]",
            Kind::After => " [style=dotted]",
            Kind::Conflicts => " [color=red, dir=none, constraint=false]",
        };
        let _ = writeln!(out, "  {} -> {}{style};", name(edge.from), name(edge.to));
    }
    out.push_str("}\n");
    out
}

/// A name as Graphviz reads it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", render::line(name).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::DependencyKind::{Conflicts, Requires, Wants};

    #[test]
    fn every_unit_and_every_dependency_is_there() {
        let net = super::super::tests::net(&[
            ("default", Wants, "web"),
            ("web", Requires, "a\"b\\"),
            ("web", Conflicts, "old"),
        ]);
        let lines: Vec<String> = write(&net).lines().map(str::to_owned).collect();
        let nodes = &lines[3..7];
        assert_eq!(nodes[0], "  \"a\\\"b\\\\\" [tooltip=\"running\"];");
        assert_eq!(nodes[1], "  \"default\" [tooltip=\"running\", shape=ellipse];");
        assert_eq!(
            lines[7..],
            [
                "  \"default\" -> \"web\" [style=dashed];",
                "  \"old\" -> \"web\" [color=red, dir=none, constraint=false];",
                "  \"web\" -> \"a\\\"b\\\\\";",
                "}",
            ]
        );
    }
}
