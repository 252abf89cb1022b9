//! Networks, and a service's place in them: the typed form of `[network.NAME]`,
//! `networks`, `ports` and `network = "service:NAME"`.
//!
//! What must always hold: a [`Subnet`] has no bits set behind its prefix. A
//! [`Membership`] carries the network's definition, so that a unit whose network has
//! changed is a unit that has changed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{At, Unset};

/// A network's address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subnet {
    /// The lowest address.
    pub address: IpAddr,
    /// Bits that all addresses have in common.
    pub prefix: u8,
}

/// An address as a number of 128 bits, IPv4 in the lowest 32.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Subnet {
    /// The subnet that holds this address; `None` if the prefix is too long.
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(address);
        let host = width.checked_sub(prefix.into())?;
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        let number = bits(address) & mask;
        Some(Self { address: unbits(number, address.is_ipv4())?, prefix })
    }

    /// Whether it holds IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// How many bits its addresses have of their own.
    fn host_bits(&self) -> u32 {
        width(self.address).saturating_sub(self.prefix.into())
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
            && Self::around(address, self.prefix).is_some_and(|other| other == *self)
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The address at this distance from the lowest, if it is one that a host may have.
    pub fn host(&self, number: u64) -> Option<IpAddr> {
        (number > 0 && number <= self.last()).then_some(())?;
        unbits(bits(self.address).checked_add(number.into())?, self.is_ipv4())
    }

    /// The highest number for [`Self::host`]; the broadcast address is none.
    pub fn last(&self) -> u64 {
        let count = 1_u128.checked_shl(self.host_bits()).unwrap_or(u128::MAX);
        let not_hosts = if self.is_ipv4() { 2 } else { 1 };
        u64::try_from(count.saturating_sub(not_hosts)).unwrap_or(u64::MAX)
    }

    /// Whether a host may have this address.
    pub fn has_host(&self, address: IpAddr) -> bool {
        let number = bits(address).checked_sub(bits(self.address));
        let number = number.and_then(|number| u64::try_from(number).ok());
        self.contains(address) && number.is_some_and(|number| number > 0 && number <= self.last())
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn unbits(number: u128, ipv4: bool) -> Option<IpAddr> {
    if ipv4 {
        Some(Ipv4Addr::from(u32::try_from(number).ok()?).into())
    } else {
        Some(Ipv6Addr::from(number).into())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(address, prefix)| {
            let plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
            Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok().filter(|_| plain)?))
        });
        let Some((address, prefix)) = parsed else {
            return Err("a subnet is an address and a prefix, such as 10.1.0.0/24".to_owned());
        };
        let Some(subnet) = Self::around(address, prefix) else {
            return Err(format!("the prefix is longer than {}", width(address)));
        };
        if subnet.address != address {
            return Err(format!("bits behind the prefix are set: the subnet is {subnet}"));
        }
        if subnet.last() < 2 {
            return Err("there is no room in it for a gateway and a unit".to_owned());
        }
        Ok(subnet)
    }
}

/// How the units of a network are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// A bridge on the host, which is also the way out.
    Bridge,
    /// An address of its own for each unit on the network of a device of the host.
    Macvlan,
    /// The same with the device's own hardware address.
    Ipvlan,
}

/// `[network.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Unique among networks.
    pub name: String,
    /// How its units are connected.
    pub driver: Driver,
    /// `None`: chosen when it is made.
    pub subnet: Option<Subnet>,
    /// Of `subnet`; its first address when `None`.
    pub gateway: Option<IpAddr>,
    /// Whether it has IPv6, too.
    pub ipv6: bool,
    /// `None` with `ipv6`: derived from its name.
    pub subnet6: Option<Subnet>,
    /// Of `subnet6`; its first address when `None`.
    pub gateway6: Option<IpAddr>,
    /// No way out and none in.
    pub internal: bool,
    /// Bytes; the kernel's default (1500, or the parent's) when `None`.
    pub mtu: Option<u32>,
    /// Device of the host, for macvlan and ipvlan.
    pub parent: Option<String>,
    /// Whether units of other networks are kept out.
    pub isolate: bool,
}

impl Network {
    /// A bridge with nothing but defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            driver: Driver::Bridge,
            subnet: None,
            gateway: None,
            ipv6: false,
            subnet6: None,
            gateway6: None,
            internal: false,
            mtu: None,
            parent: None,
            isolate: true,
        }
    }
}

/// A unit's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which, as it was when the unit was read.
    pub network: At<Network>,
    /// Fixed addresses, at most one of each family.
    pub fixed: Vec<IpAddr>,
    /// Further names.
    pub aliases: Vec<String>,
}

/// What a published port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports of the host that lead to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Address of the host; all when `None`.
    pub address: Option<IpAddr>,
    /// First port of the host.
    pub host: u16,
    /// First port of the unit.
    pub inside: u16,
    /// How many, at least one.
    pub count: u16,
    /// Of what.
    pub protocol: Protocol,
}

impl Port {
    /// Whether both cannot be published at once.
    pub fn collides(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        let end = |port: &Self| u32::from(port.host).saturating_add(port.count.into());
        same_address
            && self.protocol == other.protocol
            && u32::from(self.host) < end(other)
            && u32::from(other.host) < end(self)
    }

    /// Each port of the host with that of the unit.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let (host, inside) = (self.host, self.inside);
        (0..self.count).map(move |step| (host.saturating_add(step), inside.saturating_add(step)))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        let last = self.count.saturating_sub(1);
        if last == 0 {
            write!(f, "{}:{}", self.host, self.inside)?;
        } else {
            let (host, inside) = (self.host.saturating_add(last), self.inside.saturating_add(last));
            write!(f, "{}-{host}:{}-{inside}", self.host, self.inside)?;
        }
        if self.protocol == Protocol::Udp { write!(f, "/udp") } else { Ok(()) }
    }
}

/// Most ports that one unit may publish.
pub const PORTS_MAX: usize = 1024;

impl FromStr for Port {
    type Err = &'static str;

    /// `[ADDRESS:]HOST:INSIDE[/udp]`, each port perhaps a range.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "a published port is [ADDRESS:]HOST:INSIDE[/udp], such as 8080:80";
        let (text, protocol) = match text.rsplit_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err("the protocol is tcp or udp"),
        };
        let (rest, inside) = text.rsplit_once(':').ok_or(FORM)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None => (None, rest),
        };
        let address = address.map(|address| {
            let v6 = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match v6 {
                Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            }
            .ok_or("the address must be a literal such as 127.0.0.1 or [2001:db8::1]")
        });
        let address = address.transpose()?;
        let ((host, hosts), (inside, insides)) = (range(host)?, range(inside)?);
        if hosts != insides {
            return Err("the two ranges of ports are not of the same length");
        }
        if usize::from(hosts) > PORTS_MAX {
            return Err("a range has at most 1024 ports");
        }
        // The unspecified address means every one of its family; so does none at all.
        let address = address.filter(|address| *address != IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = address.filter(|address| *address != IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Ok(Self { address, host, inside, count: hosts, protocol })
    }
}

/// First port and how many.
fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let port = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u16>().ok().filter(|number| *number > 0 && plain);
        number.ok_or("a port is a number from 1 to 65535")
    };
    let Some((first, last)) = text.split_once('-') else { return Ok((port(text)?, 1)) };
    let (first, last) = (port(first)?, port(last)?);
    let count = last.checked_sub(first).and_then(|more| more.checked_add(1));
    count.map(|count| (first, count)).ok_or("a range of ports begins with the lower one")
}

/// A service's place among others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networking {
    /// In the order written: the first that leads out is the way out.
    pub memberships: Vec<Membership>,
    /// Published ports.
    pub ports: Vec<At<Port>>,
    /// Whose network it shares, if another service's.
    pub owner: Option<At<String>>,
}

impl Unset for Networking {
    const UNSET: &'static Self = &Self { memberships: Vec::new(), ports: Vec::new(), owner: None };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_know_their_hosts() {
        let net = subnet("10.1.2.0/29");
        assert_eq!((net.host(1), net.last()), (Some("10.1.2.1".parse().unwrap()), 6));
        assert_eq!((net.host(0), net.host(7)), (None, None));
        assert!(net.has_host("10.1.2.6".parse().unwrap()));
        for no in ["10.1.2.0", "10.1.2.7", "10.1.2.8", "10.1.1.255", "fd00::1"] {
            assert!(!net.has_host(no.parse().unwrap()), "{no}");
        }
        assert!(subnet("10.1.0.0/16").overlaps(&net) && net.overlaps(&subnet("10.1.0.0/16")));
        assert!(!subnet("10.1.3.0/24").overlaps(&net) && !subnet("fd00::/64").overlaps(&net));
        assert_eq!(subnet("fd00::/64").host(2), Some("fd00::2".parse().unwrap()));
        for bad in ["10.1.2.0", "10.1.2.1/24", "10.1.2.0/31", "a/8", "10.0.0.0/33", "10.0.0.0/+8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_read_and_written() {
        for text in ["443:443", "127.0.0.1:8080:80", "[fd00::1]:53:53/udp", "8000-8010:9000-9010"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("0.0.0.0:80:80/tcp".parse::<Port>().unwrap().to_string(), "80:80");
        for bad in [
            "80",
            "80:",
            ":80",
            "0:80",
            "80:80/sctp",
            "1-3:1-2",
            "3-1:3-1",
            "::1:80:80",
            "a:80:80",
            "+8:8",
        ] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_ports_that_meet_collide() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        assert!(port("8000-8010:1-11").collides(&port("127.0.0.1:8010:80")));
        assert!(!port("8000-8010:1-11").collides(&port("8011:80")));
        assert!(!port("53:53").collides(&port("53:53/udp")));
        assert!(!port("127.0.0.1:80:80").collides(&port("127.0.0.2:80:80")));
    }
}
