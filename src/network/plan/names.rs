//! Names of what is made on the host: devices, the table of rules.
//!
//! All of them begin with the supervisor's tag, so that a later one of the same runtime
//! directory knows what an earlier one left, and two supervisors on one host never touch
//! what is the other's. A device's name has 15 bytes at most.

use std::net::IpAddr;

/// What the names of one supervisor have in common: five hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// The tag of a runtime directory.
    pub fn of(runtime: &str) -> Self {
        Self(format!("{:05x}", hash(runtime.as_bytes()) & 0xf_ffff))
    }

    /// Name of a network's bridge.
    pub fn bridge(&self, number: u32) -> String {
        format!("bb{}-{number}", self.0)
    }

    /// Name of the host's end of a unit's device.
    pub fn port(&self, number: u32) -> String {
        format!("bp{}-{number}", self.0)
    }

    /// What the names of all ports begin with.
    pub fn ports(&self) -> String {
        format!("bp{}-", self.0)
    }

    /// Name of the tables of rules.
    pub fn table(&self) -> String {
        format!("berth_{}", self.0)
    }

    /// Whether a device is one of this supervisor's.
    pub fn owns(&self, device: &str) -> bool {
        let rest = device.strip_prefix("bb").or_else(|| device.strip_prefix("bp"));
        rest.and_then(|rest| rest.strip_prefix(self.0.as_str()))
            .is_some_and(|rest| rest.starts_with('-'))
    }
}

/// FNV-1a: the same in every build, on every machine.
pub fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// A hardware address for the first address of a device: locally administered, and
/// different for different addresses of one network.
pub fn mac(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let low = hash(&address.octets()) & 0xffff_ffff;
            u32::try_from(low).unwrap_or_default().to_be_bytes()
        }
    };
    [0x02, 0xbe, a, b, c, d]
}

/// The link-local address that the kernel derives from a hardware address.
pub fn link_local(mac: [u8; 6]) -> IpAddr {
    // The bit that says "locally administered" is turned round, and two bytes are put in.
    let number = mac.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let (high, low) = (number >> 24, number & 0xff_ffff);
    let host = (high ^ 0x02_0000) << 40 | 0xff_fe00_0000 | low;
    IpAddr::from(std::net::Ipv6Addr::from(0xfe80 << 112 | host))
}

/// As people write a hardware address.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_their_names() {
        let tag = Tag::of("/run/berth");
        assert!(tag.owns(&tag.bridge(7)) && tag.owns(&tag.port(65_535)));
        assert!(tag.port(999_999).len() <= 15);
        assert!(!Tag::of("/run/other").owns(&tag.port(1)));
        for other in ["bb", "bp", "br0", "eth0", "bp12345"] {
            assert!(!tag.owns(other), "{other}");
        }
    }

    #[test]
    fn a_hardware_address_makes_a_link_local_one() {
        let mac = mac("10.89.0.2".parse().unwrap());
        assert_eq!(mac_text(mac), "02:be:0a:59:00:02");
        assert_eq!(link_local(mac), "fe80::be:aff:fe59:2".parse::<IpAddr>().unwrap());
    }
}
