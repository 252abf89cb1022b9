//! The third step of a layout: where everything is. Each layer is a row; within it each
//! place goes as near as it can to the middle of what it is tied to, in the order given.
//!
//! What must always hold: nothing overlaps; an edge keeps to its own places, so it crosses
//! no box; every piece of it leads downwards.

use std::collections::BTreeMap;

use super::layers::{Graph, Layered, Place, layered};
use super::order::order;
use crate::ctl::svg::float;

/// Height of a box.
pub const HEIGHT: f64 = 40.0;
/// Between two boxes of a row.
const GAP: f64 = 22.0;
/// What an edge that passes takes of a row.
const PASS: f64 = 14.0;
/// Between rows, at least.
const BETWEEN: f64 = 46.0;
/// How often rows are moved towards each other.
const ROUNDS: usize = 24;
/// Between ends of edges at one box.
const PORT: f64 = 12.0;

/// A box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Its left side.
    pub x: f64,
    /// Its top.
    pub y: f64,
    /// Its width; all are [`HEIGHT`] high.
    pub width: f64,
}

/// A piece of an edge, from row to row or through a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stroke {
    /// Its upper end.
    pub from: (f64, f64),
    /// Its lower end.
    pub to: (f64, f64),
    /// As its edge's.
    pub class: u8,
    /// Whether a box is at its lower end.
    pub arrives: bool,
}

/// Where everything is.
#[derive(Debug, Default)]
pub struct Layout {
    /// By number.
    pub boxes: Vec<Rect>,
    /// In no order.
    pub strokes: Vec<Stroke>,
    /// Of all of it.
    pub width: f64,
    /// Of all of it.
    pub height: f64,
}

/// Lays out a graph whose boxes have these widths, at most so many in a row.
pub fn layout(graph: &Graph, widths: &[f64], row: usize) -> Layout {
    let layered = layered(graph, row);
    let rows = order(&layered);
    let width = |at: usize| match layered.places.get(at) {
        Some(Place::Box(number)) => widths.get(*number).copied().unwrap_or(0.0),
        Some(Place::Pass) | None => 0.0,
    };
    let centers = centers(&layered, &rows, &width);
    let tops = tops(&layered);
    let top = |at: usize| layered.layer.get(at).and_then(|&row| tops.get(row)).copied();
    let mut layout = Layout::default();
    for at in 0..graph.boxes {
        let (Some(center), Some(y)) = (centers.get(at), top(at)) else { continue };
        let width = width(at);
        layout.boxes.push(Rect { x: center - width / 2.0, y, width });
        layout.width = layout.width.max(center + width / 2.0);
        layout.height = layout.height.max(y + HEIGHT);
    }
    for (at, place) in layered.places.iter().enumerate() {
        if let (Place::Pass, Some(&x), Some(y)) = (place, centers.get(at), top(at)) {
            layout.width = layout.width.max(x + PASS / 2.0);
            let class = layered.pieces.iter().find(|piece| piece.1 == at).map_or(0, |it| it.2);
            let (from, to) = ((x, y), (x, y + HEIGHT));
            layout.strokes.push(Stroke { from, to, class, arrives: false });
        }
    }
    let ports = Ports::of(&layered, &centers, &width);
    for piece in &layered.pieces {
        let (Some(above), Some(below)) = (top(piece.0), top(piece.1)) else { continue };
        let (from, to) = ports.of_piece(piece);
        layout.strokes.push(Stroke {
            from: (from, above + HEIGHT),
            to: (to, below),
            class: piece.2,
            arrives: matches!(layered.places.get(piece.1), Some(Place::Box(_))),
        });
    }
    layout
}

/// The top of each row: where many edges go there is more room for them.
fn tops(layered: &Layered) -> Vec<f64> {
    let mut pieces = vec![0_usize; layered.layers];
    for (from, _, _) in &layered.pieces {
        let row = layered.layer.get(*from).and_then(|&row| pieces.get_mut(row));
        if let Some(row) = row {
            *row = row.saturating_add(1);
        }
    }
    let mut y = 0.0;
    let mut tops = Vec::new();
    for count in pieces {
        tops.push(y);
        y += HEIGHT + BETWEEN + (float(count) * 1.5).min(60.0);
    }
    tops
}

/// The middle of each place.
fn centers(layered: &Layered, rows: &[Vec<usize>], width: &dyn Fn(usize) -> f64) -> Vec<f64> {
    let mut centers = vec![0.0; layered.places.len()];
    let mut above = vec![Vec::new(); layered.places.len()];
    let mut below = above.clone();
    for &(from, to, _) in &layered.pieces {
        if let (Some(below), Some(above)) = (below.get_mut(from), above.get_mut(to)) {
            below.push(to);
            above.push(from);
        }
    }
    let gap = |a: usize, b: usize| {
        let passes = |at: usize| layered.places.get(at) == Some(&Place::Pass);
        let room = if passes(a) && passes(b) { PASS } else { GAP };
        f64::midpoint(width(a), width(b)) + room
    };
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        let last = round.saturating_add(2) >= ROUNDS;
        for step in 0..rows.len() {
            let index = if down { step } else { rows.len().saturating_sub(step).saturating_sub(1) };
            let Some(row) = rows.get(index) else { continue };
            let wish = |at: usize| -> Option<f64> {
                let (first, second) = if down {
                    (above.get(at)?, below.get(at)?)
                } else {
                    (below.get(at)?, above.get(at)?)
                };
                // In the end both sides count.
                let both = last || first.is_empty();
                let tied: Vec<f64> = first
                    .iter()
                    .chain(second.iter().filter(|_| both))
                    .filter_map(|other| centers.get(*other).copied())
                    .collect();
                (!tied.is_empty()).then(|| tied.iter().sum::<f64>() / float(tied.len()))
            };
            let wishes: Vec<f64> = row
                .iter()
                .map(|&at| wish(at).unwrap_or_else(|| centers.get(at).copied().unwrap_or(0.0)))
                .collect();
            let gaps: Vec<f64> =
                row.iter().zip(row.iter().skip(1)).map(|(a, b)| gap(*a, *b)).collect();
            for (&at, x) in row.iter().zip(nearest(&wishes, &gaps)) {
                if let Some(center) = centers.get_mut(at) {
                    *center = x;
                }
            }
        }
    }
    let left = (0..centers.len())
        .filter_map(|at| Some(centers.get(at)? - width(at).max(PASS) / 2.0))
        .fold(f64::INFINITY, f64::min);
    centers.iter().map(|x| x - left).collect()
}

/// As near to the wishes as the gaps allow (the least sum of squares): neighbours that would
/// come too near move as one, to the mean of what they wish.
fn nearest(wishes: &[f64], gaps: &[f64]) -> Vec<f64> {
    // What each is right of the first when they touch.
    let mut offsets = vec![0.0];
    for gap in gaps {
        offsets.push(offsets.last().copied().unwrap_or(0.0) + gap);
    }
    // Groups: the mean of their wishes without offsets, and how many they are.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        let mut group = (wish - offset, 1_usize);
        while let Some(&(mean, count)) = groups.last()
            && mean > group.0
        {
            groups.pop();
            let both = count.saturating_add(group.1);
            group = ((mean * float(count) + group.0 * float(group.1)) / float(both), both);
        }
        groups.push(group);
    }
    let means = groups.iter().flat_map(|&(mean, count)| std::iter::repeat_n(mean, count));
    means.zip(&offsets).map(|(mean, offset)| mean + offset).collect()
}

/// Where edges leave and reach boxes: beside each other, in the order of their other ends.
struct Ports {
    out: BTreeMap<(usize, usize, u8), f64>,
    into: BTreeMap<(usize, usize, u8), f64>,
}

impl Ports {
    fn of(layered: &Layered, centers: &[f64], width: &dyn Fn(usize) -> f64) -> Self {
        let center = |at: usize| centers.get(at).copied().unwrap_or(0.0);
        let spread = |end: fn(&(usize, usize, u8)) -> (usize, usize)| {
            let mut by_place: BTreeMap<usize, Vec<(usize, usize, u8)>> = BTreeMap::new();
            for piece in &layered.pieces {
                by_place.entry(end(piece).0).or_default().push(*piece);
            }
            let mut ports = BTreeMap::new();
            for (at, mut pieces) in by_place {
                pieces.sort_by(|a, b| center(end(a).1).total_cmp(&center(end(b).1)));
                let steps = float(pieces.len().saturating_sub(1));
                let room = (width(at) - 2.0 * PORT).max(0.0);
                let step = if steps > 0.0 { (room / steps).min(PORT) } else { 0.0 };
                for (index, piece) in pieces.iter().enumerate() {
                    ports.insert(*piece, center(at) + (float(index) - steps / 2.0) * step);
                }
            }
            ports
        };
        Self { out: spread(|piece| (piece.0, piece.1)), into: spread(|piece| (piece.1, piece.0)) }
    }

    fn of_piece(&self, piece: &(usize, usize, u8)) -> (f64, f64) {
        let at = |ports: &BTreeMap<_, f64>| ports.get(piece).copied().unwrap_or(0.0);
        (at(&self.out), at(&self.into))
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nothing overlaps, edges lead downwards, and cross no box.
    fn check(graph: &Graph, widths: &[f64], row: usize) -> Layout {
        let it = layout(graph, widths, row);
        assert_eq!(it.boxes.len(), graph.boxes);
        for (index, a) in it.boxes.iter().enumerate() {
            assert!(a.x >= -0.01 && a.x + a.width <= it.width + 0.01, "{a:?}");
            for b in &it.boxes[index + 1..] {
                let apart = a.x + a.width <= b.x || b.x + b.width <= a.x;
                assert!(apart || (a.y - b.y).abs() > HEIGHT, "{a:?} {b:?}");
            }
        }
        for stroke in &it.strokes {
            assert!(stroke.from.1 < stroke.to.1, "{stroke:?}");
            let through = stroke.to.1 - stroke.from.1 <= HEIGHT;
            for a in &it.boxes {
                // From row to row there are no boxes; through a row it is straight.
                let beside = stroke.from.0 < a.x || a.x + a.width < stroke.from.0;
                assert!(
                    !through || (a.y - stroke.from.1).abs() > 1.0 || beside,
                    "{stroke:?} {a:?}"
                );
                let between = a.y + HEIGHT <= stroke.from.1 + 0.01 || stroke.to.1 - 0.01 <= a.y;
                assert!(through || between, "{stroke:?} {a:?}");
            }
        }
        it
    }

    #[test]
    fn places_are_as_near_as_can_be() {
        assert_eq!(nearest(&[0.0, 0.0], &[10.0]), [-5.0, 5.0]);
        assert_eq!(nearest(&[0.0, 50.0], &[10.0]), [0.0, 50.0]);
        assert_eq!(nearest(&[30.0, 0.0, 60.0], &[10.0, 10.0]), [10.0, 20.0, 60.0]);
        assert_eq!(nearest(&[], &[]), Vec::<f64>::new());
    }

    #[test]
    fn a_diamond_is_symmetric() {
        let graph = Graph { boxes: 4, edges: vec![(0, 1, 0), (0, 2, 0), (1, 3, 0), (2, 3, 0)] };
        let it = check(&graph, &[100.0; 4], 8);
        let middle = |at: usize| it.boxes[at].x + it.boxes[at].width / 2.0;
        assert!((middle(0) - middle(3)).abs() < 0.5);
        assert!((middle(1) + middle(2) - 2.0 * middle(0)).abs() < 0.5);
        assert_eq!(it.boxes[1].y.to_bits(), it.boxes[2].y.to_bits());
    }

    #[test]
    fn a_thousand_boxes_take_no_time() {
        let begun = std::time::Instant::now();
        let edges = (1..1000).flat_map(|to| [(to / 3, to, 0), (to / 50, to, 1)]).collect();
        check(&Graph { boxes: 1000, edges }, &[80.0; 1000], 24);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn nothing_overlaps_whatever_the_graph(
            widths in prop::collection::vec(20.0_f64..300.0, 1..40),
            ends in prop::collection::vec((0_usize..40, 0_usize..40, 0_u8..3), 0..120),
            row in 1_usize..12,
        ) {
            let boxes = widths.len();
            let edges = ends.into_iter().map(|(a, b, class)| (a % boxes, b % boxes, class));
            let edges = edges.filter(|(a, b, _)| a != b).collect();
            check(&Graph { boxes, edges }, &widths, row);
        }
    }
}
