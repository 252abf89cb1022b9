//! From what a unit asks for to the sets its processes get. Pure.
//!
//! What must hold: a process never gets more than what the unit's set says, whoever it is;
//! what a line asks for by name it gets, or the start fails; of what nobody named, that
//! which berth itself does not have is left out.

use crate::sys::capability::Held;
use crate::unit::model::{Capabilities, CapabilitySet, Service};

/// The sets of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The bounding set; and what root has, permitted and effective.
    pub root: CapabilitySet,
    /// What any other user has: permitted, effective, inheritable and ambient.
    pub others: CapabilitySet,
    /// What a line asks for by name.
    pub asked: CapabilitySet,
}

impl Grant {
    /// What a service asks for, and the line that does; `None`: as inherited.
    pub fn of(service: &Service) -> Option<(Self, u32)> {
        let own_tree = service.namespaces.value.mount;
        let (none, all) = (CapabilitySet::EMPTY, CapabilitySet::ALL);
        let default = if own_tree { CapabilitySet::CONTAINER } else { all };
        match &service.capabilities {
            Capabilities::Default if !own_tree => None,
            Capabilities::Default => {
                let root = if service.privileged { all } else { default };
                Some((Self { root, others: none, asked: none }, 0))
            }
            Capabilities::Exactly(at) => {
                Some((Self { root: at.value, others: at.value, asked: at.value }, at.line))
            }
            Capabilities::Changed { add, drop } => {
                let line = if add.value.is_empty() { drop.line } else { add.line };
                let (add, drop) = (add.value, drop.value);
                // ALL in one list is what the other one takes from, or adds to.
                let (base, drop) = if drop == all { (none, none) } else { (default, drop) };
                let others = add.without(drop);
                let asked = if add == all { none } else { others };
                Some((Self { root: base.and(add).without(drop), others, asked }, line))
            }
        }
    }

    /// Whether one that has this can leave something out of the bounding set.
    pub fn may_limit(held: Held) -> bool {
        const SETPCAP: u64 = 1 << 8;
        held.permitted & SETPCAP != 0
    }

    /// What can be given by one that has this.
    ///
    /// # Errors
    /// What is asked for by name and cannot be given.
    pub fn by(self, held: Held) -> Result<Self, CapabilitySet> {
        let held = CapabilitySet(held.permitted & held.bounding);
        let missing = self.asked.without(held);
        if !missing.is_empty() {
            return Err(missing);
        }
        let Self { root, others, asked } = self;
        Ok(Self { root: root.within(held), others: others.within(held), asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::model::{At, Kind, Namespaces, Unit};
    use crate::unit::{Previous, Source, read};

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
        let by =
            |security: &str| Grant::of(&service("\"container\"", security)).unwrap().0.by(poor);
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
        service.capabilities = Capabilities::Changed { add: at("KILL", 8), drop: at("CHOWN", 9) };
        assert_eq!(Grant::of(&service).unwrap().1, 8);
    }
}
