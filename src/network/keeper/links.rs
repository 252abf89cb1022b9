//! Devices, addresses and routes, by rtnetlink(7): one function for each request.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::netlink::{CREATE, Message, Socket, attributes};
use crate::unit::model::{Driver, Subnet};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDR_GEN_MODE: u16 = 8;

/// Length of `struct ifinfomsg` and of `struct rtmsg`.
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

/// `struct ifinfomsg`; a device of no number is found by its name.
fn link(index: u32, up: bool) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    let flags = u32::from(up);
    let fields = [index, flags, flags].map(u32::to_ne_bytes).concat();
    for (to, from) in header.iter_mut().skip(4).zip(fields) {
        *to = from;
    }
    header
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A unit's end of a pair, or its device on a parent.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its network namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its name there.
    pub device: &'a str,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its longest packet.
    pub mtu: Option<u32>,
}

impl End<'_> {
    fn describe(&self, message: Message) -> Message {
        let namespace = self.namespace.as_raw_fd().unsigned_abs();
        let message =
            message.with_text(IFLA_IFNAME, self.device).with_number(IFLA_NET_NS_FD, namespace);
        match self.mtu {
            Some(mtu) => message.with_number(IFLA_MTU, mtu),
            None => message,
        }
    }
}

/// The number of a device.
///
/// # Errors
/// `ENODEV`.
pub fn index(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let question = Message::new(GETLINK, 0, &link(0, false)).with_text(IFLA_IFNAME, name);
    let answer = socket.ask(&question)?.unwrap_or_default();
    let index = answer.get(4..8).and_then(|bytes| bytes.first_chunk());
    index.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The names of all devices.
///
/// # Errors
/// The kernel's.
pub fn names(socket: &mut Socket) -> io::Result<Vec<String>> {
    let pieces = socket.dump(&Message::new(GETLINK, 0, &link(0, false)))?;
    let name = |piece: &Vec<u8>| {
        let (_, value) = attributes(piece, LINK_HEADER).find(|(kind, _)| *kind == IFLA_IFNAME)?;
        Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned())
    };
    Ok(pieces.iter().filter_map(name).collect())
}

/// Makes a bridge.
///
/// # Errors
/// `EEXIST`, `EOPNOTSUPP` without bridges in the kernel, `EPERM`.
pub fn bridge(socket: &mut Socket, name: &str, mac: [u8; 6], mtu: Option<u32>) -> io::Result<()> {
    let mut message = Message::new(NEWLINK, CREATE, &link(0, false))
        .with_text(IFLA_IFNAME, name)
        .with(IFLA_ADDRESS, &mac)
        .with_nested(IFLA_LINKINFO, |it| it.with_text(INFO_KIND, "bridge"));
    if let Some(mtu) = mtu {
        message = message.with_number(IFLA_MTU, mtu);
    }
    socket.request(&message)
}

/// Makes a pair of devices: one in another network namespace, down, and one at a bridge,
/// switched on.
///
/// # Errors
/// As [`bridge`]. One of them may be there nevertheless.
pub fn pair(socket: &mut Socket, bridge: &str, port: &Port<'_>, end: &End<'_>) -> io::Result<()> {
    let master = index(socket, bridge)?;
    let mut message = Message::new(NEWLINK, CREATE, &link(0, false))
        .with_text(IFLA_IFNAME, port.name)
        .with_number(IFLA_MASTER, master);
    if let Some(mtu) = end.mtu {
        message = message.with_number(IFLA_MTU, mtu);
    }
    let message = message.with_nested(IFLA_LINKINFO, |info| {
        info.with_text(INFO_KIND, "veth").with_nested(INFO_DATA, |data| {
            data.with_nested(VETH_PEER, |peer| {
                let peer = peer.with_bytes(&link(0, false)).with(IFLA_ADDRESS, &end.mac);
                end.describe(peer)
            })
        })
    });
    socket.requests(&[message, port.up()]).map(drop)
}

/// Makes a device on another, in another network namespace; down.
///
/// # Errors
/// `EOPNOTSUPP` where the kernel has no such driver, `EBUSY` for a parent that cannot have
/// any.
pub fn on_parent(
    socket: &mut Socket,
    driver: Driver,
    parent: &str,
    end: &End<'_>,
) -> io::Result<()> {
    let parent = index(socket, parent)?;
    let message = Message::new(NEWLINK, CREATE, &link(0, false)).with_number(IFLA_LINK, parent);
    let message = end.describe(message);
    let message = match driver {
        // All of its kind on this parent reach each other; ipvlan: by their addresses (L2).
        Driver::Macvlan | Driver::Bridge => {
            message.with(IFLA_ADDRESS, &end.mac).with_nested(IFLA_LINKINFO, |info| {
                info.with_text(INFO_KIND, "macvlan")
                    .with_nested(INFO_DATA, |data| data.with_number(1, 4))
            })
        }
        Driver::Ipvlan => message.with_nested(IFLA_LINKINFO, |info| {
            info.with_text(INFO_KIND, "ipvlan")
                .with_nested(INFO_DATA, |data| data.with(1, &0_u16.to_ne_bytes()))
        }),
    };
    socket.request(&message)
}

/// Switches a device on.
///
/// # Errors
/// The kernel's.
pub fn up(socket: &mut Socket, name: &str) -> io::Result<()> {
    socket.request(&Message::new(NEWLINK, 0, &link(0, true)).with_text(IFLA_IFNAME, name))
}

/// A port of a bridge.
#[derive(Debug, Clone, Copy)]
pub struct Port<'a> {
    /// Its name.
    pub name: &'a str,
    /// What people see beside it.
    pub alias: &'a str,
    /// It has no IPv6 address of its own accord (where the kernel has IPv6).
    pub bare: bool,
    /// What came by it may leave by it.
    pub hairpin: bool,
}

impl Port<'_> {
    /// Switches it on, as it is to be.
    fn up(&self) -> Message {
        const SLAVE_KIND: u16 = 4;
        const SLAVE_DATA: u16 = 5;
        const BRPORT_MODE: u16 = 4;
        let mut message = Message::new(NEWLINK, 0, &link(0, true));
        message = message.with_text(IFLA_IFNAME, self.name);
        message = message.with(IFLA_IFALIAS, self.alias.as_bytes());
        if self.hairpin {
            message = message.with_nested(IFLA_LINKINFO, |info| {
                info.with_text(SLAVE_KIND, "bridge")
                    .with_nested(SLAVE_DATA, |data| data.with(BRPORT_MODE, &[1]))
            });
        }
        if self.bare {
            let inet6 = u16::try_from(libc::AF_INET6).unwrap_or_default();
            message = message.with_nested(IFLA_AF_SPEC, |spec| {
                spec.with_nested(inet6, |inet6| inet6.with(ADDR_GEN_MODE, &[1]))
            });
        }
        message
    }
}

/// Gives a device a text for people.
///
/// # Errors
/// The kernel's.
pub fn alias(socket: &mut Socket, name: &str, alias: &str) -> io::Result<()> {
    let message = Message::new(NEWLINK, 0, &link(0, false)).with_text(IFLA_IFNAME, name);
    socket.request(&message.with(IFLA_IFALIAS, alias.as_bytes()))
}

/// Removes a device; one that is not there is fine.
///
/// # Errors
/// The kernel's.
pub fn remove(socket: &mut Socket, name: &str) -> io::Result<()> {
    let message = Message::new(DELLINK, 0, &link(0, false)).with_text(IFLA_IFNAME, name);
    match socket.request(&message) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Gives a device an address, usable at once.
///
/// # Errors
/// `EEXIST`; the kernel's.
pub fn address(socket: &mut Socket, name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let number = index(socket, name)?;
    socket.request(&new_address(number, address, prefix))
}

fn new_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const NO_DETECTION: u8 = 2;
    let flags = if address.is_ipv6() { NO_DETECTION } else { 0 };
    let mut header = vec![family(address), prefix, flags, 0];
    header.extend_from_slice(&device.to_ne_bytes());
    let octets = octets(address);
    Message::new(NEWADDR, CREATE, &header).with(IFA_LOCAL, &octets).with(IFA_ADDRESS, &octets)
}

/// Gives a unit's device its addresses, switches it on, and makes it the way out by these
/// gateways.
///
/// # Errors
/// The kernel's; a part of it may be done.
pub fn furnish(
    socket: &mut Socket,
    name: &str,
    addresses: impl Iterator<Item = (IpAddr, u8)>,
    gateways: impl Iterator<Item = IpAddr>,
) -> io::Result<()> {
    let number = index(socket, name)?;
    let mut messages: Vec<Message> =
        addresses.map(|(address, prefix)| new_address(number, address, prefix)).collect();
    messages.push(Message::new(NEWLINK, 0, &link(number, true)));
    messages.extend(gateways.map(|gateway| new_way_out(number, gateway)));
    socket.requests(&messages).map(drop)
}

fn new_way_out(device: u32, gateway: IpAddr) -> Message {
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    let header = [family(gateway), 0, 0, 0, MAIN, STATIC, 0, UNICAST, 0, 0, 0, 0];
    let message = Message::new(NEWROUTE, CREATE, &header).with(RTA_GATEWAY, &octets(gateway));
    message.with_number(RTA_OIF, device)
}

/// Every subnet that a route of the host leads to, but for the default routes.
///
/// # Errors
/// The kernel's.
pub fn routes(socket: &mut Socket) -> io::Result<Vec<Subnet>> {
    Ok(destinations(socket)?.into_iter().map(|(_, subnet)| subnet).collect())
}

/// The addresses of the host itself.
///
/// # Errors
/// The kernel's.
pub fn local(socket: &mut Socket) -> io::Result<Vec<Subnet>> {
    const LOCAL: u8 = 2;
    let all = destinations(socket)?.into_iter();
    Ok(all.filter(|(kind, _)| *kind == LOCAL).map(|(_, subnet)| subnet).collect())
}

/// Where each route leads, with its type (`RTN_…`).
fn destinations(socket: &mut Socket) -> io::Result<Vec<(u8, Subnet)>> {
    const RTA_DST: u16 = 1;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; ROUTE_HEADER];
        if let (Some(first), Ok(family)) = (header.first_mut(), u8::try_from(family)) {
            *first = family;
        }
        for piece in socket.dump(&Message::new(GETROUTE, 0, &header))? {
            let byte = |at: usize| piece.get(at).copied().unwrap_or_default();
            let Some((_, value)) = attributes(&piece, ROUTE_HEADER).find(|it| it.0 == RTA_DST)
            else {
                continue;
            };
            let address = match value {
                [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d])),
                other => <[u8; 16]>::try_from(other).ok().map(IpAddr::from),
            };
            let subnet = address.and_then(|address| Subnet::around(address, byte(1)));
            found.extend(subnet.map(|subnet| (byte(7), subnet)));
        }
    }
    Ok(found)
}
