//! Random sets of units, and random changes of them.
//!
//! Unit `u07` depends only on units of a lower number, so no set has a cycle however
//! often it is changed; that is what the checker of unit files guarantees.

use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use crate::unit::model::{
    At, ExitMatch, Health, HealthCheck, Kind, Namespaces, Ready, Restart, RestartPolicy, Service,
    Unit, UnitSet,
};

/// The plainest service there is.
pub fn plain_service() -> Service {
    let command = At::default_value(vec!["/bin/true".to_owned()]);
    Service {
        namespaces: At::default_value(Namespaces::NONE),
        init: false,
        ..Service::new(command)
    }
}

/// A unit without links.
pub fn unit(name: &str, kind: Kind) -> Unit {
    Unit { kind, ..Unit::new(name, "sim.toml", 1) }
}

/// The name of a number. The highest of a set is the target everything is wanted by.
pub fn name(number: usize) -> String {
    format!("u{number:02}")
}

/// A random set; its last unit is a target.
pub fn random_set(rng: &mut Rng) -> UnitSet {
    let most = if rng.percent(80) { 12 } else { 40 };
    let count = 1 + rng.index(most);
    let mut units: Vec<Unit> = (0..count).map(|number| random_unit(rng, number, count)).collect();
    let mut default = unit(&name(count), Kind::Target);
    default.requires = pick_below(rng, count, 30);
    default.wants = pick_below(rng, count, 50);
    units.push(default);
    finish(rng, units)
}

/// The same set with something else about it.
pub fn mutated(rng: &mut Rng, set: &UnitSet) -> UnitSet {
    let count = set.units.len().max(2);
    let mut units: Vec<Unit> = set.units.iter().map(|unit| Unit::clone(unit)).collect();
    for _ in 0..=rng.index(3) {
        let number = rng.index(count - 1);
        let place = units.iter().position(|unit| unit.name == name(number));
        match (place, rng.below(5)) {
            (Some(place), 0) => drop(units.remove(place)),
            (Some(place), 1) => units[place] = random_unit(rng, number, count - 1),
            (Some(place), 2) => {
                let fresh = random_unit(rng, number, count - 1);
                units[place].requires = fresh.requires;
                units[place].after = fresh.after;
                units[place].conflicts = fresh.conflicts;
            }
            (Some(place), 3) => {
                if let Kind::Service(service) = &mut units[place].kind {
                    service.command.value.push("x".to_owned());
                }
            }
            (Some(place), _) => {
                if let Kind::Service(service) = &mut units[place].kind {
                    service.restart = random_restart(rng);
                    let timeout = Duration::from_secs(1 + rng.below(20));
                    service.stop_timeout = has_stop_timeout(number).then_some(timeout);
                }
            }
            (None, _) => units.push(random_unit(rng, number, count - 1)),
        }
    }
    finish(rng, units)
}

/// Sorts, and drops what refers to nothing (all but a few: the machine must bear those).
fn finish(rng: &mut Rng, mut units: Vec<Unit>) -> UnitSet {
    units.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<String> = units.iter().map(|unit| unit.name.clone()).collect();
    if !rng.percent(2) {
        for unit in &mut units {
            unit.requires.retain(|name| names.contains(name));
        }
    }
    let units = units.into_iter().map(Arc::new).collect();
    UnitSet { units, ..UnitSet::default() }
}

/// Some of the units below a number.
fn pick_below(rng: &mut Rng, number: usize, percent: u64) -> Vec<String> {
    let most = rng.index(4);
    (0..number).rev().filter(|_| rng.percent(percent)).take(most).map(name).collect()
}

/// A unit of this number in a set of `count` and a target.
fn random_unit(rng: &mut Rng, number: usize, count: usize) -> Unit {
    let target = rng.percent(10);
    let kind =
        if target { Kind::Target } else { Kind::Service(Box::new(random_service(rng, number))) };
    let mut unit = unit(&name(number), kind);
    unit.requires = pick_below(rng, number, 25);
    unit.wants = pick_below(rng, number, 10);
    unit.after = pick_below(rng, number, 10);
    if rng.percent(10) && number + 1 < count {
        unit.before = vec![name(number + 1 + rng.index(count - number - 1))];
    }
    if rng.percent(5) {
        let other = rng.index(count);
        if other != number {
            unit.conflicts = vec![name(other)];
        }
    }
    if rng.percent(50) {
        unit.wanted_by = vec![name(count)];
    }
    unit
}

/// Whether a unit may be killed. The world lets only such a one ignore its stop signal, so
/// this must not change with a new definition.
fn has_stop_timeout(number: usize) -> bool {
    number % 7 != 3
}

fn random_restart(rng: &mut Rng) -> Restart {
    Restart {
        policy: *rng.pick(&[
            RestartPolicy::No,
            RestartPolicy::OnFailure,
            RestartPolicy::OnFailure,
            RestartPolicy::Always,
            RestartPolicy::UnlessStopped,
        ]),
        delay: Duration::from_millis(*rng.pick(&[0, 1, 100, 2_000])),
        delay_max: Duration::from_secs(*rng.pick(&[1, 60])),
        reset: Duration::from_secs(*rng.pick(&[0, 10])),
        limit_count: *rng.pick(&[0, 1, 3, 10]),
        limit_window: Duration::from_secs(*rng.pick(&[1, 60])),
    }
}

fn hooks(rng: &mut Rng) -> Vec<At<Vec<String>>> {
    let most = if rng.percent(75) { 0 } else { 2 };
    vec![At::default_value(vec!["/bin/hook".to_owned()]); rng.index(most + 1)]
}

fn random_service(rng: &mut Rng, number: usize) -> Service {
    let health = rng.percent(15).then(|| Health {
        check: At::default_value(HealthCheck::Tcp { host: "127.0.0.1".to_owned(), port: 1 }),
        interval: Duration::from_secs(*rng.pick(&[2, 10])),
        timeout: Duration::from_secs(*rng.pick(&[1, 5])),
        retries: *rng.pick(&[0, 1, 3]),
        start_period: Duration::from_secs(*rng.pick(&[0, 5])),
        restart: rng.percent(70),
    });
    let mut ready = vec![
        Ready::Exec,
        Ready::Exec,
        Ready::Notify,
        Ready::Fd(3),
        Ready::Tcp { host: "127.0.0.1".to_owned(), port: 80 },
        Ready::Unix("/run/x".to_owned()),
        Ready::Path("/run/y".to_owned()),
        Ready::Log("up".to_owned()),
    ];
    if health.is_some() {
        ready.extend([Ready::Health, Ready::Health, Ready::Health]);
    }
    let command = |rng: &mut Rng, percent| {
        rng.percent(percent).then(|| At::default_value(vec!["/bin/hook".to_owned()]))
    };
    let oneshot = rng.percent(20);
    Service {
        oneshot,
        ready: if oneshot { Ready::Exec } else { rng.pick(&ready).clone() },
        restart: random_restart(rng),
        success_exit_status: if rng.percent(10) { vec![ExitMatch::Code(7)] } else { Vec::new() },
        critical: rng.percent(5),
        start_timeout: rng.percent(85).then(|| Duration::from_secs(*rng.pick(&[1, 60]))),
        stop_timeout: has_stop_timeout(number)
            .then(|| Duration::from_secs(*rng.pick(&[1, 10, 90]))),
        stop_signal: *rng.pick(&[15, 2]),
        reload_signal: rng.percent(30).then_some(1),
        reload_command: command(rng, 15),
        stop_command: command(rng, 15),
        start_pre: hooks(rng),
        start_post: hooks(rng),
        stop_post: hooks(rng),
        watchdog: rng.percent(10).then(|| Duration::from_secs(*rng.pick(&[2, 10]))),
        health,
        ..plain_service()
    }
}
