//! What a unit wants of its networks, and what is kept for others there.

use std::net::IpAddr;

use super::super::Daemon;
use crate::network::wire::{self, Wants};
use crate::unit::model::{Membership, Unit};
use crate::unit::names;

/// What a unit wants, if it is to be in any network.
pub fn of(unit: &Unit) -> Option<Wants> {
    let service = unit.service()?;
    let networking = &service.networking;
    if networking.memberships.is_empty() {
        return None;
    }
    let hostname = service.hostname.as_ref().map(|it| it.value.clone());
    Some(Wants {
        name: unit.name.clone(),
        hostname: hostname.unwrap_or_else(|| names::host_name(&unit.name)),
        memberships: networking.memberships.clone(),
        ports: networking.ports.iter().map(|port| port.value).collect(),
    })
}

fn network_of(membership: &Membership) -> &str {
    &membership.network.value.name
}

impl Daemon {
    /// Fixed addresses of other units in the same networks, whether these run or not: nobody
    /// else is to be given one.
    pub(super) fn others_addresses(&self, wants: &Wants) -> Vec<IpAddr> {
        let networks: Vec<&str> = wants.memberships.iter().map(network_of).collect();
        let units = self.machine.ids().filter_map(|id| self.machine.unit(id));
        let others = units.filter(|unit| unit.name != wants.name);
        let memberships =
            others.filter_map(|unit| unit.service()).flat_map(|it| &it.networking.memberships);
        let shared = memberships.filter(|it| networks.contains(&network_of(it)));
        shared.flat_map(|it| &it.fixed).copied().take(wire::AVOID_MAX).collect()
    }
}
