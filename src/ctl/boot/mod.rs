//! How long starts took: what `blame`, `critical-chain` and `plot` have in common.
//!
//! What must always hold: they tell of the first start of each unit since the supervisor
//! began, however often it has been started since; times are those of the supervisor, whose
//! zero is its own beginning, on a machine the moment when the kernel handed over.

pub mod blame;
pub mod chain;
pub mod lanes;
pub mod plot;

use super::Context;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use crate::protocol::insight::{Phases, UnitTimes};
use crate::protocol::method::{Deps, Timeline, Version, VersionReply};
use crate::protocol::types::Dependency;

/// The starts of all units, and of the supervisor itself.
#[derive(Debug)]
pub struct Boot {
    /// The supervisor.
    pub supervisor: VersionReply,
    /// Sorted by name.
    pub units: Vec<UnitTimes>,
}

impl Boot {
    /// Asks for them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn fetch(context: &Context) -> Result<Self, Failure> {
        let mut client = context.connect()?;
        let supervisor = client.call(&Version {}, &Patience::at_most(ANSWER))?;
        let mut units = Vec::new();
        client.stream(&Timeline {}, &Patience::at_most(ANSWER), |page| {
            units.extend(page.units);
            Ok(())
        })?;
        Ok(Self { supervisor, units })
    }

    /// The unit of this name.
    pub fn unit(&self, name: &str) -> Option<&UnitTimes> {
        self.units.iter().find(|unit| unit.name == name)
    }

    /// When the target that was to be reached was.
    pub fn reached(&self) -> Option<i64> {
        self.unit(self.target())?.first?.ready
    }

    /// The target that was to be reached.
    pub fn target(&self) -> &str {
        self.supervisor.target.as_deref().unwrap_or("default")
    }

    /// `up after 3.2s: kernel 1.9s + berth 1.3s`
    pub fn summary(&self) -> String {
        let Some(reached) = self.reached() else {
            return format!("{} is not reached yet", self.target());
        };
        let target = self.target();
        match self.supervisor.kernel.and_then(|kernel| i64::try_from(kernel).ok()) {
            None => format!("{target} was reached after {}", span(reached)),
            Some(kernel) => format!(
                "{target} was reached after {}: kernel {} + berth {}",
                span(kernel.saturating_add(reached)),
                span(kernel),
                span(reached)
            ),
        }
    }
}

/// What all units depend on.
///
/// # Errors
/// See [`Failure`].
pub fn dependencies(context: &Context) -> Result<Vec<Dependency>, Failure> {
    let mut all = Vec::new();
    let call = Deps { unit: None, reverse: false };
    context.connect()?.stream(&call, &Patience::at_most(ANSWER), |page| {
        all.extend(page.dependencies);
        Ok(())
    })?;
    Ok(all)
}

/// How long a start took, from when nothing it needs was missing until it was ready.
pub fn took(phases: &Phases) -> Option<i64> {
    let begun = phases.preparing.or(phases.starting)?;
    Some(phases.ready?.saturating_sub(begun))
}

/// Microseconds for people, in at least three digits: `85us`, `3.42ms`, `342ms`, `3.421s`,
/// `2min 3.4s`.
pub fn span(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let tenths = micros / 100_000;
    match micros {
        0..1_000 => format!("{sign}{micros}us"),
        1_000..10_000 => format!("{sign}{}.{:02}ms", micros / 1_000, micros % 1_000 / 10),
        10_000..1_000_000 => format!("{sign}{}ms", micros / 1_000),
        1_000_000..60_000_000 => {
            format!("{sign}{}.{:03}s", micros / 1_000_000, micros % 1_000_000 / 1_000)
        }
        _ => format!("{sign}{}min {}.{}s", tenths / 600, tenths % 600 / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_exact_enough() {
        for (micros, text) in [
            (0, "0us"),
            (85, "85us"),
            (3_429, "3.42ms"),
            (34_290, "34ms"),
            (342_900, "342ms"),
            (3_421_000, "3.421s"),
            (59_999_999, "59.999s"),
            (60_000_000, "1min 0.0s"),
            (123_456_789, "2min 3.4s"),
            (-5_000, "-5.00ms"),
        ] {
            assert_eq!(span(micros), text);
        }
    }
}
