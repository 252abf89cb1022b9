//! What processes get of what a unit asks for: the arithmetic of sets.

use berth::container::capabilities::Grant;
use berth::sys::capability::Held;
use berth::unit::model::{At, Capabilities, CapabilitySet, Kind, Namespaces, Service, Unit};
use berth::unit::{Previous, Source, read};

const BERTH: u64 = (1 << 41) - 1;

fn set(names: &str) -> CapabilitySet {
    let sets = names.split_whitespace().map(|name| CapabilitySet::named(name).unwrap());
    sets.fold(CapabilitySet::EMPTY, CapabilitySet::and)
}

fn service(isolation: &str, security: &str) -> Service {
    let text = format!(
        "[service.x]\ncommand = \"x\"\nisolation = {isolation}\n[service.x.security]\n{security}\n"
    );
    let loaded = read(&[Source::Text("f".to_owned(), text)], &Previous::default());
    assert!(loaded.is_clean(), "{}", loaded.report());
    let unit: &Unit = loaded.set.units.iter().find(|unit| unit.name == "x").unwrap();
    match &unit.kind {
        Kind::Service(service) => Service::clone(service),
        Kind::Target => panic!("it is a service"),
    }
}

/// What root and others get from a berth that has all, and the line.
fn given(isolation: &str, security: &str) -> Option<(CapabilitySet, CapabilitySet, u32)> {
    let (grant, line) = Grant::of(&service(isolation, security))?;
    let grant = grant.by(Held { permitted: BERTH, bounding: BERTH }).unwrap();
    Some((grant.root, grant.others, line))
}

#[test]
fn a_container_has_few_and_a_plain_process_what_berth_has() {
    let few = CapabilitySet::CONTAINER;
    let none = CapabilitySet::EMPTY;
    assert_eq!(given("\"container\"", ""), Some((few, none, 0)));
    assert_eq!(given("[\"mount\"]", ""), Some((few, none, 0)));
    assert_eq!(given("[\"pid\", \"network\"]", ""), None);
    assert_eq!(given("\"none\"", ""), None);
    assert_eq!(given("\"none\"", "privileged = true"), None);
    let all = CapabilitySet(BERTH);
    assert_eq!(given("\"container\"", "privileged = true"), Some((all, none, 0)));
    assert_eq!(given("\"container\"", "capabilities-add = []"), Some((few, none, 0)));
}

#[test]
fn lists_are_exact_and_others_have_them_too() {
    for isolation in ["\"container\"", "\"none\""] {
        let sets = given(isolation, "capabilities = [\"net_raw\", \"CAP_KILL\"]");
        assert_eq!(sets, Some((set("KILL NET_RAW"), set("KILL NET_RAW"), 5)));
        let sets = given(isolation, "capabilities = []");
        assert_eq!(sets, Some((set(""), set(""), 5)));
    }
}

#[test]
fn changes_begin_at_the_default() {
    let few = CapabilitySet::CONTAINER;
    let all = CapabilitySet(BERTH);
    let container = |security: &str| given("\"container\"", security).unwrap();
    let added = container("capabilities-add = [\"NET_RAW\", \"KILL\"]");
    assert_eq!(added, (few.and(set("NET_RAW")), set("NET_RAW KILL"), 5));
    let dropped = container("capabilities-drop = [\"KILL\", \"BPF\"]");
    assert_eq!(dropped, (few.without(set("KILL")), set(""), 5));
    let only = container("capabilities-drop = [\"ALL\"]\ncapabilities-add = [\"KILL\"]");
    assert_eq!(only, (set("KILL"), set("KILL"), 6));
    assert_eq!(container("capabilities-drop = [\"all\"]"), (set(""), set(""), 5));
    let most = container("capabilities-add = [\"ALL\"]\ncapabilities-drop = [\"KILL\"]");
    assert_eq!(most, (all.without(set("KILL")), all.without(set("KILL")), 5));
    let plain = given("\"none\"", "capabilities-drop = [\"KILL\"]").unwrap();
    assert_eq!(plain, (all.without(set("KILL")), set(""), 5));
    let plain = given("\"none\"", "capabilities-add = [\"KILL\"]").unwrap();
    assert_eq!(plain, (all, set("KILL"), 5));
}

#[test]
fn what_berth_has_not_is_missed_only_if_it_was_named() {
    let poor = Held { permitted: BERTH & !1, bounding: BERTH & !set("BPF").0 };
    let by = |security: &str| Grant::of(&service("\"container\"", security)).unwrap().0.by(poor);
    let few = CapabilitySet::CONTAINER.without(set("CHOWN"));
    assert_eq!(by("").unwrap().root, few);
    let all = CapabilitySet(BERTH).without(set("CHOWN BPF"));
    assert_eq!(by("capabilities-add = [\"ALL\"]").unwrap().others, all);
    assert_eq!(by("privileged = true").unwrap().root, all);
    assert_eq!(by("capabilities = [\"CHOWN\", \"BPF\", \"KILL\"]"), Err(set("CHOWN BPF")));
    assert_eq!(by("capabilities-add = [\"BPF\"]"), Err(set("BPF")));
    assert!(by("capabilities-drop = [\"BPF\", \"CHOWN\"]").is_ok());
}

#[test]
fn a_line_is_that_of_what_is_added() {
    let mut service = service("\"container\"", "");
    service.namespaces.value = Namespaces::NONE;
    let at = |names, line| At { value: set(names), line };
    service.security.capabilities =
        Capabilities::Changed { add: at("KILL", 8), drop: at("CHOWN", 9) };
    assert_eq!(Grant::of(&service).unwrap().1, 8);
}
