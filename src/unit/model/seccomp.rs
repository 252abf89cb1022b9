//! `seccomp = …`: which system calls a service's processes may make.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Shared;
use crate::seccomp::Profile;

/// What a unit file names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The default profile.
    Default,
    /// Any.
    Unconfined,
    /// A profile that was read from a file.
    Profile {
        /// Absolute host path.
        path: String,
        /// What it says. A unit whose profile was changed has changed.
        profile: Shared,
    },
}

/// What decides about the calls of a service's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The default profile.
    Default,
    /// One of its own.
    Profile {
        /// Where it was read, for the name of the step.
        path: String,
        /// What it says.
        profile: Arc<Profile>,
    },
}

impl Seccomp {
    /// Whether calls are filtered, and by what.
    pub fn filter(&self) -> Option<Filter> {
        match self {
            Self::Default => Some(Filter::Default),
            Self::Unconfined => None,
            Self::Profile { path, profile } => {
                Some(Filter::Profile { path: path.clone(), profile: profile.0.clone() })
            }
        }
    }
}
