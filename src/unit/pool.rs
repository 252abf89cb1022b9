//! The units that are right so far, and the rules by which one that turns out wrong
//! leaves: its earlier version takes its place, once; without one, what requires it
//! leaves too. The target `default` is always there.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::check::{self, Checked};
use super::diagnostic::{Missing, Mistake};
use super::draft::{Draft, Reference, Relation};
use super::graph::{self, Units};
use super::load::Previous;
use super::model::{Kind, Unit};
use super::text::{Files, Place, SourceFile, quote};
use super::{limits, names, template};

/// The target that boots a machine.
pub const DEFAULT: &str = "default";

/// A place in no file: what a person asked for by hand.
const NOWHERE: Place = Place { file: u32::MAX, start: 0, end: 0 };

/// All units while they are brought together.
pub struct Pool<'a> {
    /// Services and targets.
    pub units: Units,
    /// Templates.
    pub templates: Units,
    /// Names of what was wrong, also where an earlier version is kept.
    pub broken: BTreeSet<String>,
    /// Names of which the earlier version is in the pool.
    pub kept: BTreeSet<String>,
    /// Units with mistakes of their own; whom they name is still looked at.
    pub(super) wrecks: Vec<Checked>,
    previous: &'a Previous,
}

impl<'a> Pool<'a> {
    /// A pool with nothing but the target `default`.
    pub fn new(previous: &'a Previous) -> Self {
        let mut pool = Self {
            units: Units::new(),
            templates: Units::new(),
            broken: BTreeSet::new(),
            kept: BTreeSet::new(),
            wrecks: Vec::new(),
            previous,
        };
        pool.synthesise_default();
        pool
    }

    fn synthesise_default(&mut self) {
        let make = || check::target(Draft::new(DEFAULT, "", 0), NOWHERE);
        self.units.entry(DEFAULT.to_owned()).or_insert_with(make);
    }

    /// Puts a unit or a template in.
    pub fn insert(&mut self, checked: Checked) {
        let name = checked.unit.name.clone();
        let table = if names::is_template(&name) { &mut self.templates } else { &mut self.units };
        table.insert(name, checked);
    }

    /// Remembers a unit that is wrong in itself.
    pub fn wreck(&mut self, name: &str, checked: Option<Checked>, files: &mut Files) {
        self.wrecks.extend(checked);
        self.fail(name, files);
    }

    /// Takes a unit out; its earlier version comes back, once.
    pub fn fail(&mut self, name: &str, files: &mut Files) {
        self.units.remove(name);
        self.templates.remove(name);
        self.broken.insert(name.to_owned());
        if !self.kept.remove(name) {
            let written = |unit: &&Unit| unit.name == name && unit.line > 0;
            if let Some(old) = self.earlier().find(written).cloned() {
                self.keep(old, files);
            }
        }
        self.synthesise_default();
    }

    /// The earlier versions of everything.
    fn earlier(&self) -> impl Iterator<Item = &'a Unit> + use<'a> {
        let set = &self.previous.set;
        set.units.iter().map(AsRef::as_ref).chain(&set.templates)
    }

    /// Puts an earlier version in. Its text is not at hand, only the name of its file.
    fn keep(&mut self, old: Unit, files: &mut Files) {
        let file = files.add(SourceFile::new(old.file.clone(), String::new()));
        let place = Place { file, start: 0, end: 0 };
        let lists = [
            (Relation::Requires, &old.requires),
            (Relation::Wants, &old.wants),
            (Relation::After, &old.after),
            (Relation::Before, &old.before),
            (Relation::Conflicts, &old.conflicts),
            (Relation::WantedBy, &old.wanted_by),
        ];
        let references = lists.into_iter().flat_map(|(relation, names)| {
            names.iter().map(move |name| Reference { relation, name: name.clone(), place })
        });
        let references = references.collect();
        self.kept.insert(old.name.clone());
        let (joins, ports, secrets) = (Vec::new(), Vec::new(), Vec::new());
        self.insert(Checked { unit: old, header: place, references, joins, ports, secrets });
    }

    /// Keeps every earlier unit that is gone because its file could not be used.
    pub fn keep_lost(&mut self, files: &mut Files, is_lost: impl Fn(&str) -> bool) {
        let gone = self.earlier().filter(|unit| unit.line > 0 && is_lost(&unit.file));
        for unit in gone {
            let here = |units: &Units| units.get(&unit.name).is_some_and(|u| u.unit.line > 0);
            if !here(&self.units) && !here(&self.templates) {
                self.broken.insert(unit.name.clone());
                self.keep(unit.clone(), files);
            }
        }
    }

    /// Makes the instances that are named somewhere or were started by hand.
    pub fn instances(&mut self, out: &mut Vec<Mistake>) {
        let by_hand = self.previous.instances.iter().map(|name| (name.clone(), NOWHERE));
        let named = self.units.values().flat_map(|unit| unit.references.iter());
        let mut wanted: Vec<(String, Place)> =
            named.map(|r| (r.name.clone(), r.place)).chain(by_hand).collect();
        let is_instance = |name: &String| names::split_instance(name).is_some();
        let mut seen: HashSet<String> = HashSet::new();
        let mut bytes = 0_usize;
        while let Some((name, place)) = wanted.pop() {
            if self.units.contains_key(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let Some((base, instance)) = names::split_instance(&name) else { continue };
            let Some(template) = self.templates.get(base) else { continue };
            bytes = bytes.saturating_add(template::weight(&template.unit));
            if self.units.len() >= limits::UNITS || bytes > limits::INSTANCE_BYTES {
                let text = format!("`{name}` cannot be made: there are too many instances");
                out.push(Mistake::new(template.header, text));
                self.broken.insert(name);
                self.broken.extend(wanted.into_iter().map(|(name, _)| name).filter(is_instance));
                return;
            }
            let made = template::instantiate(&template.unit, instance);
            match made {
                Ok(unit) => {
                    let mut checked = Checked { unit, ..template.clone() };
                    for reference in &mut checked.references {
                        reference.name = template::substitute(&reference.name, instance);
                        wanted.push((reference.name.clone(), reference.place));
                    }
                    self.units.insert(name, checked);
                }
                Err(problem) => {
                    let (header, by_hand) = (template.header, place == NOWHERE);
                    let mistake = Mistake::new(if by_hand { header } else { place }, problem);
                    let origin = "the template is here";
                    out.push(if by_hand { mistake } else { mistake.note(header, origin) });
                    self.broken.insert(name);
                }
            }
        }
    }

    /// Takes out what names something that is not there or is in a cycle, and what
    /// requires one of those, until the rest holds. Ends, because each round takes a
    /// unit out or puts an earlier version in, and that once for each.
    pub fn settle(&mut self, files: &mut Files, out: &mut Vec<Mistake>) {
        self.look_at_the_rest(files, out);
        let mut doubtful: Vec<String> = self.units.keys().cloned().collect();
        loop {
            self.drop_incomplete(doubtful, files, out);
            let mut knotted = graph::cycles(&self.units, out);
            knotted.remove(DEFAULT);
            if knotted.is_empty() {
                return;
            }
            // New versions go first: without them the earlier ones may be in no cycle.
            if knotted.iter().any(|name| !self.kept.contains(name)) {
                knotted.retain(|name| !self.kept.contains(name));
            }
            let requirers = self.requirers();
            doubtful = Vec::new();
            for name in knotted {
                self.fail(&name, files);
                doubtful.extend(requirers.get(&name).into_iter().flatten().cloned());
                doubtful.push(name);
            }
        }
    }

    /// Whom wrecks and templates name; the names in a template that depend on the
    /// instance are looked at when there is one.
    fn look_at_the_rest(&mut self, files: &mut Files, out: &mut Vec<Mistake>) {
        for wreck in std::mem::take(&mut self.wrecks) {
            out.extend(self.strangers(&wreck));
        }
        let checks = self.templates.values().map(|t| (t.unit.name.clone(), self.strangers(t)));
        let wrong: Vec<_> = checks.filter(|(_, mistakes)| !mistakes.is_empty()).collect();
        for (name, mistakes) in wrong {
            if !self.kept.contains(&name) {
                out.extend(mistakes);
                self.fail(&name, files);
            }
        }
    }

    /// References to what nobody knows.
    fn strangers(&self, unit: &Checked) -> Vec<Mistake> {
        let known = |name: &str| self.units.contains_key(name) || self.is_broken(name);
        let is_instance = |name: &str| {
            names::split_instance(name).is_some_and(|(base, _)| self.templates.contains_key(base))
        };
        let strange = unit
            .references
            .iter()
            .filter(|r| !known(&r.name) && !is_instance(&r.name) && !r.name.contains("%i"));
        strange.map(unknown).collect()
    }

    /// Takes out, one by one, what misses something.
    fn drop_incomplete(
        &mut self,
        mut doubtful: Vec<String>,
        files: &mut Files,
        out: &mut Vec<Mistake>,
    ) {
        let requirers = self.requirers();
        while let Some(name) = doubtful.pop() {
            let Some(unit) = self.units.get(&name) else { continue };
            let mistakes = self.missing(unit);
            if mistakes.is_empty() {
                continue;
            }
            out.extend(mistakes);
            self.fail(&name, files);
            if self.units.contains_key(&name) {
                doubtful.push(name);
            } else {
                doubtful.extend(requirers.get(&name).into_iter().flatten().cloned());
            }
        }
    }

    /// Who requires whom, the other way round; with the earlier versions too.
    fn requirers(&self) -> HashMap<String, Vec<String>> {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        let now = self.units.values().map(|checked| &checked.unit);
        for unit in now.chain(self.earlier()) {
            for name in &unit.requires {
                map.entry(name.clone()).or_default().push(unit.name.clone());
            }
        }
        map
    }

    /// Whether a unit, or the template it is an instance of, was wrong.
    fn is_broken(&self, name: &str) -> bool {
        let template = names::split_instance(name).map(|(base, _)| base);
        self.broken.contains(name) || template.is_some_and(|base| self.broken.contains(base))
    }

    /// What is wrong with whom a unit names. An earlier version is only measured by
    /// what it requires.
    fn missing(&self, unit: &Checked) -> Vec<Mistake> {
        let name = &unit.unit.name;
        let kept = self.kept.contains(name);
        let looked_at =
            unit.references.iter().filter(|r| !kept || r.relation == Relation::Requires);
        let conflicts = unit.references.iter().filter(|r| r.relation == Relation::Conflicts);
        let conflicts: HashMap<&str, Place> =
            conflicts.map(|r| (r.name.as_str(), r.place)).collect();
        let mut out = Vec::new();
        for reference in looked_at {
            let Reference { relation, name: other, place } = reference;
            let required = *relation == Relation::Requires;
            match self.units.get(other) {
                Some(found) => {
                    if *relation == Relation::WantedBy && found.unit.kind != Kind::Target {
                        let text = format!("{} is not a target", quote(other));
                        out.push(Mistake::new(*place, text));
                    }
                    if let Some(place) = conflicts.get(other.as_str()).filter(|_| required) {
                        out.push(contradiction(name, *place, reference));
                    }
                }
                None if self.is_broken(other) && required => {
                    let other = quote(other);
                    let text = format!("`{name}` requires {other}, which has a mistake");
                    out.push(Mistake::new(*place, text));
                }
                None if self.is_broken(other) => {}
                None => out.push(unknown(reference)),
            }
        }
        out
    }

    /// Adds the nearest name to mistakes about units that are not there.
    pub fn advise(&self, mistakes: &mut [Mistake]) {
        for mistake in mistakes {
            let Some(Missing { name, target }) = &mistake.missing else { continue };
            let units = self.units.values().map(|checked| &checked.unit);
            let units = units.filter(|unit| !target || unit.kind == Kind::Target);
            let wrong = self.broken.iter().map(String::as_str).filter(|_| !target);
            let near = names::nearest(name, units.map(|unit| unit.name.as_str()).chain(wrong));
            mistake.help = match (near, names::split_instance(name)) {
                (Some(near), _) => Some(format!("did you mean `{near}`?")),
                (None, Some((base, _))) => {
                    Some(format!("there is no template {} either", quote(base)))
                }
                (None, None) => None,
            };
        }
    }
}

/// A mistake about a unit that is not there.
fn unknown(Reference { relation, name, place }: &Reference) -> Mistake {
    let target = *relation == Relation::WantedBy;
    let what = if target { "target" } else { "unit" };
    let mistake = Mistake::new(*place, format!("there is no {what} {}", quote(name)));
    Mistake { missing: Some(Missing { name: name.clone(), target }), ..mistake }
}

/// A unit that conflicts with what it requires could never run.
fn contradiction(name: &str, conflict: Place, required: &Reference) -> Mistake {
    let text = format!("`{name}` conflicts with {}, which it requires", quote(&required.name));
    Mistake::new(conflict, text).note(required.place, "required here")
}
