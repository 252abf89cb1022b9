//! Who has which address of a network, and who had it last.
//!
//! What must always hold: an address has one holder at most; a unit that comes back gets
//! its last address if nobody has it, and nobody gets another's last address while there
//! is one that nobody ever had.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::unit::model::Subnet;

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    /// Whose it is, or was last.
    unit: String,
    /// Whether it is.
    held: bool,
}

/// The addresses of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// The subnet that was chosen for it last.
    pub chosen: Option<Subnet>,
    leases: BTreeMap<IpAddr, Lease>,
}

/// Which address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one.
    Fixed(IpAddr),
    /// Any but these, which are kept for others.
    AnyBut(&'a [IpAddr]),
}

/// Most addresses of former holders that are remembered.
const REMEMBERED: usize = 4096;

impl Leases {
    /// Gives an address of a subnet to a unit.
    ///
    /// # Errors
    /// One sentence: the fixed address is another's, or none is left.
    pub fn take(
        &mut self,
        unit: &str,
        subnet: Subnet,
        gateway: IpAddr,
        choice: Choice<'_>,
    ) -> Result<IpAddr, String> {
        let address = match choice {
            Choice::Fixed(address) => match self.leases.get(&address).filter(|it| it.held) {
                Some(lease) => return Err(format!("{address} is held by {}", lease.unit)),
                None => address,
            },
            Choice::AnyBut(others) => {
                let usable = |address: IpAddr| {
                    subnet.has_host(address) && address != gateway && !others.contains(&address)
                };
                self.last_of(unit, usable)
                    .or_else(|| self.never_used(subnet, others.len(), usable))
                    .or_else(|| self.given_back(usable))
                    .ok_or_else(|| format!("no address of {subnet} is left"))?
            }
        };
        // One last address of each family is enough.
        self.leases.retain(|other, lease| {
            lease.held || lease.unit != unit || other.is_ipv4() != address.is_ipv4()
        });
        self.leases.insert(address, Lease { unit: unit.to_owned(), held: true });
        self.forget_some();
        Ok(address)
    }

    /// Notes that a unit has an address already.
    pub fn hold(&mut self, unit: &str, address: IpAddr) {
        self.leases.insert(address, Lease { unit: unit.to_owned(), held: true });
    }

    /// Takes an address back; it stays the unit's last one.
    pub fn give_back(&mut self, address: IpAddr) {
        if let Some(lease) = self.leases.get_mut(&address) {
            lease.held = false;
        }
    }

    /// Every address that somebody has, and who.
    #[cfg(test)]
    fn held(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        let held = self.leases.iter().filter(|(_, lease)| lease.held);
        held.map(|(address, lease)| (*address, lease.unit.as_str()))
    }

    fn last_of(&self, unit: &str, usable: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let own = |(address, lease): &(&IpAddr, &Lease)| {
            lease.unit == unit && !lease.held && usable(**address)
        };
        self.leases.iter().find(own).map(|(address, _)| *address)
    }

    fn never_used(
        &self,
        subnet: Subnet,
        others: usize,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        // One more than there are in the books or kept for others, and the gateway: one of
        // them is free.
        let known = self.leases.len().saturating_add(others);
        let tries = u64::try_from(known).unwrap_or(u64::MAX).saturating_add(2);
        let numbers = 1..=subnet.last().min(tries);
        let mut hosts = numbers.filter_map(|number| subnet.host(number));
        hosts.find(|address| usable(*address) && !self.leases.contains_key(address))
    }

    fn given_back(&self, usable: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let free = |(address, lease): &(&IpAddr, &Lease)| !lease.held && usable(**address);
        self.leases.iter().find(free).map(|(address, _)| *address)
    }

    fn forget_some(&mut self) {
        let mut excess = self.leases.len().saturating_sub(REMEMBERED);
        self.leases.retain(|_, lease| {
            let goes = excess > 0 && !lease.held;
            excess = excess.saturating_sub(usize::from(goes));
            !goes
        });
    }

    /// For the disk: a line for each address. Who holds one is not kept: after a new start
    /// nobody does, and a unit that is still there says so.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Some(subnet) = self.chosen {
            let _ = writeln!(text, "subnet {subnet}");
        }
        for (address, lease) in &self.leases {
            let _ = writeln!(text, "{address} {}", lease.unit);
        }
        text
    }

    /// What [`Self::encode`] wrote; lines that make no sense are passed over.
    pub fn decode(text: &str) -> Self {
        let mut leases = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            if key == "subnet" {
                leases.chosen = value.parse().ok();
            } else if let Ok(address) = key.parse() {
                let lease = Lease { unit: value.to_owned(), held: false };
                leases.leases.insert(address, lease);
            }
        }
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> (Subnet, IpAddr) {
        ("10.1.0.0/29".parse().unwrap(), "10.1.0.1".parse().unwrap())
    }

    fn take(leases: &mut Leases, unit: &str) -> Option<String> {
        let (subnet, gateway) = net();
        leases
            .take(unit, subnet, gateway, Choice::AnyBut(&[]))
            .ok()
            .map(|address| address.to_string())
    }

    #[test]
    fn no_address_is_given_twice_and_the_last_one_comes_back() {
        let mut leases = Leases::default();
        assert_eq!(take(&mut leases, "a").as_deref(), Some("10.1.0.2"));
        assert_eq!(take(&mut leases, "b").as_deref(), Some("10.1.0.3"));
        leases.give_back("10.1.0.2".parse().unwrap());
        assert_eq!(take(&mut leases, "c").as_deref(), Some("10.1.0.4"), "a may come back");
        assert_eq!(take(&mut leases, "a").as_deref(), Some("10.1.0.2"));
        leases.give_back("10.1.0.2".parse().unwrap());
        assert_eq!(take(&mut leases, "d").as_deref(), Some("10.1.0.5"));
        assert_eq!(take(&mut leases, "e").as_deref(), Some("10.1.0.6"));
        assert_eq!(take(&mut leases, "f").as_deref(), Some("10.1.0.2"), "nothing else is left");
        assert_eq!(take(&mut leases, "a"), None);
        let (subnet, gateway) = net();
        let fixed = Choice::Fixed("10.1.0.3".parse().unwrap());
        let error = leases.take("z", subnet, gateway, fixed).unwrap_err();
        assert_eq!(error, "10.1.0.3 is held by b");
        assert_eq!(leases.held().count(), 5);
    }

    #[test]
    fn what_is_kept_for_one_is_given_to_nobody_else() {
        let (subnet, gateway) = net();
        let kept: Vec<IpAddr> = (2..=5).map(|last| IpAddr::from([10, 1, 0, last])).collect();
        let mut leases = Leases::default();
        // One that another had before it was kept for somebody.
        leases.hold("a", kept[0]);
        leases.give_back(kept[0]);
        let mut any = |unit: &str| leases.take(unit, subnet, gateway, Choice::AnyBut(&kept));
        assert_eq!(any("a").unwrap(), IpAddr::from([10, 1, 0, 6]));
        assert_eq!(any("b").unwrap_err(), "no address of 10.1.0.0/29 is left");
        let own = leases.take("c", subnet, gateway, Choice::Fixed(kept[0]));
        assert_eq!(own.unwrap(), kept[0]);
    }

    #[test]
    fn what_is_remembered_survives_the_disk() {
        let mut leases = Leases { chosen: Some(net().0), ..Leases::default() };
        take(&mut leases, "a");
        take(&mut leases, "b");
        let mut again = Leases::decode(&format!("nonsense\n{}\nx y z", leases.encode()));
        assert_eq!((again.chosen, again.held().count()), (Some(net().0), 0));
        assert_eq!(take(&mut again, "b").as_deref(), Some("10.1.0.3"));
    }
}
