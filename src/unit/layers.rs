//! From files to one raw table for each unit: later layers override earlier ones key by
//! key, and the same name twice within one layer is a mistake.

use std::collections::{BTreeMap, BTreeSet};

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
}

impl Raws {
    /// Adds what a file of a layer declares. Of a document that is not sound only the
    /// names are taken: they are broken.
    pub fn add(&mut self, document: Document, layer: usize, out: &mut Vec<Mistake>) {
        for kind in document.root.0 {
            let Some(info) = kind_of(&kind, document.sound, out) else { continue };
            let Value::Table(units) = kind.node.value else {
                if document.sound {
                    out.push(not_a_unit(&kind.key, kind.place));
                }
                continue;
            };
            for unit in units.0 {
                if document.sound {
                    self.unit(info, unit, layer, out);
                } else {
                    self.broken.insert((Space::of(info.section), unit.key));
                }
            }
        }
    }

    fn unit(&mut self, info: &SectionInfo, unit: Entry, layer: usize, out: &mut Vec<Mistake>) {
        let Entry { key: name, place, node } = unit;
        let Value::Table(table) = node.value else {
            let kind = info.kind.unwrap_or_default();
            out.push(not_a_unit(kind, place));
            return;
        };
        let problem = if let Some(problem) = names::problem(&name) {
            Some(Mistake::new(place, format!("{} is not a name", quote(&name))).help(problem))
        } else if name.contains('@') && info.section != Section::Service {
            let text = "only a service can be a template or an instance of one";
            Some(Mistake::new(place, text).help("leave out the `@`"))
        } else if name.ends_with('@') && !names::is_template(&name) {
            Some(Mistake::new(place, "a template has one `@`, at its end"))
        } else {
            None
        };
        if let Some(mistake) = problem {
            out.push(mistake);
            self.broken.insert((Space::of(info.section), name));
            return;
        }
        let raw = Raw { section: info.section, header: node.place, table, layer };
        self.insert(name, raw, out);
    }

    fn insert(&mut self, name: String, raw: Raw, out: &mut Vec<Mistake>) {
        let key = (Space::of(raw.section), name);
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

fn kind_of(kind: &Entry, sound: bool, out: &mut Vec<Mistake>) -> Option<&'static SectionInfo> {
    let found = Section::of_kind(&kind.key);
    if found.is_none() && sound {
        let kinds: Vec<&str> = Section::ALL.iter().filter_map(|info| info.kind).collect();
        let mistake = if matches!(kind.node.value, Value::Table(_)) {
            Mistake::new(kind.place, format!("unknown kind of unit {}", quote(&kind.key)))
        } else {
            let text = format!("{} stands outside of a unit", quote(&kind.key));
            out.push(
                Mistake::new(kind.place, text).help("begin with a header such as [service.NAME]"),
            );
            return None;
        };
        out.push(match names::nearest(&kind.key, kinds.iter().copied()) {
            Some(near) => mistake.help(format!("did you mean `{near}`?")),
            None => mistake.help(format!("the kinds are {}", kinds.join(", "))),
        });
    }
    found
}

fn not_a_unit(kind: &str, place: Place) -> Mistake {
    Mistake::new(place, format!("a {kind} is a table with a name"))
        .help(format!("write [{kind}.NAME] and its keys below"))
}

/// Keys of which the later one replaces the earlier, whichever it was.
const ALTERNATIVES: [&[&str]; 4] = [
    &["rootfs", "image"],
    &["network", "networks"],
    &["http", "tcp", "command"],
    &["reload-signal", "reload-command"],
];

/// Puts one table over another. Tables merge; everything else is replaced.
fn merge(below: &mut Table, above: Table) {
    for entry in above.0 {
        let group = ALTERNATIVES.iter().find(|group| group.contains(&entry.key.as_str()));
        if let Some(group) = group {
            below.0.retain(|old| old.key == entry.key || !group.contains(&old.key.as_str()));
        }
        let Some(old) = below.0.iter_mut().find(|old| old.key == entry.key) else {
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
