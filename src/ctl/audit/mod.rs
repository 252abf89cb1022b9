//! `berthctl audit`: what protects others from a service, what does not, and a score.
//!
//! From the definition that is in force and what the supervisor could not enforce; of a
//! running unit also from what the kernel says of its main process. Where the two differ
//! the verb fails.

pub mod defence;
pub mod groups;
pub mod promise;
pub mod proof;

use serde_json::{Value, json};

use super::Context;
use super::client::{ANSWER, Client, Patience};
use super::failure::{Failure, complain};
use super::render::{self, Color, Table};
use crate::protocol::method::{List, Show, Version};
use crate::protocol::types::Kind;
use defence::{Finding, Hold, TABLE};
use promise::Definition;

/// A unit, looked at.
struct Audit {
    unit: String,
    findings: Vec<Finding>,
    /// Whether the kernel was asked.
    verified: bool,
}

/// Prints one unit's defences, or a line for each service.
///
/// # Errors
/// See [`Failure`]; exit code 1 where the kernel does not hold what was promised.
pub fn run(context: &mut Context, unit: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut client = context.connect()?;
    let patience = Patience::at_most(ANSWER);
    let supervisor = client.call(&Version {}, &patience)?.pid;
    let audits = if let Some(unit) = unit {
        vec![audit(&mut client, unit, supervisor)?]
    } else {
        let mut services = Vec::new();
        client.stream(&List {}, &patience, |page| {
            let units = page.units.into_iter().filter(|unit| unit.kind == Kind::Service);
            services.extend(units.map(|unit| unit.name));
            Ok(())
        })?;
        let all = services.iter().map(|name| audit(&mut client, name, supervisor));
        all.collect::<Result<Vec<_>, _>>()?
    };
    if json {
        context.json(&audits.iter().map(value).collect::<Vec<_>>())?;
    } else if unit.is_some() {
        audits.iter().try_for_each(|audit| details(context, audit))?;
    } else {
        lines(context, &audits)?;
    }
    differences(&audits)
}

fn audit(client: &mut Client, unit: &str, supervisor: u32) -> Result<Audit, Failure> {
    let shown = client.call(&Show { unit: unit.to_owned() }, &Patience::at_most(ANSWER))?;
    if shown.status.kind != Kind::Service {
        return Err(Failure::Other(format!("{unit} is no service: it runs nothing")));
    }
    let definition = Definition(&shown.definition);
    let mut findings = promise::findings(definition, &shown.status);
    let proof = proof::look(&shown.status, supervisor);
    if let Some(proof) = &proof {
        proof.correct(&mut findings, definition);
    }
    Ok(Audit { unit: shown.status.name, findings, verified: proof.is_some() })
}

fn value(audit: &Audit) -> Value {
    let score = defence::score(&audit.findings);
    let rows = audit.findings.iter().zip(TABLE).map(|(it, (_, name, weight, why))| {
        json!({
            "name": name, "holds": it.hold, "detail": it.detail, "weight": weight,
            "points": defence::points(weight, it.hold), "why": why, "differs": it.differs,
        })
    });
    json!({
        "name": audit.unit, "score": score, "word": defence::word(score),
        "verified": audit.verified, "defences": rows.collect::<Vec<_>>(),
    })
}

fn colored(score: u32) -> (String, Color) {
    let color = match score {
        70.. => Color::Green,
        40..70 => Color::Yellow,
        _ => Color::Red,
    };
    (defence::word(score).to_owned(), color)
}

fn details(context: &mut Context, audit: &Audit) -> Result<(), Failure> {
    let mut table = Table::new(&["DEFENCE", "HOLDS", "POINTS", "WHAT"]);
    for (finding, (_, name, weight, why)) in audit.findings.iter().zip(TABLE) {
        let holds = match finding.hold {
            Hold::Yes => ("yes", Color::Green),
            Hold::Partly => ("partly", Color::Yellow),
            Hold::No => ("no", Color::Red),
        };
        let what = match (&finding.differs, finding.detail.as_str(), finding.hold) {
            (Some(differs), ..) => differs.clone(),
            (None, "", Hold::No) => why.to_owned(),
            (None, detail, _) => detail.to_owned(),
        };
        let color = if finding.differs.is_some() { Color::Red } else { Color::Plain };
        table.row(vec![
            (name.to_owned(), Color::Plain),
            (holds.0.to_owned(), holds.1),
            (format!("{}/{weight}", defence::points(weight, finding.hold)), Color::Plain),
            (what, color),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)?;
    let score = defence::score(&audit.findings);
    let (word, color) = colored(score);
    let word = context.style.paint(color, &word);
    let verified = if audit.verified { "" } else { " (as defined; no process was looked at)" };
    context.say(&format!("\n{}: {score} of 100, {word}{verified}", render::line(&audit.unit)))
}

fn lines(context: &mut Context, audits: &[Audit]) -> Result<(), Failure> {
    let mut table = Table::new(&["NAME", "SCORE", "WORD", "VERIFIED"]);
    for audit in audits {
        let score = defence::score(&audit.findings);
        let verified = if audit.verified { "yes" } else { "no" };
        table.row(vec![
            (audit.unit.clone(), Color::Plain),
            (score.to_string(), Color::Plain),
            colored(score),
            (verified.to_owned(), Color::Plain),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

/// What was promised and is not so, on stderr.
fn differences(audits: &[Audit]) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for audit in audits {
        for (finding, (_, name, ..)) in audit.findings.iter().zip(TABLE) {
            if finding.differs.is_some() {
                wrong.push(format!("{name} of {}", audit.unit));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    complain(&format!("the kernel does not hold what was promised: {}", wrong.join(", ")));
    Err(Failure::Said(1))
}
