//! Questions by connection: what did not fit into a datagram is asked again so.
//!
//! Each connection has a thread that may wait; there are few of them, and none lives long.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::forward::Servers;
use super::message;
use super::zone::Verdict;
use super::{Shared, failed, locked, plain};

/// Connections at once.
const MOST: usize = 32;

/// Questions of one connection, and how long each may take.
const QUESTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections.
#[derive(Debug, Default)]
pub struct Streams {
    count: Arc<AtomicUsize>,
}

/// One connection less when its thread ends, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Streams {
    /// Takes what waits, as far as there is room.
    pub fn accept(&self, network: u32, listener: &TcpListener, zone: &Shared) {
        while let Ok((stream, asker)) = listener.accept() {
            if self.count.fetch_add(1, Ordering::SeqCst) >= MOST {
                self.count.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (counted, zone) = (Counted(self.count.clone()), zone.clone());
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
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut servers = Servers::default();
    for _ in 0..QUESTIONS {
        let bytes = receive(stream)?;
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
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send(&stream, bytes)?;
    let answer = receive(&stream)?;
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

fn receive(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
