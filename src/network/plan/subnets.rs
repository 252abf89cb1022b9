//! Which subnet a network gets that asks for none.
//!
//! What must hold: it has no address in common with any route of the host, nor with any
//! other network; and a network gets the same again as long as that is so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names;
use crate::unit::model::Subnet;

/// The pool: all /24 of these sixteenths, in this order.
const POOL: [[u8; 2]; 4] = [[10, 89], [10, 90], [172, 30], [192, 168]];

/// How long the prefix of a chosen subnet is.
const PREFIX: u8 = 24;

/// Chooses a subnet of IPv4: `last`, if it had one and that is free, else the first of the
/// pool that is.
pub fn choose(last: Option<Subnet>, taken: &[Subnet]) -> Option<Subnet> {
    let free = |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(subnet));
    let pool = POOL.iter().flat_map(|[a, b]| {
        (0..=255).filter_map(|c| {
            let address = IpAddr::from(Ipv4Addr::from([*a, *b, c, 0]));
            Subnet::around(address, PREFIX)
        })
    });
    last.into_iter().chain(pool).find(free)
}

/// Derives a subnet of IPv6 from the names of supervisor and network: unique local
/// addresses (RFC 4193).
pub fn derive(tag: &names::Tag, network: &str, taken: &[Subnet]) -> Option<Subnet> {
    let free = |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(subnet));
    let candidates = (0_u32..64).filter_map(|attempt| {
        let seed = format!("{}/{network}/{attempt}", tag.table());
        let bits = u128::from(names::hash(seed.as_bytes()) >> 8) | (0xfd << 56);
        Subnet::around(IpAddr::from(Ipv6Addr::from(bits << 64)), 64)
    });
    candidates.into_iter().find(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_that_is_free_is_chosen() {
        assert_eq!(choose(None, &[]), Some(subnet("10.89.0.0/24")));
        let taken = [subnet("10.89.0.0/22"), subnet("10.89.5.0/30")];
        assert_eq!(choose(None, &taken), Some(subnet("10.89.4.0/24")));
        assert_eq!(choose(Some(subnet("10.89.9.0/24")), &taken), Some(subnet("10.89.9.0/24")));
        assert_eq!(choose(Some(subnet("10.89.5.0/24")), &taken), Some(subnet("10.89.4.0/24")));
        let most = [subnet("10.0.0.0/8"), subnet("172.16.0.0/12")];
        assert_eq!(choose(None, &most), Some(subnet("192.168.0.0/24")));
        let all = [subnet("0.0.0.0/0")];
        assert_eq!(choose(None, &all), None);
    }

    #[test]
    fn unique_local_subnets_differ() {
        let tag = names::Tag::of("/run/berth");
        let front = derive(&tag, "front", &[]).unwrap();
        assert!(subnet("fd00::/8").contains(front.address) && front.prefix == 64);
        assert_ne!(front, derive(&tag, "back", &[]).unwrap());
        assert_ne!(Some(front), derive(&tag, "front", &[front]));
        assert_eq!(Some(front), derive(&tag, "front", &[]));
    }
}
