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

fn main() {
    rig::main(&[
        namespaces::TESTS,
        tree::TESTS,
        mounts::TESTS,
        paths::TESTS,
        process::TESTS,
        capabilities::TESTS,
        escape_capabilities::TESTS,
        escape_user::TESTS,
        escape_devices::TESTS,
        escape_own::TESTS,
        escape_paths::TESTS,
        escape_processes::TESTS,
        escape_rootfs::TESTS,
        devices::TESTS,
        privileged::TESTS,
        seccomp::TESTS,
        escape_seccomp::TESTS,
        escape_control::TESTS,
        escape_landlock::TESTS,
        secrets::TESTS,
        escape_secrets::TESTS,
        limits::TESTS,
        labels::TESTS,
        init::TESTS,
        ending::TESTS,
        failures::TESTS,
        fallbacks::TESTS,
        express::TESTS,
        probes::TESTS,
        system::TESTS,
        host::TESTS,
    ]);
}
