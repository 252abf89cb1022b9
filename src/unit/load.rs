//! All units together: what is right goes into the set, what is wrong is reported, and
//! where a unit that is wrong had an earlier version, that one stays in force.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::diagnostic::{Diagnostic, Mistake};
use super::draft::{Draft, Reference, Relation};
use super::files::{self, Source};
use super::graph::{self, Units};
use super::layers::{Raw, Raws, Space};
use super::model::{Kind, MountSource, Unit, UnitSet};
use super::settings::value::Context;
use super::settings::{self, Section, Status};
use super::text::{Files, Place, SourceFile, quote};
use super::{limits, names, syntax, template};

/// What was in force before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    /// The units. One that has a mistake now stays as it was.
    pub set: UnitSet,
    /// Instances that were started by hand and are to stay, such as `worker@1`.
    pub instances: Vec<String>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Everything that is right, and the earlier versions of what is not.
    pub set: UnitSet,
    /// What is wrong, sorted by place; at most [`limits::DIAGNOSTICS`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many diagnostics were left out.
    pub suppressed: usize,
    /// Names of units that are wrong, or that require one that is and is not there.
    pub broken: Vec<String>,
    /// Those of `broken` of which an earlier version is in `set`.
    pub kept: Vec<String>,
    /// Files that could not be used at all.
    pub broken_files: Vec<String>,
    /// Whether not even all names are known: then nothing may be removed.
    pub incomplete: bool,
}

impl Loaded {
    /// Whether there was no mistake.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.is_empty() && !self.incomplete
    }

    /// All diagnostics as one text for people.
    pub fn report(&self) -> String {
        let mut text: String = self.diagnostics.iter().map(ToString::to_string).collect();
        if self.suppressed > 0 {
            text.push_str(&format!("and {} more\n", self.suppressed));
        }
        text
    }
}

/// Reads and checks all units of all sources.
pub fn read(sources: &[Source], previous: &Previous) -> Loaded {
    let gathered = files::gather(sources);
    let mut loader = Loader {
        files: gathered.files,
        out: gathered.mistakes,
        previous,
        units: Units::new(),
        templates: BTreeMap::new(),
        volumes: BTreeSet::new(),
        wrecks: Vec::new(),
        broken: BTreeSet::new(),
        kept: BTreeSet::new(),
    };
    let mut loaded = Loaded { broken_files: gathered.broken_files, ..Loaded::default() };
    let raws = loader.parse(&gathered.layers, &mut loaded);
    loader.check_all(raws);
    loader.keep_units_of(&loaded);
    loader.instances();
    loader.settle();
    loader.finish(loaded, gathered.diagnostics)
}

struct Loader<'a> {
    files: Files,
    out: Vec<Mistake>,
    previous: &'a Previous,
    units: Units,
    templates: Units,
    volumes: BTreeSet<String>,
    /// Units with mistakes of their own; whom they name is still looked at.
    wrecks: Vec<Checked>,
    broken: BTreeSet<String>,
    kept: BTreeSet<String>,
}

impl Loader<'_> {
    /// All files to raw tables.
    fn parse(&mut self, layers: &[Vec<u32>], loaded: &mut Loaded) -> Raws {
        let mut raws = Raws::default();
        let mut nodes = 0_usize;
        for (layer, files) in layers.iter().enumerate() {
            for &id in files {
                let Some(file) = self.files.get(id) else { continue };
                let document = syntax::parse(file, id, &mut self.out);
                nodes = nodes.saturating_add(document.nodes);
                if nodes > limits::TOTAL_NODES {
                    let place = Place { file: id, start: 0, end: 0 };
                    let text =
                        "this file is not read: all unit files together hold too many values";
                    self.out.push(Mistake::new(place, text));
                    loaded.broken_files.push(file.name.clone());
                    continue;
                }
                if !document.sound {
                    loaded.broken_files.push(file.name.clone());
                }
                raws.add(document, layer, &mut self.out);
            }
        }
        raws
    }

    /// All raw tables to units.
    fn check_all(&mut self, raws: Raws) {
        let Raws { units, broken } = raws;
        let unit_names = broken.into_iter().filter(|(space, _)| *space == Space::Unit);
        self.broken.extend(unit_names.map(|(_, name)| name));
        let mut count = 0_usize;
        for ((space, name), raw) in units {
            count = count.saturating_add(1);
            if count > limits::UNITS {
                let text = format!("there are more than {} units", limits::UNITS);
                self.out.push(Mistake::new(raw.header, text));
                break;
            }
            let mut mistakes = Vec::new();
            let checked = check_one(&self.files, &name, &raw, &mut mistakes);
            let good = mistakes.is_empty() && !self.broken.contains(&name);
            self.out.append(&mut mistakes);
            match checked {
                _ if space != Space::Unit => {
                    if raw.section == Section::Volume && good {
                        self.volumes.insert(name);
                    }
                }
                Some(checked) if good => self.insert(name, checked),
                checked => {
                    self.wrecks.extend(checked);
                    self.fail(name);
                }
            }
        }
        for name in self.broken.clone() {
            self.fail(name);
        }
    }

    fn insert(&mut self, name: String, checked: Checked) {
        let table = if names::is_template(&name) { &mut self.templates } else { &mut self.units };
        table.insert(name, checked);
    }

    /// Takes a unit out; its earlier version comes back, once.
    fn fail(&mut self, name: String) {
        self.units.remove(&name);
        self.templates.remove(&name);
        self.broken.insert(name.clone());
        if self.kept.contains(&name) {
            self.kept.remove(&name);
            return;
        }
        let old = [&self.previous.set.units, &self.previous.set.templates];
        let old = old.into_iter().flatten().find(|unit| unit.name == name && unit.line > 0);
        if let Some(old) = old.cloned() {
            self.keep(old);
        }
    }

    /// Puts an earlier version in.
    fn keep(&mut self, old: Unit) {
        let file = self.files.add(SourceFile::new(old.file.clone(), String::new()));
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
        let name = old.name.clone();
        self.insert(
            name,
            Checked { unit: old, header: place, references, wanted_by_default: false },
        );
    }

    /// A file that cannot be used keeps all the units it gave before.
    fn keep_units_of(&mut self, loaded: &Loaded) {
        let files: HashSet<&str> = loaded.broken_files.iter().map(String::as_str).collect();
        let lost = |unit: &&Unit| {
            let parent = unit.file.rsplit_once('/').map_or("", |(parent, _)| parent);
            unit.line > 0 && (files.contains(unit.file.as_str()) || files.contains(parent))
        };
        let old = [&self.previous.set.units, &self.previous.set.templates];
        let old: Vec<Unit> = old.into_iter().flatten().filter(lost).cloned().collect();
        for unit in old {
            let here =
                self.units.contains_key(&unit.name) || self.templates.contains_key(&unit.name);
            if !here {
                self.broken.insert(unit.name.clone());
                self.keep(unit);
            }
        }
    }

    /// Makes the instances that are named somewhere.
    fn instances(&mut self) {
        let none = Place { file: u32::MAX, start: 0, end: 0 };
        let by_hand = self.previous.instances.iter().map(|name| (name.clone(), none));
        let named = self.units.values().flat_map(|unit| unit.references.iter());
        let mut wanted: Vec<(String, Place)> =
            named.map(|r| (r.name.clone(), r.place)).chain(by_hand).collect();
        let mut seen: HashSet<String> = HashSet::new();
        let mut bytes = 0_usize;
        while let Some((name, place)) = wanted.pop() {
            if self.units.contains_key(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let Some((base, instance)) = names::split_instance(&name) else { continue };
            let Some(template) = self.templates.get(base) else { continue };
            bytes = bytes.saturating_add(template::weight(&template.unit));
            let made = if self.units.len() >= limits::UNITS || bytes > limits::INSTANCE_BYTES {
                Err(format!("`{name}` cannot be made: there are too many instances"))
            } else {
                template::instantiate(&template.unit, instance)
            };
            match made {
                Ok(unit) => {
                    let mut checked = template.clone();
                    for reference in &mut checked.references {
                        reference.name = template::substitute(&reference.name, instance);
                        wanted.push((reference.name.clone(), reference.place));
                    }
                    checked.unit = unit;
                    self.units.insert(name, checked);
                }
                Err(problem) if place.file == u32::MAX => {
                    self.out.push(Mistake::new(template.header, problem));
                }
                Err(problem) => {
                    let note = "the template is here";
                    self.out.push(Mistake::new(place, problem).note(template.header, note));
                    self.broken.insert(name);
                }
            }
        }
    }

    /// Takes out what names something that is not there or is in a cycle, and what
    /// requires one of those, until the rest holds. Ends, because each round takes a
    /// unit out or puts an earlier version in, once for each.
    fn settle(&mut self) {
        for wreck in std::mem::take(&mut self.wrecks) {
            let unknown = |r: &&Reference| !self.is_known(&r.name) && r.name != "default";
            let unknown = wreck.references.iter().filter(unknown);
            let more = unknown.map(|r| self.unknown(r.relation, &r.name, r.place));
            let more: Vec<Mistake> = more.collect();
            self.out.extend(more);
        }
        let mut doubtful: Vec<String> = self.units.keys().cloned().collect();
        loop {
            let requirers = self.requirers();
            doubtful.reverse();
            while let Some(name) = doubtful.pop() {
                let Some(unit) = self.units.get(&name) else { continue };
                let mut mistakes = self.missing(unit);
                if mistakes.is_empty() {
                    continue;
                }
                self.out.append(&mut mistakes);
                self.fail(name.clone());
                if self.units.contains_key(&name) {
                    doubtful.push(name);
                } else {
                    doubtful.extend(requirers.get(&name).into_iter().flatten().cloned());
                }
            }
            let mut knotted = graph::cycles(&self.units, &mut self.out);
            knotted.remove("default");
            if knotted.is_empty() {
                return;
            }
            let requirers = self.requirers();
            for name in knotted {
                self.fail(name.clone());
                doubtful.extend(requirers.get(&name).into_iter().flatten().cloned());
                doubtful.push(name);
            }
        }
    }

    /// Whether there is such a unit, be it right or wrong.
    fn is_known(&self, name: &str) -> bool {
        let template = names::split_instance(name).map(|(base, _)| base);
        [Some(name), template].into_iter().flatten().any(|name| {
            self.units.contains_key(name)
                || self.templates.contains_key(name)
                || self.broken.contains(name)
        })
    }

    /// Who requires whom, the other way round; with the earlier versions too.
    fn requirers(&self) -> HashMap<String, Vec<String>> {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        let now = self.units.values().map(|checked| &checked.unit);
        for unit in now.chain(&self.previous.set.units) {
            for name in &unit.requires {
                map.entry(name.clone()).or_default().push(unit.name.clone());
            }
        }
        map
    }

    /// What is wrong with whom a unit names.
    fn missing(&self, unit: &Checked) -> Vec<Mistake> {
        let name = &unit.unit.name;
        let mut out = Vec::new();
        for reference in &unit.references {
            let Reference { relation, name: other, place } = reference;
            let required = *relation == Relation::Requires;
            match self.units.get(other) {
                Some(found)
                    if *relation == Relation::WantedBy && found.unit.kind != Kind::Target =>
                {
                    out.push(Mistake::new(*place, format!("{} is not a target", quote(other))));
                }
                Some(_) => {
                    let both = unit.references.iter().find(|r| {
                        r.relation == Relation::Conflicts && r.name == *other && required
                    });
                    if let Some(conflict) = both {
                        let text =
                            format!("`{name}` conflicts with {}, which it requires", quote(other));
                        out.push(Mistake::new(conflict.place, text).note(*place, "required here"));
                    }
                }
                None if other == "default" => {}
                None if self.broken.contains(other) && required => {
                    let text = format!(
                        "`{name}` is left out: it requires {}, which has a mistake",
                        quote(other)
                    );
                    out.push(Mistake::new(*place, text));
                }
                None if self.broken.contains(other) => {}
                None if self.kept.contains(name) && !required => {}
                None => out.push(self.unknown(*relation, other, *place)),
            }
        }
        out
    }

    fn unknown(&self, relation: Relation, name: &str, place: Place) -> Mistake {
        let what = if relation == Relation::WantedBy { "target" } else { "unit" };
        let mistake = Mistake::new(place, format!("there is no {what} {}", quote(name)));
        let known = self.units.values().map(|checked| &checked.unit);
        let known = known.filter(|u| relation != Relation::WantedBy || u.kind == Kind::Target);
        if let Some(near) = names::nearest(name, known.map(|unit| unit.name.as_str())) {
            return mistake.help(format!("did you mean `{near}`?"));
        }
        match names::split_instance(name) {
            Some((base, _)) => mistake.help(format!("there is no template {} either", quote(base))),
            None => mistake,
        }
    }

    /// The set and the report.
    fn finish(mut self, mut loaded: Loaded, mut diagnostics: Vec<Diagnostic>) -> Loaded {
        self.units
            .entry("default".to_owned())
            .or_insert_with(|| check::target(Draft::new("default", "", 0), Place::default()));
        let present: HashSet<String> = self.units.keys().cloned().collect();
        let mut wants: HashMap<String, Vec<String>> = HashMap::new();
        let mut units: Vec<Unit> = Vec::with_capacity(self.units.len());
        for checked in std::mem::take(&mut self.units).into_values() {
            let mut unit = checked.unit;
            let Unit { requires, wants: w, after, before, conflicts, wanted_by, .. } = &mut unit;
            for list in [requires, w, after, before, conflicts, wanted_by] {
                list.retain(|name| present.contains(name));
            }
            for target in &unit.wanted_by {
                wants.entry(target.clone()).or_default().push(unit.name.clone());
            }
            units.push(unit);
        }
        for unit in &mut units {
            for name in wants.remove(&unit.name).into_iter().flatten() {
                if !unit.requires.contains(&name) && !unit.wants.contains(&name) {
                    unit.wants.push(name);
                }
            }
            for mount in unit.service().into_iter().flat_map(|service| &service.mounts) {
                if let MountSource::Volume { name } = &mount.value.source {
                    self.volumes.insert(name.clone());
                }
            }
        }
        loaded.set = UnitSet {
            units,
            volumes: std::mem::take(&mut self.volumes).into_iter().collect(),
            templates: std::mem::take(&mut self.templates).into_values().map(|c| c.unit).collect(),
        };
        loaded.broken = self.broken.iter().cloned().collect();
        loaded.kept = self.kept.iter().cloned().collect();
        loaded.broken_files.sort();
        loaded.broken_files.dedup();
        let total = self.out.len().saturating_add(diagnostics.len());
        diagnostics.append(&mut self.resolve());
        diagnostics.sort_by(|a, b| a.spot.cmp(&b.spot).then_with(|| a.message.cmp(&b.message)));
        diagnostics.truncate(limits::DIAGNOSTICS);
        loaded.suppressed = total.saturating_sub(diagnostics.len());
        loaded.diagnostics = diagnostics;
        loaded
    }

    /// The first mistakes as people see them. Only those are turned into text.
    fn resolve(&mut self) -> Vec<Diagnostic> {
        let files = &self.files;
        self.out.sort_by_key(|mistake| (files.name(mistake.place.file), mistake.place.start));
        self.out.iter().take(limits::DIAGNOSTICS).map(|mistake| mistake.resolve(files)).collect()
    }
}

/// Reads the keys of one unit. None for kinds that are not units of their own.
fn check_one(files: &Files, name: &str, raw: &Raw, out: &mut Vec<Mistake>) -> Option<Checked> {
    let home = raw.header.file;
    let mut draft = Draft::new(name, files.name(home), files.line(raw.header));
    let mut cx = Context { files, home, template: names::is_template(name), out };
    let info = raw.section.info()?;
    if let Status::NotYet(missing) = info.status {
        let kind = info.kind.unwrap_or_default();
        cx.out.push(settings::unsupported(raw.header, &format!("[{kind}.{name}]"), missing));
    }
    settings::apply(raw.section, &raw.table, &mut draft, &mut cx);
    match raw.section {
        Section::Service => Some(check::service(draft, raw.header, &mut cx)),
        Section::Target => Some(check::target(draft, raw.header)),
        _ => None,
    }
}
