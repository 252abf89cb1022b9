//! The graph as a picture: who depends is above, on whom is below.

use std::fmt::Write as _;

use super::layers::Graph;
use super::place::{HEIGHT, Layout, Rect, Stroke, layout};
use super::{Kind, Net};
use crate::ctl::svg::{self, n, text};
use crate::protocol::types::{self, State, Unit};

/// Size of a name.
const SIZE: f64 = 13.0;
/// Size of what is below it.
const SMALL: f64 = 10.5;
/// Around everything.
const MARGIN: f64 = 24.0;
/// Above the first row: the legend.
const HEAD: f64 = 56.0;
/// Narrowest picture: that of the legend.
const NARROWEST: f64 = 560.0;

const STYLE: &str = ".b{fill:#f6f8fa;fill:var(--band);stroke:#59636e;stroke:var(--soft)}\
.up{fill:#2da44e;fill:var(--ready)}.on{fill:#e08700;fill:var(--starting)}\
.down{fill:#b6bec8;fill:var(--waiting)}.not{fill:#cf222e;fill:var(--bad)}\
.requires,.wants,.after,.conflicts{fill:none;stroke:#59636e;stroke:var(--soft);stroke-width:1.4}\
.wants{stroke-dasharray:6 4}.after{stroke-dasharray:1.5 3.5}\
.conflicts{stroke:#cf222e;stroke:var(--bad);stroke-dasharray:2 4}\
.head{fill:#59636e;fill:var(--soft)}";

/// The picture; `hidden` edges are not in it.
pub fn draw(net: &Net, hidden: usize) -> String {
    let widths: Vec<f64> = net.units.iter().map(width).collect();
    let graph = Graph {
        boxes: net.units.len(),
        edges: net.edges.iter().map(|it| (it.from, it.to, class(it.kind))).collect(),
    };
    let layout = layout(&graph, &widths, row(net.units.len()));
    let size = (layout.width.max(NARROWEST) + 2.0 * MARGIN, layout.height + HEAD + 2.0 * MARGIN);
    let title = format!("{} units and what they depend on", net.units.len());
    let mut out = svg::begin(size.0, size.1, &title, &description(net), STYLE);
    legend(&mut out, net, hidden);
    let left = MARGIN + ((NARROWEST - layout.width) / 2.0).max(0.0);
    let _ = writeln!(out, "<g transform=\"translate({} {})\">", n(left), n(MARGIN + HEAD));
    strokes(&mut out, &layout);
    for (unit, rect) in net.units.iter().zip(&layout.boxes) {
        draw_unit(&mut out, unit, rect);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// About a screen's form: more boxes beside each other the more there are.
fn row(boxes: usize) -> usize {
    (boxes.isqrt().saturating_mul(4) / 5).saturating_add(4)
}

fn width(unit: &Unit) -> f64 {
    (svg::width(&unit.name, SIZE) + 34.0).max(svg::width(&about(unit), SMALL) + 34.0)
}

fn about(unit: &Unit) -> String {
    format!("{} {}", crate::ctl::list::kind(unit.kind), unit.state)
}

fn class(kind: Kind) -> u8 {
    match kind {
        Kind::Requires => 0,
        Kind::Wants => 1,
        Kind::After => 2,
        Kind::Conflicts => 3,
    }
}

fn kind(class: u8) -> Kind {
    Kind::ALL.get(usize::from(class)).copied().unwrap_or(Kind::After)
}

/// All of it in words.
fn description(net: &Net) -> String {
    let mut words = String::new();
    for (number, unit) in net.units.iter().enumerate() {
        let _ = write!(words, "{} ({})", unit.name, about(unit));
        for edge in net.edges.iter().filter(|edge| edge.from == number) {
            let on = net.units.get(edge.to).map_or("", |unit| unit.name.as_str());
            let _ = write!(words, ", {} {on}", edge.kind.word());
        }
        words.push_str(". ");
    }
    words
}

fn legend(out: &mut String, net: &Net, hidden: usize) {
    let mut x = MARGIN;
    for kind in Kind::ALL {
        if !net.edges.iter().any(|edge| edge.kind == kind) {
            continue;
        }
        let word = kind.word();
        let _ = writeln!(
            out,
            "<path class=\"{word}\" d=\"M{} 34h30\"/>\
             <text x=\"{}\" y=\"38\" font-size=\"12\">{word}</text>",
            n(x),
            n(x + 36.0)
        );
        x += 36.0 + svg::width(word, 12.0) + 22.0;
    }
    let mut hint = "arrows lead to what is needed".to_owned();
    if hidden > 0 {
        let which = if hidden == 1 { "one that follows" } else { "those that follow" };
        hint = format!("{hint}; {which} from others: with --all ({hidden})");
    }
    let _ = writeln!(
        out,
        "<text class=\"soft\" x=\"{}\" y=\"58\" font-size=\"11\">{}</text>",
        n(MARGIN),
        text(&hint)
    );
}

fn strokes(out: &mut String, layout: &Layout) {
    for stroke in &layout.strokes {
        let Stroke { from: (x1, y1), to: (x2, y2), class, arrives } = *stroke;
        let kind = kind(class);
        let head = if arrives && kind != Kind::Conflicts { 7.0 } else { 0.0 };
        let end = y2 - head;
        let bend = (end - y1) * 0.55;
        let _ = writeln!(
            out,
            "<path class=\"{}\" d=\"M{} {}C{} {} {} {} {} {}\"/>",
            kind.word(),
            n(x1),
            n(y1),
            n(x1),
            n(y1 + bend),
            n(x2),
            n(end - bend),
            n(x2),
            n(end)
        );
        if head > 0.0 {
            let (x, y) = (n(x2), n(y2));
            let _ = writeln!(out, "<path class=\"head\" d=\"M{x} {y}l-3.5 -7h7z\"/>");
        }
    }
}

fn draw_unit(out: &mut String, unit: &Unit, rect: &Rect) {
    let mark = match unit.state {
        State::Running | State::Done => "up",
        State::Failed => "not",
        State::Inactive => "down",
        State::Waiting
        | State::Preparing
        | State::Starting
        | State::Stopping
        | State::Backoff
        | State::Frozen => "on",
    };
    let round = if unit.kind == types::Kind::Target { HEIGHT / 2.0 } else { 5.0 };
    let _ = writeln!(
        out,
        "<g class=\"unit\"><title>{title}</title>\
         <rect class=\"b\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\"/>\
         <circle class=\"{mark}\" cx=\"{}\" cy=\"{}\" r=\"4\"/>\
         <text x=\"{at}\" y=\"{}\" font-size=\"{SIZE}\">{}</text>\
         <text class=\"soft\" x=\"{at}\" y=\"{}\" font-size=\"{SMALL}\">{}</text></g>",
        n(round),
        n(rect.x + 14.0),
        n(rect.y + 14.0),
        n(rect.y + 18.0),
        text(&unit.name),
        n(rect.y + 32.0),
        text(&about(unit)),
        title = text(&format!("{}: {}", unit.name, about(unit))),
        x = n(rect.x),
        y = n(rect.y),
        width = n(rect.width),
        height = n(HEIGHT),
        at = n(rect.x + 24.0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::DependencyKind::{After, Conflicts, Requires, Wants};

    #[test]
    fn every_unit_and_every_edge_is_drawn_and_names_are_no_markup() {
        let net = super::super::tests::net(&[
            ("default", Wants, "<script>"),
            ("default", Wants, "db"),
            ("<script>", Requires, "db"),
            ("db", After, "a&b"),
            ("old", Conflicts, "db"),
        ]);
        let picture = draw(&net, 2);
        assert_eq!(picture.matches("<g class=\"unit\">").count(), 5);
        assert!(!picture.contains("<script>") && picture.contains("&lt;script&gt;"));
        assert!(
            picture.contains("a&amp;b")
                && picture.contains("those that follow from others: with --all (2)")
        );
        for kind in Kind::ALL {
            let drawn = picture.matches(&format!("<path class=\"{}\"", kind.word())).count();
            // One is in the legend.
            assert!(drawn >= 2, "{}", kind.word());
        }
        assert_eq!(picture.matches("<g").count(), picture.matches("</g>").count());
    }
}
