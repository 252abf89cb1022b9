//! Ports of the host that are reserved for units: each by a socket that is bound and never
//! listens.
//!
//! So the kernel says whether a port is free, and nobody else can take it meanwhile; the
//! rules lead packets away before they would reach the socket. What must hold: a port is
//! published only while it is reserved.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::unit::model::{Port, Protocol};

/// Reserves ports.
///
/// # Errors
/// One sentence that names the port and who holds it.
pub fn reserve(ports: &[Port]) -> Result<Vec<OwnedFd>, String> {
    let mut sockets = Vec::new();
    for port in ports {
        for (number, _) in port.pairs() {
            let socket = bind(port, number).map_err(|error| refusal(port, number, &error))?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

fn bind(port: &Port, number: u16) -> io::Result<OwnedFd> {
    let address = port.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let open = |address: IpAddr| {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, kind, flags, Some(protocol))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, port.address.is_some())?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(address, number))?;
        Ok::<_, rustix::io::Errno>(socket)
    };
    match open(address) {
        // A host without IPv6.
        Err(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
            if port.address.is_none() =>
        {
            Ok(open(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?)
        }
        other => Ok(other?),
    }
}

fn refusal(port: &Port, number: u16, error: &io::Error) -> String {
    let mut text = format!("port {number}/{} cannot be published: ", port.protocol);
    let _ = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => match holder(port, number) {
            Some(who) => write!(text, "{who} holds it"),
            None => write!(text, "it is taken"),
        },
        Some(libc::EADDRNOTAVAIL) => match port.address {
            Some(address) => write!(text, "{address} is no address of this host"),
            None => write!(text, "{error}"),
        },
        _ => write!(text, "{error}"),
    };
    text
}

/// `nginx (process 17)`: who has a socket bound to a port.
fn holder(port: &Port, number: u16) -> Option<String> {
    let inodes = inodes(port.protocol, number);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let descriptors = std::fs::read_dir(process.path().join("fd"));
        let has = descriptors.into_iter().flatten().flatten().any(|descriptor| {
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            inodes.contains(target.to_string_lossy().as_ref())
        });
        if has {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The sockets bound to a port, as `/proc/PID/fd` calls them.
fn inodes(protocol: Protocol, number: u16) -> BTreeSet<String> {
    let files = [format!("/proc/net/{protocol}"), format!("/proc/net/{protocol}6")];
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    texts.flat_map(|text| bound(&text, number)).collect()
}

/// From the lines of `/proc/net/tcp`: `sl local_address rem_address st … inode`.
fn bound(text: &str, number: u16) -> Vec<String> {
    let lines = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        let inode = words.get(9)?;
        let same = u16::from_str_radix(port, 16).ok()? == number;
        (same && *inode != "0").then(|| format!("socket:[{inode}]"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let port: Port = format!("{number}:80").parse().unwrap();
        let error = reserve(&[port]).unwrap_err();
        let who = format!("(process {}) holds it", std::process::id());
        assert!(error.contains(&who), "{error}");
        drop(listener);
        let held = reserve(&[port]).unwrap();
        assert!(std::net::TcpListener::bind(("0.0.0.0", number)).is_err(), "it is reserved");
        drop(held);
        assert!(std::net::TcpListener::bind(("0.0.0.0", number)).is_ok());
    }

    #[test]
    fn an_address_of_another_host_is_said_so() {
        let error = reserve(&["192.0.2.7:80:80".parse().unwrap()]).unwrap_err();
        assert!(error.contains("192.0.2.7 is no address of this host"), "{error}");
    }
}
