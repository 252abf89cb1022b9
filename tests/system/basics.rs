//! Up, dependencies in order, status, stop, exit codes.

use nix::sys::signal::Signal;

use crate::rig::{Mode, Rig};

#[test]
fn services_start_in_order_and_end_cleanly() {
    let mut rig = Rig::up(
        r#"
        [service.volume]
        type = "oneshot"
        command = "echo prepared"
        [service.db]
        command = ["sh", "-c", "echo db up; exec sleep 1000"]
        requires = ["volume"]
        [service.web]
        command = ["sh", "-c", "echo web up; exec sleep 1000"]
        requires = ["db"]
        "#,
    );
    rig.wait_state("web", "running");
    assert_eq!(rig.state("volume"), "done");
    rig.wait_for("all output on the console", |rig| rig.out().contains("web up"));
    let out = rig.out();
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("no {text:?} in {out}"));
    assert!(at("volume: done") < at("db: starting") && at("db: running") < at("web: starting"));
    assert!(out.contains("volume  | prepared"), "{out}");
    assert_eq!(rig.finish(), 0);
    let out = rig.out();
    let at = |text: &str| out.rfind(text).unwrap_or_else(|| panic!("no {text:?} in {out}"));
    assert!(at("web: inactive") < at("db: inactive"), "{out}");
}

#[test]
fn a_failed_oneshot_ends_the_chain_and_names_the_cause() {
    let mut rig = Rig::start(
        Mode::Up,
        r#"
        [service.first]
        type = "oneshot"
        command = ["sh", "-c", "exit 3"]
        [service.second]
        type = "oneshot"
        command = "true"
        requires = ["first"]
        wanted-by = []
        [service.rest]
        command = "sleep 1000"
        "#,
        &[],
    );
    let said = rig.ctl(&["start", "second"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("second") && said.err.contains("first"), "{said:?}");
    assert!(said.err.contains("exit code 3"), "{said:?}");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn up_ends_when_nothing_is_left_and_tells_failure_by_its_code() {
    let ended = |units: &str, arguments: &[&str]| {
        let mut rig = Rig::prepare(units);
        rig.launch(Mode::Up, arguments);
        let code = rig.wait_end();
        (code, rig.out(), rig.err())
    };
    let (code, out, err) = ended("[service.a]\ntype = \"oneshot\"\ncommand = \"echo hi\"", &[]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("a       | hi"), "{out}");
    let (code, ..) = ended("[service.a]\ntype = \"oneshot\"\ncommand = \"false\"", &[]);
    assert_eq!(code, 1);
    let failing = "[service.a]\nrestart = \"no\"\ncommand = [\"sh\", \"-c\", \"exit 7\"]\n";
    let beside = "[service.b]\ncommand = \"sleep 1000\"\n";
    let (code, ..) = ended(&format!("{failing}critical = true\n{beside}"), &[]);
    assert_eq!(code, 1);
    let (code, ..) = ended(&format!("{failing}{beside}"), &["--exit-code-from", "a"]);
    assert_eq!(code, 7);
    let (code, _, err) = ended(beside, &["--exit-code-from", "bb"]);
    assert_eq!(code, 2);
    assert!(err.contains("no service is called bb; did you mean b?"), "{err}");
    let (code, _, err) = ended("# nothing", &[]);
    assert_eq!(code, 2);
    assert!(err.contains("there is no service in the files"), "{err}");
    let (code, _, err) = ended("[service.a]\ncommnd = \"x\"", &[]);
    assert_eq!(code, 2);
    assert!(err.contains("test.toml:2:1: error:") && err.contains("command"), "{err}");
}

#[test]
fn interrupt_and_terminate_end_everything() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for mode in [Mode::Up, Mode::UpAsInit, Mode::Boot] {
            let mut rig = Rig::start(mode, "[service.a]\ncommand = \"sleep 1000\"", &[]);
            rig.wait_state("a", "running");
            rig.signal(signal);
            assert_eq!(rig.wait_end(), 0, "{signal} {mode:?}\n{}", rig.story());
        }
    }
}

#[test]
fn exit_codes_of_berthctl() {
    let beside = "[service.beside]\ncommand = \"sleep 1000\"";
    let mut rig = Rig::up(&format!("[service.alpha]\ncommand = \"sleep 1000\"\n{beside}"));
    rig.wait_state("alpha", "running");
    assert_eq!(rig.ctl(&["status", "alpha"]).code, 0);
    assert_eq!(rig.ctl(&["stop", "alpha"]).code, 0);
    assert_eq!(rig.ctl(&["status", "alpha"]).code, 3);
    let said = rig.ctl(&["start", "alhpa"]);
    assert_eq!(said.code, 4);
    assert!(said.err.contains("alpha"), "{said:?}");
    assert_eq!(rig.ctl(&["strt"]).code, 2);
    // With nothing left to run, `berth up` ends by itself.
    assert_eq!(rig.ctl(&["stop", "beside"]).code, 0);
    assert_eq!(rig.wait_end(), 0);
    assert_eq!(rig.ctl(&["status"]).code, 5);
}

#[test]
fn a_second_supervisor_is_refused() {
    let mut rig = Rig::up("[service.a]\ncommand = \"sleep 1000\"");
    rig.wait_state("a", "running");
    let mut second = std::process::Command::new(crate::rig::BERTH);
    second.arg("up").arg("--runtime-dir").arg(rig.path("run"));
    second.arg("--state-dir").arg(rig.path("state")).arg(rig.path("units"));
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("berth: another berth (process "), "{said}");
    assert!(said.contains("name another --runtime-dir"), "{said}");
    assert_eq!((rig.state("a").as_str(), rig.restarts("a")), ("running", 0));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn without_privileges_everybody_stays_who_berth_is() {
    let mut rig = Rig::prepare(
        r#"
        [service.it]
        isolation = "none"
        type = "oneshot"
        command = ["sh", "-c", "echo $(id -u) $(id -g) $(id -G) $USER"]
        [service.other]
        isolation = "none"
        type = "oneshot"
        command = "true"
        user = "daemon"
        "#,
    );
    rig.launch(Mode::UpAsNobody, &[]);
    let code = rig.wait_end();
    let (out, err) = (rig.out(), rig.err());
    assert!(out.contains("65534 65534 65534 nobody"), "{out}{err}");
    // The control: somebody else it cannot become.
    assert!(out.contains("become user daemon: Operation not permitted (EPERM)"), "{out}{err}");
    assert_eq!(code, 1, "{out}{err}");
}
