//! The descriptions say what the types do: names, optionality and types of every field of
//! every method, reply and error.

use std::collections::BTreeSet;
use std::fmt::Debug;

use berth::protocol::insight as i;
use berth::protocol::method as m;
use berth::protocol::types as t;
use berth::protocol::{Call, DESCRIPTION, Error, MESSAGE_MAX, Method, SERVICE_DESCRIPTION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::idl::{Fields, Interface, Type};

fn interfaces() -> [Interface; 2] {
    [Interface::parse(DESCRIPTION), Interface::parse(SERVICE_DESCRIPTION)]
}

/// A field somewhere in a message, as a JSON pointer, and whether it may be missing.
type Places = Vec<(String, bool)>;

/// Holds a value against a type; collects the places of all fields on the way.
fn check(interface: &Interface, kind: &Type, value: &Value, at: &str, places: &mut Places) {
    match (kind, value) {
        (Type::Bool, Value::Bool(_))
        | (Type::String, Value::String(_))
        | (Type::Object, Value::Object(_)) => {}
        (Type::Int, Value::Number(number)) if number.is_i64() => {}
        (Type::Maybe(inner), value) => check(interface, inner, value, at, places),
        (Type::Array(inner), Value::Array(values)) => {
            assert!(!values.is_empty(), "the sample has nothing at {at}");
            for (index, value) in values.iter().enumerate() {
                check(interface, inner, value, &format!("{at}/{index}"), places);
            }
        }
        // The only union: one of its two optional fields, never both.
        (Type::Named(name), Value::Object(exit)) if name == "Exit" => {
            let Some(Type::Struct(fields)) = interface.types.get("Exit") else { panic!() };
            let (only, _) = exit.iter().next().unwrap();
            assert!(exit.len() == 1 && fields.iter().any(|(field, _)| field == only), "{exit:?}");
            assert!(fields.iter().all(|(_, kind)| *kind == Type::Maybe(Box::new(Type::Int))));
        }
        (Type::Named(name), value) => {
            let kind = interface.types.get(name).unwrap_or_else(|| panic!("no type {name}"));
            check(interface, kind, value, at, places);
        }
        (Type::Enum(words), Value::String(word)) => assert!(words.contains(word), "{word} at {at}"),
        (Type::Struct(fields), Value::Object(object)) => {
            let declared: BTreeSet<_> = fields.iter().map(|(name, _)| name).collect();
            assert_eq!(declared, object.keys().collect(), "fields at {at:?}");
            for (name, kind) in fields {
                let at = format!("{at}/{name}");
                places.push((at.clone(), matches!(kind, Type::Maybe(_))));
                check(interface, kind, &object[name], &at, places);
            }
        }
        _ => panic!("{value} at {at} is no {kind:?}"),
    }
}

/// The sample (every optional field filled) has exactly the fields declared; a field may be
/// missing or null exactly if it is declared so.
fn conforms<T>(interface: &Interface, what: &str, fields: &Fields, sample: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let whole = serde_json::to_value(sample).unwrap();
    let mut places = Vec::new();
    check(interface, &Type::Struct(fields.clone()), &whole, "", &mut places);
    assert_eq!(&serde_json::from_value::<T>(whole.clone()).unwrap(), sample, "{what}");
    for (place, optional) in places {
        let (parent, name) = place.rsplit_once('/').unwrap();
        let mut missing = whole.clone();
        missing.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let accepted = serde_json::from_value::<T>(missing).is_ok();
        assert_eq!(accepted, optional, "{what} without {place}");
        let mut null = whole.clone();
        *null.pointer_mut(&place).unwrap() = Value::Null;
        let accepted = serde_json::from_value::<T>(null).is_ok();
        assert_eq!(accepted, optional, "{what} with null for {place}");
    }
}

/// Checks both halves of a method; returns its name.
fn method<M>(parameters: &M, reply: &M::Reply) -> String
where
    M: Method + PartialEq + Debug,
    M::Reply: PartialEq + Debug,
{
    let (interface_name, name) = M::NAME.rsplit_once('.').unwrap();
    let interface = interfaces().into_iter().find(|i| i.name == interface_name).unwrap();
    let (takes, gives) = interface.methods.get(name).unwrap_or_else(|| panic!("no {name}"));
    conforms(&interface, name, takes, parameters);
    conforms(&interface, name, gives, reply);
    M::NAME.to_owned()
}

fn names() -> Vec<String> {
    vec!["web".to_owned()]
}

fn text() -> String {
    "text".to_owned()
}

fn status() -> t::UnitStatus {
    t::UnitStatus {
        name: text(),
        description: text(),
        kind: t::Kind::Service,
        state: t::State::Running,
        desired: t::Desired::Up,
        main_pid: Some(1),
        exit: Some(t::Exit::Code(1)),
        restarts: 1,
        since: Some(text()),
        ready: true,
        health: Some(t::Health::Healthy),
        result: Some(text()),
        cgroup: Some(text()),
        memory: Some(1),
        oom_kills: 1,
        oom_victim: Some(text()),
        ports: Some(names()),
        why: text(),
        status_text: text(),
        run: Some(1),
        unenforced: names(),
        user_namespace: Some("0:65536:65536".to_owned()),
        no_user_namespace: Some("why not".to_owned()),
        privileged: Some(true),
    }
}

fn network() -> t::Network {
    t::Network {
        name: text(),
        driver: text(),
        device: Some(text()),
        internal: true,
        subnets: names(),
        gateways: names(),
        units: vec![t::NetworkUnit {
            unit: text(),
            device: text(),
            addresses: names(),
            aliases: names(),
            ports: names(),
            published: true,
        }],
        rules: names(),
    }
}

fn times() -> i::UnitTimes {
    let phases = i::Phases {
        waiting: Some(-1),
        preparing: Some(1),
        starting: Some(2),
        ready: Some(3),
        ended: Some(4),
    };
    i::UnitTimes {
        name: text(),
        kind: t::Kind::Service,
        state: t::State::Running,
        first: Some(phases),
        latest: Some(phases),
    }
}

fn usage() -> i::UnitUsage {
    i::UnitUsage {
        unit: text(),
        time: 1,
        cpu: Some(1),
        memory: Some(1),
        memory_limit: Some(1),
        pids: Some(1),
        pids_limit: Some(1),
        read: Some(1),
        written: Some(1),
        summed: names(),
    }
}

fn volume() -> i::Volume {
    i::Volume {
        name: text(),
        path: Some(text()),
        size: Some(1),
        declared: true,
        users: names(),
        running: names(),
    }
}

/// What tells of time, use and volumes.
fn insight() -> [String; 4] {
    [
        method(&m::Timeline {}, &m::TimelineReply { units: vec![times()] }),
        method(
            &m::Usage { units: names(), interval: Some(1) },
            &m::UsageReply { units: vec![usage()], complete: true },
        ),
        method(&m::Volumes { sizes: true }, &m::VolumesReply { volumes: vec![volume()] }),
        method(&m::RemoveVolume { volume: text() }, &m::Empty {}),
    ]
}

/// What keeps secrets.
fn secrets() -> [String; 3] {
    let secret = t::Secret {
        name: text(),
        from: t::SecretFrom::File,
        place: Some(text()),
        declared: true,
        problem: Some(text()),
        users: names(),
    };
    [
        method(&m::Secrets {}, &m::SecretsReply { secrets: vec![secret] }),
        method(&m::SetSecret { secret: text() }, &m::Empty {}),
        method(&m::RemoveSecret { secret: text() }, &m::Empty {}),
    ]
}

#[test]
fn every_method_is_as_described() {
    let job = m::JobReply { unit: text(), error: Some(text()) };
    let units = names;
    let state = t::State::Failed;
    let unit = t::Unit { name: text(), kind: t::Kind::Target, state };
    let dependency =
        t::Dependency { unit: text(), kind: t::DependencyKind::Wants, on: text(), state };
    let entry = t::LogEntry {
        time: text(),
        unit: text(),
        run: Some(1),
        stream: t::LogStream::Stderr,
        partial: false,
        text: text(),
    };
    let event = t::Event {
        time: text(),
        unit: text(),
        state,
        why: text(),
        exit: Some(t::Exit::Signal(9)),
        grave: true,
    };
    let exec = m::Exec {
        unit: text(),
        command: names(),
        user: Some(text()),
        directory: Some(text()),
        tty: true,
        stdin: true,
        rows: Some(1),
        columns: Some(1),
        term: Some(text()),
    };
    let plan = m::ApplyReply {
        diagnostics: text(),
        mistakes: 1,
        add: names(),
        change: names(),
        restart: names(),
        remove: names(),
    };
    let shown = m::ShowReply {
        definition: json!({"command": ["a"]}).as_object().unwrap().clone(),
        status: status(),
        file: Some(text()),
        line: Some(1),
    };
    let logs = m::Logs { units: names(), lines: Some(1), since: Some(text()), follow: false };
    let version = m::VersionReply {
        version: text(),
        pid: 1,
        since: text(),
        uptime: Some(1),
        kernel: Some(1),
        target: Some(text()),
        unwritten: Some(names()),
    };
    let shutdown = m::Shutdown { how: Some(t::ShutdownHow::Halt) };
    let upgraded = m::UpgradeReply { from: text(), version: text() };
    let description = m::DescriptionReply { description: text() };
    let mut checked: BTreeSet<String> = insight().into_iter().chain(secrets()).collect();
    checked.extend([
        method(&m::Version {}, &version),
        method(&m::List {}, &m::ListReply { units: vec![unit] }),
        method(&m::Status { units: units() }, &m::StatusReply { units: vec![status()] }),
        method(&m::Show { unit: text() }, &shown),
        method(
            &m::Deps { unit: Some(text()), reverse: true },
            &m::DepsReply { dependencies: vec![dependency] },
        ),
        method(&m::Networks {}, &m::NetworksReply { networks: vec![network()] }),
        method(&m::Start { units: units(), wait: true }, &job),
        method(&m::Stop { units: units(), wait: true }, &job),
        method(&m::Restart { units: units(), wait: true }, &job),
        method(&m::Reload { units: units(), wait: true }, &job),
        method(&m::Reset { units: units(), wait: true }, &job),
        method(&m::Kill { units: units(), signal: 15 }, &job),
        method(&m::Freeze { units: units() }, &job),
        method(&m::Upgrade { program: Some(text()) }, &upgraded),
        method(&m::Thaw { units: units() }, &job),
        method(&logs, &m::LogsReply { entries: vec![entry] }),
        method(&m::Events { since: Some(text()) }, &m::EventsReply { event: Some(event) }),
        method(&m::Apply { paths: names(), dry_run: true }, &plan),
        method(&shutdown, &m::Empty {}),
        method(&exec, &m::Empty {}),
        method(&m::GetInfo {}, &m::InfoReply::this()),
        method(&m::GetInterfaceDescription { interface: text() }, &description),
    ]);
    let described: BTreeSet<String> = interfaces()
        .iter()
        .flat_map(|i| i.methods.keys().map(|name| format!("{}.{name}", i.name)))
        .collect();
    let in_the_code: BTreeSet<String> = Call::NAMES.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(checked, described);
    assert_eq!(checked, in_the_code);
}

/// The variants serde knows, out of its own error message.
fn variants<T: DeserializeOwned>(nonsense: Value) -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(nonsense) else { panic!("accepted") };
    let message = error.to_string();
    let (_, expected) = message.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_enum_is_as_described() {
    let [interface, _] = interfaces();
    let nonsense = || json!("nonsense");
    let in_the_code = [
        ("Kind", variants::<t::Kind>(nonsense())),
        ("State", variants::<t::State>(nonsense())),
        ("Desired", variants::<t::Desired>(nonsense())),
        ("Health", variants::<t::Health>(nonsense())),
        ("DependencyKind", variants::<t::DependencyKind>(nonsense())),
        ("LogStream", variants::<t::LogStream>(nonsense())),
        ("SecretFrom", variants::<t::SecretFrom>(nonsense())),
        ("ShutdownHow", variants::<t::ShutdownHow>(nonsense())),
    ];
    let mut described: BTreeSet<&str> = BTreeSet::new();
    for (name, kind) in &interface.types {
        if let Type::Enum(words) = kind {
            described.insert(name);
            let (_, variants) = in_the_code.iter().find(|(n, _)| n == name).unwrap();
            assert_eq!(&words.iter().cloned().collect::<BTreeSet<_>>(), variants, "{name}");
        }
    }
    assert_eq!(described, in_the_code.iter().map(|(name, _)| *name).collect());
    assert_eq!(
        variants::<t::Exit>(json!({"nonsense": 1})),
        BTreeSet::from(["code".to_owned(), "signal".to_owned()])
    );
    // What `state` prints for people is the same word.
    for state in variants::<t::State>(nonsense()) {
        let parsed: t::State = serde_json::from_value(json!(state)).unwrap();
        assert_eq!(parsed.to_string(), state);
    }
}

#[test]
fn every_error_is_as_described() {
    let state = t::State::Failed;
    let samples = [
        Error::NoSuchUnit { unit: text(), nearest: Some(text()) },
        Error::NotRunning { unit: text(), state },
        Error::Failed { unit: Some(text()), reason: text() },
        Error::Busy { reason: text() },
        Error::Refused { reason: text() },
        Error::InterfaceNotFound { interface: text() },
        Error::MethodNotFound { method: text() },
        Error::MethodNotImplemented { method: text() },
        Error::InvalidParameter { parameter: text() },
        Error::PermissionDenied {},
        Error::ExpectedMore {},
    ];
    let mut checked = BTreeSet::new();
    for sample in samples {
        let whole = serde_json::to_value(&sample).unwrap();
        let full = whole["error"].as_str().unwrap();
        let (interface_name, name) = full.rsplit_once('.').unwrap();
        let interface = interfaces().into_iter().find(|i| i.name == interface_name).unwrap();
        let kind = Type::Struct(interface.errors[name].clone());
        let mut places = Vec::new();
        check(&interface, &kind, &whole["parameters"], "", &mut places);
        for (place, optional) in places {
            let mut null = whole.clone();
            *null.pointer_mut(&format!("/parameters{place}")).unwrap() = Value::Null;
            assert_eq!(serde_json::from_value::<Error>(null).is_ok(), optional, "{full} {place}");
        }
        checked.insert(full.to_owned());
    }
    let described: BTreeSet<String> = interfaces()
        .iter()
        .flat_map(|i| i.errors.keys().map(|name| format!("{}.{name}", i.name)))
        .collect();
    assert_eq!(checked, described);
    assert_eq!(checked, variants::<Error>(json!({"error": "nonsense", "parameters": {}})));
}

#[test]
fn descriptions_are_complete_and_fit_into_a_message() {
    for (interface, text) in interfaces().iter().zip([DESCRIPTION, SERVICE_DESCRIPTION]) {
        assert_eq!(interface.undocumented, Vec::<String>::new());
        let reply = m::DescriptionReply { description: text.to_owned() };
        let message = berth::protocol::message::encode_reply(&reply, false).unwrap();
        assert!(message.len() <= MESSAGE_MAX);
        assert_eq!(berth::protocol::description(&interface.name), Some(text));
        let names: Vec<&str> = interface.name.split('.').collect();
        assert!(names.len() == 3 && m::InfoReply::this().interfaces.contains(&interface.name));
    }
    assert_eq!(berth::protocol::description("org.example"), None);
}
