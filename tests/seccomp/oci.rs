//! Profiles from files: what they mean, and what is wrong with them.

use std::sync::Arc;

use berth::seccomp::{self, Facts, Kernel, Profile, calls};
use berth::unit::model::Seccomp;
use berth::unit::{Loaded, Previous, Source, read};

use super::machine::{Call, run};

/// Reads a unit that names this profile.
fn load(json: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.json"), json).unwrap();
    let unit = "[service.a]\ncommand = \"a\"\nsecurity.seccomp = \"./p.json\"\n";
    let file = folder.path().join("a.toml");
    std::fs::write(&file, unit).unwrap();
    read(&[Source::Given(vec![file])], &Previous::default())
}

fn profile(json: &str) -> Arc<Profile> {
    let loaded = load(json);
    assert!(loaded.is_clean(), "{}", loaded.report());
    let unit = loaded.set.units.iter().find(|unit| unit.name == "a").unwrap();
    match &unit.service().unwrap().security.seccomp.as_ref().unwrap().value {
        Seccomp::Profile { profile, .. } => profile.0.clone(),
        other => panic!("{other:?}"),
    }
}

/// What is wrong, without the file's name.
fn mistake(json: &str) -> String {
    let loaded = load(json);
    assert_eq!(loaded.diagnostics.len(), 1, "{}", loaded.report());
    let message = &loaded.diagnostics[0].message;
    let (_, message) = message.split_once("p.json: ").unwrap_or_else(|| panic!("{message}"));
    message.to_owned()
}

fn answer(profile: &Profile, facts: Facts, name: &str, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let call = Call::new(calls::number(name).unwrap().into(), all);
    run(&seccomp::compile(profile, &facts).unwrap(), &call)
}

const FACTS: Facts = Facts { capabilities: 0, kernel: Kernel(6, 1) };
const ALLOW: u32 = 0x7fff_0000;

const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

#[test]
fn each_action_is_the_kernels() {
    let one = |action: &str, more: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {{"names": ["mkdir"], "action": "SCMP_ACT_{action}"{more}}}]}}"#
        );
        answer(&profile(&json), FACTS, "mkdir", &[])
    };
    assert_eq!(one("ALLOW", ""), ALLOW);
    assert_eq!(one("LOG", ""), 0x7ffc_0000);
    assert_eq!(one("ERRNO", ""), errno(1));
    assert_eq!(one("ERRNO", r#", "errnoRet": 38, "errno": "ENOSYS""#), errno(38));
    assert_eq!(one("TRACE", r#", "errnoRet": 7"#), 0x7ff0_0007);
    assert_eq!(one("TRAP", ""), 0x0003_0000);
    assert_eq!(one("KILL", ""), 0);
    assert_eq!(one("KILL_THREAD", ""), 0);
    assert_eq!(one("KILL_PROCESS", ""), 0x8000_0000);
}

#[test]
fn conditions_and_their_order() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "architectures": null,
        "flags": ["SECCOMP_FILTER_FLAG_LOG"], "comment_free": 0, "syscalls": []}"#
            .replace("\"comment_free\": 0, ", "")
            .replace(
                "[]}",
                r#"[
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 15, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [
            {"index": 0, "value": 38, "op": "SCMP_CMP_GE"}]},
        {"names": ["dup", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 3, "op": "SCMP_CMP_LT"},
            {"index": 0, "value": 8, "op": "SCMP_CMP_GT"}]},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "comment": "c",
            "includes": {"caps": ["CAP_SYS_ADMIN", "cap_chown"]}, "excludes": {}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"},
            "excludes": {"caps": ["CAP_KILL"], "minKernel": "6.5"}},
        {"names": ["sync"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x86"]}},
        {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["getuid"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"name": "getgid", "action": "SCMP_ACT_ALLOW", "args": null}]}"#,
            )
            .as_str(),
    );
    assert_eq!(profile.flags, Profile::LOG);
    let ask = |name: &str, arguments: &[u64]| answer(&profile, FACTS, name, arguments);
    assert_eq!(ask("socket", &[2, 0x801]), ALLOW);
    assert_eq!(ask("socket", &[2, 0x802]), errno(13));
    assert_eq!(ask("socket", &[40, 1]), errno(97));
    assert_eq!(ask("dup", &[2]), ALLOW, "conditions on one argument are rules of their own");
    assert_eq!(ask("dup", &[5]), errno(13));
    assert_eq!(ask("dup", &[9]), ALLOW);
    let with = |bits: u64| Facts { capabilities: bits, ..FACTS };
    let on = |minor: u32| Facts { kernel: Kernel(6, minor), ..FACTS };
    for (facts, name, expected) in [
        (FACTS, "mount", errno(13)),
        (with(1 << 21), "mount", errno(13)),
        (with(1 << 21 | 1), "mount", ALLOW),
        (FACTS, "ptrace", ALLOW),
        (with(1 << 5), "ptrace", errno(13)),
        (on(5), "ptrace", errno(13)),
        (FACTS, "sync", ALLOW),
        (FACTS, "getpid", errno(13)),
        (FACTS, "getuid", errno(13)),
        (FACTS, "getgid", ALLOW),
        // Above the highest that is named here.
        (FACTS, "clone3", errno(38)),
        (FACTS, "clone", errno(13)),
    ] {
        assert_eq!(answer(&profile, facts, name, &[]), expected, "{facts:?} {name}");
    }
}

#[test]
fn what_is_newer_than_a_profile_that_allows_is_allowed() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    assert_eq!(answer(&profile, FACTS, "clone3", &[]), ALLOW);
    assert_eq!(answer(&profile, FACTS, "mkdir", &[]), errno(1));
}

#[test]
fn mistakes_have_a_place() {
    let rule = |text: &str| {
        mistake(&format!(
            "{{\"defaultAction\": \"SCMP_ACT_ERRNO\",\n \"syscalls\": [{{\"names\": [\"dup\"],\n  {text}}}]}}"
        ))
    };
    let good = "\"action\": \"SCMP_ACT_ALLOW\"";
    for (text, expected) in [
        ("\"action\": \"SCMP_ACT_ALOW\"", "line 3, column 28: `SCMP_ACT_ALOW` is not an action"),
        ("\"action\": \"SCMP_ACT_NOTIFY\"", "\"SCMP_ACT_NOTIFY\" needs a program that is asked"),
        ("\"action\": 1", "line 3, column 13: invalid type: integer `1`, expected a string"),
        (&format!("{good}, \"arg\": []"), "line 3, column 35: unknown field `arg`, expected"),
        (&format!("{good}, \"errnoRet\": 1"), "entry 1 of `syscalls`: this action has no errno"),
        (&format!("{good}, \"errnoRet\": 4096"), "4096 is not an errno: 0 to 4095"),
        ("\"action\": \"SCMP_ACT_ERRNO\", \"errno\": \"EIO\"", "write `errnoRet` beside its name"),
        (&format!("{good}, \"name\": \"dup\""), "`name` and `names` exclude each other"),
        (
            &format!("{good}, \"args\": [{{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}}]"),
            "a system call has no argument 6",
        ),
        (
            &format!("{good}, \"args\": [{{\"index\": 0, \"value\": 0, \"op\": \"EQ\"}}]"),
            "`EQ` is not a comparison",
        ),
        (
            &format!(
                "{good}, \"args\": [{{\"index\": 0, \"value\": -1, \"op\": \"SCMP_CMP_EQ\"}}]"
            ),
            "invalid value: integer `-1`, expected u64",
        ),
        (&format!("{good}, \"includes\": {{\"caps\": [\"X\"]}}"), "`X` is not a capability"),
        (&format!("{good}, \"includes\": {{\"minKernel\": \"4\"}}"), "`4` is not a version"),
        (&format!("{good}, \"includes\": {{\"kernel\": \"4.8\"}}"), "unknown field `kernel`"),
    ] {
        let found = rule(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    for (json, expected) in [
        ("", "line 1, column 0: EOF while parsing a value"),
        ("[]", "invalid length 0, expected a profile, an object"),
        ("{}", "missing field `defaultAction`"),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"defaultErrnoRet\": 1}",
            "this action has no errno",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"x86\"]}",
            "not an architecture",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [], \"archMap\": []}",
            "`architectures` and `archMap` exclude each other",
        ),
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"X\"]}", "`X` is not a flag"),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/x\"}",
            "`listenerPath` is for",
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [], \"action\": \"SCMP_ACT_LOG\"}]}",
            "it names no system call",
        ),
    ] {
        let found = mistake(json);
        assert!(found.contains(expected), "{json}: {found}");
    }
}

#[test]
fn too_much_is_refused() {
    let names = vec!["\"dup\""; 20_000].join(",");
    let many = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_LOG"}}]}}"#
    );
    assert!(mistake(&many).contains("more than 16384 names"));
    let rule = |value: usize| {
        format!(
            r#"{{"names": ["dup"], "action": "SCMP_ACT_LOG", "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#
        )
    };
    let rules = |count: usize| {
        let rules: Vec<String> = (0..count).map(rule).collect();
        format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, rules.join(","))
    };
    assert!(mistake(&rules(1025)).contains("more than 1024 rules"));
    assert!(mistake(&rules(900)).contains("longer program than the kernel takes"));
    profile(&rules(700));
    let deep = "[".repeat(100_000);
    assert!(mistake(&deep).starts_with("line 1, column"));
}

/// Many units, one file: it is read once and held once, also by the supervisor.
#[test]
fn a_thousand_units_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(folder.path().join("p.json"), json).unwrap();
    let units: Vec<String> = (0..1000)
        .map(|n| format!("[service.a{n}]\ncommand = \"a\"\nsecurity.seccomp = \"./p.json\"\n"))
        .collect();
    let file = folder.path().join("a.toml");
    std::fs::write(&file, units.concat()).unwrap();
    let loaded = read(&[Source::Given(vec![file])], &Previous::default());
    assert!(loaded.is_clean());
    let received = berth::unit::decode(&berth::unit::encode(&loaded)).unwrap();
    assert!(received == loaded);
    let mut profiles = received.set.units.iter().filter_map(|unit| {
        match &unit.service()?.security.seccomp.as_ref()?.value {
            Seccomp::Profile { profile, .. } => Some(profile.0.clone()),
            _ => None,
        }
    });
    let first = profiles.next().unwrap();
    assert_eq!(profiles.filter(|profile| Arc::ptr_eq(profile, &first)).count(), 999);
}
