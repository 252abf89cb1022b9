//! How attempts to break out are made: each is a script that says `escaped` when it has
//! succeeded, run three times from inside a real unit.
//!
//! With all defences, it must not. With only the one it is about (all others off), it must
//! not. Without any, it must: so no attempt passes because it could not have worked anyway,
//! or because another defence has stopped it.

use berth::container::step::Op;
use berth::unit::model::{At, Capabilities, CapabilitySet, Seccomp, Service};

use super::rig::{Rig, service, unit};

/// What is said of an attempt that has succeeded.
pub const ESCAPED: &str = "escaped";

/// The one defence that an attempt is about, and how it is taken away.
#[derive(Clone, Copy)]
pub enum Defence {
    /// The rules of the control group about devices.
    Devices,
    /// Some steps.
    Steps(fn(&Op) -> bool),
    /// What a setting does; this changes it.
    Setting(fn(&mut Service)),
    /// That it does not have this capability.
    Capability(&'static str),
}

/// Takes away what other tests are about: a unit that may do all that root may.
pub fn others_off(service: &mut Service) {
    let add = At::default_value(CapabilitySet::ALL);
    service.security.capabilities = Capabilities::Changed { add, drop: At::default() };
    service.security.no_new_privileges = false;
    service.security.seccomp = Some(At::default_value(Seccomp::Unconfined));
}

/// All but one capability, which is `None` for those that are not about any.
fn all_but(service: &mut Service, defence: Defence) {
    others_off(service);
    if let Defence::Capability(name) = defence {
        let drop = At::default_value(CapabilitySet::named(name).unwrap());
        let add = At::default_value(CapabilitySet::ALL);
        service.security.capabilities = Capabilities::Changed { add, drop };
    }
}

/// Makes an attempt with all defences, with one, with none. `prepare` changes the unit
/// every time.
///
/// All with the host's users: a user namespace is a defence against most of these by itself,
/// see `escape_user`.
pub fn attempt(rig: &Rig, script: &str, prepare: impl Fn(&mut Service), defence: Defence) {
    rig.host_users.set(true);
    let run = |change: &dyn Fn(&mut Service)| {
        let mut unit = unit("web", &["sh", "-c", script]);
        prepare(service(&mut unit));
        change(service(&mut unit));
        match rig.up(&unit) {
            Ok(mut running) => {
                let output = running.wait().output;
                running.down();
                output
            }
            // A start that is refused is no escape; that it is not broken the last run shows.
            Err(why) => why,
        }
    };
    let alone = !matches!(defence, Defence::Devices);
    rig.all_devices.set(false);
    let output = run(&|_| {});
    assert!(!output.contains(ESCAPED), "with all defences: {output}");
    rig.all_devices.set(alone);
    let output = run(&|s| all_but(s, defence));
    assert!(!output.contains(ESCAPED), "with only one defence: {output}");
    rig.all_devices.set(true);
    if let Defence::Steps(steps) = defence {
        rig.without.set(steps);
    }
    let output = run(&|s| {
        others_off(s);
        if let Defence::Setting(change) = defence {
            change(s);
        }
    });
    assert!(output.contains(ESCAPED), "the control, without the defence: {output}");
    rig.without.set(|_| false);
    rig.all_devices.set(false);
    rig.host_users.set(false);
}

/// What a plain program of the host does, for attempts whose defence cannot be taken away:
/// the naive way of doing the same thing.
pub fn naive(script: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
