//! Traffic with clients: reading calls, putting answers into queues, filling long
//! answers page by page, and ending connections.

use crate::daemon::Daemon;
use crate::daemon::poller::ReadySource;
use crate::protocol::message::{encode_error, encode_reply};
use crate::protocol::method::{ApplyReply, DepsReply, EventsReply, JobReply};
use crate::protocol::types::Event;
use crate::protocol::{Error, FrameError, Page, Rejection, Request};
use crate::supervisor::request::{Request as Wanted, Wish};
use crate::supervisor::{JobId, UnitId};

use super::{Client, Phase};

/// Calls of one client answered in one turn.
const CALLS_A_TURN: usize = 8;

impl Daemon {
    /// A client's connection is ready.
    pub(in crate::daemon) fn client_ready(&mut self, number: u64, ready: &ReadySource) {
        let now = self.clock.now();
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        if ready.readable && client.read(now).is_err() {
            self.cut_off(number);
            return;
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
        let trusted = self.control.clients.get(&number).is_some_and(|client| client.trusted);
        match Request::parse(message) {
            Ok(_) if !trusted => self.refuse(number, Error::PermissionDenied {}),
            Ok(request) => self.call(number, request),
            Err(Rejection::Answer(error)) => self.refuse(number, error),
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

    pub(super) fn send(&mut self, number: u64, message: &[u8]) {
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        if client.push(message).is_err() {
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
            let more = matches!(client.phase, Phase::Units { .. } | Phase::Dependencies(_));
            if client.is_finished() || (client.has_ended() && !matches!(client.phase, Phase::Idle))
            {
                return self.cut_off(number);
            }
            if !(more && client.has_room()) {
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
        match std::mem::replace(&mut client.phase, Phase::Idle) {
            Phase::Units { full, mut left } => {
                let page = self.unit_page(full, &mut left);
                self.send_page(number, page, !left.is_empty());
                self.go_on(number, Phase::Units { full, left });
            }
            Phase::Dependencies(mut left) => {
                let mut page = Page::new("dependencies");
                while let Some(next) = left.front() {
                    match page.push(next) {
                        Ok(true) => drop(left.pop_front()),
                        Ok(false) | Err(_) => break,
                    }
                }
                self.send_page(number, page, !left.is_empty());
                self.go_on(number, Phase::Dependencies(left));
            }
            other => client.phase = other,
        }
    }

    fn unit_page(&self, full: bool, left: &mut std::collections::VecDeque<UnitId>) -> Page {
        let mut page = Page::new("units");
        while let Some(&id) = left.front() {
            let fits = if full {
                self.unit_status(id).is_none_or(|status| page.push(&status).unwrap_or(true))
            } else {
                self.unit_name(id).is_none_or(|unit| page.push(&unit).unwrap_or(true))
            };
            if !fits {
                break;
            }
            left.pop_front();
        }
        page
    }

    fn send_page(&mut self, number: u64, page: Page, continues: bool) {
        let message = page.finish(continues);
        self.send(number, &message);
    }

    /// Keeps the phase of a long answer until its last page.
    fn go_on(&mut self, number: u64, phase: Phase) {
        let over = match &phase {
            Phase::Units { left, .. } => left.is_empty(),
            Phase::Dependencies(left) => left.is_empty(),
            _ => false,
        };
        if let Some(client) = self.control.clients.get_mut(&number) {
            client.phase = if over { Phase::Idle } else { phase };
        }
    }

    /// A job that a client may be waiting for has ended.
    pub(in crate::daemon) fn job_done(&mut self, job: JobId, result: Result<(), String>) {
        let Some(waiting) = self.control.jobs.remove(&job) else { return };
        let number = waiting.client;
        let Some(client) = self.control.clients.get_mut(&number) else { return };
        match &mut client.phase {
            Phase::Jobs { left } => {
                *left = left.saturating_sub(1);
                let continues = *left > 0;
                if !continues {
                    client.phase = Phase::Idle;
                }
                let reply = JobReply { unit: waiting.unit, error: result.err() };
                self.reply(number, &reply, continues);
            }
            Phase::Apply => {
                client.phase = Phase::Idle;
                match result {
                    Ok(()) => self.reply(number, &ApplyReply::default(), false),
                    Err(reason) => self.refuse(number, Error::Failed { unit: None, reason }),
                }
            }
            _ => {}
        }
        self.serve(number);
    }

    /// Tells everybody who listens.
    pub(in crate::daemon) fn broadcast(&mut self, event: Event) {
        let listens = |client: &Client| matches!(client.phase, Phase::Events);
        let numbers: Vec<u64> = self
            .control
            .clients
            .iter()
            .filter(|(_, client)| listens(client))
            .map(|(&number, _)| number)
            .collect();
        if !numbers.is_empty() {
            let reply = EventsReply { event: Some(event.clone()) };
            for number in numbers {
                self.reply(number, &reply, true);
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

    /// Queues the pages of a list of dependencies.
    pub(super) fn send_dependencies(&mut self, number: u64, reply: DepsReply) {
        if let Some(client) = self.control.clients.get_mut(&number) {
            client.phase = Phase::Dependencies(reply.dependencies.into());
        }
    }
}
