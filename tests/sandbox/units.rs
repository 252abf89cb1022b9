//! Units as the checker would hand them over, for tests and benchmarks of containers.

use berth::unit::model::{At, Kind, Restart, RestartPolicy, Service, Unit};

/// A container on the host's tree with all that can be left out left out.
pub fn unit(name: &str, command: &[&str]) -> Unit {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let service = Service {
        restart: Restart { policy: RestartPolicy::No, ..Restart::default() },
        start_timeout: None,
        stop_timeout: None,
        ..Service::new(At { value: command, line: 2 })
    };
    Unit { kind: Kind::Service(Box::new(service)), ..Unit::new(name, "web.toml", 1) }
}

/// Its service, to change.
pub fn service(unit: &mut Unit) -> &mut Service {
    match &mut unit.kind {
        Kind::Service(service) => service,
        Kind::Target => unreachable!(),
    }
}
