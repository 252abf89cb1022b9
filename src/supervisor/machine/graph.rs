//! Links between units, resolved from names to places after each `apply`.
//!
//! What must hold: every link is known at both its ends. Links are those of the newest
//! definitions, also of units whose run still has an older one, so that never two sets of
//! links are mixed (each alone is free of cycles, both together need not be). A unit
//! that is being removed keeps its own forward links, so that it still goes down in
//! order; nothing new points at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::UnitId;
use super::slot::{Slot, Slots};

/// How a unit depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Link {
    /// Needs it ready, and goes down with it.
    Requires,
    /// Starts it too, and waits for it if it is on its way.
    Wants,
    /// Order only.
    After,
    /// Never up together; known at both ends as a link of this kind.
    Conflicts,
}

/// A link seen from one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// Kind.
    pub link: Link,
    /// The other end.
    pub unit: UnitId,
}

/// Resolves all links again.
pub(super) fn resolve(slots: &mut Slots, names: &BTreeMap<String, UnitId>) {
    for &id in names.values() {
        if let Some(slot) = slots.get_mut(id) {
            slot.links.clear();
            slot.back.clear();
            slot.missing = None;
        }
    }
    for &id in names.values() {
        resolve_one(slots, names, id);
    }
    for &id in names.values() {
        if let Some(slot) = slots.get_mut(id) {
            for edges in [&mut slot.links, &mut slot.back] {
                edges.sort_unstable();
                edges.dedup();
                edges.shrink_to_fit();
            }
        }
    }
}

fn resolve_one(slots: &mut Slots, names: &BTreeMap<String, UnitId>, id: UnitId) {
    let Some(slot) = slots.get(id) else { return };
    let unit = slot.newest().clone();
    let removed = slot.removed();
    let known = |name: &String| names.get(name).copied();
    for (link, others) in [
        (Link::Requires, &unit.requires),
        (Link::Wants, &unit.wants),
        (Link::After, &unit.after),
        (Link::Conflicts, &unit.conflicts),
    ] {
        for other in others.iter().filter_map(known) {
            connect(slots, id, other, link);
        }
    }
    if removed {
        return;
    }
    for other in unit.before.iter().filter_map(known) {
        connect(slots, other, id, Link::After);
    }
    for other in unit.wanted_by.iter().filter_map(known) {
        connect(slots, other, id, Link::Wants);
    }
    let there = |name: &String| {
        names.get(name).and_then(|&id| slots.get(id)).is_some_and(|slot| !slot.removed())
    };
    let missing = unit.requires.iter().find(|name| !there(name)).cloned();
    if let Some(slot) = slots.get_mut(id) {
        slot.missing = missing;
    }
}

fn connect(slots: &mut Slots, from: UnitId, to: UnitId, link: Link) {
    let gone = |slots: &Slots, id| slots.get(id).is_none_or(Slot::removed);
    // Nothing new points at what is being removed.
    if from == to || (gone(slots, to) && !gone(slots, from) && link != Link::Conflicts) {
        return;
    }
    if let Some(slot) = slots.get_mut(from) {
        slot.links.push(Edge { link, unit: to });
    }
    if let Some(slot) = slots.get_mut(to) {
        let edge = Edge { link, unit: from };
        slot.back.push(edge);
        if link == Link::Conflicts {
            slot.links.push(edge);
        }
    }
    if link == Link::Conflicts
        && let Some(slot) = slots.get_mut(from)
    {
        slot.back.push(Edge { link, unit: to });
    }
}

/// Takes one unit's links out at their other ends.
pub(super) fn disconnect(slots: &mut Slots, id: UnitId, links: &[Edge], back: &[Edge]) {
    for edge in links.iter().chain(back) {
        if let Some(slot) = slots.get_mut(edge.unit) {
            slot.links.retain(|edge| edge.unit != id);
            slot.back.retain(|edge| edge.unit != id);
        }
    }
}
