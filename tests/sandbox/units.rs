//! Units as the checker would hand them over, for tests and benchmarks of containers.

use std::time::Duration;

use berth::unit::model::{
    At, Capabilities, Kind, Log, Namespaces, RareLimits, Ready, Restart, RestartPolicy, Rootfs,
    Service, Unit, Writable,
};

/// A container on the host's tree with all that can be left out left out.
pub fn unit(name: &str, command: &[&str]) -> Unit {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let service = Service {
        command: At { value: command, line: 2 },
        rootfs: At::default_value(Rootfs::Host),
        writable: Writable::None,
        namespaces: At::default_value(Namespaces::ALL),
        user: None,
        working_directory: At::default_value("/".to_owned()),
        environment: Vec::new(),
        environment_files: Vec::new(),
        hostname: None,
        mounts: Vec::new(),
        masked_paths: Vec::new(),
        read_only_paths: Vec::new(),
        umask: 0o022,
        no_new_privileges: true,
        capabilities: Capabilities::Default,
        privileged: false,
        init: true,
        oneshot: false,
        ready: Ready::Exec,
        restart: Restart {
            policy: RestartPolicy::No,
            delay: Duration::ZERO,
            delay_max: Duration::ZERO,
            reset: Duration::ZERO,
            limit_count: 0,
            limit_window: Duration::ZERO,
        },
        success_exit_status: Vec::new(),
        critical: false,
        start_timeout: None,
        stop_timeout: None,
        stop_signal: libc::SIGTERM,
        reload_signal: None,
        reload_command: None,
        stop_command: None,
        start_pre: Vec::new(),
        start_post: Vec::new(),
        stop_post: Vec::new(),
        watchdog: None,
        limits: RareLimits::default(),
        health: None,
        log: Log::default(),
        networking: None,
    };
    Unit {
        name: name.to_owned(),
        file: "web.toml".to_owned(),
        line: 1,
        description: String::new(),
        requires: Vec::new(),
        wants: Vec::new(),
        after: Vec::new(),
        before: Vec::new(),
        conflicts: Vec::new(),
        wanted_by: Vec::new(),
        kind: Kind::Service(Box::new(service)),
    }
}

/// Its service, to change.
pub fn service(unit: &mut Unit) -> &mut Service {
    match &mut unit.kind {
        Kind::Service(service) => service,
        Kind::Target => unreachable!(),
    }
}
