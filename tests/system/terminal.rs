//! A berth that was started at a terminal, and services that write to its output.

use std::fs::{self, File};
use std::io::Read as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::rig::BERTH;

/// Says what it can do with what it was given as its output: read what is typed there, take it
/// for its own terminal, open it again.
const SPY: &str = "$| = 1; my $n = sysread(STDOUT, my $line, 100); \
    print defined $n ? qq(escaped: read <$line>) : qq(not read), qq(\\n); \
    print -t STDOUT ? qq(escaped: a terminal) : qq(no terminal), qq(\\n); \
    print qq(the end\\n);";

/// Runs a command at a terminal where somebody types a word; all that the terminal shows.
fn at_a_terminal(command: &mut Command) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    command.stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    let mut master = File::from(terminal.master);
    master.write_all(b"password\n").unwrap();
    let mut shown = String::new();
    while !shown.contains("the end") {
        let mut bytes = [0; 256];
        let count = master.read(&mut bytes).unwrap();
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    // What is still written needs a reader; the slave is open here until the child has ended.
    let reader = std::thread::spawn(move || while matches!(master.read(&mut [0; 256]), Ok(1..)) {});
    child.wait().unwrap();
    drop(terminal.slave);
    // The command holds slaves too.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    reader.join().unwrap();
    shown
}

#[test]
fn a_service_that_writes_to_the_console_cannot_read_what_is_typed_there() {
    // The control: whoever is given the terminal itself.
    let shown = at_a_terminal(Command::new("perl").args(["-e", SPY]));
    assert!(shown.contains("escaped: read <password"), "{shown}");
    assert!(shown.contains("escaped: a terminal"), "{shown}");
    for isolation in ["container", "none"] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let unit = format!(
            "[service.spy]\ntype = 'oneshot'\nisolation = '{isolation}'\n\
             command = ['perl', '-e', '{SPY}']\nlog = {{ driver = 'console' }}\n"
        );
        fs::write(path("spy.toml"), unit).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", BERTH, "up"]);
        command.arg("--runtime-dir").arg(path("run")).arg("--state-dir").arg(path("state"));
        let shown = at_a_terminal(command.arg(path("spy.toml")));
        assert!(shown.contains("not read") && shown.contains("no terminal"), "{shown}");
        assert!(!shown.contains("escaped"), "{shown}");
    }
}
