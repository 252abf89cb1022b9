//! What the command line decides, and where things are on disk.

use std::path::PathBuf;

use crate::unit::Source;

/// What to read, in order: a later source overrides an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// The default directories, those that exist.
    Default,
    /// `--config`: these directories.
    Directories(Vec<PathBuf>),
    /// `berth up`: these files and directories, all of one rank.
    Files(Vec<PathBuf>),
}

impl Sources {
    /// As the unit reader wants them.
    pub fn layers(&self) -> Vec<Source> {
        match self {
            Self::Default => {
                UNIT_DIRECTORIES.iter().map(|&it| Source::Default(it.into())).collect()
            }
            Self::Directories(paths) => paths.iter().map(Source::directory).collect(),
            Self::Files(paths) => vec![Source::Given(paths.clone())],
        }
    }
}

/// The command line of the supervisor.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to read.
    pub sources: Sources,
    /// Sockets and what is gone after a boot.
    pub runtime_dir: PathBuf,
    /// Logs, volumes and overlays.
    pub state_dir: PathBuf,
    /// What to start.
    pub target: String,
    /// `berth up`: show only what berth itself has to say.
    pub quiet: bool,
    /// `berth up`: end with this service, and with its exit code.
    pub exit_code_from: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sources: Sources::Default,
            runtime_dir: PathBuf::from("/run/berth"),
            state_dir: PathBuf::from("/var/lib/berth"),
            target: "default".to_owned(),
            quiet: false,
            exit_code_from: None,
        }
    }
}

impl Options {
    /// Whether this is `berth up`.
    pub fn is_up(&self) -> bool {
        matches!(self.sources, Sources::Files(_))
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

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join(crate::protocol::SOCKET_NAME)
    }
}

/// The default unit directories.
pub const UNIT_DIRECTORIES: [&str; 3] = ["/usr/lib/berth", "/etc/berth", "/run/berth/units"];
