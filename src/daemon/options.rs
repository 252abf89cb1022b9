//! What the command line decides, and where things are on disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pool::Pool;
use super::recovery::Beginning;
use crate::container::plan::DEFAULT_STATE;
use crate::pid1::Place;
use crate::unit::Source;
use crate::unit::model::{Id, UnitSet};

/// What to read, in order: a later source overrides an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// What berth was started with.
    pub first: First,
    /// What `berthctl apply` brought since: one layer above.
    pub added: Vec<PathBuf>,
}

/// What berth was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum First {
    /// The default directories, those that exist.
    Default,
    /// `--config`: these directories.
    Directories(Vec<PathBuf>),
    /// `berth up`: these files and directories, all of one rank.
    Files(Vec<PathBuf>),
    /// What this program carries for a machine whose own units cannot be used.
    Rescue,
}

impl From<First> for Sources {
    fn from(first: First) -> Self {
        Self { first, added: Vec::new() }
    }
}

impl Sources {
    /// The same and these paths.
    #[must_use]
    pub fn with(&self, paths: &[PathBuf]) -> Self {
        let mut more = self.clone();
        for path in paths {
            if !more.added.contains(path) {
                more.added.push(path.clone());
            }
        }
        more
    }

    /// The same without those added paths of which nothing is in force: one that was
    /// mistyped is not to be complained of for ever.
    #[must_use]
    pub fn in_use(mut self, set: &UnitSet) -> Self {
        let used =
            |path: &PathBuf| set.units.iter().any(|it| Path::new(&it.file).starts_with(path));
        self.added.retain(used);
        self
    }

    /// As the unit reader wants them. Looks at the disk, so only the reader may ask: a path
    /// that was added and belongs to what berth was started with is read there, and only
    /// there.
    pub fn layers(&self) -> Vec<Source> {
        let (mut layers, first) = match &self.first {
            First::Default => {
                let paths = UNIT_DIRECTORIES.map(PathBuf::from);
                (paths.iter().cloned().map(Source::Default).collect(), paths.to_vec())
            }
            First::Directories(paths) => {
                (paths.iter().map(Source::directory).collect::<Vec<_>>(), paths.clone())
            }
            First::Files(paths) => (vec![Source::Given(paths.clone())], paths.clone()),
            First::Rescue => (vec![rescue_units()], Vec::new()),
        };
        let here: Vec<PathBuf> = first.iter().map(|path| real(path)).collect();
        let mut seen = HashSet::new();
        let belongs = |path: &Path| {
            let unit_file = path.extension().is_some_and(|extension| extension == "toml");
            let directory = path.parent().filter(|_| unit_file);
            here.iter().any(|it| it == path || Some(it.as_path()) == directory)
        };
        let added = self.added.iter().filter(|path| {
            let path = real(path);
            !belongs(&path) && seen.insert(path)
        });
        let added: Vec<PathBuf> = added.cloned().collect();
        if !added.is_empty() {
            layers.push(Source::Given(added));
        }
        layers
    }
}

/// `units/rescue.toml` as it was when this program was built.
fn rescue_units() -> Source {
    let text = include_str!("../../units/rescue.toml");
    Source::Text("rescue.toml (built in)".to_owned(), text.to_owned())
}

/// The file a path leads to; one that leads nowhere is itself.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The command line of the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// What to read.
    pub sources: Sources,
    /// Sockets and what is gone after a boot.
    pub runtime_dir: PathBuf,
    /// Logs, volumes and overlays.
    pub state_dir: PathBuf,
    /// What to start.
    pub target: String,
    /// Where the users of units get their numbers.
    pub pool: Pool,
    /// Whose process this is.
    #[serde(default)]
    pub place: Place,
    /// `berth.debug` on the kernel's command line: the console shows the services' output.
    #[serde(default)]
    pub debug: bool,
    /// `quiet` there: the console shows only what is out of order.
    #[serde(default)]
    pub silent: bool,
    /// Why a machine cannot go on, for its last shell.
    #[serde(default)]
    pub last_words: Option<String>,
    /// Whose members may look at units over the control socket.
    pub control_group: Option<Id>,
    /// `berth up`: show only what berth itself has to say.
    pub quiet: bool,
    /// `berth up`: end with this service, and with its exit code.
    pub exit_code_from: Option<String>,
    /// Not of the command line: the oom score that children get, where process 1 has another.
    #[serde(default)]
    pub oom_score: Option<i32>,
    /// Not of the command line: what there may be to take over.
    #[serde(skip)]
    pub beginning: Beginning,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sources: First::Default.into(),
            runtime_dir: PathBuf::from("/run/berth"),
            state_dir: PathBuf::from(DEFAULT_STATE),
            target: "default".to_owned(),
            pool: Pool::default(),
            place: Place::Plain,
            debug: false,
            silent: false,
            last_words: None,
            control_group: None,
            quiet: false,
            exit_code_from: None,
            oom_score: None,
            beginning: Beginning::Started,
        }
    }
}

impl Options {
    /// Whether this is `berth up`.
    pub fn is_up(&self) -> bool {
        matches!(self.sources.first, First::Files(_))
    }

    /// Where logs are.
    pub fn log_directory(&self) -> PathBuf {
        self.state_dir.join("log")
    }

    /// Where notify sockets of units without a mount namespace are.
    pub fn notify_directory(&self) -> PathBuf {
        self.runtime_dir.join("notify")
    }

    /// The file that is locked while a supervisor runs.
    pub fn lock_file(&self) -> PathBuf {
        self.runtime_dir.join("lock")
    }

    /// What a supervisor after this one has to know.
    pub fn ledger(&self) -> PathBuf {
        self.runtime_dir.join("ledger")
    }

    /// A file for each unit that was stopped by hand and is to stay down.
    pub fn stopped_directory(&self) -> PathBuf {
        self.state_dir.join("stopped")
    }

    /// Which unit has which user numbers.
    pub fn ranges_file(&self) -> PathBuf {
        self.state_dir.join("user-namespaces")
    }

    /// The same for the state: logs and overlays are one supervisor's.
    pub fn state_lock(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join(crate::protocol::SOCKET_NAME)
    }
}

/// The default unit directories.
pub const UNIT_DIRECTORIES: [&str; 3] = ["/usr/lib/berth", "/etc/berth", "/run/berth/units"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_one_layer_above_and_nothing_is_read_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("units")).unwrap();
        for name in ["units/a.toml", "units/b.conf", "c.toml"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::os::unix::fs::symlink(path("c.toml"), path("d.toml")).unwrap();
        let first = Sources::from(First::Directories(vec![path("units")]));
        assert_eq!(first.layers(), [Source::directory(path("units"))]);
        let mine = [path("units"), path("units/a.toml"), path("units/../units/a.toml")];
        assert_eq!(first.with(&mine).layers(), [Source::directory(path("units"))]);
        let more = first.with(&[path("c.toml"), path("d.toml")]).with(&[path("units/b.conf")]);
        let added = Source::Given(vec![path("c.toml"), path("units/b.conf")]);
        assert_eq!(more.layers(), [Source::directory(path("units")), added]);
        assert_eq!(more.with(&[path("c.toml")]), more);
    }
}
