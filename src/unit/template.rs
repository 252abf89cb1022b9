//! Templates: a service called `name@` whose `%i` stands for what follows the `@` in the
//! name that is asked for. `%%i` is a plain `%i`.
//!
//! What must always hold: an instance obeys every rule that a unit written by hand obeys.
//! Instance names cannot bring `/` or `..` into a path, and what a substitution can still
//! break (lengths, numbers, regular expressions) is checked again.

use super::model::Unset;
use super::model::{
    At, HealthCheck, Id, Kind, MountSource, Networking, Ready, Rootfs, SecretUse, Security,
    Service, Unit, User,
};
use super::names;
use super::settings::{secret, value};

/// Makes `worker@1` of the template `worker@` and the instance `1`.
///
/// # Errors
/// One sentence that says why this instance cannot be.
pub fn instantiate(template: &Unit, instance: &str) -> Result<Unit, String> {
    if !names::is_template(&template.name) {
        return Err(format!("`{}` is not a template", template.name));
    }
    let name = format!("{}{instance}", template.name);
    if instance.is_empty() || instance.chars().all(|c| c == '.') {
        return Err(format!("`{name}` is not an instance: something must follow the `@`"));
    }
    if let Some(problem) = names::problem(&name) {
        return Err(format!("`{name}` cannot be made: {problem}"));
    }
    let mut unit = template.clone();
    unit.name = name;
    strings(&mut unit, &mut |text| *text = substitute(text, instance));
    checked(unit)
}

/// Replaces `%i`; a `%%i` becomes `%i`.
pub fn substitute(text: &str, instance: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("%i") {
        if let Some(before) = before.strip_suffix('%') {
            out.push_str(before);
            out.push_str("%i");
        } else {
            out.push_str(before);
            out.push_str(instance);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes of all strings of a unit: what an instance of it costs.
pub fn weight(unit: &Unit) -> usize {
    let mut bytes = 0_usize;
    strings(&mut unit.clone(), &mut |text| bytes = bytes.saturating_add(text.len()));
    bytes
}

/// What a substitution can break.
fn checked(mut unit: Unit) -> Result<Unit, String> {
    let name = unit.name.clone();
    let wrong =
        |what: String, problem: &str| Err(format!("`{name}` cannot be made: {what}: {problem}"));
    let mut too_long = false;
    strings(&mut unit, &mut |text| too_long |= text.len() > super::limits::STRING);
    if too_long {
        return wrong("a string".to_owned(), "it is too long");
    }
    let lists =
        [&unit.requires, &unit.wants, &unit.after, &unit.before, &unit.conflicts, &unit.wanted_by];
    for other in lists.into_iter().flatten() {
        if let Some(problem) = names::problem(other) {
            return wrong(super::text::quote(other), problem);
        }
        if *other == unit.name {
            return wrong(super::text::quote(other), "it names itself");
        }
    }
    let Kind::Service(service) = &mut unit.kind else { return Ok(unit) };
    if let Some(user) = &mut service.user {
        for id in std::iter::once(&mut user.value.user).chain(&mut user.value.group) {
            if let Id::Name(text) = id {
                *id = match value::id(text) {
                    Ok(id) => id,
                    Err(problem) => return wrong("`user`".to_owned(), problem),
                };
            }
        }
    }
    if service
        .hostname
        .as_ref()
        .is_some_and(|name| name.value.len() > 64 || name.value.contains('@'))
    {
        return wrong("`hostname`".to_owned(), "it has 1 to 64 letters, digits and `- . _`");
    }
    if let Ready::Log(regex) = &service.ready
        && value::regex(regex).is_err()
    {
        return wrong("`ready`".to_owned(), "this is not a regular expression any more");
    }
    for alias in service.networking.memberships.iter().flat_map(|membership| &membership.aliases) {
        if let Some(problem) = names::problem(alias) {
            return wrong("`aliases`".to_owned(), problem);
        }
    }
    for mount in &service.mounts {
        let problem = match &mount.value.source {
            MountSource::Volume { name } => names::problem(name),
            MountSource::Bind { path, .. } => value::path_problem(path),
            MountSource::Tmpfs { .. } => None,
        };
        if let Some(problem) = problem.or_else(|| value::path_problem(&mount.value.target)) {
            return wrong("`mounts`".to_owned(), problem);
        }
    }
    for At { value: SecretUse { secret, target, .. }, .. } in &service.secrets.uses {
        if let Some(problem) = names::problem(secret).or_else(|| secret::target_problem(target)) {
            return wrong("`secrets`".to_owned(), problem);
        }
        let same = service.secrets.uses.iter().filter(|other| other.value.target == *target);
        if same.count() > 1 {
            return wrong("`secrets`".to_owned(), "two go to the same file");
        }
    }
    Ok(unit)
}

/// Calls `f` for every string that a person wrote, names of other units included. All
/// fields are named, so that a new one cannot be forgotten.
fn strings(unit: &mut Unit, f: &mut dyn FnMut(&mut String)) {
    let Unit {
        name: _,
        file: _,
        line: _,
        description,
        requires,
        wants,
        after,
        before,
        conflicts,
        wanted_by,
        kind,
    } = unit;
    f(description);
    for list in [requires, wants, after, before, conflicts, wanted_by] {
        list.iter_mut().for_each(&mut *f);
    }
    if let Kind::Service(service) = kind {
        service_strings(service, f);
    }
}

fn service_strings(service: &mut Service, f: &mut dyn FnMut(&mut String)) {
    let Service {
        command,
        rootfs,
        writable: _,
        namespaces: _,
        user,
        working_directory,
        environment,
        environment_files,
        hostname,
        mounts,
        umask: _,
        init: _,
        oneshot: _,
        ready,
        restart: _,
        success_exit_status: _,
        critical: _,
        start_timeout: _,
        stop_timeout: _,
        stop_signal: _,
        reload_signal: _,
        reload_command,
        stop_command,
        start_pre,
        start_post,
        stop_post,
        watchdog: _,
        security,
        secrets,
        limits: _,
        health,
        log: _,
        networking,
    } = service;
    let commands = std::iter::once(command).chain(reload_command).chain(stop_command);
    for command in commands.chain(start_pre).chain(start_post).chain(stop_post) {
        command.value.iter_mut().for_each(&mut *f);
    }
    if let Rootfs::Directory(path) = &mut rootfs.value {
        f(path);
    }
    if let Some(user) = user {
        let User { user, group } = &mut user.value;
        for id in std::iter::once(user).chain(group) {
            if let Id::Name(name) = id {
                f(name);
            }
        }
    }
    f(&mut working_directory.value);
    for (_, value) in environment {
        f(value);
    }
    for file in environment_files {
        f(&mut file.value);
    }
    if let Some(hostname) = hostname {
        f(&mut hostname.value);
    }
    if **security != Security::default() {
        security.strings(f);
    }
    if !secrets.uses.is_empty() {
        secrets.strings(f);
    }
    for mount in mounts {
        f(&mut mount.value.target);
        match &mut mount.value.source {
            MountSource::Bind { path, .. } => f(path),
            MountSource::Volume { name } => f(name),
            MountSource::Tmpfs { .. } => {}
        }
    }
    if **networking != *Networking::UNSET {
        let Networking { memberships, ports: _, owner } = &mut **networking;
        memberships.iter_mut().flat_map(|it| &mut it.aliases).for_each(&mut *f);
        if let Some(owner) = owner {
            f(&mut owner.value);
        }
    }
    match ready {
        Ready::Unix(text) | Ready::Path(text) | Ready::Log(text) => f(text),
        Ready::Exec | Ready::Notify | Ready::Fd(_) | Ready::Tcp { .. } | Ready::Health => {}
    }
    if let Some(health) = health {
        match &mut health.check.value {
            HealthCheck::Command(words) => words.iter_mut().for_each(&mut *f),
            HealthCheck::Http { path, .. } => f(path),
            HealthCheck::Tcp { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_i_is_replaced_and_can_be_escaped() {
        assert_eq!(substitute("a%ib%i", "X"), "aXbX");
        assert_eq!(substitute("a%%ib", "X"), "a%ib");
        assert_eq!(substitute("100% %d", "X"), "100% %d");
    }
}
