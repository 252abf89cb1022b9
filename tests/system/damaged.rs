//! Files that berth keeps for itself have become something else: it starts all the same,
//! says which, and puts them aside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::rig::{Mode, Rig};

const UNITS: &str = "
    [network.front]
    [service.boxed]
    command = ['sh', '-c', 'echo hello; exec sleep 6771']
    networks = ['front']
    [service.plain]
    command = ['sh', '-c', 'echo hello; exec sleep 6772']
    isolation = 'none'
    restart = 'unless-stopped'
";

/// All that is read back.
const FILES: [&str; 8] = [
    "run/lock",
    "state/lock",
    "run/ledger",
    "run/control.sock",
    "run/network/leases-front",
    "state/user-namespaces",
    STOPPED,
    "state/log/plain/current",
];

/// A directory by nature.
const STOPPED: &str = "state/stopped";

/// Makes something else of all of them.
fn damaged(make: impl Fn(&Path)) -> Rig {
    let rig = Rig::prepare(UNITS);
    for name in FILES {
        let path = rig.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
    }
    rig
}

fn aside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.damaged", path.display()))
}

/// It comes up, and ends in order.
fn comes_up(mut rig: Rig) -> (Rig, String) {
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    for unit in ["boxed", "plain"] {
        rig.wait_state(unit, "running");
        rig.wait_log(unit, "hello");
    }
    rig.ctl_ok(&["stop", "plain"]);
    rig.ctl_ok(&["start", "plain"]);
    let said = rig.logs("berth");
    assert_eq!(rig.finish(), 0);
    (rig, said)
}

#[test]
fn the_control_nothing_is_said_of_what_is_not_there() {
    let (rig, said) = comes_up(Rig::prepare(UNITS));
    assert!(!said.contains("cannot be used") && !said.contains("cannot read"), "{said}");
    for name in FILES {
        assert!(!aside(&rig.path(name)).exists(), "{name}");
    }
}

/// None of them can be read as it is: each is named, and moved out of the way.
fn are_put_aside(make: impl Fn(&Path)) {
    let (rig, said) = comes_up(damaged(make));
    for name in FILES {
        let path = rig.path(name);
        // A socket has no content: whatever else is there is removed, if it can be.
        let removed = name == "run/control.sock" && fs::symlink_metadata(aside(&path)).is_err();
        if !removed {
            assert!(fs::symlink_metadata(aside(&path)).is_ok(), "{name} is not put aside: {said}");
        }
        let told = format!("{} cannot be used (", path.display());
        let told_by_its_name =
            removed || ["run/control.sock", "state/log/plain/current"].contains(&name);
        assert!(told_by_its_name || said.contains(&told), "{name}: {said}");
    }
}

#[test]
fn directories() {
    are_put_aside(|path| {
        if path.ends_with(STOPPED) {
            fs::write(path, "").unwrap();
        } else {
            fs::create_dir(path).unwrap();
        }
    });
}

#[test]
fn fifos() {
    are_put_aside(|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap());
}

#[test]
fn links() {
    are_put_aside(|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
}

#[test]
fn nonsense_and_nothing() {
    let (_, said) = comes_up(damaged(|path| fs::write(path, [0xff; 5000]).unwrap()));
    for name in ["state/user-namespaces", "state/stopped", "run/network/leases-front"] {
        assert!(said.contains(&format!("{name} cannot be used (")), "{name}: {said}");
    }
    comes_up(damaged(|path| fs::write(path, "").unwrap()));
}

#[test]
fn a_gigabyte() {
    let (_, said) = comes_up(damaged(|path| File::create(path).unwrap().set_len(1 << 30).unwrap()));
    let read = ["run/ledger", "state/user-namespaces", "run/network/leases-front"];
    for name in read {
        assert!(said.contains(&format!("{name} cannot be used (")), "{name}: {said}");
    }
}
