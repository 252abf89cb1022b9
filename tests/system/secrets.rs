//! Secrets from where they are kept to the one file where they are seen, and nowhere else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::rig::{Mode, Rig, Said};

/// A word that is nowhere on this machine: as text of a program it would be in the memory
/// of whatever looks for it.
fn word(name: &str) -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    format!("{name}-{}", random.trim())
}

/// `berthctl secret set`.
pub fn set(rig: &Rig, name: &str, value: &[u8]) -> Said {
    let mut command = rig.ctl_command(&["secret", "set", name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses does not read to the end.
    let _ = child.stdin.take().unwrap().write_all(value);
    child.wait_with_output().unwrap().into()
}

pub fn set_ok(rig: &Rig, name: &str, value: &str) {
    let said = set(rig, name, value.as_bytes());
    assert_eq!(said.code, 0, "{said:?}\n{}", rig.story());
}

fn write(path: &Path, value: &str, mode: u32) {
    fs::write(path, value).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn listed(rig: &Rig, name: &str) -> Value {
    let list: Value = serde_json::from_str(&rig.ctl_ok(&["secret", "ls", "--json"])).unwrap();
    let list = list.as_array().unwrap();
    list.iter().find(|secret| secret["name"] == name).cloned().unwrap_or(Value::Null)
}

/// Shows what there is in a unit of its secrets, then waits.
const LOOK: &str = "sh -c 'cd /run/secrets && stat -c \"%n %u:%g %a\" *; stat -f -c %T .; \
    grep \" /run/secrets \" /proc/self/mountinfo; echo ready; exec sleep 1000'";

#[test]
fn each_kind_arrives_as_a_file_of_the_units_user() {
    let mut rig = Rig::prepare(&format!(
        "[secret.file]\nfile = '@DIR@/value'\n[secret.kept]\n\
         [secret.variable]\nenvironment = 'RIG_SECRET'\n\
         [service.web]\ncommand = '''{LOOK}'''\nuser = '1234:1235'\nready = 'log:ready'\n\
         wanted-by = []\nstart-pre = 'cp /run/secrets/kept /tmp/hook'\n\
         secrets = ['file', 'kept', {{ secret = 'variable', target = 'other', uid = 7, gid = 8, mode = '0440' }}]\n\
         [service.web.health]\ncommand = 'cmp /run/secrets/kept /tmp/hook'\ninterval = '100ms'\n"
    ));
    let values = ["file", "kept", "variable"].map(word);
    write(&rig.path("value"), &values[0], 0o600);
    rig.variables.push(("RIG_SECRET", values[2].clone()));
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    let refused = rig.ctl(&["start", "web"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["give it the secret kept", "berthctl secret set kept", "test.toml:12"] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    set_ok(&rig, "kept", &values[1]);
    rig.ctl_ok(&["start", "web"]);
    let said = rig.logs("web");
    for line in ["file 1234:1235 400", "kept 1234:1235 400", "other 7:8 440"] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let mount = said.lines().find(|line| line.contains(" /run/secrets ")).unwrap();
    for option in [" ro,nosuid,nodev,noexec", " - tmpfs ", "noswap"] {
        assert!(mount.contains(option), "no {option} in {mount}");
    }
    for (name, value) in [("file", &values[0]), ("kept", &values[1]), ("other", &values[2])] {
        let path = format!("/run/secrets/{name}");
        assert_eq!(rig.ctl_ok(&["exec", "-u", "0", "web", "--", "cat", &path]), *value);
    }
    // The next program finds what the first has taken out of its environment.
    rig.ctl_ok(&["upgrade"]);
    rig.ctl_ok(&["restart", "web"]);
    assert_eq!(
        rig.ctl_ok(&["exec", "-u", "0", "web", "--", "cat", "/run/secrets/other"]),
        values[2]
    );
    // Root of the unit has the mount read-only as everybody else.
    let written = rig.ctl(&["exec", "-u", "0", "web", "--", "touch", "/run/secrets/file"]);
    assert!(written.err.contains("Read-only"), "{written:?}");
    rig.wait_for("a health check that sees it", |rig| rig.status("web")["health"] == "healthy");
    assert_eq!(rig.finish(), 0);
}

/// Whether memory of a process holds these bytes.
fn in_memory(pid: i32, wanted: &[u8]) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let finder = |bytes: &[u8]| bytes.windows(wanted.len()).any(|part| part == wanted);
    maps.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let (begin, end) = fields.next().unwrap().split_once('-').unwrap();
        if !fields.next().unwrap().starts_with('r') || line.contains("[vvar") {
            return false;
        }
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (begin, end) = (number(begin), number(end));
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        // What cannot be read (the kernel's own pages) is nobody's.
        let found = memory.seek(SeekFrom::Start(begin)).and_then(|_| memory.read_exact(&mut bytes));
        found.is_ok() && finder(&bytes)
    })
}

/// The files below a directory that hold these bytes.
fn in_files(directory: &Path, wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file()
            && fs::read(&path).unwrap().windows(wanted.len()).any(|part| part == wanted)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Processes of the rig that run berth's own program.
fn own_processes(rig: &Rig) -> Vec<i32> {
    let mut pids = rig.all_descendants();
    let is_berth = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "berth"))
    };
    pids.retain(is_berth);
    assert!(pids.len() >= 3, "supervisor, logger and console: {pids:?}");
    pids
}

#[test]
fn a_value_is_nowhere_but_in_the_units_file() {
    let perl = "@PERL@ open(my $f, '<', '/run/secrets/kept') or die; my $v = <$f>; \
        print qq(ready\\n); sleep 1000; print $v";
    let mut rig = Rig::prepare(&format!(
        "[secret.file]\nfile = '@DIR@/secret/value'\n[secret.kept]\n\
         [secret.variable]\nenvironment = 'RIG_SECRET'\n\
         [service.web]\ncommand = ['perl', '-e', \"\"\"{perl}\"\"\"]\nready = 'log:ready'\n\
         wanted-by = []\nsecrets = ['file', 'kept', 'variable']\n\
         [service.other]\ncommand = 'sleep 1000'\nisolation = 'none'\n"
    ));
    let [file, kept, variable, open] = ["file", "kept", "variable", "open"].map(word);
    fs::create_dir(rig.path("secret")).unwrap();
    write(&rig.path("secret/value"), &file, 0o600);
    rig.variables.push(("RIG_SECRET", variable.clone()));
    rig.variables.push(("RIG_OPEN", open.clone()));
    rig.launch(Mode::Boot, &[]);
    rig.wait_control();
    set_ok(&rig, "kept", &word("before"));
    set_ok(&rig, "kept", &kept);
    for _ in 0..3 {
        rig.ctl_ok(&["start", "web"]);
        rig.ctl_ok(&["stop", "web"]);
    }
    rig.ctl_ok(&["start", "web"]);
    // A failed one too: the second is read when the first is there.
    fs::set_permissions(rig.path("secret/value"), fs::Permissions::from_mode(0o644)).unwrap();
    rig.ctl_ok(&["stop", "web"]);
    assert_eq!(rig.ctl(&["start", "web"]).code, 1);
    fs::set_permissions(rig.path("secret/value"), fs::Permissions::from_mode(0o600)).unwrap();
    rig.ctl_ok(&["start", "web"]);
    rig.wait_for("no helper", |rig| rig.children("berth-helper").is_empty());

    let (web, other) = (rig.host_pid(rig.main_pid("web")), rig.host_pid(rig.main_pid("other")));
    let said: String = [
        rig.ctl_ok(&["show", "--json", "web"]),
        rig.ctl_ok(&["show", "web"]),
        rig.ctl_ok(&["status", "--json"]),
        rig.ctl_ok(&["secret", "ls"]),
        rig.ctl_ok(&["secret", "ls", "--json"]),
        rig.ctl_ok(&["logs", "web"]),
        rig.logs("berth"),
        rig.out(),
        rig.err(),
    ]
    .concat();
    assert!(said.contains("give it the secret file"), "the failed start was logged: {said}");
    for value in [&file, &kept, &variable] {
        let wanted = value.as_bytes();
        assert!(!said.contains(value.as_str()), "{value} in {said}");
        for place in ["state", "run", "units", "out", "err"] {
            assert_eq!(in_files(&rig.path(place), wanted), Vec::<String>::new());
        }
        for pid in own_processes(&rig) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            assert!(!in_memory(pid, wanted), "{value} in the memory of {name}");
        }
        for pid in [web, other] {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
            assert!(!String::from_utf8_lossy(&environment).contains(value.as_str()));
        }
    }
    // The controls: the same looks find what is there.
    let secrets = Path::new("/proc").join(web.to_string()).join("root/run/secrets");
    for (name, value) in [("file", &file), ("kept", &kept), ("variable", &variable)] {
        let found = in_files(&secrets, value.as_bytes());
        assert_eq!(found, [secrets.join(name).display().to_string()]);
    }
    assert!(in_memory(web, kept.as_bytes()), "the unit has read it");
    let berth = rig.berth_pid();
    assert!(in_memory(berth, open.as_bytes()), "a variable that no unit file names");
    let environment = fs::read(format!("/proc/{berth}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains(&open));
    assert!(!String::from_utf8_lossy(&environment).contains("RIG_SECRET"));
    assert_eq!(rig.finish(), 0);
    for value in [&file, &kept, &variable] {
        assert_eq!(in_files(&rig.path("state"), value.as_bytes()), Vec::<String>::new());
    }
}

#[test]
fn a_file_that_others_could_have_made_or_read_is_refused() {
    use std::os::unix::fs::{chown, symlink};
    let rig = Rig::start(
        Mode::Boot,
        "[secret.pw]\nfile = '@DIR@/secret/pw'\n\
         [service.web]\ntype = 'oneshot'\nwanted-by = []\nsecrets = ['pw']\n\
         command = 'sha256sum /run/secrets/pw'\n",
        &[],
    );
    let (directory, path) = (rig.path("secret"), rig.path("secret/pw"));
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let fresh = || {
        let _ = fs::remove_file(&directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        write(&path, "value", 0o600);
    };
    let attempts: [(&str, &dyn Fn()); 14] = [
        ("mode 0644", &|| mode(0o644)),
        ("mode 0640", &|| mode(0o640)),
        ("mode 0604", &|| mode(0o604)),
        ("mode 0620", &|| mode(0o620)),
        ("mode 0602", &|| mode(0o602)),
        ("belongs to user 1234", &|| chown(&path, Some(1234), None).unwrap()),
        ("2 names", &|| fs::hard_link(&path, rig.path("secret/second")).unwrap()),
        ("is empty", &|| write(&path, "", 0o600)),
        ("more than 512 KiB", &|| write(&path, &"x".repeat((512 << 10) + 1), 0o600)),
        ("No such file", &|| fs::remove_file(&path).unwrap()),
        ("symbolic link", &|| {
            fs::rename(&path, rig.path("secret/real")).unwrap();
            symlink("real", &path).unwrap();
        }),
        ("symbolic link", &|| {
            fs::rename(&directory, rig.path("elsewhere")).unwrap();
            symlink("elsewhere", &directory).unwrap();
        }),
        ("not a regular file", &|| {
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        }),
        ("not a regular file", &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
    ];
    for (why, spoil) in attempts {
        fresh();
        // The control, every time: before it was spoilt it was right.
        rig.ctl_ok(&["restart", "web"]);
        spoil();
        let said = rig.ctl(&["restart", "web"]);
        assert_eq!(said.code, 1, "{why}: {said:?}");
        for part in ["cannot restart web: give it the secret pw: ", why, "test.toml:6"] {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
    }
    fresh();
    write(&path, &"x".repeat(512 << 10), 0o600);
    rig.ctl_ok(&["restart", "web"]);
}

#[test]
fn what_changes_is_seen_when_it_should_be() {
    let unit = |file: &str| {
        format!(
            "[secret.pw]\nfile = '@DIR@/{file}'\n\
             [service.web]\ncommand = 'sleep 1000'\nsecrets = ['pw']\n\
             [service.other]\ncommand = 'sleep 1001'\n"
        )
    };
    let rig = Rig::prepare(&unit("one"));
    let mut rig = rig;
    write(&rig.path("one"), "1", 0o600);
    write(&rig.path("two"), "2", 0o600);
    rig.launch(Mode::Up, &[]);
    rig.wait_control();
    let see = |rig: &Rig| rig.ctl_ok(&["exec", "web", "--", "cat", "/run/secrets/pw"]);
    rig.wait_state("web", "running");
    rig.wait_state("other", "running");
    assert_eq!(see(&rig), "1");
    // New content: with the next start.
    write(&rig.path("one"), "one", 0o600);
    assert_eq!(rig.ctl_ok(&["apply"]), "nothing to do\n");
    assert_eq!(see(&rig), "1");
    rig.ctl_ok(&["restart", "web"]);
    assert_eq!(see(&rig), "one");
    // Another source: who uses it has changed, and nobody else.
    let other = rig.main_pid("other");
    rig.write_units(&unit("two"));
    assert_eq!(rig.ctl_ok(&["apply"]), "\u{21bb} restart web\n");
    rig.wait_state("web", "running");
    assert_eq!((see(&rig).as_str(), rig.main_pid("other")), ("2", other));
    // A table that is wrong now: the unit and its source stay as they were.
    rig.write_units(&unit("two").replace("file =", "fil ="));
    assert_eq!(rig.ctl(&["apply"]).code, 1);
    rig.ctl_ok(&["restart", "web"]);
    assert_eq!(see(&rig), "2");
    assert_eq!(rig.finish(), 0);
}

/// As `/var/lib/berth` is on a machine where it had to go to a larger disk.
#[test]
fn a_state_directory_behind_a_link_is_hidden_where_it_is() {
    let unit = |name: &str, source: &str| {
        format!(
            "[service.{name}]\ncommand = 'sleep 1000'\n\
             mounts = [{{ type = 'bind', source = '{source}', target = '/host' }}]\n"
        )
    };
    let units = [
        unit("above", "@DIR@"),
        unit("link", "@DIR@/link"),
        unit("through", "@DIR@/link/disk"),
        unit("itself", "@DIR@/disk/state"),
    ];
    let units = units.concat();
    let mut rig = Rig::prepare(&format!("[secret.pw]\n{units}"));
    fs::create_dir_all(rig.path("disk/state")).unwrap();
    std::os::unix::fs::symlink("disk/state", rig.path("state")).unwrap();
    std::os::unix::fs::symlink(".", rig.path("link")).unwrap();
    rig.launch(Mode::Up, &[]);
    rig.wait_control();
    set_ok(&rig, "pw", "value");
    let list = |unit, path| {
        rig.wait_state(unit, "running");
        rig.ctl_ok(&["exec", unit, "--", "ls", "-A", path])
    };
    for (unit, path) in
        [("above", "/host/disk/state"), ("link", "/host/disk/state"), ("through", "/host/state")]
    {
        assert_eq!(list(unit, path), "", "{unit}");
    }
    assert!(list("itself", "/host").contains("secret.key"), "the control: bound by its own path");
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_killed_berth_leaves_nothing_and_the_next_gives_them_again() {
    let mut rig = Rig::prepare(
        "[secret.kept]\n[secret.variable]\nenvironment = 'RIG_SECRET'\n\
         [service.web]\ncommand = 'sleep 1000'\nsecrets = ['kept', 'variable']\n\
         [service.stay]\ncommand = 'sleep 1001'\nisolation = 'none'\n",
    );
    rig.variables.push(("RIG_SECRET", "of the environment".to_owned()));
    rig.launch(Mode::Revived, &[]);
    rig.wait_control();
    set_ok(&rig, "kept", "of the disk");
    rig.ctl_ok(&["restart", "web"]);
    let see = |rig: &Rig| {
        rig.ctl_ok(&[
            "exec",
            "web",
            "--",
            "sh",
            "-c",
            "cat /run/secrets/kept /run/secrets/variable",
        ])
    };
    for _ in 0..2 {
        assert_eq!(see(&rig), "of the diskof the environment");
        rig.kill_berth();
        rig.wait_control();
        rig.wait_state("web", "running");
    }
    assert_eq!(see(&rig), "of the diskof the environment");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", rig.berth_pid())).unwrap();
    assert!(!mounts.contains("secrets"), "{mounts}");
    assert_eq!(fs::read_dir(rig.path("state/secrets")).unwrap().count(), 1);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn the_verbs_say_what_there_is_and_what_is_wrong() {
    let mut rig = Rig::prepare(
        "[secret.file]\nfile = '@DIR@/missing'\n[secret.kept]\n\
         [secret.variable]\nenvironment = 'RIG_UNSET'\n\
         [service.web]\ncommand = 'sleep 1000'\nwanted-by = []\nsecrets = ['kept', 'file']\n\
         [service.stay]\ncommand = 'sleep 1001'\nisolation = 'none'\n",
    );
    rig.launch(Mode::Up, &[]);
    rig.wait_control();
    let problem = |rig: &Rig, name: &str| listed(rig, name)["problem"].as_str().map(str::to_owned);
    assert!(problem(&rig, "file").unwrap().contains("No such file"));
    assert!(problem(&rig, "kept").unwrap().contains("never set"));
    assert!(problem(&rig, "variable").unwrap().contains("without the variable RIG_UNSET"));
    set_ok(&rig, "kept", "value");
    set_ok(&rig, "loose", "value");
    assert_eq!(problem(&rig, "kept"), None);
    assert_eq!(listed(&rig, "kept")["users"], serde_json::json!(["web"]));
    assert_eq!(listed(&rig, "loose")["declared"], false);
    let table = rig.ctl_ok(&["secret", "ls"]);
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["kept", "stored", "there", "web"][..],
        &["loose", "stored", "in", "no", "unit", "file", "-"],
    ] {
        assert!(rows.iter().any(|it| it == row), "no {row:?} in\n{table}");
    }
    let refused = |said: Said, code: i32, why: &str| {
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    };
    refused(set(&rig, "file", b"x"), 1, "its value is in the file");
    refused(set(&rig, "variable", b"x"), 1, "its value is in berth's variable RIG_UNSET");
    refused(set(&rig, "../kept", b"x"), 1, "is no name");
    refused(set(&rig, "kept", b""), 1, "standard input is empty");
    refused(set(&rig, "kept", &vec![b'x'; (512 << 10) + 1]), 1, "more than 512 KiB");
    refused(rig.ctl(&["secret", "rm", "other"]), 1, "no value is stored for it");
    set_ok(&rig, "kept", &"y".repeat(512 << 10));
    rig.ctl_ok(&["secret", "rm", "kept"]);
    rig.ctl_ok(&["secret", "rm", "loose"]);
    assert!(problem(&rig, "kept").unwrap().contains("never set"));
    assert_eq!(listed(&rig, "loose"), Value::Null);
    assert_eq!(rig.finish(), 0);
}
