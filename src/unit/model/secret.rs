//! `[secret.NAME]` and `secrets = […]`: what a service is given and nobody else may see.
//!
//! What must always hold: nothing of the model is or contains the value of a secret, only
//! where it is found; a model is compared, sent, shown and logged.

use serde::{Deserialize, Serialize};

use super::At;
#[cfg(doc)]
use super::Rare;
use super::rare::Unset;

/// One `[secret.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where the value of a secret is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// In the state directory, put there by `berthctl secret set`.
    #[default]
    Stored,
    /// In a file of the host, by its absolute path.
    File(String),
    /// In a variable of the supervisor's own environment.
    Environment(String),
}

/// A secret as one service gets it: a file in [`DIRECTORY`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Which secret.
    pub secret: String,
    /// Name of the file.
    pub target: String,
    /// Owner, as the unit numbers users; the unit's own when `None`.
    pub uid: Option<u32>,
    /// Group, likewise.
    pub gid: Option<u32>,
    /// Mode of the file, default 0400.
    pub mode: u32,
    /// Where the value is, as the `[secret.NAME]` of the same units said: when that changes
    /// the service has changed.
    pub source: SecretSource,
}

/// Where a service finds its secrets.
pub const DIRECTORY: &str = "/run/secrets";

/// The secrets of a service. Most have none: see [`Rare`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Secrets {
    /// In the order written, no two with the same target.
    pub uses: Vec<At<SecretUse>>,
}

impl Unset for Secrets {
    const UNSET: &'static Self = &Self { uses: Vec::new() };
}

impl Secrets {
    /// Calls `f` for every string that a person wrote, for templates. All fields are named,
    /// so that a new one cannot be forgotten.
    pub fn strings(&mut self, f: &mut dyn FnMut(&mut String)) {
        for At { value, line: _ } in &mut self.uses {
            let SecretUse { secret, target, uid: _, gid: _, mode: _, source: _ } = value;
            f(secret);
            f(target);
        }
    }
}
