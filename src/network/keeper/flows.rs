//! Flows of datagrams that the kernel remembers (`nf_conntrack`), by nfnetlink.
//!
//! Where a flow leads is decided for its first datagram and remembered as long as others
//! follow, whatever the rules say by then. So a client that does not stop to send to a
//! published port would never reach a unit that came back, nor learn that one has gone. What
//! must hold: when a port begins or ceases to lead to a unit, no flow to it is remembered.
//! (A connection of TCP ends by itself: the answer to its next segment is a reset.)

use std::io;
use std::net::IpAddr;

use crate::sys::netlink::{Message, Socket, attributes};
use crate::unit::model::{Port, Protocol, Subnet};

/// `NFNL_SUBSYS_CTNETLINK`, and what is asked of it.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;

const ORIGINAL: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const DESTINATIONS: [u16; 2] = [2, 4];
const PROTOCOL: u16 = 1;
const PORT: u16 = 3;
const UDP: u8 = 17;

/// Where the first datagram of a flow was sent.
fn destination(piece: &[u8]) -> Option<(IpAddr, u16)> {
    let find = |bytes: &[u8], kind: u16| {
        attributes(bytes, 0).find(|it| it.0 == kind).map(|it| it.1.to_vec())
    };
    let (_, tuple) = attributes(piece, HEADER).find(|it| it.0 == ORIGINAL)?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    if find(&protocol, PROTOCOL)? != [UDP] {
        return None;
    }
    let port = u16::from_be_bytes(*find(&protocol, PORT)?.first_chunk()?);
    let addresses = find(tuple, TUPLE_ADDRESSES)?;
    let address = DESTINATIONS.iter().find_map(|kind| find(&addresses, *kind))?;
    let address = match address.as_slice() {
        [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
        other => IpAddr::from(<[u8; 16]>::try_from(other).ok()?),
    };
    Some((address, port))
}

/// Whether a datagram to there was one to a published port; `local` are the host's addresses.
fn concerns(ports: &[Port], local: &[Subnet], address: IpAddr, number: u16) -> bool {
    ports.iter().any(|port| {
        let here = || local.iter().any(|subnet| subnet.contains(address));
        port.protocol == Protocol::Udp
            && number.checked_sub(port.host).is_some_and(|step| step < port.count)
            && port.address.map_or_else(here, |own| own == address)
    })
}

/// Has the kernel forget the flows of datagrams to these ports of the host.
///
/// # Errors
/// `EINVAL` where the kernel does not tell of flows; `EPERM`.
pub fn forget(socket: &mut Socket, ports: &[Port], local: &[Subnet]) -> io::Result<()> {
    /// `CTA_FILTER_F_CTA_PROTO_NUM`: kernels since 5.8 list only flows of this protocol.
    const BY_PROTOCOL: u32 = 1 << 3;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let header = [u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        let question = Message::new(GET, 0, &header)
            .with_nested(ORIGINAL, |tuple| {
                tuple.with_nested(TUPLE_PROTOCOL, |it| it.with(PROTOCOL, &[UDP]))
            })
            .with_nested(FILTER, |filter| filter.with_number(1, BY_PROTOCOL));
        let meant = |piece: &[u8]| {
            destination(piece).is_some_and(|(address, it)| concerns(ports, local, address, it))
        };
        for piece in socket.dump_those(&question, meant)? {
            let named =
                attributes(&piece, HEADER).filter(|it| [ORIGINAL, ID, ZONE].contains(&it.0));
            found.push(named.fold(Message::new(DELETE, 0, &header), |message, (kind, value)| {
                message.with(kind, value)
            }));
        }
    }
    // As many as fit into what the kernel takes at once.
    for some in found.chunks(64) {
        match socket.requests(some) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flows_to_the_ports_are_meant() {
        let ports = |text: &str| vec![text.parse::<Port>().unwrap()];
        let own = Subnet::around("192.0.2.1".parse().unwrap(), 32).unwrap();
        let local = ["127.0.0.0/8".parse().unwrap(), own];
        let meant = |port: &str, address: &str, number| {
            concerns(&ports(port), &local, address.parse().unwrap(), number)
        };
        assert!(meant("53:5353/udp", "127.0.0.1", 53) && meant("53:5353/udp", "192.0.2.1", 53));
        assert!(!meant("53:5353/udp", "9.9.9.9", 53), "only passing through");
        assert!(!meant("53:5353/udp", "127.0.0.1", 5353) && !meant("53:53", "127.0.0.1", 53));
        assert!(meant("192.0.2.1:53:53/udp", "192.0.2.1", 53));
        assert!(!meant("192.0.2.1:53:53/udp", "127.0.0.1", 53));
        assert!(
            meant("10-12:1-3/udp", "127.0.0.1", 12) && !meant("10-12:1-3/udp", "127.0.0.1", 13)
        );
    }

    #[test]
    fn where_a_flow_leads_is_read() {
        let message = Message::new(0, 0, &[2, 0, 0, 0]).with_nested(ORIGINAL, |tuple| {
            tuple
                .with_nested(TUPLE_ADDRESSES, |it| {
                    it.with(1, &[10, 0, 0, 9]).with(2, &[10, 0, 0, 1])
                })
                .with_nested(TUPLE_PROTOCOL, |it| {
                    it.with(PROTOCOL, &[UDP]).with(2, &[1, 1]).with(PORT, &[0, 53])
                })
        });
        assert_eq!(destination(message.body()), Some((IpAddr::from([10, 0, 0, 1]), 53)));
        assert_eq!(destination(&message.body()[..20]), None);
    }
}
