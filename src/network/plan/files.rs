//! What `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of a unit say.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::World;

/// Servers that the C library asks, at most.
const SERVERS: usize = 3;

/// The files of a unit, by their paths. `host` is what the host's own `resolv.conf` says,
/// for units that no network of berth's gives a resolver.
pub fn files(world: &World, hostname: &str, host: &str) -> Vec<(String, String)> {
    let file = |path: &str, text: String| (path.to_owned(), text);
    vec![
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/hosts", hosts(world, hostname)),
        file("/etc/resolv.conf", resolv(world, host)),
    ]
}

fn hosts(world: &World, hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for address in world.interfaces.iter().flat_map(|interface| &interface.addresses) {
        let _ = writeln!(text, "{address}\t{hostname}");
    }
    text
}

/// Every network has a resolver at its gateway; each answers for all networks of a unit.
fn resolv(world: &World, host: &str) -> String {
    let with_bridge = world.interfaces.iter().filter(|interface| interface.made.has_bridge());
    // The way out first: only its resolver knows of the world outside.
    let (out, inward): (Vec<_>, Vec<_>) = with_bridge.partition(|interface| interface.way_out);
    let gateways = out.iter().chain(&inward).flat_map(|interface| &interface.made.subnets);
    let mut text = String::new();
    for part in gateways.take(SERVERS) {
        let _ = writeln!(text, "nameserver {}", part.gateway);
    }
    if text.is_empty() {
        for server in servers(host).into_iter().filter(|server| !server.is_loopback()) {
            let _ = writeln!(text, "nameserver {server}");
        }
    } else {
        // What is behind the dot of a host name is no domain, in which neighbours would be
        // looked for before they are looked for here.
        text.push_str("search .\n");
    }
    text
}

/// The servers that a `resolv.conf` names.
pub fn servers(text: &str) -> Vec<IpAddr> {
    let words = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next())
    });
    let servers = words.filter(|(key, _)| *key == Some("nameserver"));
    servers.filter_map(|(_, server)| server?.parse().ok()).take(SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_host_that_no_unit_can_reach_are_left_out() {
        let host = "# x\nnameserver 127.0.0.53\nsearch a\nnameserver 9.9.9.9 # y\nnameserver fe80::1%eth0\n";
        assert_eq!(servers(host).len(), 2);
        assert_eq!(resolv(&World::default(), host), "nameserver 9.9.9.9\n");
    }
}
