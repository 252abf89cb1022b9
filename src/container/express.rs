//! The short way to a plain process: one that shares the supervisor's memory until it
//! executes its program ([`spawn`]), where nothing that it has to do needs more than
//! prepared system calls.
//!
//! What must hold: whoever goes this way ends up exactly as by the long one ([`super::child`]):
//! the same steps in the same order, and the same words when one fails. Whoever cannot
//! takes the long one, and nobody sees a difference but in time. That is every unit
//! with a namespace, a user or capabilities of its own, a filter of system calls (whose program
//! is made in the child), an environment file, a limit of memory or an oom score: what these do to a process they do to its memory, which here is
//! the supervisor's.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::environment::{self, c_string};
use super::launch::Host;
use super::pad::{Given, Ticket};
use super::plan::Plan;
use super::program;
use super::status::{Failure, Place};
use super::step::{Op, Step};
use super::users::Identity;
use crate::sys::limits::Resource;
use crate::sys::spawn::{Call, NOWHERE, Script};
use crate::sys::{identity, limits, oom};
use crate::unit::model::Namespaces;

/// Descriptors below are the standard ones.
const FIRST: u32 = 3;

/// The main process of a unit, if it can go this way.
pub fn script(host: &Host, plan: &Plan, given: &Given<'_>, ticket: &Ticket<'_>) -> Option<Script> {
    let long = plan.limits_memory || plan.filter.is_some();
    let is_plain = plan.namespaces == Namespaces::NONE && !long;
    if !is_plain || !host.is_plain_root {
        return None;
    }
    let mut script = Calls { host, given, list: Vec::with_capacity(16) };
    script.begin(ticket)?;
    script.steps(&plan.outside, Place::Outside)?;
    script.steps(&plan.sandbox, Place::Sandbox)?;
    script.steps(&plan.process, Place::Process)?;
    // The last, so that no signal comes before there is a program to take it.
    script.add(Place::Begin, Call::Unblock);
    let own = environment::of_identity(&Identity::root());
    let variables = environment::merge([own.as_slice(), &plan.environment, &plan.fixed]);
    let command = &plan.command.value;
    let list = environment::get(&variables, "PATH").unwrap_or(environment::DEFAULT_PATH);
    let candidates = program::candidates(command.first()?, list);
    Some(Script {
        calls: script.list,
        channel: given.channel.as_raw_fd(),
        candidates: candidates.iter().map(|path| c_string(path)).collect(),
        argv: identity::Strings::new(command.iter().map(|text| c_string(text)).collect()),
        envp: identity::Strings::new(environment::to_c(&variables)),
    })
}

/// Why the program of a unit that went this way was not executed: its words on it.
pub fn unusable(plan: &Plan, index: u16, errno: i32, head: &[u8]) -> Failure {
    let own = environment::of_identity(&Identity::root());
    let variables = environment::merge([own.as_slice(), &plan.environment, &plan.fixed]);
    let list = environment::get(&variables, "PATH").unwrap_or(environment::DEFAULT_PATH);
    let Some(name) = plan.command.value.first() else { return program::empty() };
    let candidates = program::candidates(name, list);
    match candidates.get(usize::from(index)) {
        None if index == NOWHERE => program::absent(name, list),
        Some(candidate) if errno == libc::ENOENT => {
            program::without_interpreter(name, candidate, program::interpreter(head).as_deref())
        }
        Some(candidate) if errno == libc::EACCES => program::denied(name, candidate),
        _ => program::refused(name, errno),
    }
}

/// What is prepared for a child.
struct Calls<'a> {
    host: &'a Host,
    given: &'a Given<'a>,
    list: Vec<(Call, [u8; 3])>,
}

impl Calls<'_> {
    fn add(&mut self, place: Place, call: Call) {
        let (kind, index) = place.encode();
        let [low, high] = index.to_le_bytes();
        self.list.push((call, [kind, low, high]));
    }

    /// Descriptors of its own in their places, all others closed; limits as they were.
    fn begin(&mut self, ticket: &Ticket<'_>) -> Option<()> {
        let begin = |it: &mut Self, call| it.add(Place::Begin, call);
        begin(self, Call::Unshare(ticket.end()));
        begin(self, Call::Write(ticket.done().as_raw_fd(), ticket.index));
        let stdio = &self.given.stdio;
        for (fd, number) in [(stdio.stdin, 0), (stdio.stdout, 1), (stdio.stderr, 2)] {
            begin(self, Call::Place(self.number(fd), number));
        }
        // What is joined is among what is closed then.
        for fd in &self.given.procs {
            self.add(Place::Outside(0), Call::Write(fd.as_raw_fd(), b'0'));
        }
        let channel = self.given.channel.as_raw_fd().unsigned_abs();
        begin(self, Call::Close(FIRST, channel.saturating_sub(1)));
        begin(self, Call::Close(channel.saturating_add(1), u32::MAX));
        if let Some(limits) = limits::soft_files_to(self.host.soft_files) {
            begin(self, Call::Limit(Resource::Files, limits));
        }
        match oom::shared() {
            oom::Shared::Unchanged => {}
            oom::Shared::Expose(file, score) => begin(self, Call::Text(file, score)),
            oom::Shared::Impossible => return None,
        }
        Some(())
    }

    fn number(&self, fd: Option<BorrowedFd<'_>>) -> RawFd {
        fd.map_or(self.host.null.as_raw_fd(), |fd| fd.as_raw_fd())
    }

    fn steps(&mut self, steps: &[Step], place: impl Fn(u16) -> Place) -> Option<()> {
        for (index, step) in steps.iter().enumerate() {
            let call = match &step.op {
                // At the beginning; and there are no other groups to leave.
                Op::JoinGroups => continue,
                Op::User(None) if self.host.has_no_groups => continue,
                Op::User(None) => Call::NoGroups,
                Op::Session => Call::Session,
                Op::Keyring => Call::Keyring,
                Op::Limit(resource, value) if limits::is_within(*resource, *value) => {
                    Call::Limit(*resource, [*value; 2])
                }
                Op::Nice(value) => Call::Nice(*value),
                Op::Umask(mask) => Call::Umask(*mask),
                // Nothing but the host's tree is in sight, so this is the same there.
                Op::WorkingDirectory(path) => Call::Directory(c_string(path)),
                Op::NoNewPrivileges => Call::NoNewPrivileges,
                _ => return None,
            };
            self.add(place(u16::try_from(index).ok()?), call);
        }
        Some(())
    }
}
