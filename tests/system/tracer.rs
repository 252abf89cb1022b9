//! A tracer of a process: makes system calls fail, so that nothing in the program is there for
//! the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::rig::{PATIENCE, pause};

/// A running strace(1).
pub struct Tracer {
    child: Child,
    trace: PathBuf,
}

impl Tracer {
    /// Does something (`error=EIO`, `signal=KILL:when=3`) at these calls of a process, from
    /// when this returns on. After the calls may come options of strace(1), as `-P PATH`.
    pub fn attach(pid: i32, calls: &[&str], what: &str, trace: PathBuf) -> Self {
        let _ = std::fs::remove_file(&trace);
        let (calls, options) = calls.split_first().unwrap();
        let child = Command::new("strace")
            .args(["-qq", "-p", &pid.to_string(), "-e", &format!("trace={calls}"), "-e"])
            .arg(format!("inject={calls}:{what}"))
            .args(options)
            .arg("-o")
            .arg(&trace)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let is_traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        while !is_traced() {
            assert!(begun.elapsed() < PATIENCE, "strace does not attach");
            pause();
        }
        Self { child, trace }
    }

    /// The lines of what was done to it so far.
    pub fn done(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        let done = |line: &&str| line.contains("INJECTED") || line.contains("killed by SIGKILL");
        trace.lines().filter(done).map(str::to_owned).collect()
    }

    /// Lets go of the process; what was done to it.
    pub fn end(mut self) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        self.done()
    }
}
