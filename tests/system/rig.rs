//! A supervisor in namespaces of its own, and hands to work it with.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "processes.rs"]
mod processes;
#[path = "traces.rs"]
mod traces;

use traces::{HOST, changes, remove_groups};

/// Longest wait for a condition. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The programs under test.
pub const BERTH: &str = env!("CARGO_BIN_EXE_berth");
pub const BERTHCTL: &str = env!("CARGO_BIN_EXE_berthctl");

/// What services written in Perl (which every Debian has) begin with, as `@PERL@` in a
/// unit file: unbuffered, and able to speak `sd_notify(3)`.
const PERL: &str = "use strict; use Socket; $| = 1; sub notify { \
    socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!; \
    send($s, join(qq(\\n), @_), 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET})) or die $! }";

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// How berth is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `berth up`, not process 1 of its pid namespace.
    Up,
    /// `berth up` as process 1 of its pid namespace.
    UpAsInit,
    /// `berth --config`, not process 1.
    Boot,
    /// The same, and when it is killed, another one in the same namespaces.
    Revived,
    /// `berth up` where no control groups are mounted.
    UpWithoutGroups,
    /// `berth up` as a user without privileges, where no control groups are mounted.
    UpAsNobody,
    /// `berth up` on a kernel that knows nothing of `landlock_create_ruleset(2)`.
    UpWithoutLandlock,
    /// `berth up` without `CAP_NET_ADMIN`.
    UpWithoutNetworkRights,
}

/// A running supervisor.
pub struct Rig {
    directory: tempfile::TempDir,
    child: Option<Child>,
    /// What berth gets in its environment besides this process' own.
    pub variables: Vec<(&'static str, String)>,
    /// Shell commands that come before berth in its namespaces, as mounts; [`Rig::inside`] is
    /// the way to what they make.
    pub before: String,
}

impl Rig {
    /// Runs `berth up` on these units and waits until its control socket answers.
    pub fn up(units: &str) -> Self {
        Self::start(Mode::Up, units, &[])
    }

    /// Runs berth on these units, with further arguments.
    pub fn start(mode: Mode, units: &str, arguments: &[&str]) -> Self {
        let mut rig = Self::prepare(units);
        rig.launch(mode, arguments);
        rig.wait_control();
        rig
    }

    /// The files, and no supervisor yet.
    pub fn prepare(units: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("berth-test-").tempdir().unwrap();
        let rig = Self { directory, child: None, variables: Vec::new(), before: String::new() };
        fs::create_dir(rig.path("units")).unwrap();
        fs::create_dir(rig.path("share")).unwrap();
        rig.write_units(units);
        rig
    }

    /// A path in the rig's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same path as berth's namespaces have it.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match &self.child {
            Some(child) if !self.before.is_empty() => {
                let root = PathBuf::from(format!("/proc/{}/root", child.id()));
                root.join(path.strip_prefix("/").unwrap())
            }
            _ => path,
        }
    }

    /// The unit file, with `@DIR@` standing for the rig's directory, `@SHARE@` for a mount
    /// that shows its `share` as `/mnt`, and `@PERL@` for [`PERL`].
    pub fn write_units(&self, units: &str) {
        let directory = self.directory.path().display().to_string();
        let share = "{ type = \"bind\", source = \"@DIR@/share\", target = \"/mnt\" }";
        let units = units.replace("@SHARE@", share).replace("@PERL@", PERL);
        // In one step: whoever reads meanwhile finds the old file or the new one.
        fs::write(self.path("test.toml"), units.replace("@DIR@", &directory)).unwrap();
        fs::rename(self.path("test.toml"), self.path("units/test.toml")).unwrap();
    }

    /// Starts the supervisor in mount, pid, network, ipc and uts namespaces of its own. All
    /// of it is killed with the process that holds the pid namespace.
    pub fn launch(&mut self, mode: Mode, arguments: &[&str]) {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]);
        command.args(["--mount-proc", "--"]);
        let script = match mode {
            Mode::UpAsInit => "ip link set lo up; exec \"$@\"",
            Mode::UpWithoutGroups => {
                "ip link set lo up; awk '/ - cgroup2? /{print $5}' /proc/self/mountinfo | \
                 xargs -n 1 umount -l; host before; \"$@\"; ended $?"
            }
            Mode::UpAsNobody => {
                "ip link set lo up; awk '/ - cgroup2? /{print $5}' /proc/self/mountinfo | \
                 xargs -n 1 umount -l; cp \"$1\" \"$HERE/berth\"; shift; chmod -R a+rwX \"$HERE\"; host before; \
                 setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$HERE/berth\" \"$@\"; ended $?"
            }
            // A filter of system calls that answers number 444 with ENOSYS.
            Mode::UpWithoutLandlock => {
                "ip link set lo up; host before; perl -e 'my $code = pack(q(SCCL) x 4, 0x20, 0, 0, 0, \
                 0x15, 0, 1, 444, 6, 0, 0, 0x50026, 6, 0, 0, 0x7fff0000); \
                 my $filter = pack(q(S x6 P), 4, $code); \
                 syscall(157, 22, 2, $filter) == 0 or die $!; exec @ARGV' \"$@\"; ended $?"
            }
            Mode::UpWithoutNetworkRights => {
                "ip link set lo up; setpriv --bounding-set=-net_admin --inh-caps=-net_admin -- \
                 \"$@\"; exit $?"
            }
            // The last command keeps the shell from becoming berth.
            Mode::Up | Mode::Boot => "ip link set lo up; host before; \"$@\"; ended $?",
            Mode::Revived => {
                "ip link set lo up; until \"$@\"; code=$?; [ $code -ne 137 ]; do :; done; exit $code"
            }
        };
        let before = &self.before;
        let script = format!("{HOST} mount -t tmpfs -o mode=755 rig /run; {before} {script}");
        command.args(["sh", "-c", &script, "sh"]).env("HERE", self.directory.path());
        command.arg(BERTH);
        let boots = matches!(mode, Mode::Boot | Mode::Revived);
        if boots {
            command.arg("--config").arg(self.path("units"));
        } else {
            command.arg("up");
        }
        command.arg("--runtime-dir").arg(self.path("run"));
        command.arg("--state-dir").arg(self.path("state"));
        command.args(arguments);
        if !boots {
            command.arg(self.path("units"));
        }
        let output = |name: &str| {
            fs::File::options().create(true).append(true).open(self.path(name)).unwrap()
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
        self.child = Some(command.spawn().unwrap());
    }

    /// What `berth` wrote to its standard output so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("out")).unwrap_or_default()).into_owned()
    }

    /// What `berth` wrote to its standard error so far.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("err")).unwrap_or_default()).into_owned()
    }

    /// `berthctl` with these arguments, not run yet.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BERTHCTL);
        command.arg("--runtime-dir").arg(self.inside("run")).args(arguments);
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs `berthctl`.
    pub fn ctl(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60"]).arg(BERTHCTL);
        command.arg("--runtime-dir").arg(self.inside("run")).args(arguments);
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// Runs `berthctl`, which must succeed; what it wrote.
    pub fn ctl_ok(&self, arguments: &[&str]) -> String {
        let said = self.ctl(arguments);
        assert_eq!(said.code, 0, "berthctl {arguments:?}: {said:?}\n{}", self.story());
        said.out
    }

    /// The unit's element of `status --json`.
    pub fn status(&self, unit: &str) -> Value {
        let said = self.ctl(&["status", "--json", unit]);
        let list: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| {
            panic!("status of {unit}: {error}: {said:?}\n{}", self.story());
        });
        list[0].clone()
    }

    /// Its state.
    pub fn state(&self, unit: &str) -> String {
        self.status(unit)["state"].as_str().unwrap().to_owned()
    }

    /// Its main process, as the supervisor numbers it (the rig's pid namespace).
    pub fn main_pid(&self, unit: &str) -> i64 {
        self.status(unit)["main_pid"].as_i64().unwrap_or_else(|| {
            panic!("{unit} has no main process\n{}", self.story());
        })
    }

    /// Its logged lines, without times.
    pub fn logs(&self, unit: &str) -> String {
        let text = self.ctl_ok(&["logs", "--json", unit]);
        let mut lines = String::new();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            lines.push_str(entry["text"].as_str().or(entry["message"].as_str()).unwrap_or(""));
            lines.push('\n');
        }
        lines
    }

    /// Waits until the unit is in this state.
    pub fn wait_state(&self, unit: &str, state: &str) {
        self.wait_for(&format!("{unit} to be {state}"), |rig| rig.state(unit) == state);
    }

    /// Its `result`, `why` and `exit`.
    pub fn verdict(&self, unit: &str) -> (String, String, Value) {
        let status = self.status(unit);
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (text("result"), text("why"), status["exit"].clone())
    }

    /// How often it was restarted.
    pub fn restarts(&self, unit: &str) -> u64 {
        self.status(unit)["restarts"].as_u64().unwrap()
    }

    /// Its logged lines of one stream (`stdout`, `stderr`).
    pub fn stream(&self, unit: &str, stream: &str) -> Vec<String> {
        let text = self.ctl_ok(&["logs", "--json", unit]);
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_stream = entries.filter(|entry| entry["stream"] == stream);
        of_stream.map(|entry| entry["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The lines of berth's own output about a unit: its changes of state, in order.
    pub fn notices(&self, unit: &str) -> Vec<String> {
        let mark = format!("{unit}: ");
        let out = self.out();
        let own = out.lines().filter_map(|line| line.split_once("| "));
        let own = own.filter(|(name, _)| name.trim() == "berth");
        let about = own.filter_map(|(_, text)| text.strip_prefix(&mark));
        about.map(str::to_owned).collect()
    }

    /// Waits until its log holds this text.
    pub fn wait_log(&self, unit: &str, text: &str) {
        self.wait_for(&format!("{text:?} in the log of {unit}"), |rig| {
            rig.logs(unit).contains(text)
        });
    }

    /// Waits for a condition; fails with everything that is known when it does not come.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}\n{}", self.story());
            pause();
        }
    }

    /// Waits until berth has ended by itself; its exit code.
    pub fn wait_end(&mut self) -> i32 {
        let begun = Instant::now();
        let mut child = self.child.take().expect("berth was not started");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().expect("berth was killed");
            }
            if begun.elapsed() > PATIENCE {
                let story = self.story();
                self.child = Some(child);
                panic!("berth does not end\n{story}");
            }
            pause();
        }
    }

    /// Ends berth in an orderly way; its exit code.
    pub fn finish(&mut self) -> i32 {
        let groups = self.cgroups();
        self.ctl_ok(&["shutdown", "exit"]);
        let code = self.wait_end();
        self.assert_nothing_left();
        assert!(groups.iter().all(|group| !group.exists()), "groups are left: {groups:?}");
        assert_eq!(self.changes(), [""; 0], "the host has changed\n{}", self.story());
        code
    }

    /// What berth, which has ended, has left on the host (as process 1 it takes all with it).
    pub fn changes(&self) -> Vec<String> {
        changes(self.directory.path())
    }

    /// Runs a shell command in the rig's network and mounts; what it wrote, and whether it
    /// succeeded.
    pub fn on_host(&self, command: &str) -> (bool, String) {
        let pid = self.berth_pid().to_string();
        let output = Command::new("timeout")
            .args(["--signal=KILL", "30", "nsenter", "--net", "--mount", "--pid", "-t", &pid])
            .args(["sh", "-c", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    }

    /// The pid of berth itself, as this process sees it.
    pub fn berth_pid(&self) -> i32 {
        self.find_berth().expect("there is no berth")
    }

    fn find_berth(&self) -> Option<i32> {
        let mut pid = i32::try_from(self.child.as_ref()?.id()).ok()?;
        loop {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            if name.trim() == "berth" {
                return Some(pid);
            }
            // What a killed one left has become the shell's, and is older; what a test
            // leaves in the background is not called so.
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(children).ok()?;
            let is_berth = |child: &&str| {
                let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                name.trim() == "berth"
            };
            let found = children.split_whitespace().rfind(is_berth);
            pid = found.or_else(|| children.split_whitespace().last())?.parse().ok()?;
        }
    }

    /// Sends a signal to berth itself.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.berth_pid()), signal).unwrap();
    }

    /// Kills everything in the rig's pid namespace, as a power cut would.
    pub fn cut_power(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills berth alone, which [`Mode::Revived`] starts again at once.
    pub fn kill_berth(&self) {
        self.wait_for("berth to run", |rig| rig.find_berth().is_some());
        let pid = self.berth_pid();
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.wait_for("another berth", |rig| rig.find_berth().is_some_and(|new| new != pid));
    }

    /// Waits until the control socket answers.
    pub fn wait_control(&self) {
        self.wait_for("the control socket", |rig| rig.ctl(&["list"]).code == 0);
    }

    /// The cgroups that berth made, which its lock file names.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.inside("run/lock")).unwrap_or_default();
        text.lines().skip(1).map(PathBuf::from).collect()
    }

    fn assert_nothing_left(&self) {
        for name in ["run/lock", "run/control.sock"] {
            assert!(!self.path(name).exists(), "{name} is left");
        }
    }

    /// Everything that helps to understand a failure.
    pub fn story(&self) -> String {
        let listing = self.ctl(&["status"]);
        format!("--- out\n{}\n--- err\n{}\n--- status\n{}", self.out(), self.err(), listing.out)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let groups = self.cgroups();
        self.cut_power();
        // A test that ended berth in an order of its own leaves nothing here to do.
        for group in groups {
            remove_groups(&group);
        }
    }
}

/// Between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
