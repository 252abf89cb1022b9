//! Containers on the real kernel. Needs root.
//!
//! Every test runs in a process of its own, made by fork from this one thread: launching
//! is only allowed from a process with one thread. Before and after each test the state
//! of the host (see `host`) is compared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unnecessary_wraps,
    clippy::assigning_clones,
    reason = "tests, though not of libtest: a panic is how they fail"
)]

#[path = "sandbox/attempt.rs"]
mod attempt;
#[path = "sandbox/capabilities.rs"]
mod capabilities;
#[path = "sandbox/confined.rs"]
mod confined;
#[path = "sandbox/devices.rs"]
mod devices;
#[path = "sandbox/ending.rs"]
mod ending;
#[path = "sandbox/escape_capabilities.rs"]
mod escape_capabilities;
#[path = "sandbox/escape_control.rs"]
mod escape_control;
#[path = "sandbox/escape_devices.rs"]
mod escape_devices;
#[path = "sandbox/escape_landlock.rs"]
mod escape_landlock;
#[path = "sandbox/escape_locked.rs"]
mod escape_locked;
#[path = "sandbox/escape_own.rs"]
mod escape_own;
#[path = "sandbox/escape_paths.rs"]
mod escape_paths;
#[path = "sandbox/escape_processes.rs"]
mod escape_processes;
#[path = "sandbox/escape_rootfs.rs"]
mod escape_rootfs;
#[path = "sandbox/escape_seccomp.rs"]
mod escape_seccomp;
#[path = "sandbox/escape_secrets.rs"]
mod escape_secrets;
#[path = "sandbox/escape_user.rs"]
mod escape_user;
#[path = "sandbox/express.rs"]
mod express;
#[path = "sandbox/failures.rs"]
mod failures;
#[path = "sandbox/fallbacks.rs"]
mod fallbacks;
#[path = "sandbox/host.rs"]
mod host;
#[path = "sandbox/init.rs"]
mod init;
#[path = "sandbox/labels.rs"]
mod labels;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/machine.rs"]
mod machine;
#[path = "sandbox/mounts.rs"]
mod mounts;
#[path = "sandbox/namespaces.rs"]
mod namespaces;
#[path = "sandbox/numbers.rs"]
mod numbers;
#[path = "sandbox/paths.rs"]
mod paths;
#[path = "sandbox/privileged.rs"]
mod privileged;
#[path = "sandbox/probes.rs"]
mod probes;
#[path = "sandbox/process.rs"]
mod process;
#[path = "sandbox/rig.rs"]
mod rig;
#[path = "sandbox/seccomp.rs"]
mod seccomp;
#[path = "sandbox/secrets.rs"]
mod secrets;
#[path = "sandbox/system.rs"]
mod system;
#[path = "sandbox/tree.rs"]
mod tree;
#[path = "sandbox/units.rs"]
mod units;

/// The tests of these modules, with the modules' names.
macro_rules! tests_of {
    ($($module:ident),* $(,)?) => {
        &[$((stringify!($module), $module::TESTS)),*]
    };
}

fn main() {
    rig::main(tests_of![
        namespaces,
        tree,
        mounts,
        paths,
        process,
        capabilities,
        escape_capabilities,
        escape_user,
        escape_devices,
        escape_own,
        escape_paths,
        escape_processes,
        escape_rootfs,
        devices,
        privileged,
        seccomp,
        escape_seccomp,
        escape_control,
        escape_landlock,
        escape_locked,
        secrets,
        escape_secrets,
        confined,
        limits,
        labels,
        init,
        ending,
        failures,
        fallbacks,
        express,
        probes,
        system,
        host,
    ]);
}
