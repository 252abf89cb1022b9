//! Probes: small helpers that try, from inside a unit's namespaces, whether it is ready
//! or healthy.
//!
//! A probe is a child of the supervisor that enters the network and the mounts of the
//! unit and nothing else: the unit cannot see it. It exits with 0 when what it tries
//! succeeds. It may wait as long as it likes: whoever started it kills it by its pidfd,
//! and it dies with the supervisor. It is not in the unit's control group, so it counts
//! neither as a process of the unit nor against its limits.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::plan::Plan;
use crate::sys::clone::{Process, namespace};
use crate::sys::{fork, namespace as enter, path};
use crate::unit::model::{HealthCheck, Ready};

/// Pauses between two tries: short at first, because most services are ready at once.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for one connection where it is tried again anyway.
const CONNECT: Duration = Duration::from_secs(2);

/// Most of an HTTP answer that is read and thrown away after that.
const REST_MAX: u64 = 64 * 1024;

/// Most of an HTTP answer that is looked at: its first line.
const ANSWER_MAX: u64 = 512;

/// What a probe tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A connection.
    Tcp(SocketAddr),
    /// A connection to a stream socket.
    Unix(String),
    /// Something is there.
    Path(String),
    /// A `GET` that is answered with 200 to 399.
    Http {
        /// Where.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
}

impl Target {
    /// What to try for a unit to be ready; `None` for kinds that are not probed (and for a
    /// host that is no address, which the checker refuses).
    pub fn of_ready(ready: &Ready) -> Option<Self> {
        match ready {
            Ready::Tcp { host, port } => Some(Self::Tcp(address(host, *port)?)),
            Ready::Unix(path) => Some(Self::Unix(path.clone())),
            Ready::Path(path) => Some(Self::Path(path.clone())),
            Ready::Exec | Ready::Notify | Ready::Fd(_) | Ready::Health | Ready::Log(_) => None,
        }
    }

    /// What to try for a unit to be healthy; `None` for a command, which is a process of
    /// the unit itself ([`super::process`]).
    pub fn of_health(check: &HealthCheck) -> Option<Self> {
        match check {
            HealthCheck::Tcp { host, port } => Some(Self::Tcp(address(host, *port)?)),
            HealthCheck::Http { host, port, path } => {
                Some(Self::Http { address: address(host, *port)?, path: path.clone() })
            }
            HealthCheck::Command(_) => None,
        }
    }
}

fn address(host: &str, port: u16) -> Option<SocketAddr> {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port))
}

/// How often a probe tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until it succeeds; for readiness.
    Forever,
    /// For health.
    Once,
}

/// Starts a probe. `inside` is the pidfd of the sandbox, or of the main process of a unit
/// without an init.
///
/// # Errors
/// As clone3(2).
pub fn start(
    plan: &Plan,
    inside: BorrowedFd<'_>,
    target: &Target,
    patience: Patience,
) -> io::Result<Process> {
    let own = plan.namespaces;
    let flags = [(own.mount, namespace::MOUNT), (own.network, namespace::NETWORK)];
    let flags = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
    let keep = [inside];
    let options = fork::Options { keep: &keep, die_with_parent: true, ..fork::Options::default() };
    fork::child(&options, || {
        if flags != 0 && enter::enter(inside, flags).is_err() {
            return 1;
        }
        match patience {
            Patience::Once => i32::from(attempt(target).is_err()),
            Patience::Forever => insist(target),
        }
    })
}

fn insist(target: &Target) -> i32 {
    let mut pause = FIRST_PAUSE;
    while attempt(target).is_err() {
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
    0
}

fn attempt(target: &Target) -> io::Result<()> {
    match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, CONNECT).map(drop),
        Target::Unix(path) => UnixStream::connect(path).map(drop),
        Target::Path(path) => {
            let root = path::handle("/")?;
            path::open_in(root.as_fd(), path, rustix::fs::OFlags::PATH).map(drop)
        }
        Target::Http { address, path } => get(*address, path),
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: berth\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut stream = stream.take(ANSWER_MAX);
    let mut part = [0; 128];
    while !answer.contains(&b'\n') {
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend(part.get(..count).unwrap_or_default()),
        }
    }
    // A server that is hung up on in the middle of its answer complains about it.
    let rest = io::copy(&mut stream.into_inner().take(REST_MAX), &mut io::sink());
    drop(rest);
    match status_code(&answer) {
        Some(200..=399) => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The code of `HTTP/1.1 200 OK`.
fn status_code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_http_answer_has_a_code() {
        assert_eq!(status_code(b"HTTP/1.1 204 No Content\r\nX: y\r\n"), Some(204));
        assert_eq!(status_code(b"HTTP/1.0 503\n"), Some(503));
        assert_eq!(status_code(b"SSH-2.0-OpenSSH 200\r\n"), None);
        assert_eq!(status_code(b""), None);
        assert_eq!(status_code(b"\xff\xfe HTTP/1.1 200\n"), None);
    }

    #[test]
    fn addresses_may_wear_brackets() {
        assert_eq!(address("[::1]", 80), address("::1", 80));
        assert_eq!(address("127.0.0.1", 80), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(address("localhost", 80), None);
    }
}
