//! What right files become: exactly the expected model, and sets that survive mistakes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use berth::unit::model::{
    At, ExitMatch, Health, HealthCheck, Id, Kind, Limits, Mount, MountSource, Namespaces,
    Propagation, Ready, Rootfs, Security, Service, Unit, UnitSet, User, Writable,
};
use berth::unit::{Loaded, Previous, Source, decode, encode, instantiate, limits, read};

fn text(text: &str) -> Vec<Source> {
    vec![Source::Text("f.toml".to_owned(), text.to_owned())]
}

fn clean(text_of_file: &str) -> UnitSet {
    let loaded = read(&text(text_of_file), &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    loaded.set
}

fn unit<'a>(set: &'a UnitSet, name: &str) -> &'a Unit {
    set.units.iter().find(|unit| unit.name == name).expect("the unit is there")
}

fn service<'a>(set: &'a UnitSet, name: &str) -> &'a Service {
    unit(set, name).service().expect("it is a service")
}

fn at<T>(value: T) -> At<T> {
    At { value, line: 0 }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The example of the interface, without what does not work yet.
const EXAMPLE: &str = include_str!("example.txt");

#[test]
fn the_example_becomes_exactly_this() {
    let set = clean(EXAMPLE);
    let names: Vec<&str> = set.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["default", "metrics", "php", "web"]);
    assert_eq!(set.volumes, ["db"]);
    assert!(set.templates.is_empty());
    let web = unit(&set, "web");
    assert_eq!((web.file.as_str(), web.line), ("f.toml", 1));
    assert_eq!(web.description, "the only public entry");
    assert_eq!((&web.requires, &web.wants), (&words(&["php"]), &words(&["metrics"])));
    assert_eq!(web.wanted_by, ["default"]);
    assert!(web.after.is_empty() && web.before.is_empty() && web.conflicts.is_empty());
    assert_eq!(web.kind, Kind::Service(Box::new(expected_web())));
    // Equality leaves lines out; the ones that errors name must be right.
    let service = service(&set, "web");
    let line = |what: &str| EXAMPLE.lines().position(|l| l.starts_with(what)).unwrap() + 1;
    assert_eq!(service.command.line as usize, line("command"));
    assert_eq!(service.mounts[1].line as usize, line("mounts") + 2);
    assert_eq!(service.limits.memory.as_ref().unwrap().line as usize, line("memory"));
    let default = unit(&set, "default");
    assert_eq!(
        (&default.requires, &default.wants),
        (&words(&["web"]), &words(&["metrics", "php"]))
    );
}

fn expected_web() -> Service {
    Service {
        rootfs: at(Rootfs::Directory("/var/lib/berth/rootfs/web".to_owned())),
        writable: Writable::Ephemeral,
        namespaces: at(Namespaces { network: false, ..Namespaces::ALL }),
        user: Some(at(User { user: Id::Name("www-data".to_owned()), group: None })),
        environment: vec![
            ("TZ".to_owned(), "UTC".to_owned()),
            ("B".to_owned(), "2".to_owned()),
            ("A".to_owned(), "true".to_owned()),
        ],
        environment_files: vec![at("/etc/web.env".to_owned())],
        security: Security { no_new_privileges: Some(true), ..Security::default() }.into(),
        hostname: Some(at("web".to_owned())),
        mounts: expected_mounts(),
        umask: 0o027,
        ready: Ready::Tcp { host: "127.0.0.1".to_owned(), port: 443 },
        success_exit_status: vec![ExitMatch::Code(143), ExitMatch::Signal(15)],
        start_timeout: None,
        stop_signal: 3,
        reload_signal: Some(1),
        start_pre: vec![at(words(&["mkdir", "-p", "/tmp/x"])), at(words(&["true"]))],
        stop_post: vec![at(words(&["rm", "-f", "a b"]))],
        limits: Limits {
            memory: Some(at(256 << 20)),
            cpu_milli: Some(at(500)),
            cpuset: Some(at("0-1".to_owned())),
            pids: Some(at(200)),
            nice: Some(at(-5)),
            core: Some(at(u64::MAX)),
            ..Limits::default()
        }
        .into(),
        health: Some(Health {
            check: at(HealthCheck::Command(words(&["curl", "-fk", "https://localhost/"]))),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
            restart: true,
        }),
        ..Service::new(at(words(&["nginx", "-g", "daemon off;"])))
    }
}

fn expected_mounts() -> Vec<At<Mount>> {
    let bind = MountSource::Bind {
        path: "/srv/www".to_owned(),
        propagation: Propagation::Private,
        recursive: true,
    };
    let volume = MountSource::Volume { name: "db".to_owned() };
    let tmpfs = MountSource::Tmpfs { size: Some(16 << 20), mode: 0o755 };
    [(bind, "/var/www", true), (volume, "/var/lib/mysql", false), (tmpfs, "/run", false)]
        .map(|(source, target, read_only)| {
            at(Mount { source, target: target.to_owned(), read_only })
        })
        .into()
}

#[test]
fn namespaces_and_writes_follow_from_other_settings() {
    let set = clean(
        "[service.plain]\ncommand = 'x'\nisolation = 'none'\n\
         [service.host]\ncommand = 'x'\n\
         [service.over]\ncommand = 'x'\nwritable = 'persistent'\n\
         [service.direct]\ncommand = 'x'\nrootfs = '/r'\nrootfs-mode = 'direct'\n\
         [service.some]\ncommand = 'x'\nisolation = ['mount', 'pid']\nnetwork = 'host'\n\
         [service.alone]\ncommand = 'x'\nnetwork = 'none'\n",
    );
    assert_eq!(service(&set, "plain").namespaces.value, Namespaces::NONE);
    assert_eq!(service(&set, "alone").namespaces.value, Namespaces::ALL);
    let some = Namespaces { mount: true, pid: true, ..Namespaces::NONE };
    assert_eq!(service(&set, "some").namespaces.value, some);
    let writable = |name: &str| service(&set, name).writable;
    assert_eq!(writable("host"), Writable::None);
    assert_eq!(writable("over"), Writable::Persistent);
    assert_eq!(writable("direct"), Writable::Direct);
}

#[test]
fn later_directories_override_key_by_key() {
    let layer = |name: &str, text: &str| Source::Text(name.to_owned(), text.to_owned());
    let lib = layer(
        "lib/web.toml",
        "[service.web]\ncommand = 'nginx'\nuser = 'root'\nrequires = ['a']\n\
         environment = { A = '1', B = '1' }\n[service.web.limits]\nmemory = '1G'\npids = 5\n\
         [service.web.health]\ncommand = 'true'\nretries = 7\n[service.a]\ncommand = 'x'\n",
    );
    let etc = layer(
        "etc/web.toml",
        "\n\n\n[service.web]\nuser = 'www-data'\nrequires = []\n\
         environment = { B = '2', C = '3' }\n\
         [service.web.limits]\npids = 6\n[service.web.health]\ntcp = 80\n",
    );
    let loaded = read(&[lib, etc], &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    let web = unit(&loaded.set, "web");
    let service = web.service().unwrap();
    assert!(web.requires.is_empty(), "a list is replaced");
    assert_eq!(service.user.as_ref().unwrap().value.user, Id::Name("www-data".to_owned()));
    let expected = [("A", "1"), ("B", "2"), ("C", "3")];
    assert_eq!(service.environment, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(service.limits.memory, Some(at(1 << 30)));
    assert_eq!(service.limits.pids, Some(at(6)));
    let health = service.health.as_ref().unwrap();
    assert_eq!(health.retries, 7);
    assert!(
        matches!(health.check.value, HealthCheck::Tcp { port: 80, .. }),
        "the later check wins"
    );
    // A line can only be remembered for the file that the unit is said to come from.
    assert_eq!((web.file.as_str(), service.command.line), ("lib/web.toml", 2));
    assert_eq!(service.user.as_ref().unwrap().line, 0);
}

const TEMPLATE: &str = "[service.'worker@']\ncommand = ['work', '--id=%i', '100%', '%%i']\n\
    requires = ['db@%i']\nuser = '%i'\nready = 'path:/run/%i'\nhostname = 'w-%i'\n\
    mounts = [{ type = 'volume', source = 'v-%i', target = '/v/%i' }]\n\
    [service.'db@']\ncommand = 'x'\nwanted-by = ['default']\n";

#[test]
fn instances_are_made_of_what_refers_to_them() {
    let set = clean(&format!("{TEMPLATE}[service.app]\ncommand = 'x'\nrequires = ['worker@7']\n"));
    let names: Vec<&str> = set.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["app", "db@7", "default", "worker@7"]);
    let worker = unit(&set, "worker@7");
    assert_eq!(worker.requires, ["db@7"]);
    let service = worker.service().unwrap();
    assert_eq!(service.command.value, ["work", "--id=7", "100%", "%i"]);
    assert_eq!(service.user.as_ref().unwrap().value.user, Id::Number(7));
    assert_eq!(service.ready, Ready::Path("/run/7".to_owned()));
    assert_eq!(service.hostname.as_ref().unwrap().value, "w-7");
    assert_eq!(set.volumes, ["v-7"]);
    // The default wanted-by is not for instances; one that is written is.
    assert_eq!(unit(&set, "default").wants, ["app", "db@7"]);
    let templates: Vec<&str> = set.templates.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(templates, ["db@", "worker@"]);
    // Made by hand it is the same.
    assert_eq!(instantiate(&set.templates[1], "7").as_ref(), Ok(worker));
    for bad in ["", ".", "..", "a/b", "../x", "a b", &"x".repeat(64)] {
        assert!(instantiate(&set.templates[1], bad).is_err(), "{bad:?}");
    }
    assert!(instantiate(worker, "1").is_err(), "an instance is no template");
    assert!(instantiate(&set.templates[1], "4294967295").is_err(), "no such user");
}

#[test]
fn instances_started_by_hand_stay() {
    let previous = Previous { instances: vec!["worker@9".to_owned()], ..Previous::default() };
    let loaded = read(&text(TEMPLATE), &previous);
    assert!(loaded.is_clean(), "{}", loaded.report());
    assert_eq!(unit(&loaded.set, "worker@9").requires, ["db@9"]);
}

fn again(before: &str, after: &str) -> Loaded {
    let previous = Previous { set: clean(before), instances: Vec::new() };
    read(&text(after), &previous)
}

#[test]
fn a_unit_with_a_mistake_stays_as_it_was() {
    let before =
        "[service.db]\ncommand = 'old'\n[service.web]\ncommand = 'web'\nrequires = ['db']\n";
    let after = "[service.db]\ncommand = 5\n[service.web]\ncommand = 'new'\nrequires = ['db']\n\
                 after = ['db']\n[service.more]\ncommand = 'x'\n";
    let loaded = again(before, after);
    assert_eq!(loaded.diagnostics.len(), 1, "{}", loaded.report());
    assert_eq!((&loaded.broken, &loaded.kept), (&words(&["db"]), &words(&["db"])));
    assert_eq!(service(&loaded.set, "db").command.value, ["old"]);
    assert_eq!(service(&loaded.set, "web").command.value, ["new"]);
    assert_eq!(unit(&loaded.set, "web").after, ["db"]);
    assert_eq!(unit(&loaded.set, "default").wants, ["db", "more", "web"]);
}

#[test]
fn a_file_that_cannot_be_used_keeps_all_its_units() {
    let before = "[service.db]\ncommand = 'old'\n[service.web]\ncommand = 'web'\nwants = ['gone']\n\
                  [service.gone]\ncommand = 'x'\n";
    for after in ["[service.db\ncommand", "rubbish", "[service]\ndb = 5\n", "command = 'x'\n"] {
        let loaded = again(before, after);
        assert!(!loaded.is_clean());
        assert_eq!(loaded.kept, ["db", "gone", "web"], "{after}");
        assert_eq!(loaded.set, clean(before), "{after}");
    }
}

#[test]
fn an_earlier_version_that_no_longer_fits_goes() {
    // The old `web` required `db`, which is gone by intention.
    let before = "[service.db]\ncommand = 'x'\n[service.web]\ncommand = 'x'\nrequires = ['db']\n\
                  [service.top]\ncommand = 'x'\nrequires = ['web']\n";
    let loaded = again(
        before,
        "[service.web]\ncommand = 5\n[service.top]\ncommand = 'y'\nrequires = ['web']\n",
    );
    let names: Vec<&str> = loaded.set.units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["default"], "{}", loaded.report());
    assert_eq!(loaded.broken, ["top", "web"]);
    assert!(loaded.kept.is_empty());
    assert!(loaded.report().contains("there is no unit `db`"), "{}", loaded.report());
}

#[test]
fn old_and_new_versions_cannot_make_a_cycle_together() {
    // The old `a` requires `b`; the new `b` requires `a`, whose new version is wrong.
    let before = "[service.a]\ncommand = 'x'\nrequires = ['b']\n[service.b]\ncommand = 'x'\n";
    let loaded =
        again(before, "[service.a]\ncommand = 5\n[service.b]\ncommand = 'x'\nrequires = ['a']\n");
    assert!(loaded.report().contains("dependency cycle"), "{}", loaded.report());
    assert_eq!(loaded.kept, ["a", "b"]);
    assert_eq!(loaded.set, clean(before), "both as before");
}

#[test]
fn a_message_of_the_reader_is_read_back() {
    let loaded =
        read(&text(&format!("{EXAMPLE}\n[service.bad]\ncommand = 5\n")), &Previous::default());
    assert!(!loaded.is_clean());
    let bytes = encode(&loaded);
    assert_eq!(decode(&bytes).as_ref(), Ok(&loaded));
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn what_does_not_fit_into_a_message_is_said() {
    let volumes = vec!["x".repeat(limits::MESSAGE)];
    let set = UnitSet { volumes, ..UnitSet::default() };
    let read = decode(&encode(&Loaded { set, ..Loaded::default() })).unwrap();
    assert!(read.unusable && !read.is_clean() && read.set == UnitSet::default());
    assert!(read.report().contains("too large"), "{}", read.report());
    assert!(decode(&vec![0; limits::MESSAGE + 1]).is_err());
}

#[test]
fn missing_directories() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let loaded = read(&[Source::Default(missing.clone())], &Previous::default());
    assert!(loaded.is_clean());
    assert_eq!(loaded.set.units.len(), 1, "the target default");
    let loaded = read(&[Source::directory(&missing)], &Previous::default());
    assert!(loaded.report().contains("there is no such file or directory"), "{}", loaded.report());
}

#[test]
fn only_visible_toml_files_of_the_directory_itself_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("b.toml", "[service.b]\ncommand = 'x'\n");
    write(".a.toml", "rubbish");
    write("a.toml~", "rubbish");
    write("toml", "rubbish");
    fs::create_dir(folder.path().join("below")).unwrap();
    write("below/c.toml", "rubbish");
    let names = |path: &Path| -> Vec<String> {
        let loaded = read(&[Source::directory(path)], &Previous::default());
        assert!(loaded.is_clean(), "{}", loaded.report());
        loaded.set.units.into_iter().map(|unit| unit.name.clone()).collect()
    };
    assert_eq!(names(folder.path()), ["b", "default"]);
}
