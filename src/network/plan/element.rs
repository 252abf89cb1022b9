//! What the sets and maps of the rules hold, element by element.
//!
//! An element is a key of several fields, and perhaps a value, in one or two sets. It has two
//! forms: the text of nft(8) ([`change`]), for whoever reads rules and for tables made anew;
//! and the kernel's bytes ([`Field::first`], [`Field::last`]), for units that come and go.
//! What must hold: both say the same.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::names::{Tag, mac_text};
use crate::unit::model::{Protocol, Subnet};

/// Something that a set or map holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A bridge of berth's.
    Bridge(String),
    /// One from which units get out.
    Open(String),
    /// One that others which say so reach.
    Loose(String),
    /// Units of one bridge reach each other, also where bridges are filtered as routers.
    Same(String),
    /// Whose addresses are a bridge's.
    Own(String, Subnet),
    /// Addresses that are masked on their way out.
    Masked(Subnet),
    /// Where the resolver answers: bridge and gateway.
    Door(String, IpAddr),
    /// The hardware address of a port's unit.
    Mac(String, [u8; 6]),
    /// An address of a port's unit.
    From(String, IpAddr),
    /// A published port.
    Published {
        /// Of which address of the host; of all when `None`.
        address: Option<IpAddr>,
        /// Of what.
        protocol: Protocol,
        /// Which.
        port: u16,
        /// Where it leads.
        to: IpAddr,
        /// To which port there.
        inside: u16,
    },
}

/// One part of a key or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The name of a device.
    Device(String),
    /// An address.
    Address(IpAddr),
    /// All addresses of a subnet.
    Subnet(Subnet),
    /// A hardware address.
    Mac([u8; 6]),
    /// A protocol above IP.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// 128 bits of a packet.
    Bits(u128),
}

/// Longest name of a device, with the zero behind it (`IFNAMSIZ`).
const DEVICE: usize = 16;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Field {
    /// As the kernel's registers hold it, in multiples of four bytes; of a subnet the lowest
    /// address.
    pub fn first(&self) -> Vec<u8> {
        let mut bytes = match self {
            Self::Device(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(DEVICE, 0);
                bytes
            }
            Self::Address(address) => octets(*address),
            Self::Subnet(subnet) => octets(subnet.address),
            Self::Mac(mac) => mac.to_vec(),
            Self::Protocol(Protocol::Tcp) => vec![6],
            Self::Protocol(Protocol::Udp) => vec![17],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Bits(bits) => bits.to_be_bytes().to_vec(),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The same; of a subnet the highest address.
    pub fn last(&self) -> Vec<u8> {
        match self {
            Self::Subnet(subnet) => {
                let first = octets(subnet.address);
                let common = (0_usize..).map(|index| {
                    let before = index.saturating_mul(8);
                    usize::from(subnet.prefix).saturating_sub(before).min(8)
                });
                let own = common.map(|bits| u8::MAX.checked_shr(bits_of(bits)).unwrap_or(0));
                first.iter().zip(own).map(|(byte, own)| byte | own).collect()
            }
            other => other.first(),
        }
    }
}

fn bits_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "\"{name}\""),
            Self::Address(address) => write!(f, "{address}"),
            Self::Subnet(subnet) => write!(f, "{subnet}"),
            Self::Mac(mac) => f.write_str(&mac_text(*mac)),
            Self::Protocol(protocol) => write!(f, "{protocol}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Bits(bits) => write!(f, "0x{bits:032x}"),
        }
    }
}

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// For IP.
    Inet,
    /// For bridges.
    Bridge,
}

impl Family {
    /// As nft writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }

    /// As the kernel numbers it (`NFPROTO_…`).
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// An element in one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub family: Family,
    /// The set or map.
    pub set: &'static str,
    /// What it is found by.
    pub key: Vec<Field>,
    /// What a map leads to; nothing in a set.
    pub value: Vec<Field>,
}

impl Place {
    fn new(family: Family, set: &'static str, key: Vec<Field>) -> Self {
        Self { family, set, key, value: Vec::new() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |fields: &[Field]| {
            fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
        };
        f.write_str(&joined(&self.key))?;
        if self.value.is_empty() { Ok(()) } else { write!(f, " : {}", joined(&self.value)) }
    }
}

/// The set of the family that an address is of.
fn by_family(address: IpAddr, four: &'static str, six: &'static str) -> &'static str {
    if address.is_ipv4() { four } else { six }
}

impl Element {
    /// Where it is.
    pub fn places(&self) -> Vec<Place> {
        let inet = |set, key| vec![Place::new(Family::Inet, set, key)];
        let device = |name: &String| Field::Device(name.clone());
        match self {
            Self::Bridge(bridge) => inet("bridges", vec![device(bridge)]),
            Self::Open(bridge) => inet("open", vec![device(bridge)]),
            Self::Loose(bridge) => inet("loose", vec![device(bridge)]),
            Self::Same(bridge) => inet("same", vec![device(bridge), device(bridge)]),
            Self::Door(bridge, gateway) => {
                let set = by_family(*gateway, "doors4", "doors6");
                inet(set, vec![device(bridge), Field::Address(*gateway)])
            }
            Self::Own(bridge, subnet) => {
                let set = by_family(subnet.address, "own4", "own6");
                inet(set, vec![device(bridge), Field::Subnet(*subnet)])
            }
            Self::Masked(subnet) => {
                let set = by_family(subnet.address, "masked4", "masked6");
                inet(set, vec![Field::Subnet(*subnet)])
            }
            Self::Mac(port, mac) => {
                let key = vec![device(port), Field::Mac(*mac)];
                vec![Place::new(Family::Bridge, "macs", key)]
            }
            Self::From(port, address) => {
                let set = by_family(*address, "from4", "from6");
                let key = vec![device(port), Field::Address(*address)];
                let mut all = vec![Place::new(Family::Bridge, set, key)];
                if let IpAddr::V6(address) = address {
                    // As the bytes of a neighbour advertisement.
                    let key = vec![device(port), Field::Bits(u128::from(*address))];
                    all.push(Place::new(Family::Bridge, "told6", key));
                }
                all
            }
            Self::Published { address, protocol, port, to, inside } => {
                let set = match address {
                    Some(_) => by_family(*to, "at4", "at6"),
                    None => by_family(*to, "any4", "any6"),
                };
                let mut key: Vec<Field> = address.iter().copied().map(Field::Address).collect();
                key.extend([Field::Protocol(*protocol), Field::Port(*port)]);
                let value = vec![Field::Address(*to), Field::Port(*inside)];
                vec![Place { family: Family::Inet, set, key, value }]
            }
        }
    }
}

/// Adds elements, or takes them out, in the language of nft(8).
pub fn change(tag: &Tag, verb: &str, elements: &[Element]) -> String {
    let mut text = String::new();
    for place in elements.iter().flat_map(Element::places) {
        let (family, set) = (place.family.word(), place.set);
        let _ = writeln!(text, "{verb} element {family} {} {set} {{ {place} }}", tag.table());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_ends_at_its_highest_address() {
        let last = |text: &str| Field::Subnet(text.parse().unwrap()).last();
        assert_eq!(last("10.1.0.0/16"), [10, 1, 255, 255]);
        assert_eq!(last("10.1.2.128/29"), [10, 1, 2, 135]);
        assert_eq!(last("192.0.2.0/24"), [192, 0, 2, 255]);
        let six = last("fd00:1::/61");
        assert_eq!(six[..8], [0xfd, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(six[8..], [255; 8]);
    }

    #[test]
    fn fields_are_whole_registers() {
        assert_eq!(Field::Port(80).first(), [0, 80, 0, 0]);
        assert_eq!(Field::Protocol(Protocol::Udp).first(), [17, 0, 0, 0]);
        assert_eq!(Field::Mac([1, 2, 3, 4, 5, 6]).first(), [1, 2, 3, 4, 5, 6, 0, 0]);
        assert_eq!(Field::Device("b0".to_owned()).first().len(), 16);
    }
}
