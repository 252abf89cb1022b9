//! Questions by connection: what did not fit into a datagram is asked again so.
//!
//! Each connection has a thread that may wait; there are few of them, and none lives long.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::forward::Servers;
use super::message;
use super::zone::Verdict;
use super::{Shared, failed, locked, plain};

/// Connections at once, and of one asker: nobody takes all of them.
const MOST: usize = 32;
const MOST_OF_ONE: usize = 8;

/// Questions of one connection, how long each may take, and all of them: also of who sends a
/// byte now and then.
const QUESTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(30);

/// Who has a connection, once for each.
type Askers = Arc<Mutex<Vec<IpAddr>>>;

/// The connections.
#[derive(Debug, Default)]
pub struct Streams {
    askers: Askers,
}

fn held(askers: &Askers) -> MutexGuard<'_, Vec<IpAddr>> {
    // A thread that panicked has left whole entries.
    askers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection less when its thread ends, however it ends.
struct Counted(Askers, IpAddr);

impl Counted {
    /// One more of this asker, if there is room.
    fn new(askers: &Askers, asker: IpAddr) -> Option<Self> {
        let mut all = held(askers);
        let of_one = all.iter().filter(|other| **other == asker).count();
        if all.len() >= MOST || of_one >= MOST_OF_ONE {
            return None;
        }
        all.push(asker);
        Some(Self(askers.clone(), asker))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = held(&self.0);
        if let Some(index) = all.iter().position(|other| *other == self.1) {
            all.swap_remove(index);
        }
    }
}

impl Streams {
    /// Takes what waits, as far as there is room.
    pub fn accept(&self, network: u32, listener: &TcpListener, zone: &Shared) {
        while let Ok((stream, asker)) = listener.accept() {
            let Some(counted) = Counted::new(&self.askers, plain(asker.ip())) else { continue };
            let zone = zone.clone();
            let builder = std::thread::Builder::new().stack_size(256 * 1024);
            // Without a thread the connection is closed: it is asked again.
            let _ = builder.spawn(move || {
                let _counted = counted;
                // It ends when the asker does, or with its first mistake.
                let _ = serve(&stream, network, asker, &zone);
            });
        }
    }
}

fn serve(stream: &TcpStream, network: u32, asker: SocketAddr, zone: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let until = after(LIFE);
    let mut servers = Servers::default();
    for _ in 0..QUESTIONS {
        let bytes = receive(stream, until.min(after(PATIENCE)))?;
        let answer = match message::parse(&bytes) {
            Ok(question) => {
                let verdict = locked(zone).judge(plain(asker.ip()), network, &question);
                match verdict {
                    Verdict::Answer(code, records) => {
                        let limit = usize::from(u16::MAX);
                        Some(message::answer(&question, code, &records, limit))
                    }
                    Verdict::Forward => {
                        let mut list = servers.list().iter();
                        let answer = list.find_map(|it| ask(&bytes, *it).ok());
                        Some(answer.unwrap_or_else(|| failed(&question)))
                    }
                }
            }
            Err(code) => code.and_then(|code| message::bare(&bytes, code)),
        };
        let Some(answer) = answer else { return Ok(()) };
        send(stream, &answer)?;
    }
    Ok(())
}

/// Asks a server of the host.
fn ask(bytes: &[u8], server: IpAddr) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(server, 53), PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send(&stream, bytes)?;
    let answer = receive(&stream, after(PATIENCE))?;
    if message::id(&answer) != message::id(bytes) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// A message with its length before it.
fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend_from_slice(bytes);
    stream.write_all(&whole)
}

fn receive(stream: &TcpStream, until: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    fill(stream, &mut length, until)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(stream, &mut bytes, until)?;
    Ok(bytes)
}

/// Reads as many bytes as there is room for, before this moment.
fn fill(mut stream: &TcpStream, mut room: &mut [u8], until: Instant) -> io::Result<()> {
    while !room.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        room = room.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
