//! The first step of a layout: every box gets a layer, and every edge that is longer than
//! from one layer to the next gets a place on its way in each layer between.
//!
//! What must always hold: an edge leads from a layer to a lower one, also where the graph
//! has a circle (then one of its edges is turned round for the picture); no layer has more
//! boxes than asked for.

use std::collections::{BTreeMap, BinaryHeap};

/// What is to be laid out: boxes by number, edges by the numbers of their ends and a class.
/// Edges of a class look the same, so those with a common end may go the same way.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// How many boxes there are.
    pub boxes: usize,
    /// From, to, class. None from a box to itself.
    pub edges: Vec<(usize, usize, u8)>,
}

/// Something that takes a place in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The box of this number.
    Box(usize),
    /// An edge passes.
    Pass,
}

/// A graph in layers, in which every piece of an edge leads to the next layer.
#[derive(Debug, Default)]
pub struct Layered {
    /// All places: first the boxes, by number, then the passes.
    pub places: Vec<Place>,
    /// The layer of each place.
    pub layer: Vec<usize>,
    /// Pieces of edges: from a place, to one in the next layer, class. None twice.
    pub pieces: Vec<(usize, usize, u8)>,
    /// How many layers there are.
    pub layers: usize,
}

/// Gives every box a layer, at most `width` boxes each.
pub fn layered(graph: &Graph, width: usize) -> Layered {
    let edges = without_circles(graph);
    let layer = layers(graph.boxes, &edges, width.max(1));
    let mut it = Layered {
        places: (0..graph.boxes).map(Place::Box).collect(),
        layers: layer.iter().max().map_or(0, |last| last.saturating_add(1)),
        layer,
        pieces: Vec::new(),
    };
    it.add_passes(&edges);
    it
}

/// Turns round what would close a circle.
fn without_circles(graph: &Graph) -> Vec<(usize, usize, u8)> {
    let mut outgoing = vec![Vec::new(); graph.boxes];
    for &(from, to, _) in &graph.edges {
        if let Some(list) = outgoing.get_mut(from) {
            list.push(to);
        }
    }
    // The order in which a walk into the depth leaves boxes, last first, is one in which all
    // edges lead forward but those that close a circle.
    let mut rank = vec![0_usize; graph.boxes];
    let mut seen = vec![false; graph.boxes];
    let mut next = graph.boxes;
    for start in 0..graph.boxes {
        let mut stack = vec![(start, 0_usize)];
        while let Some((at, index)) = stack.pop() {
            if index == 0 && std::mem::replace(seen.get_mut(at).unwrap_or(&mut true), true) {
                continue;
            }
            if let Some(&to) = outgoing.get(at).and_then(|list| list.get(index)) {
                stack.push((at, index.saturating_add(1)));
                if seen.get(to) == Some(&false) {
                    stack.push((to, 0));
                }
            } else {
                next = next.saturating_sub(1);
                if let Some(rank) = rank.get_mut(at) {
                    *rank = next;
                }
            }
        }
    }
    let turned = |&(from, to, class): &(usize, usize, u8)| {
        if rank.get(from) < rank.get(to) { (from, to, class) } else { (to, from, class) }
    };
    graph.edges.iter().map(turned).collect()
}

/// Fills the layers from the top, the beginnings of long chains first.
fn layers(boxes: usize, edges: &[(usize, usize, u8)], width: usize) -> Vec<usize> {
    let mut outgoing = vec![Vec::new(); boxes];
    let mut waits = vec![0_usize; boxes];
    for &(from, to, _) in edges {
        if let (Some(list), Some(waits)) = (outgoing.get_mut(from), waits.get_mut(to)) {
            list.push(to);
            *waits = waits.saturating_add(1);
        }
    }
    let depth = depths(&outgoing, &waits);
    let mut earliest = vec![0_usize; boxes];
    let mut layer = vec![0_usize; boxes];
    let mut count: Vec<usize> = Vec::new();
    // The longest chain first; of equals the one that was named first.
    let key = |at: usize| (depth.get(at).copied().unwrap_or(0), std::cmp::Reverse(at));
    let mut free: BinaryHeap<_> =
        (0..boxes).filter(|&at| waits.get(at) == Some(&0)).map(key).collect();
    while let Some((_, std::cmp::Reverse(at))) = free.pop() {
        let mut place = earliest.get(at).copied().unwrap_or(0);
        while count.get(place).is_some_and(|&count| count >= width) {
            place = place.saturating_add(1);
        }
        count.resize(count.len().max(place.saturating_add(1)), 0);
        if let (Some(count), Some(layer)) = (count.get_mut(place), layer.get_mut(at)) {
            *count = count.saturating_add(1);
            *layer = place;
        }
        for &to in outgoing.get(at).map(Vec::as_slice).unwrap_or_default() {
            let (Some(earliest), Some(waits)) = (earliest.get_mut(to), waits.get_mut(to)) else {
                continue;
            };
            *earliest = (*earliest).max(place.saturating_add(1));
            *waits = waits.saturating_sub(1);
            if *waits == 0 {
                free.push(key(to));
            }
        }
    }
    layer
}

/// How many boxes the longest chain below each has.
fn depths(outgoing: &[Vec<usize>], waits: &[usize]) -> Vec<usize> {
    let mut waits = waits.to_vec();
    let mut order: Vec<usize> = (0..waits.len()).filter(|&at| waits.get(at) == Some(&0)).collect();
    let mut next = 0_usize;
    while let Some(&at) = order.get(next) {
        next = next.saturating_add(1);
        for &to in outgoing.get(at).map(Vec::as_slice).unwrap_or_default() {
            if let Some(waits) = waits.get_mut(to) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    order.push(to);
                }
            }
        }
    }
    let mut depth = vec![0_usize; outgoing.len()];
    for &at in order.iter().rev() {
        let below = outgoing.get(at).map(Vec::as_slice).unwrap_or_default();
        let deepest = below.iter().filter_map(|&to| depth.get(to)).max();
        let own = deepest.map_or(0, |deepest| deepest.saturating_add(1));
        if let Some(depth) = depth.get_mut(at) {
            *depth = own;
        }
    }
    depth
}

impl Layered {
    /// Breaks long edges into pieces. Those of one class share their passes: at the end
    /// where more of them meet.
    fn add_passes(&mut self, edges: &[(usize, usize, u8)]) {
        let span = |it: &Self, from: usize, to: usize| {
            let (from, to) = (it.layer.get(from), it.layer.get(to));
            from.zip(to).map_or(0, |(from, to)| to.saturating_sub(*from))
        };
        let mut meet: BTreeMap<(bool, usize, u8), usize> = BTreeMap::new();
        for &(from, to, class) in edges.iter().filter(|(from, to, _)| span(self, *from, *to) > 1) {
            for end in [(true, from, class), (false, to, class)] {
                let count = meet.entry(end).or_default();
                *count = count.saturating_add(1);
            }
        }
        let mut passes: BTreeMap<((bool, usize, u8), usize), usize> = BTreeMap::new();
        for &(from, to, class) in edges {
            let at_start = (true, from, class);
            let at_end = (false, to, class);
            let shared = if meet.get(&at_start) >= meet.get(&at_end) { at_start } else { at_end };
            let top = self.layer.get(from).copied().unwrap_or(0);
            let mut last = from;
            for step in 1..span(self, from, to) {
                let layer = top.saturating_add(step);
                let pass = *passes.entry((shared, layer)).or_insert_with(|| {
                    self.places.push(Place::Pass);
                    self.layer.push(layer);
                    self.places.len().saturating_sub(1)
                });
                self.pieces.push((last, pass, class));
                last = pass;
            }
            self.pieces.push((last, to, class));
        }
        self.pieces.sort_unstable();
        self.pieces.dedup();
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
mod tests {
    use super::*;

    fn check(boxes: usize, edges: &[(usize, usize, u8)], width: usize) -> Layered {
        let it = layered(&Graph { boxes, edges: edges.to_vec() }, width);
        assert_eq!(it.places.len(), it.layer.len());
        for &(from, to, _) in &it.pieces {
            assert_eq!(it.layer[from] + 1, it.layer[to], "{from} {to}");
        }
        for layer in 0..it.layers {
            let boxes = (0..boxes).filter(|&at| it.layer[at] == layer).count();
            assert!((1..=width).contains(&boxes), "layer {layer} has {boxes}");
        }
        it
    }

    #[test]
    fn every_piece_leads_to_the_next_layer() {
        let chain = check(4, &[(0, 1, 0), (1, 2, 0), (0, 2, 0), (0, 3, 1)], 9);
        assert_eq!(chain.layer[..4], [0, 1, 2, 1]);
        assert_eq!(chain.places.len(), 5);
        // A circle, and what nobody knows.
        check(3, &[(0, 1, 0), (1, 2, 0), (2, 0, 0)], 9);
        check(0, &[], 9);
        check(1, &[], 9);
    }

    #[test]
    fn wide_layers_go_on_below_and_share_the_way() {
        let edges: Vec<_> = (1..=40).map(|to| (0, to, 0)).collect();
        let it = check(41, &edges, 8);
        assert_eq!(it.layers, 6);
        // One way down for all of them.
        assert_eq!(it.places.len(), 41 + 4);
        // The same when it is the lower end that all have in common.
        let edges: Vec<_> = (0..40).map(|from| (from, 40, 0)).collect();
        assert_eq!(check(41, &edges, 8).places.len(), 41 + 4);
    }
}
