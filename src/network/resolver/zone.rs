//! Who is called what, and who may know.
//!
//! The asker is known by its address, which no unit can forge. It finds the units of its
//! own networks, first of the one by which it asks: so a name may mean different units to
//! different askers. Only units that are ready are found, and oneself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::message::{A, AAAA, Code, PTR, Question, Record, reversed, wants};
use crate::network::wire::Ticket;
use crate::unit::model::Subnet;

/// A unit's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The network's number.
    pub network: u32,
    /// Its names there; the first is its own.
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether the network leads out.
    pub open: bool,
}

/// A unit and its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its places, in the order of its networks.
    pub places: Vec<Place>,
    /// Whether others find it.
    pub ready: bool,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Zone {
    /// All units.
    pub units: BTreeMap<Ticket, Known>,
    /// The subnets of each network.
    pub subnets: BTreeMap<u32, Vec<Subnet>>,
    /// Counts answers, so that units of one name take turns.
    turn: usize,
}

/// What to do with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Answer so.
    Answer(Code, Vec<Record>),
    /// Ask somebody outside.
    Forward,
}

impl Zone {
    /// Answers a question that came by a network.
    pub fn judge(&mut self, asker: IpAddr, network: u32, question: &Question) -> Verdict {
        let refused = Verdict::Answer(Code::Refused, Vec::new());
        let own = |(_, known): &(&Ticket, &Known)| {
            known.places.iter().any(|place| place.addresses.contains(&asker))
        };
        let Some((&ticket, known)) = self.units.iter().find(own) else { return refused };
        let mut networks: Vec<u32> = known.places.iter().map(|place| place.network).collect();
        let is_other = |other: &u32| *other != network;
        networks.sort_by_key(is_other);
        let open = known.places.iter().any(|place| place.open);
        if let Some(address) = reversed(&question.name) {
            return self.name_of(address, ticket, &networks, question, open);
        }
        if let Some(addresses) = self.addresses(&question.name, ticket, &networks) {
            let kinds =
                |address: &&IpAddr| wants(question, if address.is_ipv4() { A } else { AAAA });
            let mut records: Vec<Record> =
                addresses.iter().filter(kinds).map(|it| Record::Address(*it)).collect();
            let turn = self.turn.checked_rem(records.len()).unwrap_or_default();
            records.rotate_left(turn);
            self.turn = self.turn.wrapping_add(1);
            return Verdict::Answer(Code::Fine, records);
        }
        // A name without a dot is one of ours or nobody's.
        let ours = !question.name.contains('.') || self.is_name(&question.name, &networks);
        match (ours, open) {
            (true, _) => Verdict::Answer(Code::NoName, Vec::new()),
            (false, true) => Verdict::Forward,
            (false, false) => refused,
        }
    }

    /// Places in a network of units that this asker finds.
    fn places(&self, asker: Ticket, network: u32) -> impl Iterator<Item = &Place> {
        let found = self.units.iter().filter(move |(it, known)| known.ready || **it == asker);
        found.flat_map(|(_, known)| &known.places).filter(move |place| place.network == network)
    }

    /// The addresses of a name: those of the first network that has it.
    fn addresses(&self, name: &str, asker: Ticket, networks: &[u32]) -> Option<Vec<IpAddr>> {
        networks.iter().find_map(|network| {
            let named = |place: &&Place| place.names.iter().any(|it| it.eq_ignore_ascii_case(name));
            let places = self.places(asker, *network).filter(named);
            let addresses: Vec<IpAddr> =
                places.flat_map(|place| place.addresses.iter().copied()).collect();
            (!addresses.is_empty()).then_some(addresses)
        })
    }

    /// Whether a unit has this name, ready or not.
    fn is_name(&self, name: &str, networks: &[u32]) -> bool {
        let places = self.units.values().flat_map(|known| &known.places);
        let mut names = places.filter(|it| networks.contains(&it.network)).flat_map(|it| &it.names);
        names.any(|other| other.eq_ignore_ascii_case(name))
    }

    fn name_of(
        &self,
        address: IpAddr,
        asker: Ticket,
        networks: &[u32],
        question: &Question,
        open: bool,
    ) -> Verdict {
        let places = networks.iter().flat_map(|network| self.places(asker, *network));
        let mut places = places.filter(|place| place.addresses.contains(&address));
        if let Some(name) = places.next().and_then(|place| place.names.first()) {
            let records = vec![Record::Name(name.clone())];
            let records = if wants(question, PTR) { records } else { Vec::new() };
            return Verdict::Answer(Code::Fine, records);
        }
        let ours = self.subnets.values().flatten().any(|subnet| subnet.contains(address));
        match (ours, open) {
            (true, _) => Verdict::Answer(Code::NoName, Vec::new()),
            (false, true) => Verdict::Forward,
            (false, false) => Verdict::Answer(Code::Refused, Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::parse;
    use super::*;

    fn question(name: &str, kind: u16) -> Question {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, u8::try_from(kind).unwrap(), 0, 1]);
        parse(&bytes).unwrap()
    }

    fn place(network: u32, name: &str, address: &str, open: bool) -> Place {
        let names = vec![name.to_owned(), "any".to_owned()];
        Place { network, names, addresses: vec![address.parse().unwrap()], open }
    }

    fn zone() -> Zone {
        let mut zone = Zone::default();
        let mut add = |unit, ready, places| {
            zone.units.insert(Ticket { unit, run: 1 }, Known { places, ready });
        };
        add(1, true, vec![place(0, "web", "10.0.0.2", true), place(1, "web", "10.1.0.2", false)]);
        add(2, true, vec![place(1, "db", "10.1.0.3", false)]);
        add(3, false, vec![place(1, "late", "10.1.0.4", false)]);
        add(4, true, vec![place(0, "db", "10.0.0.9", true)]);
        zone.subnets.insert(1, vec!["10.1.0.0/24".parse().unwrap()]);
        zone
    }

    fn judge(asker: &str, network: u32, name: &str, kind: u16) -> Verdict {
        zone().judge(asker.parse().unwrap(), network, &question(name, kind))
    }

    fn addresses(list: &[&str]) -> Verdict {
        let record = |text: &&str| Record::Address(text.parse().unwrap());
        Verdict::Answer(Code::Fine, list.iter().map(record).collect())
    }

    fn nothing(code: Code) -> Verdict {
        Verdict::Answer(code, Vec::new())
    }

    #[test]
    fn a_name_means_what_the_asker_can_reach() {
        assert_eq!(judge("10.0.0.2", 0, "db", A), addresses(&["10.0.0.9"]));
        assert_eq!(judge("10.0.0.2", 1, "db", A), addresses(&["10.1.0.3"]));
        assert_eq!(judge("10.1.0.3", 1, "WEB", A), addresses(&["10.1.0.2"]));
        assert_eq!(judge("10.0.0.9", 0, "web", A), addresses(&["10.0.0.2"]));
        assert_eq!(judge("10.0.0.9", 0, "web", AAAA), addresses(&[]));
        assert_eq!(judge("10.1.0.3", 1, "any", A), addresses(&["10.1.0.2", "10.1.0.3"]));
    }

    #[test]
    fn who_is_not_ready_is_found_by_nobody_but_itself() {
        assert_eq!(judge("10.1.0.3", 1, "late", A), nothing(Code::NoName));
        assert_eq!(judge("10.1.0.4", 1, "late", A), addresses(&["10.1.0.4"]));
    }

    #[test]
    fn strangers_and_the_inside_get_nothing_from_outside() {
        assert_eq!(judge("192.0.2.1", 0, "web", A), nothing(Code::Refused));
        assert_eq!(judge("10.1.0.3", 1, "example.org", A), nothing(Code::Refused));
        assert_eq!(judge("10.0.0.9", 0, "example.org", A), Verdict::Forward);
        assert_eq!(judge("10.0.0.9", 0, "nobody", A), nothing(Code::NoName));
    }

    #[test]
    fn addresses_have_names() {
        let name = |name: &str| Verdict::Answer(Code::Fine, vec![Record::Name(name.to_owned())]);
        assert_eq!(judge("10.1.0.3", 1, "2.0.1.10.in-addr.arpa", PTR), name("web"));
        assert_eq!(judge("10.1.0.3", 1, "4.0.1.10.in-addr.arpa", PTR), nothing(Code::NoName));
        assert_eq!(judge("10.0.0.9", 0, "3.0.1.10.in-addr.arpa", PTR), nothing(Code::NoName));
        assert_eq!(judge("10.0.0.9", 0, "9.9.9.9.in-addr.arpa", PTR), Verdict::Forward);
    }
}
