//! Starts and ends containers as the supervisor does, and says how long one takes.
//!
//!     bench-container ROOTFS COUNT [plain|host|overlay] [unconfined] [host-users] [privileged]
//!
//! ROOTFS holds a static program /tiny. The same work as `floor_container.c`, with all
//! that a real start has besides: plan, status channel, init, accounting, killing the
//! group. `plain` is a process without namespaces, `host`
//! a container on the host's tree (ROOTFS not below a private directory), `unconfined` one
//! without a filter of system calls, `host-users` one without a user namespace, `privileged`
//! one without anything that keeps it from the host. Prints
//! nanoseconds for each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a benchmark"
)]

use std::os::fd::AsFd;
use std::time::Instant;

use berth::container::{
    self, Child, Context, Host, Plan, Program, Status, Stdio, UserNamespace, Where,
};
use berth::sys::cgroup::{Group, Root, Tree};
use berth::sys::{fd, reap, signal};
use berth::unit::model::{
    At, IdMaps, Namespaces, Rootfs, Seccomp, Unit, UserNamespace as Wanted, Writable,
};

#[path = "../tests/sandbox/units.rs"]
mod units;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let rootfs = arguments.get(1).expect("a root tree").clone();
    let count: u32 = arguments.get(2).expect("a count").parse().unwrap();
    let _signals = signal::block_all().unwrap();
    let host = Host::new().unwrap();
    let root = Tree::discover().unwrap().open(&format!("bench-{}", std::process::id())).unwrap();
    let mut unit = units::unit("web", &["/tiny"]);
    let service = units::service(&mut unit);
    match arguments.get(3).map(String::as_str) {
        Some("plain") => {
            service.namespaces.value = Namespaces::NONE;
            service.command.value = vec![format!("{rootfs}/tiny")];
        }
        Some("host") => service.command.value = vec![format!("{rootfs}/tiny")],
        _ => {
            service.rootfs = At::default_value(Rootfs::Directory(rootfs));
            service.writable = Writable::Ephemeral;
        }
    }
    let asked = |word: &str| arguments.iter().skip(4).any(|argument| argument == word);
    if asked("unconfined") {
        service.security.seccomp = Some(At::default_value(Seccomp::Unconfined));
    }
    service.security.privileged = asked("privileged");
    let users = match service.user_namespace() {
        Wanted::Auto if !asked("host-users") => {
            Some(UserNamespace::new(&IdMaps::one(0x7000_0000, 0x1_0000)).unwrap())
        }
        _ => None,
    };
    let context = Context { runtime: "/run/berth", state: "/var/lib/berth", files: &[] };
    let plan = container::compile(&unit, &context).unwrap();
    let start = Instant::now();
    for _ in 0..count {
        one(&host, &root, &unit, &plan, users.as_ref());
    }
    println!("{}", start.elapsed().as_nanos() / u128::from(count));
    root.remove().unwrap();
}

fn one(host: &Host, root: &Root, unit: &Unit, plan: &Plan, users: Option<&UserNamespace>) {
    let users = users.map(UserNamespace::if_possible);
    let mut group = container::group(root, unit, "web").unwrap();
    let mut sandbox = plan.init.then(|| container::sandbox(host, plan, &group, users).unwrap());
    if let Some(sandbox) = &mut sandbox {
        executed(sandbox, plan);
    }
    let inside = sandbox.as_ref().map(|sandbox| sandbox.pidfd.as_fd());
    let stdio = Stdio::default();
    let place = Where { group: &group, inside, users };
    let mut main = container::process(host, plan, place, Program::Main, &stdio).unwrap();
    executed(&mut main, plan);
    wait(&main);
    end(&mut group, sandbox.as_ref());
}

fn executed(child: &mut Child, plan: &Plan) {
    loop {
        fd::readable_within(child.status.as_fd(), -1).unwrap();
        match child.status.read(plan) {
            Status::Executed => return,
            Status::WithoutUsers(why) | Status::Lacks(why) | Status::Failed(why) => panic!("{why}"),
            Status::Pending | Status::HasNetwork | Status::Socket(..) => {}
        }
    }
}

fn wait(child: &Child) {
    assert!(fd::readable_within(child.pidfd.as_fd(), 60_000).unwrap(), "it does not end");
    reap::reap(child.pid).unwrap().unwrap();
}

fn end(group: &mut Group, sandbox: Option<&Child>) {
    group.kill().unwrap();
    if let Some(sandbox) = sandbox {
        wait(sandbox);
    }
    group.remove().unwrap();
}
