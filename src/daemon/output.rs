//! The output of a run: pipes whose read ends the logger has, and whose other ends its
//! processes get.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Daemon;
use super::live::{Live, Output};
use super::logger::{Attached, Logger};
use super::poller::Poller;
use crate::log::record::Stream;
use crate::supervisor::{Run, UnitId};
use crate::unit::model::{LogDriver, Ready, Service};

/// What the logger reads, and where it comes from.
struct Source {
    stream: Stream,
    read: OwnedFd,
    /// `None`: it is no pipe of berth's.
    write: Option<OwnedFd>,
}

/// How the logger is told: of a new stream, or of one that another logger had.
type Attach = fn(&mut Logger, &Poller, Attached) -> u64;

/// The line that makes a run ready.
type Watch = Option<Box<(String, UnitId, Run)>>;

impl Daemon {
    /// Makes what the log driver wants.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn open_output(
        &mut self,
        live: &mut Live,
        service: &Service,
        id: UnitId,
    ) -> Result<(), String> {
        let watch = match &service.ready {
            Ready::Log(expression) => Some(Box::new((expression.clone(), id, live.run))),
            _ => None,
        };
        let unread = service.log.driver == LogDriver::None && watch.is_none();
        let wanted: &[Stream] = if unread { &[] } else { &[Stream::Stdout, Stream::Stderr] };
        let pipe = |&stream: &Stream| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| format!("cannot make a pipe for its output: {error}"))?;
            Ok(Source { stream, read, write: Some(write) })
        };
        let sources = wanted.iter().map(pipe).collect::<Result<_, String>>()?;
        self.connect_output(live, service, sources, Logger::attach, &watch);
        Ok(())
    }

    /// Goes on with what the logger of an earlier supervisor had.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn adopt_output(
        &mut self,
        live: &mut Live,
        service: &Service,
        streams: Vec<(Stream, OwnedFd)>,
    ) -> Result<(), String> {
        let source = |(stream, read)| {
            let is_pipe = matches!(stream, Stream::Stdout | Stream::Stderr);
            let write = is_pipe.then(|| write_end(&read)).transpose()?;
            Ok(Source { stream, read, write })
        };
        let sources = streams.into_iter().map(source).collect::<io::Result<_>>();
        let sources = sources.map_err(|error| format!("its output cannot be opened: {error}"))?;
        self.connect_output(live, service, sources, Logger::attach_again, &None);
        Ok(())
    }

    fn connect_output(
        &mut self,
        live: &mut Live,
        service: &Service,
        sources: Vec<Source>,
        attach: Attach,
        watch: &Watch,
    ) {
        let (mut stdout, mut stderr) = (None, None);
        live.streams.reserve_exact(sources.len());
        for Source { stream, read, write } in sources {
            match stream {
                Stream::Stdout => stdout = write.map(Rc::new),
                Stream::Stderr => stderr = write.map(Rc::new),
                Stream::Syslog | Stream::Supervisor => {}
            }
            let attached = Attached {
                unit: live.unit.name.clone(),
                run: live.run.0,
                stream,
                fd: read,
                settings: service.log.clone(),
                watch: watch.clone(),
            };
            live.streams.push(attach(&mut self.logger, &self.poller, attached));
        }
        live.output = stdout.zip(stderr).map(|(stdout, stderr)| Output { stdout, stderr });
    }
}

/// The other end of a pipe, for hooks of the unit.
fn write_end(read: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", read.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
}
