//! The rig: a runner of tests in forked children, and a small supervisor for one unit.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth::container::step::Op;
use berth::container::{
    self, Channel, Child, Context, Exec, Host, Plan, Program, SocketKind, Status, Stdio,
    UserNamespace, Users, Where,
};
use berth::sys::cgroup::{Group, Root, Tree};
use berth::sys::reap::{self, Dead, Ended};
use berth::sys::{fd, fork, pidfd};
use berth::unit::model::{At, Mount, Rootfs, Service, Unit, UserNamespace as Wanted, Writable};

use super::host::host_state;
use super::machine::patience;
pub use super::machine::wait_for;
pub use super::numbers::first_user;
use super::numbers::{LACKS, WITHOUT_USERS, user_namespace};
pub use super::units::{service, unit};

pub type Test = (&'static str, fn());

/// Runs all tests of these modules, or those whose names (`MODULE::TEST`) contain an argument.
pub fn main(modules: &[(&str, &[Test])]) {
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    reap::become_subreaper().unwrap();
    super::host::own_world();
    let (mut good, mut bad) = (0, Vec::new());
    let named = modules.iter().flat_map(|(module, tests)| {
        tests.iter().map(move |(name, test)| (format!("{module}::{name}"), test))
    });
    // What one has left as it was is where the next one begins.
    let mut state = None;
    for (name, test) in named.filter(|(name, _)| wanted(name)) {
        match run(*test, &mut state) {
            Ok(()) => {
                println!("test {name} ... ok");
                good += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED: {why}");
                bad.push(name);
            }
        }
    }
    println!("\n{good} passed, {} failed {bad:?}", bad.len());
    std::process::exit(i32::from(!bad.is_empty()));
}

fn run(test: fn(), state: &mut Option<BTreeSet<String>>) -> Result<(), String> {
    let before = state.take().unwrap_or_else(host_state);
    let options = fork::Options { environment: true, ..fork::Options::default() };
    let child = fork::child(&options, || {
        reap::become_subreaper().unwrap();
        test();
        0
    })
    .unwrap();
    if !fd::readable_within(child.pidfd.as_fd(), patience(60_000)).unwrap() {
        pidfd::send_signal(child.pidfd.as_fd(), libc::SIGKILL).unwrap();
        super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
        return Err("took longer than a minute".to_owned());
    }
    let dead = super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap().unwrap();
    let pid = child.pid;
    drop(child);
    reap_orphans();
    remove_directories(pid.unsigned_abs());
    if dead.ended != Ended::Code(0) {
        // The next test begins on a clean host.
        berth::sys::cgroup::tree::kill_leftovers(&groups_of(pid)).unwrap();
        return Err(format!("{:?}", dead.ended));
    }
    let after = host_state();
    let mut left: Vec<String> = after.symmetric_difference(&before).cloned().collect();
    let groups = groups_of(pid).into_iter().filter(|path| path.exists());
    left.extend(groups.map(|path| path.display().to_string()));
    if left.is_empty() {
        *state = Some(after);
        Ok(())
    } else {
        Err(format!("the host has changed: {left:?}"))
    }
}

/// How the directories of a test's rigs are called.
fn prefix(pid: u32) -> String {
    format!("berth-rig-{pid}-")
}

/// A test could not remove what was mounted on in its own mount namespace, or failed.
fn remove_directories(pid: u32) {
    for entry in std::fs::read_dir("/var/tmp").unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(&prefix(pid)) {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

/// The groups of a test's rig, in every hierarchy. Those of other test runs are theirs.
fn groups_of(pid: i32) -> Vec<std::path::PathBuf> {
    let tree = Tree::discover().unwrap();
    tree.own_groups().map(|own| own.join(format!("berth-rig-{pid}"))).collect()
}

/// A small supervisor for units of one test.
pub struct Rig {
    pub host: Host,
    pub root: Option<Root>,
    directory: tempfile::TempDir,
    runs: Cell<u32>,
    /// Steps that are left out of plans: the control of a test takes one defence away.
    pub without: Cell<fn(&Op) -> bool>,
    /// Units have no user namespace: for tests of other defences, where it would be another.
    pub host_users: Cell<bool>,
    /// Whether its group keeps no device from a unit; likewise.
    pub all_devices: Cell<bool>,
}

impl Rig {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&prefix(std::process::id()))
            .tempdir_in("/var/tmp")
            .unwrap();
        for name in ["state", "runtime", "rootfs", "files"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let id = format!("rig-{}", std::process::id());
        let root = Tree::discover().unwrap().open(&id).unwrap();
        assert_eq!(root.missing(), None);
        let host = Host::new().unwrap();
        Self {
            host,
            root: Some(root),
            directory,
            runs: Cell::new(0),
            without: Cell::new(|_| false),
            host_users: Cell::new(false),
            all_devices: Cell::new(false),
        }
    }

    /// How many units it has started.
    pub fn runs(&self) -> u32 {
        self.runs.get()
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file below the rig's directory and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn plan(&self, unit: &Unit) -> Plan {
        let (runtime, state) = (self.path("runtime"), self.path("state"));
        let context = Context { runtime: &runtime, state: &state, files: &[] };
        let mut plan = container::compile(unit, &context).unwrap();
        let without = self.without.get();
        plan.sandbox.retain(|step| !without(&step.op));
        plan.process.retain(|step| !without(&step.op));
        plan
    }

    /// A root tree with the host's programs: `/usr` is to be bound, see [`with_usr`].
    pub fn tree(&self, name: &str) -> String {
        let path = self.path(name);
        for directory in ["usr", "etc", "root", "var", "srv"] {
            std::fs::create_dir_all(format!("{path}/{directory}")).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), format!("{path}/{link}")).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1234:1235:web:/srv/web:/bin/sh\n";
        std::fs::write(format!("{path}/etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nweb:x:1235:\nextra:x:77:web\nmore:x:78:root,web\n";
        std::fs::write(format!("{path}/etc/group"), group).unwrap();
        path
    }

    pub fn up(&self, unit: &Unit) -> Result<Running<'_>, String> {
        Running::start(self, unit)
    }

    /// Starts a unit, waits for its main process, ends it; all must go well.
    pub fn run(&self, unit: &Unit) -> Outcome {
        let mut running = self.up(unit).unwrap();
        let outcome = running.wait();
        running.down();
        outcome
    }

    /// Runs a shell script as a unit on the host's tree and returns what it printed.
    pub fn shell(&self, script: &str, change: impl FnOnce(&mut Service)) -> Outcome {
        let mut unit = unit("web", &["sh", "-c", script]);
        change(service(&mut unit));
        self.run(&unit)
    }

    /// The text with which a start fails. Afterwards nothing may be left.
    pub fn failure(&self, change: impl FnOnce(&mut Service)) -> String {
        let mut unit = unit("web", &["true"]);
        change(service(&mut unit));
        self.up(&unit).err().expect("it started")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(root) = self.root.take()
            && !std::thread::panicking()
        {
            root.remove().unwrap();
        }
    }
}

/// What a unit's main process printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub output: String,
    pub ended: Ended,
}

impl Outcome {
    /// The output of one that succeeded.
    pub fn good(self) -> String {
        assert_eq!(self.ended, Ended::Code(0), "{}", self.output);
        self.output
    }
}

/// A unit that is up.
pub struct Running<'a> {
    rig: &'a Rig,
    pub plan: Plan,
    pub group: Group,
    pub sandbox: Option<Child>,
    pub main: Option<Child>,
    pub sockets: Vec<(SocketKind, OwnedFd)>,
    output: File,
    /// Its user namespace, and whether it cannot do without.
    users: Option<(UserNamespace, bool)>,
}

impl<'a> Running<'a> {
    fn start(rig: &'a Rig, unit: &Unit) -> Result<Self, String> {
        let plan = rig.plan(unit);
        rig.runs.set(rig.runs.get() + 1);
        let name = format!("{}-{}", unit.name, rig.runs.get());
        let mut grouped = unit.clone();
        service(&mut grouped).security.privileged |= rig.all_devices.get();
        if rig.host_users.get() {
            service(&mut grouped).security.user_namespace = Wanted::None;
        }
        let group = container::group(rig.root.as_ref().unwrap(), &grouped, &name)?;
        let (read, write) = std::io::pipe().unwrap();
        let output = File::from(OwnedFd::from(read));
        let own = !rig.host_users.get();
        let users = own.then(|| user_namespace(unit, rig.runs.get())).flatten();
        WITHOUT_USERS.set(None);
        LACKS.take();
        let sockets = Vec::new();
        let mut running =
            Self { rig, plan, group, sandbox: None, main: None, sockets, output, users };
        match running.launch(write.into()) {
            Ok(()) => Ok(running),
            Err(why) => {
                running.down();
                Err(why)
            }
        }
    }

    fn launch(&mut self, output: OwnedFd) -> Result<(), String> {
        if self.plan.init {
            let child = container::sandbox(&self.rig.host, &self.plan, &self.group, self.users());
            self.sandbox = Some(child.map_err(|e| e.to_string())?);
            let channel = &mut self.sandbox.as_mut().unwrap().status;
            executed(channel, &self.plan, &mut self.sockets)?;
        }
        let stdio = Stdio {
            stdin: None,
            stdout: Some(output.as_fd()),
            stderr: Some(output.as_fd()),
            named: &[],
        };
        self.main = Some(self.process(Program::Main, &stdio)?);
        drop(output);
        let channel = &mut self.main.as_mut().unwrap().status;
        executed(channel, &self.plan, &mut self.sockets)
    }

    /// What its processes are launched with.
    pub fn users(&self) -> Option<Users<'_>> {
        let (users, demanded) = self.users.as_ref()?;
        if Self::without_users().is_some() {
            return None;
        }
        Some(if *demanded { users.demanded() } else { users.if_possible() })
    }

    /// Where a process is made that joins it.
    pub fn place<'b>(&'b self, inside: BorrowedFd<'b>) -> Where<'b> {
        Where { group: &self.group, inside: Some(inside), users: self.users() }
    }

    /// Why it went on without a user namespace, if it did.
    pub fn without_users() -> Option<String> {
        WITHOUT_USERS.with_borrow(Clone::clone)
    }

    fn inside(&self) -> Option<&OwnedFd> {
        self.sandbox.as_ref().or(self.main.as_ref()).map(|child| &child.pidfd)
    }

    fn process(&self, program: Program<'_>, stdio: &Stdio<'_>) -> Result<Child, String> {
        let inside = self.inside().map(AsFd::as_fd);
        let place = Where { group: &self.group, inside, users: self.users() };
        container::process(&self.rig.host, &self.plan, place, program, stdio)
            .map_err(|e| e.to_string())
    }

    /// Runs another program inside and waits for it.
    pub fn exec(&mut self, exec: &Exec) -> Result<Outcome, String> {
        self.program(Program::Exec(exec))
    }

    /// As [`Running::exec`], for what is nobody's wish.
    pub fn program(&mut self, program: Program<'_>) -> Result<Outcome, String> {
        let (mut read, write) = std::io::pipe().unwrap();
        let stdio = Stdio {
            stdin: None,
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
            named: &[],
        };
        let mut child = self.process(program, &stdio)?;
        drop(write);
        let result = executed(&mut child.status, &self.plan, &mut self.sockets);
        let mut output = String::new();
        read.read_to_string(&mut output).unwrap();
        let ended = super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap().unwrap().ended;
        result.map(|()| Outcome { output, ended })
    }

    pub fn shell(&mut self, script: &str) -> Outcome {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        self.exec(&Exec { argv, ..Exec::default() }).unwrap()
    }

    /// Waits for the main process and reads all it wrote.
    pub fn wait(&mut self) -> Outcome {
        let main = self.main.take().unwrap();
        assert!(
            fd::readable_within(main.pidfd.as_fd(), patience(20_000)).unwrap(),
            "it does not end"
        );
        let ended = super::rig::wait_pidfd(main.pidfd.as_fd()).unwrap().unwrap().ended;
        let mut output = String::new();
        fd::set_nonblocking(self.output.as_fd(), true).unwrap();
        match self.output.read_to_string(&mut output) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => panic!("{error}"),
            _ => Outcome { output, ended },
        }
    }

    /// Reads a line of the main process' output while it runs.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            assert!(
                fd::readable_within(self.output.as_fd(), patience(20_000)).unwrap(),
                "no output"
            );
            assert_eq!(self.output.read(&mut byte).unwrap(), 1, "end of output");
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Ends everything and checks that nothing is left.
    pub fn down(mut self) {
        self.group.kill().unwrap();
        for child in [self.main.take(), self.sandbox.take()].into_iter().flatten() {
            super::rig::wait_pidfd(child.pidfd.as_fd()).unwrap();
        }
        wait_for("the group is empty", || {
            reap_orphans();
            !self.group.populated().unwrap()
        });
        let path = self.group.path().unwrap();
        wait_for("the groups are gone", || self.group.remove().is_ok());
        assert!(!path.exists());
    }
}

/// Waits until the channel says how it went.
pub fn executed(
    channel: &mut Channel,
    plan: &Plan,
    sockets: &mut Vec<(SocketKind, OwnedFd)>,
) -> Result<(), String> {
    loop {
        assert!(fd::readable_within(channel.as_fd(), patience(20_000)).unwrap(), "no status");
        match channel.read(plan) {
            Status::Pending | Status::HasNetwork => {}
            Status::WithoutUsers(why) => WITHOUT_USERS.set(Some(why)),
            Status::Lacks(what) => LACKS.with_borrow_mut(|all| all.push(what)),
            Status::Executed => return Ok(()),
            Status::Failed(why) => return Err(why),
            Status::Socket(kind, fd) => sockets.push((kind, fd)),
        }
    }
}

/// Does what the supervisor's loop does with children that nobody knows.
pub fn reap_orphans() {
    while let Some(orphan) = reap::peek().unwrap() {
        reap::reap(orphan.pid).unwrap();
    }
}

pub fn mount(line: u32, source: berth::unit::model::MountSource, target: &str) -> At<Mount> {
    At { value: Mount { source, target: target.to_owned(), read_only: false }, line }
}

/// A mount namespace for this test alone, in which nothing travels to the host.
pub fn private_mounts() {
    let flags = nix::sched::CloneFlags::CLONE_NEWNS;
    nix::sched::unshare(flags).unwrap();
    host_mount(None, "/", None, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE);
}

pub fn host_mount(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: nix::mount::MsFlags,
) {
    nix::mount::mount(source, target, kind, flags, None::<&str>).unwrap();
}

/// A bind of `/usr`, for trees of [`Rig::tree`].
pub fn with_usr() -> At<Mount> {
    let mut usr = bind("/usr", "/usr");
    usr.value.read_only = true;
    usr
}

pub fn bind(path: &str, target: &str) -> At<Mount> {
    use berth::unit::model::{MountSource, Propagation};
    let propagation = Propagation::Private;
    mount(7, MountSource::Bind { path: path.to_owned(), propagation, recursive: true }, target)
}

/// A unit on a tree of [`Rig::tree`].
pub fn on_tree(service: &mut Service, tree: &str, writable: Writable) {
    service.rootfs = At { value: Rootfs::Directory(tree.to_owned()), line: 3 };
    service.writable = writable;
    service.mounts.push(with_usr());
}

/// Waits for the child of this pidfd to end and reaps it; `None`: it is no child (any more).
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> std::io::Result<Option<Dead>> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        Err(rustix::io::Errno::CHILD) => return Ok(None),
        other => other?,
    };
    // It has ended, so its number is its own until here.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    reap::reap(pid.expect("the pid of a pidfd"))
}
