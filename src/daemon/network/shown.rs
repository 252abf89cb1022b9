//! What is known of a unit's networks: for `status`, for its files, for whoever asks.

use super::{Daemon, Order, Step};
use crate::supervisor::UnitId;

impl Daemon {
    /// The ports of a unit, as its file writes them; `None` if it has none, or none now.
    pub(in crate::daemon) fn ports_of(&self, id: UnitId) -> Option<Vec<String>> {
        let attachment = self.lives.get(&id)?.network.as_ref()?;
        let ports = &attachment.wants.ports;
        (attachment.step == Step::Published && !ports.is_empty())
            .then(|| ports.iter().map(ToString::to_string).collect())
    }

    /// The files that a run's processes see in place of those of its tree.
    pub(in crate::daemon) fn files_of(&self, id: UnitId) -> &[(String, String)] {
        let live = self.lives.get(&id);
        let owner = live.and_then(|live| live.unit.service()?.network_owner());
        let whose = owner.and_then(|owner| self.machine.find(owner)).unwrap_or(id);
        let attachment = self.lives.get(&whose).and_then(|live| live.network.as_ref());
        let world = attachment.and_then(|attachment| attachment.world.as_ref());
        world.map_or(&[], |world| &world.files)
    }

    /// Somebody wants to see networks.
    pub(in crate::daemon) fn show_networks(&mut self, client: u64) {
        self.order(Order::Show { client });
        if self.network.channel.is_none() {
            self.no_more_networks();
        }
    }
}
