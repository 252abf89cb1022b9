//! What each call does: checks the names, makes a wish of it or answers at once.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::daemon::Daemon;
use crate::daemon::reader::Purpose;
use crate::pid1::{End, Place};
use crate::protocol::method::{
    Apply, Call, DescriptionReply, Empty, EventsReply, InfoReply, JobReply, Kill, Shutdown,
    VersionReply,
};
use crate::protocol::types::ShutdownHow;
use crate::protocol::{Error, Mode, Request};
use crate::supervisor::UnitId;
use crate::supervisor::request::{Request as Wanted, Wish};

use super::access::without_secrets;
use super::{Access, Phase};

/// Most files and directories that `apply` may add to those berth was started with.
const MOST_ADDED: usize = 1024;

impl Daemon {
    /// Carries out one call of a client that may make it.
    pub(super) fn call(&mut self, number: u64, request: Request) {
        if let Err(error) = self.try_call(number, request) {
            self.refuse(number, error);
        }
    }

    fn try_call(&mut self, number: u64, request: Request) -> Result<(), Error> {
        let Request { call, mode } = request;
        match call {
            // Nobody would hear of anything.
            Call::Logs(_) | Call::Events(_) | Call::Usage(_) | Call::Volumes(_)
                if mode == Mode::Oneway => {}
            Call::Version(_) => self.reply(number, &self.version(), false),
            Call::List(_) => {
                let left = self.machine.ids().collect();
                self.set_phase(number, Phase::Units { full: false, left });
            }
            Call::Status(call) => {
                let left = self.find_or_all(&call.units)?;
                self.set_phase(number, Phase::Units { full: true, left });
            }
            Call::Show(call) => {
                let mut reply = self.show(&call.unit)?;
                if self.control.clients.get(&number).is_none_or(|it| it.access != Access::Full) {
                    reply.definition = without_secrets(reply.definition);
                }
                self.reply(number, &reply, false);
            }
            Call::Deps(call) => {
                let left = self.dependencies(call.unit.as_deref(), call.reverse)?;
                self.set_phase(number, Phase::Dependencies(left));
            }
            Call::Timeline(_) => {
                let left = self.machine.ids().collect();
                self.set_phase(number, Phase::Times(left));
            }
            Call::Usage(call) => self.usage_helper(number, &call, mode)?,
            Call::Volumes(call) => self.list_volumes(number, call.sizes, mode)?,
            Call::RemoveVolume(call) => self.remove_volume(number, &call.volume)?,
            Call::Networks(_) => {
                self.set_phase(number, Phase::Networks { list: VecDeque::new(), all: false });
                self.show_networks(number);
            }
            Call::Start(call) => self.start(number, &call.units, call.wait, Wish::Start)?,
            Call::Stop(call) => self.stop(number, &call.units, call.wait)?,
            Call::Restart(call) => self.start(number, &call.units, call.wait, Wish::Restart)?,
            Call::Reload(call) => self.jobs(number, &call.units, call.wait, Wish::Reload)?,
            Call::Reset(call) => self.jobs(number, &call.units, call.wait, Wish::Reset)?,
            Call::Freeze(call) => {
                if let Some(why) = self.claim.root.missing() {
                    let reason = format!("cannot freeze without control groups: {why}");
                    return Err(Error::Failed { unit: None, reason });
                }
                self.jobs(number, &call.units, true, |id| Wish::Freeze(id, true))?;
            }
            Call::Thaw(call) => {
                self.jobs(number, &call.units, true, |id| Wish::Freeze(id, false))?;
            }
            Call::Kill(call) => self.kill(number, &call)?,
            Call::Logs(call) => self.logs_helper(number, call, mode)?,
            Call::Secrets(_) | Call::SetSecret(_) | Call::RemoveSecret(_)
                if mode == Mode::Oneway =>
            {
                let reason = "secrets are not changed without an answer".to_owned();
                return Err(Error::Refused { reason });
            }
            Call::Secrets(_) => self.list_secrets(number, mode)?,
            Call::SetSecret(call) => self.set_secret(number, &call)?,
            Call::RemoveSecret(call) => self.remove_secret(number, &call)?,
            Call::Exec(call) => self.exec_helper(number, &call)?,
            Call::Events(call) => self.begin_events(number, call.since.as_deref())?,
            Call::Apply(call) => self.apply(number, &call)?,
            Call::Shutdown(call) => self.shutdown_call(number, &call)?,
            Call::Upgrade(call) => {
                self.begin_upgrade(number, call.program.as_deref())?;
                self.set_phase(number, Phase::Upgrade);
            }
            Call::GetInfo(_) => self.reply(number, &InfoReply::this(), false),
            Call::GetInterfaceDescription(call) => {
                let description = crate::protocol::description(&call.interface)
                    .ok_or(Error::InterfaceNotFound { interface: call.interface })?;
                let reply = DescriptionReply { description: description.to_owned() };
                self.reply(number, &reply, false);
            }
        }
        Ok(())
    }

    fn version(&self) -> VersionReply {
        VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.clock.wall(crate::supervisor::Time::default()).to_string(),
            uptime: u64::try_from(self.clock.now().0.as_micros()).ok(),
            kernel: (self.options.place == Place::Machine)
                .then(|| u64::try_from(self.clock.origin()).ok())
                .flatten(),
            target: Some(self.options.target.clone()),
            unwritten: Some(self.unwritten()),
        }
    }

    pub(in crate::daemon) fn set_phase(&mut self, number: u64, phase: Phase) {
        if let Some(client) = self.control.clients.get_mut(&number) {
            client.phase = phase;
        }
    }

    /// The unit of this name, or an error that names the nearest.
    pub(super) fn find(&self, name: &str) -> Result<UnitId, Error> {
        self.machine.find(name).ok_or_else(|| {
            let names = self.machine.ids().filter_map(|id| self.machine.unit(id));
            let nearest = crate::unit::names::nearest(name, names.map(|unit| unit.name.as_str()))
                .map(str::to_owned);
            Error::NoSuchUnit { unit: name.to_owned(), nearest }
        })
    }

    fn find_or_all(&self, names: &[String]) -> Result<VecDeque<UnitId>, Error> {
        if names.is_empty() {
            return Ok(self.machine.ids().collect());
        }
        names.iter().map(|name| self.find(name)).collect()
    }

    /// Up by hand: instances of templates are made, marks of a stop by hand are taken away.
    fn start(
        &mut self,
        number: u64,
        names: &[String],
        wait: bool,
        wish: impl Fn(UnitId) -> Wish,
    ) -> Result<(), Error> {
        if let Some(unknown) = names.iter().find(|name| !self.can_be_made(name)) {
            self.find(unknown)?;
        }
        self.make_instances(names)
            .map_err(|(unit, reason)| Error::Failed { unit: Some(unit), reason })?;
        self.jobs(number, names, wait, wish)?;
        self.mark_stopped(names, false);
        Ok(())
    }

    /// Down by hand, also after the next boot if the unit says so.
    fn stop(&mut self, number: u64, names: &[String], wait: bool) -> Result<(), Error> {
        self.jobs(number, names, wait, Wish::Stop)?;
        self.mark_stopped(names, true);
        Ok(())
    }

    /// One wish a unit; nothing is wished if one of the names is wrong.
    fn jobs(
        &mut self,
        number: u64,
        names: &[String],
        wait: bool,
        wish: impl Fn(UnitId) -> Wish,
    ) -> Result<(), Error> {
        let ids = self.find_or_all(names)?;
        let oneway = self.control.clients.get(&number).is_none_or(|it| it.mode == Mode::Oneway);
        let left = names.len();
        if !wait || oneway {
            for id in ids {
                self.wish(Wanted { job: None, wish: wish(id) });
            }
            let reply = |unit: &String| JobReply { unit: unit.clone(), error: None };
            let ended = names.iter().map(reply).collect();
            self.set_phase(number, Phase::Jobs { left, ended });
            return Ok(());
        }
        self.set_phase(number, Phase::Jobs { left, ended: VecDeque::new() });
        for (name, id) in names.iter().zip(ids) {
            let job = self.control.new_job(number, name);
            self.wish(Wanted { job: Some(job), wish: wish(id) });
        }
        Ok(())
    }

    fn kill(&mut self, number: u64, call: &Kill) -> Result<(), Error> {
        let ids = self.find_or_all(&call.units)?;
        let left = call.units.len();
        let mut ended = VecDeque::with_capacity(left);
        for (name, id) in call.units.iter().zip(ids) {
            let error = match self.signal_main(id, call.signal) {
                Ok(true) => None,
                Ok(false) => {
                    let state = self.state_of(id);
                    if left == 1 {
                        return Err(Error::NotRunning { unit: name.clone(), state });
                    }
                    Some(format!("cannot signal {name}: it is not running but {state}"))
                }
                Err(error) => Some(format!("cannot signal {name}: {error}")),
            };
            ended.push_back(JobReply { unit: name.clone(), error });
        }
        self.set_phase(number, Phase::Jobs { left, ended });
        Ok(())
    }

    fn begin_events(&mut self, number: u64, since: Option<&str>) -> Result<(), Error> {
        let since = match since {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| Error::InvalidParameter { parameter: "since".to_owned() })?,
            ),
        };
        self.reply(number, &EventsReply { event: None }, true);
        let past = since.map(|since| self.control.history.since(since).cloned().collect());
        self.set_phase(number, Phase::Events(past.unwrap_or_default()));
        Ok(())
    }

    fn apply(&mut self, number: u64, call: &Apply) -> Result<(), Error> {
        let paths: Vec<PathBuf> = call.paths.iter().map(PathBuf::from).collect();
        if paths.iter().any(|path| !path.is_absolute()) {
            let reason = "paths to apply must be absolute".to_owned();
            return Err(Error::Refused { reason });
        }
        let sources = self.options.sources.with(&paths);
        if sources.added.len() > MOST_ADDED {
            let reason = format!("more than {MOST_ADDED} files and directories were applied");
            return Err(Error::Refused { reason });
        }
        let purpose = Purpose::Apply { client: number, dry_run: call.dry_run };
        self.start_reader(sources, purpose).map_err(|reason| Error::Busy { reason })?;
        self.set_phase(number, Phase::Apply(Box::default()));
        Ok(())
    }

    fn shutdown_call(&mut self, number: u64, call: &Shutdown) -> Result<(), Error> {
        let refused = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
        let end = match (call.how, self.options.place) {
            (None, _) => self.own_end(),
            (Some(ShutdownHow::Exit), Place::Machine) => {
                return refused(
                    "this is process 1 of a machine and cannot end; say poweroff, reboot or halt",
                );
            }
            (Some(ShutdownHow::Exit), _) => End::Exit,
            (Some(_), Place::Plain) => {
                return refused(
                    "this supervisor is not process 1, so the machine is not its to end; \
                     `berthctl shutdown exit` ends it and everything it runs",
                );
            }
            (Some(ShutdownHow::Poweroff), _) => End::Poweroff,
            (Some(ShutdownHow::Reboot), _) => End::Reboot,
            (Some(ShutdownHow::Halt), _) => End::Halt,
        };
        self.reply(number, &Empty {}, false);
        self.begin_end("asked to by berthctl", end);
        Ok(())
    }
}
