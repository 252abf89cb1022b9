//! Traffic with clients: reading calls, putting answers into queues, filling long
//! answers page by page, and ending connections.

use std::collections::VecDeque;

use crate::daemon::Daemon;
use crate::daemon::poller::ReadySource;
use crate::protocol::message::{encode_error, encode_reply};
use crate::protocol::method::{EventsReply, JobReply, UpgradeReply};
use crate::protocol::types::Event;
use crate::protocol::{Error, FrameError, Mode, Page, Rejection, Request};
use crate::supervisor::request::{Request as Wanted, Wish};
use crate::supervisor::{JobId, UnitId};

use super::{Access, Client, Phase, access};

/// Calls of one client answered in one turn.
const CALLS_A_TURN: usize = 8;

/// Events that wait for a client that does not read; more, and it is cut off. All that are
/// remembered fit in.
const MOST_EVENTS: usize = 2 * super::history::MOST;

impl Daemon {
    /// A client's connection is ready.
    pub(in crate::daemon) fn client_ready(&mut self, number: u64, ready: &ReadySource) {
        let now = self.clock.now();
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        let gone = ready.hung_up && client.is_gone();
        if gone || (ready.readable && client.read(now).is_err()) {
            return self.cut_off(number);
        }
        self.serve(number);
    }

    /// Answers what it asked, as far as it may ask now, and writes.
    pub(in crate::daemon) fn serve(&mut self, number: u64) {
        for _ in 0..CALLS_A_TURN {
            let Some(client) = self.control.clients.get_mut(&number) else { return };
            match client.next_message() {
                Ok(Some(message)) => self.message(number, &message),
                Ok(None) => break,
                Err(_) => return self.cut_off(number),
            }
        }
        self.flush_client(number);
    }

    fn message(&mut self, number: u64, message: &[u8]) {
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        match Request::parse(message) {
            Ok(request) => {
                client.mode = request.mode;
                match client.access {
                    Access::Full => self.call(number, request),
                    Access::Look if access::only_looks(&request.call) => {
                        self.call(number, request);
                    }
                    Access::Look => {
                        let reason = access::refusal(&request.call);
                        self.refuse(number, Error::Refused { reason });
                    }
                    Access::Nothing => self.refuse(number, Error::PermissionDenied {}),
                }
            }
            Err(Rejection::Answer(error)) => {
                client.mode = Mode::Single;
                self.refuse(number, error);
            }
            Err(Rejection::Ignore) => {}
            Err(Rejection::CutOff(_)) => self.cut_off(number),
        }
    }

    /// Says that a call failed.
    pub(in crate::daemon) fn refuse(&mut self, number: u64, error: Error) {
        self.send(number, &encode_error(error));
    }

    /// Puts a reply into a client's queue.
    pub(in crate::daemon) fn reply<P: serde::Serialize>(
        &mut self,
        number: u64,
        reply: &P,
        continues: bool,
    ) {
        match encode_reply(reply, continues) {
            Ok(message) => self.send(number, &message),
            Err(error) => self.too_long(number, &error),
        }
    }

    fn too_long(&mut self, number: u64, error: &FrameError) {
        let reason = format!("the answer cannot be sent: {error}");
        self.refuse(number, Error::Failed { unit: None, reason });
    }

    fn send(&mut self, number: u64, message: &[u8]) {
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        if client.mode != Mode::Oneway && client.push(message).is_err() {
            self.cut_off(number);
        }
    }

    /// Makes pages while there is room, writes, and lets the client go if all is said.
    pub(in crate::daemon) fn flush_client(&mut self, number: u64) {
        let now = self.clock.now();
        loop {
            self.fill(number);
            let Some(client) = self.control.clients.get_mut(&number) else { return };
            if client.flush(&self.poller, now).is_err() {
                return self.cut_off(number);
            }
            if client.is_finished() {
                return self.cut_off(number);
            }
            if !(client.owes_more() && client.has_room()) {
                return;
            }
        }
    }

    /// Makes the next page of a long answer, if one is owed and there is room.
    fn fill(&mut self, number: u64) {
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        if !client.has_room() {
            return;
        }
        let (page, rest) = match std::mem::replace(&mut client.phase, Phase::Idle) {
            Phase::Units { full, mut left } => {
                let page = if full {
                    self.page_of_units(&mut left, Self::unit_status)
                } else {
                    self.page_of_units(&mut left, Self::unit_name)
                };
                (page, (!left.is_empty()).then_some(Phase::Units { full, left }))
            }
            Phase::Times(mut left) => {
                let page = self.page_of_units(&mut left, Self::unit_times);
                (page, (!left.is_empty()).then_some(Phase::Times(left)))
            }
            Phase::Dependencies(mut left) => {
                let page = page_of("dependencies", &mut left);
                (page, (!left.is_empty()).then_some(Phase::Dependencies(left)))
            }
            Phase::Networks { mut list, all: true } => {
                let page = page_of("networks", &mut list);
                (page, (!list.is_empty()).then_some(Phase::Networks { list, all: true }))
            }
            Phase::Events(events) => return self.send_events(number, events),
            Phase::Jobs { left, ended } => return self.send_jobs(number, left, ended),
            other => return client.phase = other,
        };
        let message = match (page, &rest) {
            (Err(error), _) => return self.refuse(number, error),
            (Ok(_), Some(_)) if self.wants_one_reply(number) => {
                return self.refuse(number, Error::ExpectedMore {});
            }
            (Ok(page), _) => page.finish(rest.is_some()),
        };
        self.set_phase(number, rest.unwrap_or(Phase::Idle));
        self.send(number, &message);
    }

    /// Whether its call is to be answered by one reply.
    pub(in crate::daemon) fn wants_one_reply(&self, number: u64) -> bool {
        self.control.clients.get(&number).is_some_and(|client| client.mode == Mode::Single)
    }

    /// As many units as a page has room for, as `look` sees them.
    fn page_of_units<T: serde::Serialize>(
        &self,
        left: &mut VecDeque<UnitId>,
        look: impl Fn(&Self, UnitId) -> Option<T>,
    ) -> Result<Page, Error> {
        let mut page = Page::new("units");
        while let Some(&id) = left.front() {
            let pushed = look(self, id).map(|unit| page.push(&unit));
            // One that has been removed meanwhile is left out.
            if !pushed.unwrap_or(Ok(true)).map_err(|error| {
                let name = self.machine.unit(id).map(|unit| unit.name.clone());
                too_large(name, &error)
            })? {
                break;
            }
            left.pop_front();
        }
        Ok(page)
    }

    /// A job that a client may be waiting for has ended.
    pub(in crate::daemon) fn job_done(&mut self, job: JobId, result: Result<(), String>) {
        if self.stage_ended(job, &result) {
            return;
        }
        let Some(waiting) = self.control.jobs.remove(&job) else { return };
        let number = waiting.client;
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        match &mut client.phase {
            Phase::Jobs { ended, .. } => {
                ended.push_back(JobReply { unit: waiting.unit, error: result.err() });
            }
            Phase::Apply(rest) => {
                let rest = std::mem::take(rest);
                client.phase = Phase::Idle;
                match result {
                    Ok(()) => self.reply(number, &*rest, false),
                    Err(reason) => self.refuse(number, Error::Failed { unit: None, reason }),
                }
            }
            Phase::Idle
            | Phase::Upgrade
            | Phase::Events(_)
            | Phase::Units { .. }
            | Phase::Times(_)
            | Phase::Networks { .. }
            | Phase::Dependencies(_) => {}
        }
        // Not at once: this is called while the machine's orders are carried out, and the
        // client's next call may be a wish.
        self.control.served_next.insert(number);
    }

    /// One network for a client that asked; an empty text: these were all.
    pub(in crate::daemon) fn network_shown(&mut self, number: u64, text: &str) {
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        let Phase::Networks { list, all } = &mut client.phase else { return };
        if let Ok(network) = serde_json::from_str(text) {
            list.push_back(network);
        } else {
            *all = true;
            self.control.served_next.insert(number);
        }
    }

    /// Nobody tells of networks (any more): what was told is all.
    pub(in crate::daemon) fn no_more_networks(&mut self) {
        let clients = &mut self.control.clients;
        for (number, client) in clients.iter_mut() {
            if let Phase::Networks { all, .. } = &mut client.phase {
                *all = true;
                self.control.served_next.insert(*number);
            }
        }
    }

    /// What a client waited for has ended.
    pub(in crate::daemon) fn upgrade_done(
        &mut self,
        number: u64,
        result: Result<&UpgradeReply, Error>,
    ) {
        self.set_phase(number, Phase::Idle);
        match result {
            Ok(reply) => self.reply(number, reply, false),
            Err(error) => self.refuse(number, error),
        }
        self.control.served_next.insert(number);
    }

    /// Goes on with the clients whose jobs have ended.
    pub(in crate::daemon) fn serve_next(&mut self) {
        for number in std::mem::take(&mut self.control.served_next) {
            self.serve(number);
        }
    }

    /// Ends of jobs, as far as there is room.
    fn send_jobs(&mut self, number: u64, mut left: usize, mut ended: VecDeque<JobReply>) {
        while self.control.clients.get(&number).is_some_and(Client::has_room)
            && let Some(reply) = ended.pop_front()
        {
            left = left.saturating_sub(1);
            self.reply(number, &reply, left > 0);
        }
        self.set_phase(number, if left > 0 { Phase::Jobs { left, ended } } else { Phase::Idle });
    }

    /// Events that are owed, as far as there is room.
    fn send_events(&mut self, number: u64, mut events: VecDeque<Event>) {
        while self.control.clients.get(&number).is_some_and(Client::has_room)
            && let Some(event) = events.pop_front()
        {
            self.reply(number, &EventsReply { event: Some(event) }, true);
        }
        self.set_phase(number, Phase::Events(events));
    }

    /// Tells everybody who listens.
    pub(in crate::daemon) fn broadcast(&mut self, event: Event) {
        let mut listeners = Vec::new();
        for (&number, client) in &mut self.control.clients {
            if let Phase::Events(events) = &mut client.phase {
                events.push_back(event.clone());
                listeners.push((number, events.len()));
            }
        }
        for (number, owed) in listeners {
            if owed > MOST_EVENTS {
                self.cut_off(number);
            } else {
                self.flush_client(number);
            }
        }
        self.control.history.add(jiff::Timestamp::now(), event);
    }

    /// Ends a connection; what it waited for goes on.
    pub(in crate::daemon) fn cut_off(&mut self, number: u64) {
        for job in self.control.drop_client(&mut self.poller, number) {
            self.wish(Wanted { job: None, wish: Wish::Forget(job) });
        }
    }

    /// Ends the connections that owed us something for too long.
    pub(in crate::daemon) fn drop_overdue_clients(&mut self) {
        for number in self.control.overdue(self.clock.now()) {
            self.cut_off(number);
        }
    }
}

/// As many elements as a page has room for.
fn page_of<T: serde::Serialize>(
    field: &'static str,
    left: &mut VecDeque<T>,
) -> Result<Page, Error> {
    let mut page = Page::new(field);
    while let Some(next) = left.front() {
        if !page.push(next).map_err(|error| too_large(None, &error))? {
            break;
        }
        left.pop_front();
    }
    Ok(page)
}

/// An element that fits into no message.
fn too_large(unit: Option<String>, error: &FrameError) -> Error {
    let name = unit.as_deref().unwrap_or("a unit");
    let reason = format!("what there is to say about {name} cannot be sent: {error}");
    Error::Failed { unit, reason }
}
