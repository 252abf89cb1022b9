//! Ports of the host that are reserved for units: each by a socket that is bound and never
//! listens.
//!
//! So the kernel says whether a port is free, and nobody else can take it meanwhile; the
//! rules lead packets away before they would reach the socket. What must hold: a port is
//! published only while it is reserved.

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
            sockets.push(reserve_one(port, number)?);
        }
    }
    Ok(sockets)
}

fn reserve_one(port: &Port, number: u16) -> Result<OwnedFd, String> {
    let taken = match bind(port, number, false) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => error,
        other => return other.map_err(|error| refusal(port, number, &error)),
    };
    let users = users(port, number);
    if users.is_empty() || users.iter().any(|user| user.socket.is_some()) {
        return Err(refusal(port, number, &taken));
    }
    // Nobody's: connections of a server that has ended, which the kernel remembers for a
    // minute. A server would pass over them, and so does this.
    bind(port, number, true).map_err(|_| {
        let text = "connections of a server that has ended are still closing, which takes a minute";
        format!("port {number}/{} cannot be published: {text}", port.protocol)
    })
}

/// That a port is another unit's.
pub fn held_by(unit: &str, port: &Port, theirs: &Port) -> String {
    let number = port.host.max(theirs.host);
    format!("port {number}/{} cannot be published: {unit} holds it", port.protocol)
}

fn bind(port: &Port, number: u16, over: bool) -> io::Result<OwnedFd> {
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
        if over {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        // Datagrams that come before the unit is ready are nobody's: as few as possible wait.
        sockopt::set_socket_recv_buffer_size(&socket, 0)?;
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
    let users = users(port, number);
    // Who listens; who is only connected from there stands in the way just the same.
    let some = |listens| users.iter().filter(move |user| user.listens == listens);
    let sockets = some(true).chain(some(false)).filter_map(|user| user.socket.as_deref());
    sockets.into_iter().find_map(owner)
}

/// Who has a socket, as `/proc/PID/fd` calls it.
fn owner(socket: &str) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let descriptors = std::fs::read_dir(process.path().join("fd"));
        let has = descriptors.into_iter().flatten().flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == socket)
        });
        if has {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// A socket of the host that is bound to a port.
#[derive(Debug, PartialEq, Eq)]
struct User {
    address: IpAddr,
    /// As `/proc/PID/fd` calls it; `None`: nobody's any more.
    socket: Option<String>,
    listens: bool,
}

/// Those that stand in the way of publishing a port.
fn users(port: &Port, number: u16) -> Vec<User> {
    let files = [format!("/proc/net/{}", port.protocol), format!("/proc/net/{}6", port.protocol)];
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let mut users: Vec<User> = texts.flat_map(|text| bound(&text, number)).collect();
    users.retain(|user| {
        let wanted = port.address.filter(|_| !user.address.is_unspecified());
        wanted.is_none_or(|address| address == user.address)
    });
    users
}

/// From the lines of `/proc/net/tcp`: `sl local_address rem_address st … inode`.
fn bound(text: &str, number: u16) -> Vec<User> {
    /// `TCP_LISTEN`, and what a socket of datagrams is that is not connected.
    const LISTENING: [&str; 2] = ["0A", "07"];
    let lines = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.rsplit_once(':')?;
        if u16::from_str_radix(port, 16).ok()? != number {
            return None;
        }
        let inode = *words.get(9)?;
        Some(User {
            address: address_of(address)?,
            socket: (inode != "0").then(|| format!("socket:[{inode}]")),
            listens: words.get(3).is_some_and(|state| LISTENING.contains(state)),
        })
    });
    lines.collect()
}

/// An address as the kernel lists it: words of 32 bits in the order of this machine's bytes.
fn address_of(digits: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in digits.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => Some(IpAddr::from(four)),
        Err(_) => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
    }
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
    fn who_has_the_port_of_another_address_is_not_accused() {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = one.local_addr().unwrap().port();
        let _other = std::net::TcpListener::bind(("127.0.0.2", number)).unwrap();
        let port = |address: &str| format!("{address}:{number}:80").parse::<Port>().unwrap();
        reserve(&[port("127.0.0.3")]).unwrap();
        let of = |address: &str| {
            let users = users(&port(address), number);
            users.iter().map(|user| (user.address.to_string(), user.listens)).collect::<Vec<_>>()
        };
        assert_eq!(of("127.0.0.2"), [("127.0.0.2".to_owned(), true)]);
        assert_eq!(of("127.0.0.3"), []);
        assert_eq!(users(&format!("{number}:80").parse().unwrap(), number).len(), 2);
    }

    /// A connection that a server ended, which the kernel remembers although both are gone.
    #[test]
    fn what_a_server_leaves_behind_is_passed_over() {
        use std::io::Read;
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = std::net::TcpListener::bind(any).unwrap();
        let number = listener.local_addr().unwrap().port();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", number)).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, listener));
        let port: Port = format!("{number}:80").parse().unwrap();
        let lingers = || users(&port, number).iter().any(|user| user.socket.is_none());
        while !lingers() {
            std::thread::yield_now();
        }
        assert!(bind(&port, number, false).is_err(), "the control");
        reserve(&[port]).unwrap();
    }

    #[test]
    fn addresses_are_read_as_the_kernel_lists_them() {
        assert_eq!(address_of("0100007F"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let mapped = "0000000000000000FFFF00000100007F";
        assert_eq!(address_of(mapped), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let six = address_of("00000000000000000000000001000000");
        assert_eq!(six, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(address_of("0100007F01"), None);
    }

    #[test]
    fn an_address_of_another_host_is_said_so() {
        let error = reserve(&["192.0.2.7:80:80".parse().unwrap()]).unwrap_err();
        assert!(error.contains("192.0.2.7 is no address of this host"), "{error}");
    }
}
