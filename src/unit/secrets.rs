//! Secrets and who uses them: a service that lists one which nobody declares is wrong; one
//! that is right carries from here on where the value is found.
//!
//! What must hold: an earlier version of a service keeps the sources it had, and is not
//! measured by what is declared now.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Checked;
use super::diagnostic::Mistake;
use super::limits;
use super::model::{Kind, Secret, SecretSource};
use super::names;
use super::pool::Pool;
use super::text::{Files, Place, quote};

/// All `[secret.NAME]`.
#[derive(Debug, Default)]
pub struct Declared {
    /// Those that are right.
    pub right: BTreeMap<String, SecretSource>,
    /// Names of those that are not.
    pub wrong: BTreeSet<String>,
}

impl Declared {
    /// Sorted by name; earlier ones stay where the present ones may not be all.
    pub fn into_list(self, earlier: &[Secret]) -> Vec<Secret> {
        let mut all = self.right;
        for Secret { name, source } in earlier {
            all.entry(name.clone()).or_insert_with(|| source.clone());
        }
        all.into_iter().map(|(name, source)| Secret { name, source }).collect()
    }

    /// What is wrong with the secrets that a service lists.
    fn mistakes(&self, checked: &Checked, hints: bool) -> Vec<Mistake> {
        let uses = checked.unit.service().map(|service| service.secrets.uses.as_slice());
        let uses = uses.unwrap_or_default().iter().map(|at| at.value.secret.as_str());
        let whole = |name: &str| !names::is_template(&checked.unit.name) || !name.contains("%i");
        let unknown = uses
            .zip(&checked.secrets)
            .filter(|(name, _)| whole(name) && !self.right.contains_key(*name));
        let mistake = |(name, place): (&str, &Place)| {
            if self.wrong.contains(name) {
                let text = format!("this needs the secret {}, which has a mistake", quote(name));
                return Mistake::new(*place, text);
            }
            let mistake = Mistake::new(*place, format!("there is no secret {}", quote(name)));
            let known = self.right.keys().chain(&self.wrong).map(String::as_str);
            match names::nearest(name, known.filter(|_| hints)) {
                Some(near) => mistake.help(format!("did you mean `{near}`?")),
                None => mistake.help(format!("declare it: [secret.{name}]")),
            }
        };
        unknown.map(mistake).collect()
    }
}

impl Pool<'_> {
    /// Settles where the secrets of all services are found. To be called once the instances
    /// are made; what is wrong is taken out.
    pub fn secrets(&mut self, declared: &Declared, files: &mut Files, out: &mut Vec<Mistake>) {
        let mut hints = limits::DIAGNOSTICS;
        let mut look = |checked: &Checked| {
            let mistakes = declared.mistakes(checked, hints > 0);
            hints = hints.saturating_sub(mistakes.len());
            mistakes
        };
        out.extend(self.wrecks.iter().flat_map(&mut look));
        let mut wrong = Vec::new();
        for (name, checked) in self.templates.iter_mut().chain(&mut self.units) {
            if self.kept.contains(name) {
                continue;
            }
            let mistakes = look(checked);
            if !mistakes.is_empty() {
                out.extend(mistakes);
                wrong.push(name.clone());
            } else if let Kind::Service(service) = &mut checked.unit.kind
                && !service.secrets.uses.is_empty()
            {
                for used in &mut service.secrets.uses {
                    let source = declared.right.get(&used.value.secret);
                    used.value.source = source.cloned().unwrap_or_default();
                }
            }
        }
        for name in wrong {
            self.fail(&name, files);
        }
    }
}
