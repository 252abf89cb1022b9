//! A unit while its table is read: the model with its defaults, filled in key by key,
//! and beside it what only the checks at the end need (which keys were set, and where).

use std::time::Duration;

use super::model::{
    At, Health, HealthCheck, Mount, Namespaces, Port, Propagation, SecretUse, Service, Unit,
    Writable,
};
use super::settings::Section;
use super::settings::secret::UseDraft;
use super::text::Place;

/// How one unit names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `requires`
    Requires,
    /// `wants`
    Wants,
    /// `after`
    After,
    /// `before`
    Before,
    /// `conflicts`
    Conflicts,
    /// `wanted-by`
    WantedBy,
}

impl Relation {
    /// Its key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Requires => "requires",
            Self::Wants => "wants",
            Self::After => "after",
            Self::Before => "before",
            Self::Conflicts => "conflicts",
            Self::WantedBy => "wanted-by",
        }
    }
}

/// One unit naming another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// How.
    pub relation: Relation,
    /// The other's name.
    pub name: String,
    /// Where.
    pub place: Place,
}

/// `network = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own, with `lo`.
    Own,
    /// The host's.
    Host,
    /// Another service's.
    Service,
}

/// An entry of `networks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Name of the network.
    pub name: String,
    /// Where it is named.
    pub place: Place,
    /// Fixed addresses and where they stand.
    pub fixed: Vec<(Place, std::net::IpAddr)>,
    /// Further names.
    pub aliases: Vec<String>,
}

/// `isolation = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every namespace.
    Container,
    /// None: a plain child process.
    None,
    /// Those listed.
    List(Namespaces),
}

/// An entry of `mounts` while it is read.
#[derive(Debug, Clone, Default)]
pub struct MountDraft {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: Option<MountKind>,
    /// Host path or name of a volume.
    pub source: Option<String>,
    /// Inside.
    pub target: Option<String>,
    /// See the model.
    pub read_only: bool,
    /// See the model.
    pub propagation: Propagation,
    /// See the model; true unless set.
    pub recursive: Option<bool>,
    /// See the model.
    pub size: Option<u64>,
    /// See the model.
    pub mode: Option<u32>,
}

/// `type = …` of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A host path.
    Bind,
    /// A named volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// The unit being read.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Names and relations; its `kind` is only right once finished.
    pub unit: Unit,
    /// The service, with defaults. Not used for a target.
    pub service: Service,
    /// Who it names.
    pub references: Vec<Reference>,
    /// Whether `wanted-by` was left out.
    pub wanted_by_default: bool,
    /// `isolation`.
    pub isolation: Isolation,
    /// `network`.
    pub network: Option<Network>,
    /// Whose network it shares.
    pub owner: Option<(Place, String)>,
    /// `networks`.
    pub joins: Vec<Join>,
    /// `ports`, with their places.
    pub ports: Vec<(Place, Port)>,
    /// The network being read, if it is one.
    pub bridge: super::model::Network,
    /// `writable`.
    pub writable: Option<Writable>,
    /// `rootfs-mode = "direct"`.
    pub direct: bool,
    /// The mount being read.
    pub mount: MountDraft,
    /// Mounts that were read, with their places.
    pub mounts: Vec<(Place, Mount)>,
    /// The entry of `secrets` being read.
    pub secret_use: UseDraft,
    /// Entries of `secrets` that were read, with their places.
    pub secrets: Vec<(Place, SecretUse)>,
    /// `file` of a secret.
    pub secret_file: Option<String>,
    /// `environment` of a secret.
    pub secret_environment: Option<String>,
    /// Checks that were read: more than one is a mistake.
    pub checks: Vec<(Place, At<HealthCheck>)>,
    /// The rest of the health table.
    pub health: Health,
    /// Which keys were set, and where.
    marks: Vec<(Section, &'static str, Place)>,
}

impl Draft {
    /// A unit with nothing but defaults.
    pub fn new(name: &str, file: &str, line: u32) -> Self {
        Self {
            unit: Unit::new(name, file, line),
            service: Service::new(At::default_value(Vec::new())),
            references: Vec::new(),
            wanted_by_default: true,
            isolation: Isolation::Container,
            network: None,
            owner: None,
            joins: Vec::new(),
            ports: Vec::new(),
            bridge: super::model::Network::new(name),
            writable: None,
            direct: false,
            mount: MountDraft::default(),
            mounts: Vec::new(),
            secret_use: UseDraft::default(),
            secrets: Vec::new(),
            secret_file: None,
            secret_environment: None,
            checks: Vec::new(),
            health: default_health(),
            marks: Vec::new(),
        }
    }

    /// Remembers that a key was set.
    pub fn mark(&mut self, section: Section, key: &'static str, place: Place) {
        self.marks.push((section, key, place));
    }

    /// Where a key was set, if it was.
    pub fn place(&self, section: Section, key: &str) -> Option<Place> {
        let mut found = self.marks.iter().rev();
        found.find(|(s, k, _)| *s == section && *k == key).map(|(_, _, place)| *place)
    }

    /// Forgets the keys of a table that comes more than once.
    pub fn forget(&mut self, section: Section) {
        self.marks.retain(|(marked, _, _)| *marked != section);
    }

    /// Copies the references into the model's lists.
    pub fn relate(&mut self) {
        for reference in &self.references {
            let list = match reference.relation {
                Relation::Requires => &mut self.unit.requires,
                Relation::Wants => &mut self.unit.wants,
                Relation::After => &mut self.unit.after,
                Relation::Before => &mut self.unit.before,
                Relation::Conflicts => &mut self.unit.conflicts,
                Relation::WantedBy => &mut self.unit.wanted_by,
            };
            list.push(reference.name.clone());
        }
    }
}

fn default_health() -> Health {
    Health {
        check: At::default_value(HealthCheck::Command(Vec::new())),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::ZERO,
        restart: true,
    }
}
