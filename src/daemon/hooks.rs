//! Which program or probe an order of the machine's means for a service.

use crate::container::Program;
use crate::container::probe::Target;
use crate::supervisor::Hook;
use crate::unit::model::{At, HealthCheck, Service};

/// What a hook runs.
#[derive(Debug)]
pub enum HookProgram<'a> {
    /// A command of the unit file.
    Command(Program<'a>),
    /// A connection, tried once.
    Probe(Target),
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
                other => HookProgram::Probe(Target::of_health(other)?),
            });
        }
    };
    Some(command_of(&command.value, command.line))
}

fn command_of(argv: &[String], line: u32) -> HookProgram<'_> {
    HookProgram::Command(Program::Command { argv, line })
}

/// Whether a command may run after the main one has been started, and so needs its output.
pub fn any(service: &Service) -> bool {
    let lists = [&service.start_post, &service.stop_post];
    lists.iter().any(|list| !list.is_empty())
        || service.reload_command.is_some()
        || service.stop_command.is_some()
        || service.health.is_some()
}
