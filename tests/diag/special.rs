//! Files that are no unit files at all, sizes at and beyond every bound, and texts that
//! nobody would write.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::unit::model::{MountSource, Rootfs};
use berth::unit::{Diagnostic, Loaded, Previous, Source, decode, encode, limits, read, settings};
use nix::sys::stat::Mode;
use proptest::prelude::*;
use tempfile::TempDir;

const GOOD: &str = "[service.good]\ncommand = 'x'\n";

/// A directory with a good file, to see that it is read whatever stands beside it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.toml"), GOOD).unwrap();
    folder
}

/// Reads the folder: one mistake, of this file and with these words; the rest is good.
#[track_caller]
fn refused(folder: &TempDir, name: &str, words: &str) -> Loaded {
    let path = folder.path().join(name);
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    let report = loaded.report();
    assert_eq!(loaded.diagnostics.len(), 1, "{report}");
    let start = format!("{}:1:1: error: ", path.display());
    assert!(report.starts_with(&start) && report.contains(words), "{report}");
    assert_eq!(loaded.broken_files, [path.to_string_lossy()]);
    assert!(loaded.set.units.iter().any(|unit| unit.name == "good"));
    // Named on its own it is the same.
    let alone = read(&[Source::Given(vec![path])], &Previous::default());
    assert_eq!(alone.diagnostics, loaded.diagnostics);
    loaded
}

#[test]
fn fifo() {
    let folder = folder();
    nix::unistd::mkfifo(&folder.path().join("x.toml"), Mode::S_IRUSR).unwrap();
    refused(&folder, "x.toml", "not a regular file but a FIFO");
}

#[test]
fn socket() {
    let folder = folder();
    let _listener = UnixListener::bind(folder.path().join("x.toml")).unwrap();
    refused(&folder, "x.toml", "not a regular file but a socket");
}

#[test]
fn device() {
    let folder = folder();
    symlink("/dev/zero", folder.path().join("x.toml")).unwrap();
    refused(&folder, "x.toml", "not a regular file but a device");
}

#[test]
fn directory_with_the_name_of_a_file() {
    let folder = folder();
    fs::create_dir(folder.path().join("x.toml")).unwrap();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    assert!(loaded.report().contains("not a regular file but a directory"), "{}", loaded.report());
}

#[test]
fn symlink_loop() {
    let folder = folder();
    symlink("y.toml", folder.path().join("x.toml")).unwrap();
    symlink("x.toml", folder.path().join("y.toml")).unwrap();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    let report = loaded.report();
    assert_eq!(report.matches("too many levels of symbolic links").count(), 2, "{report}");
    assert!(loaded.set.units.iter().any(|unit| unit.name == "good"));
}

#[test]
fn dangling_symlink() {
    let folder = folder();
    symlink("nowhere", folder.path().join("x.toml")).unwrap();
    refused(&folder, "x.toml", "there is no such file or directory");
}

#[test]
fn a_symlink_to_a_file_is_as_good_as_the_file() {
    let folder = folder();
    fs::create_dir(folder.path().join("real")).unwrap();
    fs::write(folder.path().join("real/x.toml"), "[service.x]\ncommand = 'x'\n").unwrap();
    symlink("real/x.toml", folder.path().join("x.toml")).unwrap();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    assert_eq!(loaded.set.units.len(), 3);
}

#[test]
fn dotted_paths_are_meant_from_the_directory_of_the_file() {
    let folder = folder();
    let text = "[service.x]\ncommand = 'x'\nrootfs = '../root/./x'\nenvironment-files = ['-./e']\n\
                mounts = [{ type = 'bind', source = './www', target = '/www' }]\n";
    fs::write(folder.path().join("x.toml"), text).unwrap();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    let unit = loaded.set.units.iter().find(|unit| unit.name == "x").unwrap();
    let service = unit.service().unwrap();
    let base = folder.path().to_str().unwrap();
    let above = folder.path().parent().unwrap().join("root/x");
    assert_eq!(service.rootfs.value, Rootfs::Directory(above.to_str().unwrap().to_owned()));
    assert_eq!(service.environment_files[0].value, format!("-{base}/e"));
    let MountSource::Bind { path, .. } = &service.mounts[0].value.source else { panic!() };
    assert_eq!(*path, format!("{base}/www"));
    let out = text.replace("../root", &"../".repeat(60));
    fs::write(folder.path().join("x.toml"), out).unwrap();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    assert!(loaded.report().contains("leads out of the file system's root"));
}

#[test]
fn too_large() {
    let folder = folder();
    fs::write(folder.path().join("x.toml"), "#".repeat(2 << 20)).unwrap();
    refused(&folder, "x.toml", "larger than 1 MiB");
    // A gibibyte is not even opened for long.
    fs::File::create(folder.path().join("x.toml")).unwrap().set_len(1 << 30).unwrap();
    refused(&folder, "x.toml", "larger than 1 MiB");
    // One byte less than too much is fine.
    fs::write(folder.path().join("x.toml"), "#".repeat(1 << 20)).unwrap();
    assert!(read(&[Source::directory(folder.path())], &Previous::default()).is_clean());
}

#[test]
fn binary_rubbish() {
    let folder = folder();
    let bytes: Vec<u8> =
        (0..100_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    fs::write(folder.path().join("x.toml"), bytes).unwrap();
    refused(&folder, "x.toml", "not a text file");
    fs::write(folder.path().join("x.toml"), [0xff, 0xfe, 0x80]).unwrap();
    refused(&folder, "x.toml", "not valid UTF-8");
}

#[test]
fn names_of_files_cannot_send_escapes() {
    let folder = folder();
    fs::write(folder.path().join("a\x1b[31m.toml"), "x").unwrap();
    let report = read(&[Source::directory(folder.path())], &Previous::default()).report();
    assert!(!report.contains('\x1b') && report.contains("\\u{1b}"), "{report}");
}

fn check(text: &str) -> Loaded {
    read(&[Source::Text("f".to_owned(), text.to_owned())], &Previous::default())
}

#[test]
fn a_hundred_thousand_levels() {
    let deep = 100_000;
    let texts = [
        format!("{GOOD}environment = {}", "[".repeat(deep)),
        format!("{GOOD}environment = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{GOOD}environment = {}", "{a=".repeat(deep)),
        format!("{GOOD}{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("{}a{}", "[".repeat(deep), "]".repeat(deep)),
    ];
    for text in texts {
        let loaded = check(&text);
        assert!(!loaded.is_clean() && loaded.diagnostics.len() <= limits::DIAGNOSTICS);
    }
    let report =
        check(&format!("{GOOD}environment = {}{}", "[".repeat(deep), "]".repeat(deep))).report();
    assert!(report.contains("too many levels of nesting"), "{report}");
}

/// Bad texts as large as a file may be; each within the reader's limit of time, with room.
#[test]
fn a_mebibyte_of_mistakes() {
    let full = 1 << 20;
    let repeat = |part: &str| part.repeat(full / part.len());
    let numbered = |part: fn(usize) -> String| {
        (0..)
            .map(part)
            .scan(0, |sum, s| {
                *sum += s.len();
                (*sum < full).then_some(s)
            })
            .collect::<String>()
    };
    let texts = [
        repeat("a=1\n"),
        repeat("[service.a]\n"),
        repeat("[service.a]\ncommand='x'\nx=1\n"),
        format!("{GOOD}[service.good]\n{}", repeat("a=1\n").split_at(full - 100).0),
        repeat("= \n"),
        repeat("\"\n"),
        numbered(|i| format!("[k{i}.x]\n")),
        numbered(|i| format!("[service.s{i}]\nrequires=['t{i}']\ncommand='x'\n")),
        format!("{GOOD}{}", numbered(|i| format!("key{i}=1\n")).split_at(full - 100).0),
        format!("{GOOD}command=[{}]", "1,".repeat(50_000)),
        format!("{GOOD}x=[{}]", "[],".repeat(200_000)),
        format!("{GOOD}description='{}'", "é".repeat(400_000)),
        numbered(|i| {
            format!("[service.s{i}]\ncommand='x'\nready='log:(((a{{99}}){{99}}){{99}}){{9}}{i}'\n")
        }),
        numbered(|i| format!("[service.s{i}]\ncommand='x'\nready='log:(a{{99}}){{99}}['\n")),
        format!("{GOOD}requires=[{}]", (0..8000).map(|i| format!("'u{i}',")).collect::<String>()),
    ];
    for text in texts {
        // What the reader is limited in: others may keep the processors busy.
        let used = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::try_from(time).unwrap()
        };
        let begin = used();
        let loaded = check(&text);
        let head: String = text.chars().take(60).collect();
        assert!(!loaded.is_clean(), "{head}");
        assert!(loaded.diagnostics.len() <= limits::DIAGNOSTICS);
        let took = used().saturating_sub(begin);
        assert!(took < Duration::from_secs(limits::READER_CPU_SECONDS), "{head}: {took:?}");
    }
}

/// As much as is allowed is read, and fits into one message to the supervisor.
#[test]
fn as_much_as_allowed() {
    let file = |f: usize| {
        let variables: String = (0..50).map(|i| format!("V{i}='a',")).collect();
        let pad = "x".repeat(300);
        let unit = |i: usize| {
            format!(
                "[service.s{f}-{i}]\ncommand=['x']\nenvironment={{{variables}}}\n\
                 description='{pad}'\n"
            )
        };
        Source::Text(format!("{f}"), (0..1100).map(unit).collect())
    };
    let loaded = read(&(0..7).map(file).collect::<Vec<_>>(), &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    assert_eq!(loaded.set.units.len(), 7701);
    let bytes = encode(&loaded);
    assert!(bytes.len() < limits::MESSAGE);
    assert!(decode(&bytes).unwrap() == loaded);
}

#[test]
fn a_name_twice_in_a_large_file() {
    let pad = "# padding\n".repeat(10_000);
    let loaded = check(&format!("{GOOD}{pad}[service.b]\ncommand='x'\n{GOOD}"));
    assert!(loaded.report().contains("`good` is defined twice"), "{}", loaded.report());
    assert_eq!((loaded.diagnostics.len(), loaded.broken_files.len()), (1, 1));
}

#[test]
fn too_much_of_everything() {
    let list = |n: usize| (0..n).map(|i| format!("'{i}',")).collect::<String>();
    let cases = [
        (format!("{GOOD}success-exit-status=[{}]", list(8193)), "more than 8192 entries"),
        (format!("{GOOD}description='{}'", "x".repeat(65_537)), "more than 65536 bytes"),
        (
            format!("{GOOD}a=[{}]", vec![format!("[{}]", list(5000)); 21].join(",")),
            "more than 100000 values",
        ),
        (format!("{GOOD}mounts=[{}]", "{},".repeat(257)), "at most 256 mounts"),
    ];
    for (text, words) in cases {
        let report = check(&text).report();
        assert!(report.contains(words), "{words}: {report}");
    }
    let units = |range: std::ops::Range<usize>| {
        let text = range.map(|i| format!("[service.s{i}]\ncommand='x'\n")).collect();
        Source::Text("f".to_owned(), text)
    };
    let loaded = read(&[units(0..5000), units(5000..8193)], &Previous::default());
    assert!(loaded.report().contains("more than 8192 units"), "{}", loaded.report());
    let text = |i: usize| Source::Text(format!("{i}"), "#".repeat(1 << 20));
    let loaded = read(&(0..9).map(text).collect::<Vec<_>>(), &Previous::default());
    assert!(loaded.report().contains("exceed 8 MiB"), "{}", loaded.report());
}

#[test]
fn too_many_files() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..4097 {
        fs::write(folder.path().join(format!("{i:04}.toml")), "").unwrap();
    }
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    assert!(loaded.report().contains("more than 4096 unit files"), "{}", loaded.report());
}

#[test]
fn too_many_instances() {
    let names: String = (0..8192).map(|i| format!("'a@{i}',")).collect();
    let text = format!("[service.'a@']\ncommand='x'\n[service.b]\ncommand='x'\nwants=[{names}]");
    let loaded = check(&text);
    assert!(loaded.report().contains("too many instances"), "{}", loaded.report());
    // A template that asks for two of its own, and those for four.
    let text = "[service.'a@']\ncommand='x'\nwants=['a@%i0','a@%i1']\n\
        [service.b]\ncommand='x'\nwants=['a@1']\n";
    let loaded = check(text);
    assert!(!loaded.is_clean() && loaded.set.units.len() <= limits::UNITS);
    // A large template is not made thousands of times.
    let large = "x".repeat(60_000);
    let text = format!(
        "[service.'a@']\ncommand='{large}'\n[service.b]\ncommand='x'\nwants=[{}]",
        names.split_at(4000).0.rsplit_once(',').unwrap().0
    );
    let loaded = check(&text);
    assert!(loaded.report().contains("too many instances"), "{}", loaded.report());
}

#[test]
fn chains_and_rings_of_8000_units() {
    let units = |n: usize, last: &str| -> String {
        let link = |i: usize| if i + 1 < n { format!("['s{}']", i + 1) } else { last.to_owned() };
        (0..n).map(|i| format!("[service.s{i}]\ncommand='x'\nrequires={}\n", link(i))).collect()
    };
    let chain = check(&units(8000, "[]"));
    assert!(chain.is_clean(), "{}", chain.report());
    assert_eq!(chain.set.units.len(), 8001);
    let ring = check(&units(8000, "['s0']"));
    assert!(ring.report().contains("and 7988 more"), "{}", ring.report());
    assert_eq!(ring.set.units.len(), 1);
    // The last one is wrong, and so all are.
    let fallen = check(&units(8000, "['nothing']"));
    assert_eq!((fallen.broken.len(), fallen.diagnostics.len()), (8000, limits::DIAGNOSTICS));
    assert_eq!(fallen.suppressed, 8000 - limits::DIAGNOSTICS);
    assert!(fallen.report().ends_with("and 7900 more\n"));
}

/// What must hold for every diagnostic, whatever the text was.
fn is_sane(diagnostic: &Diagnostic, text: &str) {
    let spots = diagnostic.notes.iter().map(|note| &note.spot).chain([&diagnostic.spot]);
    for spot in spots {
        let lines: Vec<&str> = text.split('\n').collect();
        let line = lines.get(spot.line as usize - 1).expect("the line is in the file");
        assert!(spot.column as usize <= line.chars().count() + 1, "the column is in the line");
        let excerpt = spot.excerpt.as_ref().expect("it shows the line");
        assert!(excerpt.width >= 1 && excerpt.indent <= 170 && excerpt.width <= 170, "{excerpt:?}");
    }
    let shown = diagnostic.to_string();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "nothing reaches the terminal");
}

/// Files made of the table's own words, so that most of them get far.
fn plausible() -> impl Strategy<Value = String> {
    let settings: Vec<&'static settings::Setting> = settings::all().collect();
    let entry = prop::sample::select(settings).prop_flat_map(|setting| {
        let values: Vec<&str> = setting.good.iter().chain(setting.bad).copied().collect();
        let sections = prop::sample::select(setting.sections.to_vec());
        let names = prop::sample::select(vec![
            "a", "b", "other", "\"w@\"", "\"w@1\"", "default", "\"../x\"",
        ]);
        (prop::sample::select(values), sections, names, any::<bool>()).prop_map(
            move |(value, section, name, whole)| {
                let title = section.title();
                let title = if title.starts_with('[') { title } else { "[service.NAME]" };
                let title = title.replace("NAME", name);
                let header =
                    if whole { format!("{title}\ncommand = \"x\"\n") } else { String::new() };
                format!("{header}{} = {value}\n", setting.key)
            },
        )
    });
    let cut = (prop::collection::vec(entry, 1..12), any::<prop::sample::Index>(), 0..10);
    cut.prop_map(|(entries, at, how)| {
        let mut text = entries.concat();
        let at = at.index(text.len());
        if how == 0 && text.is_char_boundary(at) {
            text.truncate(at);
        } else if how == 1 && text.is_char_boundary(at) {
            text.insert(at, '\u{1b}');
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        for diagnostic in check(&text).diagnostics.iter().filter(|_| !text.contains('\0')) {
            is_sane(diagnostic, &text);
        }
    }

    #[test]
    fn no_plausible_text_panics(text in plausible()) {
        let loaded = check(&text);
        loaded.diagnostics.iter().for_each(|diagnostic| is_sane(diagnostic, &text));
        // Whoever is in the set names only others that are.
        for unit in &loaded.set.units {
            let named = [&unit.requires, &unit.wants, &unit.after, &unit.before, &unit.conflicts];
            for name in named.into_iter().flatten() {
                assert!(loaded.set.units.iter().any(|other| other.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, &bytes).unwrap();
        let loaded = read(&[Source::Given(vec![path])], &Previous::default());
        prop_assert!(loaded.set.units.iter().any(|unit| unit.name == "default"));
    }
}

#[test]
fn reading_a_thousand_files() {
    let folder = tempfile::tempdir().unwrap();
    write_thousand(folder.path());
    let begin = Instant::now();
    let loaded = read(&[Source::directory(folder.path())], &Previous::default());
    let took = begin.elapsed();
    assert!(loaded.is_clean(), "{}", loaded.report());
    assert_eq!(loaded.set.units.len(), 1001);
    // The figure is for people: BERTH_SHOW_TIME=1 cargo test --release ... -- --nocapture
    if std::env::var_os("BERTH_SHOW_TIME").is_some() {
        eprintln!("1,000 files: {took:?}");
    }
}

fn write_thousand(folder: &Path) {
    for i in 0..1000 {
        let text = format!(
            "[service.unit-{i}]\ndescription = \"number {i}\"\ncommand = [\"sleep\", \"{i}\"]\n\
             isolation = \"none\"\nrestart = \"always\"\nstop-timeout = \"5s\"\n\
             after = [\"unit-{}\"]\n[service.unit-{i}.limits]\nnofile = 1024\n",
            if i == 0 { 999 } else { i - 1 }
        );
        let text = if i == 0 { text.replace("after", "conflicts") } else { text };
        fs::write(folder.join(format!("{i:04}.toml")), text).unwrap();
    }
}
