//! What of a call serde cannot check: lists that must name something, numbers with a range,
//! and which calls have more than one reply.

use std::ops::RangeInclusive;

use super::error::Error;
use super::method::{
    Call, Exec, Freeze, Kill, Logs, Reload, Reset, Restart, Start, Stop, Thaw, Usage,
};

/// Milliseconds between two rounds of `Usage`.
const INTERVALS: RangeInclusive<u64> = 100..=3_600_000;

impl Call {
    /// What serde cannot know: lists that must name something, numbers with a range.
    pub(super) fn check(&self) -> Result<(), Error> {
        let invalid =
            |parameter: &str| Err(Error::InvalidParameter { parameter: parameter.to_owned() });
        match self {
            Self::Start(Start { units, .. })
            | Self::Stop(Stop { units, .. })
            | Self::Restart(Restart { units, .. })
            | Self::Reload(Reload { units, .. })
            | Self::Reset(Reset { units, .. })
            | Self::Kill(Kill { units, .. })
            | Self::Freeze(Freeze { units })
            | Self::Thaw(Thaw { units })
                if units.is_empty() || has_twice(units) =>
            {
                invalid("units")
            }
            Self::Kill(Kill { signal, .. }) if !(1..=64).contains(signal) => invalid("signal"),
            Self::Exec(Exec { command, .. }) if command.is_empty() => invalid("command"),
            Self::Usage(Usage { units, .. }) if has_twice(units) => invalid("units"),
            Self::Usage(Usage { interval: Some(pause), .. }) if !INTERVALS.contains(pause) => {
                invalid("interval")
            }
            _ => Ok(()),
        }
    }

    /// The units of a call that is answered by one [`JobReply`] for each.
    pub fn jobs(&self) -> Option<&[String]> {
        match self {
            Self::Start(Start { units, .. })
            | Self::Stop(Stop { units, .. })
            | Self::Restart(Restart { units, .. })
            | Self::Reload(Reload { units, .. })
            | Self::Reset(Reset { units, .. })
            | Self::Kill(Kill { units, .. })
            | Self::Freeze(Freeze { units })
            | Self::Thaw(Thaw { units }) => Some(units),
            _ => None,
        }
    }

    /// Whether one reply can never be enough.
    pub(super) fn needs_more(&self) -> bool {
        matches!(
            self,
            Self::Events(_)
                | Self::Logs(Logs { follow: true, .. })
                | Self::Usage(Usage { interval: Some(_), .. })
        ) || self.jobs().is_some_and(|units| units.len() > 1)
    }
}

fn has_twice(names: &[String]) -> bool {
    let mut seen = std::collections::HashSet::new();
    !names.iter().all(|name| seen.insert(name))
}
