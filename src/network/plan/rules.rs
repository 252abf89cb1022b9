//! The rules of the packet filter: one table of berth's for IP, one for bridges.
//!
//! The chains are always the same ([`chains`]); what changes with networks and units is
//! what the sets and maps hold, [`Element`] by element ([`super::element`]). So a unit that comes or goes is one
//! small transaction, and no rule is ever looked for.
//!
//! What must hold: what is not berth's passes as if these tables were not there; a unit
//! sends nothing but from its own addresses; what arrives for a unit is an answer, was
//! sent to a published port, or comes from its own network.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use super::element::Element;
use super::names::{Tag, link_local};
use super::{Interface, Made};
use crate::unit::model::{Port, Subnet};

/// What a network needs.
pub fn of_network(tag: &Tag, made: &Made) -> Vec<Element> {
    if !made.has_bridge() {
        return Vec::new();
    }
    let bridge = tag.bridge(made.number);
    let mut all = vec![Element::Bridge(bridge.clone()), Element::Same(bridge.clone())];
    if !made.network.internal {
        all.push(Element::Open(bridge.clone()));
    }
    if !made.network.isolate {
        all.push(Element::Loose(bridge.clone()));
    }
    for part in &made.subnets {
        all.push(Element::Door(bridge.clone(), part.gateway));
        all.push(Element::Own(bridge.clone(), part.subnet));
        if !made.network.internal && is_private(part.subnet) {
            all.push(Element::Masked(part.subnet));
        }
    }
    all
}

/// Whether nobody outside could answer these addresses: all of IPv4 that a network is given,
/// and the unique local ones of IPv6 (RFC 4193).
fn is_private(subnet: Subnet) -> bool {
    match subnet.address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// What a unit's device needs.
pub fn of_interface(tag: &Tag, interface: &Interface) -> Vec<Element> {
    if !interface.made.has_bridge() {
        return Vec::new();
    }
    let port = tag.port(interface.port);
    let mut all = vec![Element::Mac(port.clone(), interface.mac)];
    let addresses = interface.addresses.iter();
    all.extend(addresses.map(|address| Element::From(port.clone(), *address)));
    if interface.addresses.iter().any(IpAddr::is_ipv6) {
        all.push(Element::From(port.clone(), link_local(interface.mac)));
        // Who looks whether an address is free has none yet. Without IPv6 nobody does.
        all.push(Element::From(port, IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }
    all
}

/// What published ports need, which lead to these addresses.
pub fn of_ports(ports: &[Port], addresses: &[IpAddr]) -> Vec<Element> {
    let mut all = Vec::new();
    for published in ports {
        // What comes to ::1 is the forwarder's.
        let fits = |to: &&IpAddr| {
            published.address.is_none_or(|it| {
                it.is_ipv4() == to.is_ipv4() && it != IpAddr::V6(Ipv6Addr::LOCALHOST)
            })
        };
        for to in addresses.iter().filter(fits) {
            all.extend(published.pairs().map(|(port, inside)| Element::Published {
                address: published.address,
                protocol: published.protocol,
                port,
                to: *to,
                inside,
            }));
        }
    }
    all
}

/// Whether the host forwarded packets before berth made it do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    /// Of IPv4.
    pub ipv4: bool,
    /// Of IPv6.
    pub ipv6: bool,
}

/// Both tables anew, holding nothing, in place of what is there.
pub fn chains(tag: &Tag, router: Router) -> String {
    let table = tag.table();
    // What berth's forwarding has opened to others than its units stays closed.
    let mut strangers = String::new();
    for (was_on, family) in [(router.ipv4, "ipv4"), (router.ipv6, "ipv6")] {
        if !was_on {
            let _ = writeln!(strangers, "    meta nfproto {family} drop");
        }
    }
    format!(
        "{}{}{}",
        removal(tag),
        INET.replace("@TABLE@", &table).replace("@STRANGERS@", &strangers),
        BRIDGE.replace("@TABLE@", &table).replace("@PORTS@", &tag.ports()),
    )
}

/// Both tables gone, whether they are there or not.
pub fn removal(tag: &Tag) -> String {
    let table = tag.table();
    ["inet", "bridge"]
        .map(|family| format!("table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

const INET: &str = "\
table inet @TABLE@ {
  set bridges { type ifname; }
  set open { type ifname; }
  set loose { type ifname; }
  set same { type ifname . ifname; }
  set own4 { type ifname . ipv4_addr; flags interval; }
  set own6 { type ifname . ipv6_addr; flags interval; }
  set masked4 { type ipv4_addr; flags interval; }
  set masked6 { type ipv6_addr; flags interval; }
  set doors4 { type ifname . ipv4_addr; }
  set doors6 { type ifname . ipv6_addr; }
  map at4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }

  # Chains for nat see the first packet of a connection only. The others see every one, so
  # what belongs to a connection that was let through goes by their first rule.
  #
  # The way back from a published port of the loopback device must not be a way to it.
  chain inward {
    type nat hook prerouting priority dstnat; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
    iifname @bridges iifname != @open accept
    fib daddr type local jump published
  }
  chain own {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }
  chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @at4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @at6
    # No packet comes from ::1 to another device: what is not the forwarder's is the host's.
    ip6 daddr ::1 return
    dnat ip6 to meta l4proto . th dport map @any6
  }
  # Who is outside keeps its address. Masked are: a unit that reaches its own network by a
  # published port, the host's loopback, and private addresses on their way out.
  chain outward {
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat oifname . ip saddr @own4 masquerade
    ct status dnat oifname . ip6 saddr @own6 masquerade
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname != @bridges ip saddr @masked4 masquerade
    oifname != @bridges ip6 saddr @masked6 masquerade
  }
  chain host {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    iifname != @bridges accept
    ip daddr 127.0.0.0/8 drop
    ip saddr 127.0.0.0/8 drop
    iifname @open accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname . ip daddr @doors4 meta l4proto { tcp, udp } th dport 53 accept
    iifname . ip6 daddr @doors6 meta l4proto { tcp, udp } th dport 53 accept
    drop
  }
  chain through {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @same accept
    iifname @bridges jump leaving
    oifname @bridges jump arriving
@STRANGERS@  }
  chain leaving {
    iifname != @open drop
    oifname != @bridges accept
    ct status dnat accept
    iifname @loose oifname @loose accept
    drop
  }
  chain arriving {
    ct status dnat accept
    drop
  }
}
";

const BRIDGE: &str = "\
table bridge @TABLE@ {
  set macs { type ifname . ether_addr; }
  set from4 { type ifname . ipv4_addr; }
  set from6 { type ifname . ipv6_addr; }
  set told6 { typeof meta iifname . @th,64,128; }

  # What a unit sends: from its own hardware address, from its own addresses, about its own
  # addresses; nothing but IP.
  chain sent {
    type filter hook prerouting priority -300; policy accept;
    iifname != \"@PORTS@*\" accept
    iifname . ether saddr != @macs drop
    ether type arp jump resolution
    ether type ip jump four
    ether type ip6 jump six
    drop
  }
  chain resolution {
    iifname . arp saddr ether != @macs drop
    arp saddr ip 0.0.0.0 arp operation request accept
    iifname . arp saddr ip @from4 accept
    drop
  }
  chain four {
    iifname . ip saddr @from4 accept
    drop
  }
  chain six {
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert meta iifname . @th,64,128 != @told6 drop
    iifname . ip6 saddr != @from6 drop
    ip6 saddr != :: accept
    icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept
    drop
  }
}
";

#[cfg(test)]
mod tests {
    use super::super::element::change;
    use super::*;

    #[test]
    fn published_ports_lead_to_each_family_they_can() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        let to = ["10.89.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let tag = Tag::of("/run/berth");
        let rules = |text: &str| change(&tag, "add", &of_ports(&[port(text)], &to));
        let table = tag.table();
        assert_eq!(
            rules("8080:80"),
            format!(
                "add element inet {table} any4 {{ tcp . 8080 : 10.89.0.2 . 80 }}\n\
                 add element inet {table} any6 {{ tcp . 8080 : fd00::2 . 80 }}\n"
            )
        );
        assert_eq!(
            rules("127.0.0.1:53-54:1053-1054/udp"),
            format!(
                "add element inet {table} at4 {{ 127.0.0.1 . udp . 53 : 10.89.0.2 . 1053 }}\n\
                 add element inet {table} at4 {{ 127.0.0.1 . udp . 54 : 10.89.0.2 . 1054 }}\n"
            )
        );
    }

    #[test]
    fn only_what_forwarding_opened_is_closed() {
        let tag = Tag::of("/run/berth");
        let text = |ipv4, ipv6| chains(&tag, Router { ipv4, ipv6 });
        assert!(!text(true, true).contains("meta nfproto ipv4 drop"));
        assert!(text(false, true).contains("meta nfproto ipv4 drop"));
        assert!(!text(false, true).contains("meta nfproto ipv6 drop"));
        assert!(!text(false, false).contains('@') || !text(false, false).contains("@TABLE@"));
    }
}
