//! What services and targets have in common: description and relations.

use std::collections::HashSet;

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::diagnostic::Mistake;
use crate::unit::draft::{Draft, Reference, Relation};
use crate::unit::names;
use crate::unit::syntax::Node;
use crate::unit::text::quote;

const BOTH: &[Section] = &[Section::Service, Section::Target];
const NAMES: &str = "list of names";

const BAD: &[&str] = &["\"a\"", "[1]", "[\"../a\"]", "[\"x\"]"];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(BOTH, "description", "string", "\"\"", |d, v, cx| {
        put(&mut d.unit.description, value::line(v, cx));
    })
    .help("One line for people.")
    .good(&["\"the only public entry\""])
    .bad(&["1", "\"two\\nlines\""]),
    Setting::new(BOTH, "requires", NAMES, "[]", |d, v, cx| relate(Relation::Requires, d, v, cx))
        .help(
            "Units this one cannot be without. They are started too, and it waits until \
         they are ready; when one of them stops, it is stopped first. If one fails, \
         this one does not start.",
        )
        .good(&["[\"other\"]"])
        .bad(BAD),
    Setting::new(BOTH, "wants", NAMES, "[]", |d, v, cx| relate(Relation::Wants, d, v, cx))
        .help("As `requires`, but their failure is no obstacle.")
        .good(&["[\"other\"]"])
        .bad(BAD),
    Setting::new(BOTH, "after", NAMES, "[]", |d, v, cx| relate(Relation::After, d, v, cx))
        .help(
            "Order only: if both are to be started, this one waits for those. Stopping \
         goes the other way round.",
        )
        .good(&["[\"other\"]"])
        .bad(BAD),
    Setting::new(BOTH, "before", NAMES, "[]", |d, v, cx| relate(Relation::Before, d, v, cx))
        .help("Order only, the other way round.")
        .good(&["[\"other\"]"])
        .bad(BAD),
    Setting::new(BOTH, "conflicts", NAMES, "[]", |d, v, cx| {
        relate(Relation::Conflicts, d, v, cx);
    })
    .help("Never up together: starting one stops the other.")
    .good(&["[\"other\"]"])
    .bad(BAD),
    Setting::new(
        BOTH,
        "wanted-by",
        NAMES,
        "[\"default\"] for services, [] for targets",
        |d, v, cx| {
            d.wanted_by_default = false;
            relate(Relation::WantedBy, d, v, cx);
        },
    )
    .help(
        "Targets that want this unit, as if they named it in their `wants`. With `[]` \
         it is only started when something asks for it. Instances of a template that \
         does not set it have `[]`.",
    )
    .good(&["[]", "[\"default\"]"])
    .bad(&["\"default\"", "[\"no-such-target\"]", "[\"other\"]"]),
];

/// Reads a list of unit names. A name that is said twice counts once.
fn relate(relation: Relation, draft: &mut Draft, node: &Node, cx: &mut Context<'_>) {
    let own = draft.unit.name.clone();
    let mut seen = HashSet::new();
    value::list(node, "a list of unit names", cx, |item, cx| {
        let name = value::text(item, cx)?;
        // In a template the name is only complete once the instance is known.
        let sample = if cx.template { name.replace("%i", "i") } else { name.to_owned() };
        if let Some(problem) = names::problem(&sample) {
            return cx.advise::<()>(item, format!("{} is not a unit name", quote(name)), problem);
        }
        if names::is_template(name) {
            let help = format!("name an instance, such as \"{name}1\"");
            return cx.advise(item, format!("{} is a template", quote(name)), help);
        }
        if name == own {
            let message = format!("{} names itself here", quote(name));
            cx.out.push(Mistake::new(item.place, message));
            return None;
        }
        if seen.insert(name.to_owned()) {
            let reference = Reference { relation, name: name.to_owned(), place: item.place };
            draft.references.push(reference);
        }
        Some(())
    });
}
