//! The shortest ways through: a plain process and a whole container.

use berth::unit::model::Namespaces;

use super::rig::{Rig, Test};

pub const TESTS: &[Test] = &[
    ("a_plain_process_runs", a_plain_process_runs),
    ("a_container_runs", a_container_runs),
    ("a_container_without_init_runs", a_container_without_init_runs),
];

fn a_plain_process_runs() {
    let rig = Rig::new();
    let outcome = rig.shell("echo hello; exit 3", |s| s.namespaces.value = Namespaces::NONE);
    assert_eq!(outcome.output, "hello\n");
    assert_eq!(outcome.ended, berth::sys::reap::Ended::Code(3));
}

fn a_container_runs() {
    let rig = Rig::new();
    let output = rig.shell("echo $$; cat /proc/1/comm; hostname", |_| {}).good();
    assert_eq!(output, "2\nberth-init\nweb\n");
}

fn a_container_without_init_runs() {
    let rig = Rig::new();
    let output = rig.shell("echo $$", |s| s.init = false).good();
    assert_eq!(output, "1\n");
}
