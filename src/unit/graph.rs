//! The graph of units: whom they name must exist, and order must have no cycles.
//!
//! Nothing here recurses: a chain of 8192 units is as good as any other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use super::check::Checked;
use super::diagnostic::Mistake;
use super::draft::Relation;
use super::text::Place;

/// Units by name.
pub type Units = BTreeMap<String, Checked>;

/// `from` comes after `to`.
#[derive(Debug, Clone)]
struct Edge {
    to: usize,
    place: Place,
    /// Whether the reference is written at `to`, not at `from`.
    reverse: bool,
    relation: Relation,
}

/// The order as a graph of numbers.
struct Order<'a> {
    names: Vec<&'a str>,
    edges: Vec<Vec<Edge>>,
}

impl<'a> Order<'a> {
    fn new(units: &'a Units) -> Self {
        let names: Vec<&str> = units.keys().map(String::as_str).collect();
        let index: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
        let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); names.len()];
        for (here, unit) in units.values().enumerate() {
            for reference in &unit.references {
                let Some(&there) = index.get(reference.name.as_str()) else { continue };
                let relation = reference.relation;
                let (from, to, reverse) = match relation {
                    Relation::Requires | Relation::Wants | Relation::After => (here, there, false),
                    Relation::Before | Relation::WantedBy => (there, here, true),
                    Relation::Conflicts => continue,
                };
                if let Some(list) = edges.get_mut(from) {
                    list.push(Edge { to, place: reference.place, reverse, relation });
                }
            }
        }
        Self { names, edges }
    }

    fn out(&self, node: usize) -> &[Edge] {
        self.edges.get(node).map_or(&[], Vec::as_slice)
    }

    fn name(&self, node: usize) -> &'a str {
        self.names.get(node).copied().unwrap_or_default()
    }

    /// Groups of units that are in cycles with each other: what is left when those that
    /// nothing comes before, and those that nothing comes after, have been taken away,
    /// split by who reaches whom (Tarjan's algorithm with a stack of its own).
    fn knots(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.names.len();
        let (mut number, mut low) = (vec![NEW; count], vec![0_usize; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut next) = (Vec::new(), 0_usize);
        let mut knots = Vec::new();
        let get = |list: &[usize], at: usize| list.get(at).copied().unwrap_or(0);
        let set = |list: &mut [usize], at: usize, value: usize| {
            if let Some(slot) = list.get_mut(at) {
                *slot = value;
            }
        };
        for root in 0..count {
            if get(&number, root) != NEW {
                continue;
            }
            let mut path = vec![(root, 0_usize)];
            while let Some((node, edge)) = path.pop() {
                if edge == 0 {
                    set(&mut number, node, next);
                    set(&mut low, node, next);
                    next = next.saturating_add(1);
                    stack.push(node);
                    on_stack.get_mut(node).into_iter().for_each(|flag| *flag = true);
                }
                if let Some(to) = self.out(node).get(edge).map(|edge| edge.to) {
                    path.push((node, edge.saturating_add(1)));
                    if get(&number, to) == NEW {
                        path.push((to, 0));
                    } else if on_stack.get(to).copied().unwrap_or(false) {
                        let least = get(&low, node).min(get(&number, to));
                        set(&mut low, node, least);
                    }
                    continue;
                }
                if let Some((parent, _)) = path.last() {
                    let least = get(&low, *parent).min(get(&low, node));
                    set(&mut low, *parent, least);
                }
                if get(&low, node) == get(&number, node) {
                    let mut knot = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack.get_mut(member).into_iter().for_each(|flag| *flag = false);
                        knot.push(member);
                        if member == node {
                            break;
                        }
                    }
                    if knot.len() > 1 {
                        knot.sort_unstable();
                        knots.push(knot);
                    }
                }
            }
        }
        knots.sort_unstable();
        knots
    }

    /// A shortest cycle through the first member of a knot, as edges in order.
    fn cycle(&self, knot: &[usize]) -> Vec<(usize, Edge)> {
        let Some(&start) = knot.first() else { return Vec::new() };
        let mut came: HashMap<usize, (usize, &Edge)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for edge in self.out(node).iter().filter(|e| knot.binary_search(&e.to).is_ok()) {
                if edge.to != start && came.contains_key(&edge.to) {
                    continue;
                }
                came.insert(edge.to, (node, edge));
                if edge.to == start {
                    return unwind(&came, start);
                }
                queue.push_back(edge.to);
            }
        }
        Vec::new()
    }
}

/// Walks back from `start` to itself.
fn unwind(came: &HashMap<usize, (usize, &Edge)>, start: usize) -> Vec<(usize, Edge)> {
    let mut path = Vec::new();
    let mut at = start;
    while let Some((from, edge)) = came.get(&at) {
        path.push((*from, (*edge).clone()));
        at = *from;
        if at == start || path.len() > came.len() {
            break;
        }
    }
    path.reverse();
    path
}

/// Reports each knot of cycles with one cycle as a path; returns who is in one.
pub fn cycles(units: &Units, out: &mut Vec<Mistake>) -> BTreeSet<String> {
    /// Longest path that is shown.
    const SHOWN: usize = 12;
    let order = Order::new(units);
    let mut members = BTreeSet::new();
    for knot in order.knots() {
        members.extend(knot.iter().map(|node| order.name(*node).to_owned()));
        let cycle = order.cycle(&knot);
        let mut text = String::from("dependency cycle: ");
        let mut notes = Vec::new();
        for (at, (from, edge)) in cycle.iter().enumerate() {
            let step = step(&order, *from, edge);
            if at < SHOWN {
                let _ = write!(text, "{}{step}", if at == 0 { "" } else { ", " });
                notes.push((edge.place, step));
            }
        }
        if let Some(more) = cycle.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = write!(text, " and {more} more");
        }
        let Some((place, _)) = notes.first().cloned() else { continue };
        let mut mistake = Mistake::new(place, text).help("remove one of these relations");
        mistake.notes = notes.into_iter().skip(1).collect();
        out.push(mistake);
    }
    members
}

/// One step of a cycle in words.
fn step(order: &Order<'_>, from: usize, edge: &Edge) -> String {
    let (from, to) = (order.name(from), order.name(edge.to));
    match (edge.relation, edge.reverse) {
        (Relation::WantedBy, _) => format!("`{from}` wants `{to}` (wanted-by)"),
        (relation, false) => format!("`{from}` {} `{to}`", relation.key()),
        (relation, true) => format!("`{to}` {} `{from}`", relation.key()),
    }
}
