//! What programs write to syslog(3), as lines of a unit's log.
//!
//! What must hold: one message is one line, whatever is in it, so that nobody can make up
//! the message of another; and `/dev/log` is there from the moment on in which it works.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::sys::{fd, memory};

const SOCKET: &str = "/dev/log";

/// The longest message that is taken whole; RFC 5424 asks for 2,048 bytes.
const LONGEST: usize = 8192;

/// By their numbers in syslog(3).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// With nothing to do for so many milliseconds, memory is given back.
const REST: i32 = 250;

/// Prints what comes until it is ended, or fails.
pub fn serve() -> Vec<String> {
    let failed = |error| vec![format!("cannot take messages at {SOCKET}: {error}")];
    let socket = match listen(Path::new(SOCKET)) {
        Ok(socket) => socket,
        Err(error) => return failed(error),
    };
    match pass_on(&socket, &mut io::stdout().lock()) {
        Ok(never) => match never {},
        Err(error) => failed(error),
    }
}

/// The socket is made beside its name and then takes the place of what was there.
fn listen(path: &Path) -> io::Result<UnixDatagram> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o666))?;
    fs::rename(&beside, path)?;
    Ok(socket)
}

fn pass_on(socket: &UnixDatagram, output: &mut impl Write) -> io::Result<std::convert::Infallible> {
    let mut message = [0; LONGEST];
    loop {
        if !fd::readable_within(socket.as_fd(), REST)? {
            memory::trim();
        }
        let length = match socket.recv(&mut message) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        output.write_all(line(message.get(..length).unwrap_or(&message)).as_bytes())?;
        output.flush()?;
    }
}

/// `<13>Nov 21 05:00:00 tag: text` becomes `user.notice tag: text`: the log has the time.
fn line(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let text = text.trim_end_matches(['\n', '\0']);
    let (priority, text) = priority(text).unwrap_or((13, text));
    let name = |names: &[&'static str], number: usize| names.get(number).copied().unwrap_or("?");
    let (facility, level) = (priority >> 3, priority & 7);
    let mut line = format!("{}.{} ", name(&FACILITIES, facility), name(&LEVELS, level));
    for character in without_time(text).chars() {
        if character.is_control() && character != '\t' {
            // As other system loggers write them; writing to a string does not fail.
            let _ = write!(line, "#{:03o}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line
}

/// The number in front, and what follows it.
fn priority(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let digits = number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

/// Leaves out a time like `Nov 21 05:00:00 `, which the C library puts in front.
fn without_time(text: &str) -> &str {
    const FORM: &[u8; 16] = b"Aaa 99 99:99:99 ";
    let Some((head, rest)) = text.split_at_checked(FORM.len()) else { return text };
    let fits = |(byte, form): (u8, &u8)| match form {
        b'A' | b'a' => byte.is_ascii_alphabetic(),
        b'9' => byte.is_ascii_digit() || byte == b' ',
        other => byte == *other,
    };
    if head.bytes().zip(FORM).all(fits) { rest } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let of = |text: &str| line(text.as_bytes());
        assert_eq!(of("<13>Nov 21 05:00:00 tag: text"), "user.notice tag: text\n");
        assert_eq!(of("<86>Nov  1 05:00:00 sshd[7]: a\tb\n\0"), "authpriv.info sshd[7]: a\tb\n");
        assert_eq!(of("<13>a\nuser.notice b\x1b[2J"), "user.notice a#012user.notice b#033[2J\n");
        assert_eq!(of("no number"), "user.notice no number\n");
        assert_eq!(of("<999>x"), "?.debug x\n");
        assert_eq!(of("<>x"), "user.notice <>x\n");
        assert_eq!(of("<13>Zürich: ok"), "user.notice Zürich: ok\n");
        assert_eq!(line(b"<13>\xff"), "user.notice \u{fffd}\n");
    }

    #[test]
    fn the_socket_takes_the_place_of_an_old_one_and_is_everybody_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let old = listen(&path).unwrap();
        let new = listen(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"<11>x", &path).unwrap();
        let mut message = [0; 16];
        assert_eq!(new.recv(&mut message).unwrap(), 5);
        old.set_nonblocking(true).unwrap();
        assert_eq!(old.recv(&mut message).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    }
}
