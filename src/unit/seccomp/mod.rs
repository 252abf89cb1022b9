//! Profiles of system calls that unit files name: files are read once each, and become what
//! [`crate::seccomp`] compiles.
//!
//! Runs where unit files are read: in a forked child under limits. What must always hold:
//! a profile that was accepted compiles, whatever its unit's capabilities are; and what is
//! not understood is a mistake, never less confinement than its author meant. (Unknown names
//! of system calls are the exception that the OCI's specification makes: profiles are written
//! for all architectures and kernels at once.)

mod oci;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::files::{self, Refusal};
use super::limits;
use super::shared::Shared;
use crate::seccomp::{self, Facts, Kernel, Profile};

/// The profiles that were read so far, by path.
#[derive(Debug, Default)]
pub struct Profiles {
    known: BTreeMap<String, Result<Shared, Refusal>>,
}

impl Profiles {
    /// The profile in a file.
    ///
    /// # Errors
    /// Why it cannot be used, in a phrase, and advice.
    pub fn get(&mut self, path: &str) -> Result<Shared, Refusal> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        if self.known.len() >= limits::PROFILES {
            let text = format!("the units name more than {} profiles", limits::PROFILES);
            return Err((text, Some("let them share some")));
        }
        let read = read(Path::new(path)).map(|profile| Shared(Arc::new(profile)));
        self.known.insert(path.to_owned(), read.clone());
        read
    }
}

fn read(path: &Path) -> Result<Profile, Refusal> {
    let profile = oci::parse(&files::read(path)?).map_err(|text| (text, None))?;
    // Rules that ask for capabilities, those that exclude them, new kernels and old ones.
    for capabilities in [0, u64::MAX] {
        for kernel in [Kernel(0, 0), Kernel(u32::MAX, 0)] {
            seccomp::compile(&profile, &Facts { capabilities, kernel }).map_err(|_| {
                let text = "it makes a longer program than the kernel takes (4096 instructions)";
                (text.to_owned(), Some("compare fewer arguments"))
            })?;
        }
    }
    Ok(profile)
}
