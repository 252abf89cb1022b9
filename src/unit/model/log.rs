//! `[service.NAME.log]`: where output goes.

use serde::{Deserialize, Serialize};

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Rotate at this many bytes, default 10M.
    pub max_size: u64,
    /// Files kept in all, default 3.
    pub max_files: u32,
    /// Where to.
    pub driver: LogDriver,
}

impl Default for Log {
    fn default() -> Self {
        Self { max_size: 10 * 1024 * 1024, max_files: 3, driver: LogDriver::File }
    }
}

/// `driver = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// `STATE/log/NAME/`.
    File,
    /// Inherit the supervisor's own output.
    Console,
    /// Nowhere.
    None,
}
