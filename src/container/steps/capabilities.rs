//! Steps that give up capabilities.
//!
//! Two for a process, around the change of its user: leaving something out of the bounding
//! set takes `SETPCAP`, which only root has; what another user has can be set only once it
//! is that user.

use super::State;
use crate::container::capabilities::Grant;
use crate::container::status::Failure;
use crate::sys::capability;
use crate::unit::model::CapabilitySet;

impl State<'_> {
    /// What of the grant can be given.
    pub(super) fn given(&self, grant: Grant) -> Result<Grant, Failure> {
        grant.by(self.held).map_err(|missing| {
            Failure::text(format!("this supervisor does not have {missing} itself"))
        })
    }

    pub(super) fn bound(&self, grant: Grant) -> Result<(), Failure> {
        let root = self.given(grant)?.root;
        leave_out(self.held.bounding & !root.0)?;
        Ok(capability::keep_through_change_of_user(true)?)
    }

    pub(super) fn capabilities(&self, grant: Grant) -> Result<(), Failure> {
        let Grant { root, others, .. } = self.given(grant)?;
        capability::keep_through_change_of_user(false)?;
        let nobody = CapabilitySet::EMPTY;
        // For the filter alone: what is executed gets nothing of it, its bounding set and
        // what is inherited are without it.
        let spare = if self.plan.filters_with_privilege { capability::SYS_ADMIN } else { 0 };
        let spare = spare & self.held.permitted;
        let (permitted, inherited) =
            if self.identity.uid == 0 { (root, nobody) } else { (others, others) };
        Ok(capability::set(permitted.0 | spare, inherited.0)?)
    }

    /// With nothing in the bounding set even root gets nothing by executing a program.
    pub(super) fn disarm(&self) -> Result<(), Failure> {
        // A supervisor that may not do that starts only units that have all it has; their
        // init, as root, gets it again by being executed.
        if Grant::may_limit(self.held) {
            leave_out(self.held.bounding)?;
        }
        Ok(capability::set(0, 0)?)
    }
}

fn leave_out(set: u64) -> Result<(), Failure> {
    capability::leave_out(set).map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::EPERM) => "this supervisor does not have SETPCAP itself",
            _ => "",
        };
        Failure::with(&error, hint)
    })
}
