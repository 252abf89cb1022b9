//! The one table of settings.
//!
//! Each setting is declared once, with its table, type, default, help, examples and the
//! function that reads it into the model. The parser, the hint at the nearest key, the
//! unknown-key error, `docs/reference.md` and the tests all walk this table: what is not
//! in it does not exist.

mod common;
mod devices;
mod groups;
mod health;
mod later;
mod limits;
mod log;
mod mount;
mod network;
mod process;
mod sandbox;
pub mod secret;
mod security;
mod service;
pub(super) mod sysctls;
mod user_namespace;
pub mod value;

use super::diagnostic::Mistake;
use super::draft::Draft;
use super::names;
use super::syntax::{Entry, Node, Table, Value};
use super::text::quote;
use value::Context;

/// A table of a unit file (or a part of one) that has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// `[service.NAME]`
    Service,
    /// `restart-limit = { … }`
    RestartLimit,
    /// An entry of `mounts`.
    Mount,
    /// `[service.NAME.limits]`
    Limits,
    /// `[service.NAME.security]`
    Security,
    /// `[service.NAME.health]`
    Health,
    /// `[service.NAME.log]`
    Log,
    /// `[target.NAME]`
    Target,
    /// `[volume.NAME]`
    Volume,
    /// `[socket.NAME]`
    Socket,
    /// `[timer.NAME]`
    Timer,
    /// `[network.NAME]`
    Network,
    /// `networks = { NAME = { … } }`
    Membership,
    /// `[secret.NAME]`
    Secret,
    /// An entry of `secrets`.
    SecretUse,
    /// `[image.NAME]`
    Image,
}

/// Whether something works yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Works,
    /// It is known and refused; the text says what is missing.
    NotYet(&'static str),
}

/// What is said about a [`Section`].
#[derive(Debug, Clone, Copy)]
pub struct SectionInfo {
    /// Which.
    pub section: Section,
    /// As people write it.
    pub title: &'static str,
    /// The first part of `[KIND.NAME]`, if it is a kind of unit.
    pub kind: Option<&'static str>,
    /// For the reference.
    pub help: &'static str,
    /// Whether it works yet.
    pub status: Status,
}

impl Section {
    /// All sections, in the order of the reference.
    pub const ALL: [SectionInfo; 16] = [
        section(Self::Service, "[service.NAME]", Some("service"), "A service runs a command."),
        section(
            Self::RestartLimit,
            "restart-limit",
            None,
            "Part of `[service.NAME]`: `restart-limit = { count = 10, window = \"1min\" \
         }`.",
        ),
        section(
            Self::Mount,
            "mounts",
            None,
            "Part of `[service.NAME]`: each entry of the list `mounts` is a table with \
         these keys.",
        ),
        section(
            Self::SecretUse,
            "secrets",
            None,
            "Part of `[service.NAME]`: an entry of the list `secrets` is a name, or a table with \
         these keys.",
        ),
        section(
            Self::Limits,
            "[service.NAME.limits]",
            None,
            "Resource limits, by cgroup and rlimit. What is not set is as inherited.",
        ),
        section(
            Self::Security,
            "[service.NAME.security]",
            None,
            "What the service's processes may do.",
        ),
        section(
            Self::Health,
            "[service.NAME.health]",
            None,
            "A check that runs inside the unit while it runs. Exactly one of `command`, \
         `http` and `tcp` is needed.",
        ),
        section(Self::Log, "[service.NAME.log]", None, "Where output goes."),
        section(
            Self::Target,
            "[target.NAME]",
            Some("target"),
            "A target runs nothing: it is a name for what it requires and wants. The \
         target `default` always exists; it is what is started at boot.",
        ),
        section(
            Self::Volume,
            "[volume.NAME]",
            Some("volume"),
            "A named volume: a directory that is kept in the state directory. It is made \
         when it is first used, so the table is only needed to say that it is meant.",
        ),
        section(
            Self::Secret,
            "[secret.NAME]",
            Some("secret"),
            "A password, a key: what services that list it in `secrets` are given and nobody \
         else may see. Without any key it is the one that `berthctl secret set NAME` has read \
         from its standard input: it is kept encrypted in the state directory, with a key \
         that lies beside it (`secret.key`). That protects a copy of the directory `secrets` \
         alone, and from looking at it by accident; not from who can read both.",
        ),
        not_yet(Self::Socket, "[socket.NAME]", "socket", "socket activation"),
        not_yet(Self::Timer, "[timer.NAME]", "timer", "timers"),
        section(
            Self::Network,
            "[network.NAME]",
            Some("network"),
            "A network that services join with `networks`. It is made for the first of them, and \
         removed with the last.",
        ),
        section(
            Self::Membership,
            "networks",
            None,
            "Part of `[service.NAME]`: `networks = { front = { ip = \"10.89.0.5\" } }`. A list of \
         names is short for tables without keys.",
        ),
        not_yet(Self::Image, "[image.NAME]", "image", "images"),
    ];

    /// What is said about it.
    pub fn info(self) -> Option<&'static SectionInfo> {
        const ALL: &[SectionInfo] = &Section::ALL;
        ALL.iter().find(|info| info.section == self)
    }

    /// The kind of unit of this name.
    pub fn of_kind(kind: &str) -> Option<&'static SectionInfo> {
        const ALL: &[SectionInfo] = &Section::ALL;
        ALL.iter().find(|info| info.kind == Some(kind))
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        self.info().map_or("", |info| info.title)
    }
}

const fn section(
    section: Section,
    title: &'static str,
    kind: Option<&'static str>,
    help: &'static str,
) -> SectionInfo {
    SectionInfo { section, title, kind, help, status: Status::Works }
}

const fn not_yet(
    section: Section,
    title: &'static str,
    kind: &'static str,
    missing: &'static str,
) -> SectionInfo {
    let status = Status::NotYet(missing);
    SectionInfo { section, title, kind: Some(kind), help: "", status }
}

/// Reads a value into the draft, or says what is wrong with it.
pub type Apply = fn(&mut Draft, &Node, &mut Context<'_>);

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The tables it may stand in.
    pub sections: &'static [Section],
    /// Its key.
    pub key: &'static str,
    /// Its type, for people.
    pub kind: &'static str,
    /// Its default, for people.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether it works yet.
    pub status: Status,
    /// Values that are right; the first is the example of the reference.
    pub good: &'static [&'static str],
    /// Values that are refused.
    pub bad: &'static [&'static str],
    /// Other lines that the good values need, for the tests.
    pub with: &'static str,
    /// Reads it.
    pub apply: Apply,
}

impl Setting {
    /// A setting that works.
    const fn new(
        sections: &'static [Section],
        key: &'static str,
        kind: &'static str,
        default: &'static str,
        apply: Apply,
    ) -> Self {
        let status = Status::Works;
        Self {
            sections,
            key,
            kind,
            default,
            help: "",
            status,
            good: &[],
            bad: &[],
            with: "",
            apply,
        }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    const fn good(self, good: &'static [&'static str]) -> Self {
        Self { good, ..self }
    }

    const fn bad(self, bad: &'static [&'static str]) -> Self {
        Self { bad, ..self }
    }

    const fn with(self, with: &'static str) -> Self {
        Self { with, ..self }
    }

    /// Known and checked, but refused.
    const fn later(self, missing: &'static str) -> Self {
        Self { status: Status::NotYet(missing), ..self }
    }
}

/// All settings, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    [
        process::SETTINGS,
        sandbox::SETTINGS,
        secret::SETTINGS,
        common::SETTINGS,
        service::SETTINGS,
        network::SETTINGS,
        mount::SETTINGS,
        limits::SETTINGS,
        groups::SETTINGS,
        security::SETTINGS,
        devices::SETTINGS,
        sysctls::SETTINGS,
        user_namespace::SETTINGS,
        health::SETTINGS,
        log::SETTINGS,
        later::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

/// The settings of one table.
pub fn of(section: Section) -> impl Iterator<Item = &'static Setting> {
    all().filter(move |setting| setting.sections.contains(&section))
}

/// Reads every entry of a table into the draft.
pub fn apply(section: Section, table: &Table, draft: &mut Draft, cx: &mut Context<'_>) {
    // What was refused as text has been reported.
    for entry in table.0.iter().filter(|entry| entry.node.value != Value::Refused) {
        let Some(setting) = of(section).find(|setting| setting.key == entry.key) else {
            let mistake = unknown_key(section, entry, &draft.unit.name, cx.hints);
            cx.out.push(mistake);
            continue;
        };
        draft.mark(section, setting.key, entry.place);
        let before = cx.out.len();
        (setting.apply)(draft, &entry.node, cx);
        let works_here = section.info().is_some_and(|info| info.status == Status::Works);
        if let Status::NotYet(missing) = setting.status
            && works_here
            && cx.out.len() == before
        {
            cx.out.push(unsupported(entry.place, setting.key, missing));
        }
    }
}

/// Something that is known and does not work yet.
pub fn unsupported(place: super::text::Place, what: &str, missing: &str) -> Mistake {
    Mistake::new(place, format!("`{what}` is not supported yet"))
        .help(format!("remove it: {missing} will come with a later version"))
}

fn unknown_key(section: Section, entry: &Entry, unit: &str, hints: bool) -> Mistake {
    let title = section.title().replace("NAME", unit);
    let message = format!("unknown key {} in {title}", quote(&entry.key));
    let mistake = Mistake::new(entry.place, message);
    if !hints {
        return mistake;
    }
    if let Some(near) = names::nearest(&entry.key, of(section).map(|setting| setting.key)) {
        return mistake.help(format!("did you mean `{near}`?"));
    }
    // The right key in the wrong table.
    let elsewhere = all().find(|setting| setting.key == entry.key);
    if let Some(other) = elsewhere.and_then(|setting| setting.sections.first()) {
        return mistake.help(format!("`{}` belongs into {}", entry.key, other.title()));
    }
    let known: Vec<&str> = of(section).map(|setting| setting.key).collect();
    match known.len() {
        0 => mistake.help("this table has no keys"),
        1..=12 => mistake.help(format!("known keys: {}", known.join(", "))),
        _ => mistake,
    }
}
