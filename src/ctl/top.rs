//! `berthctl top`: what units use, again and again.
//!
//! What must always hold: whatever ends it, the terminal is as it was before ([`Screen`]);
//! a key is obeyed at once, not with the next numbers. Without a terminal it is `stats`.

use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use unicode_width::UnicodeWidthChar as _;

use super::Context;
use super::client::{Client, io_failure};
use super::failure::Failure;
use super::render::{self, Style};
use super::stats::{self, Row, Sort};
use super::terminal::{self, Raw};
use crate::protocol::insight::UnitUsage;
use crate::protocol::method::Usage;

/// Another screen without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows what units use until somebody quits.
///
/// # Errors
/// See [`Failure`].
pub fn run(
    context: &mut Context,
    units: Vec<String>,
    sort: Sort,
    interval: Duration,
) -> Result<(), Failure> {
    if !context.style.terminal || !std::io::stdin().is_terminal() {
        return stats::run(context, &units, false);
    }
    let mut client = context.connect()?;
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    client.begin(&Usage { units, interval: Some(millis) })?;
    // An error is said on the screen as it was.
    let first = stats::round(&mut client, Duration::ZERO)?;
    let mut view = View { sort, before: Vec::new(), now: first };
    let signals = signals()?;
    let _screen = Screen::enter().map_err(Failure::Io)?;
    view.draw(context)?;
    loop {
        match wait(&client, &signals)? {
            Woken::Numbers => {
                let next = stats::round(&mut client, interval)?;
                view.before = std::mem::replace(&mut view.now, next);
            }
            Woken::Keys => match keys(&mut view)? {
                Wish::Quit => return Ok(()),
                Wish::Draw => {}
            },
            Woken::Signal => match signals.read_signal().map_err(io_failure)? {
                Some(signal) if signal.ssi_signo == Signal::SIGWINCH as u32 => {}
                // As a shell counts those that a signal has ended.
                Some(signal) => {
                    let number = u8::try_from(signal.ssi_signo).unwrap_or_default();
                    return Err(Failure::Said(number.saturating_add(128)));
                }
                None => continue,
            },
        }
        view.draw(context)?;
    }
}

/// The terminal in raw mode, on another screen, as long as this lives.
struct Screen(#[expect(dead_code, reason = "restores the terminal when dropped")] Option<Raw>);

impl Screen {
    fn enter() -> std::io::Result<Self> {
        let raw = Raw::enter()?;
        say(ENTER)?;
        Ok(Self(raw))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = say(LEAVE);
    }
}

fn say(text: &str) -> std::io::Result<()> {
    // Past the context's output, which belongs to somebody else; it is flushed after each
    // picture.
    rustix::io::write(std::io::stdout(), text.as_bytes()).map(drop).map_err(Into::into)
}

/// Signals that end it in an orderly way, and the one that says that the window has changed.
fn signals() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGWINCH] {
        mask.add(signal);
    }
    mask.thread_block().map_err(io_failure)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&mask, flags).map_err(io_failure)
}

enum Woken {
    Numbers,
    Keys,
    Signal,
}

fn wait(client: &Client, signals: &SignalFd) -> Result<Woken, Failure> {
    if client.has_more() {
        return Ok(Woken::Numbers);
    }
    let stdin = std::io::stdin();
    let mut fds = [stdin.as_fd(), signals.as_fd(), client.as_fd()]
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io_failure(errno)),
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        if ready(0) {
            return Ok(Woken::Keys);
        } else if ready(1) {
            return Ok(Woken::Signal);
        } else if ready(2) {
            return Ok(Woken::Numbers);
        }
    }
}

enum Wish {
    Quit,
    Draw,
}

/// What the keys that were pressed say.
fn keys(view: &mut View) -> Result<Wish, Failure> {
    let mut buffer = [0_u8; 64];
    let count = std::io::stdin().lock().read(&mut buffer).map_err(Failure::Io)?;
    if count == 0 {
        return Ok(Wish::Quit);
    }
    for key in buffer.get(..count).unwrap_or_default() {
        match key {
            b'q' | b'Q' | 3 | 4 => return Ok(Wish::Quit),
            b'c' => view.sort = Sort::Cpu,
            b'm' => view.sort = Sort::Memory,
            b'p' => view.sort = Sort::Pids,
            b'i' => view.sort = Sort::Io,
            b'n' => view.sort = Sort::Name,
            _ => {}
        }
    }
    Ok(Wish::Draw)
}

/// What is shown.
struct View {
    sort: Sort,
    before: Vec<UnitUsage>,
    now: Vec<UnitUsage>,
}

impl View {
    fn draw(&self, context: &mut Context) -> Result<(), Failure> {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        let mut units = stats::rows(&self.before, &self.now);
        stats::sort(&mut units, self.sort);
        let lines = screen(&units, self.sort, usize::from(rows))?;
        let mut text = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            let line = fit(line, usize::from(columns));
            // The heading of the table stands out.
            if index == 1 && context.style.color {
                text.extend(["\x1b[7m", &line, "\x1b[0m\x1b[K"]);
            } else {
                text.push_str(&line);
                text.push_str("\x1b[K");
            }
            if index.saturating_add(1) < lines.len() {
                text.push_str("\r\n");
            }
        }
        text.push_str("\x1b[J");
        context.out.write_all(text.as_bytes()).map_err(Failure::Output)?;
        context.flush()
    }
}

/// All lines of a screen that has so many.
fn screen(units: &[Row], sort: Sort, rows: usize) -> Result<Vec<String>, Failure> {
    let cpu: f64 = units.iter().filter_map(|row| row.cpu_percent).sum();
    let memory = units.iter().filter_map(|row| row.usage.memory).fold(0, u64::saturating_add);
    let by = match sort {
        Sort::Cpu => "cpu",
        Sort::Memory => "memory",
        Sort::Pids => "pids",
        Sort::Io => "io",
        Sort::Name => "name",
    };
    let mut lines = vec![format!(
        "{} units, {cpu:.1}% cpu, {} memory; by {by} (c m p i n); q quits",
        units.len(),
        render::size(memory)
    )];
    let mut table = Vec::new();
    let plain = Style { terminal: true, color: false };
    let shown = units.get(..rows.saturating_sub(2)).unwrap_or(units);
    stats::table(shown).write(&mut table, plain).map_err(Failure::Output)?;
    let table = String::from_utf8_lossy(&table).into_owned();
    lines.extend(table.lines().map(str::to_owned));
    lines.truncate(rows.max(1));
    Ok(lines)
}

/// As much of a line as fits into so many columns.
fn fit(line: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    line.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_never_overfull() {
        assert_eq!(fit("abc", 2), "ab");
        assert_eq!(fit("統一", 3), "統");
        assert_eq!(fit("", 0), "");
        let usage = |number: u64| UnitUsage {
            unit: format!("unit-{number}"),
            time: 1,
            cpu: Some(1),
            memory: Some(number << 20),
            memory_limit: None,
            pids: None,
            pids_limit: None,
            read: None,
            written: None,
            summed: Vec::new(),
        };
        let all: Vec<UnitUsage> = (0..100).map(usage).collect();
        let mut rows = stats::rows(&[], &all);
        stats::sort(&mut rows, Sort::Memory);
        for height in [1, 2, 3, 24] {
            assert_eq!(screen(&rows, Sort::Memory, height).unwrap().len(), height);
        }
        let lines = screen(&rows, Sort::Memory, 24).unwrap();
        assert!(lines[0].starts_with("100 units") && lines[2].starts_with("unit-99"), "{lines:?}");
    }
}
