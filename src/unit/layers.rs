//! From files to one raw table for each unit: later layers override earlier ones key by
//! key, and the same name twice within one layer is a mistake.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::diagnostic::Mistake;
use super::names;
use super::settings::{Section, SectionInfo};
use super::syntax::{Document, Entry, Table, Value};
use super::text::{Place, quote};

/// Names are unique within one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Services, targets, sockets and timers.
    Unit,
    /// Volumes, networks and so on, each for itself.
    Own(Section),
}

impl Space {
    fn of(section: Section) -> Self {
        match section {
            Section::Service | Section::Target | Section::Socket | Section::Timer => Self::Unit,
            other => Self::Own(other),
        }
    }
}

/// A unit's table before its keys are looked at.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Its kind.
    pub section: Section,
    /// Where its header (or its first mention) is.
    pub header: Place,
    /// Its keys.
    pub table: Table,
    /// The layer that touched it last.
    layer: usize,
}

/// All raw tables.
#[derive(Debug, Default)]
pub struct Raws {
    /// By name.
    pub units: BTreeMap<(Space, String), Raw>,
    /// Those with a mistake so far.
    pub broken: BTreeSet<(Space, String)>,
    /// Files with a mistake that belongs to no unit: what units they meant is not known.
    pub flawed: BTreeSet<u32>,
}

impl Raws {
    /// Adds what a file of a layer declares. Of a document that is not sound only the
    /// names are taken: they are broken.
    pub fn add(&mut self, document: Document, layer: usize, out: &mut Vec<Mistake>) {
        for (kind, name) in document.doubled {
            let space = Section::of_kind(&kind).map_or(Space::Unit, |info| Space::of(info.section));
            self.broken.insert((space, name));
        }
        for kind in document.root.0 {
            let known = Section::of_kind(&kind.key);
            if document.sound {
                out.extend(kind_problem(&kind, known.is_some()));
            }
            let file = kind.place.file;
            let Value::Table(units) = kind.node.value else {
                self.flawed.insert(file);
                continue;
            };
            for unit in units.0 {
                match known {
                    Some(info) if document.sound => self.unit(info, unit, layer, out),
                    // It may have been right before, and then stays.
                    _ if names::problem(&unit.key).is_none() => {
                        let space = known.map_or(Space::Unit, |info| Space::of(info.section));
                        self.broken.insert((space, unit.key));
                    }
                    _ => {}
                }
            }
        }
    }

    fn unit(&mut self, info: &SectionInfo, unit: Entry, layer: usize, out: &mut Vec<Mistake>) {
        let Entry { key: name, place, node } = unit;
        let Value::Table(table) = node.value else {
            if node.value != Value::Refused {
                out.push(not_a_unit(info.kind.unwrap_or_default(), place));
            }
            self.flawed.insert(place.file);
            return;
        };
        if let Some(problem) = names::problem(&name) {
            out.push(Mistake::new(place, format!("{} is not a name", quote(&name))).help(problem));
            return;
        }
        let key = (Space::of(info.section), name);
        let problem = if key.1.contains('@') && info.section != Section::Service {
            let text = "only a service can be a template or an instance of one";
            Some(Mistake::new(place, text).help("leave out the `@`"))
        } else if key.1.ends_with('@') && !names::is_template(&key.1) {
            Some(Mistake::new(place, "a template has one `@`, at its end"))
        } else if key == (Space::Unit, names::OWN.to_owned()) {
            Some(Mistake::new(place, "`berth` is the name of the supervisor's own log"))
        } else {
            None
        };
        if problem.is_some() || table.is_flawed() {
            self.broken.insert(key.clone());
        }
        if let Some(mistake) = problem {
            out.push(mistake);
            return;
        }
        self.insert(key, Raw { section: info.section, header: node.place, table, layer }, out);
    }

    fn insert(&mut self, key: (Space, String), raw: Raw, out: &mut Vec<Mistake>) {
        let Some(earlier) = self.units.get_mut(&key) else {
            self.units.insert(key, raw);
            return;
        };
        let (name, kind) = (quote(&key.1), |section: Section| {
            section.info().and_then(|info| info.kind).unwrap_or_default()
        });
        let problem = if earlier.layer == raw.layer {
            Some(format!("{name} is defined twice"))
        } else if earlier.section != raw.section {
            let (was, is) = (kind(earlier.section), kind(raw.section));
            Some(format!("{name} cannot be a {is} here: it is a {was} already"))
        } else {
            None
        };
        if let Some(text) = problem {
            let note = "it is defined first here";
            out.push(Mistake::new(raw.header, text).note(earlier.header, note));
            self.broken.insert(key);
            return;
        }
        earlier.layer = raw.layer;
        merge(&mut earlier.table, raw.table);
    }
}

/// What is wrong with a key at the top of a file.
fn kind_problem(entry: &Entry, known: bool) -> Option<Mistake> {
    match (&entry.node.value, known) {
        (Value::Table(_), true) | (Value::Refused, _) => None,
        (_, true) => Some(not_a_unit(&entry.key, entry.place)),
        (Value::Table(_), false) => {
            let kinds: Vec<&str> = Section::ALL.iter().filter_map(|info| info.kind).collect();
            let text = format!("unknown kind of unit {}", quote(&entry.key));
            let mistake = Mistake::new(entry.place, text);
            Some(match names::nearest(&entry.key, kinds.iter().copied()) {
                Some(near) => mistake.help(format!("did you mean `{near}`?")),
                None => mistake.help(format!("the kinds are {}", kinds.join(", "))),
            })
        }
        (_, false) => {
            let text = format!("{} stands outside of a unit", quote(&entry.key));
            let help = "begin with a header such as [service.NAME]";
            Some(Mistake::new(entry.place, text).help(help))
        }
    }
}

fn not_a_unit(kind: &str, place: Place) -> Mistake {
    Mistake::new(place, format!("a {kind} is a table with a name"))
        .help(format!("write [{kind}.NAME] and its keys below"))
}

/// Keys of which the later one replaces the earlier, whichever it was.
const ALTERNATIVES: [&[&str]; 5] = [
    &["rootfs", "image"],
    &["network", "networks"],
    &["http", "tcp", "command"],
    &["reload-signal", "reload-command"],
    &["file", "environment"],
];

/// Puts one table over another. Tables merge; everything else is replaced.
fn merge(below: &mut Table, above: Table) {
    let is_new = |key: &str| above.get(key).is_some();
    let displaced = |old: &Entry| {
        let group = ALTERNATIVES.iter().find(|group| group.contains(&old.key.as_str()));
        !is_new(&old.key) && group.is_some_and(|group| group.iter().any(|key| is_new(key)))
    };
    below.0.retain(|old| !displaced(old));
    let index: HashMap<String, usize> =
        below.0.iter().enumerate().map(|(at, old)| (old.key.clone(), at)).collect();
    for entry in above.0 {
        let Some(old) = index.get(&entry.key).and_then(|at| below.0.get_mut(*at)) else {
            below.0.push(entry);
            continue;
        };
        match (&mut old.node.value, entry.node.value) {
            // One level of depth for each level of a table: the parser has bounded it.
            (Value::Table(below), Value::Table(above)) => merge(below, above),
            (_, value) => {
                old.place = entry.place;
                old.node.place = entry.node.place;
                old.node.value = value;
            }
        }
    }
}
