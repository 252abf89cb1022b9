//! A child between its making and its program.
//!
//! It runs ordinary code on a copy of the supervisor's memory, alone: nobody waits for
//! it but by its pidfd. It ends by executing a program, or by saying which step failed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use super::environment::{self, Variables, c_string};
use super::launch::{Host, Program, Stdio};
use super::pad::{Given, Ticket};
use super::plan::Plan;
use super::program;
use super::status::{self, Failure, Place};
use super::step::{Op, Step};
use super::steps::{Gate, Membership, State};
use super::user_namespace::Root;
use crate::sys::capability::Held;
use crate::sys::{clone, fd, identity, limits, oom, path, signal};
use crate::unit::model::SecretSource;

/// Descriptors that are neither standard nor named are moved to this number or above.
const PRIVATE_FDS: RawFd = 64;

/// Exit code of a child that could not become its program; nobody reads it, the status
/// channel says more.
const FAILED: i32 = 125;

/// What a child is to become.
#[derive(Debug)]
pub enum Job<'a> {
    /// The tiny init of a new world.
    Sandbox,
    /// A process of the unit that executes this.
    Process(Program<'a>),
}

/// A child as it is made.
#[derive(Debug)]
pub struct Task<'a> {
    /// Has the init and `/dev/null`.
    pub host: &'a Host,
    /// Says how.
    pub plan: &'a Plan,
    /// What it is to become.
    pub job: Job<'a>,
    /// Its descriptors.
    pub given: Given<'a>,
    /// Who is root of its user namespace, where it has one.
    pub root: Option<Root>,
    /// If it shares the supervisor's descriptors: how to leave them.
    pub ticket: Option<Ticket<'a>>,
}

/// The whole life of a child.
pub fn run(task: &Task<'_>) -> ! {
    // If something here unwinds, the copy of the supervisor must not go on with its loop.
    let _guard = clone::ExitGuard;
    let Task { host, plan, job, given, root, ticket } = task;
    let channel = given.channel;
    if let Some(Err(error)) = ticket.map(|ticket| ticket.redeem()) {
        fail(channel, Place::Begin, &error.into());
    }
    let init = matches!(job, Job::Sandbox).then_some(&host.init);
    match (begin(given, host, init, given.inside.is_none() && needs_vault(plan)), job) {
        (Ok(fds), Job::Sandbox) => become_init(plan, fds, *root),
        (Ok(fds), Job::Process(program)) => {
            become_program(plan, *program, &given.stdio, fds, *root)
        }
        (Err(error), _) => fail(channel, Place::Begin, &error.into()),
    }
}

fn fail(channel: BorrowedFd<'_>, place: Place, failure: &Failure) -> ! {
    status::send_failure(channel, place, failure);
    clone::exit(FAILED)
}

/// What a child holds besides its standard and named descriptors, and may give up.
struct Fds {
    channel: OwnedFd,
    procs: Vec<OwnedFd>,
    inside: Option<OwnedFd>,
    users: Option<OwnedFd>,
    init: Option<OwnedFd>,
    vault: Option<OwnedFd>,
    held: Held,
}

/// Whether one of its secrets came by the supervisor's environment.
fn needs_vault(plan: &Plan) -> bool {
    let from_there = |op: &Op| match op {
        Op::Secret { wanted, .. } => matches!(wanted.source, SecretSource::Environment(_)),
        _ => false,
    };
    plan.sandbox.iter().any(|step| from_there(&step.op))
}

/// Puts the descriptors in their places, closes all others, resets signals.
fn begin(
    given: &Given<'_>,
    host: &Host,
    init: Option<&OwnedFd>,
    needs_vault: bool,
) -> io::Result<Fds> {
    identity::hide_memory()?;
    // What the steps make has exactly the mode they say.
    identity::set_umask(0);
    let up = |fd: BorrowedFd<'_>| fd::duplicate_above(fd, PRIVATE_FDS);
    let fds = Fds {
        channel: up(given.channel)?,
        procs: given.procs.iter().copied().map(up).collect::<io::Result<_>>()?,
        inside: given.inside.map(up).transpose()?,
        users: given.users.map(up).transpose()?,
        init: init.map(|init| up(init.as_fd())).transpose()?,
        vault: needs_vault.then(|| up(host.vault.as_fd())).transpose()?,
        held: host.held,
    };
    let stdio = &given.stdio;
    let standard = [(0, stdio.stdin), (1, stdio.stdout), (2, stdio.stderr)];
    let standard = standard.map(|(number, fd)| (number, fd.unwrap_or(host.null.as_fd())));
    let wanted: Vec<(RawFd, BorrowedFd<'_>)> =
        standard.into_iter().chain(stdio.named.iter().copied()).collect();
    // First all out of the way, then each to its place: a source may sit on another's number.
    let moved = wanted.iter().map(|(_, fd)| up(*fd)).collect::<io::Result<Vec<_>>>()?;
    for ((number, _), fd) in wanted.iter().zip(&moved) {
        fd::place(fd.as_fd(), *number)?;
    }
    let mut keep: Vec<BorrowedFd<'_>> = vec![fds.channel.as_fd()];
    keep.extend(fds.procs.iter().map(AsFd::as_fd));
    let own = fds.inside.iter().chain(&fds.users).chain(&fds.init).chain(&fds.vault);
    keep.extend(own.map(AsFd::as_fd));
    let named: Vec<RawFd> = stdio.named.iter().map(|(number, _)| *number).collect();
    fd::close_all_but_numbers(&named, &keep)?;
    for fd in moved {
        // Closed above; dropping would close the number a second time.
        std::mem::forget(fd);
    }
    limits::set_soft_files(host.soft_files)?;
    oom::expose()?;
    signal::reset()?;
    Ok(fds)
}

/// Carries out one list of steps.
fn carry_out(
    state: &mut State<'_>,
    steps: &[Step],
    place: impl Fn(u16) -> Place,
    channel: BorrowedFd<'_>,
) {
    for (index, step) in steps.iter().enumerate() {
        if let Err(failure) = state.carry_out(&step.op) {
            if state.goes_on_without_users(&step.op, &failure) {
                return carry_out(state, steps, place, channel);
            }
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let place = if state.was_asked(&step.op) { Place::Asked(index) } else { place(index) };
            fail(channel, place, &failure);
        }
    }
}

fn become_init(plan: &Plan, fds: Fds, root: Option<Root>) -> ! {
    let channel = fds.channel;
    let mut state = State::new(channel.as_fd(), plan, fds.procs, fds.held);
    state.users = Membership::new(root, fds.users);
    state.vault = fds.vault;
    carry_out(&mut state, &plan.sandbox, Place::Sandbox, channel.as_fd());
    let gate = Gate::of_init(plan);
    let gate = gate.unwrap_or_else(|failure| fail(channel.as_fd(), Place::Filter, &failure));
    let error = execute_init(channel.as_fd(), fds.init.as_ref(), gate.as_ref());
    fail(channel.as_fd(), Place::Init, &error.into())
}

fn execute_init(channel: BorrowedFd<'_>, init: Option<&OwnedFd>, gate: Option<&Gate>) -> io::Error {
    let Some(init) = init else { return io::ErrorKind::NotFound.into() };
    let standard = [0, 1, 2].map(fd::standard);
    let closed = standard.into_iter().try_for_each(|fd| fd::set_close_on_exec(fd, true));
    let settled = closed.and_then(|()| signal::leave_children());
    if let Err(error) = settled.and_then(|()| status::send_executing(channel)) {
        return error;
    }
    let argv = identity::Strings::new(vec![c_string("berth-init")]);
    let envp = identity::Strings::new(Vec::new());
    if let Some(Err(failure)) = gate.map(Gate::install_for_good) {
        fail(channel, Place::Filter, &failure);
    }
    identity::execute_fd(init.as_fd(), &argv, &envp)
}

/// The host's `/dev/null` would be a file of the host in the hands of the unit, which
/// could change its mode: inside, it is the unit's own.
fn own_null(stdio: &Stdio<'_>) -> io::Result<()> {
    let standard = [(0, stdio.stdin), (1, stdio.stdout), (2, stdio.stderr)];
    let mut null = None;
    for (number, _) in standard.iter().filter(|(_, fd)| fd.is_none()) {
        let null = match &null {
            Some(null) => null,
            None => null.insert(path::open_null()?),
        };
        fd::place(null.as_fd(), *number)?;
    }
    Ok(())
}

fn become_program(
    plan: &Plan,
    program: Program<'_>,
    stdio: &Stdio<'_>,
    fds: Fds,
    root: Option<Root>,
) -> ! {
    let channel = fds.channel;
    let mut state = State::new(channel.as_fd(), plan, fds.procs, fds.held);
    state.users = Membership::new(root, fds.users);
    if let Program::Exec(exec) = program {
        state.exec = Some(exec);
    }
    carry_out(&mut state, &plan.outside, Place::Outside, channel.as_fd());
    if let Some(inside) = fds.inside {
        if let Err(failure) = state.join(inside.as_fd()) {
            fail(channel.as_fd(), Place::Enter, &failure);
        }
    } else {
        state.vault = fds.vault;
        carry_out(&mut state, &plan.sandbox, Place::Sandbox, channel.as_fd());
    }
    if plan.namespaces.mount
        && let Err(error) = own_null(stdio)
    {
        fail(channel.as_fd(), Place::Null, &error.into());
    }
    carry_out(&mut state, &plan.process, Place::Process, channel.as_fd());
    let (argv, line) = match program {
        Program::Main => (plan.command.value.as_slice(), plan.command.line),
        Program::Command { argv, line } => (argv, line),
        Program::Exec(exec) => (exec.argv.as_slice(), 0),
    };
    let variables = state.variables();
    let gate = state.gate();
    let gate = gate.unwrap_or_else(|failure| fail(channel.as_fd(), Place::Filter, &failure));
    let failure = execute(channel.as_fd(), argv, &variables, gate.as_ref());
    let line = u16::try_from(line).unwrap_or(0);
    fail(channel.as_fd(), Place::Execute(line), &failure)
}

/// Looks the program up and executes it; comes back only with the reason why not.
fn execute(
    channel: BorrowedFd<'_>,
    argv: &[String],
    variables: &Variables,
    gate: Option<&Gate>,
) -> Failure {
    let Some(name) = argv.first() else { return program::empty() };
    let list = environment::get(variables, "PATH").unwrap_or(environment::DEFAULT_PATH);
    let candidates = program::candidates(name, list);
    let c_argv = identity::Strings::new(argv.iter().map(|text| c_string(text)).collect());
    let c_envp = identity::Strings::new(environment::to_c(variables));
    if let Err(error) = status::send_executing(channel) {
        return error.into();
    }
    let paths: Vec<_> = candidates.iter().map(|candidate| c_string(candidate)).collect();
    if let Some(Err(failure)) = gate.map(Gate::install) {
        fail(channel, Place::Filter, &failure);
    }
    let mut denied = None;
    for (candidate, path) in candidates.iter().zip(&paths) {
        let error = identity::execute(path, &c_argv, &c_envp);
        match error.raw_os_error() {
            Some(libc::ENOENT) if path::exists(candidate) => {
                let head = path::head(candidate).unwrap_or_default();
                let interpreter = program::interpreter(&head);
                return program::without_interpreter(name, candidate, interpreter.as_deref());
            }
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some(candidate),
            errno => return program::refused(name, errno.unwrap_or_default()),
        }
    }
    denied.map_or_else(|| program::absent(name, list), |it| program::denied(name, it))
}
