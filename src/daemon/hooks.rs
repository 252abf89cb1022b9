//! Which program or probe an order of the machine's means for a service.

use crate::container::Program;
use crate::container::probe::Probe;
use crate::supervisor::Hook;
use crate::unit::model::{At, HealthCheck, Ready, Service};

/// What a hook runs.
#[derive(Debug)]
pub enum HookProgram<'a> {
    /// A command of the unit file.
    Command(Program<'a>),
    /// A connection, tried once.
    Probe(Probe),
}

/// The hook's program; `None`: the unit has no such hook.
pub fn program(service: &Service, hook: Hook) -> Option<HookProgram<'_>> {
    let command = match hook {
        Hook::StartPre(index) => service.start_pre.get(index)?,
        Hook::StartPost(index) => service.start_post.get(index)?,
        Hook::StopPost(index) => service.stop_post.get(index)?,
        Hook::Reload => service.reload_command.as_ref()?,
        Hook::Stop => service.stop_command.as_ref()?,
        Hook::Health => {
            let At { value, line } = &service.health.as_ref()?.check;
            return Some(match value {
                HealthCheck::Command(argv) => command_of(argv, *line),
                HealthCheck::Http { host, port, path } => HookProgram::Probe(Probe::Http {
                    host: host.clone(),
                    port: *port,
                    path: path.clone(),
                }),
                HealthCheck::Tcp { host, port } => {
                    HookProgram::Probe(Probe::Tcp { host: host.clone(), port: *port, once: true })
                }
            });
        }
    };
    Some(command_of(&command.value, command.line))
}

fn command_of(argv: &[String], line: u32) -> HookProgram<'_> {
    HookProgram::Command(Program::Command { argv, line })
}

/// The probe that tells when it is ready, if that takes one.
pub fn readiness(service: &Service) -> Option<Probe> {
    match &service.ready {
        Ready::Tcp { host, port } => {
            Some(Probe::Tcp { host: host.clone(), port: *port, once: false })
        }
        Ready::Unix(path) => Some(Probe::Unix(path.clone())),
        Ready::Path(path) => Some(Probe::Path(path.clone())),
        Ready::Exec | Ready::Notify | Ready::Fd(_) | Ready::Health | Ready::Log(_) => None,
    }
}

/// Whether a command may run after the main one has been started, and so needs its output.
pub fn any(service: &Service) -> bool {
    let lists = [&service.start_post, &service.stop_post];
    lists.iter().any(|list| !list.is_empty())
        || service.reload_command.is_some()
        || service.stop_command.is_some()
        || service.health.is_some()
}
