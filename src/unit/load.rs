//! All units together: what is right goes into the set, what is wrong is reported, and
//! where a unit that is wrong had an earlier version, that one stays in force.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::diagnostic::{Diagnostic, Mistake};
use super::draft::Draft;
use super::files::{self, Source};
use super::layers::{Raw, Raws, Space};
use super::model::{MountSource, Network, Secret, SecretSource, Unit, UnitSet};
use super::nets::{self, Nets};
use super::pool::Pool;
use super::seccomp::Profiles;
use super::secrets::Declared;
use super::settings::value::Context;
use super::settings::{self, Section, Status};
use super::text::{Files, Place};
use super::{limits, names, syntax};

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
    /// Files and directories that could not be used at all.
    pub broken_files: Vec<String>,
    /// The set could not be sent (see [`super::wire`]): it must not be used.
    pub unusable: bool,
}

impl Loaded {
    /// Whether there was no mistake.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.is_empty() && !self.unusable
    }

    /// All diagnostics as one text for people.
    pub fn report(&self) -> String {
        let mut text: String = self.diagnostics.iter().map(ToString::to_string).collect();
        if self.suppressed > 0 {
            let _ = writeln!(text, "and {} more", self.suppressed);
        }
        text
    }
}

/// Reads and checks all units of all sources.
pub fn read(sources: &[Source], previous: &Previous) -> Loaded {
    let mut found = files::gather(sources);
    let mut report = Report { mistakes: std::mem::take(&mut found.mistakes), dropped: 0 };
    let mut pool = Pool::new(previous);
    let mut named = Named::default();

    let raws = parse(&mut found, &mut report);
    let complete = check_all(raws, &mut pool, &mut named, &mut found.files, &mut report);
    let lost: HashSet<&str> = found.broken_files.iter().map(String::as_str).collect();
    let everything = !complete || found.truncated;
    pool.keep_lost(&mut found.files, |file| {
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        everything || lost.contains(file) || lost.contains(directory)
    });
    pool.instances(&mut report.mistakes);
    named.networks.keep_lost(&previous.set.networks, !lost.is_empty() || everything);
    nets::join(&mut named.networks, &mut pool, &mut found.files, &mut report.mistakes);
    pool.secrets(&named.secrets, &mut found.files, &mut report.mistakes);
    pool.settle(&mut found.files, &mut report.mistakes);
    // Ends, because each round keeps a network more.
    while named.networks.keep_used(&pool) {
        nets::join(&mut named.networks, &mut pool, &mut found.files, &mut report.mistakes);
        pool.settle(&mut found.files, &mut report.mistakes);
    }
    report.trim(&found.files);
    pool.advise(&mut report.mistakes);

    let mut earlier: &[Secret] = &[];
    if !pool.broken.is_empty() || !lost.is_empty() || !named.secrets.wrong.is_empty() {
        named.volumes.extend(previous.set.volumes.iter().cloned());
        earlier = &previous.set.secrets;
    }
    let (diagnostics, suppressed) = report.finish(found.diagnostics, &found.files);
    let (broken, kept) =
        (pool.broken.iter().cloned().collect(), pool.kept.iter().cloned().collect());
    let mut broken_files = found.broken_files;
    broken_files.sort();
    broken_files.dedup();
    let set = assemble(pool, named.volumes, named.secrets.into_list(earlier));
    let set = UnitSet { networks: named.networks.into_list(), ..set };
    Loaded { set, diagnostics, suppressed, broken, kept, broken_files, unusable: false }
}

/// What units refer to and is no unit.
#[derive(Default)]
struct Named {
    volumes: BTreeSet<String>,
    networks: Nets,
    secrets: Declared,
}

/// What a table was read to.
enum Table {
    /// A service or a target.
    Unit(Box<Checked>),
    /// A secret.
    Secret(SecretSource),
    /// A network.
    Network(Box<Network>),
    /// A volume, or of a kind that does not work yet.
    Name,
}

/// Mistakes so far. A file of nothing else cannot make it grow without an end.
struct Report {
    mistakes: Vec<Mistake>,
    dropped: usize,
}

impl Report {
    /// More than this is sorted and cut to what is shown.
    const HELD: usize = 4096;

    /// Whether nothing had to be forgotten yet.
    fn has_room(&self) -> bool {
        self.dropped == 0
    }

    /// Sorts by place, and forgets what would not be shown anyway.
    fn trim(&mut self, files: &Files) {
        let place = |mistake: &Mistake| (files.name(mistake.place.file), mistake.place);
        self.mistakes.sort_by(|a, b| place(a).cmp(&place(b)));
        self.mistakes.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        let excess = self.mistakes.len().saturating_sub(limits::DIAGNOSTICS);
        self.dropped = self.dropped.saturating_add(excess);
        self.mistakes.truncate(limits::DIAGNOSTICS);
    }

    fn extend(&mut self, more: Vec<Mistake>, files: &Files) {
        self.mistakes.extend(more);
        if self.mistakes.len() > Self::HELD {
            self.trim(files);
        }
    }

    /// What is shown, sorted, and how many are not.
    fn finish(self, more: Vec<Diagnostic>, files: &Files) -> (Vec<Diagnostic>, usize) {
        let mut all = more;
        all.extend(self.mistakes.iter().map(|mistake| mistake.resolve(files)));
        all.sort_by(|a, b| a.spot.cmp(&b.spot));
        let excess = all.len().saturating_sub(limits::DIAGNOSTICS);
        all.truncate(limits::DIAGNOSTICS);
        (all, self.dropped.saturating_add(excess))
    }
}

/// All files to raw tables.
fn parse(found: &mut files::Gathered, report: &mut Report) -> Raws {
    let mut raws = Raws::default();
    let mut nodes = 0_usize;
    for (layer, ids) in found.layers.iter().enumerate() {
        for &id in ids {
            let Some(file) = found.files.get(id) else { continue };
            let mut mistakes = Vec::new();
            let document = syntax::parse(file, id, &mut mistakes);
            nodes = nodes.saturating_add(document.nodes);
            if nodes > limits::TOTAL_NODES {
                let text = "this file is not read: all unit files together hold too many values";
                mistakes.push(Mistake::new(Place { file: id, start: 0, end: 0 }, text));
                found.broken_files.push(file.name.clone());
            } else {
                if !document.sound {
                    found.broken_files.push(file.name.clone());
                }
                raws.add(document, layer, &mut mistakes);
            }
            report.extend(mistakes, &found.files);
        }
    }
    let flawed = raws.flawed.iter().map(|id| found.files.name(*id).to_owned());
    found.broken_files.extend(flawed);
    raws
}

/// All raw tables to units. False if there were too many of them.
fn check_all(
    raws: Raws,
    pool: &mut Pool<'_>,
    named: &mut Named,
    files: &mut Files,
    report: &mut Report,
) -> bool {
    let Raws { units, mut broken, .. } = raws;
    let mut complete = true;
    let mut profiles = Profiles::default();
    for (count, ((space, name), raw)) in units.into_iter().enumerate() {
        if count >= limits::UNITS {
            let text = format!("there are more than {} units", limits::UNITS);
            report.mistakes.push(Mistake::new(raw.header, text));
            complete = false;
            break;
        }
        let mut mistakes = Vec::new();
        let checked =
            check_one(files, &name, &raw, report.has_room(), &mut profiles, &mut mistakes);
        let spoilt = broken.remove(&(space, name.clone())) || !mistakes.is_empty();
        report.extend(mistakes, files);
        match (space, checked) {
            (Space::Unit, Table::Unit(checked)) if !spoilt => pool.insert(*checked),
            (Space::Unit, Table::Unit(checked)) => pool.wreck(&name, Some(*checked), files),
            (Space::Unit, _) => pool.wreck(&name, None, files),
            (Space::Own(Section::Volume), _) if !spoilt => {
                named.volumes.insert(name);
            }
            (Space::Own(_), Table::Secret(source)) if !spoilt => {
                named.secrets.right.insert(name, source);
            }
            (Space::Own(Section::Secret), _) => {
                named.secrets.wrong.insert(name);
            }
            (Space::Own(_), Table::Network(network)) if !spoilt => {
                named.networks.insert(*network, raw.header);
            }
            (Space::Own(Section::Network), _) => named.networks.fail(&name),
            (Space::Own(_), _) => {}
        }
    }
    for (space, name) in broken {
        match space {
            Space::Unit => pool.wreck(&name, None, files),
            Space::Own(Section::Secret) => {
                named.secrets.right.remove(&name);
                named.secrets.wrong.insert(name);
            }
            Space::Own(Section::Network) => named.networks.fail(&name),
            Space::Own(_) => {}
        }
    }
    complete
}

/// Reads the keys of one table.
fn check_one(
    files: &Files,
    name: &str,
    raw: &Raw,
    hints: bool,
    profiles: &mut Profiles,
    out: &mut Vec<Mistake>,
) -> Table {
    let home = raw.header.file;
    let mut draft = Draft::new(name, files.name(home), files.line(raw.header));
    let template = names::is_template(name);
    let mut cx = Context { files, home, template, hints, profiles, out };
    if let Some(info) = raw.section.info()
        && let Status::NotYet(missing) = info.status
    {
        let kind = info.kind.unwrap_or_default();
        cx.out.push(settings::unsupported(raw.header, &format!("[{kind}.{name}]"), missing));
    }
    settings::apply(raw.section, &raw.table, &mut draft, &mut cx);
    match raw.section {
        Section::Service => Table::Unit(Box::new(check::service(draft, raw.header, &mut cx))),
        Section::Target => Table::Unit(Box::new(check::target(draft, raw.header))),
        Section::Secret => Table::Secret(check::secret(&draft, &mut cx)),
        Section::Network => Table::Network(Box::new(nets::network(draft, &mut cx))),
        _ => Table::Name,
    }
}

/// The set: relations to what is not there are dropped, `wanted-by` becomes `wants`.
fn assemble(pool: Pool<'_>, mut volumes: BTreeSet<String>, secrets: Vec<Secret>) -> UnitSet {
    let present: HashSet<String> = pool.units.keys().cloned().collect();
    let mut wanted: HashMap<String, Vec<String>> = HashMap::new();
    let mut units: Vec<Unit> = Vec::with_capacity(pool.units.len());
    for mut unit in pool.units.into_values().map(|checked| checked.unit) {
        let Unit { requires, wants, after, before, conflicts, wanted_by, .. } = &mut unit;
        for list in [requires, wants, after, before, conflicts, wanted_by] {
            list.retain(|name| present.contains(name));
        }
        for target in &unit.wanted_by {
            wanted.entry(target.clone()).or_default().push(unit.name.clone());
        }
        for mount in unit.service().into_iter().flat_map(|service| &service.mounts) {
            if let MountSource::Volume { name } = &mount.value.source {
                volumes.insert(name.clone());
            }
        }
        units.push(unit);
    }
    for unit in &mut units {
        let more = wanted.remove(&unit.name).unwrap_or_default();
        let known: HashSet<String> = unit.requires.iter().chain(&unit.wants).cloned().collect();
        unit.wants.extend(more.into_iter().filter(|name| !known.contains(name)));
    }
    UnitSet {
        units: units.into_iter().map(Arc::new).collect(),
        volumes: volumes.into_iter().collect(),
        networks: Vec::new(),
        secrets,
        templates: pool.templates.into_values().map(|checked| checked.unit).collect(),
    }
}
