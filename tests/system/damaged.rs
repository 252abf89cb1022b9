//! Files that berth keeps for itself have become something else: it starts all the same,
//! says which, and puts them aside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::rig::{Mode, Rig};
use crate::secrets::{set, set_ok};

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
const FILES: [&str; 10] = [
    "run/lock",
    "state/lock",
    "run/ledger",
    "run/control.sock",
    "run/network/leases-front",
    "run/network/active",
    "run/network/forwarding-4",
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
        assert!(removed || said.contains(&told), "{name}: {said}");
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

/// What a killed berth has written down before it switched forwarding on is damaged: then all that
/// is known is that it was off.
#[test]
fn what_forwarding_was() {
    let forwarding = |record: Option<&[u8]>| {
        let mut rig = Rig::prepare(UNITS);
        rig.before = "echo 1 >/proc/sys/net/ipv4/ip_forward;".to_owned();
        if let Some(record) = record {
            fs::create_dir_all(rig.path("run/network")).unwrap();
            fs::write(rig.path("run/network/forwarding-4"), record).unwrap();
            fs::write(rig.path("run/network/active"), "").unwrap();
        }
        rig.launch(Mode::Boot, &[]);
        rig.wait_control();
        rig.wait_state("boxed", "running");
        rig.ctl_ok(&["stop", "boxed"]);
        let read = rig.on_host("cat /proc/sys/net/ipv4/ip_forward").1;
        rig.ctl_ok(&["shutdown"]);
        assert_eq!(rig.wait_end(), 0);
        read.trim().to_owned()
    };
    // The control: without a record it is the host's own.
    assert_eq!(forwarding(None), "1");
    let sound = b"ipv4/ip_forward 0\nipv4/conf/default/forwarding 0\n";
    for record in [&sound[..], b"", b"nonsense\n", &[0xff; 100]] {
        assert_eq!(forwarding(Some(record)), "0", "{record:?}");
    }
}

/// Makes something else of a file.
type Make<'a> = &'a dyn Fn(&Path);

const KEPT: &str = "
    [secret.word]
    [secret.other]
    [service.asks]
    command = ['sh', '-c', 'cat /run/secrets/word; echo; exec sleep 6773']
    secrets = ['word']
    restart = 'no'
    wanted-by = []
    [service.beside]
    command = 'sleep 6774'
    secrets = ['other']
";

/// A service whose secret cannot be read fails, with the file's name; others come up.
#[test]
fn secrets_and_their_key() {
    let make: [(&str, Make); 5] = [
        ("is not a secret", &|path| fs::write(path, "nonsense").unwrap()),
        ("is not a secret", &|path| fs::write(path, "").unwrap()),
        ("is damaged", &|path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("regular file", &|path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("", &|path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(1 << 30).unwrap();
        }),
    ];
    let mut rig = Rig::start(Mode::Boot, KEPT, &[]);
    set_ok(&rig, "other", "second");
    rig.ctl_ok(&["start", "beside"]);
    for (why, make) in make {
        set_ok(&rig, "word", "first");
        // The control.
        rig.ctl_ok(&["restart", "asks"]);
        rig.wait_for("the value", |rig| rig.logs("asks").lines().last() == Some("first"));
        make(&rig.path("state/secrets/word"));
        let said = rig.ctl(&["restart", "asks"]);
        let named = ["state/secrets/word", why].iter().all(|part| said.err.contains(part));
        assert!(said.code == 1 && named, "{said:?}");
        rig.ctl_ok(&["restart", "beside"]);
        rig.ctl_ok(&["secret", "ls"]);
    }
    let key = rig.path("state/secret.key");
    let sound = fs::read(&key).unwrap();
    set_ok(&rig, "word", "first");
    for damaged in [&b"nonsense"[..], b"", &[0; 5000]] {
        fs::write(&key, damaged).unwrap();
        let said = rig.ctl(&["restart", "asks"]);
        assert!(said.code == 1 && said.err.contains("secret.key"), "{said:?}");
        // What was stored with it is not made worthless by another one.
        let said = set(&rig, "word", b"third");
        assert!(said.code == 1 && said.err.contains("secret.key"), "{said:?}");
        assert_eq!(rig.state("beside"), "running");
        assert_eq!(fs::read(&key).unwrap(), damaged);
    }
    fs::write(&key, sound).unwrap();
    rig.ctl_ok(&["restart", "asks"]);
    rig.wait_for("the value", |rig| rig.logs("asks").lines().last() == Some("first"));
    assert_eq!(rig.finish(), 0);
}
