//! The second step of a layout: the order within each layer, with few crossings.
//!
//! Sweeps down and up, each place to the middle of those it is tied to; the best order that
//! was seen counts. What must always hold: the same graph gives the same order; the work is
//! bounded whatever the graph.

use super::layers::Layered;
use crate::ctl::svg::float;

/// Most sweeps in each direction.
const SWEEPS: usize = 16;

/// Beyond so many pieces of edges nobody sees crossings any more: one sweep must do.
const PIECES_MAX: usize = 6_000;

/// The places of each layer, from left to right.
pub fn order(layered: &Layered) -> Vec<Vec<usize>> {
    let mut layers = begin(layered);
    let ties = Ties::of(layered);
    let mut best = (crossings(layered, &layers), layers.clone());
    let sweeps = if layered.pieces.len() > PIECES_MAX { 1 } else { SWEEPS };
    for _ in 0..sweeps {
        for down in [true, false] {
            sweep(&mut layers, &ties, down);
            let now = crossings(layered, &layers);
            if now < best.0 {
                best = (now, layers.clone());
            }
        }
        if best.0 == 0 {
            break;
        }
    }
    best.1
}

/// What each place is tied to above and below.
struct Ties {
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
}

impl Ties {
    fn of(layered: &Layered) -> Self {
        let mut above = vec![Vec::new(); layered.places.len()];
        let mut below = above.clone();
        for &(from, to, _) in &layered.pieces {
            if let (Some(below), Some(above)) = (below.get_mut(from), above.get_mut(to)) {
                below.push(to);
                above.push(from);
            }
        }
        Self { above, below }
    }
}

/// Each place as it is come to by a walk from the top: what belongs together is together.
fn begin(layered: &Layered) -> Vec<Vec<usize>> {
    let ties = Ties::of(layered);
    let mut layers = vec![Vec::new(); layered.layers];
    let mut seen = vec![false; layered.places.len()];
    for start in 0..layered.places.len() {
        let mut stack = vec![start];
        while let Some(at) = stack.pop() {
            if std::mem::replace(seen.get_mut(at).unwrap_or(&mut true), true) {
                continue;
            }
            let layer = layered.layer.get(at).and_then(|&layer| layers.get_mut(layer));
            if let Some(layer) = layer {
                layer.push(at);
            }
            stack.extend(ties.below.get(at).into_iter().flatten().rev());
        }
    }
    layers
}

/// Where each place is within its layer.
fn positions(layers: &[Vec<usize>], places: usize) -> Vec<usize> {
    let mut positions = vec![0_usize; places];
    for layer in layers {
        for (index, &at) in layer.iter().enumerate() {
            if let Some(position) = positions.get_mut(at) {
                *position = index;
            }
        }
    }
    positions
}

/// Each layer after the other in the order of what its places are tied to.
fn sweep(layers: &mut [Vec<usize>], ties: &Ties, down: bool) {
    let mut positions = positions(layers, ties.above.len());
    let neighbours = if down { &ties.above } else { &ties.below };
    let count = layers.len();
    for step in 0..count {
        let index = if down { step } else { count.saturating_sub(step).saturating_sub(1) };
        let Some(layer) = layers.get_mut(index) else { continue };
        let middle = |at: usize, positions: &[usize]| -> Option<f64> {
            let mut there: Vec<usize> = neighbours
                .get(at)?
                .iter()
                .filter_map(|other| positions.get(*other).copied())
                .collect();
            there.sort_unstable();
            median(&there)
        };
        // What is tied to nothing stays where it is, as far as the others leave it there.
        let mut keyed: Vec<(f64, usize)> = layer
            .iter()
            .enumerate()
            .map(|(index, &at)| (middle(at, &positions).unwrap_or_else(|| float(index)), at))
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (index, &(_, at)) in keyed.iter().enumerate() {
            if let Some(position) = positions.get_mut(at) {
                *position = index;
            }
        }
        *layer = keyed.into_iter().map(|(_, at)| at).collect();
    }
}

/// The middle one; of two middle ones what is between them.
fn median(sorted: &[usize]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(float(*upper), float(*lower)))
}

/// How many pairs of pieces cross.
pub fn crossings(layered: &Layered, layers: &[Vec<usize>]) -> usize {
    let positions = positions(layers, layered.places.len());
    let position = |at: usize| positions.get(at).copied().unwrap_or(0);
    let mut between: Vec<Vec<(usize, usize)>> = vec![Vec::new(); layered.layers];
    for &(from, to, _) in &layered.pieces {
        let layer = layered.layer.get(from).and_then(|&layer| between.get_mut(layer));
        if let Some(layer) = layer {
            layer.push((position(from), position(to)));
        }
    }
    between.into_iter().map(inversions).sum()
}

/// Pairs whose first and second numbers are in opposite order: counted with a tree of sums
/// (Fenwick), so that a thousand edges are no million steps.
fn inversions(mut pairs: Vec<(usize, usize)>) -> usize {
    pairs.sort_unstable();
    let size = pairs.iter().map(|pair| pair.1).max().map_or(0, |last| last.saturating_add(1));
    let mut sums = vec![0_usize; size.saturating_add(1)];
    let mut crossings = 0_usize;
    for (seen, &(_, to)) in pairs.iter().enumerate() {
        // So far, how many end at or before this one?
        let mut before = 0_usize;
        let mut at = to.saturating_add(1);
        while at > 0 {
            before = before.saturating_add(sums.get(at).copied().unwrap_or(0));
            at &= at.saturating_sub(1);
        }
        crossings = crossings.saturating_add(seen.saturating_sub(before));
        let mut at = to.saturating_add(1);
        while let Some(sum) = sums.get_mut(at) {
            *sum = sum.saturating_add(1);
            at = at.saturating_add(at & at.wrapping_neg());
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::graph::layers::{Graph, layered};

    #[test]
    fn crossings_are_counted() {
        assert_eq!(inversions(vec![(0, 1), (1, 0)]), 1);
        assert_eq!(inversions(vec![(0, 2), (1, 1), (2, 0)]), 3);
        assert_eq!(inversions(vec![(0, 0), (0, 1), (1, 1), (1, 2)]), 0);
    }

    #[test]
    fn what_can_be_drawn_without_crossings_is() {
        // Two stars whose boxes are numbered in turn, under one root.
        let mut edges = vec![(0, 1, 0), (0, 2, 0)];
        edges.extend((3..13).map(|to| (1 + to % 2, to, 0)));
        let it = layered(&Graph { boxes: 13, edges }, 20);
        let order = order(&it);
        assert_eq!(crossings(&it, &order), 0);
        assert_eq!(order.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 10]);
    }
}
