//! Containers on the real kernel. Needs root.
//!
//! Every test runs in a process of its own, made by fork from this one thread: launching
//! is only allowed from a process with one thread. Before and after each test the state
//! of the host (mounts, control groups, descriptors, children) is compared.

#[path = "sandbox/rig.rs"]
mod rig;
#[path = "sandbox/smoke.rs"]
mod smoke;

fn main() {
    rig::main(&[smoke::TESTS]);
}
